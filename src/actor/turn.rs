//! The actor's state, and whose turn it is to use it.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::sys::{self, lock};

/// A lock that is fair: calls and casts come in on two threads, and neither must starve the other.
pub(super) struct Turn<T> {
    tickets: Mutex<Tickets>,
    next: Condvar,
    inside: Mutex<T>,
}

#[derive(Default)]
struct Tickets {
    given: u64,
    served: u64,
}

impl<T> Turn<T> {
    pub(super) fn new(inside: T) -> Turn<T> {
        Turn {
            tickets: Mutex::default(),
            next: Condvar::new(),
            inside: Mutex::new(inside),
        }
    }

    pub(super) fn enter(&self) -> Inside<'_, T> {
        let mut tickets = lock(&self.tickets);
        let own = tickets.given;
        tickets.given += 1;
        while tickets.served != own {
            tickets = sys::wait(&self.next, tickets, None);
        }
        drop(tickets);
        Inside {
            turn: self,
            guard: lock(&self.inside),
        }
    }
}

pub(super) struct Inside<'a, T> {
    turn: &'a Turn<T>,
    guard: MutexGuard<'a, T>,
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Inside<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        // `inside` is free a moment later; who is next waits for it there.
        let mut tickets = lock(&self.turn.tickets);
        tickets.served += 1;
        if tickets.given > tickets.served {
            drop(tickets);
            self.turn.next.notify_all();
        }
    }
}
