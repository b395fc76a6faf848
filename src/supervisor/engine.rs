//! The supervisor itself: one thread that owns the children, hears of their ends, and does what the strategy says.
//!
//! It does one thing at a time, as OTP's does: while it starts or stops a child, ends and requests wait. A child's `Ended` says
//! of which start it is the end; one that the supervisor has brought about itself is of a start that is over, and nothing follows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use crate::error::{CreateError, DownReason, StartError, SupervisorError, chain_text};
use crate::ipc::catch;
use crate::supervisor::builder::Plan;
use crate::supervisor::child::OnEnd;
use crate::supervisor::events::{ChildState, Event, SupervisorEnd};
use crate::supervisor::restart::Pending;
use crate::supervisor::slot::Slot;
use crate::supervisor::strategy::Intensity;
use crate::supervisor::view::View;

pub(super) enum Message {
    Ended {
        key: u64,
        launch: u64,
        reason: DownReason,
    },
    Request(Box<dyn FnOnce(&mut Engine) + Send>),
    Stop,
}

/// What becomes of the children of a supervisor that has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are down for good.
    Down,
    /// The supervisor above decides.
    Open,
}

pub(super) struct Engine {
    pub(super) plan: Plan,
    pub(super) fate: Fate,
    pub(super) intensity: Intensity,
    pub(super) slots: Vec<Slot>,
    /// Keys below it are of the children that it began with.
    added: u64,
    /// Of those, who is not among the children any more, and comes back with the supervisor when that is started again.
    spent: Vec<Slot>,
    pub(super) pending: Vec<Pending>,
    pub(super) next_key: u64,
    pub(super) view: Arc<View>,
    pub(super) end: Option<SupervisorEnd>,
    inbox: mpsc::Receiver<Message>,
    outbox: mpsc::Sender<Message>,
}

impl Engine {
    pub(super) fn new(plan: Plan, fate: Fate, slots: Vec<Slot>, view: Arc<View>) -> Engine {
        let (outbox, inbox) = mpsc::channel();
        view.open(outbox.clone());
        let next_key = slots.iter().map(|slot| slot.key + 1).max().unwrap_or(0);
        Engine {
            plan,
            fate,
            intensity: Intensity::new(plan.intensity, plan.period),
            next_key,
            slots,
            added: next_key,
            spent: Vec::new(),
            pending: Vec::new(),
            view,
            end: None,
            inbox,
            outbox,
        }
    }

    /// Starts the children in order on a thread of their supervisor, which works from then on; the way to it. If one does not
    /// start, those before it are stopped again.
    ///
    /// `home` gets the children back when all are down, in either case; `at_end` runs after that, when others may know.
    pub(super) fn launch(
        self,
        home: impl FnOnce(Vec<Slot>) + Send + 'static,
        at_end: impl FnOnce(SupervisorEnd) + Send + 'static,
    ) -> Result<mpsc::Sender<Message>, SupervisorError> {
        let outbox = self.outbox.clone();
        let (told, started) = mpsc::channel();
        // User code runs on it (what makes workers), so it takes signals like any thread of the user.
        let thread = thread::Builder::new().name("offspring-supervisor".to_owned());
        let work = move || {
            let guard = Guard(self.view.clone());
            match self.work(|| drop(told.send(Ok(())))) {
                Ok((slots, end)) => {
                    home(slots);
                    guard.close(end.clone());
                    at_end(end);
                }
                Err((slots, error)) => {
                    home(slots);
                    guard.close(SupervisorEnd::Stopped);
                    drop(told.send(Err(error)));
                }
            }
        };
        thread.spawn(work).map_err(|source| {
            let act = "start a thread";
            let source = CreateError::Io { act, source };
            SupervisorError::Create { source }
        })?;
        started
            .recv()
            .unwrap_or(Err(SupervisorError::Ended))
            .map(|()| outbox)
    }

    fn work(
        mut self,
        up: impl FnOnce(),
    ) -> Result<(Vec<Slot>, SupervisorEnd), (Vec<Slot>, SupervisorError)> {
        match self.start_all() {
            Ok(()) => up(),
            Err(error) => return Err((self.leave(), error)),
        }
        while self.end.is_none() {
            self.turn();
        }
        self.stop_all();
        let end = self.end.take().unwrap_or(SupervisorEnd::Stopped);
        Ok((self.leave(), end))
    }

    /// What comes back when it is started again: the children that it began with, as OTP's `init` would name them.
    fn leave(mut self) -> Vec<Slot> {
        self.slots.append(&mut self.spent);
        if self.fate == Fate::Open {
            let added = self.added;
            let (mut own, others): (Vec<_>, Vec<_>) =
                self.slots.into_iter().partition(|slot| slot.key < added);
            others.into_iter().for_each(Slot::forget);
            own.sort_by_key(|slot| slot.key);
            return own;
        }
        self.slots
    }

    /// Whether it is started with the supervisor, should that be started again.
    fn comes_back(&self, slot: &Slot) -> bool {
        self.fate == Fate::Open && slot.key < self.added
    }

    /// Forgets a child that is down.
    pub(super) fn discard(&mut self, place: usize) {
        let slot = self.slots.remove(place);
        if self.comes_back(&slot) {
            self.spent.push(slot);
        } else {
            slot.forget();
        }
    }

    fn turn(&mut self) {
        let due = self.pending.iter().map(|pending| pending.due).min();
        let message = match due.map(|due| due.saturating_duration_since(Instant::now())) {
            None => self.inbox.recv().ok(),
            Some(left) => self.inbox.recv_timeout(left).ok(),
        };
        match message {
            Some(Message::Ended {
                key,
                launch,
                reason,
            }) => self.ended(key, launch, reason),
            Some(Message::Request(request)) => request(self),
            Some(Message::Stop) => self.end = Some(SupervisorEnd::Stopped),
            None => {}
        }
        // First: who has a reply of the next incarnation must not see the pid of the one before.
        self.publish();
        self.start_due();
    }

    fn start_all(&mut self) -> Result<(), SupervisorError> {
        for place in 0..self.slots.len() {
            if let Err(source) = self.start(place) {
                let id = self.slots[place].id.clone();
                self.stop_all();
                let source = Box::new(source);
                return Err(SupervisorError::Start { id, source });
            }
        }
        Ok(())
    }

    /// Stops all, last first. Clients of each learn at once that there is no reply, not when all are down: they may be among those
    /// that are stopped later.
    fn stop_all(&mut self) {
        self.pending.clear();
        for place in (0..self.slots.len()).rev() {
            self.stop(place);
            self.last_word(place, &DownReason::Shutdown);
        }
        self.publish();
    }

    pub(super) fn last_word(&mut self, place: usize, reason: &DownReason) {
        let comes_back = self.comes_back(&self.slots[place]);
        let child = &mut self.slots[place].child;
        if comes_back {
            child.will_restart(reason);
        } else {
            child.is_down(reason);
        }
    }

    pub(super) fn start(&mut self, place: usize) -> Result<(), StartError> {
        let slot = &mut self.slots[place];
        slot.launch += 1;
        let (key, launch, outbox) = (slot.key, slot.launch, self.outbox.clone());
        let on_end: OnEnd = Box::new(move |reason| {
            // A supervisor that has ended has stopped its children itself.
            let _ = outbox.send(Message::Ended {
                key,
                launch,
                reason,
            });
        });
        // What makes a worker is the user's, and must not take the supervisor along.
        let started = catch_unwind(AssertUnwindSafe(|| slot.child.start(slot.restart, on_end)));
        let started = started.unwrap_or_else(|panic| {
            let reason = DownReason::Failed(format!(
                "making it panicked: {}",
                catch::panic_text(&*panic)
            ));
            let actor = slot.id.clone();
            Err(StartError::Down { actor, reason })
        });
        let id = slot.id.clone();
        let event = match &started {
            Ok(()) => {
                slot.state = ChildState::Up;
                slot.up_since = Instant::now();
                let (pid, restarts) = (slot.child.pid(), slot.restarts);
                Event::Started { id, pid, restarts }
            }
            Err(error) => Event::StartFailed {
                id,
                error: chain_text(error),
            },
        };
        self.publish();
        self.view.tell(&event);
        started
    }

    /// Stops it if it is up.
    pub(super) fn stop(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        if slot.state == ChildState::Up {
            slot.child.stop(slot.shutdown);
            slot.last = Some(DownReason::Shutdown);
            let id = slot.id.clone();
            self.view.tell(&Event::Stopped { id });
        }
        slot.state = ChildState::Stopped;
    }

    pub(super) fn place(&self, key: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.key == key)
    }

    pub(super) fn publish(&self) {
        self.view.publish(&self.slots);
    }
}

/// Whoever waits for the supervisor's end learns of it, whatever ends its thread. It is over before anybody is told who may start the
/// supervisor again: then the view is that of the next thread.
struct Guard(Arc<View>);

impl Guard {
    fn close(self, end: SupervisorEnd) {
        self.0.close(end);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(SupervisorEnd::Stopped);
    }
}
