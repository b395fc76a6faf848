//! All clients of a queue: sums over them, and lists of those that want or have something.
//!
//! A queue may have hundreds of clients, of which only a few are active. So no step of the
//! scheduler visits all of them: it reads a sum, or takes the next client from a list. When a
//! client changes, it is counted again and put on the lists where it belongs. A client that no
//! longer belongs on a list is dropped from it when its turn comes.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::ipc::hub::Tick;
use crate::queue::owner::client::{QueueClient, STALLED};
use crate::queue::owner::ledger::Ledger;
use crate::queue::owner::place::{ClientCounts, Place};

/// Identifies a client of one queue. A key is used again after it was released.
pub(in crate::queue::owner) type Key = usize;

/// The owner's own threads, in the list of those that wait for items.
pub(in crate::queue::owner) const OWN: Key = Key::MAX;

#[derive(Debug, Default)]
pub(in crate::queue::owner) struct Clients {
    slots: Vec<Option<Box<QueueClient>>>,
    free: Vec<Key>,
    count: usize,
    pub(in crate::queue::owner) sums: ClientCounts,
    /// Clients whose regions the hub polls. The others ring.
    pub(in crate::queue::owner) polled: Vec<Key>,
    /// Clients that have changed since `publish`.
    pub(in crate::queue::owner) touched: Vec<Key>,
    /// Those that wait for items, and [`OWN`], in the order in which they are served.
    pub(in crate::queue::owner) getters: VecDeque<Key>,
    /// Those that do not wait, and take items so fast that they get some in advance.
    pub(in crate::queue::owner) hungry: VecDeque<Key>,
    /// Those that wait for room, in the order in which they are served.
    pub(in crate::queue::owner) putters: VecDeque<Key>,
    /// Those with room that they have not used yet. The first to be asked to give it back is in
    /// front.
    pub(in crate::queue::owner) creditors: VecDeque<Key>,
    /// Those with items in their inbox, each with the time from which it may be asked for some.
    holders: BTreeSet<(Instant, Key)>,
    stuck: Vec<Key>,
    /// Those that have written something that no correct client writes, until the hub ends their
    /// sessions.
    pub(in crate::queue::owner) corrupt: Vec<Key>,
}

impl Clients {
    pub(in crate::queue::owner) fn len(&self) -> usize {
        self.count
    }

    pub(in crate::queue::owner) fn iter(&self) -> impl Iterator<Item = &QueueClient> {
        self.slots.iter().flatten().map(|client| &**client)
    }

    pub(in crate::queue::owner) fn keys(&self) -> std::ops::Range<Key> {
        0..self.slots.len()
    }

    pub(in crate::queue::owner) fn get(&self, key: Key) -> Option<&QueueClient> {
        self.slots.get(key)?.as_deref()
    }

    pub(in crate::queue::owner) fn get_mut(&mut self, key: Key) -> Option<&mut QueueClient> {
        self.slots.get_mut(key)?.as_deref_mut()
    }

    pub(in crate::queue::owner) fn insert(&mut self, client: QueueClient) -> Key {
        let key = self.free.pop().unwrap_or(self.slots.len());
        if key == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[key] = Some(Box::new(client));
        self.count += 1;
        self.enlist(key);
        key
    }

    /// Frees the key of a client that was removed.
    pub(in crate::queue::owner) fn release(&mut self, key: Key) {
        self.free.push(key);
    }

    pub(in crate::queue::owner) fn remove(&mut self, key: Key) -> Option<QueueClient> {
        let client = self.slots.get_mut(key)?.take()?;
        self.count -= 1;
        self.sums.subtract(&client.place.counts);
        let other = |&listed: &Key| listed != key;
        self.polled.retain(other);
        self.touched.retain(other);
        self.getters.retain(other);
        self.hungry.retain(other);
        self.putters.retain(other);
        self.creditors.retain(other);
        self.holders.retain(|(_, listed)| other(listed));
        self.stuck.retain(other);
        self.corrupt.retain(other);
        Some(*client)
    }

    /// Changes a client, counts it again, and puts it on the lists where it now belongs.
    pub(in crate::queue::owner) fn change<R>(
        &mut self,
        key: Key,
        change: impl FnOnce(&mut QueueClient) -> R,
    ) -> Option<R> {
        let result = change(self.get_mut(key)?);
        self.enlist(key);
        Some(result)
    }

    fn enlist(&mut self, key: Key) {
        let Some(client) = self.slots.get_mut(key).and_then(Option::as_deref_mut) else {
            return;
        };
        Place::recount(client, &mut self.sums);
        let add = |belongs: bool, listed: &mut bool| belongs && !std::mem::replace(listed, true);
        if add(true, &mut client.place.touched) {
            self.touched.push(key);
        }
        let takes = !client.place.stuck;
        if add(takes && client.wants_items() > 0, &mut client.place.getter) {
            self.getters.push_back(key);
        }
        if add(takes && client.is_hungry(), &mut client.place.hungry) {
            self.hungry.push_back(key);
        }
        if add(client.wants_room(), &mut client.place.putter) {
            self.putters.push_back(key);
        }
        if add(client.credits() > 0, &mut client.place.creditor) {
            self.creditors.push_back(key);
        }
        if add(client.outstanding() > 0, &mut client.place.holder) {
            self.holders.insert((client.moved().max(client.place.asked) + STALLED, key));
        }
    }

    /// Puts a client on the list of those that have changed.
    pub(in crate::queue::owner) fn touch(&mut self, key: Key) {
        if let Some(client) = self.slots.get_mut(key).and_then(Option::as_deref_mut) {
            if !std::mem::replace(&mut client.place.touched, true) {
                self.touched.push(key);
            }
        }
    }

    /// From now on, the hub polls the client's region.
    pub(in crate::queue::owner) fn poll(&mut self, key: Key, now: Tick) {
        if let Some(client) = self.slots.get_mut(key).and_then(Option::as_deref_mut) {
            client.place.active = now;
            if !std::mem::replace(&mut client.place.polled, true) {
                client.begin_polling();
                self.polled.push(key);
            }
        }
    }

    /// Reads everything that a client has written. Returns whether there was anything.
    pub(in crate::queue::owner) fn look(
        &mut self,
        key: Key,
        ledger: &mut Ledger,
        item: &'static str,
        now: Tick,
    ) -> bool {
        let Some(client) = self.slots.get_mut(key).and_then(Option::as_deref_mut) else {
            return false;
        };
        if client.place.corrupt {
            return false;
        }
        match client.look(ledger, item) {
            Ok(false) => return false,
            Ok(true) => {
                client.place.stuck = false;
                client.place.active = now;
            }
            Err(_) => {
                client.place.corrupt = true;
                self.corrupt.push(key);
            }
        }
        self.enlist(key);
        true
    }

    /// A client with more parcels than this without an entry has sent them for nothing.
    pub(in crate::queue::owner) fn check_unmatched(&mut self, key: Key, most: usize) {
        let Some(client) = self.get_mut(key) else { return };
        if client.unmatched() > most && !std::mem::replace(&mut client.place.corrupt, true) {
            self.corrupt.push(key);
        }
    }

    /// Returns the first client that waits for an item. Drops those that no longer wait.
    pub(in crate::queue::owner) fn first_getter(&mut self) -> Option<Key> {
        while let Some(&key) = self.getters.front() {
            match self.get_mut(key) {
                Some(client) if client.place.stuck || client.wants_items() == 0 => {
                    client.place.getter = false;
                    self.getters.pop_front();
                }
                _ => return Some(key),
            }
        }
        None
    }

    /// Returns the first client that waits for room. Drops those that no longer wait.
    pub(in crate::queue::owner) fn first_putter(&mut self) -> Option<Key> {
        while let Some(&key) = self.putters.front() {
            match self.get_mut(key) {
                Some(client) if !client.wants_room() => {
                    client.place.putter = false;
                    self.putters.pop_front();
                }
                _ => return Some(key),
            }
        }
        None
    }

    /// Returns the keys of the clients with items in their inboxes.
    pub(in crate::queue::owner) fn holders(&self) -> impl Iterator<Item = Key> {
        self.holders.iter().map(|&(_, key)| key)
    }

    /// Removes and returns the first client that may be asked for items.
    pub(in crate::queue::owner) fn pop_holder(&mut self, now: Instant) -> Option<Key> {
        let &(at, key) = self.holders.first()?;
        if at > now {
            return None;
        }
        self.holders.pop_first();
        if let Some(client) = self.get_mut(key) {
            client.place.holder = false;
            client.place.asked = now;
        }
        Some(key)
    }

    /// Returns when the next client may be asked for items.
    pub(in crate::queue::owner) fn next_holder(&self) -> Option<Instant> {
        self.holders.first().map(|&(at, _)| at)
    }

    /// Records that an item found no room in the inbox of this client.
    pub(in crate::queue::owner) fn set_stuck(&mut self, key: Key) {
        if let Some(client) = self.get_mut(key) {
            client.place.stuck = true;
            self.stuck.push(key);
        }
    }

    pub(in crate::queue::owner) fn is_stuck(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Makes the clients that had no room for an item available for items again.
    pub(in crate::queue::owner) fn retry_stuck(&mut self) {
        for key in std::mem::take(&mut self.stuck) {
            self.change(key, |client| client.place.stuck = false);
        }
    }
}
