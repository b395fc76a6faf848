//! The calls of one session that wait for their replies. Plain data: `session.rs` guards it with a
//! mutex.
//!
//! A direct call has a *slot*, whose number alone identifies the call in its reply:
//!
//! ```text
//! Free -- register --> Waiting -- deliver --> Done -- take --> Free
//!                         |                     '--- abandon --> Free
//!                         '-- abandon --> Abandoned -- deliver --> Free
//! ```
//!
//! A caller that gives up leaves its slot `Abandoned`, not `Free`. Otherwise the next call could
//! get the slot while the reply to the old one is still under way, and would mistake that reply for
//! its own. A call through the mailbox has a number that is never used again, so it is simply
//! forgotten.
//!
//! Replies have user types. Whatever is discarded here is returned, so that the caller can drop it
//! without the lock.

use std::collections::BTreeMap;

use crate::actor::protocol::{CallMark, CallNumber};
use crate::error::DecodeError;

/// How many direct calls of a session may wait at once. Further calls go through the mailbox, which
/// has a bound.
const DIRECT_MAX: usize = 16;

/// How a call ended.
#[derive(Debug)]
pub(in crate::actor) enum CallOutcome<R> {
    Reply(R),
    /// The actor did not handle it, or could not send its reply.
    Refused(String),
    Undecodable(DecodeError),
    /// The incarnation is gone.
    Gone,
}

/// Identifies a call in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actor) enum CallId {
    /// By its slot.
    Direct(usize),
    Mailbox(CallNumber),
}

pub(in crate::actor) struct PendingCalls<R> {
    /// True while a thread receives for all callers.
    pub(in crate::actor) has_leader: bool,
    gone: bool,
    waiting: usize,
    abandoned: usize,
    slots: Vec<CallSlot<R>>,
    by_mailbox: BTreeMap<CallNumber, Option<CallOutcome<R>>>,
    /// How many calls have gone through the mailbox.
    posted: u64,
}

enum CallSlot<R> {
    Free,
    Waiting,
    Done(CallOutcome<R>),
    Abandoned,
}

/// A message that the leader received, or why it received none.
pub(in crate::actor) enum Received<R> {
    Reply(CallId, CallOutcome<R>),
    /// A reply that belongs to no call.
    Stray,
    Timeout,
    /// This process lacks the descriptors to receive the reply, which stays in the channel.
    Starved,
    Gone,
}

/// What a delivery means for the leader.
pub(in crate::actor) enum Progress<R> {
    /// Its own call has ended.
    Own(CallOutcome<R>),
    /// Something else was received. If it is an outcome that no caller waits for, drop it without
    /// the lock.
    Other(Option<CallOutcome<R>>),
    Nothing,
    Starved,
}

impl<R> PendingCalls<R> {
    pub(in crate::actor) fn new() -> PendingCalls<R> {
        PendingCalls {
            has_leader: false,
            gone: false,
            waiting: 0,
            abandoned: 0,
            slots: Vec::new(),
            by_mailbox: BTreeMap::new(),
            posted: 0,
        }
    }

    /// Adds a call. It goes through the mailbox if it must not be direct, or if too many direct
    /// calls are waiting.
    pub(in crate::actor) fn register(&mut self, direct: bool) -> CallId {
        let direct = direct && self.waiting < DIRECT_MAX;
        self.waiting += 1;
        if let Some(slot) = direct.then(|| self.free_slot()).flatten() {
            self.slots[slot] = CallSlot::Waiting;
            return CallId::Direct(slot);
        }
        let number = CallNumber(self.posted);
        self.posted += 1;
        self.by_mailbox.insert(number, None);
        CallId::Mailbox(number)
    }

    fn free_slot(&mut self) -> Option<usize> {
        let free = self.slots.iter().position(|slot| matches!(slot, CallSlot::Free));
        free.or_else(|| {
            let next = self.slots.len();
            (next < CallMark::SLOTS).then(|| {
                self.slots.push(CallSlot::Free);
                next
            })
        })
    }

    pub(in crate::actor) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns how many direct calls were abandoned and their replies have not been received yet.
    pub(in crate::actor) fn abandoned(&self) -> usize {
        self.abandoned
    }

    pub(in crate::actor) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Removes a call to which no reply will come: it was not sent, or the leader received its
    /// reply.
    pub(in crate::actor) fn remove(&mut self, call: CallId) {
        self.waiting -= 1;
        match call {
            CallId::Direct(slot) => self.slots[slot] = CallSlot::Free,
            CallId::Mailbox(number) => drop(self.by_mailbox.remove(&number)),
        }
    }

    /// Gives up a call that was sent. Returns its outcome if that is already known.
    pub(in crate::actor) fn abandon(&mut self, call: CallId) -> Option<CallOutcome<R>> {
        self.waiting -= 1;
        match call {
            CallId::Direct(slot) => {
                match std::mem::replace(&mut self.slots[slot], CallSlot::Free) {
                    CallSlot::Done(outcome) => Some(outcome),
                    CallSlot::Waiting => {
                        self.slots[slot] = CallSlot::Abandoned;
                        self.abandoned += 1;
                        None
                    }
                    CallSlot::Free | CallSlot::Abandoned => None,
                }
            }
            CallId::Mailbox(number) => self.by_mailbox.remove(&number).flatten(),
        }
    }

    /// Removes a call whose outcome is known, and returns it.
    pub(in crate::actor) fn take(&mut self, call: CallId) -> Option<CallOutcome<R>> {
        let done = match call {
            CallId::Direct(slot) => matches!(self.slots[slot], CallSlot::Done(_)),
            CallId::Mailbox(number) => matches!(self.by_mailbox.get(&number), Some(Some(_))),
        };
        (done || self.gone).then(|| self.abandon(call).unwrap_or(CallOutcome::Gone))
    }

    /// Hands what the leader received to its call. `own` is the leader's call, if it has one.
    pub(in crate::actor) fn deliver(
        &mut self,
        own: Option<CallId>,
        received: Received<R>,
    ) -> Progress<R> {
        match received {
            Received::Reply(call, outcome) if Some(call) == own => {
                self.remove(call);
                Progress::Own(outcome)
            }
            Received::Reply(call, outcome) => Progress::Other(self.complete(call, outcome)),
            Received::Stray => Progress::Other(None),
            Received::Timeout => Progress::Nothing,
            Received::Starved => Progress::Starved,
            Received::Gone => {
                self.gone = true;
                Progress::Other(None)
            }
        }
    }

    /// Completes the call of another thread. Returns the outcome if no caller waits for it.
    fn complete(&mut self, call: CallId, outcome: CallOutcome<R>) -> Option<CallOutcome<R>> {
        match call {
            CallId::Direct(slot) => match self.slots.get_mut(slot) {
                Some(slot @ CallSlot::Waiting) => *slot = CallSlot::Done(outcome),
                Some(slot @ CallSlot::Abandoned) => {
                    *slot = CallSlot::Free;
                    self.abandoned -= 1;
                    return Some(outcome);
                }
                // A second reply, or a reply to no call. No actor of this crate sends one.
                _ => return Some(outcome),
            },
            CallId::Mailbox(number) => match self.by_mailbox.get_mut(&number) {
                Some(pending @ None) => *pending = Some(outcome),
                // Its caller has given up.
                _ => return Some(outcome),
            },
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(call: CallId) -> Received<u32> {
        Received::Reply(call, CallOutcome::Reply(7))
    }

    #[test]
    fn an_abandoned_slot_is_free_again_when_its_reply_has_come() {
        let mut calls = PendingCalls::<u32>::new();
        let abandoned = calls.register(true);
        calls.abandon(abandoned);
        let own = calls.register(true);
        assert_eq!((abandoned, own), (CallId::Direct(0), CallId::Direct(1)));
        assert_eq!(calls.abandoned(), 1);
        assert!(matches!(calls.deliver(Some(own), reply(abandoned)), Progress::Other(Some(_))));
        assert!(calls.take(abandoned).is_none() && calls.abandoned() == 0);
        assert_eq!(calls.register(true), CallId::Direct(0));
        assert!(matches!(
            calls.deliver(Some(own), reply(own)),
            Progress::Own(CallOutcome::Reply(7))
        ));
        assert_eq!(calls.register(true), CallId::Direct(1));
        assert_eq!(calls.waiting(), 2);
    }

    #[test]
    fn calls_beyond_the_direct_ones_go_through_the_mailbox() {
        let mut calls = PendingCalls::<u32>::new();
        let direct: Vec<_> = (0..DIRECT_MAX).map(|_| calls.register(true)).collect();
        assert!(direct.iter().all(|call| matches!(call, CallId::Direct(_))));
        let by_mailbox = calls.register(true);
        assert_eq!(by_mailbox, CallId::Mailbox(CallNumber(0)));
        calls.remove(direct[3]);
        calls.remove(direct[5]);
        assert_eq!(calls.register(true), direct[3]);
        assert_eq!(calls.register(false), CallId::Mailbox(CallNumber(1)));
        assert!(matches!(calls.deliver(Some(direct[0]), reply(by_mailbox)), Progress::Other(None)));
        assert!(matches!(calls.take(by_mailbox), Some(CallOutcome::Reply(7))));
        assert_eq!(calls.waiting(), DIRECT_MAX);
    }

    #[test]
    fn abandoned_calls_keep_their_slots_until_there_are_none_left() {
        let mut calls = PendingCalls::<u32>::new();
        for slot in 0..CallMark::SLOTS {
            let call = calls.register(true);
            assert_eq!(call, CallId::Direct(slot));
            calls.abandon(call);
        }
        assert!(matches!(calls.register(true), CallId::Mailbox(_)));
        let last = CallMark { slot: CallMark::SLOTS - 1, special: true };
        assert_eq!(CallMark::of(last.mark()), Some(last));
    }

    #[test]
    fn replies_to_no_call_change_nothing() {
        let mut calls = PendingCalls::<u32>::new();
        let own = calls.register(true);
        for call in [CallId::Direct(1), CallId::Direct(200), CallId::Mailbox(CallNumber(5))] {
            assert!(matches!(calls.deliver(Some(own), reply(call)), Progress::Other(Some(_))));
        }
        assert!(calls.take(own).is_none());
        calls.deliver(None, Received::Gone);
        assert!(matches!(calls.take(own), Some(CallOutcome::Gone)));
        assert_eq!(calls.waiting(), 0);
    }
}
