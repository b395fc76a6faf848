//! A client of a queue, as the owner sees it: its rings, its leases, its pace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::failpoints;
use crate::ipc::hub::ClientLink;
use crate::ipc::region::Region;
use crate::ipc::ring::{self, Consumer, Corrupt, Producer};
use crate::ipc::wire::Envelope;
use crate::queue::layout::{self, Flag, Tag, Word};
use crate::queue::owner::run_queue::{self, Items};
use crate::queue::owner::state::{Item, Payload};

/// What a client takes in this time may lie in its inbox ahead of it.
const AHEAD: Duration = Duration::from_micros(200);
const AHEAD_MAX: usize = 1024;
/// With less room in the inbox than this it is looked how far the client has come.
const AHEAD_ROOM: usize = ring::CAPACITY / 2;
/// From this pace on its inbox is filled before it is empty.
const FAST: usize = 8;

/// A client.
#[derive(Debug)]
pub(in crate::queue) struct Remote {
    pub(in crate::queue) peer: Arc<ClientLink>,
    pub(in crate::queue) number: u32,
    pub(in crate::queue) region: Arc<Region>,
    pub(in crate::queue) outbox: Consumer,
    pub(in crate::queue) inbox: Producer,
    /// In the inbox, oldest first.
    pub(in crate::queue) sent: Outstanding,
    /// Taken and not done, by where in the inbox it stood: that is the lease's number.
    pub(in crate::queue) leases: BTreeMap<u64, Item>,
    /// Parcels that arrived ahead of their ring entries.
    pub(in crate::queue) parcels: VecDeque<Envelope>,
    /// Room granted and not used yet.
    pub(in crate::queue) credits: usize,
    /// How many items to send ahead, and when that was last measured.
    pub(in crate::queue) ahead: usize,
    pub(in crate::queue) measured: Instant,
    pub(in crate::queue) taken: usize,
    /// When the client last took something, or had nothing to take.
    pub(in crate::queue) moved: Instant,
    pub(in crate::queue) ask: u64,
    pub(in crate::queue) join: u64,
    pub(in crate::queue) has_put: bool,
    pub(in crate::queue) has_got: bool,
    /// It asked that what is in the queue be dropped, and was not told yet of how many.
    pub(in crate::queue) discards: bool,
    /// When it was last granted room.
    pub(in crate::queue) granted: Instant,
    /// Something changed in its region since it was last rung.
    pub(in crate::queue) changed: bool,
}

/// Items and where in the inbox they stand: one behind the other.
#[derive(Debug, Default)]
pub(in crate::queue) struct Outstanding {
    items: Items,
    /// Where the first one stands.
    start: u64,
}

impl Outstanding {
    /// The first of them, if it lies before `end`, and where it stood.
    fn pop_before(&mut self, end: u64) -> Option<(u64, Item)> {
        if self.items.is_empty() || ring::is_at_or_behind(self.start, end) {
            return None;
        }
        let item = self.items.pop_front()?;
        let position = self.start;
        self.start = ring::advance(position, run_queue::entry_size(&item));
        Some((position, item))
    }

    /// Drops those that lie before `end`.
    fn skip_to(&mut self, end: u64) -> Result<(), Corrupt> {
        if !self.items.is_empty() {
            self.items.skip(ring::distance(self.start, end) as usize)?;
            self.start = end;
        }
        Ok(())
    }

    fn position(&self, index: usize) -> Option<u64> {
        (index < self.items.len()).then(|| ring::advance(self.start, self.items.offset(index)))
    }

    pub(in crate::queue) fn len(&self) -> usize {
        self.items.len()
    }

    pub(in crate::queue) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items; none is outstanding any more.
    pub(in crate::queue) fn take_all(&mut self) -> VecDeque<Item> {
        let mut items = std::mem::take(&mut self.items);
        std::iter::from_fn(|| items.pop_front()).collect()
    }
}

impl Remote {
    pub(in crate::queue) fn word(&self, word: Word) -> u64 {
        layout::word(&self.region, word).load(Ordering::SeqCst)
    }

    pub(in crate::queue) fn set(&mut self, word: Word, value: u64) {
        let word = layout::word(&self.region, word);
        if word.load(Ordering::Relaxed) != value {
            word.store(value, Ordering::SeqCst);
            self.changed = true;
        }
    }

    /// Threads, tasks and selectors that wait for an item.
    pub(in crate::queue) fn waiting(&self) -> usize {
        let waiting = self
            .word(Word::Getters)
            .saturating_add(self.word(Word::Tasks));
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// Whether it has items that may come back: done with, or not taken. One that waits as a thread takes what
    /// lies in its inbox at once; a selector may be busy, then it is recalled.
    pub(in crate::queue) fn holds_back(&self) -> bool {
        (!self.sent.is_empty() && self.word(Word::Getters) == 0)
            || (!self.leases.is_empty() && self.waiting() == 0)
    }

    /// Those of them whose item is not in the inbox yet.
    pub(in crate::queue) fn wants_items(&self) -> usize {
        self.waiting()
            .min(AHEAD_MAX)
            .saturating_sub(self.sent.len())
    }

    /// Items in the inbox that no thread waits for.
    pub(in crate::queue) fn surplus(&self) -> usize {
        self.sent.len().saturating_sub(self.waiting())
    }

    /// Whether it takes items so fast that waking others for one is a waste.
    pub(in crate::queue) fn is_fast(&self) -> bool {
        self.ahead >= FAST && !self.sent.is_empty()
    }

    /// Asks it to tell when it takes the item behind which there is room for so many; whether it may have taken that
    /// one before it could know.
    pub(in crate::queue) fn tell_at(&mut self, batch: usize) -> bool {
        let index = if self.is_fast() {
            batch.min(self.sent.len()).saturating_sub(1)
        } else {
            0
        };
        let at = self
            .sent
            .position(index)
            .unwrap_or_else(|| self.inbox.position());
        let told = Flag::TellRoom.is_in(self.word(Word::Flags));
        let before = layout::word(&self.region, Word::TellAt).swap(at, Ordering::SeqCst);
        !told || !ring::is_at_or_behind(at, before)
    }

    pub(in crate::queue) fn wants_room(&self) -> bool {
        self.word(Word::Putters) > self.word(Word::Credit)
    }

    /// Notes what the client has taken; whether there was anything.
    pub(in crate::queue) fn look(&mut self, joinable: bool) -> Result<bool, Corrupt> {
        self.inbox.look()?;
        let (before, end) = (self.sent.len(), self.inbox.taken_to());
        if joinable {
            while let Some((position, mut item)) = self.sent.pop_before(end) {
                item.payload.mark_moved_out();
                self.leases.insert(position, item);
            }
        } else {
            self.sent.skip_to(end)?;
        }
        let taken = before - self.sent.len();
        if taken > 0 {
            self.has_got = true;
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
    pub(in crate::queue) fn appetite(&mut self) -> usize {
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

    /// Moves up to so many of these items into the inbox; how many found room there.
    pub(in crate::queue) fn push_from(&mut self, store: &mut Items, count: usize) -> usize {
        let mut pushed = 0;
        while pushed < count {
            let room = self.inbox.room_for(AHEAD_ROOM).unwrap_or(0);
            if let Some((run, moved)) = store.front_run(count - pushed, room) {
                if moved == 0 {
                    break;
                }
                let (position, bytes) = (self.inbox.position(), run.len());
                self.inbox.write_entries(run);
                self.note_pushed(position);
                self.sent.items.push_entries(run, moved);
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

    /// Something was written at this place of the inbox.
    fn note_pushed(&mut self, position: u64) {
        failpoints::point("hub.pushed");
        self.changed = true;
        if self.sent.is_empty() {
            self.moved = Instant::now();
            self.sent.start = position;
        }
    }

    /// Writes an item into the inbox, where it is after `publish`; gives it back if there is no room now.
    fn push(&mut self, item: Item) -> Result<(), Item> {
        let position = self.inbox.position();
        // A client whose words are corrupt gets nothing; `service` finds out and ends it.
        let pushed = match &item.payload {
            Payload::Bytes(bytes) => self
                .inbox
                .write(Tag::Put.with(item.attempts), bytes.as_slice())
                .unwrap_or(false),
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
        self.note_pushed(position);
        self.sent.items.push_back(item);
        Ok(())
    }

    /// Takes back what lies in the inbox, except the oldest `keep`.
    pub(in crate::queue) fn recall(
        &mut self,
        keep: usize,
        joinable: bool,
    ) -> Result<VecDeque<Item>, Corrupt> {
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
