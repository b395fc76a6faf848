//! The state of a supervisor as other threads see it, even while its own thread is busy.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Instant;

use crate::actor::UntypedRef;
use crate::error::SupervisorError;
use crate::ipc::event_stream::EventPublisher;
use crate::supervisor::child_info::ChildInfo;
use crate::supervisor::events::{SupervisorEnd, SupervisorEvent, SupervisorEvents};
use crate::supervisor::message::EngineMessage;
use crate::sys::{self, lock};

/// A copy of the engine's state. Its lock is held only to copy in or out, so reading never waits
/// for a child that starts or stops.
#[derive(Default)]
pub(super) struct SupervisorView {
    seen: Mutex<Seen>,
    changed: Condvar,
    events: EventPublisher<SupervisorEvent>,
}

#[derive(Default)]
struct Seen {
    children: Children,
    end: Option<SupervisorEnd>,
    /// The sender of messages to the supervisor's thread, while that runs.
    outbox: Option<mpsc::Sender<EngineMessage>>,
}

/// The children of a supervisor at one moment.
#[derive(Default)]
pub(super) struct Children {
    pub(super) infos: Vec<ChildInfo>,
    pub(super) actors: HashMap<String, UntypedRef>,
    pub(super) supervisors: HashMap<String, Arc<SupervisorView>>,
}

impl SupervisorView {
    pub(super) fn children(&self) -> Vec<ChildInfo> {
        lock(&self.seen).children.infos.clone()
    }

    /// Returns the children of the supervisor at `path`.
    pub(super) fn children_of(&self, path: &str) -> Option<Vec<ChildInfo>> {
        self.supervisor(path).map(|nested| nested.children())
    }

    fn supervisor(&self, path: &str) -> Option<Arc<SupervisorView>> {
        let seen = lock(&self.seen);
        if let Some(nested) = seen.children.supervisors.get(path) {
            return Some(nested.clone());
        }
        let (first, rest) = path.split_once('/')?;
        let nested = seen.children.supervisors.get(first).cloned();
        drop(seen);
        nested?.supervisor(rest)
    }

    /// Returns the actor at `path`: its id, after those of the supervisors above it.
    pub(super) fn actor(&self, path: &str) -> Option<UntypedRef> {
        if let Some(entry) = lock(&self.seen).children.actors.get(path) {
            return Some(entry.clone());
        }
        let (above, id) = path.rsplit_once('/')?;
        self.supervisor(above)?.actor(id)
    }

    /// Returns the supervisor to ask about the child at `path`, and the child's id there.
    pub(super) fn resolve(
        &self,
        path: &str,
    ) -> Result<(mpsc::Sender<EngineMessage>, String), SupervisorError> {
        match path.rsplit_once('/').filter(|_| !self.has_child(path)) {
            None => Ok((self.outbox()?, path.to_owned())),
            Some((above, id)) => Ok((self.outbox_of(above)?, id.to_owned())),
        }
    }

    fn has_child(&self, id: &str) -> bool {
        let seen = lock(&self.seen);
        seen.children.infos.iter().any(|child| child.id == id)
    }

    /// Returns the sender of messages to the supervisor at `path`.
    pub(super) fn outbox_of(
        &self,
        path: &str,
    ) -> Result<mpsc::Sender<EngineMessage>, SupervisorError> {
        let nested = self.supervisor(path);
        let id = || path.to_owned();
        nested.ok_or_else(|| SupervisorError::NotFound { id: id() })?.outbox()
    }

    fn outbox(&self) -> Result<mpsc::Sender<EngineMessage>, SupervisorError> {
        let outbox = lock(&self.seen).outbox.clone();
        outbox.ok_or(SupervisorError::Ended)
    }

    pub(super) fn subscribe(&self) -> SupervisorEvents {
        let seen = lock(&self.seen);
        let stream = if seen.end.is_none() {
            // Under the lock: `close` sets `end` before it ends the streams, so it ends this one
            // too.
            self.events.subscribe()
        } else {
            // The supervisor has ended, so return the stream of a publisher that is dropped at
            // once: a stream that has ended.
            EventPublisher::default().subscribe()
        };
        SupervisorEvents::new(stream)
    }

    pub(super) fn emit(&self, event: &SupervisorEvent) {
        self.events.publish(event);
    }

    pub(super) fn publish(&self, children: Children) {
        let old = std::mem::replace(&mut lock(&self.seen).children, children);
        // Not under the lock.
        drop(old);
    }

    /// The supervisor starts, perhaps not for the first time.
    pub(super) fn open(&self, outbox: mpsc::Sender<EngineMessage>) {
        let mut seen = lock(&self.seen);
        seen.end = None;
        seen.outbox = Some(outbox);
    }

    /// The supervisor has ended; does nothing if it had ended before. Streams of events end after
    /// the last event.
    pub(super) fn close(&self, end: SupervisorEnd) {
        let mut seen = lock(&self.seen);
        seen.end.get_or_insert(end);
        seen.outbox = None;
        drop(seen);
        self.events.end();
        self.changed.notify_all();
    }

    /// Blocks until the supervisor has ended or `deadline` has passed.
    pub(super) fn wait_end(&self, deadline: Option<Instant>) -> Option<SupervisorEnd> {
        let mut seen = lock(&self.seen);
        loop {
            if seen.end.is_some() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return seen.end.clone();
            }
            seen = sys::wait(&self.changed, seen, deadline);
        }
    }
}
