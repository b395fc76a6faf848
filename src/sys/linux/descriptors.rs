//! Descriptors that cross an exec by accident, or that must replace another.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::process::{Resource, getrlimit};

/// How /proc shows a descriptor of ipc-channel's shared memory.
const MEMORY: &[u8] = b"/memfd:/ipc-channel-shared-memory.";

/// Which inherited descriptors a new child keeps, besides stdin, stdout and stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None: as far as this crate knows, the parent did not pass any on purpose.
    Nothing,
    /// Those that the parent's program opened. ipc-channel's memory is never passed on purpose.
    AllButMemory,
}

/// How many descriptors this process may have open.
pub(crate) fn descriptors_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Closes inherited descriptors. Called in a new child before its worker arrives.
pub(crate) fn close_inherited(keep: Keep) {
    let low = low();
    // No other thread opens or closes descriptors in the meantime.
    let all = if has_only(low.len()) { low } else { listed() };
    for fd in
        all.into_iter().filter(|&fd| is_inheritable(fd) && (keep == Keep::Nothing || is_memory(fd)))
    {
        // SAFETY: what Rust opens is close-on-exec from the start, and so is what `init` opened
        // here. So this descriptor was inherited, and no value in this process owns it.
        unsafe { libc::close(fd) };
    }
}

/// Makes `number` a second descriptor for `ours`. `number` belongs to an object of the same kind,
/// which the caller holds and has not used yet.
pub(crate) fn replace(number: RawFd, ours: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the owner knows only the number, and this one step gives it another descriptor of the
    // same kind; `ours` is unchanged.
    let replaced = unsafe { libc::dup3(ours.as_raw_fd(), number, libc::O_CLOEXEC) };
    if replaced < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Numbers below this are probed without a listing.
const LOW: RawFd = 256;

/// Returns the open descriptors with low numbers, which usually are all of them. Reading
/// /proc/self/fd takes much longer, especially in a new process.
fn low() -> Vec<RawFd> {
    let mut asked: [libc::pollfd; LOW as usize] =
        std::array::from_fn(|fd| libc::pollfd { fd: fd as RawFd, events: 0, revents: 0 });
    // SAFETY: the length is that of the array. Numbers that are not open are reported as such.
    let answered = unsafe { libc::poll(asked.as_mut_ptr(), LOW as libc::nfds_t, 0) };
    // The limit of descriptors may be lower than this, or a signal may have interrupted the call.
    let known = if answered < 0 { &[][..] } else { &asked[..] };
    known.iter().filter(|one| one.revents & libc::POLLNVAL == 0).map(|one| one.fd).collect()
}

/// Returns whether exactly `count` descriptors are open. Before Linux 6.2 this is always false.
fn has_only(count: usize) -> bool {
    // Not by std, which would remember that it has `statx`: a sandbox takes that away.
    rustix::fs::stat("/proc/self/fd")
        .is_ok_and(|directory| directory.st_size as u64 == count as u64)
}

/// Returns all open descriptors. Collects them first, because the descriptor of the directory is
/// among them.
fn listed() -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Returns whether a descriptor would cross an exec, and is not stdin, stdout or stderr.
fn is_inheritable(fd: RawFd) -> bool {
    // SAFETY: only reads a flag; for a number that is not open, the call fails.
    fd > 2 && unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

fn is_memory(fd: RawFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    link.is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(MEMORY))
}
