//! Service threads: at most one of each kind in a process, started by the first caller.

use std::io;
use std::process;
use std::sync::{Mutex, OnceLock};

use super::{is_fork, lock, service_thread, watch_forks};

/// What a service thread shares with its callers. Lives in a `static`, and never ends.
pub(crate) struct Service<T: 'static> {
    thread: &'static str,
    starting: Mutex<()>,
    started: OnceLock<StartedService<T>>,
}

struct StartedService<T> {
    pid: u32,
    shared: T,
}

impl<T: Send + Sync> Service<T> {
    /// `thread` is the name of the thread.
    pub(crate) const fn new(thread: &'static str) -> Service<T> {
        Service { thread, starting: Mutex::new(()), started: OnceLock::new() }
    }

    /// Returns the service; the first call makes it, and starts its thread, which runs `body`.
    ///
    /// # Errors
    ///
    /// The error of `make` or of the system; the next call tries again. In a fork of a process that
    /// runs the service, this always fails: the fork has no such thread, and shares descriptors
    /// with the original.
    pub(crate) fn start<B>(
        &'static self,
        make: impl FnOnce() -> io::Result<(T, B)>,
    ) -> io::Result<&'static T>
    where
        B: FnOnce(&'static T) + Send + 'static,
    {
        watch_forks();
        // Two callers at once must not both start a thread.
        let _one_at_a_time = lock(&self.starting);
        if let Some(started) = self.started.get() {
            return if started.pid == process::id() {
                Ok(&started.shared)
            } else {
                Err(io::Error::other(format!(
                    "this process is a fork of one that runs the thread `{}`, and has no such thread",
                    self.thread
                )))
            };
        }
        let (shared, body) = make()?;
        service_thread(self.thread, || body(&self.started.wait().shared))?;
        let pid = process::id();
        Ok(&self.started.get_or_init(|| StartedService { pid, shared }).shared)
    }

    /// Returns the service, if it was started in this process. A fork of such a process has none:
    /// whatever a caller did to a shared descriptor would affect the original.
    pub(crate) fn get(&'static self) -> Option<&'static T> {
        let started = self.started.get().filter(|_| !is_fork());
        started.map(|started| &started.shared)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_service_is_made_once_and_a_failed_start_is_tried_again() {
        static SERVICE: Service<u32> = Service::new("offspring-test");
        assert!(SERVICE.get().is_none());
        let fails = || Err::<(u32, fn(&u32)), _>(io::Error::other("no"));
        assert!(SERVICE.start(fails).is_err());
        let (sender, received) = mpsc::channel();
        let makes = || Ok((7, move |shared: &u32| sender.send(*shared).unwrap()));
        assert_eq!(*SERVICE.start(makes).unwrap(), 7);
        assert_eq!(received.recv().unwrap(), 7);
        assert_eq!(*SERVICE.start(fails).unwrap(), 7);
        assert_eq!(SERVICE.get(), Some(&7));
    }

    #[test]
    fn a_fork_has_no_service() {
        static SERVICE: Service<u32> = Service::new("offspring-test");
        let makes = || Ok((7, |_: &u32| {}));
        SERVICE.start(makes).unwrap();
        // SAFETY: the child takes no lock that another thread can hold, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child if a call does not return.
            unsafe { libc::alarm(20) };
            let has_none = SERVICE.get().is_none() && SERVICE.start(makes).is_err();
            // SAFETY: runs no code of the test harness.
            unsafe { libc::_exit(i32::from(!has_none)) };
        }
        let mut status = 0;
        // SAFETY: a child of this process that nothing else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(SERVICE.get(), Some(&7));
    }
}
