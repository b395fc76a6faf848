//! Serving clients: which regions the hub's thread reads, and when.
//!
//! A client is *polled* while it is active: the hub's thread reads its region in each pass. When it
//! has written nothing for a while, it *rests*: its sleep flag is set, and its region is read once
//! more. After that, the hub's thread does not read the region until the client rings its doorbell.
//! See [`FlagState`](crate::ipc::doorbell::FlagState) for the flag, and `HubThread::run` for the
//! passes.
//!
//! A client that is given something will answer soon, so from then on it is polled, even if it has
//! not rung. This happens only while the queue is *active*, because only then the hub's thread
//! runs.

use std::sync::Arc;
use std::time::Instant;

use super::QueueState;
use crate::failpoints;
use crate::ipc::hub::{ClientLink, Served, Tick};
use crate::ipc::ring;
use crate::ipc::wire::Envelope;
use crate::queue::owner::client::QueueClient;
use crate::queue::owner::clients::Key;

/// The most times that a client's outbox is read in a row, because the client may keep writing.
const LOOKS_MAX: usize = 1 + ring::ENTRIES_MAX / crate::queue::owner::client::DRAIN_MAX;

/// The most parcels of a client whose entries were not read yet. More cost a look at its outbox.
const UNMATCHED_MAX: usize = 4;

/// Used by the hub's thread, for clients.
impl QueueState {
    pub(in crate::queue) fn add_client(&mut self, client: QueueClient) -> Key {
        self.shared = true;
        let key = self.clients.insert(client);
        self.clients.poll(key, self.tick);
        key
    }

    /// Called when a client has rung. Returns whether the queue was inactive.
    pub(in crate::queue) fn rung(&mut self, key: Key) -> bool {
        if let Some(client) = self.clients.get_mut(key) {
            client.rung();
        }
        self.clients.poll(key, self.tick);
        self.activate()
    }

    /// Adds a parcel, whose entry follows. Returns whether the queue was inactive.
    pub(in crate::queue) fn add_parcel(&mut self, key: Key, parcel: Envelope) -> bool {
        let Some(client) = self.clients.get_mut(key) else {
            return self.activate();
        };
        client.add_parcel(parcel);
        if client.unmatched() > UNMATCHED_MAX {
            // A client writes the entry of a parcel before it sends the next. So when all entries
            // are read that were there before this parcel came, only its own may be missing.
            self.look_fully(key);
            self.clients.check_unmatched(key, UNMATCHED_MAX);
        }
        // The entry may have been found already.
        self.clients.poll(key, self.tick);
        self.activate()
    }

    /// The client's doorbell may be unread for long. Returns whether the queue was not active.
    pub(in crate::queue) fn look_at(&mut self, key: Key) -> bool {
        self.clients.poll(key, self.tick);
        self.activate()
    }

    /// The hub has counted a handle that the client sends on.
    pub(in crate::queue) fn note_handed_on(&mut self, key: Key) {
        self.clients.change(key, QueueClient::note_handed_on);
    }

    /// Removes a client whose session is over, and returns to the queue what it had not taken. What
    /// it took and did not finish remains its own until [`end_leases`](Self::end_leases), because
    /// its process may still work on it. Returns whether there is no such item.
    pub(in crate::queue) fn retire_client(&mut self, key: Key) -> bool {
        // First read what the client wrote before its end: items whose `put` returned are not lost,
        // and an item whose lease it has ended must not be delivered again. Only what is left goes
        // back.
        if !failpoints::is_mutated("end.no-drain") {
            self.look_fully(key);
        }
        if let Some(client) = self.clients.remove(key) {
            let (untaken, leases) = client.into_items();
            if !failpoints::is_mutated("end.keep-untaken") {
                self.ledger.put_back(untaken.into_iter());
            }
            if !leases.is_empty() {
                self.retired.insert(key, leases);
            }
        }
        !self.retired.contains_key(&key)
    }

    /// Returns to the queue what a removed client took and did not finish. These items go to the
    /// front, because they are older than the others. The client's key may be used again.
    pub(in crate::queue) fn end_leases(&mut self, key: Key) {
        self.clients.release(key);
        let leases = self.retired.remove(&key).unwrap_or_default();
        if !failpoints::is_mutated("end.keep-leases") {
            for item in leases.into_values().rev() {
                self.ledger.give_back(item);
            }
        }
    }

    /// Returns the number of clients that are polled.
    #[cfg(test)]
    pub(in crate::queue) fn polled(&self) -> usize {
        self.clients.polled.len()
    }

    /// Returns the number of clients whose sessions the hub still has to end.
    #[cfg(test)]
    pub(in crate::queue) fn corrupt(&self) -> usize {
        self.clients.corrupt.len()
    }

    /// Makes the queue active. Returns whether it was inactive.
    pub(in crate::queue) fn activate(&mut self) -> bool {
        !std::mem::replace(&mut self.active, true)
    }

    /// Makes the queue inactive, and returns the clients that were polled.
    pub(in crate::queue) fn deactivate(&mut self) -> Vec<Arc<ClientLink>> {
        self.active = false;
        let polled = std::mem::take(&mut self.clients.polled);
        self.links(polled)
    }

    fn links(&self, keys: Vec<Key>) -> Vec<Arc<ClientLink>> {
        keys.into_iter().filter_map(|key| Some(self.clients.get(key)?.link())).collect()
    }

    /// Reads what the polled clients have written, and schedules if there was anything. Clients
    /// that have written nothing since before the tick `rest_before` rest from now on.
    pub(in crate::queue) fn serve(&mut self, now: Tick, rest_before: Tick) -> Served {
        self.tick = now;
        let mut busy = false;
        let mut next = 0;
        while let Some(&key) = self.clients.polled.get(next) {
            let changed = self.look(key);
            busy |= changed;
            let active = self.clients.get(key).map_or(0, |client| client.place.active);
            if changed || active >= rest_before {
                next += 1;
            } else if self.stirs_while_resting(key) {
                busy = true;
                next += 1;
            } else {
                self.clients.polled.swap_remove(next);
            }
        }
        failpoints::point("hub.drained");
        let asked = self.clients.sums.asking > 0;
        if asked {
            // The answer must include what others put before this client asked.
            self.drain_all();
        }
        let due = self.is_due();
        if busy || asked || due || !self.clients.touched.is_empty() {
            self.schedule();
            failpoints::point("hub.settled");
        }
        // Clients that were given something in this pass are polled as well.
        self.active = !self.clients.polled.is_empty();
        busy |= self.active && rest_before == Tick::MAX;
        let again = self.due.filter(|&due| self.timer.is_none_or(|timer| due < timer));
        let again = again.filter(|_| !self.active);
        self.timer = again.or(self.timer);
        let corrupt = std::mem::take(&mut self.clients.corrupt);
        let corrupt = self.links(corrupt);
        Served { busy, is_active: self.active, again, corrupt }
    }

    /// Returns whether the queue must be scheduled although nothing has changed.
    fn is_due(&mut self) -> bool {
        if self.due.is_none() && self.timer.is_none() {
            return false;
        }
        let now = Instant::now();
        self.timer = self.timer.filter(|&timer| timer > now);
        self.due.is_some_and(|due| due <= now)
    }

    /// Lets a client rest, unless it has written something in the meantime. Returns whether it has.
    fn stirs_while_resting(&mut self, key: Key) -> bool {
        // After how many taken items the room is worth a wake-up.
        let batch = self.capacity.map_or(1, |capacity| (capacity / 2).saturating_sub(self.free()));
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        client.end_polling(batch);
        // If the client writes from now on, it rings its doorbell.
        if self.look(key) {
            if let Some(client) = self.clients.get_mut(key) {
                client.begin_polling();
            }
            return true;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.place.polled = false;
        }
        false
    }
}

impl QueueState {
    fn look(&mut self, key: Key) -> bool {
        self.clients.look(key, &mut self.ledger, self.item, self.tick)
    }

    /// Reads everything that a client has written so far.
    fn look_fully(&mut self, key: Key) -> bool {
        let looks = (0..LOOKS_MAX).take_while(|_| self.look(key));
        looks.count() > 0
    }

    /// Reads what active clients have written. For a thread that would otherwise wait for it.
    pub(super) fn look_at_polled(&mut self) {
        for next in 0..self.clients.polled.len() {
            let key = self.clients.polled[next];
            self.look(key);
        }
    }

    /// Reads everything that clients have written so far, so that this thread sees every put that
    /// has returned. Returns whether there was anything.
    ///
    /// A client at rest has written nothing as long as its sleep flag is set. So for most clients,
    /// this only reads one word that does not change.
    pub(in crate::queue) fn drain_all(&mut self) -> bool {
        let asked = self.clients.sums.asking + self.clients.sums.joining > 0;
        let mut changed = false;
        if asked {
            for key in self.clients.keys() {
                if let Some(client) = self.clients.get_mut(key).filter(|client| client.asks()) {
                    client.cover_questions();
                    self.clients.touch(key);
                }
            }
        }
        for key in self.clients.keys() {
            if self.clients.get(key).is_some_and(QueueClient::may_have_written) {
                changed |= self.look_fully(key);
            }
        }
        changed
    }

    /// Returns whether the caller must notify the hub that the queue is active. It must if the hub
    /// has to serve the queue earlier than it has planned, or has to end a session.
    pub(in crate::queue) fn becomes_active(&mut self) -> bool {
        let due = self.due.is_some_and(|due| self.timer.is_none_or(|timer| due < timer));
        // Without clients, the owner's own threads wake by themselves, and there may be no hub.
        let concerns_hub = self.clients.len() > 0 && (due || !self.clients.corrupt.is_empty());
        concerns_hub && self.activate()
    }

    /// Returns when a waiting thread of the owner has to check again.
    pub(in crate::queue) fn next_check(&self) -> Option<Instant> {
        self.due
    }
}
