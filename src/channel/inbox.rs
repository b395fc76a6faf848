//! The state of a receiver: the channel where all senders ring, and a ring for each sending
//! process.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex};

use super::ToReceiver;
use super::inbound::{RawMessage, UnmappedRing};
#[cfg(feature = "tracing")]
use super::rings::Backlog;
use super::rings::Rings;
use crate::ipc::deadline::{Deadline, TimeLimit, WaitEnd, Waited};
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::reactor::{EventSource, Interest, WakerSlot};
use crate::ipc::wire::{CheckedReceiver, Failure};
use crate::sys::lock;

#[derive(Debug)]
pub(super) struct ReceiverInbox {
    /// The channel where senders ring, and where new ones introduce themselves.
    bells: SharedReceiver<ToReceiver>,
    pub(super) rings: Mutex<Rings>,
    /// Set while the receiver is being encoded for another process. The receiver comes back if the
    /// value is not sent. Until then, a selector must not read its doorbells.
    is_leaving: AtomicBool,
}

impl ReceiverInbox {
    pub(super) fn new(bells: CheckedReceiver<ToReceiver>) -> ReceiverInbox {
        ReceiverInbox {
            bells: SharedReceiver::new(bells),
            rings: Mutex::new(Rings::new()),
            is_leaving: AtomicBool::new(false),
        }
    }

    /// Takes the next message, if there is one and the receiver has no chores to do.
    #[inline]
    pub(super) fn next_now(&self) -> Option<RawMessage> {
        let mut rings = lock(&self.rings);
        if rings.has_chores() { None } else { rings.next() }
    }

    /// Takes the next message; waits until there is one.
    pub(super) fn next<L: TimeLimit>(&self, limit: &L) -> Waited<RawMessage, Failure, L> {
        let is_to_hear = lock(&self.rings).is_to_hear();
        if is_to_hear {
            self.bells.hear(self);
        }
        loop {
            let due = lock(&self.rings).do_chores();
            let Some(due) = due else {
                return self.bells.wait(self, limit, || self.take());
            };
            let until = limit.deadline().map_or(due, |deadline| deadline.min(due));
            match self.bells.wait(self, &Deadline::from(until), || self.take()) {
                Ok(message) => return Ok(message),
                Err(WaitEnd::Failed(failure)) => return Err(failure.into()),
                Err(WaitEnd::Timeout(_)) => limit.check().map_err(WaitEnd::Timeout)?,
            }
        }
    }

    /// Returns what has been sent by now and is not received. A new sender has introduced itself
    /// before its first message, so the doorbells are read first.
    #[cfg(feature = "tracing")]
    pub(super) fn backlog(&self) -> Backlog {
        self.bells.hear(self);
        lock(&self.rings).backlog()
    }

    fn take(&self) -> Option<RawMessage> {
        let mut rings = lock(&self.rings);
        rings.next().or_else(|| self.check_at_end(&mut rings).then(|| rings.next())?)
    }

    /// Checks all rings if no sender is left that could ring. Returns whether it did.
    fn check_at_end(&self, rings: &mut Rings) -> bool {
        let must_check = rings.has_quiet() && self.bells.is_gone();
        if must_check {
            rings.check_all();
        }
        must_check
    }

    /// Waits until there is a message, without taking it.
    pub(super) fn wait(&self, limit: &Deadline) -> Waited<(), Failure, Deadline> {
        self.bells.wait(self, limit, || self.has_next())
    }

    fn has_next(&self) -> Option<()> {
        let mut rings = lock(&self.rings);
        let has_next = rings.has_next() || (self.check_at_end(&mut rings) && rings.has_next());
        has_next.then_some(())
    }

    /// Begins a move to another process. Returns `false` if another thread uses the inbox.
    pub(super) fn leave(self: &Arc<ReceiverInbox>) -> bool {
        // Set the flag before reading the count. A selector upgrades its reference before it reads
        // the flag, so a selector that is not counted here will see that the inbox is leaving.
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

    /// Returns a second descriptor for the channel where senders ring.
    pub(super) fn share_bells(&self) -> io::Result<CheckedReceiver<()>> {
        self.bells.share()
    }
}

impl SleepFlag<ToReceiver> for ReceiverInbox {
    fn arm(&self) {
        lock(&self.rings).arm();
    }

    fn disarm(&self) -> usize {
        lock(&self.rings).disarm()
    }

    fn expects_doorbells(&self) -> bool {
        lock(&self.rings).has_quiet()
    }

    fn message(&self, message: ToReceiver) -> bool {
        lock(&self.rings).hear();
        match message {
            ToReceiver::Bell(number) => {
                lock(&self.rings).rouse(number);
                true
            }
            ToReceiver::Join(sender) => {
                lock(&self.rings).join(UnmappedRing { sender, touched: 0 });
                false
            }
        }
    }

    fn malformed(&self) {
        lock(&self.rings).rouse_all();
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
