//! Raw handles of ipc-channel inside a user's value.
//!
//! They are not part of the encoding: they register themselves in ipc-channel's thread-locals, go
//! with the next message that ipc-channel sends on this thread, and find their descriptors only
//! while ipc-channel decodes a message. So they travel in an empty message of ipc-channel, in a
//! channel of their own, and the value is decoded while that message is received. The codec refuses
//! them wherever that cannot work, which is everywhere except in a worker.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};

use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::DecodeError;
use crate::ipc::catch::{no_panic, with_quiet};
use crate::ipc::ipc_fd;
use crate::ipc::wire::Envelope;
use crate::sys;

/// The sending end of a channel, and the descriptor of its receiving end.
type Channel = (IpcSender<()>, OwnedFd);

/// A channel for messages that only show whether handles are attached. Hardly any value has some,
/// so one channel serves all starts of this process.
static PROBE: Mutex<Option<Channel>> = Mutex::new(None);

fn channel() -> io::Result<Channel> {
    let (sender, receiver) = ipc::channel()?;
    Ok((sender, ipc_fd::raw_socket_of(&receiver)?.duplicate()?))
}

fn probe() -> io::Result<MutexGuard<'static, Option<Channel>>> {
    let mut probe = sys::lock(&PROBE);
    if probe.is_none() {
        // The first message makes ipc-channel open a socket for a moment. If that fails, this
        // process can never send a message through ipc-channel.
        drop((sys::packet_pair()?, sys::packet_pair()?));
        *probe = Some(channel()?);
    }
    Ok(probe)
}

/// Sends what is attached to this thread's next message through the probe. If `keep` is true and
/// something was attached, returns the receiving end of the channel that then contains it.
fn pass_through_probe(keep: bool) -> io::Result<Option<OwnedFd>> {
    let mut probe = probe()?;
    // Taken out for now: if a step below fails, the channel is dropped with its content.
    let Some((sender, end)) = probe.take() else { return Ok(None) };
    no_panic("ipc-channel", || sender.send(()))?
        .map_err(|error| io::Error::other(error.to_string()))?;
    if !keep {
        sys::discard_packet(end.as_fd())?;
    } else if !sys::discard_plain_packet(end.as_fd()) {
        *probe = channel().ok();
        return Ok(Some(end));
    }
    *probe = Some((sender, end));
    Ok(None)
}

/// Takes the raw handles that were encoded on this thread since the last call. If there are any,
/// returns the receiving end of the channel that contains them.
pub(crate) fn take_raw_handles() -> io::Result<Option<OwnedFd>> {
    pass_through_probe(true)
}

/// Discards the raw handles that were encoded on this thread. A program calls it once at its
/// beginning, because the first call also makes what is needed once.
pub(crate) fn drop_raw_handles() -> io::Result<()> {
    pass_through_probe(false).map(drop)
}

thread_local! {
    /// Decodes the value while its raw handles are received.
    static DECODE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// Decodes a value with the raw handles that its sender has [taken](take_raw_handles).
pub(crate) fn decode_with_raw_handles<T: DeserializeOwned + 'static>(
    envelope: Envelope,
    handles: OwnedFd,
) -> io::Result<Result<T, DecodeError>> {
    let decoded = Rc::new(Cell::new(None));
    let place = decoded.clone();
    receive_with(handles, Box::new(move || place.set(Some(envelope.decode()))))?;
    decoded.take().ok_or_else(|| io::Error::other("there is no value"))
}

/// Runs `decode` while the raw handles are received.
fn receive_with(handles: OwnedFd, decode: Box<dyn FnOnce()>) -> io::Result<()> {
    let receiver: IpcReceiver<DecodesValue> = ipc_fd::receiver_around(handles)?.to();
    DECODE.set(Some(decode));
    let received = no_panic("ipc-channel", || receiver.try_recv());
    DECODE.take();
    received?.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(())
}

/// Received in place of the empty message; decodes the value meanwhile.
struct DecodesValue;

impl<'de> Deserialize<'de> for DecodesValue {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        let decode = DECODE.take().ok_or_else(|| D::Error::custom("there is no value"))?;
        // This runs user code, whose panics must be reported like any other.
        with_quiet(false, decode);
        Ok(DecodesValue)
    }
}

/// ipc-channel requires this of types that it receives.
impl Serialize for DecodesValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}
