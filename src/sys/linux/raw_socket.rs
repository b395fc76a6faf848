//! Sockets of ipc-channel, known by their numbers: peeking at the next packet.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType, recv, recvmsg,
    sockopt,
};

use super::descriptors::replace;
use super::poll::{is_ready, poll_until, retry};

/// A packet socket, known by its number. Its owner, a receiver of ipc-channel, keeps it open for as
/// long as this is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawSocket(RawFd);

impl RawSocket {
    /// Returns the socket with this number; `None` if it is no packet socket.
    pub(crate) fn new(number: RawFd) -> Option<RawSocket> {
        let socket = RawSocket(number);
        let is_packets = number >= 0
            && sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::SEQPACKET);
        is_packets.then_some(socket)
    }

    /// Returns a second descriptor for it.
    pub(crate) fn duplicate(self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self, 3)?)
    }

    /// Makes its number a descriptor for `ours`, another packet socket, which the owner then uses.
    /// The owner must not have used its own socket yet.
    pub(crate) fn replace_with(self, ours: BorrowedFd<'_>) -> io::Result<()> {
        replace(self.0, ours)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: not -1, checked by `new`. The receiver that owns the socket outlives every use of
        // its number: a `SharedReceiver` closes its wakers first, the hub removes a client's socket
        // from its poller before it drops the receiver, and a `CheckedReceiver` owns the receiver.
        // No call here closes or keeps the descriptor.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Returns whether a packet can be read now, or the end.
pub(crate) fn has_packet(socket: RawSocket) -> bool {
    let mut byte = [0];
    let peeked =
        retry(|| recv(socket.as_fd(), &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::PEEK));
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// What is next in a packet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextPacket {
    /// The length of a packet, its first two words (if it has them), and what happens to its
    /// descriptors.
    Packet(usize, [usize; 2], Descriptors),
    /// The other end is closed, and everything was read.
    End,
    /// No packet came before the deadline.
    Nothing,
}

/// What happens to the descriptors of a packet when ipc-channel receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptors {
    /// It receives all of them.
    Fit,
    /// This process has no room for some of them.
    Starved,
    /// There are more than ipc-channel sends or receives.
    TooMany,
}

/// Waits for the next packet, until `deadline` if there is one, and leaves it in the socket.
pub(crate) fn next_packet(socket: RawSocket, deadline: Option<Instant>) -> io::Result<NextPacket> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    loop {
        let mut words = [0usize; 2];
        // Without a deadline, the call itself waits.
        let look = if deadline.is_some() { flags | RecvFlags::DONTWAIT } else { flags };
        let mut bytes = [IoSliceMut::new(bytemuck::bytes_of_mut(&mut words))];
        match recvmsg(socket.as_fd(), &mut bytes, &mut RecvAncillaryBuffer::default(), look) {
            Ok(packet) if packet.bytes == 0 && is_at_end(socket)? => return Ok(NextPacket::End),
            Ok(packet) => {
                // There is no room for descriptors, so the system reports that they are cut off.
                let has_descriptors = packet.flags.contains(ReturnFlags::CTRUNC);
                let descriptors =
                    if has_descriptors { try_descriptors(socket) } else { Descriptors::Fit };
                return Ok(NextPacket::Packet(packet.bytes, words, descriptors));
            }
            Err(Errno::AGAIN) => {
                let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
                if over || !poll_until(&mut [PollFd::new(&socket, PollFlags::IN)], deadline)? {
                    return Ok(NextPacket::Nothing);
                }
            }
            // A reset means that the other end was closed with packets unread. What it sent before
            // can still be read.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Distinguishes the end from an empty packet, since both read 0 bytes.
fn is_at_end(socket: RawSocket) -> io::Result<bool> {
    is_ready(&mut [PollFd::new(&socket, PollFlags::RDHUP)])
}

/// The most descriptors that ipc-channel sends with one packet.
const IPC_CHANNEL_DESCRIPTORS_MAX: usize = 64;
/// The most descriptors that the system sends with one packet (`SCM_MAX_FD`).
const PACKET_DESCRIPTORS_MAX: usize = 253;

/// Finds out what happens to the descriptors of the next packet: peeks, which installs and then
/// closes copies of them.
fn try_descriptors(socket: RawSocket) -> Descriptors {
    let mut nothing = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = retry(|| {
        recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut nothing)], &mut ancillary, flags)
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
        // Any other error is found when the packet is received.
        _ => Descriptors::Fit,
    }
}

/// Discards the next packet.
pub(crate) fn discard_packet(socket: RawSocket) {
    // There is no room for its descriptors, so the system closes them.
    let _ = retry(|| recv(socket.as_fd(), &mut [0u8; 1][..], RecvFlags::DONTWAIT));
}
