//! Distribution of items and room, and notification of the threads and clients that wait.
//!
//! `schedule` runs under the queue's lock, after each change of the state. It takes the threads and
//! clients that want something from the lists of
//! [`Clients`](crate::queue::owner::clients::Clients), in turn. Clients run concurrently, and each
//! step has to exclude a lost wake-up:
//!
//! - A client announces a waiting thread in its region, and *then* rings the hub. So if the owner
//!   has read the region too early, it reads the region once more.
//! - This side writes the items, flags and counters of a region, and *then* rings the client, whose
//!   thread reads the region again after it was woken.
//! - A consumer that takes an item from the inbox need not ring as long as the hub polls it. When
//!   the consumer comes to rest, it is asked to ring once the next item that it takes makes enough
//!   room.
//! - One thread of a client may take an item that was meant for another one. That thread still
//!   waits, while the client seems to have what it waits for. So a waiting thread that finds that
//!   another has taken something rings.

use std::time::Instant;

use super::QueueState;
use crate::failpoints;
use crate::queue::layout::{Flag, Word};
use crate::queue::owner::client::STALLED;
use crate::queue::owner::clients::{Key, OWN};

/// How many rounds of reading the clients there are before an end is declared: a client that writes
/// without end must not hold up the others.
const LOOKS_MAX: usize = 64;

impl QueueState {
    /// Moves items and room to the threads and clients that wait, and notifies those for which
    /// something has changed.
    pub(in crate::queue) fn schedule(&mut self) {
        for _ in 0..LOOKS_MAX {
            if self.ledger.discards {
                self.discard_all();
            }
            self.schedule_items();
            self.schedule_room();
            // Everything that clients have done before an end is declared counts.
            if !self.may_be_in_vain() || !self.drain_all() {
                break;
            }
        }
        self.notify_own();
        self.publish();
        self.due = self.find_due();
    }

    fn schedule_items(&mut self) {
        // A getter that gave up leaves its item to the others.
        while self.own.ready.len() > self.own.getters {
            let Some(item) = self.own.ready.pop_back() else {
                break;
            };
            self.ledger.store.push_front(item);
        }
        if self.stuck.is_some_and(|stuck| stuck.elapsed() >= STALLED) {
            self.clients.retry_stuck();
            self.stuck = None;
        }
        self.list_own_getters();
        loop {
            self.distribute();
            if !self.ledger.store.is_empty() || !self.recall_spare() {
                return;
            }
        }
    }

    fn list_own_getters(&mut self) {
        let waits = self.own.getters > self.own.ready.len();
        if waits && !std::mem::replace(&mut self.own.listed, true) {
            self.clients.getters.push_back(OWN);
        }
    }

    /// Distributes the stored items among the threads and clients that wait, in turn. Fast clients
    /// prefetch what is left.
    fn distribute(&mut self) {
        if self.ledger.store.is_empty() {
            return;
        }
        let kept = usize::from(self.own.bells.keeps_one());
        let own_tasks = usize::from(self.own.bells.items.is_awaited());
        while let Some(key) = self.clients.getters.pop_front() {
            if key == OWN {
                self.own.listed = false;
                self.assign_to_own();
                self.list_own_getters();
            } else {
                let free = self.ledger.store.len().saturating_sub(kept);
                if free == 0 {
                    self.clients.getters.push_front(key);
                    // The last item may be kept for tasks here, but only from other processes.
                    self.assign_to_own();
                    return;
                }
                // At most a fair share, while others wait for the same items.
                self.give(key, free, free.div_ceil(1 + self.clients.getters.len() + own_tasks));
            }
            if self.ledger.store.is_empty() {
                return;
            }
        }
        while own_tasks == 0 && self.ledger.store.len() > kept {
            let Some(key) = self.clients.hungry.pop_front() else {
                return;
            };
            let free = self.ledger.store.len() - kept;
            self.give(key, free, free.div_ceil(1 + self.clients.hungry.len()));
        }
    }

    /// Moves a client's share of the `free` stored items into its inbox. The client was taken from
    /// a list. If it wants more, it goes to the end of a list.
    fn give(&mut self, key: Key, free: usize, share: usize) {
        let store = &mut self.ledger.store;
        let stuck = self.clients.change(key, |client| {
            client.place.getter = false;
            client.place.hungry = false;
            // If an item is pushed to a client that stops waiting only now, it can be recalled.
            client.look_for_end_of_wait();
            // For items that this client does not get, another one would have to be woken.
            let count = client.demand().min(share.max(client.wake_up()).min(free));
            client.place.stuck = count > 0 && client.push_from(store, count) == 0;
            client.place.stuck
        });
        if stuck == Some(true) {
            self.clients.set_stuck(key);
            self.stuck.get_or_insert_with(Instant::now);
        }
    }

    /// Assigns an item to a thread in the owner process, if one waits.
    fn assign_to_own(&mut self) {
        if self.own.getters > self.own.ready.len() {
            let item = self.ledger.store.pop_front();
            self.own.ready.extend(item);
        }
    }

    /// Takes items out of the inbox of a client that can spare some, if a consumer waits for an
    /// item. Returns whether it took any.
    fn recall_spare(&mut self) -> bool {
        if !self.is_item_wanted() {
            return false;
        }
        let now = Instant::now();
        if self.own.urgent || self.clients.sums.asking > 0 {
            let spare = |key| self.clients.get(key).map_or(0, |client| client.to_spare(now, true));
            let busiest = self.clients.holders().max_by_key(|&key| spare(key));
            return busiest.is_some_and(|key| self.recall_from(key, now, true));
        }
        while let Some(key) = self.clients.pop_holder(now) {
            if self.recall_from(key, now, false) {
                return true;
            }
        }
        false
    }

    fn recall_from(&mut self, key: Key, now: Instant, urgent: bool) -> bool {
        let recalled = self.clients.change(key, |client| {
            // What the client has taken since its region was read cannot be spared any more, and
            // the client may not be busy at all.
            client.refresh().ok()?;
            client.look_for_end_of_wait();
            let spare = client.to_spare(now, urgent);
            if spare == 0 {
                return None;
            }
            client.recall(client.outstanding() - spare).ok()
        });
        let items = recalled.flatten().unwrap_or_default();
        let found = !items.is_empty();
        self.ledger.put_back(items.into_iter());
        found
    }

    /// Returns whether a consumer waits for an item, and no item is on its way to it.
    fn is_item_wanted(&mut self) -> bool {
        if self.own.wants_items() {
            return true;
        }
        while self.clients.first_getter() == Some(OWN) {
            self.clients.getters.pop_front();
            self.own.listed = false;
        }
        self.clients.first_getter().is_some()
    }

    /// Wakes the threads and tasks in the owner process that can continue.
    fn notify_own(&mut self) {
        let own = &self.own;
        if own.getters > 0 && (!own.ready.is_empty() || self.end_of_items(None).is_some()) {
            self.own.bells.items.ring();
        }
        if self.own.bells.items.is_awaited()
            && (!self.ledger.store.is_empty() || self.end_for_task().is_some())
        {
            self.own.bells.notify_item();
        }
        let in_vain = !self.has_taker(None);
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

    /// Writes flags and counters into the regions of the clients that have changed, and rings those
    /// for which something has changed.
    fn publish(&mut self) {
        let in_vain = self.may_be_in_vain();
        let closed = self.ledger.closed;
        let closes = closed && !std::mem::replace(&mut self.close_published, true);
        let severed = self.is_severed();
        let severs = severed && !std::mem::replace(&mut self.severed_published, true);
        if std::mem::replace(&mut self.in_vain, in_vain) || in_vain || closes || severs {
            self.clients.keys().for_each(|key| self.clients.touch(key));
        }
        let (length, unfinished) = (self.len(), self.unfinished());
        let dead = self.ledger.dead.count();
        if unfinished == 0 && self.clients.sums.joining > 0 {
            self.clients.keys().for_each(|key| self.clients.touch(key));
        }
        let mut touched = std::mem::take(&mut self.clients.touched);
        for &key in &touched {
            let Some(client) = self.clients.get(key) else {
                continue;
            };
            let waits = client.levels.wait_for_items();
            let ended = in_vain && waits && self.end_of_items(Some(client)).is_some();
            let blocked = client.levels.putters > 0 || (unfinished > 0 && client.joins());
            let abandoned = in_vain && blocked && !self.has_taker(Some(client));
            let flags = Flag::Closed.bit(closed)
                | Flag::Ended.bit(ended)
                | Flag::Abandoned.bit(abandoned)
                | Flag::Severed.bit(severed);
            if self.active && client.has_news() {
                // The client will answer soon.
                self.clients.poll(key, self.tick);
            }
            self.clients.change(key, |client| {
                client.note_unfinished(unfinished, dead);
                client.set(Word::Flags, flags);
                client.answer(length);
                client.ring_if_changed();
            });
            if let Some(client) = self.clients.get_mut(key) {
                client.place.touched = false;
            }
        }
        touched.clear();
        self.clients.touched = touched;
    }

    /// Returns when to schedule again even if nothing changes: because of items and room that a
    /// client does not use and others want, of room that is kept back, and of an item that found no
    /// room.
    fn find_due(&mut self) -> Option<Instant> {
        if failpoints::is_mutated("settle.no-look") {
            return None;
        }
        let stored = !self.ledger.store.is_empty();
        let item_wanted = self.is_item_wanted();
        let spared = self.clients.next_holder().filter(|_| item_wanted && !stored);
        let stuck = self.stuck.filter(|_| stored && self.clients.is_stuck());
        let stuck = stuck.map(|stuck| stuck + STALLED);
        let kept = self.own.bells.kept_until();
        let kept = kept.filter(|&until| item_wanted && stored && until > Instant::now());
        let room = self.revocable_at();
        let delayed = self.room_delayed_until();
        [spared, stuck, kept, room, delayed].into_iter().flatten().min()
    }
}
