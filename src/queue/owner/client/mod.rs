//! A client process of a queue, as the owner sees it: what it wants and has, its room and its pace.

mod inbox;
mod outbox;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::failpoints;
use crate::ipc::hub::ClientLink;
use crate::ipc::region::Region;
use crate::ipc::ring::{self, Consumer, Producer};
use crate::ipc::wire::Envelope;
use crate::queue::item::Item;
use crate::queue::layout::{self, Flag, Word};
use inbox::Outstanding;

/// A client that has taken nothing for this long, with more items in its inbox than it waits for,
/// is busy: the excess may go to others. After a shorter pause it may not, because an item that
/// went to another client would be overtaken by the later ones that stay.
pub(in crate::queue) const STALLED: Duration = Duration::from_millis(2);
/// A client that waits, and leaves what it waits for in its inbox for this long, is suspended:
/// others may have its items and its room.
pub(in crate::queue) const SUSPENDED: Duration = Duration::from_millis(20);

/// A client's inbox may hold what it takes in this time.
const PREFETCH_TIME: Duration = Duration::from_micros(200);
const PREFETCH_MAX: usize = 1024;
/// From this prefetch on, the inbox is refilled before it is empty.
const FAST: usize = 8;

/// A client's needs and holdings, read once for one pass of the scheduler. The words in its region
/// change at any time, so sums over all clients add up only if each word is read once.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::queue) struct Glance {
    /// Threads, tasks and selectors wait for an item.
    pub(in crate::queue) waits: bool,
    /// Threads wait for an item.
    pub(in crate::queue) thread_waits: bool,
    /// It has items that may come back.
    pub(in crate::queue) holds_back: bool,
    /// Threads or tasks wait for room.
    pub(in crate::queue) putters: bool,
}

/// A client.
#[derive(Debug)]
pub(in crate::queue) struct QueueClient {
    peer: Arc<ClientLink>,
    number: u32,
    region: Arc<Region>,
    joinable: bool,
    outbox: Consumer,
    inbox: Producer,
    outstanding: Outstanding,
    /// Items that were taken and are not finished. A lease's number is the position that its item
    /// had in the inbox.
    leases: BTreeMap<u64, Item>,
    /// Parcels that arrived before their ring entries.
    parcels: VecDeque<Envelope>,
    /// Room that was granted and not used yet.
    credits: usize,
    /// When room was last granted.
    granted: Instant,
    /// How many items its inbox may hold, when that was measured, and how many it has taken since.
    prefetch: usize,
    measured: Instant,
    taken: usize,
    /// When it last took something, or last had nothing to take.
    moved: Instant,
    /// The last question and the last join that were read.
    ask: u64,
    join: u64,
    /// The last ones that can be answered: every put that returned before them is in the state.
    answerable: u64,
    join_answerable: u64,
    has_put: bool,
    has_got: bool,
    /// It asked to discard the items, and does not know yet how many those were.
    pub(in crate::queue) discards: bool,
    pub(in crate::queue) glance: Glance,
    /// Its region has changed since its doorbell was last rung.
    changed: bool,
}

impl QueueClient {
    pub(in crate::queue) fn new(
        peer: Arc<ClientLink>,
        number: u32,
        region: Arc<Region>,
        joinable: bool,
    ) -> QueueClient {
        let now = Instant::now();
        QueueClient {
            peer,
            number,
            joinable,
            outbox: layout::outbox_reader(&region),
            inbox: layout::inbox_writer(&region),
            region,
            outstanding: Outstanding::default(),
            leases: BTreeMap::new(),
            parcels: VecDeque::new(),
            credits: 0,
            granted: now,
            prefetch: 1,
            measured: now,
            taken: 0,
            moved: now,
            ask: 0,
            join: 0,
            answerable: 0,
            join_answerable: 0,
            has_put: false,
            has_got: false,
            discards: false,
            glance: Glance::default(),
            changed: false,
        }
    }

    pub(in crate::queue) fn pid(&self) -> u32 {
        self.peer.page.pid()
    }

    fn word(&self, word: Word) -> u64 {
        layout::word(&self.region, word).load(Ordering::SeqCst)
    }

    /// Writes a word that the client may wait for.
    pub(in crate::queue) fn set(&mut self, word: Word, value: u64) {
        let word = layout::word(&self.region, word);
        if word.load(Ordering::Relaxed) != value {
            word.store(value, Ordering::SeqCst);
            self.changed = true;
        }
    }

    /// Rings the client if its region has changed.
    pub(in crate::queue) fn ring_if_changed(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.peer.ring();
        }
    }
}

/// Its needs and holdings.
impl QueueClient {
    pub(in crate::queue) fn take_glance(&mut self) {
        let threads = self.word(Word::Getters) > 0;
        let waits = threads || self.word(Word::Tasks) > 0;
        // A waiting thread takes what is in the inbox at once; a selector may be busy, and then its
        // item is recalled.
        let untaken = !self.outstanding.items.is_empty() && !threads;
        self.glance = Glance {
            waits,
            thread_waits: threads,
            holds_back: untaken || (!self.leases.is_empty() && !waits),
            putters: self.word(Word::Putters) > 0,
        };
    }

    /// Whether it may still take items. One that only puts, and waits for room in a full queue,
    /// does not. A waiting putter is no proof of that, though: it is also announced for a moment at
    /// each put that needs room to be granted.
    pub(in crate::queue) fn may_take(&self, full: bool) -> bool {
        self.has_got || !full || !self.glance.putters
    }

    /// Returns whether an item from it has reached the owner.
    pub(in crate::queue) fn has_put(&self) -> bool {
        self.has_put
    }

    pub(in crate::queue) fn has_got(&self) -> bool {
        self.has_got
    }

    /// The number of items in its inbox.
    pub(in crate::queue) fn outstanding(&self) -> usize {
        self.outstanding.items.len()
    }

    pub(in crate::queue) fn credits(&self) -> usize {
        self.credits
    }

    /// Threads, tasks and selectors that wait for an item.
    fn waiting(&self) -> usize {
        let waiting = self.word(Word::Getters);
        let waiting = waiting.saturating_add(self.word(Word::Tasks));
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// How many of them have no item in the inbox yet.
    pub(in crate::queue) fn wants_items(&self) -> usize {
        let waiting = self.waiting().min(PREFETCH_MAX);
        waiting.saturating_sub(self.outstanding())
    }

    /// Returns whether threads or tasks wait for room that was not granted yet.
    pub(in crate::queue) fn wants_room(&self) -> bool {
        self.word(Word::Putters) > self.word(Word::Credit)
    }

    /// Items in the inbox that nothing in the client waits for.
    fn excess(&self) -> usize {
        self.outstanding().saturating_sub(self.waiting())
    }

    /// How many items in its inbox may go to others: all if it is suspended, half of the excess if
    /// it is busy. With `urgent`, a consumer asks for an item and does not wait.
    pub(in crate::queue) fn to_spare(&self, now: Instant, urgent: bool) -> usize {
        let still = now.saturating_duration_since(self.moved);
        if still >= SUSPENDED {
            self.outstanding()
        } else if urgent || still >= STALLED {
            self.excess().div_ceil(2)
        } else {
            0
        }
    }

    /// When `to_spare` may become more than 0 by itself, if it can.
    pub(in crate::queue) fn spares_at(&self) -> Option<Instant> {
        let pause = if self.excess() > 0 { STALLED } else { SUSPENDED };
        (self.outstanding() > 0).then(|| self.moved + pause)
    }

    /// Returns whether it takes items so fast that a wake-up for each single one is a waste.
    pub(in crate::queue) fn is_fast(&self) -> bool {
        self.prefetch >= FAST && self.outstanding() > 0
    }

    /// How many more items its inbox should get: one for each that waits, and a prefetch if it is
    /// fast and has taken half of the last one.
    pub(in crate::queue) fn demand(&mut self) -> usize {
        let wanted = self.wants_items();
        if wanted == 0 && self.outstanding() * 2 > self.prefetch {
            return 0;
        }
        self.measure_pace();
        if wanted == 0 && self.prefetch < FAST {
            return 0;
        }
        wanted.max(self.prefetch.saturating_sub(self.outstanding()))
    }

    fn measure_pace(&mut self) {
        let elapsed = self.measured.elapsed();
        if elapsed < PREFETCH_TIME / 4 {
            return;
        }
        let rate = self.taken as f64 * PREFETCH_TIME.as_secs_f64() / elapsed.as_secs_f64();
        // At most double, so that one lucky measurement does not bring hundreds of items.
        self.prefetch = (rate as usize).clamp(1, (self.prefetch * 2).min(PREFETCH_MAX));
        self.taken = 0;
        self.measured = Instant::now();
    }

    pub(in crate::queue) fn has_question(&self) -> bool {
        self.ask > self.word(Word::Answered)
    }

    pub(in crate::queue) fn joins(&self) -> bool {
        self.join > self.word(Word::Joined)
    }

    /// All outboxes are about to be drained. After that, what was asked before can be answered:
    /// each put that returned before the question was written is then in the state.
    pub(in crate::queue) fn cover_questions(&mut self) {
        self.answerable = self.ask;
        self.join_answerable = self.join;
    }

    /// Answers its last answerable question.
    pub(in crate::queue) fn answer(&mut self, length: usize) {
        if self.answerable > self.word(Word::Answered) {
            layout::word(&self.region, Word::Length).store(length as u64, Ordering::SeqCst);
            self.set(Word::Answered, self.answerable);
        }
    }

    pub(in crate::queue) fn note_unfinished(&mut self, unfinished: usize) {
        layout::word(&self.region, Word::Unfinished).store(unfinished as u64, Ordering::SeqCst);
        if unfinished == 0 {
            self.set(Word::Joined, self.join_answerable);
        }
    }

    /// Writes how many items were dropped because the client asked for that.
    pub(in crate::queue) fn note_dropped(&mut self, dropped: usize) {
        self.discards = false;
        let word = layout::word(&self.region, Word::Dropped);
        word.fetch_add(dropped as u64, Ordering::SeqCst);
    }
}

/// Room.
impl QueueClient {
    /// Grants it room for `share` more items.
    pub(in crate::queue) fn grant(&mut self, share: usize) {
        let credit = layout::word(&self.region, Word::Credit);
        credit.fetch_add(share as u64, Ordering::SeqCst);
        if !failpoints::is_mutated("settle.lost-room") {
            self.credits += share;
        }
        self.changed |= share > 0;
        self.granted = Instant::now();
    }

    /// Takes back room that it does not use: what its threads wait for is left to it, unless it is
    /// suspended.
    ///
    /// The client takes credit with a compare-and-swap on the same word, so each unit goes either
    /// to a put or back to the owner.
    pub(in crate::queue) fn revoke_unused(&mut self) {
        if self.credits == 0 {
            return;
        }
        let suspended = self.granted.elapsed() >= SUSPENDED;
        let keep = if suspended { 0 } else { self.word(Word::Putters) };
        let before = layout::word(&self.region, Word::Credit)
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |credit| Some(credit.min(keep)))
            .unwrap_or_default();
        let back = usize::try_from(before.saturating_sub(keep)).unwrap_or(usize::MAX);
        self.credits = self.credits.saturating_sub(back);
    }

    /// When its unused room may be revoked.
    pub(in crate::queue) fn revocable_at(&self) -> Option<Instant> {
        (self.credits > 0).then(|| self.granted + SUSPENDED)
    }

    /// Asks it to ring when it takes the item after which there is room for `batch` more. Returns
    /// whether it may have taken that item before it could see this.
    pub(in crate::queue) fn request_notice(&mut self, batch: usize) -> bool {
        let index =
            if self.is_fast() { batch.min(self.outstanding()).saturating_sub(1) } else { 0 };
        let position = self.outstanding.position(index);
        let at = position.unwrap_or_else(|| self.inbox.position());
        let requested = Flag::NotifyRoom.is_in(self.word(Word::Flags));
        let before = layout::word(&self.region, Word::NotifyAt).swap(at, Ordering::SeqCst);
        !requested || !ring::is_at_or_behind(at, before)
    }
}
