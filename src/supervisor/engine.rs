//! The supervisor itself: one thread that owns the children, learns of their ends, and applies the
//! strategy.
//!
//! It does one thing at a time, like OTP's: while it starts or stops a child, ends and requests
//! wait in its inbox. So the report of an end may be outdated when the engine reads it: the engine
//! may have stopped the child in the meantime, or even started it again. [`EngineMessage::Ended`]
//! therefore names the start that ended, and the engine ignores it unless that start is the latest
//! and the child still counts as up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use crate::error::{CreateError, DownReason, StartError, SupervisorError};
use crate::ipc::catch;
use crate::supervisor::builder::RestartPolicy;
use crate::supervisor::child::OnChildEnd;
use crate::supervisor::child_info::ChildState;
use crate::supervisor::events::{SupervisorEnd, SupervisorEvent};
use crate::supervisor::message::EngineMessage;
use crate::supervisor::slot::ChildSlot;
use crate::supervisor::strategy::Intensity;
use crate::supervisor::view::{Children, SupervisorView};

/// The place of a supervisor in the tree. It decides what happens to its children once it has
/// ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing is above it: its children are down for good.
    Top,
    /// The supervisor above may restart it, and with it the children it was built with.
    Nested,
}

/// Children to restart, in this order.
pub(super) struct PendingRestart {
    pub(super) keys: Vec<u64>,
    pub(super) due: Instant,
}

pub(super) struct Engine {
    pub(super) policy: RestartPolicy,
    level: Level,
    pub(super) intensity: Intensity,
    /// In the order of their start.
    pub(super) slots: Vec<ChildSlot>,
    /// Children that were added to the running supervisor have this key or a higher one.
    first_added: u64,
    /// Children of the builder that were removed since the start. They come back when the
    /// supervisor is restarted.
    removed: Vec<ChildSlot>,
    pub(super) pending: Vec<PendingRestart>,
    pub(super) next_key: u64,
    pub(super) view: Arc<SupervisorView>,
    pub(super) end: Option<SupervisorEnd>,
    inbox: mpsc::Receiver<EngineMessage>,
    outbox: mpsc::Sender<EngineMessage>,
}

/// Refuses an id that no path can name.
pub(super) fn check_id(id: &str) -> Result<(), SupervisorError> {
    if id.contains('/') {
        return Err(SupervisorError::InvalidId { id: id.to_owned() });
    }
    Ok(())
}

impl Engine {
    pub(super) fn new(
        policy: RestartPolicy,
        level: Level,
        slots: Vec<ChildSlot>,
        view: Arc<SupervisorView>,
    ) -> Engine {
        let (outbox, inbox) = mpsc::channel();
        view.open(outbox.clone());
        let next_key = slots.iter().map(|slot| slot.key + 1).max().unwrap_or(0);
        Engine {
            policy,
            level,
            intensity: Intensity::new(policy.intensity, policy.period),
            next_key,
            slots,
            first_added: next_key,
            removed: Vec::new(),
            pending: Vec::new(),
            view,
            end: None,
            inbox,
            outbox,
        }
    }

    /// Starts a thread that starts the children and then supervises them. Returns once all children
    /// are up, with the sender of messages to that thread.
    ///
    /// If a child does not start, those before it are stopped again. In either case, once all
    /// children are down, `return_slots` gets them back. `at_end` runs after that, when others may
    /// learn of the end.
    pub(super) fn launch(
        self,
        return_slots: impl FnOnce(Vec<ChildSlot>) + Send + 'static,
        at_end: impl FnOnce(SupervisorEnd) + Send + 'static,
    ) -> Result<mpsc::Sender<EngineMessage>, SupervisorError> {
        let outbox = self.outbox.clone();
        let (up, is_up) = mpsc::channel();
        // Not a service thread, because those block signals: this one runs user code, the closures
        // that make workers.
        let thread = thread::Builder::new().name("offspring-supervisor".to_owned());
        let work = move || {
            let guard = CloseOnDrop(self.view.clone());
            match self.run(|| drop(up.send(Ok(())))) {
                Ok((slots, end)) => {
                    // The slots first, then the view, then the supervisor above, which may start
                    // this supervisor again at once. By then the slots must be back, and closing
                    // the view later would close it for the next thread.
                    return_slots(slots);
                    guard.close(end.clone());
                    at_end(end);
                }
                Err((slots, error)) => {
                    return_slots(slots);
                    guard.close(SupervisorEnd::Stopped);
                    drop(up.send(Err(error)));
                }
            }
        };
        thread.spawn(work).map_err(|cause| {
            let act = "start a thread";
            let cause = CreateError::Io { act, cause };
            SupervisorError::Create { cause }
        })?;
        let result = is_up.recv().unwrap_or(Err(SupervisorError::Ended));
        result.map(|()| outbox)
    }

    fn run(
        mut self,
        up: impl FnOnce(),
    ) -> Result<(Vec<ChildSlot>, SupervisorEnd), (Vec<ChildSlot>, SupervisorError)> {
        match self.start_all() {
            Ok(()) => up(),
            Err(error) => return Err((self.into_slots(), error)),
        }
        while self.end.is_none() {
            self.handle_next();
        }
        self.stop_all();
        let end = self.end.take().unwrap_or(SupervisorEnd::Stopped);
        Ok((self.into_slots(), end))
    }

    /// Returns the children for the next start. For a nested supervisor, those are the children of
    /// its builder, as OTP's `init` would return them.
    fn into_slots(mut self) -> Vec<ChildSlot> {
        self.slots.append(&mut self.removed);
        if self.level == Level::Top {
            return self.slots;
        }
        let first_added = self.first_added;
        let (mut built, added): (Vec<_>, Vec<_>) =
            self.slots.into_iter().partition(|slot| slot.key < first_added);
        added.into_iter().for_each(ChildSlot::forget);
        built.sort_by_key(|slot| slot.key);
        built
    }

    /// Whether the child is started again when its supervisor is restarted.
    fn comes_back(&self, slot: &ChildSlot) -> bool {
        self.level == Level::Nested && slot.key < self.first_added
    }

    /// Removes a child that is down.
    pub(super) fn remove(&mut self, index: usize) {
        let slot = self.slots.remove(index);
        if self.comes_back(&slot) {
            self.removed.push(slot);
        } else {
            slot.forget();
        }
    }

    fn handle_next(&mut self) {
        let due = self.pending.iter().map(|pending| pending.due).min();
        let message = match due.map(|due| due.saturating_duration_since(Instant::now())) {
            None => self.inbox.recv().ok(),
            Some(left) => self.inbox.recv_timeout(left).ok(),
        };
        match message {
            Some(EngineMessage::Ended { key, launch, reason }) => {
                self.handle_end(key, launch, reason)
            }
            Some(EngineMessage::Request(request, reply)) => {
                let result = self.handle_request(request);
                // Before the reply, so that the caller then sees the effect of its request.
                self.publish();
                let _ = reply.send(result);
            }
            Some(EngineMessage::Stop) => self.end = Some(SupervisorEnd::Stopped),
            None => {}
        }
        // Before the restarts, so that a client that has a reply of the next incarnation cannot see
        // the pid of the last one.
        self.publish();
        self.start_due();
    }

    fn start_all(&mut self) -> Result<(), SupervisorError> {
        for index in 0..self.slots.len() {
            if let Err(cause) = self.start(index) {
                let id = self.slots[index].id.clone();
                self.stop_all();
                let cause = Box::new(cause);
                return Err(SupervisorError::Start { id, cause });
            }
        }
        Ok(())
    }

    /// Stops all children, last first.
    ///
    /// Announces each end at once, not when all are down: a client that waits for a reply of this
    /// child may be a child that is still to be stopped.
    fn stop_all(&mut self) {
        self.pending.clear();
        let reason = self.end_of_children();
        for index in (0..self.slots.len()).rev() {
            self.stop(index);
            self.announce_end(index, &reason);
        }
        self.publish();
    }

    /// Announces to the clients of a child that this supervisor will not start it again.
    pub(super) fn announce_end(&mut self, index: usize, reason: &DownReason) {
        let comes_back = self.comes_back(&self.slots[index]);
        let child = &mut self.slots[index].child;
        if comes_back {
            // The supervisor above decides; until then the address stays valid.
            child.announce_restart(reason);
        } else {
            child.announce_down(reason);
        }
    }

    /// Returns what the clients of the children learn when the supervisor ends. If it gave up, that
    /// includes the reason.
    pub(super) fn end_of_children(&self) -> DownReason {
        match &self.end {
            Some(SupervisorEnd::GaveUp { id, reason, intensity, period }) => {
                DownReason::SupervisorGaveUp {
                    child: id.clone(),
                    reason: Box::new(reason.clone()),
                    intensity: *intensity,
                    period: *period,
                }
            }
            _ => DownReason::Shutdown,
        }
    }

    pub(super) fn start(&mut self, index: usize) -> Result<(), StartError> {
        let slot = &mut self.slots[index];
        slot.launch += 1;
        let (key, launch, outbox) = (slot.key, slot.launch, self.outbox.clone());
        let on_end: OnChildEnd = Box::new(move |reason| {
            // Fails only if the engine has ended. Before that, it stopped this child.
            let _ = outbox.send(EngineMessage::Ended { key, launch, reason });
        });
        // The closure that makes a worker is user code: the supervisor must survive its panic.
        let started = catch_unwind(AssertUnwindSafe(|| slot.child.start(slot.restart, on_end)));
        let started = started.unwrap_or_else(|panic| {
            let panic = catch::text_of(panic);
            let reason = DownReason::Failed(format!("making it panicked: {panic}"));
            let actor = slot.id.clone();
            Err(StartError::Down { actor, reason })
        });
        let id = slot.id.clone();
        let event = match &started {
            Ok(()) => {
                slot.state = ChildState::Up;
                slot.up_since = Instant::now();
                let (pid, restarts) = (slot.child.pid(), slot.restarts);
                SupervisorEvent::Started { id, pid, restarts }
            }
            Err(error) => {
                let error = error.to_string();
                SupervisorEvent::StartFailed { id, error }
            }
        };
        // Before the event, so that its reader finds the child up.
        self.publish();
        self.view.emit(&event);
        started
    }

    /// Stops the child if it is up.
    pub(super) fn stop(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.state == ChildState::Up {
            slot.child.stop(slot.shutdown);
            slot.last_end = Some(DownReason::Shutdown);
            let id = slot.id.clone();
            self.view.emit(&SupervisorEvent::Stopped { id });
        }
        slot.state = ChildState::Stopped;
    }

    pub(super) fn index_of(&self, key: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.key == key)
    }

    pub(super) fn publish(&self) {
        let (mut children, slots) = (Children::default(), &self.slots);
        for slot in slots {
            let id = || slot.id.clone();
            children.infos.push(slot.info());
            children.actors.extend(slot.child.address().map(|address| (id(), address)));
            children.supervisors.extend(slot.nested.clone().map(|view| (id(), view)));
        }
        self.view.publish(children);
    }
}

/// Closes the view even if the thread panics, so that threads that wait for the supervisor's end
/// wake up.
struct CloseOnDrop(Arc<SupervisorView>);

impl CloseOnDrop {
    fn close(self, end: SupervisorEnd) {
        self.0.close(end);
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(SupervisorEnd::Stopped);
    }
}
