//! What parent and child say to each other.
//!
//! The lifeline is a packet socket that the child gets as stdin and takes away from there at once. All that a child needs lies
//! in it before the child is up: one packet with plain data, its worker's value if that is short, and descriptors: its stdio,
//! and the end of a channel with a value that is not. So a start is one way there and one back, neither waits for the other without a limit, and there is
//! nothing that a stranger could connect to. Later go over it the panics of the child, since a panic may be
//! ipc-channel's own, and what its worker returned.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use ipc_channel::ipc::{IpcReceiver, OpaqueIpcReceiver};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::descriptor;
use crate::error::PanicReport;
use crate::process::current::Identity;
use crate::process::entry::Entry;
use crate::process::registry;
use crate::sys;
use crate::wire::{self, Encoded, Failure, Packet};

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
        let Some(meant) = self.image else { return Ok(()) };
        let image = sys::image_identity().map_err(|error| format!("its own image cannot be read: {error}"))?;
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
pub(crate) fn tell_output(socket: BorrowedFd<'_>, packet: Packet) -> io::Result<()> {
    match packet.into_plain(OUTPUT_MAX) {
        Ok(bytes) => tell(socket, &Answer::Returned(bytes), &[]),
        Err(packet) => {
            let (sender, receiver) = ipc_channel::ipc::channel()?;
            match wire::send(&sender, packet) {
                Ok(()) => {}
                Err(Failure::Io(error)) => return Err(error),
                Err(other) => return Err(io::Error::other(format!("{other:?}"))),
            }
            tell(socket, &Answer::Parcel, &[descriptor::socket_of(&receiver)?.as_fd()])
        }
    }
}

/// Takes what [`tell_output`] has sent with an [`Answer::Parcel`].
pub(crate) fn open_parcel(fds: Vec<OwnedFd>) -> io::Result<Packet> {
    let socket = fds
        .into_iter()
        .next()
        .ok_or_else(|| io::Error::other("no descriptor was free for it"))?;
    let receiver: IpcReceiver<Packet> = descriptor::receiver_around(socket)?.to();
    wire::recv(receiver, Some(Instant::now())).map_err(|failure| match failure {
        Failure::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })
}

pub(crate) fn of_bytes(bytes: Vec<u8>) -> io::Result<Packet> {
    Packet::new(Encoded {
        bytes,
        handles: Vec::new(),
    })
}

pub(crate) fn tell<M: Serialize>(socket: BorrowedFd<'_>, message: &M, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let encoded = wire::encode(message).map_err(io::Error::other)?;
    sys::send_packet(socket, &encoded.bytes, fds)
}

/// `None` is the end of the stream.
pub(crate) fn hear<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    understand(sys::recv_packet(socket, PACKET_MAX)?)
}

/// As [`hear`], for what is there already; `WouldBlock` if nothing is.
pub(crate) fn hear_now<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    understand(sys::try_recv_packet(socket, PACKET_MAX)?)
}

fn understand<M: DeserializeOwned>((bytes, fds): (Vec<u8>, Vec<OwnedFd>)) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = wire::decode(&bytes, Vec::new()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, fds)))
}

/// What the parent wants next: it stays there.
pub(crate) fn next_order(socket: BorrowedFd<'_>) -> Option<Order> {
    let bytes = sys::peek_packet::<16>(socket)?;
    wire::decode(&bytes, Vec::new()).ok()
}

/// The end of a channel that came as a descriptor.
pub(crate) fn channel_around(socket: Option<OwnedFd>) -> io::Result<OpaqueIpcReceiver> {
    descriptor::receiver_around(socket.ok_or_else(|| io::Error::other("no descriptor was free for it"))?)
}
