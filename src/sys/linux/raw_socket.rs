//! Sockets of ipc-channel, known by their numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, RecvFlags, SocketType, recv, sockopt};

use super::descriptors::replace;
use super::poll::retry;

/// A packet socket, known by its number. Its owner keeps it open for as long as this is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawSocket(RawFd);

impl RawSocket {
    /// Returns the socket with this number; `None` if it is not a local packet socket. Other
    /// families have packet sockets too, on which calls may fail for ever, or block.
    pub(crate) fn new(number: RawFd) -> Option<RawSocket> {
        let socket = RawSocket(number);
        let is_packets = number >= 0
            && sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::SEQPACKET)
            && sockopt::socket_domain(socket).is_ok_and(|family| family == AddressFamily::UNIX);
        is_packets.then_some(socket)
    }

    /// Returns the number of a descriptor. An error if it is not a packet socket.
    pub(crate) fn of(descriptor: &OwnedFd) -> io::Result<RawSocket> {
        RawSocket::new(descriptor.as_raw_fd()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the end of a channel is another file")
        })
    }

    /// Returns a second descriptor for it.
    pub(crate) fn duplicate(self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self, 3)?)
    }

    /// Makes its number a descriptor for `ours`, another packet socket, which the owner uses from
    /// then on. The owner must not have used its own socket yet.
    pub(crate) fn replace_with(self, ours: BorrowedFd<'_>) -> io::Result<()> {
        replace(self.0, ours)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: not -1, checked by `new`. The end that owns the socket outlives every use of its
        // number: a `SharedReceiver` closes its wakers first, the hub removes a client's socket from
        // its poller before it drops the receiver, and the ends of `wire` keep their owner. No call
        // here closes or keeps the descriptor.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Returns a descriptor that `owner` keeps open.
pub(crate) fn borrow_from<O: ?Sized>(_owner: &O, number: RawFd) -> BorrowedFd<'_> {
    assert!(number >= 0, "it is open");
    // SAFETY: not -1, and the caller vouches that `owner` closes it only when `owner` is dropped.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Returns whether there is a packet to read now, or the socket is at its end.
pub(crate) fn has_packet(socket: RawSocket) -> bool {
    let mut byte = [0];
    let peeked =
        retry(|| recv(socket.as_fd(), &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::PEEK));
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use rustix::net::{SocketFlags, socket_with};

    use super::*;

    #[test]
    fn a_packet_socket_of_another_family_is_refused() {
        let socket =
            |family| socket_with(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        RawSocket::of(&socket(AddressFamily::UNIX).unwrap()).unwrap();
        // A system has one of them at least, in general.
        let others = [
            AddressFamily::from_raw(libc::AF_ALG as u16),
            AddressFamily::VSOCK,
            AddressFamily::BLUETOOTH,
        ];
        let others = others.into_iter().filter_map(|family| socket(family).ok());
        assert_eq!(others.filter(|other| RawSocket::of(other).is_ok()).count(), 0);
    }
}
