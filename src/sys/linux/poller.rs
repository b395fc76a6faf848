//! Waiting for many descriptors at once (epoll).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use super::poll::{retry, time_left};

/// A set of descriptors, each with a key: processes (pidfds), pipes and sockets. A descriptor is
/// ready when there is something to read, and also at the end of its process, pipe or connection.
///
/// Every method can be called from any thread, even while another one waits.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Poller {
    /// The key that [`wait`](Poller::wait) returns after [`wake`](Poller::wake). No descriptor has
    /// it.
    pub(crate) const WAKE: u64 = u64::MAX;

    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &wake, EventData::new_u64(Poller::WAKE), edge)?;
        Ok(Poller { epoll, wake })
    }

    /// Wakes the thread that waits; if there is none, the next wait returns at once.
    pub(crate) fn wake(&self) {
        // A full counter is the only failure, and then a wake-up is pending already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Adds a descriptor. Every wait returns its key while it is ready.
    pub(crate) fn add(&self, what: impl AsFd, key: u64) -> io::Result<()> {
        self.add_with(what, key, EventFlags::IN)
    }

    /// Adds a descriptor whose key is returned once for each [`arm`](Poller::arm).
    pub(crate) fn add_disarmed(&self, what: impl AsFd, key: u64) -> io::Result<()> {
        self.add_with(what, key, EventFlags::ONESHOT)
    }

    fn add_with(&self, what: impl AsFd, key: u64, events: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, what, EventData::new_u64(key), events)?)
    }

    /// Has the next wait that finds the descriptor ready return its key, once. The descriptor may
    /// be ready at once.
    pub(crate) fn arm(&self, what: impl AsFd, key: u64) {
        self.modify(what, key, EventFlags::IN | EventFlags::ONESHOT);
    }

    /// Ignores the descriptor until [`resume`](Poller::resume), except for the end of a socket's
    /// other side.
    pub(crate) fn pause(&self, what: impl AsFd, key: u64) {
        self.modify(what, key, EventFlags::empty());
    }

    /// Ends a [`pause`](Poller::pause). What became ready in the meantime is ready now.
    pub(crate) fn resume(&self, what: impl AsFd, key: u64) {
        self.modify(what, key, EventFlags::IN);
    }

    fn modify(&self, what: impl AsFd, key: u64, events: EventFlags) {
        // It fails only for a descriptor that was not added.
        let _ = epoll::modify(&self.epoll, what, EventData::new_u64(key), events);
    }

    /// Removes a descriptor. Its owner calls this before it closes the descriptor: a duplicate
    /// would keep it in the set.
    pub(crate) fn remove(&self, what: impl AsFd) {
        // As above.
        let _ = epoll::delete(&self.epoll, what);
    }

    /// Sleeps until some descriptors are ready, or until `deadline`, and returns the keys of those
    /// that are.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Vec<u64> {
        let mut events = Vec::with_capacity(64);
        let wait = || {
            let timeout = deadline.map(time_left);
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref())
        };
        match retry(wait) {
            Ok(_) => events.iter().map(|event| event.data.u64()).collect(),
            Err(_) => Vec::new(),
        }
    }
}
