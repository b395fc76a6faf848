//! Processes, held by pidfds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::poll::{poll_until, retry};
use super::streams::IoInterest;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitStatus {
    Exited(i32),
    Signaled {
        signal: i32,
        core_dumped: bool,
    },
    /// Another caller of `wait` took the status.
    Unknown,
}

/// The error of [`Pidfd::of`] for a child whose status was taken.
pub(crate) const NO_SUCH_PROCESS: i32 = libc::ESRCH;
/// The error of a system, or of a tool in its place, that does not know the call.
pub(crate) const NO_SUCH_CALL: i32 = libc::ENOSYS;

/// A process, held by a pidfd. No signal can reach an unrelated process that got the same pid
/// later, and no such process is mistaken for this one.
#[derive(Debug)]
pub(crate) struct Pidfd(pub(in crate::sys) OwnedFd);

impl Pidfd {
    /// Pins a child that was just started.
    ///
    /// If the program ignores SIGCHLD, a child that has died already is gone, and its pid may
    /// belong to another process. So this asks the system whether the pinned process is a child of
    /// this one.
    pub(crate) fn of(child: &Child) -> io::Result<Pidfd> {
        let pid = Pid::from_raw(child.id() as i32).ok_or_else(|| io::Error::other("no pid"))?;
        let pinned = Pidfd(pidfd_open(pid, PidfdFlags::empty())?);
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        retry(|| waitid(WaitId::PidFd(pinned.0.as_fd()), look)).map_err(|error| {
            let is_stranger = error.raw_os_error() == Some(libc::ECHILD);
            if is_stranger { io::Error::from_raw_os_error(NO_SUCH_PROCESS) } else { error }
        })?;
        Ok(pinned)
    }

    /// This process.
    pub(crate) fn of_self() -> io::Result<Pidfd> {
        Ok(Pidfd(pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?))
    }

    /// Wraps a descriptor from another process. Returns an error unless it is a pidfd.
    pub(crate) fn adopt(descriptor: OwnedFd) -> io::Result<Pidfd> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match retry(|| waitid(WaitId::PidFd(descriptor.as_fd()), look)) {
            Ok(_) => Ok(Pidfd(descriptor)),
            // The error for a process that is not our child. For a descriptor that is not a pidfd
            // it is `EBADF`.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Pidfd(descriptor)),
            Err(error) => Err(error),
        }
    }

    /// Like [`adopt`](Pidfd::adopt), but also returns an error if the system reports that another
    /// process made the pair of `socket`.
    pub(crate) fn adopt_maker(descriptor: OwnedFd, socket: impl AsFd) -> io::Result<Pidfd> {
        let pidfd = Pidfd::adopt(descriptor)?;
        // A process has no number in a pid namespace that does not contain it.
        match (pid_of(pidfd.as_fd()), maker_of(socket.as_fd())) {
            (Some(pid), Some(maker)) if pid != maker => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(pidfd),
        }
    }

    /// Returns a second descriptor for the process.
    pub(crate) fn try_clone(&self) -> io::Result<Pidfd> {
        self.0.try_clone().map(Pidfd)
    }

    /// Sends SIGTERM, then SIGCONT: a stopped process must run to act on the first.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Sends SIGKILL. Returns `false` if this process may not, because the other one runs as
    /// another user.
    pub(crate) fn kill(&self) -> bool {
        self.signal(Signal::KILL)
    }

    pub(in crate::sys) fn signal(&self, signal: Signal) -> bool {
        // The other failure is that the process has ended already.
        pidfd_send_signal(&self.0, signal) != Err(Errno::PERM)
    }

    /// Takes the status of the process, and with it the zombie; `None` if the process still runs.
    pub(crate) fn reap(&self) -> Option<WaitStatus> {
        self.ask(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Like [`reap`](Pidfd::reap), but leaves the status there.
    pub(crate) fn status(&self) -> Option<WaitStatus> {
        self.ask(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    fn ask(&self, how: WaitIdOptions) -> Option<WaitStatus> {
        match retry(|| waitid(WaitId::PidFd(self.0.as_fd()), how)) {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => WaitStatus::Exited(code),
                (None, Some(signal)) => {
                    WaitStatus::Signaled { signal, core_dumped: status.dumped() }
                }
                (None, None) => WaitStatus::Unknown,
            }),
            Err(_) => Some(WaitStatus::Unknown),
        }
    }

    /// Waits for the end of the process. Returns whether it ended before the deadline.
    pub(crate) fn wait_end(&self, deadline: Instant) -> io::Result<bool> {
        poll_until(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(deadline))
    }

    /// Waits until the process ends, `socket` has something to read, or `other` is ready.
    pub(crate) fn wait_or_readable(
        &self,
        socket: BorrowedFd<'_>,
        other: Option<IoInterest<'_>>,
        deadline: Instant,
    ) -> io::Result<ChildEvent> {
        let mut fds = [
            PollFd::from_borrowed_fd(socket, PollFlags::IN),
            PollFd::new(&self.0, PollFlags::IN),
            other.unwrap_or(IoInterest::Read(socket)).poll(),
        ];
        if !poll_until(&mut fds[..2 + usize::from(other.is_some())], Some(deadline))? {
            return Ok(ChildEvent::Timeout);
        }
        // Readable data comes first: the process may have answered and then died.
        Ok(match fds.each_ref().map(|fd| !fd.revents().is_empty()) {
            _ if fds[0].revents().contains(PollFlags::IN) => ChildEvent::Readable,
            [_, true, _] => ChildEvent::Ended,
            [true, ..] => ChildEvent::Readable,
            // A source that is always ready must not hide the deadline.
            _ if deadline <= Instant::now() => ChildEvent::Timeout,
            _ => ChildEvent::Other,
        })
    }

    /// Waits until one of `pipes` has something to read, or the process ends. Returns whether it
    /// ended, and `None` at the deadline.
    pub(crate) fn wait_or_any(
        &self,
        pipes: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
    ) -> io::Result<Option<bool>> {
        let mut fds = vec![PollFd::new(self, PollFlags::IN)];
        fds.extend(pipes.iter().map(|pipe| PollFd::from_borrowed_fd(*pipe, PollFlags::IN)));
        let some = poll_until(&mut fds, deadline)?;
        Ok(some.then(|| !fds[0].revents().is_empty()))
    }
}

impl From<Pidfd> for OwnedFd {
    fn from(pidfd: Pidfd) -> OwnedFd {
        pidfd.0
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the pid of a pidfd's process. `None` if it has ended, or is not visible in this pid
/// namespace.
fn pid_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    // In a new pid namespace, `/proc` may still be that of an outer one, with the outer pids.
    let own = std::fs::read_link("/proc/self").ok()?;
    if own.as_os_str() != std::process::id().to_string().as_str() {
        return None;
    }
    let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let number = facts.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|&pid| pid > 0)
}

/// Returns the pid of the process that made this socket's pair; `None` if it is not visible in this
/// pid namespace.
pub(crate) fn maker_of(socket: BorrowedFd<'_>) -> Option<i32> {
    let mut maker = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of_val(&maker) as libc::socklen_t;
    // SAFETY: writes at most `length` bytes to `maker`, a plain struct of that size.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut maker).cast(),
            &raw mut length,
        )
    };
    (outcome == 0 && maker.pid > 0).then_some(maker.pid)
}

/// The result of [`Pidfd::wait_or_readable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildEvent {
    Readable,
    Ended,
    Other,
    Timeout,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::packet_pair;

    #[test]
    fn a_pidfd_from_another_process_is_checked() {
        let (near, _far) = packet_pair().unwrap();
        let own = Pidfd::of_self().unwrap();
        assert!(Pidfd::adopt_maker(own.0, &near).is_ok());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Pidfd::adopt_maker(file.into(), &near).is_err());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = Pidfd::of(&child).unwrap();
        let copy = other.0.try_clone().unwrap();
        assert!(Pidfd::adopt_maker(copy, &near).is_err(), "it did not make the pair");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.wait_end(Instant::now()).unwrap());
    }
}
