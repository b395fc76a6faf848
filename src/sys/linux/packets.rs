//! Packet sockets. A packet is sent without waiting, and received whole, with its descriptors.
//!
//! The channels of ipc-channel are such sockets, and so is the control socket between a parent and
//! its child.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recv, recvmsg, sendmsg,
    shutdown, socketpair,
};

use super::peek::{clear_peek_offset, peek_with_descriptors};
use super::poll::{is_ready, poll_until, retry};
use super::stdio::above_stdio;

/// Closes the connection of a socket, whoever else has a descriptor of it. The other end can still
/// read what was sent.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) {
    // It fails only if the other end is closed.
    let _ = shutdown(socket, Shutdown::Both);
}

/// Returns a connected pair of packet sockets, both close-on-exec and [above](above_stdio) stdio.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    let (one, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    Ok((above_stdio(one)?, above_stdio(other)?))
}

/// The most descriptors that one packet may carry: as many as ipc-channel sends.
pub(crate) const PACKET_FDS: usize = 64;

/// Sends one packet with descriptors, whole or not at all. Never blocks: if the socket's buffer has
/// no room for it, the error is `WouldBlock`.
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
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT | SendFlags::EOR,
        )
    })?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::other("a packet was truncated")) }
}

/// One packet.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why no packet was received.
#[derive(Debug)]
pub(crate) enum RecvEnd {
    /// No packet came before the deadline.
    Timeout,
    /// The other end is closed, and everything was read.
    Gone,
    /// This process has no room for the descriptors of the next packet, which stays in the socket.
    Starved,
    /// The packet was not acceptable, and was discarded.
    Refused,
    Io(io::Error),
}

impl From<Errno> for RecvEnd {
    fn from(error: Errno) -> RecvEnd {
        RecvEnd::Io(error.into())
    }
}

/// Packets of up to this many bytes are seen whole before they are taken.
const SHORT: usize = 256;
/// Receives one packet; waits for it until `deadline` if there is one. `accept` is called with the
/// packet's length and its first bytes.
///
/// This function takes a packet in two system calls. The first peeks at the packet and obtains its
/// descriptors; if they do not fit, the packet stays in the socket. The second takes the bytes, and
/// does not wait. Another process or thread that shares the socket may take the packet in between,
/// or put another in its place. In that case, this function closes the descriptors, and keeps
/// waiting or refuses the other packet.
pub(crate) fn recv_packet(
    socket: BorrowedFd<'_>,
    deadline: Option<Instant>,
    accept: impl Fn(usize, &[u8]) -> bool,
) -> Result<Packet, RecvEnd> {
    let mut begin = [0; SHORT];
    loop {
        let (length, fds, starved) = look(socket, &mut begin, deadline)?;
        let seen = &begin[..length.min(SHORT)];
        if fds.len() > PACKET_FDS || !accept(length, seen) {
            take(socket, &mut [0; 1])?;
            return Err(RecvEnd::Refused);
        }
        if starved {
            return Err(RecvEnd::Starved);
        }
        let mut bytes = vec![0; length];
        match take(socket, &mut bytes)? {
            None => {}
            Some(taken) if taken == length && bytes.starts_with(seen) => {
                return Ok(Packet { bytes, fds });
            }
            Some(_) => return Err(RecvEnd::Refused),
        }
    }
}

/// Waits for a packet, and leaves it in the socket. Returns its length, its descriptors, and
/// whether some of them did not fit. Copies its first bytes into `begin`.
fn look(
    socket: BorrowedFd<'_>,
    begin: &mut [u8],
    deadline: Option<Instant>,
) -> Result<(usize, Vec<OwnedFd>, bool), RecvEnd> {
    // Without a deadline, the call itself waits.
    let waits = deadline.is_none();
    let mut was_ready = false;
    loop {
        match peek_with_descriptors(socket, begin, waits) {
            Ok(packet) => {
                // An empty packet looks like the end of the stream.
                let is_end = packet.length == 0
                    && is_ready(&mut [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)])
                        .map_err(RecvEnd::Io)?;
                return if is_end {
                    Err(RecvEnd::Gone)
                } else {
                    Ok((packet.length, packet.fds, packet.is_cut))
                };
            }
            Err(Errno::AGAIN) => {
                if was_ready {
                    clear_peek_offset(socket);
                }
                let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
                let readable = &mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
                if is_over || !poll_until(readable, deadline).map_err(RecvEnd::Io)? {
                    return Err(RecvEnd::Timeout);
                }
                was_ready = true;
            }
            // A reset means that the other end was closed before it had read everything. What it
            // sent before can still be read.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the bytes of the next packet and returns its length, or `None` if the socket is empty. The
/// packet's descriptors are closed.
fn take(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<Option<usize>, RecvEnd> {
    loop {
        match recv(socket, &mut *bytes, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, length)) => return Ok(Some(length)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the beginning of the next packet and leaves it in the socket; `None` if there is no
/// packet, or the stream is at its end.
pub(crate) fn peek_packet<const N: usize>(socket: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut bytes = [0; N];
    let (_, count) =
        retry(|| recv(socket, &mut bytes[..], RecvFlags::DONTWAIT | RecvFlags::PEEK)).ok()?;
    (count > 0).then(|| bytes[..count].to_vec())
}

/// Discards the next packet, if there is one.
pub(crate) fn discard_packet(socket: BorrowedFd<'_>) -> io::Result<()> {
    let flags = RecvFlags::DONTWAIT;
    // This call offers no room for descriptors, so the system closes them.
    retry(|| recv(socket, &mut [0u8; 1][..], flags)).map(drop)
}

/// Discards the next packet, unless it has descriptors. Returns whether it discarded one.
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
    // This call offers no room for descriptors. If the packet has some, the system reports that
    // they were cut off.
    let is_plain =
        look(RecvFlags::PEEK).is_ok_and(|packet| !packet.flags.contains(ReturnFlags::CTRUNC));
    is_plain && look(RecvFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    /// Receives a packet while another holder of the socket runs the closure between the peek and
    /// the taking.
    fn meet(
        deadline: Option<Instant>,
        sent: &[u8],
        between: impl Fn(&OwnedFd, &OwnedFd),
    ) -> Result<Packet, RecvEnd> {
        let (near, far) = packet_pair().unwrap();
        send_packet(far.as_fd(), sent, &[far.as_fd()]).unwrap();
        let is_first = std::cell::Cell::new(true);
        recv_packet(near.as_fd(), deadline, |_, _| {
            if is_first.replace(false) {
                between(&near, &far);
            }
            true
        })
    }

    #[test]
    fn who_steals_a_packet_while_it_is_looked_at_keeps_nobody_waiting() {
        let steals = |near: &OwnedFd, _: &OwnedFd| discard_packet(near.as_fd()).unwrap();
        for sent in [&[1; 20][..], &[1; 1000]] {
            let stolen = meet(Some(Instant::now()), sent, steals);
            assert!(matches!(stolen, Err(RecvEnd::Timeout)), "{stolen:?}");
            let later = Instant::now() + Duration::from_millis(20);
            let stolen = meet(Some(later), sent, steals);
            assert!(matches!(stolen, Err(RecvEnd::Timeout)), "{stolen:?}");
            assert!(Instant::now() >= later);
        }
    }

    #[test]
    fn who_replaces_a_packet_while_it_is_looked_at_has_the_other_refused() {
        for (sent, other) in [
            (&[1; 20][..], &[2; 20][..]),
            (&[1; 20], &[1; 19]),
            (&[1; 20], &[1; 1000]),
            (&[1; 1000], &[1; 20]),
            (&[1; 1000], &[2; 1000]),
            (&[1; 1000], &[1; 1001]),
            (&[1; 1000], &[]),
        ] {
            let replaces = |near: &OwnedFd, far: &OwnedFd| {
                discard_packet(near.as_fd()).unwrap();
                send_packet(far.as_fd(), other, &[]).unwrap();
            };
            let replaced = meet(Some(Instant::now()), sent, replaces);
            assert!(matches!(replaced, Err(RecvEnd::Refused)), "{replaced:?}");
        }
    }

    #[test]
    fn a_packet_is_received_whole_with_its_descriptors() {
        for length in [1, SHORT - 1, SHORT, SHORT + 1, 100_000] {
            let packet = meet(None, &vec![7; length], |_, _| {}).unwrap();
            assert!(packet.bytes == vec![7; length] && packet.fds.len() == 1);
        }
    }
}
