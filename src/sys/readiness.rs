//! Which of many sockets has something to read (epoll).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{RecvFlags, SocketType, recv, sockopt};

use crate::sys::retry;

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
        Ok(epoll::add(&self.0, borrow(socket), EventData::new_u64(key), EventFlags::ONESHOT)?)
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
    let peeked = retry(|| recv(borrow(socket), &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::PEEK));
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Whether this is the number of a packet socket.
pub(crate) fn is_packet_socket(socket: RawFd) -> bool {
    socket >= 0 && sockopt::socket_type(borrow(socket)).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

fn borrow<'a>(socket: RawFd) -> BorrowedFd<'a> {
    // SAFETY: not -1: it was taken from an open receiver. That receiver lives, as its line closes the watch
    // before it; and the calls above neither close nor keep it.
    unsafe { BorrowedFd::borrow_raw(socket) }
}
