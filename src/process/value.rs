//! A worker's value on its way to its process.
//!
//! A short value without handles is part of the first message. Any other goes through a channel,
//! whose receiving end is sent to the child. In both cases the value is encoded, and an error
//! returned, before a process is started.
//!
//! A user's types can contain raw handles of ipc-channel. These are not part of the encoding:
//! ipc-channel attaches them to the next message that the thread sends. So every value is first
//! sent through a channel, and whether descriptors are attached is read off the message itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, OpaqueIpcReceiver};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::SpawnError;
use crate::ipc::deadline::Forever;
use crate::ipc::hub;
use crate::ipc::ipc_fd;
use crate::ipc::wire::{self, Carried, EncodedValue, Envelope};
use crate::process::spawn_hook::{self, NewChild};
use crate::sys;

/// A longer value goes through a channel. Together with names and arguments this fits the first
/// message.
const IN_HELLO_MAX: usize = 8 << 10;

/// An encoded value, in the parent.
#[derive(Debug)]
pub(super) enum OutgoingValue {
    Bytes(Vec<u8>),
    /// The receiving end of the channel that contains it.
    Channel {
        end: OwnedFd,
        /// True if the payloads of spawn hooks precede it.
        has_hooks: bool,
    },
}

/// The same value, in the child.
#[derive(Debug)]
pub(crate) enum IncomingValue {
    Bytes(Vec<u8>),
    Channel(OpaqueIpcReceiver),
}

/// The sending end, and the receiving end as a descriptor.
type Channel = (IpcSender<Envelope>, OwnedFd);

fn channel() -> Result<Channel, SpawnError> {
    let made = ipc::channel::<Envelope>()
        .and_then(|(sender, receiver)| Ok((sender, ipc_fd::socket_of(&receiver)?)));
    made.map_err(SpawnError::io("make a channel"))
}

/// Short values are sent through this channel, and read back, to see whether descriptors are
/// attached. Hardly any have some, so one channel serves all starts of this process.
static PROBE: Mutex<Option<Channel>> = Mutex::new(None);

fn probe() -> Result<MutexGuard<'static, Option<Channel>>, SpawnError> {
    let mut probe = sys::lock(&PROBE);
    if probe.is_none() {
        *probe = Some(channel()?);
    }
    Ok(probe)
}

/// Sends a value through the probe. Returns `None` if nothing is attached to it; otherwise the
/// probe now contains the value with its descriptors, and its receiving end is returned, to be sent
/// to the child.
fn send_through_probe(encoded: EncodedValue) -> Result<Option<OwnedFd>, SpawnError> {
    let mut probe = probe().inspect_err(|_| wire::drop_raw_handles())?;
    // Taken out for the moment: if a step below fails, the channel is dropped with what it
    // contains.
    let (sender, end) = probe.take().expect("it was just made");
    put(encoded, &sender)?;
    if sys::discard_plain_packet(end.as_fd()) {
        *probe = Some((sender, end));
        return Ok(None);
    }
    *probe = channel().ok();
    Ok(Some(end))
}

/// Encodes a worker for a process.
pub(super) fn send<W: Serialize>(
    worker: &W,
    child: &NewChild<'_>,
) -> Result<OutgoingValue, SpawnError> {
    // First of all, so that the descriptors that a process has open do not depend on what it sends.
    drop(probe()?);
    let hooked = hook_channel(child)?;
    let has_hooks = hooked.is_some();
    let encoded = encode(worker)?;
    if !has_hooks && encoded.handles.is_empty() && encoded.bytes.len() <= IN_HELLO_MAX {
        let bytes = encoded.bytes.clone();
        return Ok(match send_through_probe(encoded)? {
            None => OutgoingValue::Bytes(bytes),
            Some(end) => OutgoingValue::Channel { end, has_hooks },
        });
    }
    let (sender, end) =
        hooked.map_or_else(|| channel().inspect_err(|_| wire::drop_raw_handles()), Ok)?;
    put(encoded, &sender)?;
    Ok(OutgoingValue::Channel { end, has_hooks })
}

/// Encodes a worker for a thread of this process.
pub(super) fn send_inline<W: Serialize>(worker: &W) -> Result<IncomingValue, SpawnError> {
    let (sender, channel) = ipc::channel().map_err(SpawnError::io("make a channel"))?;
    put(encode(worker)?, &sender)?;
    Ok(IncomingValue::Channel(channel.to_opaque()))
}

/// A channel that contains the payloads of the spawn hooks, if there are any.
fn hook_channel(child: &NewChild<'_>) -> Result<Option<Channel>, SpawnError> {
    let Some(payloads) = spawn_hook::prepare(child) else {
        return Ok(None);
    };
    let channel = channel()?;
    let sent = payloads.send(&channel.0);
    sent.map_err(SpawnError::io("send what the new process inherits"))?;
    Ok(Some(channel))
}

fn encode<W: Serialize>(worker: &W) -> Result<EncodedValue, SpawnError> {
    wire::encode_with_raw_handles(worker).map_err(|error| {
        // Raw handles that were encoded before the error must not go with this thread's next
        // message.
        wire::drop_raw_handles();
        hub::announce();
        SpawnError::Encode(error)
    })
}

fn put(encoded: EncodedValue, channel: &IpcSender<Envelope>) -> Result<(), SpawnError> {
    let envelope = Envelope::new(encoded).map_err(|source| {
        wire::drop_raw_handles();
        SpawnError::Io { act: "make shared memory for the worker", source }
    })?;
    wire::send_with_raw_handles(channel, envelope)
        .map_err(|failure| SpawnError::Io { act: "send the worker", source: failure.into_io() })?;
    hub::announce();
    Ok(())
}

impl IncomingValue {
    pub(super) fn decode<W: DeserializeOwned>(self) -> Result<W, String> {
        let worker = match self {
            IncomingValue::Bytes(bytes) => wire::decode(&bytes, Vec::new()),
            IncomingValue::Channel(channel) => {
                let channel: IpcReceiver<Carried<W>> = channel.to();
                let carried = wire::recv(channel, &Forever)
                    .map_err(|end| format!("it did not arrive: {}", end.into_failed().into_io()))?;
                carried.0
            }
        };
        worker.map_err(|error| error.to_string())
    }
}
