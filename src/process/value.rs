//! A worker's value on its way to its process.
//!
//! A short one rides in the first message. One that is long, or holds anything but bytes, goes through a channel whose reading
//! end travels: so raw handles of ipc-channel inside it, which cross only in the message that their encoding precedes,
//! are with it already. Either way an error comes before any process is started.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, OpaqueIpcReceiver};

use crate::error::SpawnError;
use crate::ipc::deadline::Forever;
use crate::ipc::hub;
use crate::ipc::ipc_fd;
use crate::ipc::wire::{self, Carried, EncodedValue, Envelope};
use crate::process::registry::ProcessWorker;
use crate::process::spawn_hook::{self, Heir};
use crate::sys;

/// A longer value goes through a channel: with names and arguments this fits the first message.
const IN_HELLO_MAX: usize = 8 << 10;

/// What the parent has of it.
#[derive(Debug)]
pub(super) enum Sent {
    Bytes(Vec<u8>),
    /// The reading end of the channel that it is in.
    Channel {
        end: OwnedFd,
        has_belongings: bool,
    },
}

/// What has come to the child.
#[derive(Debug)]
pub(crate) enum Arrived {
    Bytes(Vec<u8>),
    Channel(OpaqueIpcReceiver),
}

/// Where a value goes in, and the end that travels.
type Channel = (IpcSender<Envelope>, OwnedFd);

fn channel() -> Result<Channel, SpawnError> {
    let made = ipc::channel::<Envelope>()
        .and_then(|(sender, receiver)| Ok((sender, ipc_fd::socket_of(&receiver)?)));
    made.map_err(SpawnError::io("make a channel"))
}

/// The channel of this process that short values go through, and out again, to see whether anything rides on them. Nearly
/// always nothing does.
static SIEVE: Mutex<Option<Channel>> = Mutex::new(None);

fn sieve() -> Result<MutexGuard<'static, Option<Channel>>, SpawnError> {
    let mut sieve = sys::lock(&SIEVE);
    if sieve.is_none() {
        *sieve = Some(channel()?);
    }
    Ok(sieve)
}

/// `None` if it came through the sieve, else the end of a channel that holds it with what rides on it.
fn sift(encoded: EncodedValue) -> Result<Option<OwnedFd>, SpawnError> {
    let mut sieve = sieve().inspect_err(|_| wire::drop_raw_handles())?;
    // Whatever fails below, nothing stays in it.
    let (sender, end) = sieve.take().expect("it was just made");
    put(encoded, &sender)?;
    if sys::discard_plain_packet(end.as_fd()) {
        *sieve = Some((sender, end));
        return Ok(None);
    }
    *sieve = channel().ok();
    Ok(Some(end))
}

/// Encodes it for a process.
pub(super) fn send<W: ProcessWorker>(worker: W, heir: &Heir<'_>) -> Result<Sent, SpawnError> {
    // First of all, so that what a process has open does not depend on what it sends.
    drop(sieve()?);
    let own = belongings(heir)?;
    let has_belongings = own.is_some();
    let encoded = encode(&worker)?;
    if !has_belongings && encoded.handles.is_empty() && encoded.bytes.len() <= IN_HELLO_MAX {
        let bytes = encoded.bytes.clone();
        return Ok(match sift(encoded)? {
            None => Sent::Bytes(bytes),
            Some(end) => Sent::Channel {
                end,
                has_belongings,
            },
        });
    }
    let (sender, end) =
        own.map_or_else(|| channel().inspect_err(|_| wire::drop_raw_handles()), Ok)?;
    put(encoded, &sender)?;
    Ok(Sent::Channel {
        end,
        has_belongings,
    })
}

/// Encodes it for a thread of this process.
pub(super) fn send_here<W: ProcessWorker>(worker: W) -> Result<Arrived, SpawnError> {
    let (sender, channel) = ipc::channel().map_err(SpawnError::io("make a channel"))?;
    put(encode(&worker)?, &sender)?;
    Ok(Arrived::Channel(channel.to_opaque()))
}

/// A channel with what belongs to the process, if there is anything.
fn belongings(heir: &Heir<'_>) -> Result<Option<Channel>, SpawnError> {
    let Some(belongings) = spawn_hook::belongings(heir) else {
        return Ok(None);
    };
    let own = channel()?;
    let sent = belongings.send(&own.0);
    sent.map_err(SpawnError::io("send what belongs to the new process"))?;
    Ok(Some(own))
}

fn encode<W: ProcessWorker>(worker: &W) -> Result<EncodedValue, SpawnError> {
    wire::encode_with_raw_handles(worker).map_err(|error| {
        // Raw handles that were encoded before the error must not ride on this thread's next message.
        wire::drop_raw_handles();
        hub::announce();
        SpawnError::Encode(error)
    })
}

fn put(encoded: EncodedValue, channel: &IpcSender<Envelope>) -> Result<(), SpawnError> {
    let packet = Envelope::new(encoded).map_err(|source| {
        wire::drop_raw_handles();
        SpawnError::Io {
            act: "make shared memory for the worker",
            source,
        }
    })?;
    wire::send_with_raw_handles(channel, packet).map_err(|failure| SpawnError::Io {
        act: "send the worker",
        source: failure.into_io(),
    })?;
    hub::announce();
    Ok(())
}

impl Arrived {
    /// Rebuilds the worker.
    pub(super) fn take<W: ProcessWorker>(self) -> Result<W, String> {
        let worker = match self {
            Arrived::Bytes(bytes) => wire::decode(&bytes, Vec::new()),
            Arrived::Channel(channel) => {
                let channel: IpcReceiver<Carried<W>> = channel.to();
                let carried = wire::recv(channel, &Forever)
                    .map_err(|end| format!("it did not arrive: {}", end.into_failed().into_io()))?;
                carried.0
            }
        };
        worker.map_err(|error| error.to_string())
    }
}
