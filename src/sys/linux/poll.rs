//! Waiting on descriptors.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(in crate::sys) fn retry<R>(mut call: impl FnMut() -> rustix::io::Result<R>) -> io::Result<R> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Waits for events. Returns whether any came before the deadline.
pub(in crate::sys) fn poll_until(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    retry(|| {
        let timeout = deadline.map(time_left);
        poll(fds, timeout.as_ref())
    })
    .map(|ready| ready > 0)
}

/// Returns whether there is an event now.
pub(in crate::sys) fn is_ready(fds: &mut [PollFd<'_>]) -> io::Result<bool> {
    // A zero timeout, not `poll_until`: reading the clock in a new process would fault in pages
    // that nothing has touched yet.
    retry(|| poll(fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))).map(|ready| ready > 0)
}

pub(in crate::sys) fn time_left(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// Waits until most of a socket's buffer is free, or its other end is closed. Returns whether that
/// happened before the deadline.
pub(crate) fn wait_for_room(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    poll_until(&mut [PollFd::from_borrowed_fd(socket, PollFlags::OUT)], deadline)
}
