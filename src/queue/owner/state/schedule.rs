//! Distribution of items and room, and notification of the threads and clients that wait.
//!
//! `schedule` runs under the queue's lock, after each change of the state. Clients run
//! concurrently, and each of its steps has to exclude one lost wake-up:
//!
//! - A client announces a waiting thread in its region, and *then* rings the hub. So a client that
//!   this pass has read too early causes another pass.
//! - This side writes the items, flags and counters of a region, and *then* rings the client, whose
//!   thread reads the region again after it was woken.
//! - A consumer rings for room only while `NotifyRoom` is set. It may take an item just before it
//!   can see the flag: so after the flag was set, a full fence and one more `refresh` find what was
//!   taken meanwhile. Either the consumer sees the flag, or `refresh` sees that the item was taken.

use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use super::QueueState;
use super::ends::Census;
use crate::failpoints;
use crate::queue::layout::{Flag, Word};
use crate::queue::owner::client::QueueClient;

impl QueueState {
    /// Moves items and room to the threads and clients that wait, and notifies those for which
    /// something has changed.
    pub(in crate::queue) fn schedule(&mut self) {
        loop {
            if self.ledger.discards {
                self.discard_all();
            }
            self.schedule_items();
            self.schedule_room();
            let census = self.take_census();
            self.notify_own(&census);
            if !self.publish(&census) {
                return;
            }
            // A client may have taken items before it could see that a producer waits for their
            // room.
            fence(Ordering::SeqCst);
            let mut taken = false;
            for client in self.clients.values_mut() {
                taken |= client.refresh().unwrap_or(false);
            }
            if !taken {
                return;
            }
        }
    }

    fn schedule_items(&mut self) {
        // A getter that gave up leaves its item to the others.
        while self.own.ready.len() > self.own.getters {
            let Some(item) = self.own.ready.pop_back() else {
                break;
            };
            self.ledger.store.push_front(item);
        }
        loop {
            self.distribute();
            if !self.ledger.store.is_empty() || !self.recall_spare() {
                return;
            }
        }
    }

    /// Distributes the stored items in turn among the threads and clients that wait. Fast clients
    /// prefetch what is left.
    ///
    /// Clients begin and cease to wait meanwhile, so `waiting` is an estimate. Only the size of the
    /// shares depends on it: a client that begins to wait rings the hub and causes another pass,
    /// and an item that is pushed to one that has ceased to wait can be recalled.
    fn distribute(&mut self) {
        if self.ledger.store.is_empty() {
            return;
        }
        let kept = usize::from(self.own.bells.keeps_one());
        let mut waiting = self.clients.values().filter(|client| client.wants_items() > 0).count();
        let mut misses = 0;
        // One round without a taker, and one more in case the client whose turn it was has gone.
        while !self.ledger.store.is_empty() && misses < self.clients.len() + 2 {
            let turn = self.turn;
            if turn == 0 {
                self.turn = self.clients.keys().next().copied().unwrap_or(0);
                misses = if self.assign_to_own() { 0 } else { misses + 1 };
                continue;
            }
            let next = self.clients.range(turn + 1..).next();
            self.turn = next.map_or(0, |(&key, _)| key);
            let own = usize::from(self.own.wants_items());
            let Some(client) = self.clients.get_mut(&turn) else {
                misses += 1;
                continue;
            };
            let waits = client.wants_items() > 0;
            let others = own + waiting.saturating_sub(usize::from(waits));
            // No more than a fair share while others wait for the same items, and no prefetch.
            let free = self.ledger.store.len().saturating_sub(kept);
            let share = free.div_ceil(1 + others).min(free);
            let count = if waits || others == 0 { client.demand().min(share) } else { 0 };
            if count == 0 || client.push_from(&mut self.ledger.store, count) == 0 {
                misses += 1;
                continue;
            }
            misses = 0;
            waiting -= usize::from(waits && waiting > 0 && client.wants_items() == 0);
        }
    }

    /// Assigns an item to a thread in the owner process. Returns whether one waits.
    fn assign_to_own(&mut self) -> bool {
        if self.own.getters <= self.own.ready.len() {
            return false;
        }
        let item = self.ledger.store.pop_front();
        self.own.ready.extend(item);
        true
    }

    /// Takes items out of the inbox of the client that can spare most, if a consumer waits for an
    /// item. Returns whether it found any.
    fn recall_spare(&mut self) -> bool {
        if !self.is_item_wanted() {
            return false;
        }
        let mut clients = self.clients.values();
        let urgent = self.own.urgent || clients.any(QueueClient::has_question);
        let now = Instant::now();
        let clients = self.clients.values_mut();
        let Some(busy) = clients.max_by_key(|client| client.to_spare(now, urgent)) else {
            return false;
        };
        // What it has taken since the last `refresh` is no longer there to be spared, and it may
        // not be busy at all.
        if busy.to_spare(now, urgent) == 0 || busy.refresh().is_err() {
            return false;
        }
        let spare = busy.to_spare(now, urgent);
        if spare == 0 {
            return false;
        }
        let Ok(items) = busy.recall(busy.outstanding() - spare) else {
            return false;
        };
        let found = !items.is_empty();
        self.ledger.put_back(items.into_iter());
        found
    }

    /// Returns whether a consumer waits for an item that is not on its way to it.
    fn is_item_wanted(&self) -> bool {
        let mut clients = self.clients.values();
        self.own.wants_items() || clients.any(|client| client.wants_items() > 0)
    }

    /// Wakes the threads and tasks in the owner process that can continue.
    fn notify_own(&mut self, census: &Census) {
        let own = &self.own;
        let ends = |state: &QueueState| state.end_of_items(census, None).is_some();
        if own.getters > 0 && (!own.ready.is_empty() || ends(self)) {
            self.own.bells.items.ring();
        }
        if self.own.bells.items.is_awaited()
            && (!self.ledger.store.is_empty() || self.end_for_task(census).is_some())
        {
            self.own.bells.notify_item();
        }
        let in_vain = !self.has_taker(census, None);
        if self.own.wants_room() {
            let room = self.free() > 0 && !self.is_room_delayed();
            if room || in_vain || self.ledger.closed {
                self.own.bells.room.ring();
            }
        }
        let joins = self.own.joiners > 0 || self.own.bells.done.is_awaited();
        if joins && (self.unfinished() == 0 || in_vain) {
            self.own.bells.done.ring();
        }
    }

    /// Writes flags and counters into the clients' regions, and rings those for whom something has
    /// changed. Returns whether a client was newly asked to ring for room.
    fn publish(&mut self, census: &Census) -> bool {
        let room_wanted = self.capacity.is_some() && self.is_room_wanted();
        // The number of items that have to be taken until the room is worth a wake-up.
        let batch = self.capacity.map_or(1, |capacity| (capacity / 2).saturating_sub(self.free()));
        let (length, unfinished) = (self.len(), self.unfinished());
        let flags: Vec<u64> = self
            .clients
            .values()
            .map(|client| {
                let ended =
                    client.glance.waits && self.end_of_items(census, Some(client)).is_some();
                let joins = unfinished > 0 && client.joins();
                let abandoned =
                    (joins || client.glance.putters) && !self.has_taker(census, Some(client));
                Flag::Closed.bit(self.ledger.closed)
                    | Flag::Ended.bit(ended)
                    | Flag::NotifyRoom.bit(room_wanted)
                    | Flag::Abandoned.bit(abandoned)
            })
            .collect();
        let mut newly_asked = false;
        for (client, flags) in self.clients.values_mut().zip(flags) {
            // The position before the flag: a consumer that sees the flag compares with it.
            newly_asked |= room_wanted && client.request_notice(batch);
            // The counters before the answer: a client reads them once it sees the answer.
            client.note_unfinished(unfinished);
            client.set(Word::Flags, flags);
            client.answer(length);
            client.ring_if_changed();
        }
        newly_asked
    }

    /// When to check again for items and room that a client does not use and others want, and for
    /// room that is kept back.
    pub(in crate::queue) fn next_check(&self) -> Option<Instant> {
        if failpoints::is_mutated("settle.no-look") {
            return None;
        }
        let item_wanted = self.is_item_wanted();
        let stored = !self.ledger.store.is_empty();
        let room_wanted = self.capacity.is_some() && self.is_room_wanted() && self.free() == 0;
        let clients = self.clients.values();
        let items = clients.clone().filter(|_| item_wanted && !stored);
        let items = items.filter_map(QueueClient::spares_at);
        let room = clients.filter(|_| room_wanted);
        let room = room.filter_map(QueueClient::revocable_at);
        let kept = self.own.bells.kept_until();
        let kept = kept.filter(|&until| item_wanted && stored && until > Instant::now());
        let delayed = self.room_delayed_until();
        items.chain(room).chain(kept).chain(delayed).min()
    }
}
