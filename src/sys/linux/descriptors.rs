//! What crosses an exec although nobody meant it to.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// How the system shows a descriptor of ipc-channel's shared memory.
const MEMORY: &[u8] = b"/memfd:/ipc-channel-shared-memory.";

/// What a new child may keep of the descriptors that came to it through exec, besides stdin, stdout and stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: its parent did not mean to give them, as far as anybody can tell.
    Nothing,
    /// What the parent's program opened. Memory of ipc-channel is never meant.
    AllButMemory,
}

/// Closes descriptors that this process did not open itself. Called in a new child, before its worker comes.
pub(crate) fn close_inherited(keep: Keep) {
    let low = low();
    // No other thread opens or closes any meanwhile.
    let all = if has_only(low.len()) { low } else { listed() };
    for fd in all
        .into_iter()
        .filter(|&fd| is_inheritable(fd) && (keep == Keep::Nothing || is_memory(fd)))
    {
        // SAFETY: what Rust opens is close-on-exec from its first moment on, and so is what `init` opened here. So
        // this one came through exec, and no value in this process owns it.
        unsafe { libc::close(fd) };
    }
}

/// Runs `copy`, which makes a descriptor of ipc-channel's memory, and sees to it that programs started from now on do
/// not get it. ipc-channel makes copies (its own, when it sends, too: but these are gone with the message) so that they
/// cross an exec, and does not tell their numbers.
pub(crate) fn close_on_exec<R>(copy: impl FnOnce() -> R) -> io::Result<R> {
    // An `Err` where ipc-channel would panic. Its descriptor will mostly get the same number, the lowest that is free.
    let likely =
        rustix::fs::memfd_create("offspring", rustix::fs::MemfdFlags::CLOEXEC)?.as_raw_fd();
    let made = copy();
    if !(is_inheritable(likely) && is_memory(likely)) {
        let all = listed().into_iter();
        all.filter(|&fd| is_inheritable(fd) && is_memory(fd))
            .for_each(set_close_on_exec);
    } else {
        set_close_on_exec(likely);
    }
    Ok(made)
}

fn set_close_on_exec(fd: RawFd) {
    // SAFETY: changes a flag only. The number is that of memory, as was seen just now; if it is another thread's new
    // file meanwhile, that one has the flag already.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Puts a second descriptor of `ours` in the place of this number, which belongs to an object that the caller holds, of the same
/// kind, and that has not been used.
pub(crate) fn replace(number: RawFd, ours: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the owner of that number knows nothing but the number, and in one step it gets another descriptor of the same
    // kind; `ours` stays as it is.
    let replaced = unsafe { libc::dup3(ours.as_raw_fd(), number, libc::O_CLOEXEC) };
    if replaced < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// So many numbers are looked at without a list.
const LOW: RawFd = 256;

/// The open ones with low numbers, mostly all that there are. The directory takes much longer, above all in a new process.
fn low() -> Vec<RawFd> {
    let mut asked: [libc::pollfd; LOW as usize] = std::array::from_fn(|fd| libc::pollfd {
        fd: fd as RawFd,
        events: 0,
        revents: 0,
    });
    // SAFETY: the array is as long as is said; numbers that are not open are marked.
    let answered = unsafe { libc::poll(asked.as_mut_ptr(), LOW as libc::nfds_t, 0) };
    // A limit may be lower than that, or a signal may have come.
    let known = if answered < 0 { &[][..] } else { &asked[..] };
    known
        .iter()
        .filter(|one| one.revents & libc::POLLNVAL == 0)
        .map(|one| one.fd)
        .collect()
}

/// Whether so many are open in all; a system before Linux 6.2 does not tell.
fn has_only(count: usize) -> bool {
    std::fs::metadata("/proc/self/fd").is_ok_and(|directory| directory.size() == count as u64)
}

/// Collected first: the descriptor of the directory is among them.
fn listed() -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether it would cross an exec, and is not stdin, stdout or stderr.
fn is_inheritable(fd: RawFd) -> bool {
    // SAFETY: reads a flag; a number that is no descriptor is an error.
    fd > 2 && unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

fn is_memory(fd: RawFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    link.is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(MEMORY))
}
