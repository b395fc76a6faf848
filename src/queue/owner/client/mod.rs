//! A client process of a queue, as the owner sees it: what it wants and has, its room and its pace.

mod inbox;
mod outbox;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::failpoints;
use crate::ipc::doorbell::FlagState;
use crate::ipc::hub::ClientLink;
use crate::ipc::region::Region;
use crate::ipc::ring::{Corrupt, RingConsumer, RingProducer};
use crate::ipc::wire::Envelope;
use crate::queue::item::Item;
use crate::queue::layout::{self, Word};
use crate::queue::owner::ledger::Ledger;
use crate::queue::owner::place::Place;
use crate::queue::role::ClientRules;
use crate::tally::Tally;
use inbox::Outstanding;
pub(in crate::queue::owner) use outbox::DRAIN_MAX;

/// A client that has taken nothing for this long, with more items in its inbox than it waits for,
/// counts as busy: the excess may go to others. After a shorter pause it may not, because an item
/// that went to another client would be overtaken by the later items that stay.
pub(in crate::queue) const STALLED: Duration = Duration::from_millis(2);
/// A client that waits, but leaves items in its inbox for this long, counts as suspended: others
/// may have its items and its room.
pub(in crate::queue) const SUSPENDED: Duration = Duration::from_millis(20);

/// A client's inbox may hold as many items as the client takes in this time.
const PREFETCH_TIME: Duration = Duration::from_micros(200);
const PREFETCH_MAX: usize = 1024;
/// Room that a client does not use within this time goes to others that wait for it.
const USE_TIME: Duration = Duration::from_micros(200);
/// How many wake-ups take as long as [`USE_TIME`].
const WAKE_UPS: usize = 4;
/// If a client's prefetch is at least this large, its inbox is refilled before it is empty.
const FAST: usize = 8;

/// How many threads, tasks and selectors of a client wait. The client changes these words at any
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Levels {
    /// Items that its threads and tasks wait for.
    pub(in crate::queue) getters: u64,
    /// Selectors that wait for an item.
    pub(in crate::queue) tasks: u64,
    /// Threads and tasks that wait for room.
    pub(in crate::queue) putters: u64,
}

impl Levels {
    fn min(self, other: Levels) -> Levels {
        Levels {
            getters: self.getters.min(other.getters),
            tasks: self.tasks.min(other.tasks),
            putters: self.putters.min(other.putters),
        }
    }

    /// Returns whether something waits for an item.
    pub(in crate::queue) fn wait_for_items(self) -> bool {
        self.getters > 0 || self.tasks > 0
    }
}

/// A client.
#[derive(Debug)]
pub(in crate::queue) struct QueueClient {
    peer: Arc<ClientLink>,
    number: u32,
    region: Arc<Region>,
    rules: ClientRules,
    outbox: RingConsumer,
    inbox: RingProducer,
    outstanding: Outstanding,
    /// Items that were taken and are not finished. A lease's number is the position that its item
    /// had in the inbox.
    leases: BTreeMap<u64, Item>,
    /// Parcels that arrived before their ring entries.
    parcels: VecDeque<Envelope>,
    /// Room that was granted and is not used yet.
    credits: usize,
    /// When room was last granted, or the client's threads were last seen to wake for it.
    granted: Instant,
    /// How much room the client gets at once while others wait as well, and how much it got last.
    room_batch: usize,
    last_grant: usize,
    /// How many items the inbox may hold, when that was measured, and how many the client has taken
    /// since.
    prefetch: usize,
    measured: Instant,
    taken: usize,
    /// The client's word for its busy time, as it was at that measurement.
    busy: u64,
    /// When the client last took something, or last had nothing to take.
    moved: Instant,
    /// The numbers of the last question and the last join that were read, and of those that were
    /// answered.
    ask: u64,
    answered: u64,
    join: u64,
    joined: u64,
    /// The numbers of the last ones that can be answered: every put that returned before them is in
    /// the state.
    answerable: u64,
    join_answerable: u64,
    has_put: bool,
    has_got: bool,
    /// The client has asked to discard the items, and has not learned yet how many were dropped.
    pub(in crate::queue) discards: bool,
    /// The handles that it sends on: how many it has announced, when its region was last read, and
    /// how many of them the hub has counted.
    announced: u64,
    handed_on: u64,
    /// The levels when the region was last read.
    pub(in crate::queue) levels: Levels,
    /// Whether the owner polls the client's region or waits for its doorbell.
    flag: FlagState,
    /// Its region has changed since its doorbell was last rung.
    changed: bool,
    /// Its contribution to the sums over all clients, and the lists that contain it.
    pub(in crate::queue::owner) place: Place,
    /// Counts what all clients take.
    got: Tally,
}

impl QueueClient {
    pub(in crate::queue) fn new(
        peer: Arc<ClientLink>,
        number: u32,
        region: Arc<Region>,
        rules: ClientRules,
    ) -> QueueClient {
        let now = Instant::now();
        QueueClient {
            peer,
            number,
            rules,
            outbox: layout::outbox_reader(&region),
            inbox: layout::inbox_writer(&region),
            region,
            outstanding: Outstanding::default(),
            leases: BTreeMap::new(),
            parcels: VecDeque::new(),
            credits: 0,
            granted: now,
            room_batch: 1,
            last_grant: 0,
            prefetch: 1,
            measured: now,
            taken: 0,
            busy: 0,
            moved: now,
            ask: 0,
            answered: 0,
            join: 0,
            joined: 0,
            answerable: 0,
            join_answerable: 0,
            has_put: false,
            has_got: false,
            discards: false,
            announced: 0,
            handed_on: 0,
            levels: Levels::default(),
            flag: FlagState::default(),
            changed: false,
            place: Place::new(now),
            got: Tally::default(),
        }
    }

    pub(in crate::queue) fn count_taken_in(&mut self, got: &Tally) {
        self.got = got.clone();
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

    /// Returns whether something was written into the region since the client was last rung.
    pub(in crate::queue) fn has_news(&self) -> bool {
        self.changed
    }

    /// Rings the client if its region has changed.
    pub(in crate::queue) fn ring_if_changed(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.peer.ring();
        }
    }

    pub(in crate::queue) fn link(&self) -> Arc<ClientLink> {
        self.peer.clone()
    }
}

/// Polling, and resting.
impl QueueClient {
    /// Called when the client's doorbell was received.
    pub(in crate::queue) fn rung(&mut self) {
        self.flag.rung();
    }

    /// From now on, the region is polled, so the client need not ring.
    pub(in crate::queue) fn begin_polling(&mut self) {
        self.flag.disarm(layout::word(&self.region, Word::OwnerSleeps));
    }

    /// From now on, the client rings when it writes something, and when it takes the item after
    /// which there is room for `batch` more. The caller must read the region once more.
    pub(in crate::queue) fn end_polling(&mut self, batch: usize) {
        self.notify_at(batch);
        self.flag.arm(layout::word(&self.region, Word::OwnerSleeps));
    }

    /// Returns whether the region may hold something that was not read. What the client takes from
    /// its inbox does not always ring.
    pub(in crate::queue) fn may_have_written(&self) -> bool {
        let flag = layout::word(&self.region, Word::OwnerSleeps);
        !self.flag.is_quiet(flag) || self.outstanding() > 0
    }

    /// A level that the role does not allow counts as zero, whatever the client writes.
    fn read_levels(&self) -> Levels {
        let read = |may: bool, word| if may { self.word(word) } else { 0 };
        Levels {
            getters: read(self.rules.role.takes(), Word::Getters),
            tasks: read(self.rules.role.takes(), Word::Tasks),
            putters: read(self.rules.role.puts(), Word::Putters),
        }
    }

    /// Reads everything that the client has written: carries out its entries, and records what it
    /// has taken and what it waits for. Returns whether there was anything.
    pub(in crate::queue) fn look(
        &mut self,
        ledger: &mut Ledger,
        item: &'static str,
    ) -> Result<bool, Corrupt> {
        // Read the levels before and after the entries. A thread that waited *before* had already
        // put what is drained now. A thread that waits *after* has not got what it waits for. Only
        // a client that waits at both times is idle.
        let before = self.read_levels();
        let busy = self.drain(ledger, item)?;
        let levels = before.min(self.read_levels());
        // Read after the levels, because a client announces what it sends on before it waits.
        let announced = self.word(Word::HandedOn);
        let changed = busy || levels != self.levels || announced != self.announced;
        if levels.putters < self.levels.putters {
            self.granted = Instant::now();
        }
        self.levels = levels;
        self.announced = announced;
        Ok(changed)
    }

    /// Records that the hub has counted a handle that the client sends on.
    pub(in crate::queue) fn note_handed_on(&mut self) {
        self.handed_on += 1;
    }

    /// Returns whether a handle that it sends on was not counted yet, because the message about
    /// that is still on its way to the hub. Then another process may soon put or take, and this
    /// client does not wait in vain.
    pub(in crate::queue) fn hands_on(&self) -> bool {
        self.announced > self.handed_on
    }

    /// Reads whether the client still waits for items. It would ring if it had begun to wait since
    /// the last [`look`](Self::look).
    pub(in crate::queue) fn look_for_end_of_wait(&mut self) {
        self.levels = self.levels.min(self.read_levels());
    }
}

/// Needs and holdings of the client.
impl QueueClient {
    /// Returns whether the client has items that may come back. A waiting thread takes what is in
    /// the inbox at once. A selector may be busy, and then its item is recalled.
    pub(in crate::queue) fn holds_back(&self) -> bool {
        let untaken = self.outstanding() > 0 && self.levels.getters == 0;
        untaken || (!self.leases.is_empty() && !self.levels.wait_for_items())
    }

    /// Returns whether the client puts nothing: its handle cannot, or a thread of it waits for an
    /// item and none of its items has ever reached the owner.
    pub(in crate::queue) fn is_idle(&self) -> bool {
        let waits = self.levels.getters > 0 && !self.has_put && !self.hands_on();
        !self.rules.role.puts() || waits
    }

    /// Returns whether the client, or a process that it has just sent a handle to, may still take
    /// items. A client that only puts, and waits for room in a full queue, does not. A waiting
    /// putter does not prove that, though: one is also announced for a moment by each put that
    /// needs to be granted room.
    pub(in crate::queue) fn may_take(&self, full: bool) -> bool {
        let takes = self.has_got || !full || self.levels.putters == 0;
        self.rules.role.takes() && (takes || self.hands_on())
    }

    /// Returns whether its handle can take.
    pub(in crate::queue) fn takes(&self) -> bool {
        self.rules.role.takes()
    }

    /// Returns whether an item from the client has reached the owner.
    pub(in crate::queue) fn has_put(&self) -> bool {
        self.has_put
    }

    pub(in crate::queue) fn has_got(&self) -> bool {
        self.has_got
    }

    /// Returns the number of items in the inbox.
    pub(in crate::queue) fn outstanding(&self) -> usize {
        self.outstanding.items.len()
    }

    pub(in crate::queue) fn credits(&self) -> usize {
        self.credits
    }

    /// Returns how many threads, tasks and selectors wait for an item.
    fn waiting(&self) -> usize {
        let waiting = self.levels.getters.saturating_add(self.levels.tasks);
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// Returns how many of them have no item in the inbox yet.
    pub(in crate::queue) fn wants_items(&self) -> usize {
        let waiting = self.waiting().min(PREFETCH_MAX);
        waiting.saturating_sub(self.outstanding())
    }

    /// Returns whether the client is fast, has taken half of the last prefetch, and does not wait.
    pub(in crate::queue) fn is_hungry(&self) -> bool {
        self.prefetch >= FAST && self.wants_items() == 0 && self.has_taken_half()
    }

    fn has_taken_half(&self) -> bool {
        self.outstanding() * 2 <= self.prefetch
    }

    /// Returns whether threads or tasks were waiting for room, when the region was last read, that
    /// was not granted yet.
    pub(in crate::queue) fn wants_room(&self) -> bool {
        self.levels.putters > self.credits as u64
    }

    /// Returns whether they are waiting for room at this moment.
    pub(in crate::queue) fn lacks_room(&self) -> bool {
        self.word(Word::Putters) > self.word(Word::Credit)
    }

    /// Returns how many items are in the inbox that nothing in the client waits for.
    fn excess(&self) -> usize {
        self.outstanding().saturating_sub(self.waiting())
    }

    /// Returns how many items in the inbox may go to others: all if the client is suspended, half
    /// of the excess if it is busy. `urgent` means that a consumer asks for an item and does not
    /// wait.
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

    /// Returns when the client last took something, or last had nothing to take.
    pub(in crate::queue) fn moved(&self) -> Instant {
        self.moved
    }

    /// Returns whether the client takes items so fast that one wake-up per item is a waste.
    pub(in crate::queue) fn is_fast(&self) -> bool {
        self.prefetch >= FAST && self.outstanding() > 0
    }

    /// Returns how many more items the inbox should get: one for each thread that waits, and a
    /// prefetch if the client is fast and has taken half of the last one.
    pub(in crate::queue) fn demand(&mut self) -> usize {
        let wanted = self.wants_items();
        if wanted == 0 && !self.has_taken_half() {
            return 0;
        }
        self.measure_pace();
        if wanted == 0 && self.prefetch < FAST {
            return 0;
        }
        wanted.max(self.prefetch.saturating_sub(self.outstanding()))
    }

    /// Measures the client's pace. If the client waits for each prefetch, only the time for which
    /// it was busy counts: among many such clients, each mostly waits for its turn, or for a
    /// processor.
    fn measure_pace(&mut self) {
        let elapsed = self.measured.elapsed();
        let busy = self.word(Word::Busy).wrapping_sub(self.busy);
        if elapsed < PREFETCH_TIME / 4 || (busy == 0 && self.wants_items() > 0) {
            return;
        }
        let time = if busy > 0 { elapsed.min(Duration::from_nanos(busy)) } else { elapsed };
        let rate = self.taken as f64 * PREFETCH_TIME.as_secs_f64() / time.as_secs_f64();
        // At most double, so that one lucky measurement does not bring hundreds of items.
        self.prefetch = (rate as usize).clamp(1, (self.prefetch * 2).min(PREFETCH_MAX));
        self.taken = 0;
        self.measured = Instant::now();
        self.busy = self.busy.wrapping_add(busy);
    }

    /// Returns how many items the client takes in the time in which another one could be woken.
    pub(in crate::queue) fn wake_up(&self) -> usize {
        self.prefetch / WAKE_UPS
    }

    /// Returns whether one of the client's threads asks for room without waiting for it.
    pub(in crate::queue) fn tries_to_put(&self) -> bool {
        self.asks() && self.levels.putters > 0
    }

    /// Returns whether the client has a question that was not answered.
    pub(in crate::queue) fn asks(&self) -> bool {
        self.ask > self.answered
    }

    /// Returns whether the client waits for the end of all items.
    pub(in crate::queue) fn joins(&self) -> bool {
        self.join > self.joined
    }

    /// Called when all outboxes are about to be drained. After that, whatever was asked before can
    /// be answered: each put that returned before the question was written is then in the state.
    pub(in crate::queue) fn cover_questions(&mut self) {
        self.answerable = self.ask;
        self.join_answerable = self.join;
    }

    /// Writes the numbers of unfinished items and dead letters, for the client's joins.
    pub(in crate::queue) fn note_unfinished(&mut self, unfinished: usize, dead: usize) {
        if self.joins() {
            let word = layout::word(&self.region, Word::Unfinished);
            word.store(unfinished as u64, Ordering::SeqCst);
        }
        if unfinished == 0 && self.join_answerable > self.joined {
            self.joined = self.join_answerable;
            layout::word(&self.region, Word::DeadLetters).store(dead as u64, Ordering::SeqCst);
            self.set(Word::Joined, self.joined);
        }
    }

    /// Answers the client's last answerable question.
    pub(in crate::queue) fn answer(&mut self, length: usize) {
        if self.answerable > self.answered {
            layout::word(&self.region, Word::Length).store(length as u64, Ordering::SeqCst);
            self.answered = self.answerable;
            self.set(Word::Answered, self.answered);
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
    /// Returns how much room the client gets at once while others wait as well: twice as much as
    /// the last time, if it has used that up. So each of many producers is woken once for many
    /// items, and one that puts few items keeps little room from the others.
    pub(in crate::queue) fn room_batch(&self, max: usize) -> usize {
        let used_up = self.credits == 0 && self.last_grant >= self.room_batch;
        (self.room_batch << u32::from(used_up)).clamp(1, max.max(1))
    }

    /// Grants the client room for `share` more items.
    pub(in crate::queue) fn grant(&mut self, share: usize, batch: usize) {
        let credit = layout::word(&self.region, Word::Credit);
        credit.fetch_add(share as u64, Ordering::SeqCst);
        if !failpoints::is_mutated("settle.lost-room") {
            self.credits += share;
        }
        self.changed |= share > 0;
        self.granted = Instant::now();
        self.last_grant = self.credits;
        self.room_batch = batch;
    }

    /// Returns whether the client still has time to wake up for the room that it got, and to use
    /// it.
    pub(in crate::queue) fn is_using_room(&self, now: Instant) -> bool {
        let time = if self.levels.putters > 0 { STALLED } else { USE_TIME };
        self.credits > 0 && now.saturating_duration_since(self.granted) < time
    }

    /// Takes back room that the client does not use. It keeps the room that its threads wait for,
    /// unless it is suspended.
    ///
    /// The client takes credit with a compare-and-swap on the same word, so each unit goes either
    /// to a put or back to the owner.
    pub(in crate::queue) fn revoke_unused(&mut self, now: Instant) {
        if self.credits == 0 {
            return;
        }
        let suspended = now.saturating_duration_since(self.granted) >= SUSPENDED;
        let keep = if suspended { 0 } else { self.word(Word::Putters) };
        let before = layout::word(&self.region, Word::Credit)
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |credit| Some(credit.min(keep)))
            .unwrap_or_default();
        let back = usize::try_from(before.saturating_sub(keep)).unwrap_or(usize::MAX);
        self.credits = self.credits.saturating_sub(back);
        if back > 0 {
            // A client that has not woken up yet may be as fast as before.
            if self.levels.putters == 0 && !self.is_using_room(now) {
                self.room_batch = self.last_grant.saturating_sub(back).max(1);
            }
            self.last_grant = 0;
        }
    }

    /// Has the client ring when it takes the item after which there is room for `batch` more. If
    /// that item is recalled, the client rings for a later one, because no position is used twice.
    fn notify_at(&mut self, batch: usize) {
        let index =
            if self.is_fast() { batch.min(self.outstanding()).saturating_sub(1) } else { 0 };
        let position = self.outstanding.position(index);
        let at = position.unwrap_or_else(|| self.inbox.position());
        layout::word(&self.region, Word::NotifyAt).store(at, Ordering::SeqCst);
    }
}
