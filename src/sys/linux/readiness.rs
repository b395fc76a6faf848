//! Sockets that belong to receivers which do not lend them out: what lies in them, and which of many has something (epoll).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType, recv, recvmsg,
    sockopt,
};

use super::system::{is_ready, poll_until, retry};

/// Tells once for each [`arm`](Readiness::arm) that a socket has something to read, or is at its end.
///
/// Sockets are numbers here, since they belong to receivers that do not lend them out.
#[derive(Debug)]
pub(crate) struct Readiness(OwnedFd);

impl Readiness {
    pub(crate) fn new() -> io::Result<Readiness> {
        Ok(Readiness(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Takes a socket in, not armed. Its owner lets it be forgotten before he closes it.
    pub(crate) fn add(&self, socket: RawFd, key: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            borrow(socket),
            EventData::new_u64(key),
            EventFlags::ONESHOT,
        )?)
    }

    /// Tells when there is something to read; at once, if there is.
    pub(crate) fn arm(&self, socket: RawFd, key: u64) {
        // It fails only for a socket that is not there.
        let _ = epoll::modify(
            &self.0,
            borrow(socket),
            EventData::new_u64(key),
            EventFlags::IN | EventFlags::ONESHOT,
        );
    }

    pub(crate) fn forget(&self, socket: RawFd) {
        // As above.
        let _ = epoll::delete(&self.0, borrow(socket));
    }

    /// Sleeps until some are told.
    pub(crate) fn wait(&self) -> Vec<u64> {
        let mut events = Vec::with_capacity(64);
        match retry(|| epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), None)) {
            Ok(_) => events.iter().map(|event| event.data.u64()).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// Whether a packet, or the end, can be read there now.
pub(crate) fn has_packet(socket: RawFd) -> bool {
    let mut byte = [0];
    let peeked = retry(|| {
        recv(
            borrow(socket),
            &mut byte[..],
            RecvFlags::DONTWAIT | RecvFlags::PEEK,
        )
    });
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// What comes next on a packet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A packet of so many bytes, its first two words, if it has them, and what comes of its descriptors.
    Packet(usize, [usize; 2], Descriptors),
    /// The other end is closed, and all that was said is read.
    End,
    /// Nothing before the deadline.
    Nothing,
}

/// What comes of the descriptors of a packet when ipc-channel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptors {
    /// It gets all of them.
    Fit,
    /// This process has no room for some.
    Starved,
    /// They are more than ipc-channel sends or takes.
    TooMany,
}

/// Waits for the next packet, which stays there; until `deadline` if there is one.
pub(crate) fn next_packet(socket: RawFd, deadline: Option<Instant>) -> io::Result<Next> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    loop {
        let mut words = [0usize; 2];
        // Without a deadline the look itself waits.
        let look = if deadline.is_some() {
            flags | RecvFlags::DONTWAIT
        } else {
            flags
        };
        let mut bytes = [IoSliceMut::new(bytemuck::bytes_of_mut(&mut words))];
        match recvmsg(
            borrow(socket),
            &mut bytes,
            &mut RecvAncillaryBuffer::default(),
            look,
        ) {
            Ok(packet) if packet.bytes == 0 && is_at_end(socket)? => return Ok(Next::End),
            Ok(packet) => {
                // Without room for them, the system says that they are cut off.
                let has_descriptors = packet.flags.contains(ReturnFlags::CTRUNC);
                let descriptors = if has_descriptors {
                    try_descriptors(socket)
                } else {
                    Descriptors::Fit
                };
                return Ok(Next::Packet(packet.bytes, words, descriptors));
            }
            Err(Errno::AGAIN) => {
                let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
                if over
                    || !poll_until(
                        &mut [PollFd::from_borrowed_fd(borrow(socket), PollFlags::IN)],
                        deadline,
                    )?
                {
                    return Ok(Next::Nothing);
                }
            }
            // The other side is gone and has not read all that was said to it. What it said before is still here.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells the end from an empty packet, which read alike.
fn is_at_end(socket: RawFd) -> io::Result<bool> {
    is_ready(&mut [PollFd::from_borrowed_fd(borrow(socket), PollFlags::RDHUP)])
}

/// ipc-channel sends no more with one packet.
const IPC_CHANNEL_DESCRIPTORS_MAX: usize = 64;
/// The system sends no more with one packet (`SCM_MAX_FD`).
const PACKET_DESCRIPTORS_MAX: usize = 253;

/// Takes the descriptors of the next packet for a moment; it stays there, and they with it.
fn try_descriptors(socket: RawFd) -> Descriptors {
    let mut nothing = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = retry(|| {
        recvmsg(
            borrow(socket),
            &mut [IoSliceMut::new(&mut nothing)],
            &mut ancillary,
            flags,
        )
    });
    let taken = ancillary.drain().map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.count(),
        _ => 0,
    });
    if taken.sum::<usize>() > IPC_CHANNEL_DESCRIPTORS_MAX {
        return Descriptors::TooMany;
    }
    match peeked {
        Ok(packet) if packet.flags.contains(ReturnFlags::CTRUNC) => Descriptors::Starved,
        // What else is wrong with it is found when it is read.
        _ => Descriptors::Fit,
    }
}

/// Takes the next packet away, unread.
pub(crate) fn discard_packet(socket: RawFd) {
    // Descriptors that come with it are closed by the system, since no room is given for them.
    let _ = retry(|| recv(borrow(socket), &mut [0u8; 1][..], RecvFlags::DONTWAIT));
}

/// Whether this is the number of a packet socket.
pub(crate) fn is_packet_socket(socket: RawFd) -> bool {
    socket >= 0
        && sockopt::socket_type(borrow(socket)).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

pub(in crate::sys) fn borrow<'a>(socket: RawFd) -> BorrowedFd<'a> {
    // SAFETY: not -1: it was taken from an open receiver. That receiver lives: its line closes the watch before it, the hub
    // forgets it before it drops it, an inlet looks for it while it has it; and no call here closes or keeps it.
    unsafe { BorrowedFd::borrow_raw(socket) }
}
