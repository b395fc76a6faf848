//! Packet sockets with descriptors: the control socket between a parent and its child.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair,
};

use super::poll::retry;

/// Returns a connected pair of packet sockets, both close-on-exec.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The most descriptors in one packet.
const PACKET_FDS: usize = 6;

/// Sends one packet with descriptors. Never blocks, because the few packets of a start fit the
/// buffer.
pub(crate) fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one packet"));
    }
    let sent = retry(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
    })?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::other("a packet was truncated")) }
}

/// Receives one packet of at most `limit` bytes. An empty one is the end of the stream.
pub(crate) fn recv_packet(
    socket: BorrowedFd<'_>,
    limit: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    recv_packet_with(socket, limit, RecvFlags::CMSG_CLOEXEC)
}

/// Like [`recv_packet`], but does not wait.
pub(crate) fn try_recv_packet(
    socket: BorrowedFd<'_>,
    limit: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    recv_packet_with(socket, limit, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

fn recv_packet_with(
    socket: BorrowedFd<'_>,
    limit: usize,
    flags: RecvFlags,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    // Nearly all packets are short, and a buffer for the longest would be the most memory that a
    // new process touches.
    let mut waiting = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    if waiting == 0 {
        match retry(|| {
            recv(socket, &mut [0; 0][..], (flags & RecvFlags::DONTWAIT) | RecvFlags::PEEK)
        }) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error),
            _ => waiting = rustix::io::ioctl_fionread(socket).unwrap_or(limit as u64),
        }
    }
    let mut bytes = vec![0; limit.min(waiting as usize) + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut receive =
        || retry(|| recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags));
    let received = match receive() {
        // A reset means that the other end was closed with packets unread. What it sent before can
        // still be read.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive()?,
        received => received?,
    };
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is too long"));
    }
    bytes.truncate(received.bytes);
    Ok((bytes, fds))
}

/// Returns the beginning of the next packet and leaves it in the socket; `None` if there is no
/// packet, or the stream is at its end.
pub(crate) fn peek_packet<const N: usize>(socket: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut bytes = [0; N];
    let (_, count) =
        retry(|| recv(socket, &mut bytes[..], RecvFlags::DONTWAIT | RecvFlags::PEEK)).ok()?;
    (count > 0).then(|| bytes[..count].to_vec())
}

/// Discards the next packet, unless it has descriptors. Returns whether it did.
pub(crate) fn discard_plain_packet(socket: BorrowedFd<'_>) -> bool {
    let look = |flags| {
        let (mut nothing, mut no_space) = ([], RecvAncillaryBuffer::default());
        retry(|| {
            recvmsg(
                socket,
                &mut [IoSliceMut::new(&mut nothing)],
                &mut no_space,
                flags | RecvFlags::DONTWAIT,
            )
        })
    };
    // There is no room for descriptors, so the system reports that they are cut off.
    let is_plain =
        look(RecvFlags::PEEK).is_ok_and(|packet| !packet.flags.contains(ReturnFlags::CTRUNC));
    is_plain && look(RecvFlags::empty()).is_ok()
}

/// Returns the descriptor of the next packet, and leaves it in the socket.
pub(crate) fn peek_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut bytes = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::PEEK | RecvFlags::DONTWAIT;
    retry(|| recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags))?;
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
    descriptor.ok_or_else(|| io::Error::other("this process has no free descriptor for it"))
}
