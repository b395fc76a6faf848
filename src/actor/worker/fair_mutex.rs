//! A mutex that threads get in the order in which they asked for it.
//!
//! A thread draws a ticket, and waits until its ticket is served. In the usual case, no other
//! thread is there, and this costs two atomic operations and the lock of a free `Mutex`.
//!
//! No wake-up is lost. A waiter checks `serving` under `sleepers` before it sleeps. The thread that
//! leaves changes `serving` first, and then takes and releases `sleepers` before it notifies. So
//! the waiter either sees the change, or is asleep when it is notified. Nor is a notification left
//! out by mistake: a thread that drew a ticket before the check of `next_ticket` is counted there,
//! and a thread that draws one later reads `serving` later still (both are `SeqCst`) and finds that
//! its turn has come.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

use crate::failpoints;
use crate::sys::threads::{AtomicU64, Condvar, Mutex, MutexGuard};
use crate::sys::{self, lock};

/// With std's mutex, the thread that has just unlocked it may lock it again before a waiter wakes.
/// An actor takes calls and casts on two threads, and with such a mutex a stream of either kind
/// could starve the other.
pub(in crate::actor) struct FairMutex<T> {
    next_ticket: AtomicU64,
    serving: AtomicU64,
    sleepers: Mutex<()>,
    turn: Condvar,
    value: Mutex<T>,
}

impl<T> FairMutex<T> {
    pub(in crate::actor) fn new(value: T) -> FairMutex<T> {
        FairMutex {
            next_ticket: AtomicU64::new(0),
            serving: AtomicU64::new(0),
            sleepers: Mutex::default(),
            turn: Condvar::new(),
            value: Mutex::new(value),
        }
    }

    pub(in crate::actor) fn lock(&self) -> FairMutexGuard<'_, T> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::SeqCst);
        if self.serving.load(Ordering::SeqCst) != ticket {
            self.wait(ticket);
        }
        FairMutexGuard { mutex: self, value: Some(lock(&self.value)) }
    }

    fn wait(&self, ticket: u64) {
        let mut sleepers = lock(&self.sleepers);
        while self.serving.load(Ordering::SeqCst) != ticket {
            sleepers = sys::wait(&self.turn, sleepers, None);
        }
    }
}

pub(in crate::actor) struct FairMutexGuard<'a, T> {
    mutex: &'a FairMutex<T>,
    /// `None` only during `drop`.
    value: Option<MutexGuard<'a, T>>,
}

impl<T> Deref for FairMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a guard holds its mutex")
    }
}

impl<T> DerefMut for FairMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a guard holds its mutex")
    }
}

impl<T> Drop for FairMutexGuard<'_, T> {
    fn drop(&mut self) {
        // Before the next ticket is served, so that its thread finds the inner mutex free.
        self.value = None;
        let serving = self.mutex.serving.fetch_add(1, Ordering::SeqCst) + 1;
        if self.mutex.next_ticket.load(Ordering::SeqCst) > serving {
            if !failpoints::is_mutated("fair.unlocked") {
                drop(lock(&self.mutex.sleepers));
            }
            self.mutex.turn.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_take_turns_and_lose_none() {
        let mutex = FairMutex::new((0, [0u32; 3]));
        thread::scope(|scope| {
            for id in 0..3 {
                let mutex = &mutex;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let mut counts = mutex.lock();
                        counts.0 += 1;
                        counts.1[id] += 1;
                    }
                });
            }
        });
        assert_eq!(*mutex.lock(), (60_000, [20_000; 3]));
    }

    #[test]
    fn a_thread_that_comes_again_waits_for_the_one_that_waited_before_it() {
        let mutex = FairMutex::new(Vec::new());
        let first = mutex.lock();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| mutex.lock().push("second"));
            while mutex.next_ticket.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            drop(first);
            mutex.lock().push("third");
            waiter.join().unwrap();
        });
        assert_eq!(*mutex.lock(), ["second", "third"]);
    }
}
