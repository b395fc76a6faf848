//! The contribution of each client to the sums over all clients of a queue.

use std::time::Instant;

use crate::ipc::hub::Tick;
use crate::queue::owner::client::QueueClient;

/// A client's needs and holdings as numbers. Also the sums of those numbers over all clients.
///
/// The sums are updated whenever a client changes, so that no decision of the scheduler has to
/// visit all clients.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::queue::owner) struct ClientCounts {
    /// Items in inboxes.
    pub(in crate::queue::owner) outstanding: usize,
    /// Room that was granted and is not used yet.
    pub(in crate::queue::owner) credits: usize,
    /// Clients with items that may come back.
    pub(in crate::queue::owner) holding: usize,
    /// Clients with something that waits for an item.
    pub(in crate::queue::owner) waiting: usize,
    /// Clients that put nothing: those whose handle cannot put, and those in which a thread waits
    /// for an item and which have never put one.
    pub(in crate::queue::owner) idle: usize,
    /// Clients that are not idle and have never put an item, and in which a selector waits.
    pub(in crate::queue::owner) selecting: usize,
    /// Clients with a handle that can take items.
    pub(in crate::queue::owner) taking: usize,
    /// Those of them that may take items while the queue is full.
    pub(in crate::queue::owner) takers: usize,
    /// Clients that have taken items.
    pub(in crate::queue::owner) got: usize,
    /// Clients that wait for room, or for the end of all items.
    pub(in crate::queue::owner) blocked: usize,
    /// Clients that take items so fast that one wake-up per item is a waste.
    pub(in crate::queue::owner) fast: usize,
    /// Clients with a question that was not answered.
    pub(in crate::queue::owner) asking: usize,
    /// Those of them that ask for room without waiting for it.
    pub(in crate::queue::owner) trying: usize,
    /// Clients that wait for the end of all items.
    pub(in crate::queue::owner) joining: usize,
    /// Clients that ask to discard all items.
    pub(in crate::queue::owner) discarding: usize,
}

impl ClientCounts {
    fn of(client: &QueueClient) -> ClientCounts {
        let waits = client.levels.wait_for_items();
        let idle = client.is_idle();
        let joins = client.joins();
        ClientCounts {
            outstanding: client.outstanding(),
            credits: client.credits(),
            holding: client.holds_back().into(),
            waiting: waits.into(),
            idle: idle.into(),
            selecting: (waits && !idle && !client.has_put()).into(),
            taking: client.may_take(false).into(),
            takers: client.may_take(true).into(),
            got: client.has_got().into(),
            blocked: (client.levels.putters > 0 || joins).into(),
            fast: client.is_fast().into(),
            asking: client.asks().into(),
            trying: client.tries_to_put().into(),
            joining: joins.into(),
            discarding: client.discards.into(),
        }
    }

    fn each(&mut self, other: &ClientCounts, change: fn(&mut usize, usize)) {
        change(&mut self.outstanding, other.outstanding);
        change(&mut self.credits, other.credits);
        change(&mut self.holding, other.holding);
        change(&mut self.waiting, other.waiting);
        change(&mut self.idle, other.idle);
        change(&mut self.selecting, other.selecting);
        change(&mut self.taking, other.taking);
        change(&mut self.takers, other.takers);
        change(&mut self.got, other.got);
        change(&mut self.blocked, other.blocked);
        change(&mut self.fast, other.fast);
        change(&mut self.asking, other.asking);
        change(&mut self.trying, other.trying);
        change(&mut self.joining, other.joining);
        change(&mut self.discarding, other.discarding);
    }

    pub(in crate::queue::owner) fn add(&mut self, other: &ClientCounts) {
        self.each(other, |sum, part| *sum += part);
    }

    pub(in crate::queue::owner) fn subtract(&mut self, other: &ClientCounts) {
        self.each(other, |sum, part| *sum -= part);
    }
}

/// What a client currently counts for, and the lists of [`Clients`](super::clients::Clients) that
/// it is on.
#[derive(Debug)]
pub(in crate::queue::owner) struct Place {
    pub(in crate::queue::owner) counts: ClientCounts,
    pub(in crate::queue::owner) polled: bool,
    pub(in crate::queue::owner) touched: bool,
    pub(in crate::queue::owner) getter: bool,
    pub(in crate::queue::owner) hungry: bool,
    pub(in crate::queue::owner) putter: bool,
    pub(in crate::queue::owner) holder: bool,
    pub(in crate::queue::owner) creditor: bool,
    /// An item found no room in the client's inbox, so the client is offered none until that may
    /// have changed.
    pub(in crate::queue::owner) stuck: bool,
    pub(in crate::queue::owner) corrupt: bool,
    /// When the client last wrote something.
    pub(in crate::queue::owner) active: Tick,
    /// When the client was last asked for items that it can spare.
    pub(in crate::queue::owner) asked: Instant,
}

impl Place {
    pub(in crate::queue::owner) fn new(now: Instant) -> Place {
        Place {
            counts: ClientCounts::default(),
            polled: false,
            touched: false,
            getter: false,
            hungry: false,
            putter: false,
            holder: false,
            creditor: false,
            stuck: false,
            corrupt: false,
            active: 0,
            asked: now,
        }
    }

    pub(in crate::queue::owner) fn recount(client: &mut QueueClient, sums: &mut ClientCounts) {
        let counts = ClientCounts::of(client);
        sums.subtract(&client.place.counts);
        sums.add(&counts);
        client.place.counts = counts;
    }
}
