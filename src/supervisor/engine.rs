//! The supervisor itself: one thread that owns the children, hears of their ends, and does what the strategy says.
//!
//! It does one thing at a time, as OTP's does: while it starts or stops a child, ends and requests wait. What others may see of it
//! lies in [`Shared`], which nobody holds for long.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::actor::Entry;
use crate::error::{DownReason, StartError, SupervisorError, chain_text};
use crate::supervisor::builder::{Builder, Plan};
use crate::supervisor::child::{Child, OnEnd};
use crate::supervisor::events::{ChildInfo, ChildState, Event, SupervisorEnd};
use crate::supervisor::spec::{ChildKind, ChildSpec};
use crate::supervisor::strategy::{Intensity, Restart, Shutdown, Strategy};
use crate::sys::{self, lock};
use crate::wire;

pub(super) enum Message {
    Ended { key: u64, launch: u64, reason: DownReason },
    Request(Box<dyn FnOnce(&mut Engine) + Send>),
    Stop,
}

/// A child and how it is.
pub(super) struct Slot {
    key: u64,
    pub(super) id: String,
    kind: ChildKind,
    restart: Restart,
    shutdown: Shutdown,
    child: Box<dyn Child>,
    state: ChildState,
    /// Counts the starts, so that the end of an earlier one is not taken for that of this one.
    launch: u64,
    restarts: u64,
    /// Restarts without a quiet time between them.
    row: u32,
    up_since: Instant,
    last: Option<DownReason>,
}

/// Children that are to be started again, in this order.
struct Pending {
    keys: Vec<u64>,
    due: Instant,
}

/// What others see of a supervisor.
#[derive(Default)]
pub(crate) struct Shared {
    view: Mutex<View>,
    changed: Condvar,
}

#[derive(Default)]
struct View {
    children: Vec<ChildInfo>,
    entries: HashMap<String, Entry>,
    nested: HashMap<String, Arc<Shared>>,
    end: Option<SupervisorEnd>,
    listeners: Vec<mpsc::Sender<Event>>,
}

impl Shared {
    pub(super) fn children(&self) -> Vec<ChildInfo> {
        lock(&self.view).children.clone()
    }

    pub(super) fn listen(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel();
        let mut view = lock(&self.view);
        if view.end.is_none() {
            view.listeners.push(sender);
        }
        receiver
    }

    /// The actor at `path`: its id, after those of the supervisors above it.
    pub(super) fn entry(&self, path: &str) -> Option<Entry> {
        let view = lock(&self.view);
        if let Some(entry) = view.entries.get(path) {
            return Some(entry.clone());
        }
        let (first, rest) = path.split_once('/')?;
        let nested = view.nested.get(first).cloned();
        drop(view);
        nested?.entry(rest)
    }

    pub(super) fn wait_end(&self, deadline: Option<Instant>) -> Option<SupervisorEnd> {
        let mut view = lock(&self.view);
        loop {
            if view.end.is_some() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return view.end.clone();
            }
            view = sys::wait(&self.changed, view, deadline);
        }
    }

    fn tell(&self, event: &Event) {
        lock(&self.view).listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }
}

pub(super) struct Engine {
    plan: Plan,
    intensity: Intensity,
    slots: Vec<Slot>,
    pending: Vec<Pending>,
    next_key: u64,
    inbox: mpsc::Receiver<Message>,
    outbox: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    end: Option<SupervisorEnd>,
}

impl Engine {
    pub(super) fn new(plan: Plan, slots: Vec<Slot>, shared: Arc<Shared>) -> Engine {
        let (outbox, inbox) = mpsc::channel();
        lock(&shared.view).end = None;
        Engine {
            intensity: Intensity::new(plan.intensity, plan.period),
            next_key: slots.iter().map(|slot| slot.key + 1).max().unwrap_or(0),
            plan,
            slots,
            pending: Vec::new(),
            inbox,
            outbox,
            shared,
            end: None,
        }
    }

    pub(super) fn outbox(&self) -> mpsc::Sender<Message> {
        self.outbox.clone()
    }

    pub(super) fn into_slots(self) -> Vec<Slot> {
        self.slots
    }

    /// Starts all in order; if one does not, those before it are stopped again.
    pub(super) fn start_all(&mut self) -> Result<(), SupervisorError> {
        for place in 0..self.slots.len() {
            if let Err(source) = self.start(place) {
                let id = self.slots[place].id.clone();
                self.stop_all();
                return Err(SupervisorError::Start {
                    id,
                    source: Box::new(source),
                });
            }
        }
        Ok(())
    }

    /// Works until it is stopped or gives up; all children are down then.
    pub(super) fn run(mut self) -> (Vec<Slot>, SupervisorEnd) {
        while self.end.is_none() {
            let due = self.pending.iter().map(|pending| pending.due).min();
            let message = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => self.inbox.recv().ok(),
                Some(left) => self.inbox.recv_timeout(left).ok(),
            };
            match message {
                Some(Message::Ended { key, launch, reason }) => self.ended(key, launch, reason),
                Some(Message::Request(request)) => request(&mut self),
                Some(Message::Stop) => self.end = Some(SupervisorEnd::Stopped),
                None => {}
            }
            self.start_due();
            self.publish();
        }
        self.stop_all();
        let end = self.end.take().unwrap_or(SupervisorEnd::Stopped);
        (self.slots, end)
    }

    fn place(&self, key: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.key == key)
    }

    fn find(&self, id: &str) -> Result<usize, SupervisorError> {
        let place = self.slots.iter().position(|slot| slot.id == id);
        place.ok_or_else(|| SupervisorError::NotFound { id: id.to_owned() })
    }

    fn start(&mut self, place: usize) -> Result<(), StartError> {
        let slot = &mut self.slots[place];
        slot.launch += 1;
        let (key, launch, outbox) = (slot.key, slot.launch, self.outbox.clone());
        let on_end: OnEnd = Box::new(move |reason| {
            // A supervisor that has ended has stopped its children itself.
            let _ = outbox.send(Message::Ended { key, launch, reason });
        });
        // What makes a worker is the user's, and must not take the supervisor along.
        let started = catch_unwind(AssertUnwindSafe(|| slot.child.start(on_end)));
        let started = started.unwrap_or_else(|panic| {
            let reason = DownReason::Failed(format!("making it panicked: {}", wire::panic_text(&*panic)));
            let actor = slot.id.clone();
            Err(StartError::Down { actor, reason })
        });
        let event = match &started {
            Ok(()) => {
                slot.state = ChildState::Up;
                slot.up_since = Instant::now();
                Event::Started {
                    id: slot.id.clone(),
                    pid: slot.child.pid(),
                    restarts: slot.restarts,
                }
            }
            Err(error) => Event::StartFailed {
                id: slot.id.clone(),
                error: chain_text(error),
            },
        };
        self.shared.tell(&event);
        self.publish();
        started
    }

    /// Stops it if it is up; whether it was.
    fn stop(&mut self, place: usize) -> bool {
        let slot = &mut self.slots[place];
        let was_up = slot.state == ChildState::Up;
        if was_up {
            slot.child.stop(slot.shutdown);
            slot.last = Some(DownReason::Shutdown);
            self.shared.tell(&Event::Stopped { id: slot.id.clone() });
        }
        self.slots[place].state = ChildState::Stopped;
        was_up
    }

    fn stop_all(&mut self) {
        self.pending.clear();
        for place in (0..self.slots.len()).rev() {
            self.stop(place);
        }
        self.publish();
    }

    /// A child has ended by itself.
    fn ended(&mut self, key: u64, launch: u64, reason: DownReason) {
        let Some(place) = self.place(key) else { return };
        let slot = &mut self.slots[place];
        if slot.launch != launch || slot.state != ChildState::Up {
            return;
        }
        slot.state = ChildState::Stopped;
        slot.last = Some(reason.clone());
        let id = slot.id.clone();
        self.shared.tell(&Event::Ended {
            id: id.clone(),
            reason: reason.clone(),
        });
        if !slot.restart.applies(&reason) {
            slot.child.is_down(&reason);
            if slot.restart == Restart::Temporary {
                self.slots.remove(place);
            }
            return;
        }
        if slot.up_since.elapsed() > self.plan.period.max(self.plan.backoff.most()) {
            slot.row = 0;
        }
        slot.child.will_restart(&reason);
        if self.may_restart(&id, &reason) {
            self.restart_group(place);
        }
    }

    /// Counts one more restart; with too many the supervisor ends.
    fn may_restart(&mut self, id: &str, reason: &DownReason) -> bool {
        let allowed = self.intensity.allows(Instant::now());
        if !allowed {
            let (id, reason) = (id.to_owned(), reason.clone());
            self.shared.tell(&Event::GaveUp {
                id: id.clone(),
                reason: reason.clone(),
            });
            let (limit, period) = self.intensity.limit();
            self.end = Some(SupervisorEnd::GaveUp {
                id,
                reason,
                intensity: limit,
                period,
            });
        }
        allowed
    }

    /// Stops those that go with the failed one, last first, and notes when to start all of them.
    fn restart_group(&mut self, failed: usize) {
        let group = self.plan.strategy.group(failed, self.slots.len());
        let failed_key = self.slots[failed].key;
        let mut keys = Vec::new();
        for place in group.rev() {
            let others = self.slots[place].key != failed_key;
            if others {
                self.stop(place);
            }
            if self.slots[place].restart == Restart::Temporary {
                let mut slot = self.slots.remove(place);
                slot.child.is_down(&DownReason::Shutdown);
                continue;
            }
            let slot = &mut self.slots[place];
            if others {
                slot.child.will_restart(&DownReason::Shutdown);
            }
            slot.state = ChildState::Restarting;
            slot.restarts += 1;
            keys.push(slot.key);
        }
        keys.reverse();
        self.postpone(keys, failed_key);
    }

    fn postpone(&mut self, keys: Vec<u64>, failed: u64) {
        let Some(place) = self.place(failed) else { return };
        let slot = &mut self.slots[place];
        let pause = self.plan.backoff.pause(slot.row);
        slot.row = slot.row.saturating_add(1);
        // A group that was still to be started is part of this one.
        self.pending.retain(|pending| !pending.keys.iter().any(|key| keys.contains(key)));
        if !pause.is_zero() {
            let id = slot.id.clone();
            self.shared.tell(&Event::Restarting { id, after: pause });
        }
        let due = Instant::now() + pause;
        self.pending.push(Pending { keys, due });
    }

    fn start_due(&mut self) {
        while self.end.is_none() {
            let now = Instant::now();
            let Some(next) = self.pending.iter().position(|pending| pending.due <= now) else {
                return;
            };
            let keys = self.pending.remove(next).keys;
            self.start_group(keys);
        }
    }

    fn start_group(&mut self, keys: Vec<u64>) {
        for (count, &key) in keys.iter().enumerate() {
            let Some(place) = self.place(key) else { continue };
            let Err(error) = self.start(place) else { continue };
            let reason = DownReason::Failed(chain_text(&error));
            let id = self.slots[place].id.clone();
            self.slots[place].last = Some(reason.clone());
            if self.plan.strategy != Strategy::OneForOne {
                // They go together, so those before it go down with it.
                for &before in keys[..count].iter().rev() {
                    let Some(place) = self.place(before) else { continue };
                    self.stop(place);
                    let slot = &mut self.slots[place];
                    slot.child.will_restart(&DownReason::Shutdown);
                    slot.state = ChildState::Restarting;
                }
            }
            if self.may_restart(&id, &reason) {
                self.postpone(keys, key);
            }
            return;
        }
    }

    /// Makes known how things are.
    fn publish(&self) {
        let mut view = lock(&self.shared.view);
        view.children = self.slots.iter().map(Slot::info).collect();
        view.entries = self
            .slots
            .iter()
            .filter_map(|slot| Some((slot.id.clone(), slot.child.entry()?)))
            .collect();
        view.nested = self
            .slots
            .iter()
            .filter_map(|slot| Some((slot.id.clone(), slot.child.nested()?)))
            .collect();
    }

    pub(super) fn add(&mut self, spec: ChildSpec) -> Result<(), SupervisorError> {
        if self.slots.iter().any(|slot| slot.id == spec.id) {
            return Err(SupervisorError::DuplicateId { id: spec.id });
        }
        self.slots.push(Slot::new(self.next_key, spec));
        self.next_key += 1;
        Ok(())
    }

    pub(super) fn start_child(&mut self, spec: ChildSpec) -> Result<(), SupervisorError> {
        self.add(spec)?;
        let place = self.slots.len() - 1;
        self.start(place).map_err(|source| {
            let mut slot = self.slots.remove(place);
            slot.child.is_down(&DownReason::Shutdown);
            SupervisorError::Start {
                id: slot.id,
                source: Box::new(source),
            }
        })
    }

    pub(super) fn terminate_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let place = self.find(id)?;
        let key = self.slots[place].key;
        self.pending
            .iter_mut()
            .for_each(|pending| pending.keys.retain(|&other| other != key));
        self.stop(place);
        self.slots[place].child.is_down(&DownReason::Shutdown);
        if self.slots[place].restart == Restart::Temporary {
            self.slots.remove(place);
        }
        Ok(())
    }

    pub(super) fn restart_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let place = self.find(id)?;
        if self.slots[place].state != ChildState::Stopped {
            return Err(SupervisorError::Running { id: id.to_owned() });
        }
        self.start(place).map_err(|source| SupervisorError::Start {
            id: id.to_owned(),
            source: Box::new(source),
        })
    }

    pub(super) fn delete_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let place = self.find(id)?;
        if self.slots[place].state != ChildState::Stopped {
            return Err(SupervisorError::Running { id: id.to_owned() });
        }
        self.slots.remove(place);
        Ok(())
    }
}

impl Slot {
    pub(super) fn new(key: u64, spec: ChildSpec) -> Slot {
        Slot {
            key,
            id: spec.id,
            kind: spec.kind,
            restart: spec.restart,
            shutdown: spec.shutdown,
            child: (spec.make)(spec.heartbeat),
            state: ChildState::Stopped,
            launch: 0,
            restarts: 0,
            row: 0,
            up_since: Instant::now(),
            last: None,
        }
    }

    fn info(&self) -> ChildInfo {
        ChildInfo {
            id: self.id.clone(),
            kind: self.kind,
            state: self.state,
            pid: self.child.pid(),
            restarts: self.restarts,
            last_end: self.last.clone(),
        }
    }
}

/// The supervisor has ended, and will not be started again: so is everything below it.
pub(super) fn close(slots: &mut [Slot]) {
    for slot in slots.iter_mut().rev() {
        slot.child.is_down(&DownReason::Shutdown);
    }
}

/// Runs an engine on a thread of its own; `at_end` gets its children back.
pub(super) fn start_thread(engine: Engine, at_end: impl FnOnce(Vec<Slot>, SupervisorEnd) + Send + 'static) -> std::io::Result<()> {
    let shared = engine.shared.clone();
    // User code runs on it (what makes workers), so it takes signals like any thread of the user.
    let thread = std::thread::Builder::new().name("offspring-supervisor".to_owned());
    thread
        .spawn(move || {
            let (slots, end) = engine.run();
            at_end(slots, end.clone());
            let mut view = lock(&shared.view);
            view.end = Some(end);
            view.listeners.clear();
            drop(view);
            shared.changed.notify_all();
        })
        .map(drop)
}

/// A supervisor under another one, in the same process.
pub(super) struct NestedChild {
    plan: Plan,
    shared: Arc<Shared>,
    /// While it does not run.
    slots: Arc<Mutex<Option<Vec<Slot>>>>,
    running: Option<mpsc::Sender<Message>>,
    /// An id that two of the children have.
    twice: Option<String>,
}

impl NestedChild {
    pub(super) fn new(builder: Builder) -> NestedChild {
        let (plan, specs) = builder.into_parts();
        let mut ids = HashSet::new();
        let twice = specs.iter().find(|spec| !ids.insert(spec.id.clone())).map(|spec| spec.id.clone());
        let slots = specs.into_iter().zip(0..).map(|(spec, key)| Slot::new(key, spec)).collect();
        NestedChild {
            plan,
            shared: Arc::default(),
            slots: Arc::new(Mutex::new(Some(slots))),
            running: None,
            twice,
        }
    }

    fn each(&mut self, act: impl FnMut(&mut Slot)) {
        if let Some(slots) = &mut *lock(&self.slots) {
            slots.iter_mut().rev().for_each(act);
        }
    }
}

impl Child for NestedChild {
    fn start(&mut self, on_end: OnEnd) -> Result<(), StartError> {
        let failed = |error: &dyn std::error::Error| StartError::Down {
            actor: "a supervisor".to_owned(),
            reason: DownReason::Failed(chain_text(error)),
        };
        if let Some(id) = self.twice.clone() {
            return Err(failed(&SupervisorError::DuplicateId { id }));
        }
        let slots = lock(&self.slots).take().unwrap_or_default();
        let mut engine = Engine::new(self.plan, slots, self.shared.clone());
        if let Err(error) = engine.start_all() {
            *lock(&self.slots) = Some(engine.into_slots());
            return Err(failed(&error));
        }
        let outbox = engine.outbox();
        let home = self.slots.clone();
        start_thread(engine, move |slots, end| {
            *lock(&home) = Some(slots);
            on_end(match end {
                SupervisorEnd::Stopped => DownReason::Shutdown,
                end => DownReason::GaveUp(end.to_string()),
            });
        })
        .map_err(|error| failed(&error))?;
        self.running = Some(outbox);
        Ok(())
    }

    fn stop(&mut self, _: Shutdown) {
        let Some(running) = self.running.take() else { return };
        // One that has given up in this moment does not hear it, and ends all the same.
        let _ = running.send(Message::Stop);
        self.shared.wait_end(None);
    }

    fn will_restart(&mut self, _: &DownReason) {
        self.each(|slot| slot.child.will_restart(&DownReason::Shutdown));
    }

    fn is_down(&mut self, _: &DownReason) {
        self.each(|slot| slot.child.is_down(&DownReason::Shutdown));
    }

    fn pid(&self) -> Option<u32> {
        None
    }

    fn nested(&self) -> Option<Arc<Shared>> {
        Some(self.shared.clone())
    }
}

impl Shared {
    /// Ends it from outside, when there is no thread for it.
    pub(super) fn wait_end_within(&self, timeout: Duration) -> Option<SupervisorEnd> {
        self.wait_end(Instant::now().checked_add(timeout))
    }
}
