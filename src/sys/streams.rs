//! Pipes that are read without waiting in the read itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;

use super::linux::{Pidfd, poll_until, retry};

/// From now on [`read_some`] does not wait. Holds for this end only, not for whoever writes.
pub(crate) fn set_nonblocking(pipe: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(pipe)?;
    Ok(rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}

/// What is there to read: 0 at the end, `WouldBlock` if nothing is there.
pub(crate) fn read_some(pipe: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    retry(|| rustix::io::read(pipe, &mut bytes[..]))
}

/// As [`read_some`], for an end that somebody else may want to wait on, and of which we are the only reader.
pub(crate) fn read_ready(pipe: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    if poll_until(&mut [PollFd::from_borrowed_fd(pipe, PollFlags::IN)], Some(Instant::now()))? {
        read_some(pipe, bytes)
    } else {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Pidfd {
    /// Waits until there is something to read on one of `pipes`, or the process ends. Whether it ended: `None`
    /// at the deadline.
    pub(crate) fn wait_or_any(&self, pipes: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Option<bool>> {
        let mut fds = vec![PollFd::new(self, PollFlags::IN)];
        fds.extend(pipes.iter().map(|pipe| PollFd::from_borrowed_fd(*pipe, PollFlags::IN)));
        let some = poll_until(&mut fds, deadline)?;
        Ok(some.then(|| !fds[0].revents().is_empty()))
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
