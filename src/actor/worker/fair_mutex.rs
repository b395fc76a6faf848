//! The actor's state, and whose turn it is to use it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::sys::{self, lock};

/// A lock that is fair: calls and casts come in on two threads, and neither must starve the other.
pub(in crate::actor) struct Turn<T> {
    /// Tickets that were given, and the one whose turn it is.
    given: AtomicU64,
    served: AtomicU64,
    /// Held by who looks for the last time before it sleeps, and by who wakes it.
    door: Mutex<()>,
    next: Condvar,
    inside: Mutex<T>,
}

impl<T> Turn<T> {
    pub(in crate::actor) fn new(inside: T) -> Turn<T> {
        Turn {
            given: AtomicU64::new(0),
            served: AtomicU64::new(0),
            door: Mutex::default(),
            next: Condvar::new(),
            inside: Mutex::new(inside),
        }
    }

    pub(in crate::actor) fn enter(&self) -> Inside<'_, T> {
        let own = self.given.fetch_add(1, Ordering::SeqCst);
        if self.served.load(Ordering::SeqCst) != own {
            self.wait(own);
        }
        Inside {
            turn: self,
            guard: Some(lock(&self.inside)),
        }
    }

    fn wait(&self, own: u64) {
        let mut door = lock(&self.door);
        while self.served.load(Ordering::SeqCst) != own {
            door = sys::wait(&self.next, door, None);
        }
    }
}

pub(in crate::actor) struct Inside<'a, T> {
    turn: &'a Turn<T>,
    /// `None` while it leaves.
    guard: Option<MutexGuard<'a, T>>,
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is inside")
    }
}

impl<T> DerefMut for Inside<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is inside")
    }
}

impl<T> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        let served = self.turn.served.fetch_add(1, Ordering::SeqCst) + 1;
        // Who takes a ticket after this look finds its turn come; who had one before it sleeps, or is about to.
        if self.turn.given.load(Ordering::SeqCst) > served {
            drop(lock(&self.turn.door));
            self.turn.next.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_take_turns_and_lose_none() {
        let turn = Turn::new((0, [0u32; 3]));
        thread::scope(|scope| {
            for id in 0..3 {
                let turn = &turn;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let mut inside = turn.enter();
                        inside.0 += 1;
                        inside.1[id] += 1;
                    }
                });
            }
        });
        assert_eq!(*turn.enter(), (60_000, [20_000; 3]));
    }

    #[test]
    fn who_comes_again_waits_behind_who_waits() {
        let turn = Turn::new(Vec::new());
        let first = turn.enter();
        thread::scope(|scope| {
            let waits = scope.spawn(|| turn.enter().push("second"));
            while turn.given.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            drop(first);
            turn.enter().push("third");
            waits.join().unwrap();
        });
        assert_eq!(*turn.enter(), ["second", "third"]);
    }
}
