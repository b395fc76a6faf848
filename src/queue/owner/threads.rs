//! Operations of threads in the owner process, which work on the state directly.

use std::sync::Arc;

use crate::error::{DeadLetterError, DecodeError};
use crate::ipc::deadline::{TimeLimit, WaitEnd, Waited};
use crate::queue::item::{NewItem, Taken};
use crate::queue::outcome::{QueueFailure, QueueJoined};
use crate::queue::owner::dead_letters::Letter;
use crate::queue::owner::lock::QueueOwner;
use crate::queue::owner::state::{QueueState, Wait};

impl QueueOwner {
    pub(in crate::queue) fn put<L: TimeLimit>(
        &self,
        item: NewItem<'_>,
        limit: &L,
    ) -> Waited<(), QueueFailure, L> {
        let mut state = self.lock();
        state.begin(Wait::Room);
        let mut scheduled = false;
        let outcome = loop {
            let elapsed = limit.check();
            if let Some(outcome) = state.check_room(elapsed.is_err()) {
                break outcome.map_err(WaitEnd::Failed);
            }
            if let Err(elapsed) = elapsed {
                break Err(WaitEnd::Timeout(elapsed));
            }
            if std::mem::replace(&mut scheduled, true) {
                let until = limit.deadline().into_iter().chain(state.next_check()).min();
                state = state.wait(&self.threads.room, until);
            } else {
                // Decides when to take back room that clients do not use.
                state.schedule();
            }
        };
        state.end(Wait::Room);
        if outcome.is_ok() {
            state.put(item);
        }
        state.schedule();
        outcome
    }

    /// Puts as many items as there is room for, without waiting. Returns how many it put.
    pub(in crate::queue) fn put_more<'a>(
        &self,
        items: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> usize {
        self.update(|state| {
            let room = if state.refuses_puts() { 0 } else { state.free() };
            let count = items.len().min(room);
            items.take(count).for_each(|item| state.put(NewItem::Bytes(item)));
            count
        })
    }

    pub(in crate::queue) fn get<L: TimeLimit>(&self, limit: &L) -> Waited<Taken, QueueFailure, L> {
        let mut state = self.lock();
        state.begin(Wait::Item);
        let outcome = loop {
            let elapsed = limit.check();
            if let Some(outcome) = state.check_item(elapsed.is_err()) {
                break outcome.map_err(WaitEnd::Failed);
            }
            if let Err(elapsed) = elapsed {
                break Err(WaitEnd::Timeout(elapsed));
            }
            let until = limit.deadline().into_iter().chain(state.next_check()).min();
            state = state.wait(&self.threads.items, until);
        };
        state.end(Wait::Item);
        let taken = outcome.and_then(|item| state.deliver(item).map_err(WaitEnd::Failed));
        state.schedule();
        taken
    }

    /// Takes up to `max` more items that are left in the store after those that wait were served.
    pub(in crate::queue) fn take_more(&self, max: usize, taken: &mut Vec<Taken>) {
        if max == 0 {
            return;
        }
        self.update(|state| {
            state.schedule();
            // An item that there is no memory for stays. The next call reports that.
            let more = std::iter::from_fn(|| state.take_stored()?.ok());
            taken.extend(more.take(max));
        });
    }

    pub(in crate::queue) fn join<L: TimeLimit>(
        &self,
        limit: &L,
    ) -> Waited<QueueJoined, QueueFailure, L> {
        let mut state = self.lock();
        state.begin(Wait::Done);
        let outcome = loop {
            if let Some(outcome) = state.check_done() {
                break outcome.map_err(WaitEnd::Failed);
            }
            if let Err(elapsed) = limit.check() {
                break Err(WaitEnd::Timeout(elapsed));
            }
            state.schedule();
            state = state.wait(&self.threads.done, limit.deadline());
        };
        state.end(Wait::Done);
        state.schedule();
        outcome
    }

    /// Ends the lease of an item: it is finished, or goes to the next consumer.
    pub(in crate::queue) fn end_lease(&self, lease: u64, done: bool) {
        self.update(|state| state.end_lease(lease, done));
    }

    /// From now on, `task_done` of the queue may end this lease.
    pub(in crate::queue) fn detach_lease(&self, lease: u64) {
        self.lock().detach_lease(lease);
    }

    /// Returns the oldest detached lease.
    pub(in crate::queue) fn next_detached(&self) -> Option<u64> {
        self.lock().next_detached()
    }

    /// Called when an item that was taken in this process does not decode.
    pub(in crate::queue) fn bury_undecodable(&self, taken: Taken, error: DecodeError) {
        self.update(|state| state.bury_undecodable(taken, error));
    }

    pub(in crate::queue) fn close(&self) {
        self.read(QueueState::close);
    }

    /// Closes the queue and drops the items in it. Returns how many it dropped.
    pub(in crate::queue) fn close_and_discard(&self) -> usize {
        self.read(QueueState::close_and_discard)
    }

    pub(in crate::queue) fn is_closed(&self) -> bool {
        self.read(|state| state.is_closed())
    }

    pub(in crate::queue) fn len(&self) -> usize {
        self.read(|state| state.len())
    }

    /// Returns the dead letters with their numbers, oldest first.
    pub(in crate::queue) fn dead_letters(&self) -> Vec<(u64, Arc<Letter>)> {
        self.read(|state| state.dead_letters().cloned().collect())
    }

    pub(in crate::queue) fn redeliver(&self, number: u64) -> Result<(), DeadLetterError> {
        self.update(|state| state.redeliver(number))
    }

    pub(in crate::queue) fn discard_letter(&self, number: u64) -> Result<(), DeadLetterError> {
        self.lock().discard_letter(number)
    }
}
