//! Values and messages between processes: handles inside values, and packets over the sockets of
//! ipc-channel.
//!
//! A user's value becomes bytes ([`codec`](crate::ipc::codec)) and a list of [`WireHandle`]s. While
//! a value is encoded, our handle types add themselves to the list ([`note`]) and write only their
//! index; decoding claims them back ([`claim`]). So values never touch ipc-channel's own
//! thread-locals, and an encoding that fails halfway has no effect on later messages.
//!
//! Every message is one packet ([`envelope::INLINE_MAX`]), which `packet` sends and receives.
//! Longer bodies travel as shared memory. ipc-channel itself sends and receives only raw handles of
//! its own inside a user's value (`raw_handles`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnostics;
use crate::ipc::deadline::{Elapsed, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Memory;
use crate::sys;

mod encoding;
mod ends;
mod envelope;
#[cfg(test)]
pub(crate) mod hostile;
mod limit;
mod packet;
mod raw_handles;
mod shape;
mod shm_buffer;
mod trial;

pub(crate) use crate::ipc::catch::{catch_panic, is_quiet, panic_text, text_of};
pub(crate) use encoding::{
    EncodedValue, SideData, claim, decode, decode_bytes, decode_from, encode, encode_copy,
    encode_into, encode_spilling, encode_with_raw_handles, explain, explain_de, is_trial, may_move,
    may_note, may_note_all, note, on_unsent,
};
pub(crate) use ends::{CheckedReceiver, CheckedSender, channel};
pub(crate) use envelope::Envelope;
pub use limit::{message_limit, set_message_limit};
pub(crate) use packet::file;
pub(crate) use packet::send;
pub(crate) use raw_handles::{decode_with_raw_handles, drop_raw_handles, take_raw_handles};
pub(crate) use shape::Shape;
pub(crate) use shm_buffer::ShmBuffer;

/// The most handles in one value. A packet has at most 64 descriptors, of which the envelope needs
/// some itself.
pub(crate) const HANDLES_MAX: usize = 32;

/// An object of the operating system inside a value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WireHandle {
    Sender(CheckedSender<()>),
    Receiver(CheckedReceiver<()>),
    Memory(Memory),
    File(#[serde(with = "packet::file")] OwnedFd),
    /// The memory of a channel's sender. The receiver maps only a part of it.
    Ring(Memory),
}

impl WireHandle {
    /// Returns a second handle of the same object; `None` for a receiver, which exists only once.
    pub(crate) fn try_clone(&self) -> Option<WireHandle> {
        match self {
            WireHandle::Receiver(_) => None,
            other => other.duplicate(),
        }
    }

    /// Returns a second handle, even of a receiver, unless descriptors are short. The caller must
    /// make sure that only one of the two is ever decoded.
    pub(crate) fn duplicate(&self) -> Option<WireHandle> {
        Some(match self {
            WireHandle::Sender(sender) => WireHandle::Sender(sender.clone()),
            WireHandle::Receiver(receiver) => WireHandle::Receiver(receiver.duplicate().ok()?),
            WireHandle::Memory(memory) => WireHandle::Memory(memory.clone()),
            WireHandle::Ring(memory) => WireHandle::Ring(memory.clone()),
            WireHandle::File(file) => WireHandle::File(file.try_clone().ok()?),
        })
    }
}

/// Limits how often a side checks whether its peer is alive: [`is_due`](Pulse::is_due) returns true
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
/// grants what it refuses now, because no event reports that.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    has_logged: bool,
}

impl Retry {
    const PAUSE: Duration = Duration::from_millis(10);

    /// Waits before the next try. Logs the first error.
    pub(crate) fn pause(&mut self, error: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.has_logged, true) {
            diagnostics::warn("offspring::wire", format_args!("{error}; retrying every 10 ms"));
        }
        std::thread::sleep(Retry::PAUSE);
    }
}

/// Why a message was not sent or received, or why a wait for the peer was given up.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer is gone.
    Gone,
    /// There is no room for the message until the receiver reads. Nothing was sent.
    Full,
    /// This process has no room for the descriptors of a message. The message stays in the channel
    /// for a later call.
    Starved,
    Io(io::Error),
}

impl Failure {
    /// Converts it for callers that treat every failure as an error of the system.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Failure::Io(error) => error,
            Failure::Full => io::ErrorKind::WouldBlock.into(),
            // The system's error for a process without a free descriptor.
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

/// Like [`send`], but waits for room until `limit`.
pub(crate) fn send_within<M: Serialize, L: TimeLimit>(
    sender: &CheckedSender<M>,
    message: &M,
    limit: &L,
) -> Waited<(), Failure, L> {
    loop {
        match send(sender, message) {
            Err(Failure::Full) => {}
            sent => return Ok(sent?),
        }
        let has_room = sys::wait_for_room(sender.as_fd(), limit.deadline());
        if !has_room.map_err(Failure::from)? {
            if let Err(elapsed) = limit.check() {
                return Err(WaitEnd::Timeout(elapsed));
            }
        }
    }
}

/// Sends a doorbell. A receiver whose socket is full has something to read, so it wakes up without
/// this doorbell.
pub(crate) fn ring<M: Serialize>(sender: &CheckedSender<M>, bell: &M) -> Result<(), Failure> {
    match send(sender, bell) {
        Err(Failure::Full) => Ok(()),
        sent => sent,
    }
}

/// Returns the FNV-1a hash of a text, which serves as the fingerprint of a type's name.
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
        let encoded = encode(&value, Shape::Own).unwrap();
        let back: (u64, String, Vec<u8>, Option<i32>) =
            decode(&encoded.bytes, encoded.handles).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let encoded = encode(&(1u8, 2u8), Shape::Own).unwrap();
        let error = decode::<u8>(&encoded.bytes, Vec::new()).unwrap_err();
        assert!(error.to_string().contains("left over"), "{error}");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_a_value_or_an_error() {
        let value = (vec!["a".to_owned(), "bc".to_owned()], Some(vec![1u32, 2, 3]), 'x');
        let bytes = encode(&value, Shape::Own).unwrap().bytes;
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
        let error = encode_into(&("some text", Refuses), Shape::Own, &mut bytes).unwrap_err();
        assert!(error.to_string().contains("no way"), "{error}");
        let error = encode_into(&("some text", Panics), Shape::Own, &mut bytes).unwrap_err();
        assert!(error.to_string().contains("oh"), "{error}");
        assert_eq!(bytes, [9]);
    }

    #[test]
    fn the_err_of_a_result_is_known_in_both_forms() {
        for shape in [Shape::Own, Shape::Unknown] {
            let is_err = |result| encode(&result, shape).unwrap().is_err();
            assert!(is_err(Err::<Vec<u32>, String>("no".to_owned())));
            assert!(!is_err(Ok(vec![1])));
            assert!(!is_err(Ok(Vec::new())));
            assert!(encode(&Err::<u32, ()>(()), shape).unwrap().is_err());
            assert!(!encode(&Ok::<Result<u32, u32>, u32>(Err(7)), shape).unwrap().is_err());
        }
    }

    #[test]
    fn handles_outside_of_offspring_are_refused() {
        let memory = crate::ipc::region::memory_from(b"x").unwrap();
        assert!(note(WireHandle::Memory(memory)).is_err());
        assert!(claim(0).is_err());
    }
}
