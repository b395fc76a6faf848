//! What others see of a supervisor, while its thread works: nobody holds it for long.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Instant;

use crate::actor::Entry;
use crate::error::SupervisorError;
use crate::supervisor::engine::Message;
use crate::supervisor::events::{ChildInfo, Event, SupervisorEnd};
use crate::supervisor::feed::{Events, Listener, feed};
use crate::supervisor::slot::Slot;
use crate::sys::{self, lock};

#[derive(Default)]
pub(crate) struct View {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    children: Vec<ChildInfo>,
    entries: HashMap<String, Entry>,
    nested: HashMap<String, Arc<View>>,
    end: Option<SupervisorEnd>,
    /// To its thread, while it works.
    outbox: Option<mpsc::Sender<Message>>,
    listeners: Vec<Listener>,
}

impl View {
    pub(super) fn children(&self) -> Vec<ChildInfo> {
        lock(&self.seen).children.clone()
    }

    /// The children of the supervisor at `path`.
    pub(super) fn children_of(&self, path: &str) -> Option<Vec<ChildInfo>> {
        self.below(path).map(|nested| nested.children())
    }

    fn below(&self, path: &str) -> Option<Arc<View>> {
        let seen = lock(&self.seen);
        if let Some(nested) = seen.nested.get(path) {
            return Some(nested.clone());
        }
        let (first, rest) = path.split_once('/')?;
        let nested = seen.nested.get(first).cloned();
        drop(seen);
        nested?.below(rest)
    }

    /// The actor at `path`: its id, after those of the supervisors above it.
    pub(super) fn entry(&self, path: &str) -> Option<Entry> {
        if let Some(entry) = lock(&self.seen).entries.get(path) {
            return Some(entry.clone());
        }
        let (above, id) = path.rsplit_once('/')?;
        self.below(above)?.entry(id)
    }

    pub(super) fn listen(&self) -> Events {
        let (listener, events) = feed();
        let mut seen = lock(&self.seen);
        if seen.end.is_none() {
            seen.listeners.push(listener);
        }
        events
    }

    pub(super) fn wait_end(&self, deadline: Option<Instant>) -> Option<SupervisorEnd> {
        let mut seen = lock(&self.seen);
        loop {
            if seen.end.is_some() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return seen.end.clone();
            }
            seen = sys::wait(&self.changed, seen, deadline);
        }
    }

    pub(super) fn tell(&self, event: &Event) {
        lock(&self.seen)
            .listeners
            .retain(|listener| listener.tell(event));
    }

    /// Makes known how the children are.
    pub(super) fn publish(&self, slots: &[Slot]) {
        let children = slots.iter().map(Slot::info).collect();
        let entries = slots
            .iter()
            .filter_map(|slot| Some((slot.id.clone(), slot.child.entry()?)));
        let nested = slots
            .iter()
            .filter_map(|slot| Some((slot.id.clone(), slot.child.nested()?)));
        let (entries, nested) = (entries.collect(), nested.collect());
        let mut seen = lock(&self.seen);
        (seen.children, seen.entries, seen.nested) = (children, entries, nested);
    }

    /// Whom to ask for the child at `path`, and its id there.
    pub(super) fn way(
        &self,
        path: &str,
    ) -> Result<(mpsc::Sender<Message>, String), SupervisorError> {
        let own = |seen: &Seen| seen.children.iter().any(|child| child.id == path);
        match path.rsplit_once('/').filter(|_| !own(&lock(&self.seen))) {
            None => Ok((self.outbox()?, path.to_owned())),
            Some((above, id)) => Ok((self.outbox_of(above)?, id.to_owned())),
        }
    }

    /// To the supervisor at `path`.
    pub(super) fn outbox_of(&self, path: &str) -> Result<mpsc::Sender<Message>, SupervisorError> {
        let below = self.below(path).ok_or_else(|| SupervisorError::NotFound {
            id: path.to_owned(),
        })?;
        below.outbox()
    }

    fn outbox(&self) -> Result<mpsc::Sender<Message>, SupervisorError> {
        lock(&self.seen)
            .outbox
            .clone()
            .ok_or(SupervisorError::Ended)
    }

    /// It works, perhaps not for the first time.
    pub(super) fn open(&self, outbox: mpsc::Sender<Message>) {
        let mut seen = lock(&self.seen);
        seen.end = None;
        seen.outbox = Some(outbox);
    }

    /// It has ended, unless it had before. Its listeners learn that after all that happened.
    pub(super) fn close(&self, end: SupervisorEnd) {
        let mut seen = lock(&self.seen);
        seen.end.get_or_insert(end);
        seen.listeners.clear();
        seen.outbox = None;
        drop(seen);
        self.changed.notify_all();
    }
}
