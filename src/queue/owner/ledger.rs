//! The items of a queue that no process holds, and the count of all that are unfinished.

use std::collections::VecDeque;

use crate::error::{DeadLetterError, DecodeError};
use crate::queue::item::{Item, Payload};
use crate::queue::options::{QueueKind, QueueOptions};
use crate::queue::owner::dead_letters::{DeadCause, DeadLetters};
use crate::queue::owner::run_queue::RunQueue;
use crate::tally::Tally;

/// The stored items, the dead letters, and the count of unfinished items.
///
/// An item is in exactly one place: a producer's outbox ring, the store, a consumer's inbox ring,
/// the list of items that are `ready` for threads of the owner process, a lease, or the dead
/// letters. In a joinable queue, `unfinished` counts those in all places from the store to the
/// leases.
#[derive(Debug)]
pub(in crate::queue) struct Ledger {
    joinable: bool,
    max_deliveries: u32,
    pub(in crate::queue) store: RunQueue,
    pub(in crate::queue) dead: DeadLetters,
    unfinished: usize,
    pub(in crate::queue) closed: bool,
    /// Items that are in the queue, or that come back to it, are dropped. Implies `closed`.
    pub(in crate::queue) discards: bool,
    put: Tally,
    /// Counts the items that consumers take.
    pub(in crate::queue) got: Tally,
}

impl Ledger {
    pub(in crate::queue) fn new(
        options: QueueOptions,
        joinable: bool,
        item: &'static str,
    ) -> Ledger {
        let tally = |metric| match &options.name {
            Some(name) if options.kind == QueueKind::User => Tally::of(metric, name, None),
            _ => Tally::default(),
        };
        Ledger {
            put: tally("offspring_queue_put_total"),
            got: tally("offspring_queue_got_total"),
            joinable,
            max_deliveries: options.max_deliveries,
            store: RunQueue::default(),
            dead: DeadLetters::new(options.max_dead_letters, item, options.name),
            unfinished: 0,
            closed: false,
            discards: false,
        }
    }

    pub(in crate::queue) fn is_joinable(&self) -> bool {
        self.joinable
    }

    /// Returns the number of items that are not finished. Returns 0 in a plain queue, which does
    /// not count them.
    pub(in crate::queue) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Records that `count` items were added to the store.
    pub(in crate::queue) fn note_put(&mut self, count: usize) {
        self.put.add(count as u64);
        if self.joinable {
            self.unfinished += count;
        }
    }

    /// Records that `count` items were finished or dropped.
    pub(in crate::queue) fn note_finished(&mut self, count: usize) {
        if self.joinable {
            self.unfinished -= count;
        }
    }

    /// Adds an item that no consumer has had.
    pub(in crate::queue) fn put(&mut self, payload: Payload) {
        self.note_put(1);
        self.store.push_back(Item { payload, attempts: 0 });
    }

    /// Puts items that no consumer has taken back at the front, keeping their order.
    pub(in crate::queue) fn put_back(&mut self, untaken: impl DoubleEndedIterator<Item = Item>) {
        for item in untaken.rev() {
            self.store.push_front(item);
        }
    }

    /// Takes back an item that was taken and not finished. It becomes the next item, unless it
    /// cannot or must not be delivered again.
    pub(in crate::queue) fn give_back(&mut self, mut item: Item) {
        let cause = if item.payload.is_moved_out() {
            DeadCause::MovedOut
        } else if item.attempts + 1 >= self.max_deliveries {
            DeadCause::Deliveries
        } else {
            item.attempts += 1;
            return self.store.push_front(item);
        };
        self.bury(item, cause);
    }

    /// Makes an item that was taken and not finished a dead letter.
    pub(in crate::queue) fn bury(&mut self, mut item: Item, cause: DeadCause) {
        self.note_finished(1);
        item.attempts += 1;
        self.dead.push(item, cause);
    }

    /// Makes an item that did not decode a dead letter.
    pub(in crate::queue) fn bury_undecodable(&mut self, item: Item, error: DecodeError) {
        self.bury(item, DeadCause::Decode(error));
    }

    /// Puts a dead letter at the end of the queue, as if no consumer had ever taken it.
    pub(in crate::queue) fn redeliver(&mut self, number: u64) -> Result<(), DeadLetterError> {
        if self.closed {
            return Err(DeadLetterError::Closed);
        }
        let payload = self.dead.revive(number)?;
        self.put(payload);
        Ok(())
    }

    /// Drops the stored items and these. Returns how many it dropped.
    pub(in crate::queue) fn discard(&mut self, more: &mut VecDeque<Item>) -> usize {
        let dropped = self.store.len() + more.len();
        self.store.clear();
        more.clear();
        self.note_finished(dropped);
        dropped
    }
}
