//! Ending this process when another one ends, without a thread that waits for that end.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::poll::{is_ready, poll_until};
use super::program::exit_now;

/// Not in `libc`.
const F_SETSIG: libc::c_int = 10;

/// Has the system kill this process as soon as no process can write into this pipe any more.
/// Nothing is ever written into it. If no process can write even now, this process exits with
/// `code`.
///
/// `F_SETSIG` makes the system send a signal of one's choice for each event on a pipe. SIGKILL
/// reaches even a process that is stopped, that blocks signals, or whose threads are all busy. This
/// holds until the process closes the pipe.
pub(crate) fn die_with(pipe: BorrowedFd<'_>, code: i32) -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let flags = rustix::fs::fcntl_getfl(pipe)?.bits() as libc::c_int;
    for (command, argument) in
        [(libc::F_SETOWN, own), (F_SETSIG, libc::SIGKILL), (libc::F_SETFL, flags | libc::O_ASYNC)]
    {
        // SAFETY: changes how the system reports events on the pipe; no pointer is involved.
        if unsafe { libc::fcntl(pipe.as_raw_fd(), command, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // If the other side ended before this call, no signal came.
    if is_at_end(pipe) {
        exit_now(code);
    }
    Ok(())
}

/// Returns whether the other side is gone: all writers of a pipe, the other end of a socket.
pub(crate) fn is_at_end(end: BorrowedFd<'_>) -> bool {
    is_ready(&mut [PollFd::from_borrowed_fd(end, PollFlags::empty())]).unwrap_or(false)
}

/// Waits until the other side is gone. Returns whether that happened before the deadline.
pub(crate) fn wait_at_end(end: BorrowedFd<'_>, deadline: Option<Instant>) -> bool {
    // The system reports the end even if no event is asked for.
    poll_until(&mut [PollFd::from_borrowed_fd(end, PollFlags::empty())], deadline).unwrap_or(false)
}

/// Waits until this socket has something to read, or is at its end. Returns whether that happened
/// before the deadline.
pub(crate) fn wait_readable(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> bool {
    poll_until(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], deadline).unwrap_or(false)
}
