//! A worker's value on its way to its process.
//!
//! A short value without handles is part of the first message. Any other value goes through a
//! channel, whose receiving end is sent to the child. In both cases the value is encoded before a
//! process is started, so an encoding error starts nothing.
//!
//! Raw handles of ipc-channel in a user's types are not part of the encoding. Those of a value
//! travel in a channel of their own, whose receiving end accompanies the value.

use std::io;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{EncodeError, SpawnError};
use crate::ipc::deadline::Forever;
use crate::ipc::hub;
use crate::ipc::wire::{
    self, CheckedReceiver, CheckedSender, EncodedValue, Envelope, Failure, WireHandle,
};
use crate::process::spawn_hook::{self, NewChild};

/// A longer value goes through a channel. Together with names and arguments this fits the first
/// message.
const IN_HELLO_MAX: usize = 8 << 10;

/// An encoded value, in the parent.
#[derive(Debug)]
pub(super) enum OutgoingValue {
    Bytes(Vec<u8>),
    /// The receiving end of the channel that contains it.
    Channel {
        end: CheckedReceiver<ValueMessage>,
        /// True if the payloads of spawn hooks precede it.
        has_hooks: bool,
    },
}

/// The same value, as the child receives it.
#[derive(Debug)]
pub(crate) enum IncomingValue {
    Bytes(Vec<u8>),
    Channel(CheckedReceiver<ValueMessage>),
}

/// The message in the channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ValueMessage {
    value: Envelope,
    /// The receiving end of the channel that contains the raw handles, if there are any.
    raw_handles: Option<WireHandle>,
}

type ValueChannel = (CheckedSender<ValueMessage>, CheckedReceiver<ValueMessage>);

fn channel() -> Result<ValueChannel, SpawnError> {
    wire::channel().map_err(SpawnError::io("make a channel"))
}

/// Encodes a worker. The raw handles in it are taken next.
pub(super) type EncodeWorker<'w> = &'w dyn Fn() -> Result<EncodedValue, EncodeError>;

/// Encodes a worker for a process.
pub(super) fn send(
    worker: EncodeWorker<'_>,
    child: &NewChild<'_>,
) -> Result<OutgoingValue, SpawnError> {
    let hooked = hook_channel(child)?;
    let has_hooks = hooked.is_some();
    let (encoded, raw_handles) = encode(worker)?;
    if !has_hooks
        && raw_handles.is_none()
        && encoded.handles.is_empty()
        && encoded.bytes.len() <= IN_HELLO_MAX
    {
        return Ok(OutgoingValue::Bytes(encoded.bytes));
    }
    let (sender, end) = hooked.map_or_else(channel, Ok)?;
    put(encoded, raw_handles, &sender)?;
    Ok(OutgoingValue::Channel { end, has_hooks })
}

/// Encodes a worker for a thread of this process.
pub(super) fn send_inline(worker: EncodeWorker<'_>) -> Result<IncomingValue, SpawnError> {
    let (sender, end) = channel()?;
    let (encoded, raw_handles) = encode(worker)?;
    put(encoded, raw_handles, &sender)?;
    Ok(IncomingValue::Channel(end))
}

/// Returns a channel that contains the payloads of the spawn hooks, if there are any.
fn hook_channel(child: &NewChild<'_>) -> Result<Option<ValueChannel>, SpawnError> {
    let Some(payloads) = spawn_hook::prepare(child) else {
        return Ok(None);
    };
    let channel = channel()?;
    let sent = payloads.send(channel.0.clone().to());
    sent.map_err(SpawnError::io("send what the new process inherits"))?;
    Ok(Some(channel))
}

/// Encodes the value, and takes its raw handles.
fn encode(worker: EncodeWorker<'_>) -> Result<(EncodedValue, Option<OwnedFd>), SpawnError> {
    let act = "send the worker";
    // An earlier value may have left raw handles on this thread. They must not be sent with this
    // one.
    wire::drop_raw_handles().map_err(SpawnError::io(act))?;
    match worker() {
        Ok(encoded) => {
            let raw_handles = wire::take_raw_handles().map_err(SpawnError::io(act))?;
            Ok((encoded, raw_handles))
        }
        Err(error) => {
            let _ = wire::drop_raw_handles();
            hub::announce();
            Err(SpawnError::Encode(error))
        }
    }
}

fn put(
    encoded: EncodedValue,
    raw_handles: Option<OwnedFd>,
    channel: &CheckedSender<ValueMessage>,
) -> Result<(), SpawnError> {
    let value =
        Envelope::new(encoded).map_err(SpawnError::io("make shared memory for the worker"))?;
    let message = ValueMessage { value, raw_handles: raw_handles.map(WireHandle::File) };
    let sent = wire::send(channel, &message).map_err(Failure::into_io);
    sent.map_err(SpawnError::io("send the worker"))?;
    hub::announce();
    Ok(())
}

impl IncomingValue {
    pub(super) fn decode<W: DeserializeOwned + 'static>(self) -> Result<W, String> {
        let worker = match self.receive()? {
            (value, None) => value.decode(),
            (value, Some(handles)) => {
                wire::decode_with_raw_handles(value, handles).map_err(not_arrived)?
            }
        };
        worker.map_err(|error| error.to_string())
    }

    /// Returns the encoded value, and the channel that contains its raw handles.
    fn receive(self) -> Result<(Envelope, Option<OwnedFd>), String> {
        let channel = match self {
            IncomingValue::Bytes(bytes) => {
                let value = EncodedValue { bytes, handles: Vec::new() };
                return Ok((Envelope::new(value).map_err(not_arrived)?, None));
            }
            IncomingValue::Channel(channel) => channel,
        };
        let message = channel.recv(&Forever);
        let message = message.map_err(|end| not_arrived(end.into_failed().into_io()))?;
        Ok(match message.raw_handles {
            Some(WireHandle::File(handles)) => (message.value, Some(handles)),
            _ => (message.value, None),
        })
    }
}

fn not_arrived(error: io::Error) -> String {
    format!("it did not arrive: {error}")
}
