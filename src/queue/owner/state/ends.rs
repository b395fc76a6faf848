//! When a wait is in vain: the queue is closed, or no process is left that could end the wait.
//!
//! Each answer takes constant time, because it comes from sums over all clients. The sums are only
//! as recent as the last read of each client's region. So before an end is declared, `drain_all`
//! reads what clients have written since then. If a client has put an item in the meantime, or has
//! stopped waiting, that rules the end out.

use super::QueueState;
use crate::queue::outcome::QueueFailure;
use crate::queue::owner::client::QueueClient;
use crate::queue::role::Role;

impl QueueState {
    /// Returns whether no handle is left that could take an item. Then there will never be one,
    /// because only such a handle can be made into another one. So every put fails, and unfinished
    /// items stay unfinished. The items of a retired client may still become dead letters.
    pub(super) fn is_severed(&self) -> bool {
        let elsewhere = self.clients.sums.taking + self.in_flight.taking() + self.retired.len();
        elsewhere == 0 && self.own_handles().taking() == 0
    }

    /// Returns whether a thread or client may be waiting in vain. If it returns false, none is.
    ///
    /// It returns false while items pass through a queue. So the scheduler need not check each
    /// client that waits.
    pub(super) fn may_be_in_vain(&self) -> bool {
        let sums = &self.clients.sums;
        let own_blocked = self.own.putters + self.own.joiners > 0;
        if (sums.blocked > 0 || own_blocked) && !self.has_unknown_taker() {
            let takers = self.takers();
            // The only process left that might take items may be the one that asks.
            let nobody_takes = takers == 0 || (takers == 1 && sums.got == 0);
            let blocked = sums.blocked > 0 && nobody_takes && !self.own_takes();
            if blocked || (own_blocked && takers == 0 && !self.own_has_got()) {
                return true;
            }
        }
        let others = self.clients.len() - sums.idle;
        let nobody_puts = others == 0 || (others == 1 && sums.selecting == 1);
        let abandoned = self.in_flight.putting() == 0
            && nobody_puts
            && self.own_is_idle(self.own.bells.items.is_awaited());
        let ended = self.ledger.closed || abandoned;
        ended && self.ledger.store.is_empty() && self.has_getter()
    }

    /// Returns whether something waits for an item.
    fn has_getter(&self) -> bool {
        let own = self.own.getters + self.own.futures > 0 || self.own.bells.items.is_awaited();
        own || self.clients.sums.waiting > 0
    }

    /// Returns whether this process never puts. Either it holds no handle that can put, or it holds
    /// only handles that can also take, has never put, and waits for an item.
    ///
    /// As long as no other process has held the queue, another thread of this process may put.
    fn own_is_idle(&self, task_waits: bool) -> bool {
        let own = self.own_handles();
        let waits = task_waits || self.own.getters + self.own.futures > 0;
        let only_takes = waits && !self.own.has_put && !self.inline && self.shared;
        own.putting() == 0 || (own.of(Role::Producer) == 0 && only_takes)
    }

    /// Returns whether this process may take items, when a client asks.
    fn own_takes(&self) -> bool {
        let own = self.own_handles();
        let may_take = self.own.has_got || self.own.putters == 0;
        own.of(Role::Consumer) > 0 || (own.of(Role::Both) > 0 && may_take)
    }

    /// Returns whether this process has taken items and may take more, when it asks itself.
    fn own_has_got(&self) -> bool {
        self.own.has_got && self.own_handles().taking() > 0
    }

    /// Returns whether items may be taken by a process or thread that the state does not know.
    fn has_unknown_taker(&self) -> bool {
        // The items of a retired client come back when its process ends, and may become dead
        // letters then.
        if self.in_flight.taking() > 0 || !self.retired.is_empty() {
            return true;
        }
        let own = self.own_handles();
        let by_thread = !self.shared || self.inline;
        own.of(Role::Consumer) > 0 || (own.of(Role::Both) > 0 && by_thread)
    }

    /// Returns the number of clients that may take items.
    fn takers(&self) -> usize {
        let sums = &self.clients.sums;
        if self.free() == 0 { sums.takers } else { sums.taking }
    }

    /// Returns why `asker` gets no more items; `None` if it still may. The asker is a waiting
    /// client, or the owner's own process.
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
            // Items that come back will be dropped.
            return Some(QueueFailure::Closed);
        }
        let sums = &self.clients.sums;
        // Items that others have may come back. The asker's own items do not count: it waits here
        // for more, so it would never return them by itself, and two such processes would wait for
        // each other.
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
        // No process is left that could put: no handle that can put is on its way, and each process
        // that holds one has never put, and is itself waiting for an item.
        let own_idle = self.own_is_idle(own_waits);
        let others_idle = match asker {
            None => sums.idle == self.clients.len(),
            Some(asker) => {
                let others = sums.idle - usize::from(asker.is_idle());
                let waits = asker.levels.wait_for_items() && !asker.has_put() && !asker.hands_on();
                waits && others == self.clients.len() - 1
            }
        };
        let abandoned = self.in_flight.putting() == 0 && own_idle && others_idle;
        abandoned.then_some(QueueFailure::Abandoned(0))
    }

    /// Returns whether a process may still take items, while `asker` waits for that. The asker is a
    /// client, or the owner's own process.
    ///
    /// As long as no other process has held the queue, another thread of this process may take.
    /// After that, the asker itself counts only if it has taken items before.
    pub(super) fn has_taker(&self, asker: Option<&QueueClient>) -> bool {
        if self.has_unknown_taker() {
            return true;
        }
        let takers = self.takers();
        let Some(asker) = asker else {
            return self.own_has_got() || takers > 0;
        };
        let others = takers - usize::from(asker.may_take(self.free() == 0));
        let hands_on = asker.takes() && asker.hands_on();
        let asker = asker.has_got() || asker.levels.wait_for_items() || hands_on;
        asker || self.own_takes() || others > 0
    }

    /// Returns whether every put fails.
    pub(in crate::queue) fn refuses_puts(&self) -> bool {
        self.ledger.closed || self.is_severed()
    }
}
