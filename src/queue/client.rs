//! A client of a queue, as the owner sees it: its rings, its leases, its pace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::fail;
use crate::hub::Peer;
use crate::queue::core::{Item, Payload};
use crate::queue::layout::{self, Flag, Tag, Word};
use crate::region::Region;
use crate::ring::{self, Consumer, Corrupt, Producer};
use crate::wire::Packet;

/// What a client takes in this time may lie in its inbox ahead of it.
const AHEAD: Duration = Duration::from_micros(200);
const AHEAD_MAX: usize = 1024;
/// From this pace on its inbox is filled before it is empty.
const FAST: usize = 8;

/// A client.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) peer: Arc<Peer>,
    pub(super) number: u32,
    pub(super) region: Arc<Region>,
    pub(super) outbox: Consumer,
    pub(super) inbox: Producer,
    /// In the inbox, oldest first.
    pub(super) sent: Outstanding,
    /// Taken and not done, by where in the inbox it stood: that is the lease's number.
    pub(super) leases: BTreeMap<u64, Item>,
    /// Parcels that arrived ahead of their ring entries.
    pub(super) parcels: VecDeque<Packet>,
    /// Room granted and not used yet.
    pub(super) credits: usize,
    /// How many items to send ahead, and when that was last measured.
    pub(super) ahead: usize,
    pub(super) measured: Instant,
    pub(super) taken: usize,
    /// When the client last took something, or had nothing to take.
    pub(super) moved: Instant,
    pub(super) ask: u64,
    pub(super) join: u64,
    pub(super) has_put: bool,
    pub(super) has_got: bool,
    /// It asked that what is in the queue be dropped, and was not told yet of how many.
    pub(super) discards: bool,
    /// When it was last granted room.
    pub(super) granted: Instant,
    /// Something changed in its region since it was last rung.
    pub(super) changed: bool,
}

/// Items and where in the inbox each stands. Side by side: to build a pair of them costs more than to move both.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    positions: VecDeque<u64>,
    items: VecDeque<Item>,
}

impl Outstanding {
    #[inline]
    fn push(&mut self, position: u64, item: Item) {
        self.positions.push_back(position);
        self.items.push_back(item);
    }

    fn pop(&mut self) -> Option<(u64, Item)> {
        Some((self.positions.pop_front()?, self.items.pop_front()?))
    }

    fn position(&self, index: usize) -> Option<u64> {
        self.positions.get(index).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// All items; none is outstanding any more.
    pub(super) fn take_all(&mut self) -> VecDeque<Item> {
        self.positions.clear();
        std::mem::take(&mut self.items)
    }
}

impl Remote {
    pub(super) fn word(&self, word: Word) -> u64 {
        layout::word(&self.region, word).load(Ordering::SeqCst)
    }

    pub(super) fn set(&mut self, word: Word, value: u64) {
        let word = layout::word(&self.region, word);
        if word.load(Ordering::Relaxed) != value {
            word.store(value, Ordering::SeqCst);
            self.changed = true;
        }
    }

    /// Threads, tasks and selectors that wait for an item.
    pub(super) fn waiting(&self) -> usize {
        let waiting = self.word(Word::Getters).saturating_add(self.word(Word::Tasks));
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// Whether it has items that may come back: done with, or not taken. One that waits as a thread takes what
    /// lies in its inbox at once; a selector may be busy, then it is recalled.
    pub(super) fn holds_back(&self) -> bool {
        (!self.sent.is_empty() && self.word(Word::Getters) == 0) || (!self.leases.is_empty() && self.waiting() == 0)
    }

    /// Those of them whose item is not in the inbox yet.
    pub(super) fn wants_items(&self) -> usize {
        self.waiting().min(AHEAD_MAX).saturating_sub(self.sent.len())
    }

    /// Items in the inbox that no thread waits for.
    pub(super) fn surplus(&self) -> usize {
        self.sent.len().saturating_sub(self.waiting())
    }

    /// Whether it takes items so fast that waking others for one is a waste.
    pub(super) fn is_fast(&self) -> bool {
        self.ahead >= FAST && !self.sent.is_empty()
    }

    /// Asks it to tell when it takes the item behind which there is room for so many; whether it may have taken that
    /// one before it could know.
    pub(super) fn tell_at(&mut self, batch: usize) -> bool {
        let index = if self.is_fast() {
            batch.min(self.sent.len()).saturating_sub(1)
        } else {
            0
        };
        let at = self.sent.position(index).unwrap_or_else(|| self.inbox.position());
        let told = Flag::TellRoom.is_in(self.word(Word::Flags));
        let before = layout::word(&self.region, Word::TellAt).swap(at, Ordering::SeqCst);
        !told || !ring::is_at_or_behind(at, before)
    }

    pub(super) fn wants_room(&self) -> bool {
        self.word(Word::Putters) > self.word(Word::Credit)
    }

    /// Notes what the client has taken; whether there was anything.
    pub(super) fn look(&mut self, joinable: bool) -> Result<bool, Corrupt> {
        self.inbox.look()?;
        let before = self.sent.len();
        while self.sent.position(0).is_some_and(|position| self.inbox.is_taken(position)) {
            let Some((position, mut item)) = self.sent.pop() else { break };
            self.has_got = true;
            if joinable {
                item.payload.spend();
                self.leases.insert(position, item);
            }
        }
        let taken = before - self.sent.len();
        if taken > 0 {
            self.taken += taken;
            self.moved = Instant::now();
        }
        Ok(taken > 0)
    }

    /// Measures the client's pace: how many items may lie ahead of it.
    fn measure(&mut self) {
        let elapsed = self.measured.elapsed();
        if elapsed < AHEAD / 4 {
            return;
        }
        let rate = self.taken as f64 * AHEAD.as_secs_f64() / elapsed.as_secs_f64();
        // At most double, so that one lucky measurement gives nobody hundreds.
        self.ahead = (rate as usize).clamp(1, (self.ahead * 2).min(AHEAD_MAX));
        self.taken = 0;
        self.measured = Instant::now();
    }

    /// How many more items its inbox should get: for threads that wait, and ahead of them if it is fast and
    /// half of what lay ahead is taken.
    pub(super) fn appetite(&mut self) -> usize {
        let wanted = self.wants_items();
        if wanted == 0 && self.sent.len() * 2 > self.ahead {
            return 0;
        }
        self.measure();
        wanted.max(if wanted > 0 || self.ahead >= FAST {
            self.ahead.saturating_sub(self.sent.len())
        } else {
            0
        })
    }

    /// Writes an item into the inbox, where it is after `publish`; gives it back if there is no room now.
    pub(super) fn push(&mut self, item: Item) -> Result<(), Item> {
        let position = self.inbox.position();
        // A client whose words are corrupt gets nothing; `service` finds out and ends it.
        let pushed = match &item.payload {
            Payload::Bytes(bytes) => self.inbox.write(Tag::Put.with(item.attempts), bytes.as_slice()).unwrap_or(false),
            // The parcel first, and only if its entry will find room.
            Payload::Parcel(packet) if self.inbox.has_room(8).unwrap_or(false) => {
                let id = self.peer.send_parcel(self.number, packet);
                id.is_some_and(|id| {
                    let tag = Tag::Parcel.with(item.attempts);
                    self.inbox.write(tag, &id.to_le_bytes()).unwrap_or(false)
                })
            }
            Payload::Parcel(_) => false,
        };
        if !pushed {
            return Err(item);
        }
        fail::point("hub.pushed");
        self.changed = true;
        if self.sent.is_empty() {
            self.moved = Instant::now();
        }
        self.sent.push(position, item);
        Ok(())
    }

    /// Takes back what lies in the inbox, except the oldest `keep`.
    pub(super) fn recall(&mut self, keep: usize, joinable: bool) -> Result<VecDeque<Item>, Corrupt> {
        self.inbox.recall()?;
        self.look(joinable)?;
        self.inbox.resume();
        self.changed = true;
        let mut items = self.sent.take_all();
        let back = items.split_off(keep.min(items.len()));
        let mut failed = VecDeque::new();
        for item in items {
            // Behind one that finds no place the others would overtake it.
            if failed.is_empty() {
                if let Err(item) = self.push(item) {
                    failed.push_back(item);
                }
            } else {
                failed.push_back(item);
            }
        }
        self.inbox.publish();
        failed.extend(back);
        Ok(failed)
    }
}
