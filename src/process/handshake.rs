//! What parent and child say to each other before the worker runs.
//!
//! The lifeline is a packet socket that the child gets as stdin and takes away from there at once. The
//! parent's end stays open as long as the parent lives: its end is the child's end. Over it go the
//! token and the fingerprint down, and the name of the child's ipc-channel server up; later the panics of
//! the child, since a panic may be ipc-channel's own. The child is the
//! server, since `IpcOneShotServer::accept` waits without a limit: in the child the lifeline ends it, and
//! the parent waits for lifeline, pidfd and deadline together.

use std::io;
use std::os::fd::BorrowedFd;

use ipc_channel::ipc::{IpcReceiver, IpcSender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::PanicReport;
use crate::process::companion::Belongings;
use crate::process::current::Identity;
use crate::process::directory::Candidates;
use crate::process::entry::Entry;
use crate::process::registry;
use crate::sys;
use crate::wire::{self, Packet};

/// One number for everything that is said here and over sessions.
pub(crate) const WIRE_VERSION: u32 = 1;

/// The longest packet on a lifeline: a panic with its backtrace.
pub(crate) const PACKET_MAX: usize = 32 << 10;

/// Parent to child, first of all. With it come the descriptors that `stdio` names, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) token: [u8; 16],
    pub(crate) image: [u64; 4],
    pub(crate) registry: u64,
    pub(crate) directory: Candidates,
    pub(crate) stdio: [bool; 3],
    /// Which file its stderr is until it has its worker; see `early`.
    pub(crate) early: (u64, u64),
    /// Whether the child keeps what it got through exec.
    pub(crate) keeps_descriptors: bool,
}

impl Hello {
    pub(crate) fn new(
        token: [u8; 16],
        directory: &Candidates,
        stdio: [bool; 3],
        early: (u64, u64),
        keeps_descriptors: bool,
    ) -> io::Result<Hello> {
        Ok(Hello {
            version: WIRE_VERSION,
            token,
            image: sys::image_identity()?,
            registry: registry::fingerprint(),
            directory: directory.clone(),
            stdio,
            early,
            keeps_descriptors,
        })
    }

    /// Whether the process that reads this runs the program that wrote it; if not, what differs.
    pub(crate) fn check(&self) -> Result<(), String> {
        let image = sys::image_identity().map_err(|error| format!("its own image cannot be read: {error}"))?;
        if image == self.image {
            return Ok(());
        }
        // Another file may be a copy of the same program: the length and the workers tell.
        if image[2] != self.image[2] || registry::fingerprint() != self.registry {
            return Err("another executable, or another build, was started".to_owned());
        }
        Ok(())
    }
}

/// Parent to child, over the lifeline, while its worker runs: each at most once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Come to an end.
    Stop,
    /// Live on when the lifeline ends.
    Detach,
}

/// Child to parent, over the lifeline.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Same program; connect to this server.
    Ready(String),
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

/// Parent to child, over the child's server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) token: [u8; 16],
    pub(crate) worker: String,
    pub(crate) identity: Identity,
    pub(crate) entry: Entry,
    /// Holds one message: the worker's value, with what it carries.
    pub(crate) value: ipc_channel::ipc::OpaqueIpcReceiver,
    pub(crate) reports: IpcSender<Report>,
    pub(crate) belongings: Belongings,
}

/// Child to parent, when `run` has ended. One for each process, so that it fits the buffer and sending
/// never blocks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Returned(Packet),
    /// `run` returned what does not encode.
    Unsendable(String),
}

pub(crate) fn reports() -> io::Result<(IpcSender<Report>, IpcReceiver<Report>)> {
    ipc_channel::ipc::channel()
}

pub(crate) fn tell<M: Serialize>(socket: BorrowedFd<'_>, message: &M, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let encoded = wire::encode(message).map_err(io::Error::other)?;
    sys::send_packet(socket, &encoded.bytes, fds)
}

/// `None` is the end of the stream.
pub(crate) fn hear<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<std::os::fd::OwnedFd>)>> {
    let (bytes, fds) = sys::recv_packet(socket, PACKET_MAX)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = wire::decode(&bytes, Vec::new()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, fds)))
}

/// As [`hear`], for what is there already; `None` if nothing is.
pub(crate) fn hear_now<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> Option<M> {
    let bytes = sys::try_recv_packet(socket, PACKET_MAX).ok()?;
    wire::decode(&bytes, Vec::new()).ok()
}
