//! When waiting is in vain: the queue is closed, or no process is left that could end the wait.

use super::QueueState;
use crate::queue::outcome::QueueFailure;
use crate::queue::owner::client::QueueClient;

/// The needs and holdings of all clients, read once.
///
/// One pass of the scheduler asks for each waiting client whether *another* one could end its wait.
/// With these sums each answer takes constant time. And because each client's words are read only
/// once, a client that changes them meanwhile is not counted as two different things.
#[derive(Debug, Default)]
pub(super) struct Census {
    clients: usize,
    /// Clients with items that may come back.
    holding: usize,
    /// Clients with a thread that waits for an item, and that have never put one.
    idle: usize,
    /// Clients that may take items.
    takers: usize,
    full: bool,
}

impl QueueState {
    pub(super) fn take_census(&mut self) -> Census {
        let full = self.free() == 0;
        let (clients, holding) = (self.clients.len(), self.retired.len());
        let mut census = Census { clients, holding, full, ..Census::default() };
        for client in self.clients.values_mut() {
            client.take_glance();
            census.holding += usize::from(client.glance.holds_back);
            census.idle += usize::from(client.is_idle());
            census.takers += usize::from(client.may_take(full));
        }
        census
    }

    /// Why `asker` gets no item any more; `None` if it still may. The asker is a waiting client, or
    /// the owner's own process.
    pub(super) fn end_of_items(
        &self,
        census: &Census,
        asker: Option<&QueueClient>,
    ) -> Option<QueueFailure> {
        self.end_of_items_for(census, asker, self.own.getters > 0)
    }

    /// Like `end_of_items`, for a task in the owner process, which does not count as a waiting
    /// thread.
    pub(super) fn end_for_task(&self, census: &Census) -> Option<QueueFailure> {
        self.end_of_items_for(census, None, true)
    }

    fn end_of_items_for(
        &self,
        census: &Census,
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
        // Items that others have may come back. The asker's own do not count: it waits here for
        // more, so it would never return them by itself, and two such processes would wait for each
        // other.
        let held = census.holding > asker.map_or(0, |asker| usize::from(asker.glance.holds_back));
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
        let own_idle = self.own_handles() == 0
            || ((own_waits || self.own.futures > 0) && !self.own.has_put && !self.inline);
        let others_idle = match asker {
            None => census.idle == census.clients,
            Some(asker) => {
                let others = census.idle - usize::from(asker.is_idle());
                asker.glance.waits && !asker.has_put() && others == census.clients - 1
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
    pub(super) fn has_taker(&self, census: &Census, asker: Option<&QueueClient>) -> bool {
        // What a retired client has comes back when its process ends, and may be a dead letter then.
        if !self.shared || self.inline || self.in_flight > 0 || !self.retired.is_empty() {
            return true;
        }
        let Some(asker) = asker else {
            return self.own.has_got || census.takers > 0;
        };
        let own = self.own_handles() > 0 && (self.own.has_got || self.own.putters == 0);
        let others = census.takers - usize::from(asker.may_take(census.full));
        asker.has_got() || asker.glance.waits || own || others > 0
    }
}

impl QueueClient {
    fn is_idle(&self) -> bool {
        self.glance.thread_waits && !self.has_put()
    }
}
