//! The owner's side of a queue: the items, who waits, what is leased to whom.
//!
//! One lock, no hop: the owner's threads and the hub's service thread work on the same state. An item is
//! in exactly one place: a producer's outbox ring, the store, a consumer's inbox ring, or (taken from a
//! joinable queue, and not done) a lease. `settle` moves items and room to those who wait, after each
//! change, and tells them.
//!
//! A client's threads that wait are a number in its region, which the hub reads as a level: items are
//! pushed until the inbox holds as many, and more if the client has been taking them fast. Since an item
//! that nobody has taken can be recalled, a client that gives up waiting loses nothing and blocks nobody.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hub::{Attachment, Peer, Resource, Serviced};
use crate::queue::layout::{self, Flag, Tag, Word};
use crate::region::Region;
use crate::ring::{Consumer, Corrupt, Producer};
use crate::wire::Packet;

/// What a client takes in this time may lie in its inbox ahead of it.
const AHEAD: Duration = Duration::from_micros(200);
const AHEAD_MAX: usize = 1024;
/// A client that has taken nothing for this long, with items ahead of it that it does not wait for, is
/// busy: others may have them. Shorter pauses do not count, since a later item that was handed to
/// another client in between would overtake them.
const STALLED: Duration = Duration::from_millis(2);
/// Entries that are drained from one outbox before others have a turn.
const DRAIN_MAX: usize = 1024;

/// An item as it lies in the queue.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) payload: Payload,
    /// How many consumers have had it before, without finishing it.
    pub(crate) attempts: u32,
}

#[derive(Debug)]
pub(crate) enum Payload {
    Bytes(Vec<u8>),
    Parcel(Packet),
}

/// Which ends of a wait there are besides what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Timeout,
    Closed,
    /// Unfinished items, and nobody left to finish them.
    Abandoned(usize),
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capacity: Option<usize>,
    pub(crate) joinable: bool,
    pub(crate) fingerprint: u64,
    /// Under which the hub knows it; set once, right after it is made.
    pub(crate) number: AtomicU64,
    handles: AtomicUsize,
    state: Mutex<State>,
    /// Local threads that wait for an item, for room, or for the last item to be done.
    items: Condvar,
    room: Condvar,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    store: VecDeque<Item>,
    /// Items put and not done; counts in a joinable queue only.
    unfinished: usize,
    /// Handles under way to another process.
    tickets: usize,
    /// Whether any other process ever held a handle.
    shared: bool,
    local: Local,
    remotes: BTreeMap<u64, Remote>,
    next_remote: u64,
    /// Who is served next: 0 is the local side, the others follow.
    turn: u64,
}

/// The owner's own threads.
#[derive(Debug, Default)]
struct Local {
    getters: usize,
    putters: usize,
    joiners: usize,
    /// A getter is at its deadline.
    hurry: bool,
    /// Items for getters that were told.
    ready: VecDeque<Item>,
    leases: HashMap<u64, Item>,
    /// Leases of items that were taken out of their `Delivery`, oldest first.
    detached: VecDeque<u64>,
    next_lease: u64,
    has_put: bool,
    has_got: bool,
}

/// A client.
#[derive(Debug)]
struct Remote {
    peer: Arc<Peer>,
    number: u32,
    region: Arc<Region>,
    outbox: Consumer,
    inbox: Producer,
    /// In the inbox, oldest first.
    sent: VecDeque<Sent>,
    /// Taken and not done, by number.
    leases: BTreeMap<u64, Item>,
    next_lease: u64,
    /// Parcels that arrived ahead of their ring entries.
    parcels: VecDeque<Packet>,
    /// Room granted and not used yet.
    credits: usize,
    /// How many items to send ahead, and when that was last measured.
    ahead: usize,
    measured: Instant,
    taken: usize,
    /// When the client last took something, or had nothing to take.
    moved: Instant,
    ask: u64,
    join: u64,
    has_put: bool,
    has_got: bool,
    /// Reused for each entry.
    entry: Vec<u8>,
    /// Something changed in its region since it was last rung.
    changed: bool,
}

#[derive(Debug)]
struct Sent {
    position: u64,
    lease: u64,
    item: Item,
}

impl Remote {
    fn word(&self, word: Word) -> u64 {
        layout::word(&self.region, word).load(Ordering::SeqCst)
    }

    fn set(&mut self, word: Word, value: u64) {
        let word = layout::word(&self.region, word);
        if word.load(Ordering::Relaxed) != value {
            word.store(value, Ordering::SeqCst);
            self.changed = true;
        }
    }

    /// Threads that wait for an item that is not in the inbox yet.
    fn wants_items(&self) -> usize {
        let waiting = usize::try_from(self.word(Word::Getters)).unwrap_or(usize::MAX).min(AHEAD_MAX);
        waiting.saturating_sub(self.sent.len())
    }

    /// Items in the inbox that no thread waits for.
    fn surplus(&self) -> usize {
        let waiting = usize::try_from(self.word(Word::Getters)).unwrap_or(usize::MAX);
        self.sent.len().saturating_sub(waiting)
    }

    fn wants_room(&self) -> bool {
        self.word(Word::Putters) > self.word(Word::Credit)
    }

    /// Notes what the client has taken; whether there was anything.
    fn look(&mut self, joinable: bool) -> Result<bool, Corrupt> {
        self.inbox.look()?;
        let before = self.sent.len();
        while self.sent.front().is_some_and(|sent| self.inbox.is_taken(sent.position)) {
            let Some(sent) = self.sent.pop_front() else { break };
            self.has_got = true;
            if joinable {
                self.leases.insert(sent.lease, sent.item);
            }
        }
        let taken = before - self.sent.len();
        if taken > 0 {
            self.taken += taken;
            self.moved = Instant::now();
        }
        Ok(taken > 0)
    }

    /// How many items may lie ahead, by the client's pace since the last measurement.
    fn pace(&mut self) -> usize {
        let elapsed = self.measured.elapsed();
        if self.taken > 0 {
            let rate = self.taken as f64 * AHEAD.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
            // At most double, so that one lucky measurement gives nobody hundreds.
            self.ahead = (rate as usize).clamp(1, (self.ahead * 2).min(AHEAD_MAX));
            self.taken = 0;
            self.measured = Instant::now();
        } else if elapsed > AHEAD {
            self.ahead = 1;
        }
        self.ahead
    }

    /// Puts an item into the inbox; gives it back if there is no room now.
    fn push(&mut self, item: Item, joinable: bool) -> Result<(), Item> {
        let lease = self.next_lease;
        let position = self.inbox.position();
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        if joinable {
            entry.extend_from_slice(&lease.to_le_bytes());
        }
        // A client whose words are corrupt gets nothing; `service` finds out and ends it.
        let pushed = match &item.payload {
            Payload::Bytes(bytes) => {
                entry.extend_from_slice(bytes);
                self.inbox.push(Tag::Put.with(item.attempts), &entry).unwrap_or(false)
            }
            // The parcel first, and only if its entry will find room.
            Payload::Parcel(packet) if self.inbox.has_room(entry.len() + 8).unwrap_or(false) => {
                self.peer.send_parcel(self.number, packet).is_some_and(|id| {
                    entry.extend_from_slice(&id.to_le_bytes());
                    self.inbox.push(Tag::Parcel.with(item.attempts), &entry).unwrap_or(false)
                })
            }
            Payload::Parcel(_) => false,
        };
        self.entry = entry;
        if !pushed {
            return Err(item);
        }
        self.next_lease += 1;
        self.changed = true;
        if self.sent.is_empty() {
            self.moved = Instant::now();
        }
        self.sent.push_back(Sent { position, lease, item });
        Ok(())
    }

    /// Takes back what lies in the inbox, except the oldest `keep`.
    fn recall(&mut self, keep: usize, joinable: bool) -> Result<VecDeque<Item>, Corrupt> {
        self.inbox.recall()?;
        self.look(joinable)?;
        self.inbox.resume();
        self.changed = true;
        let mut items: VecDeque<Item> = std::mem::take(&mut self.sent).into_iter().map(|sent| sent.item).collect();
        let back = items.split_off(keep.min(items.len()));
        let mut failed = VecDeque::new();
        for item in items {
            if let Err(item) = self.push(item, joinable) {
                failed.push_back(item);
            }
        }
        failed.extend(back);
        Ok(failed)
    }
}

impl Core {
    pub(crate) fn new(capacity: Option<usize>, joinable: bool, fingerprint: u64) -> Core {
        Core {
            capacity,
            joinable,
            fingerprint,
            number: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
            state: Mutex::new(State::default()),
            items: Condvar::new(),
            room: Condvar::new(),
            done: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle in this process came (`true`) or went.
    pub(crate) fn handle(&self, came: bool) {
        if came {
            self.handles.fetch_add(1, Ordering::SeqCst);
        } else {
            self.handles.fetch_sub(1, Ordering::SeqCst);
            // Somebody may have waited for what only this handle could have put.
            self.settle(&mut self.lock());
        }
    }

    pub(crate) fn put(&self, payload: Payload, deadline: Option<Instant>) -> Result<(), (Payload, Over)> {
        let mut state = self.lock();
        state.local.putters += 1;
        let mut told = false;
        let over = loop {
            self.drain_all(&mut state);
            if state.closed {
                break Some(Over::Closed);
            }
            if self.free(&state) > 0 || self.reclaim(&mut state) {
                break None;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break Some(Over::Timeout);
            }
            if std::mem::replace(&mut told, true) {
                state = wait(&self.room, state, deadline);
            } else {
                // Consumers are told to ring when they take something; then one more look, for what they
                // took before they could know.
                self.settle(&mut state);
                fence(Ordering::SeqCst);
            }
        };
        state.local.putters -= 1;
        if let Some(over) = over {
            self.settle(&mut state);
            return Err((payload, over));
        }
        state.local.has_put = true;
        if self.joinable {
            state.unfinished += 1;
        }
        state.store.push_back(Item { payload, attempts: 0 });
        self.settle(&mut state);
        Ok(())
    }

    /// An item, and the number of its lease.
    pub(crate) fn get(&self, deadline: Option<Instant>) -> Result<(Item, u64), Over> {
        let mut state = self.lock();
        state.local.has_got = true;
        state.local.getters += 1;
        let outcome = loop {
            let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
            self.drain_all(&mut state);
            state.local.hurry = late;
            self.settle(&mut state);
            state.local.hurry = false;
            if let Some(item) = state.local.ready.pop_front() {
                break Ok(item);
            }
            if self.is_over(&state, None) {
                break Err(Over::Closed);
            }
            if late {
                break Err(Over::Timeout);
            }
            let until = deadline.into_iter().chain(self.next_look(&state)).min();
            state = wait(&self.items, state, until);
        };
        state.local.getters -= 1;
        let outcome = outcome.map(|item| {
            if !self.joinable {
                return (item, 0);
            }
            let lease = state.local.next_lease;
            state.local.next_lease += 1;
            let kept = Item {
                payload: match &item.payload {
                    Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
                    // What exists once was refused when it was put.
                    Payload::Parcel(packet) => packet.try_clone().map_or_else(|| Payload::Bytes(Vec::new()), Payload::Parcel),
                },
                attempts: item.attempts,
            };
            state.local.leases.insert(lease, kept);
            (item, lease)
        });
        self.settle(&mut state);
        outcome
    }

    /// A local lease ends: done, or given back.
    pub(crate) fn end_lease(&self, lease: u64, done: bool) {
        let mut state = self.lock();
        if let Some(item) = state.local.leases.remove(&lease) {
            if done {
                state.unfinished -= 1;
            } else {
                state.give_back(item);
            }
            self.settle(&mut state);
        }
    }

    /// From now on `task_done` of the queue is for this lease too.
    pub(crate) fn detach_lease(&self, lease: u64) {
        self.lock().local.detached.push_back(lease);
    }

    /// The oldest detached lease.
    pub(crate) fn detached(&self) -> Option<u64> {
        self.lock().local.detached.pop_front()
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        self.drain_all(&mut state);
        state.closed = true;
        self.settle(&mut state);
    }

    pub(crate) fn is_closed(&self) -> bool {
        let mut state = self.lock();
        self.drain_all(&mut state);
        state.closed
    }

    pub(crate) fn len(&self) -> usize {
        let mut state = self.lock();
        self.drain_all(&mut state);
        state.len()
    }

    /// Waits until all items that were put are done.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> Result<(), Over> {
        let mut state = self.lock();
        state.local.joiners += 1;
        let outcome = loop {
            self.drain_all(&mut state);
            if state.unfinished == 0 {
                break Ok(());
            }
            if !self.has_finisher(&state) {
                break Err(Over::Abandoned(state.unfinished));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break Err(Over::Timeout);
            }
            self.settle(&mut state);
            state = wait(&self.done, state, deadline);
        };
        state.local.joiners -= 1;
        self.settle(&mut state);
        outcome
    }

    /// Whether anybody besides a thread that joins here may still finish items: once all other processes
    /// that held the queue are gone, only a local thread that has taken items before.
    fn has_finisher(&self, state: &State) -> bool {
        !state.shared || state.tickets > 0 || !state.remotes.is_empty() || state.local.has_got
    }

    fn free(&self, state: &State) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        let granted: usize = state.remotes.values().map(|remote| remote.credits).sum();
        capacity.saturating_sub(state.len() + granted)
    }

    /// Takes back room that was granted and is not wanted; whether there is room now.
    fn reclaim(&self, state: &mut State) -> bool {
        for remote in state.remotes.values_mut() {
            if remote.credits > 0 && remote.word(Word::Putters) == 0 {
                let back = layout::word(&remote.region, Word::Credit).swap(0, Ordering::SeqCst);
                remote.credits = remote.credits.saturating_sub(usize::try_from(back).unwrap_or(usize::MAX));
            }
        }
        self.free(state) > 0
    }

    /// Brings what clients have put and said into the state, so that this thread sees all of it.
    fn drain_all(&self, state: &mut State) {
        let keys: Vec<u64> = state.remotes.keys().copied().collect();
        for key in keys {
            // A corrupt client is ended by the service thread, which finds the same.
            while let Ok(true) = self.drain(state, key) {}
        }
    }

    /// Does what one client's outbox says; whether there was anything.
    fn drain(&self, state: &mut State, key: u64) -> Result<bool, Corrupt> {
        let Some(mut remote) = state.remotes.remove(&key) else { return Ok(false) };
        let outcome = self.drain_remote(state, &mut remote);
        state.remotes.insert(key, remote);
        outcome
    }

    fn drain_remote(&self, state: &mut State, remote: &mut Remote) -> Result<bool, Corrupt> {
        let mut busy = remote.look(self.joinable)?;
        let mut payload = Vec::new();
        for _ in 0..DRAIN_MAX {
            // A parcel was sent before its entry was written: if it is not here yet, it is about to be read.
            let here = !remote.parcels.is_empty();
            let popped = remote.outbox.pop_if(&mut payload, |tag, _| here || Tag::from(tag) != Some(Tag::Parcel))?;
            let Some(tag) = popped else { break };
            busy = true;
            self.entry(state, remote, Tag::from(tag).ok_or(Corrupt)?, std::mem::take(&mut payload))?;
        }
        if busy && remote.word(Word::Putters) > 0 {
            // It may wait for room in the ring itself.
            remote.changed = true;
        }
        Ok(busy)
    }

    fn entry(&self, state: &mut State, remote: &mut Remote, tag: Tag, payload: Vec<u8>) -> Result<(), Corrupt> {
        let number = |payload: &[u8]| payload.try_into().map(u64::from_le_bytes).map_err(|_| Corrupt);
        match tag {
            Tag::Put | Tag::Parcel => {
                let payload = match tag {
                    Tag::Parcel => Payload::Parcel(remote.parcels.pop_front().ok_or(Corrupt)?),
                    _ => Payload::Bytes(payload),
                };
                remote.has_put = true;
                remote.credits = remote.credits.saturating_sub(1);
                if self.joinable {
                    state.unfinished += 1;
                }
                state.store.push_back(Item { payload, attempts: 0 });
            }
            Tag::Done | Tag::Back => {
                // The entry behind the last one that was taken may have come while this one was on its way.
                remote.look(self.joinable)?;
                let item = remote.leases.remove(&number(&payload)?).ok_or(Corrupt)?;
                if tag == Tag::Done {
                    state.unfinished -= 1;
                } else {
                    state.give_back(item);
                }
            }
            Tag::Close => state.closed = true,
            Tag::Ask => remote.ask = remote.ask.max(number(&payload)?),
            Tag::Join => remote.join = remote.join.max(number(&payload)?),
        }
        Ok(())
    }

    /// Whether `asker` (`None` is the local side) gets no item any more. Looked at when the store is empty.
    fn is_over(&self, state: &State, asker: Option<u64>) -> bool {
        if !state.store.is_empty() || (asker.is_none() && !state.local.ready.is_empty()) {
            return false;
        }
        // Items that others have and that may come back. One that waits here for more does not count: it
        // would never give them back by itself, and two of those would wait for each other.
        let others_hold = state.remotes.iter().any(|(&key, remote)| {
            Some(key) != asker && (!remote.sent.is_empty() || !remote.leases.is_empty()) && remote.word(Word::Getters) == 0
        });
        let local_holds = asker.is_some() && !state.local.leases.is_empty() && state.local.getters == 0;
        if others_hold || local_holds {
            return false;
        }
        if state.closed {
            return true;
        }
        // Nobody is left who could put: another process held a handle once, none is under way, and whoever
        // still holds one has never put, and waits for an item itself.
        let local_idle = self.handles.load(Ordering::SeqCst) == 0 || (state.local.getters > 0 && !state.local.has_put);
        let idle = |remote: &Remote| remote.word(Word::Getters) > 0 && !remote.has_put;
        state.shared && state.tickets == 0 && local_idle && state.remotes.values().all(idle)
    }

    /// Gives items and room to those who wait, and tells everybody what changed for them.
    fn settle(&self, state: &mut State) {
        self.settle_items(state);
        self.settle_room(state);
        if state.local.getters > 0 && (!state.local.ready.is_empty() || self.is_over(state, None)) {
            self.items.notify_all();
        }
        if state.local.putters > 0 && (state.closed || self.free(state) > 0) {
            self.room.notify_all();
        }
        if state.local.joiners > 0 && (state.unfinished == 0 || !self.has_finisher(state)) {
            self.done.notify_all();
        }
        let waiting_for_room =
            self.capacity.is_some() && (state.local.putters > 0 || state.remotes.values().any(Remote::wants_room));
        let keys: Vec<u64> = state.remotes.keys().copied().collect();
        let (length, unfinished, closed) = (state.len(), state.unfinished, state.closed);
        for key in keys {
            let over = state.remotes.get(&key).is_some_and(|remote| remote.word(Word::Getters) > 0) && self.is_over(state, Some(key));
            let Some(remote) = state.remotes.get_mut(&key) else { continue };
            let flags = Flag::Closed.bit(closed) | Flag::Over.bit(over) | Flag::TellRoom.bit(waiting_for_room);
            remote.set(Word::Flags, flags);
            if remote.ask > remote.word(Word::Answered) {
                layout::word(&remote.region, Word::Length).store(length as u64, Ordering::SeqCst);
                let ask = remote.ask;
                remote.set(Word::Answered, ask);
            }
            if unfinished == 0 {
                let join = remote.join;
                remote.set(Word::Joined, join);
            }
            if std::mem::take(&mut remote.changed) {
                remote.peer.ring();
            }
        }
    }

    fn settle_items(&self, state: &mut State) {
        // A getter that gave up leaves its item to the others.
        while state.local.ready.len() > state.local.getters {
            let Some(item) = state.local.ready.pop_back() else { break };
            state.store.push_front(item);
        }
        loop {
            self.hand_out(state);
            if !state.store.is_empty() || !self.steal(state) {
                return;
            }
        }
    }

    /// Whether anybody waits for an item that is not on its way to him.
    fn is_wanted(state: &State) -> bool {
        state.local.getters > state.local.ready.len() || state.remotes.values().any(|remote| remote.wants_items() > 0)
    }

    /// When to look again for items that a client keeps without taking them; `None` if nobody wants them.
    fn next_look(&self, state: &State) -> Option<Instant> {
        if !state.store.is_empty() || !Core::is_wanted(state) {
            return None;
        }
        state
            .remotes
            .values()
            .filter(|remote| remote.surplus() > 0)
            .map(|remote| remote.moved + STALLED)
            .min()
    }

    /// Hands the stored items out, one after the other in turn.
    fn hand_out(&self, state: &mut State) {
        let mut misses = 0;
        // Everybody had a turn, and one whose turn it was may have gone.
        while !state.store.is_empty() && misses < state.remotes.len() + 2 {
            let turn = state.turn;
            if turn == 0 {
                if state.local.getters > state.local.ready.len() {
                    let item = state.store.pop_front().expect("looked at above");
                    state.local.ready.push_back(item);
                    misses = 0;
                } else {
                    misses += 1;
                }
                state.turn = state.remotes.keys().next().copied().unwrap_or(0);
                continue;
            }
            let next = state.remotes.range(turn + 1..).next().map_or(0, |(&key, _)| key);
            state.turn = next;
            let local_waits = state.local.getters > state.local.ready.len();
            let others_wait = local_waits || state.remotes.iter().any(|(&key, remote)| key != turn && remote.wants_items() > 0);
            let Some(remote) = state.remotes.get_mut(&turn) else {
                misses += 1;
                continue;
            };
            let wanted = remote.wants_items();
            if wanted == 0 {
                misses += 1;
                continue;
            }
            // Ahead only while nobody else waits for the same items.
            let count = if others_wait { 1 } else { wanted.max(remote.pace()) };
            let mut pushed = 0;
            while pushed < count {
                let Some(item) = state.store.pop_front() else { break };
                if let Err(item) = remote.push(item, self.joinable) {
                    state.store.push_front(item);
                    break;
                }
                pushed += 1;
            }
            misses = if pushed > 0 { 0 } else { misses + 1 };
        }
    }

    /// Takes items that lie in the inbox of a busy client, for one that waits; whether it found any.
    fn steal(&self, state: &mut State) -> bool {
        if !Core::is_wanted(state) {
            return false;
        }
        // Somebody who does not want to wait gets what there is.
        let hurry = state.local.hurry || state.remotes.values().any(|remote| remote.ask > remote.word(Word::Answered));
        let now = Instant::now();
        let busy = |remote: &&mut Remote| hurry || now.saturating_duration_since(remote.moved) >= STALLED;
        let victims = state.remotes.values_mut().filter(|remote| remote.surplus() > 0);
        let Some(victim) = victims.filter(busy).max_by_key(|remote| remote.surplus()) else { return false };
        // Fresh, not as it was at the last look: it may have taken them by now.
        if victim.look(self.joinable).is_err() || victim.surplus() == 0 {
            return false;
        }
        let keep = victim.sent.len() - victim.surplus().div_ceil(2);
        let Ok(items) = victim.recall(keep, self.joinable) else { return false };
        let found = !items.is_empty();
        for item in items.into_iter().rev() {
            state.store.push_front(item);
        }
        found
    }

    fn settle_room(&self, state: &mut State) {
        if self.capacity.is_none() {
            return;
        }
        let mut free = self.free(state);
        if free == 0 && state.remotes.values().any(Remote::wants_room) && self.reclaim(state) {
            free = self.free(state);
        }
        // One for each in turn, so that a producer of many does not take all.
        let mut granted = true;
        while granted && free > 0 {
            granted = false;
            for remote in state.remotes.values_mut() {
                if free > 0 && remote.wants_room() {
                    layout::word(&remote.region, Word::Credit).fetch_add(1, Ordering::SeqCst);
                    remote.credits += 1;
                    remote.changed = true;
                    free -= 1;
                    granted = true;
                }
            }
        }
    }

    /// A client's session or handle ended: what it held goes to the others.
    fn end(&self, key: u64) {
        let mut state = self.lock();
        while let Ok(true) = self.drain(&mut state, key) {}
        let Some(mut remote) = state.remotes.remove(&key) else { return };
        // Untaken first to the front, then in front of those the ones that were taken earlier.
        let untaken = remote.recall(0, self.joinable).unwrap_or_else(|Corrupt| {
            std::mem::take(&mut remote.sent).into_iter().map(|sent| sent.item).collect()
        });
        for item in untaken.into_iter().rev() {
            state.store.push_front(item);
        }
        for (_, item) in std::mem::take(&mut remote.leases).into_iter().rev() {
            state.give_back(item);
        }
        self.settle(&mut state);
    }
}

impl State {
    /// Items that were put and not taken.
    fn len(&self) -> usize {
        self.store.len() + self.local.ready.len() + self.remotes.values().map(|remote| remote.sent.len()).sum::<usize>()
    }

    /// An item that was taken and not finished is the next one again.
    fn give_back(&mut self, mut item: Item) {
        item.attempts += 1;
        self.store.push_front(item);
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>, deadline: Option<Instant>) -> MutexGuard<'a, State> {
    match deadline {
        None => condition.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            condition.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

impl Resource for Core {
    fn tickets(&self, change: isize) {
        let mut state = self.lock();
        state.shared = true;
        state.tickets = state.tickets.saturating_add_signed(change);
        self.settle(&mut state);
    }

    fn attach(self: Arc<Self>, peer: Arc<Peer>, number: u32, region: Arc<Region>) -> Box<dyn Attachment> {
        let mut state = self.lock();
        state.next_remote += 1;
        let key = state.next_remote;
        layout::word(&region, Word::Capacity).store(self.capacity.map_or(0, |capacity| capacity as u64), Ordering::SeqCst);
        let accepted = layout::word(&region, Word::Fingerprint).load(Ordering::SeqCst) == self.fingerprint;
        let mut remote = Remote {
            peer,
            number,
            outbox: layout::outbox_reader(&region),
            inbox: layout::inbox_writer(&region),
            region,
            sent: VecDeque::new(),
            leases: BTreeMap::new(),
            next_lease: 0,
            parcels: VecDeque::new(),
            credits: 0,
            ahead: 1,
            measured: Instant::now(),
            taken: 0,
            moved: Instant::now(),
            ask: 0,
            join: 0,
            has_put: false,
            has_got: false,
            entry: Vec::new(),
            changed: false,
        };
        remote.set(Word::Status, if accepted { layout::ATTACHED } else { layout::OTHER_TYPE });
        state.shared = true;
        if accepted {
            state.remotes.insert(key, remote);
            self.settle(&mut state);
        } else {
            remote.peer.ring();
        }
        drop(state);
        Box::new(Client { core: self, key })
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

/// The service thread's hold on one client of the queue.
struct Client {
    core: Arc<Core>,
    key: u64,
}

impl Attachment for Client {
    fn service(&mut self) -> Result<Serviced, Corrupt> {
        let core = &*self.core;
        let mut state = core.lock();
        let busy = core.drain(&mut state, self.key)?;
        let Some(remote) = state.remotes.get(&self.key) else { return Ok(Serviced::Idle) };
        let asked = remote.ask > remote.word(Word::Answered) || remote.join > remote.word(Word::Joined);
        if asked {
            // What others put before this client asked must be in the answer.
            core.drain_all(&mut state);
        }
        let waits = state
            .remotes
            .get(&self.key)
            .is_some_and(|remote| remote.wants_items() > 0 || remote.wants_room());
        if busy || asked || waits {
            core.settle(&mut state);
        }
        Ok(match core.next_look(&state) {
            _ if busy => Serviced::Busy,
            Some(at) => Serviced::Again(at),
            None => Serviced::Idle,
        })
    }

    fn parcel(&mut self, packet: Packet) {
        if let Some(remote) = self.core.lock().remotes.get_mut(&self.key) {
            remote.parcels.push_back(packet);
        }
    }

    fn resource(&self) -> Arc<dyn Resource> {
        self.core.clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.core.end(self.key);
    }
}
