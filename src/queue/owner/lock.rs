//! A queue in its owner's process: the state, and the lock around it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use crate::ipc::hub::{self, ObjectKey};
use crate::ipc::wire;
use crate::queue::options::{QueueKind, QueueOptions};
use crate::queue::owner::state::QueueState;
use crate::queue::owner::wakers::Condvars;
use crate::queue::role::{OwnHandles, Role};
use crate::sys;

/// A queue, in the process that owns it.
#[derive(Debug)]
pub(in crate::queue) struct QueueOwner {
    pub(in crate::queue) kind: QueueKind,
    pub(in crate::queue) capacity: Option<usize>,
    pub(in crate::queue) joinable: bool,
    pub(in crate::queue) fingerprint: u64,
    /// The name of the item type.
    pub(in crate::queue) item: &'static str,
    pub(in crate::queue) name: Option<Arc<str>>,
    /// The hub's key for the queue itself. Handles carry the keys of its facets.
    pub(in crate::queue) key: ObjectKey,
    /// Counts the handles in this process.
    handles: Arc<OwnHandles>,
    state: Mutex<QueueState>,
    pub(in crate::queue) threads: Condvars,
}

impl QueueOwner {
    pub(in crate::queue) fn new(
        options: QueueOptions,
        joinable: bool,
        item: &'static str,
        key: ObjectKey,
    ) -> QueueOwner {
        let handles = Arc::<OwnHandles>::default();
        QueueOwner {
            kind: options.kind,
            capacity: options.capacity,
            joinable,
            fingerprint: wire::fingerprint(item),
            item,
            name: options.name.clone(),
            key,
            state: Mutex::new(QueueState::new(options, joinable, item, handles.clone())),
            handles,
            threads: Condvars::default(),
        }
    }

    /// Locks the state. No user code may run under this lock.
    pub(in crate::queue) fn lock(&self) -> StateGuard<'_> {
        StateGuard { owner: self, state: Some(sys::lock(&self.state)) }
    }

    /// Changes the state, and schedules.
    pub(in crate::queue) fn update<R>(&self, change: impl FnOnce(&mut QueueState) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        state.schedule();
        result
    }

    /// Reads the state, including everything that clients have written so far.
    pub(in crate::queue) fn read<R>(&self, read: impl FnOnce(&mut QueueState) -> R) -> R {
        self.update(|state| {
            state.drain_all();
            read(state)
        })
    }

    pub(in crate::queue) fn add_handle(&self, role: Role) {
        self.handles.add(role);
    }

    pub(in crate::queue) fn drop_handle(&self, role: Role) {
        self.handles.remove(role);
        // Others may be waiting for something that only this handle could have put or taken.
        self.update(|_| ());
    }
}

/// A guard for the queue's state. Dropping it wakes what the scheduler has notified, and the hub if
/// it has to serve the queue.
pub(in crate::queue) struct StateGuard<'a> {
    owner: &'a QueueOwner,
    /// `None` only while the state is unlocked.
    state: Option<MutexGuard<'a, QueueState>>,
}

impl<'a> StateGuard<'a> {
    /// Unlocks the state, and sleeps until one of `threads` is notified, or until `deadline`.
    /// Returns at once if tasks have to be woken first, since that must not happen under the lock.
    pub(in crate::queue) fn wait(
        mut self,
        threads: &Condvar,
        deadline: Option<Instant>,
    ) -> StateGuard<'a> {
        let owner = self.owner;
        match self.state.take_if(|state| !state.bells().must_unlock()) {
            Some(mut state) => {
                // No tasks are woken here.
                let _ = state.wake_threads(&owner.threads);
                let state = Some(sys::wait(threads, state, deadline));
                StateGuard { owner, state }
            }
            None => {
                drop(self);
                owner.lock()
            }
        }
    }
}

impl Deref for StateGuard<'_> {
    type Target = QueueState;

    fn deref(&self) -> &QueueState {
        let state = self.state.as_ref();
        state.expect("the state is locked as long as the guard lives")
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut QueueState {
        let state = self.state.as_mut();
        state.expect("the state is locked as long as the guard lives")
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else {
            return;
        };
        let tasks = state.wake_threads(&self.owner.threads);
        let becomes_active = state.becomes_active();
        drop(state);
        if becomes_active {
            hub::attend(self.owner.key);
        }
        tasks.iter().flatten().for_each(|tasks| tasks.wake());
    }
}
