//! Reading and writing pipes and streams with calls that do not block.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use super::poll::{poll_until, retry};

/// Makes [`read_some`] return at once. Affects this end only, not the writers.
pub(crate) fn set_nonblocking(pipe: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(pipe)?;
    Ok(rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}

/// Reads what has arrived: 0 bytes at the end, `WouldBlock` if nothing has arrived.
pub(crate) fn read_some(pipe: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    retry(|| rustix::io::read(pipe, &mut bytes[..]))
}

/// Like [`read_some`], for an end whose flags must not change, and whose only reader is this
/// process.
pub(crate) fn read_ready(pipe: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    if poll_until(&mut [PollFd::from_borrowed_fd(pipe, PollFlags::IN)], Some(Instant::now()))? {
        read_some(pipe, bytes)
    } else {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Returns whether a pipe holds unread bytes; accepts either end.
pub(crate) fn has_unread(pipe: BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|count| count > 0)
}

/// The most bytes that the system writes into a pipe at once or not at all.
pub(crate) const PIPE_ATOMIC: usize = 4096;

/// Writes at most [`PIPE_ATOMIC`] bytes if that does not block; otherwise returns `None`.
pub(crate) fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Option<usize>> {
    if !wait_writable(fd, Instant::now()) {
        return Ok(None);
    }
    match retry(|| rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_ATOMIC)])) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}

/// Waits until a write would not block. Returns whether that happened before the deadline.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    poll_until(&mut [IoInterest::Write(fd).poll()], Some(deadline)).unwrap_or(true)
}

/// Waits for `interest`, without a deadline.
pub(crate) fn wait_for(interest: IoInterest<'_>) {
    // An error will be reported by the call that follows this wait.
    let _ = retry(|| poll(&mut [interest.poll()], None));
}

/// A descriptor, and what to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IoInterest<'a> {
    Read(BorrowedFd<'a>),
    Write(BorrowedFd<'a>),
}

impl<'a> IoInterest<'a> {
    pub(in crate::sys) fn poll(self) -> PollFd<'a> {
        match self {
            IoInterest::Read(fd) => PollFd::from_borrowed_fd(fd, PollFlags::IN),
            IoInterest::Write(fd) => PollFd::from_borrowed_fd(fd, PollFlags::OUT),
        }
    }
}

/// Returns the identity of the file behind stderr; `None` if it is closed.
pub(crate) fn stderr_identity() -> Option<(u64, u64)> {
    file_identity(rustix::stdio::stderr()).ok()
}

/// Returns whether stderr is a pipe with unread bytes.
pub(crate) fn stderr_has_unread() -> bool {
    has_unread(rustix::stdio::stderr())
}

pub(crate) fn file_identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}
