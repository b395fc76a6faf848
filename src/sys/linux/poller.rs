//! Waiting for many things at once (epoll).

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::readiness::borrow;
use super::system::{retry, time_left};

/// Tells which of many processes have ended, which of many pipes or sockets have something to read.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Poller {
    /// What [`wait`](Poller::wait) gives after [`wake`](Poller::wake); no process has this key.
    pub(crate) const WAKE: u64 = u64::MAX;

    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(Poller::WAKE), edge)?;
        Ok(Poller { epoll, wake })
    }

    /// Wakes the one that waits.
    pub(crate) fn wake(&self) {
        // It fails only if nobody has looked for 2^64 times, and then it is due anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Watches one more process, or pipe; from any thread, also while another waits.
    pub(crate) fn watch(&self, what: impl AsFd, key: u64) -> io::Result<()> {
        let key = epoll::EventData::new_u64(key);
        Ok(epoll::add(&self.epoll, what, key, epoll::EventFlags::IN)?)
    }

    /// Says nothing of it until [`resume`](Poller::resume).
    pub(crate) fn pause(&self, what: impl AsFd, key: u64) {
        // It fails only for what is not watched.
        let _ = epoll::modify(
            &self.epoll,
            what,
            epoll::EventData::new_u64(key),
            epoll::EventFlags::empty(),
        );
    }

    /// Tells of it again; at once, if it has ended meanwhile.
    pub(crate) fn resume(&self, what: impl AsFd, key: u64) {
        // As above.
        let _ = epoll::modify(
            &self.epoll,
            what,
            epoll::EventData::new_u64(key),
            epoll::EventFlags::IN,
        );
    }

    /// As [`watch`](Poller::watch), for a socket of which only the number is known; its end is something to read.
    pub(crate) fn watch_socket(&self, socket: RawFd, key: u64) -> io::Result<()> {
        self.watch(borrow(socket), key)
    }

    pub(crate) fn forget_socket(&self, socket: RawFd) {
        self.forget(borrow(socket));
    }

    pub(crate) fn forget(&self, what: impl AsFd) {
        // It was watched; closing it would end that as well.
        let _ = epoll::delete(&self.epoll, what);
    }

    /// Sleeps until some have ended, or have something to read, or until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Vec<u64> {
        let mut events = Vec::with_capacity(64);
        let wait = || {
            let timeout = deadline.map(time_left);
            epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            )
        };
        match retry(wait) {
            Ok(_) => events.iter().map(|event| event.data.u64()).collect(),
            Err(_) => Vec::new(),
        }
    }
}
