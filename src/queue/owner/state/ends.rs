//! When waiting is in vain: the queue is closed, or no process is left that could end the wait.
//!
//! Each answer takes constant time, because it comes from sums over all clients. The sums are only
//! as recent as the last read of each client's region. So before an end is declared, `drain_all`
//! reads what clients have written since then: a client that has put an item in the meantime, or
//! has stopped waiting, excludes the end.

use super::QueueState;
use crate::queue::outcome::QueueFailure;
use crate::queue::owner::client::QueueClient;

impl QueueState {
    /// Returns whether a thread or client may wait in vain. If it returns false, no thread or
    /// client does.
    ///
    /// It returns false while items pass through a queue. So the scheduler need not ask for each
    /// client that waits.
    pub(super) fn may_be_in_vain(&self) -> bool {
        let sums = &self.clients.sums;
        if !self.shared || self.in_flight > 0 {
            return self.ledger.closed && self.ledger.store.is_empty() && self.has_getter();
        }
        let takers = self.takers();
        let own_blocked = self.own.putters + self.own.joiners > 0 && !self.own.has_got;
        // The only one left that might take is perhaps the one that asks.
        let nobody_takes = takers == 0 || (takers == 1 && sums.got == 0);
        let blocked = sums.blocked > 0 && nobody_takes && !self.own_takes();
        if blocked || (own_blocked && takers == 0) {
            return true;
        }
        let others = self.clients.len() - sums.idle;
        let nobody_puts = others == 0 || (others == 1 && sums.selecting == 1);
        let abandoned = nobody_puts && self.own_is_idle(self.own.bells.items.is_awaited());
        let ended = self.ledger.closed || abandoned;
        ended && self.ledger.store.is_empty() && self.has_getter()
    }

    /// Returns whether something waits for an item.
    fn has_getter(&self) -> bool {
        let own = self.own.getters + self.own.futures > 0 || self.own.bells.items.is_awaited();
        own || self.clients.sums.waiting > 0
    }

    /// Returns whether this process holds no handle, or never puts because it waits for an item.
    fn own_is_idle(&self, task_waits: bool) -> bool {
        let waits = task_waits || self.own.getters + self.own.futures > 0;
        self.own_handles() == 0 || (waits && !self.own.has_put && !self.inline)
    }

    /// Returns whether this process may take items, if a client asks.
    fn own_takes(&self) -> bool {
        self.own_handles() > 0 && (self.own.has_got || self.own.putters == 0)
    }

    /// The number of clients that may take items.
    fn takers(&self) -> usize {
        if self.free() == 0 { self.clients.sums.takers } else { self.clients.len() }
    }

    /// Why `asker` gets no item any more; `None` if it still may. The asker is a waiting client, or
    /// the owner's own process.
    pub(super) fn end_of_items(&self, asker: Option<&QueueClient>) -> Option<QueueFailure> {
        self.end_of_items_for(asker, self.own.getters > 0)
    }

    /// Like `end_of_items`, for a task in the owner process, which does not count as a waiting
    /// thread.
    pub(super) fn end_for_task(&self) -> Option<QueueFailure> {
        self.end_of_items_for(None, true)
    }

    fn end_of_items_for(
        &self,
        asker: Option<&QueueClient>,
        own_waits: bool,
    ) -> Option<QueueFailure> {
        if !self.ledger.store.is_empty() || (asker.is_none() && !self.own.ready.is_empty()) {
            return None;
        }
        if self.ledger.discards {
            // Items that come back are dropped.
            return Some(QueueFailure::Closed);
        }
        let sums = &self.clients.sums;
        // Items that others have may come back. The asker's own do not count: it waits here for
        // more, so it would never return them by itself, and two such processes would wait for each
        // other.
        let holding = sums.holding + self.retired.len();
        let held = holding > asker.map_or(0, |asker| usize::from(asker.holds_back()));
        let own_hold = asker.is_some()
            && !self.own.leases.is_empty()
            && !(own_waits || self.own.bells.items.is_awaited());
        if held || own_hold {
            return None;
        }
        if self.ledger.closed {
            return Some(QueueFailure::Closed);
        }
        // No process is left that could put: others have held a handle, none is on its way, and
        // each process that holds one has never put, and waits for an item itself.
        let own_idle = self.own_is_idle(own_waits);
        let others_idle = match asker {
            None => sums.idle == self.clients.len(),
            Some(asker) => {
                let others = sums.idle - usize::from(asker.is_idle());
                let waits = asker.levels.wait_for_items() && !asker.has_put();
                waits && others == self.clients.len() - 1
            }
        };
        let abandoned = self.shared && self.in_flight == 0 && own_idle && others_idle;
        abandoned.then_some(QueueFailure::Abandoned(0))
    }

    /// Returns whether a process may still take items, while `asker` waits for that. The asker is a
    /// client, or the owner's own process.
    ///
    /// As long as no other process has held the queue, another thread of this one may take. After
    /// that, the asker itself counts only if it has taken items before.
    pub(super) fn has_taker(&self, asker: Option<&QueueClient>) -> bool {
        // The items of a retired client come back when its process ends, and may be dead letters
        // then.
        if !self.shared || self.inline || self.in_flight > 0 || !self.retired.is_empty() {
            return true;
        }
        let takers = self.takers();
        let Some(asker) = asker else {
            return self.own.has_got || takers > 0;
        };
        let others = takers - usize::from(asker.may_take(self.free() == 0));
        let asker = asker.has_got() || asker.levels.wait_for_items();
        asker || self.own_takes() || others > 0
    }
}
