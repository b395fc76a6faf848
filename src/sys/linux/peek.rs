//! Peeks at the next packet of a socket, whose options another process may change.
//!
//! A process that sends the receiving end of a channel keeps a descriptor of the same socket, and
//! can set any option of it at any time. Some options add data to each packet (`SO_PASSCRED`,
//! `SO_PASSSEC`, `SO_PASSPIDFD`); one lets peeks skip the first packets (`SO_PEEK_OFF`).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// The most descriptors that the system sends with one packet (`SCM_MAX_FD`).
const FDS_MAX: usize = 253;
/// Room for that many, and for some added data: words, aligned as a header has to be.
const CONTROL: usize = FDS_MAX / 2 + 64;
/// A descriptor of the packet's sender, which the system adds after the sender's own descriptors.
const SCM_PIDFD: libc::c_int = 4;

/// The next packet.
pub(super) struct PeekedPacket {
    pub(super) length: usize,
    pub(super) fds: Vec<OwnedFd>,
    /// Some of its descriptors found no room.
    pub(super) is_cut: bool,
}

/// Returns the length of the next packet and its descriptors, writes its first bytes to `begin`, and
/// leaves it in the socket. If there is none, waits for it, or returns the error `AGAIN`.
pub(super) fn peek_with_descriptors(
    socket: BorrowedFd<'_>,
    begin: &mut [u8],
    waits: bool,
) -> Result<PeekedPacket, Errno> {
    let mut control = [MaybeUninit::<u64>::uninit(); CONTROL];
    let mut part = libc::iovec { iov_base: begin.as_mut_ptr().cast(), iov_len: begin.len() };
    // SAFETY: a plain struct, for which zeroes are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let waits = if waits { 0 } else { libc::MSG_DONTWAIT };
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC | waits;
    // SAFETY: the message names `begin` and `control` with their lengths, which outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let Ok(length) = usize::try_from(length) else {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    };
    let mut fds = Vec::new();
    // SAFETY: the system has filled `control` as far as `message` says.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a whole header in `control`, which is aligned for one.
        let libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type, .. } = unsafe { *header };
        // SAFETY: computes lengths and an address only.
        let (begin, empty) = unsafe { (libc::CMSG_DATA(header), libc::CMSG_LEN(0)) };
        let has_fds = cmsg_type == libc::SCM_RIGHTS || cmsg_type == SCM_PIDFD;
        if cmsg_level == libc::SOL_SOCKET && has_fds {
            // With some C libraries it is a shorter number.
            #[allow(clippy::unnecessary_cast)]
            let length = cmsg_len as usize;
            let count = length.saturating_sub(empty as usize) / size_of::<RawFd>();
            for index in 0..count {
                // SAFETY: the system has written `count` numbers there.
                let number = unsafe { begin.cast::<RawFd>().add(index).read_unaligned() };
                // In place of a pidfd there may be an error.
                if number < 0 {
                    continue;
                }
                // SAFETY: the system has just opened it for this process, which owns it.
                let fd = unsafe { OwnedFd::from_raw_fd(number) };
                // A descriptor that an option added is closed.
                if cmsg_type == libc::SCM_RIGHTS {
                    fds.push(fd);
                }
            }
        }
        // SAFETY: `header` is one of this message's.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(PeekedPacket { length, fds, is_cut: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Has peeks begin with the first packet, whatever another process has set.
pub(crate) fn clear_peek_offset(socket: BorrowedFd<'_>) {
    let offset: libc::c_int = -1;
    // SAFETY: reads a number of the length that is given.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            size_of_val(&offset) as libc::socklen_t,
        )
    };
}

/// Sets an option of a socket, as a process that keeps to no rule does. A system that does not know
/// it returns an error.
#[cfg(test)]
pub(crate) fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) {
    let length = size_of_val(&value) as libc::socklen_t;
    let (socket, value) = (socket.as_raw_fd(), (&raw const value).cast());
    // SAFETY: reads a number of the length that is given.
    unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, value, length) };
}

#[cfg(test)]
pub(crate) const SO_PASSPIDFD: libc::c_int = 76;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::{packet_pair, recv_packet, send_packet};

    /// The descriptors of this process that are pidfds.
    fn pidfds() -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
    }

    #[test]
    fn what_nobody_asked_for_is_closed() {
        let (near, far) = packet_pair().unwrap();
        for option in [libc::SO_PASSCRED, libc::SO_PASSSEC, SO_PASSPIDFD] {
            set_option(near.as_fd(), option, 1);
        }
        let before = pidfds();
        for count in [0, 1, 64].into_iter().cycle().take(60) {
            send_packet(far.as_fd(), b"packet", &vec![far.as_fd(); count]).unwrap();
            let packet = recv_packet(near.as_fd(), Some(Instant::now()), |_, _| true).unwrap();
            assert_eq!((&packet.bytes[..], packet.fds.len()), (&b"packet"[..], count));
        }
        // Other tests of this process hold some for a moment.
        assert!(pidfds() < before + 30, "descriptors that nobody asked for stay open");
    }

    #[test]
    fn a_packet_is_received_though_peeks_should_skip_it() {
        let (near, far) = packet_pair().unwrap();
        send_packet(far.as_fd(), b"packet", &[]).unwrap();
        set_option(near.as_fd(), libc::SO_PEEK_OFF, 1000);
        let limit = Instant::now() + Duration::from_secs(20);
        let packet = recv_packet(near.as_fd(), Some(limit), |_, _| true).unwrap();
        assert_eq!(packet.bytes, b"packet");
    }
}
