//! A client's inbox, as the owner writes it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::QueueClient;
use crate::failpoints;
use crate::ipc::ring::{self, Corrupt};
use crate::queue::item::{Item, Payload};
use crate::queue::layout::Tag;
use crate::queue::owner::run_queue::{self, RunQueue};

/// If the inbox has less free room than this, the ring reads how far the client has come.
const INBOX_ROOM: usize = ring::CAPACITY / 2;

/// The items in a client's inbox, which the owner keeps until the client has taken them.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// Their entries in the inbox are adjacent.
    pub(super) items: RunQueue,
    /// The position of the first one.
    start: u64,
}

impl Outstanding {
    /// Takes the first item if it lies before `end`. Returns it with its position.
    fn pop_before(&mut self, end: u64) -> Option<(u64, Item)> {
        if self.items.is_empty() || ring::is_at_or_behind(self.start, end) {
            return None;
        }
        let item = self.items.pop_front()?;
        let position = self.start;
        self.start = ring::advance(position, run_queue::entry_size(&item));
        Some((position, item))
    }

    /// Drops the items before `end`.
    fn skip_to(&mut self, end: u64) -> Result<(), Corrupt> {
        if !self.items.is_empty() {
            self.items.skip(ring::distance(self.start, end) as usize)?;
            self.start = end;
        }
        Ok(())
    }

    pub(super) fn position(&self, index: usize) -> Option<u64> {
        (index < self.items.len()).then(|| ring::advance(self.start, self.items.offset(index)))
    }

    fn take_all(&mut self) -> VecDeque<Item> {
        let mut items = std::mem::take(&mut self.items);
        std::iter::from_fn(|| items.pop_front()).collect()
    }
}

impl QueueClient {
    /// Reads what the client has taken, and records it as leases of the client. Returns whether
    /// there was anything.
    pub(in crate::queue) fn refresh(&mut self) -> Result<bool, Corrupt> {
        self.inbox.look()?;
        self.note_taken(self.inbox.taken_to())
    }

    /// Records that the client has taken every item before the position `end` of its inbox, and
    /// none from there on. Returns whether this is new.
    fn note_taken(&mut self, end: u64) -> Result<bool, Corrupt> {
        let before = self.outstanding();
        if self.rules.joinable {
            while let Some((position, mut item)) = self.outstanding.pop_before(end) {
                item.payload.mark_moved_out();
                self.leases.insert(position, item);
            }
            // `end` lies inside an item.
            if self.outstanding() < before && self.outstanding.start != end {
                return Err(Corrupt);
            }
        } else {
            self.outstanding.skip_to(end)?;
        }
        let taken = before - self.outstanding();
        if taken > 0 {
            self.has_got = true;
            self.taken += taken;
            self.got.add(taken as u64);
            self.moved = Instant::now();
        }
        Ok(taken > 0)
    }

    /// Moves up to `count` items from the store into the inbox. Returns how many found room there.
    pub(in crate::queue) fn push_from(&mut self, store: &mut RunQueue, count: usize) -> usize {
        let mut pushed = 0;
        while pushed < count {
            let room = self.inbox.room_for(INBOX_ROOM).unwrap_or(0);
            if let Some((run, moved)) = store.front_run(count - pushed, room) {
                if moved == 0 {
                    break;
                }
                let (position, bytes) = (self.inbox.position(), run.len());
                self.inbox.write_entries(run);
                self.note_pushed(position);
                self.outstanding.items.push_entries(run, moved);
                store.skip_run(bytes, moved);
                pushed += moved;
            } else {
                let Some(item) = store.pop_front() else { break };
                if let Err(item) = self.push(item) {
                    store.push_front(item);
                    break;
                }
                pushed += 1;
            }
        }
        if pushed > 0 {
            self.inbox.publish();
        }
        pushed
    }

    /// Records that something was written at this position of the inbox.
    fn note_pushed(&mut self, position: u64) {
        failpoints::point("hub.pushed");
        self.changed = true;
        if self.outstanding.items.is_empty() {
            self.moved = Instant::now();
            self.outstanding.start = position;
        }
    }

    /// Writes an item into the inbox, where `publish` makes it visible. If there is no room now,
    /// returns the item.
    fn push(&mut self, item: Item) -> Result<(), Item> {
        let position = self.inbox.position();
        let tag = |tag: Tag| tag.with(item.attempts);
        // A client whose words are corrupt gets nothing. The service thread will find the same, and
        // end the client's session.
        let pushed = match &item.payload {
            Payload::Bytes(bytes) => self.inbox.write(tag(Tag::Put), bytes.as_slice()),
            // The parcel is sent first, so that the client never waits for a parcel that was not
            // sent; and it is sent only if its entry will find room.
            Payload::Parcel(envelope) => match self.inbox.has_room(8) {
                Ok(true) => match self.peer.send_parcel(self.number, envelope) {
                    Some(id) => self.inbox.write(tag(Tag::Parcel), &id.to_le_bytes()),
                    None => Ok(false),
                },
                other => other,
            },
        };
        if pushed != Ok(true) {
            return Err(item);
        }
        self.note_pushed(position);
        self.outstanding.items.push_back(item);
        Ok(())
    }

    /// Takes items back out of the inbox, all but the oldest `keep`.
    ///
    /// The ring's recall makes the client's concurrent take fail or succeed as a whole, and leaves
    /// the ring empty. What the client had not taken by then belongs to the owner again, and the
    /// client can take nothing more before `publish`.
    pub(in crate::queue) fn recall(&mut self, keep: usize) -> Result<VecDeque<Item>, Corrupt> {
        let taken_to = self.inbox.recall()?;
        self.note_taken(taken_to)?;
        self.changed = true;
        let mut kept = self.outstanding.take_all();
        let back = kept.split_off(keep.min(kept.len()));
        let mut unplaced = VecDeque::new();
        for item in kept {
            // After an item that finds no room, later items would overtake it.
            if unplaced.is_empty() {
                if let Err(item) = self.push(item) {
                    unplaced.push_back(item);
                }
            } else {
                unplaced.push_back(item);
            }
        }
        self.inbox.publish();
        unplaced.extend(back);
        Ok(unplaced)
    }

    /// Ends the client: returns the items that it has not taken, and its leases, oldest first.
    pub(in crate::queue) fn into_items(mut self) -> (VecDeque<Item>, BTreeMap<u64, Item>) {
        let untaken = self.recall(0);
        let untaken = untaken.unwrap_or_else(|Corrupt| self.outstanding.take_all());
        (untaken, self.leases)
    }
}
