//! Waiting threads and tasks in the owner process, which are woken when the state is unlocked.

use std::io;
use std::sync::{Arc, Condvar};
use std::time::Instant;

use crate::ipc::reactor::{WakerSet, WakerSlot};
use crate::queue::owner::client::STALLED;

/// Threads and tasks in the owner process that wait for one thing.
///
/// They are woken after the state is unlocked: a waker may run arbitrary code, and a thread that is
/// woken under the lock would block on it at once.
#[derive(Debug, Default)]
pub(in crate::queue) struct Bell {
    tasks: Arc<WakerSet>,
    rung: bool,
}

impl Bell {
    pub(in crate::queue) fn register(&self) -> io::Result<WakerSlot> {
        self.tasks.register()
    }

    /// Returns whether a task or selector waits.
    pub(in crate::queue) fn is_awaited(&self) -> bool {
        self.tasks.is_awaited()
    }

    /// Has all of them woken once the state is unlocked.
    pub(in crate::queue) fn ring(&mut self) {
        self.rung = true;
    }

    /// Wakes the threads now. Returns the tasks, to be woken after the state is unlocked.
    fn wake_threads(&mut self, threads: &Condvar) -> Option<Arc<WakerSet>> {
        if !std::mem::take(&mut self.rung) {
            return None;
        }
        threads.notify_all();
        self.is_awaited().then(|| self.tasks.clone())
    }
}

/// The condition variables that threads in the owner process sleep on.
#[derive(Debug, Default)]
pub(in crate::queue) struct Condvars {
    pub(in crate::queue) items: Condvar,
    pub(in crate::queue) room: Condvar,
    pub(in crate::queue) done: Condvar,
}

/// The bells of a queue, and the rules for tasks and selectors in the owner process.
///
/// They want an item as a waiting thread does, but no item is assigned to them before they take it,
/// because one that was woken may be busy with other things. So an item is kept for them only for a
/// moment. And because the program around a task may be about to put, a waiting task does not make
/// the queue abandoned for others.
#[derive(Debug, Default)]
pub(in crate::queue) struct Bells {
    pub(in crate::queue) items: Bell,
    pub(in crate::queue) room: Bell,
    pub(in crate::queue) done: Bell,
    /// When the tasks were last woken for an item that none of them has taken.
    notified: Option<Instant>,
}

/// Sets of wakers to wake without the lock.
pub(in crate::queue) type Woken = [Option<Arc<WakerSet>>; 3];

impl Bells {
    /// Wakes the tasks that wait for an item.
    pub(in crate::queue) fn notify_item(&mut self) {
        self.items.ring();
        self.notified = Some(Instant::now());
    }

    /// Records that an item was taken in this process.
    pub(in crate::queue) fn note_taken(&mut self) {
        self.notified = None;
    }

    /// Returns until when one item is kept for the tasks that were woken.
    pub(in crate::queue) fn kept_until(&self) -> Option<Instant> {
        self.notified.map(|notified| notified + STALLED)
    }

    /// Returns whether the last stored item is kept from other processes.
    pub(in crate::queue) fn keeps_one(&self) -> bool {
        let kept = self.kept_until();
        self.items.is_awaited() || kept.is_some_and(|until| until > Instant::now())
    }

    /// Returns whether a rung bell has tasks, which must not be woken under the lock.
    pub(in crate::queue) fn must_unlock(&self) -> bool {
        let bells = [&self.items, &self.room, &self.done];
        bells.iter().any(|bell| bell.rung && bell.is_awaited())
    }

    /// Wakes the threads of all rung bells now, and returns the tasks.
    pub(in crate::queue) fn wake_threads(&mut self, threads: &Condvars) -> Woken {
        [
            self.items.wake_threads(&threads.items),
            self.room.wake_threads(&threads.room),
            self.done.wake_threads(&threads.done),
        ]
    }
}
