//! What parent and child say to each other.
//!
//! The lifeline is a packet socket that the child gets as stdin and takes away from there at once. All that a child needs lies
//! in it before the child is up: one packet with plain data, its worker's value if that is short, and descriptors: its stdio,
//! and the end of a channel with a value that is not. So a start is one way there and one back, neither waits for the other without a limit, and there is
//! nothing that a stranger could connect to. Later go over it the panics of the child, since a panic may be
//! ipc-channel's own, and what its worker returned.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc_channel::ipc::{IpcReceiver, OpaqueIpcReceiver};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::PanicReport;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::ipc_fd;
use crate::ipc::wire::{self, EncodedValue, Envelope, Failure};
use crate::process::child::entry::Entry;
use crate::process::current::Identity;
use crate::process::registry;
use crate::sys;

/// One number for everything that is said here and over sessions.
pub(crate) const WIRE_VERSION: u32 = 1;

/// The longest packet on a lifeline: a panic with its backtrace.
pub(crate) const PACKET_MAX: usize = 32 << 10;
/// An output of more bytes goes by a channel: with a handful of panics it fits the lifeline's buffer, which nobody reads before
/// the end.
const OUTPUT_MAX: usize = 16 << 10;

/// Parent to child, first of all. With it come the descriptors that `stdio` names, in this order, then the channel of the
/// worker's value if there is one, and the life of the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// Of the program that must run; `None` if no other was started.
    pub(crate) image: Option<[u64; 4]>,
    pub(crate) registry: u64,
    pub(crate) worker: String,
    pub(crate) identity: Identity,
    pub(crate) entry: Entry,
    pub(crate) stdio: [bool; 3],
    /// Which file its stderr is until it has its worker; see `early`.
    pub(crate) early: (u64, u64),
    /// Whether the child keeps what it got through exec.
    pub(crate) keeps_descriptors: bool,
    /// Whether it outlives its parent: then there is no life.
    pub(crate) detached: bool,
    /// Whether there are belongings in the channel, before the value.
    pub(crate) has_belongings: bool,
    /// The worker's value; `None` if it is in the channel.
    pub(crate) value: Option<Vec<u8>>,
}

impl Hello {
    /// Whether the process that reads this runs the program that wrote it; if not, what differs.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(meant) = self.image else {
            return Ok(());
        };
        let image = sys::image_identity()
            .map_err(|error| format!("its own image cannot be read: {error}"))?;
        if image == meant {
            return Ok(());
        }
        // Another file may be a copy of the same program: the length and the workers tell.
        if image[2] != meant[2] || registry::fingerprint() != self.registry {
            return Err("another executable, or another build, was started".to_owned());
        }
        Ok(())
    }
}

/// Parent to child, over the lifeline: each at most once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The early stderr has something that must be passed on before the child writes to its own.
    Hold,
    /// It is passed on.
    GoOn,
    /// Come to an end.
    Stop,
    /// Live on when the parent ends. With it comes the end of the life whose closing would be the child's death.
    Detach,
}

/// Child to parent, over the lifeline.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Something was written to the early stderr: pass it on, and say when.
    Early,
    /// Not the same program.
    Mismatch(String),
    /// The start failed in the child.
    Failed(String),
    /// The worker's value could not be rebuilt.
    BadValue(String),
    /// `run` begins.
    Started,
    /// At any time, also while `run` runs: at most a handful, which fit the buffer.
    Panicked { in_run: bool, report: PanicReport },
    /// What `run` returned.
    Returned(Vec<u8>),
    /// The same, in the channel whose end comes with this.
    Parcel,
    /// `run` returned what does not encode, or cannot be sent.
    Unsendable(String),
}

impl Answer {
    /// Changes the text of a refusal.
    pub(crate) fn map_message(self, change: impl FnOnce(String) -> String) -> Answer {
        match self {
            Answer::Mismatch(message) => Answer::Mismatch(change(message)),
            Answer::Failed(message) => Answer::Failed(change(message)),
            Answer::BadValue(message) => Answer::BadValue(change(message)),
            answer => answer,
        }
    }
}

/// Sends what `run` returned.
pub(crate) fn tell_output(socket: BorrowedFd<'_>, packet: Envelope) -> io::Result<()> {
    match packet.into_plain(OUTPUT_MAX) {
        Ok(bytes) => tell(socket, &Answer::Returned(bytes), &[]),
        Err(packet) => {
            let (sender, receiver) = ipc_channel::ipc::channel()?;
            wire::send(&sender, packet).map_err(Failure::into_io)?;
            tell(
                socket,
                &Answer::Parcel,
                &[ipc_fd::socket_of(&receiver)?.as_fd()],
            )
        }
    }
}

/// Takes what [`tell_output`] has sent with an [`Answer::Parcel`].
pub(crate) fn open_parcel(fds: Vec<OwnedFd>) -> io::Result<Envelope> {
    let socket = fds
        .into_iter()
        .next()
        .ok_or_else(|| io::Error::other("no descriptor was free for it"))?;
    let receiver: IpcReceiver<Envelope> = ipc_fd::receiver_around(socket)?.to();
    wire::recv(receiver, &Deadline::now()).map_err(WaitEnd::into_io)
}

pub(crate) fn of_bytes(bytes: Vec<u8>) -> io::Result<Envelope> {
    Envelope::new(EncodedValue {
        bytes,
        handles: Vec::new(),
    })
}

pub(crate) fn tell<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let encoded = wire::encode(message).map_err(io::Error::other)?;
    sys::send_packet(socket, &encoded.bytes, fds)
}

/// `None` is the end of the stream.
pub(crate) fn hear<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    understand(sys::recv_packet(socket, PACKET_MAX)?)
}

/// As [`hear`], for what is there already; `WouldBlock` if nothing is.
pub(crate) fn hear_now<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    understand(sys::try_recv_packet(socket, PACKET_MAX)?)
}

fn understand<M: DeserializeOwned>(
    (bytes, fds): (Vec<u8>, Vec<OwnedFd>),
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = wire::decode(&bytes, Vec::new())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, fds)))
}

/// What the parent wants next: it stays there.
pub(crate) fn next_order(socket: BorrowedFd<'_>) -> Option<Order> {
    let bytes = sys::peek_packet::<16>(socket)?;
    wire::decode(&bytes, Vec::new()).ok()
}

/// The end of a channel that came as a descriptor.
pub(crate) fn channel_around(socket: Option<OwnedFd>) -> io::Result<OpaqueIpcReceiver> {
    ipc_fd::receiver_around(
        socket.ok_or_else(|| io::Error::other("no descriptor was free for it"))?,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            early: (6, 7),
            keeps_descriptors: false,
            detached: false,
            has_belongings: false,
            value: Some(vec![8; 100]),
        };
        let report = PanicReport::new(
            "message".to_owned(),
            Some("place".to_owned()),
            None,
            Some("backtrace".to_owned()),
        );
        let answers = [
            Answer::Mismatch("another".to_owned()),
            Answer::Panicked {
                in_run: true,
                report,
            },
            Answer::Returned(vec![9; 100]),
        ];
        let mut frames = vec![
            wire::encode(&hello).unwrap().bytes,
            wire::encode(&Order::Stop).unwrap().bytes,
        ];
        frames.extend(
            answers
                .iter()
                .map(|answer| wire::encode(answer).unwrap().bytes),
        );
        frames
    }

    fn mutate(mut frame: Vec<u8>, random: &mut Random) -> Vec<u8> {
        for _ in 0..=random.below(4) {
            let at = random.below(frame.len().max(1) as u64) as usize;
            match random.below(4) {
                0 => frame.truncate(at),
                1 => frame.splice(at..at, random.bytes(16)).for_each(drop),
                // The longest length that a frame can say.
                2 => frame
                    .splice(
                        at..at,
                        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                    )
                    .for_each(drop),
                _ => frame
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|byte| *byte = random.below(256) as u8),
            }
        }
        frame
    }

    /// `OFFSPRING_MUTATIONS` says how many (default 50,000).
    #[test]
    fn changed_packets_are_messages_or_errors() {
        let count = std::env::var("OFFSPRING_MUTATIONS").map_or(50_000, |count| {
            count.parse().expect("OFFSPRING_MUTATIONS is a number")
        });
        let (frames, mut random, mut errors) = (frames(), Random::new(), 0);
        for round in 0..count {
            let frame = mutate(frames[round % frames.len()].clone(), &mut random);
            // Each as what it is not, too.
            errors += usize::from(understand::<Hello>((frame.clone(), Vec::new())).is_err());
            errors += usize::from(understand::<Answer>((frame.clone(), Vec::new())).is_err());
            errors += usize::from(understand::<Order>((frame, Vec::new())).is_err());
        }
        assert!(errors > count, "{errors}");
    }

    #[test]
    fn packets_of_every_length_are_received_whole_or_refused() {
        let (parent, child) = sys::packet_pair().unwrap();
        for length in [
            1,
            2,
            100,
            PACKET_MAX - 1,
            PACKET_MAX,
            PACKET_MAX + 1,
            3 * PACKET_MAX,
        ] {
            // Two wait, so that the length of all is not the length of one.
            let packets = [vec![1; length], vec![2; 10]];
            packets
                .iter()
                .for_each(|packet| sys::send_packet(parent.as_fd(), packet, &[]).unwrap());
            let first = sys::recv_packet(child.as_fd(), PACKET_MAX);
            match first {
                Ok((bytes, _)) => assert!(bytes == packets[0] && length <= PACKET_MAX, "{length}"),
                Err(error) => assert!(length > PACKET_MAX, "{length}: {error}"),
            }
            assert_eq!(
                sys::try_recv_packet(child.as_fd(), PACKET_MAX).unwrap().0,
                packets[1]
            );
        }
        let nothing = sys::try_recv_packet(child.as_fd(), PACKET_MAX).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            sys::send_packet(parent.as_fd(), b"late", &[]).unwrap();
        });
        assert_eq!(
            sys::recv_packet(child.as_fd(), PACKET_MAX).unwrap().0,
            b"late"
        );
        late.join().unwrap();
        assert!(
            sys::recv_packet(child.as_fd(), PACKET_MAX)
                .unwrap()
                .0
                .is_empty(),
            "the end"
        );
    }
}
