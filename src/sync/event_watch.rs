//! Waiting for an event among other things: how a futex word wakes a selector.
//!
//! A selector sleeps until a waker wakes it, and a futex wakes only a thread that sleeps on its
//! word. So once a handle of an event is added to a selector, it has a thread, which sleeps on the
//! word for the selector. The thread ends with the handle.
//!
//! No wake-up is lost. A selector that finds the flag cleared leaves its waker first, then sends
//! the thread to the word. The thread reads the word before it sleeps on it, so it notices a flag
//! that was set in between.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::ipc::deadline::{Elapsed, TimeLimit};
use crate::ipc::reactor::{EventSource, Interest, WakerSet, WakerSlot};
use crate::sys::{self, lock};

/// The flag that the thread waits for.
pub(super) trait WatchedFlag: std::fmt::Debug + Send + Sync + 'static {
    /// Returns whether a wait would return at once.
    fn is_ready(&self) -> bool;

    /// Blocks until a wait would return at once, or until the limit; see
    /// [`interrupt`](WatchedFlag::interrupt). Returns false if a wait fails, which
    /// [`is_ready`](WatchedFlag::is_ready) need not notice.
    fn wait_until_ready(&self, limit: &StopLimit) -> bool;

    /// Makes a thread in [`wait_until_ready`](WatchedFlag::wait_until_ready) check its limit.
    fn interrupt(&self);
}

/// The limit of the thread's wait: until it is stopped.
#[derive(Debug, Default)]
pub(super) struct StopLimit(AtomicBool);

impl TimeLimit for StopLimit {
    type Elapsed = Elapsed;

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn check(&self) -> Result<(), Elapsed> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Elapsed);
        }
        Ok(())
    }
}

/// The source that a selector registers with. Dropping it ends the thread, and wakes the selectors.
#[derive(Debug)]
pub(super) struct EventWatch<F: WatchedFlag>(Arc<Watched<F>>);

#[derive(Debug)]
struct Watched<F> {
    flag: F,
    wakers: Arc<WakerSet>,
    thread: Mutex<WatchThread>,
    changed: Condvar,
    stop: StopLimit,
    /// True once waits on the flag fail, and so return at once.
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct WatchThread {
    is_started: bool,
    /// True if a selector has left a waker since the thread last began to wait.
    is_wanted: bool,
}

impl<F: WatchedFlag> EventWatch<F> {
    pub(super) fn new(flag: F) -> EventWatch<F> {
        EventWatch(Arc::new(Watched {
            flag,
            wakers: Arc::default(),
            thread: Mutex::default(),
            changed: Condvar::new(),
            stop: StopLimit::default(),
            failed: AtomicBool::new(false),
        }))
    }
}

impl<F: WatchedFlag> Watched<F> {
    fn run(&self) {
        loop {
            let mut thread = lock(&self.thread);
            while !thread.is_wanted && self.stop.check().is_ok() {
                thread = sys::wait(&self.changed, thread, None);
            }
            thread.is_wanted = false;
            drop(thread);
            if self.stop.check().is_err() {
                return;
            }
            if !self.flag.wait_until_ready(&self.stop) {
                // Set before the selectors wake up and check.
                self.failed.store(true, Ordering::SeqCst);
            }
            self.wakers.wake();
        }
    }
}

impl<F: WatchedFlag> EventSource for EventWatch<F> {
    fn register(&self) -> io::Result<WakerSlot> {
        let mut thread = lock(&self.0.thread);
        if !thread.is_started {
            let watched = self.0.clone();
            sys::service_thread("offspring-event", move || watched.run())?;
            thread.is_started = true;
        }
        drop(thread);
        self.0.wakers.register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        if self.0.flag.is_ready() || self.0.failed.load(Ordering::SeqCst) {
            return true;
        }
        if let Some((slot, waker)) = interest {
            slot.set(waker);
            lock(&self.0.thread).is_wanted = true;
            self.0.changed.notify_one();
        }
        false
    }
}

impl<F: WatchedFlag> Drop for EventWatch<F> {
    fn drop(&mut self) {
        // Under the lock, so that the thread cannot go to sleep between its check and its wait.
        let thread = lock(&self.0.thread);
        self.0.stop.0.store(true, Ordering::SeqCst);
        drop(thread);
        self.0.changed.notify_one();
        self.0.flag.interrupt();
        self.0.wakers.close();
    }
}
