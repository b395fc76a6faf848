//! How many processes of a pool are started at the same time.
//!
//! If a program takes long to reach `init`, its processes share the processors while they start. If
//! all workers of a large pool started at once, each would take as long as all of them together,
//! and none might be ready before its start timeout.

use std::sync::{Condvar, Mutex};

use crate::sys::{self, lock};

#[derive(Debug)]
pub(super) struct StartGate {
    free: Mutex<usize>,
    freed: Condvar,
}

/// The permission to start one process. Dropping it lets the next monitor start its own.
#[derive(Debug)]
pub(super) struct StartPermit<'a>(&'a StartGate);

impl StartGate {
    /// Twice as many as there are processors, since a start also waits; at least four.
    pub(super) fn new() -> StartGate {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        StartGate::with_permits((2 * processors).max(4))
    }

    fn with_permits(permits: usize) -> StartGate {
        StartGate { free: Mutex::new(permits), freed: Condvar::new() }
    }

    /// Blocks while too many others are starting. Each of those has a start timeout, so the wait
    /// ends.
    pub(super) fn enter(&self) -> StartPermit<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = sys::wait(&self.freed, free, None);
        }
        *free -= 1;
        StartPermit(self)
    }
}

impl Drop for StartPermit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn as_many_enter_as_there_are_permits_and_all_in_the_end() {
        let gate = StartGate::with_permits(3);
        let (inside, most, passed) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _permit = gate.enter();
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        passed.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(passed.into_inner(), 800);
        assert_eq!(*lock(&gate.free), 3);
    }

    #[test]
    fn a_start_that_panics_gives_its_permit_back() {
        let gate = StartGate::with_permits(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _permit = gate.enter();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        drop(gate.enter());
    }
}
