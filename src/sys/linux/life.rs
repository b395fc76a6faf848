//! The end of one process as the end of another, without a thread that waits for it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::poll::{is_ready, poll_until};
use super::program::exit_now;

/// What the system's interface calls it; `libc` has no name for it.
const F_SETSIG: libc::c_int = 10;

/// From now on this process is killed by the system as soon as nobody can write into this pipe any more, which nobody ever
/// does. `code` is how it ends if that is so already.
///
/// A pipe tells of whatever happens to it by a signal of one's choice. SIGKILL reaches also a process that is stopped,
/// that blocks signals, or whose threads are all busy. Holds until the pipe is closed here.
pub(crate) fn die_with(pipe: BorrowedFd<'_>, code: i32) -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let flags = rustix::fs::fcntl_getfl(pipe)?.bits() as libc::c_int;
    for (command, argument) in [
        (libc::F_SETOWN, own),
        (F_SETSIG, libc::SIGKILL),
        (libc::F_SETFL, flags | libc::O_ASYNC),
    ] {
        // SAFETY: changes what the system does when something happens to the pipe; no pointer is involved.
        if unsafe { libc::fcntl(pipe.as_raw_fd(), command, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // What happened before was not told.
    if is_at_end(pipe) {
        exit_now(code);
    }
    Ok(())
}

/// Whether the other side is gone: of a pipe all who could write, of a socket its other end.
pub(crate) fn is_at_end(end: BorrowedFd<'_>) -> bool {
    is_ready(&mut [PollFd::from_borrowed_fd(end, PollFlags::empty())]).unwrap_or(false)
}

/// Waits for that; whether it came before the deadline.
pub(crate) fn wait_at_end(end: BorrowedFd<'_>, deadline: Option<Instant>) -> bool {
    // The end is told to all who ask for nothing.
    poll_until(
        &mut [PollFd::from_borrowed_fd(end, PollFlags::empty())],
        deadline,
    )
    .unwrap_or(false)
}

/// Waits for something to read on this socket, or its end; whether something came before the deadline.
pub(crate) fn wait_readable(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> bool {
    poll_until(
        &mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)],
        deadline,
    )
    .unwrap_or(false)
}
