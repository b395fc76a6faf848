//! The effects of a transition, carried out after the lock is released.

use std::sync::Arc;

use super::control::WorkerControl;
use crate::error::{PoolError, TaskError};
use crate::pool::batch::TaskRange;
use crate::pool::events::PoolEvent;

/// Collected under the pool's lock, and carried out without it, because that runs user code
/// (wakers, a logger) and makes system calls.
#[derive(Debug)]
pub(in crate::pool) struct Effects<W> {
    is_watched: bool,
    rings: Vec<W>,
    interrupts: Vec<W>,
    pub(in crate::pool) failed: Vec<(TaskRange, TaskError)>,
    pub(in crate::pool) events: Vec<PoolEvent>,
    /// Failed starts that will be tried again, to be logged.
    pub(in crate::pool) retried: Vec<Arc<PoolError>>,
    /// True if something changed that threads wait for at the condition variable.
    pub(super) wake_waiters: bool,
}

impl<W: WorkerControl> Effects<W> {
    /// Collects events only if the pool has a listener.
    pub(in crate::pool) fn new(is_watched: bool) -> Effects<W> {
        Effects {
            is_watched,
            rings: Vec::new(),
            interrupts: Vec::new(),
            failed: Vec::new(),
            events: Vec::new(),
            retried: Vec::new(),
            wake_waiters: false,
        }
    }

    pub(super) fn ring(&mut self, worker: Option<&W>) {
        self.rings.extend(worker.cloned());
    }

    pub(super) fn interrupt(&mut self, worker: Option<&W>) {
        self.interrupts.extend(worker.cloned());
    }

    pub(super) fn event(&mut self, event: impl FnOnce() -> PoolEvent) {
        if self.is_watched {
            self.events.push(event());
        }
    }

    pub(super) fn fail(&mut self, range: TaskRange, error: TaskError) {
        if self.is_watched {
            let error = error.clone();
            self.events.push(PoolEvent::TaskFailed { error });
        }
        self.failed.push((range, error));
    }

    pub(in crate::pool) fn wakes_waiters(&self) -> bool {
        self.wake_waiters
    }

    /// Rings workers and interrupts monitors. The caller must hold no lock.
    pub(in crate::pool) fn wake_workers(&mut self) {
        for worker in self.rings.drain(..) {
            worker.ring();
        }
        for worker in self.interrupts.drain(..) {
            worker.interrupt();
        }
    }
}
