//! Values and messages between processes: handles inside values, and the rules for ipc-channel.
//!
//! A user's value becomes bytes ([`codec`](crate::ipc::codec)) plus a list of [`WireHandle`]s: our
//! handle types add themselves to the list while a value is encoded ([`note`]) and write only their
//! index, and decoding claims them back ([`claim`]). So values never touch ipc-channel's own
//! thread-locals, and an encoding that fails halfway has no
//! effect on later messages.
//!
//! Every message is one packet ([`envelope::INLINE_MAX`]). ipc-channel fragments messages above
//! about 212 KB, and a fragmented message can hang its sender and close the channel for all others.
//! Longer bodies travel as shared memory.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use ipc_channel::IpcError;
use ipc_channel::ipc::{
    IpcReceiver, IpcSender, IpcSharedMemory, OpaqueIpcReceiver, OpaqueIpcSender,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::chain_text;
use crate::ipc::deadline::{Elapsed, TimeLimit, WaitEnd, Waited};
use crate::ipc::ipc_fd;
use crate::ipc::region::duplicate_memory;
use crate::sys;

mod checked_receiver;
mod encoding;
mod envelope;
mod raw_handles;
mod shm_buffer;

pub(crate) use crate::ipc::catch::{catch_panic, is_quiet, no_panic, panic_text};
pub(crate) use checked_receiver::CheckedReceiver;
#[cfg(test)]
pub(crate) use checked_receiver::hostile;
pub(crate) use encoding::{
    EncodedValue, SideData, claim, decode, decode_shared, decode_with, encode, encode_copy,
    encode_into, encode_spilling, encode_with_raw_handles, explain, explain_de, may_move, may_note,
    may_note_all, note, on_unsent,
};
pub use encoding::{message_limit, set_message_limit};
pub(crate) use envelope::{Carried, Envelope};
pub(crate) use raw_handles::drop_raw_handles;
pub(crate) use shm_buffer::ShmBuffer;

/// The most handles in one value. ipc-channel panics above 64, and an envelope needs some itself.
pub(crate) const HANDLES_MAX: usize = 32;

/// An object of the operating system inside a value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WireHandle {
    Sender(OpaqueIpcSender),
    Receiver(OpaqueIpcReceiver),
    Memory(IpcSharedMemory),
}

impl WireHandle {
    /// Returns a second handle of the same object, except for a receiver, which exists only once.
    pub(crate) fn try_clone(&self) -> Option<WireHandle> {
        match self {
            WireHandle::Sender(sender) => Some(WireHandle::Sender(sender.clone())),
            WireHandle::Receiver(_) => None,
            WireHandle::Memory(memory) => duplicate_memory(memory).ok().map(WireHandle::Memory),
        }
    }

    /// Returns a second handle, even of a receiver, unless descriptors are short. The caller makes
    /// sure that only one of the two is ever decoded.
    pub(crate) fn duplicate(&self) -> Option<WireHandle> {
        match self {
            WireHandle::Receiver(receiver) => {
                duplicate_receiver(receiver).ok().map(WireHandle::Receiver)
            }
            other => other.try_clone(),
        }
    }
}

/// Returns a second receiver for the same channel.
pub(crate) fn duplicate_receiver(receiver: &impl fmt::Debug) -> io::Result<OpaqueIpcReceiver> {
    ipc_fd::receiver_around(ipc_fd::socket_of(receiver)?)
}

/// Limits how often a side asks whether its peer is alive: [`is_due`](Pulse::is_due) returns true
/// at most every 5 ms.
#[derive(Debug)]
pub(crate) struct Pulse(Duration);

impl Pulse {
    const EVERY: Duration = Duration::from_millis(5);

    pub(crate) fn new() -> Pulse {
        Pulse(sys::rough_time())
    }

    pub(crate) fn is_due(&mut self) -> bool {
        let now = sys::rough_time();
        let due = now.saturating_sub(self.0) >= Pulse::EVERY;
        if due {
            self.0 = now;
        }
        due
    }
}

/// The pause of a loop that has no caller to return an error to. It tries again until the system
/// has what it refuses now, because nothing reports when that is.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    has_logged: bool,
}

impl Retry {
    const PAUSE: Duration = Duration::from_millis(10);

    /// Waits before the next try. Logs the first error.
    pub(crate) fn pause(&mut self, error: &dyn std::error::Error) {
        if !std::mem::replace(&mut self.has_logged, true) {
            log::warn!(target: "offspring::wire", "{}; retrying every 10 ms", chain_text(error));
        }
        std::thread::sleep(Retry::PAUSE);
    }
}

/// Why a message was not sent or received, or why a wait for the peer was given up.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer is gone.
    Gone,
    /// This process has no room for the descriptors of a message. The message stays in the channel
    /// for a later call.
    Starved,
    Io(io::Error),
}

impl Failure {
    /// For callers that treat every failure as an error of the system.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Failure::Io(error) => error,
            // The error of the system for a process without a free descriptor.
            Failure::Starved => io::Error::from_raw_os_error(libc::EMFILE),
            Failure::Gone => io::Error::other("the other process is gone"),
        }
    }
}

impl WaitEnd<Elapsed, Failure> {
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            WaitEnd::Timeout(Elapsed) => io::ErrorKind::TimedOut.into(),
            WaitEnd::Failed(failure) => failure.into_io(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => Failure::Gone,
            _ => Failure::Io(error),
        }
    }
}

impl From<IpcError> for Failure {
    fn from(error: IpcError) -> Self {
        match error {
            IpcError::Disconnected => Failure::Gone,
            IpcError::Io(error) => error.into(),
            IpcError::SerializationError(error) => {
                Failure::Io(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }
}

/// Sends one message. Blocks while the receiver's buffer is full, so callers count what they send.
pub(crate) fn send<M: Serialize>(sender: &IpcSender<M>, message: M) -> Result<(), Failure> {
    drop_raw_handles();
    send_with_raw_handles(sender, message)
}

/// Like [`send`], but first waits until the receiver's buffer has ample room.
pub(crate) fn send_within<M: Serialize + fmt::Debug, L: TimeLimit>(
    sender: &IpcSender<M>,
    message: M,
    limit: &L,
) -> Waited<(), Failure, L> {
    let socket = ipc_fd::socket_of(sender).map_err(Failure::from)?;
    while !sys::wait_for_room(socket.as_fd(), limit.deadline()).map_err(Failure::from)? {
        if let Err(elapsed) = limit.check() {
            return Err(WaitEnd::Timeout(elapsed));
        }
    }
    Ok(send(sender, message)?)
}

/// Sends a doorbell. It never blocks, because its sender knows that the previous one was read, so
/// signals need no attention.
pub(crate) fn ring<M: Serialize>(sender: &IpcSender<M>, bell: M) -> Result<(), Failure> {
    drop_raw_handles();
    no_panic("ipc-channel", || sender.send(bell)).map_err(Failure::Io)?.map_err(Failure::from)
}

/// Like [`send`], with the raw handles of ipc-channel that were encoded on this thread before.
pub(crate) fn send_with_raw_handles<M: Serialize>(
    sender: &IpcSender<M>,
    message: M,
) -> Result<(), Failure> {
    // ipc-channel does not retry on EINTR, and a message with handles cannot be sent twice.
    sys::with_signals_blocked(|| {
        no_panic("ipc-channel", || sender.send(message))
            .map_err(Failure::Io)?
            .map_err(Failure::from)
    })
    .inspect(|()| raw_handles::sent())
}

/// Runs `call` on another thread, and waits for it. For sending while this thread encodes a value:
/// a message from this thread would take along the raw handles that were encoded so far.
pub(crate) fn on_helper_thread<R: Send>(call: impl FnOnce() -> R + Send) -> io::Result<R> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, call)?;
        thread.join().map_err(|panic| io::Error::other(panic_text(&*panic)))
    })
}

/// Receives one message; see [`CheckedReceiver::recv`].
pub(crate) fn recv<M, L: TimeLimit>(receiver: IpcReceiver<M>, limit: &L) -> Waited<M, Failure, L>
where
    M: DeserializeOwned + Serialize + fmt::Debug,
{
    CheckedReceiver::new(receiver).recv(limit)
}

/// Returns the FNV-1a hash of a text, used as the fingerprint of a type's name.
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_whole() {
        let value = (7u64, "text".to_owned(), vec![1u8, 2, 3], Some(-1i32));
        let encoded = encode(&value).unwrap();
        let back: (u64, String, Vec<u8>, Option<i32>) =
            decode(&encoded.bytes, encoded.handles).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let encoded = encode(&(1u8, 2u8)).unwrap();
        let error = decode::<u8>(&encoded.bytes, Vec::new()).unwrap_err();
        assert!(error.to_string().contains("left over"), "{error}");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_a_value_or_an_error() {
        let value = (vec!["a".to_owned(), "bc".to_owned()], Some(vec![1u32, 2, 3]), 'x');
        let bytes = encode(&value).unwrap().bytes;
        for cut in 0..bytes.len() {
            assert!(
                decode::<(Vec<String>, Option<Vec<u32>>, char)>(&bytes[..cut], Vec::new()).is_err()
            );
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = decode::<(Vec<String>, Option<Vec<u32>>, char)>(&bytes, Vec::new());
        }
    }

    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(explain("no way"))
        }
    }

    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("oh")
        }
    }

    #[test]
    fn failing_encodings_leave_the_buffer_as_it_was() {
        let mut bytes = vec![9];
        let error = encode_into(&("some text", Refuses), &mut bytes).unwrap_err();
        assert!(error.to_string().contains("no way"), "{error}");
        let error = encode_into(&("some text", Panics), &mut bytes).unwrap_err();
        assert!(error.to_string().contains("oh"), "{error}");
        assert_eq!(bytes, [9]);
    }

    #[test]
    fn handles_outside_of_offspring_are_refused() {
        let memory = crate::ipc::region::memory_from(b"x").unwrap();
        assert!(note(WireHandle::Memory(memory)).is_err());
        assert!(claim(0).is_err());
    }
}
