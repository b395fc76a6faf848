//! Every message between parent and child, and the constants that both sides need.
//!
//! Parent and child are connected by a *control socket*: a packet socket pair, whose other end the
//! child gets as stdin and moves away at once. Everything that the child needs is in the socket
//! before the child runs. It is one packet, [`Hello`], with plain data, the worker's value if it is
//! short, and descriptors: stdio, the channel of a longer value, and the liveness pipe. So a start
//! takes one message each way, neither side waits for the other without a limit, and nothing
//! listens that another program could connect to.
//!
//! Later the same socket carries the child's panics and its output. They do not go through
//! ipc-channel, because a panic may be ipc-channel's own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[cfg(feature = "sandbox")]
use crate::error::Protection;
use crate::error::{PanicReport, printable};
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::wire::{self, CheckedReceiver, EncodedValue, Envelope, Failure, Shape};
use crate::process::identity::{Entry, Identity};
#[cfg(feature = "sandbox")]
use crate::process::sandbox::AppliedSandbox;
use crate::sys::{self, Packet, RecvEnd};

/// Set for a new child, to its [mark](child_mark); removed before its worker runs.
pub(super) const CHILD_VARIABLE: &str = "OFFSPRING_CHILD";

/// The version of this crate. Two of them may be in one program, and each has children of its own.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns what marks a process as a child of this version, with its name.
pub(super) fn child_mark(name: &str) -> String {
    format!("{VERSION} {name}")
}

/// Returns the name in a mark; `None` if another version made it, whose `init` comes later.
pub(super) fn marked_name(mark: &OsStr) -> Option<OsString> {
    let name = mark.as_bytes().strip_prefix(VERSION.as_bytes())?.strip_prefix(b" ")?;
    Some(OsStr::from_bytes(name).to_owned())
}

/// The version of the messages here and of those over sessions.
pub(super) const WIRE_VERSION: u32 = 1;

/// The exit code of a worker that panicked: Rust's own.
pub(super) const EXIT_PANIC: i32 = 101;

/// The longest packet on a control socket: a panic with its backtrace.
pub(super) const PACKET_MAX: usize = 32 << 10;
/// An output that is longer than this goes through a channel. Together with a few panics, a shorter
/// one fits the socket's buffer, which the parent does not read before the child ends.
const OUTPUT_MAX: usize = 16 << 10;

/// Parent to child: the first message. It carries descriptors in this order: those that `stdio`
/// names, the channel of the worker's value if there is one, and the reading end of the liveness
/// pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// The image that must be running; `None` if the parent executed its own.
    pub(super) image: Option<[u64; 4]>,
    /// The parent's [registry fingerprint](crate::process::registry::fingerprint).
    pub(super) registry: u64,
    pub(super) worker: String,
    pub(super) identity: Identity,
    pub(super) entry: Entry,
    pub(super) stdio: [bool; 3],
    /// Device and inode of the pipe that is the child's stderr until its worker runs.
    pub(super) early_stderr: (u64, u64),
    /// True if the child keeps inherited descriptors open.
    pub(super) keeps_descriptors: bool,
    /// True if it outlives its parent. Then it has no liveness pipe.
    pub(super) detached: bool,
    /// True if only the parent's SIGTERM and SIGHUP have an effect on it.
    pub(super) shielded: bool,
    /// How long the exit hooks of its libraries may take.
    pub(super) exit_timeout: Duration,
    /// True if the payloads of spawn hooks precede the value in the channel.
    pub(super) has_hooks: bool,
    /// What the worker may do beyond using its fields, if that is limited.
    #[cfg(feature = "sandbox")]
    pub(super) sandbox: Option<sys::SandboxPlan>,
    /// The worker's value; `None` if it is in the channel.
    pub(super) value: Option<Vec<u8>>,
}

impl Hello {
    /// Checks that the reader runs the same program as the writer. The error names the difference.
    /// `fingerprint` computes the reader's.
    pub(super) fn check(&self, fingerprint: impl FnOnce() -> u64) -> Result<(), String> {
        let Some(expected) = self.image else {
            return Ok(());
        };
        let image = sys::image_identity()
            .map_err(|error| format!("its own image cannot be read: {error}"))?;
        if image == expected {
            return Ok(());
        }
        // Another file may be a copy of the same program, so compare the length and the workers.
        if image[2] != expected[2] || fingerprint() != self.registry {
            return Err("another executable, or another build, was started".to_owned());
        }
        Ok(())
    }
}

/// Parent to child, after [`Hello`]. Each is sent at most once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum ParentMessage {
    /// There is early stderr to pass on: do not write to the real one yet.
    HoldStderr,
    /// The early stderr has been passed on.
    ReleaseStderr,
    /// Stop in an orderly way.
    Stop,
    /// Outlive the parent. Carries the writing end of the liveness pipe, whose closing would
    /// otherwise kill the child.
    Detach,
}

/// Child to parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ChildMessage {
    /// There is early stderr: pass it on, and send [`ParentMessage::ReleaseStderr`].
    EarlyStderr,
    /// The child is not the same program.
    Mismatch(#[serde(deserialize_with = "printable::deserialize_text")] String),
    /// The start failed in the child.
    Failed(#[serde(deserialize_with = "printable::deserialize_text")] String),
    /// The worker's value does not decode.
    BadValue(#[serde(deserialize_with = "printable::deserialize_text")] String),
    /// `run` begins.
    Started,
    /// Sent at any time, even before `run`. Their number is limited, so that they fit the buffer.
    Panicked { in_run: bool, report: PanicReport },
    /// The output of `run`, which follows, is the `Err` of a `Result`.
    ReturnsErr,
    /// The output of `run`.
    Returned(Vec<u8>),
    /// `run` returned; its output is in the channel that comes with this message.
    ReturnedParcel,
    /// `run` returned a value that does not encode, or cannot be sent.
    Unsendable(#[serde(deserialize_with = "printable::deserialize_text")] String),
    /// The kernel lacks a part of the sandbox.
    #[cfg(feature = "sandbox")]
    NoSandbox {
        missing: Protection,
        #[serde(deserialize_with = "printable::deserialize_text")]
        reason: String,
    },
    /// It is in its sandbox from now on. Sent before `Started`.
    #[cfg(feature = "sandbox")]
    Sandboxed(AppliedSandbox),
    /// It ends because of the system call with this number. The handler of a signal sends this, as
    /// bytes that were prepared before.
    #[cfg(feature = "sandbox")]
    Forbidden([u8; 4]),
}

impl ChildMessage {
    /// Changes the text, if the message refuses the start.
    pub(super) fn map_text(self, change: impl FnOnce(String) -> String) -> ChildMessage {
        match self {
            ChildMessage::Mismatch(text) => ChildMessage::Mismatch(change(text)),
            ChildMessage::Failed(text) => ChildMessage::Failed(change(text)),
            ChildMessage::BadValue(text) => ChildMessage::BadValue(change(text)),
            #[cfg(feature = "sandbox")]
            ChildMessage::NoSandbox { missing, reason } => {
                ChildMessage::NoSandbox { missing, reason: change(reason) }
            }
            message => message,
        }
    }
}

/// Sends the output of `run`.
pub(super) fn send_output(socket: BorrowedFd<'_>, output: Envelope) -> io::Result<()> {
    match output.into_plain(OUTPUT_MAX) {
        Ok(bytes) => send(socket, &ChildMessage::Returned(bytes), &[]),
        Err(output) => {
            let (sender, end) = wire::channel()?;
            wire::send(&sender, &output).map_err(Failure::into_io)?;
            send(socket, &ChildMessage::ReturnedParcel, &[end.as_fd()])
        }
    }
}

/// The channel that came with [`ChildMessage::ReturnedParcel`].
pub(super) fn parcel_channel(fds: Vec<OwnedFd>) -> io::Result<CheckedReceiver<Envelope>> {
    channel_around(fds.into_iter().next())
}

/// Takes the output out of that channel.
pub(super) fn open_parcel(channel: &CheckedReceiver<Envelope>) -> io::Result<Envelope> {
    // The sender filled the channel before it sent the message.
    channel.recv(&Deadline::now()).map_err(WaitEnd::into_io)
}

/// Returns the output in [`ChildMessage::Returned`].
pub(super) fn envelope_of(bytes: Vec<u8>) -> io::Result<Envelope> {
    Envelope::new(EncodedValue { bytes, handles: Vec::new() })
}

/// A message as bytes, for a sender that cannot encode.
#[cfg(feature = "sandbox")]
pub(super) fn packet<M: Serialize>(message: &M) -> io::Result<Vec<u8>> {
    wire::encode(message, Shape::Own).map(|encoded| encoded.bytes).map_err(io::Error::other)
}

pub(super) fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    #[cfg_attr(not(test), expect(unused_mut, reason = "a hostile process changes it"))]
    let mut encoded = wire::encode(message, Shape::Own).map_err(io::Error::other)?;
    #[cfg(test)]
    crate::ipc::fuzz::tamper(|random| random.mutate(&mut encoded.bytes));
    sys::send_packet(socket, &encoded.bytes, fds)
}

/// Blocks until a message arrives. Returns `None` if the other side has closed the socket.
pub(super) fn recv<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    recv_until(socket, None)
}

/// Like [`recv`], but returns `WouldBlock` if no message is there.
pub(super) fn try_recv<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    recv_until(socket, Some(Instant::now()))
}

fn recv_until<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    match sys::recv_packet(socket, deadline, |length, _| (1..=PACKET_MAX).contains(&length)) {
        Ok(Packet { bytes, fds }) => parse(&bytes).map(|message| Some((message, fds))),
        Err(RecvEnd::Gone) => Ok(None),
        Err(RecvEnd::Timeout) => Err(io::ErrorKind::WouldBlock.into()),
        Err(RecvEnd::Starved) => Err(Failure::Starved.into_io()),
        Err(RecvEnd::Refused) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that is no message"))
        }
        Err(RecvEnd::Io(error)) => Err(error),
    }
}

fn parse<M: DeserializeOwned>(bytes: &[u8]) -> io::Result<M> {
    wire::decode(bytes, Vec::new())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Returns the next message if it is a short one, and leaves it in the socket.
pub(super) fn peek<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> Option<M> {
    let bytes = sys::peek_packet::<16>(socket)?;
    wire::decode(&bytes, Vec::new()).ok()
}

/// Returns the receiving end of a channel that was sent as a descriptor.
pub(super) fn channel_around<M>(socket: Option<OwnedFd>) -> io::Result<CheckedReceiver<M>> {
    CheckedReceiver::adopt(socket.ok_or_else(|| io::Error::other("no descriptor came with it"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::fuzz::Random;

    fn frames() -> Vec<Vec<u8>> {
        let hello = Hello {
            version: WIRE_VERSION,
            image: Some([1, 2, 3, 4]),
            registry: 5,
            worker: "worker".to_owned(),
            identity: Identity::of_main(),
            entry: Entry::Test("test".to_owned()),
            stdio: [true; 3],
            early_stderr: (6, 7),
            keeps_descriptors: false,
            detached: false,
            shielded: false,
            exit_timeout: Duration::MAX,
            has_hooks: false,
            #[cfg(feature = "sandbox")]
            sandbox: None,
            value: Some(vec![8; 100]),
        };
        let report = PanicReport::new(
            "message".to_owned(),
            Some("place".to_owned()),
            None,
            Some("backtrace".to_owned()),
        );
        let messages = [
            ChildMessage::Mismatch("another".to_owned()),
            ChildMessage::Panicked { in_run: true, report },
            ChildMessage::Returned(vec![9; 100]),
        ];
        let mut frames = vec![
            wire::encode(&hello, Shape::Own).unwrap().bytes,
            wire::encode(&ParentMessage::Stop, Shape::Own).unwrap().bytes,
        ];
        frames.extend(
            messages.iter().map(|message| wire::encode(message, Shape::Own).unwrap().bytes),
        );
        frames
    }

    /// `OFFSPRING_MUTATIONS` sets how many (default: 50,000).
    #[test]
    fn changed_packets_are_messages_or_errors() {
        let count = std::env::var("OFFSPRING_MUTATIONS")
            .map_or(50_000, |count| count.parse().expect("OFFSPRING_MUTATIONS is a number"));
        let (frames, mut random, mut errors) = (frames(), Random::new(), 0);
        for round in 0..count {
            let mut frame = frames[round % frames.len()].clone();
            random.mutate(&mut frame);
            // Each packet is parsed as each of the three, and is invalid as two of them.
            errors += usize::from(parse::<Hello>(&frame).is_err());
            errors += usize::from(parse::<ChildMessage>(&frame).is_err());
            errors += usize::from(parse::<ParentMessage>(&frame).is_err());
        }
        assert!(errors > count, "{errors}");
    }

    #[test]
    fn packets_of_every_length_are_received_whole_or_refused() {
        let (parent, child) = sys::packet_pair().unwrap();
        for length in [1, 2, 100, PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1, 3 * PACKET_MAX] {
            // A second packet after it shows that only the first is measured.
            let packets = [vec![1; length], vec![2; 10]];
            packets
                .iter()
                .for_each(|packet| sys::send_packet(parent.as_fd(), packet, &[]).unwrap());
            let accept = |length, _: &[u8]| length <= PACKET_MAX;
            match sys::recv_packet(child.as_fd(), None, accept) {
                Ok(packet) => assert!(packet.bytes == packets[0] && length <= PACKET_MAX),
                Err(error) => assert!(length > PACKET_MAX, "{length}: {error:?}"),
            }
            assert_eq!(sys::recv_packet(child.as_fd(), None, accept).unwrap().bytes, packets[1]);
        }
        let nothing = try_recv::<Hello>(child.as_fd()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            send(parent.as_fd(), &ParentMessage::Stop, &[]).unwrap();
        });
        assert!(matches!(recv(child.as_fd()), Ok(Some((ParentMessage::Stop, _)))));
        late.join().unwrap();
        assert!(matches!(recv::<ParentMessage>(child.as_fd()), Ok(None)), "the end");
    }
}
