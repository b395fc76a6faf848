//! The state of a receiver: one channel where all senders ring, and a ring for each sending
//! process.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::ToReceiver;
use super::inbound::{IDLE, InboundRing, RawContent, RawMessage};
use super::layout::READER_SLEEPS;
use crate::ipc::deadline::{Deadline, TimeLimit, WaitEnd, Waited};
use crate::ipc::doorbell;
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::reactor::{EventSource, Interest, WakerSlot};
use crate::ipc::wire::{CheckedReceiver, Failure};
use crate::sys::lock;

#[derive(Debug)]
pub(super) struct ReceiverInbox {
    /// Where senders ring, and where new ones introduce themselves.
    bells: SharedReceiver<ToReceiver>,
    pub(super) rings: Mutex<Rings>,
    /// Whether a heap may have idle memory. Nearly always false, so the check mostly costs one
    /// load.
    has_chores: AtomicBool,
    /// The receiver is being encoded for another process, and comes back if it is not sent: until
    /// then a selector must not read its doorbells.
    is_leaving: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Rings {
    pub(super) all: Vec<InboundRing>,
    /// How many there ever were: the next one's number.
    count: u64,
    /// The index of the ring that was read last.
    turn: usize,
    /// When it was last checked which senders are gone.
    checked: Instant,
}

impl Rings {
    pub(super) fn add(&mut self, mut ring: InboundRing) {
        ring.number = self.count;
        self.count += 1;
        self.all.push(ring);
    }

    /// Drops the rings of senders that are gone. A sender that is killed does not set its flag, so
    /// its socket decides.
    pub(super) fn check_for_ends(&mut self) {
        self.checked = Instant::now();
        self.all.iter_mut().for_each(InboundRing::check_for_end);
        self.all.retain(|ring| !ring.is_finished());
    }

    /// Takes the next message, from each ring in turn.
    fn next(&mut self) -> Option<RawMessage> {
        self.all.retain(|ring| !ring.is_finished());
        for _ in 0..self.all.len() {
            self.turn = (self.turn + 1) % self.all.len();
            if let Some(message) = self.all[self.turn].next() {
                return Some(message);
            }
        }
        None
    }

    fn has_next(&self) -> bool {
        self.all.iter().any(InboundRing::has_next)
    }

    /// Returns idle memory, and checks which senders are gone. Returns when there is more to do.
    fn do_chores(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if now.saturating_duration_since(self.checked) >= IDLE {
            self.check_for_ends();
        }
        self.all.iter_mut().for_each(|ring| ring.return_idle_memory(now));
        self.all.iter().filter_map(InboundRing::idle_at).min()
    }
}

impl ReceiverInbox {
    pub(super) fn new(bells: CheckedReceiver<ToReceiver>) -> ReceiverInbox {
        ReceiverInbox {
            bells: SharedReceiver::new(bells),
            rings: Mutex::new(Rings {
                all: Vec::new(),
                count: 0,
                turn: 0,
                checked: Instant::now(),
            }),
            has_chores: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
        }
    }

    /// Takes the next message; waits until there is one.
    pub(super) fn next<L: TimeLimit>(&self, limit: &L) -> Waited<RawMessage, Failure, L> {
        let message = loop {
            let next = || lock(&self.rings).next();
            let Some(due) = self.do_chores() else {
                break self.bells.wait(self, limit, next)?;
            };
            let until = limit.deadline().map_or(due, |deadline| deadline.min(due));
            match self.bells.wait(self, &Deadline::from(until), next) {
                Ok(message) => break message,
                Err(WaitEnd::Failed(failure)) => return Err(failure.into()),
                Err(WaitEnd::Timeout(_)) => limit.check().map_err(WaitEnd::Timeout)?,
            }
        };
        if matches!(message.content, RawContent::Long(_)) {
            self.has_chores.store(true, Ordering::Relaxed);
        }
        Ok(message)
    }

    /// Waits until there is a message, without taking it.
    pub(super) fn wait(&self, limit: &Deadline) -> Waited<(), Failure, Deadline> {
        self.bells.wait(self, limit, || self.has_next())
    }

    fn has_next(&self) -> Option<()> {
        lock(&self.rings).has_next().then_some(())
    }

    /// Returns idle memory to the system. Returns when more will be idle, if any is in use.
    fn do_chores(&self) -> Option<Instant> {
        if !self.has_chores.load(Ordering::Relaxed) {
            return None;
        }
        let due = lock(&self.rings).do_chores();
        self.has_chores.store(due.is_some(), Ordering::Relaxed);
        due
    }

    /// Begins a move to another process. Returns `false` if another thread uses the inbox.
    pub(super) fn leave(self: &Arc<ReceiverInbox>) -> bool {
        // The flag before the count: a selector upgrades its reference before it reads the flag, so
        // one that is not counted here sees that the inbox is leaving.
        self.is_leaving.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_alone = Arc::strong_count(self) == 1;
        if is_alone {
            self.bells.disarm(&**self);
        }
        is_alone
    }

    /// Ends a move that did not happen.
    pub(super) fn stay(&self) {
        self.is_leaving.store(false, Ordering::SeqCst);
        self.bells.wake();
    }

    /// A second descriptor for the channel where senders ring.
    pub(super) fn share_bells(&self) -> io::Result<CheckedReceiver<()>> {
        self.bells.share()
    }
}

impl SleepFlag<ToReceiver> for ReceiverInbox {
    fn arm(&self) {
        for ring in &lock(&self.rings).all {
            doorbell::arm(ring.sender.region.atomic(READER_SLEEPS));
        }
    }

    fn disarm(&self) -> usize {
        lock(&self.rings)
            .all
            .iter()
            .filter(|ring| doorbell::disarm(ring.sender.region.atomic(READER_SLEEPS)))
            .count()
    }

    fn message(&self, message: ToReceiver) -> bool {
        match message {
            ToReceiver::Bell => true,
            ToReceiver::Join(sender) => {
                let ring = InboundRing::new(sender);
                let mut rings = lock(&self.rings);
                // Drop the rings of senders that are gone, so that rings do not accumulate while
                // senders come and go.
                rings.check_for_ends();
                ring.into_iter().for_each(|ring| rings.add(ring));
                false
            }
        }
    }
}

impl EventSource for ReceiverInbox {
    fn register(&self) -> io::Result<WakerSlot> {
        self.bells.register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        fence(Ordering::SeqCst);
        if self.is_leaving.load(Ordering::SeqCst) {
            if let Some((slot, waker)) = interest {
                slot.set(waker);
            }
            // Check again after the waker is set: `stay` clears the flag before it wakes, so
            // either this check sees the clear flag, or `stay` finds the waker.
            if self.is_leaving.load(Ordering::SeqCst) {
                return false;
            }
        }
        self.bells.poll(self, interest, || self.has_next()).is_ready()
    }
}
