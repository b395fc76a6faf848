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
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use serde::de::DeserializeOwned;

use crate::error::DecodeError;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{self, Envelope};
use crate::queue::builder::{Limits, QueueKind};
use crate::queue::dead_letter::{DeadCause, DeadLetters};
use crate::queue::layout::Word;
use crate::queue::owner::client::Remote;
use crate::queue::owner::run_queue::Items;
use crate::queue::owner::wakers::{Locked, Tasks};

/// An item as it lies in the queue.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) payload: Payload,
    /// How many consumers have had it before, without finishing it.
    pub(crate) attempts: u32,
}

#[derive(Debug)]
pub(crate) enum Payload {
    Bytes(SmallBytes),
    Parcel(Box<Envelope>),
}

impl Payload {
    /// A second one, unless memory or descriptors are short, or it holds what exists only once.
    pub(crate) fn try_clone(&self) -> Option<Payload> {
        match self {
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes.clone())),
            Payload::Parcel(packet) => packet
                .try_clone()
                .map(|packet| Payload::Parcel(Box::new(packet))),
        }
    }

    /// One to be decoded; what stays here is spent if it held what exists only once. `None` if memory or descriptors are short.
    pub(crate) fn deliver(&mut self) -> Option<Payload> {
        let delivered = match self {
            Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
            Payload::Parcel(packet) => Payload::Parcel(Box::new(packet.duplicate()?)),
        };
        self.mark_moved_out();
        Some(delivered)
    }

    pub(crate) fn mark_moved_out(&mut self) {
        if let Payload::Parcel(packet) = self {
            packet.mark_moved_out();
        }
    }

    /// Whether it was delivered, and cannot be again.
    pub(crate) fn is_moved_out(&self) -> bool {
        matches!(self, Payload::Parcel(packet) if packet.is_moved_out())
    }

    /// Decodes it; the bytes stay, handles in it are spent.
    pub(crate) fn decode<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        match self {
            Payload::Bytes(bytes) => wire::decode(bytes.as_slice(), Vec::new()),
            Payload::Parcel(packet) => packet.decode_keeping_bytes(),
        }
    }
}

/// Which ends of a wait there are besides what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Timeout,
    Closed,
    /// Nobody is left who could put, or take; so many items are left.
    Abandoned(usize),
    /// The system has no memory or no descriptor for the item; it stays in the queue.
    NoMemory,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) kind: QueueKind,
    pub(crate) capacity: Option<usize>,
    pub(crate) joinable: bool,
    pub(crate) fingerprint: u64,
    /// The type of the items.
    pub(crate) item: &'static str,
    /// Under which the hub knows it; set once, right after it is made.
    pub(crate) number: AtomicU64,
    pub(in crate::queue) handles: AtomicUsize,
    state: Mutex<State>,
    /// Local threads that wait for an item, for room, or for the last item to be done.
    pub(in crate::queue) items: Condvar,
    pub(in crate::queue) room: Condvar,
    pub(in crate::queue) done: Condvar,
}

#[derive(Debug)]
pub(in crate::queue) struct State {
    pub(in crate::queue) closed: bool,
    /// What is in it, or still comes, is dropped.
    pub(in crate::queue) discards: bool,
    pub(in crate::queue) max_deliveries: u32,
    pub(in crate::queue) dead: DeadLetters,
    /// The owner's process is at its end: it waits for its children, and uses the queue no more.
    pub(in crate::queue) exiting: bool,
    pub(in crate::queue) store: Items,
    /// Items put and not done; counts in a joinable queue only.
    pub(in crate::queue) unfinished: usize,
    /// Handles under way to another process.
    pub(in crate::queue) tickets: usize,
    /// Whether any other process ever held a handle.
    pub(in crate::queue) shared: bool,
    /// Whether a worker on a thread of this process got a handle: then one that waits here says nothing of the others.
    pub(in crate::queue) inline: bool,
    pub(in crate::queue) local: Local,
    pub(in crate::queue) remotes: BTreeMap<u64, Remote>,
    pub(in crate::queue) next_remote: u64,
    /// Who is served next: 0 is the local side, the others follow.
    pub(in crate::queue) turn: u64,
    /// When the service thread looks again by itself.
    pub(in crate::queue) look: Option<Instant>,
    /// Since when room is kept back from those who wait for it, until it is worth waking them.
    pub(in crate::queue) withheld: Option<Instant>,
}

/// The owner's own threads.
#[derive(Debug, Default)]
pub(in crate::queue) struct Local {
    pub(in crate::queue) getters: usize,
    pub(in crate::queue) putters: usize,
    pub(in crate::queue) joiners: usize,
    /// A getter is at its deadline.
    pub(in crate::queue) hurry: bool,
    /// Futures that wait for an item. None is kept for one of them: it may not be polled soon.
    pub(in crate::queue) futures: usize,
    /// Items for getters that were told.
    pub(in crate::queue) ready: VecDeque<Item>,
    pub(in crate::queue) leases: HashMap<u64, Item>,
    /// Leases of items that were taken out of their `Delivery`, oldest first.
    pub(in crate::queue) detached: VecDeque<u64>,
    pub(in crate::queue) next_lease: u64,
    pub(in crate::queue) has_put: bool,
    pub(in crate::queue) has_got: bool,
    pub(in crate::queue) tasks: Tasks,
}

impl Local {
    /// Whether anybody waits for an item that is not kept for him.
    pub(in crate::queue) fn wants_items(&self) -> bool {
        self.getters > self.ready.len() || self.tasks.items.is_awaited()
    }

    pub(in crate::queue) fn wants_room(&self) -> bool {
        self.putters > 0 || self.tasks.room.is_awaited()
    }
}

impl Core {
    pub(crate) fn new(limits: Limits, joinable: bool, item: &'static str) -> Core {
        Core {
            kind: limits.kind,
            capacity: limits.capacity,
            joinable,
            fingerprint: wire::fingerprint(item),
            item,
            number: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
            state: Mutex::new(State::new(limits)),
            items: Condvar::new(),
            room: Condvar::new(),
            done: Condvar::new(),
        }
    }

    pub(in crate::queue) fn lock(&self) -> Locked<'_> {
        // No user code runs under this lock.
        Locked::new(&self.state)
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

    pub(crate) fn put(
        &self,
        payload: Payload,
        deadline: Option<Instant>,
    ) -> Result<(), (Payload, Over)> {
        let mut state = self.lock();
        state.local.putters += 1;
        let mut told = false;
        let over = loop {
            if let Some(outcome) = self.look_for_room(&mut state) {
                break outcome.err();
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break Some(Over::Timeout);
            }
            if std::mem::replace(&mut told, true) {
                let until = deadline.into_iter().chain(self.next_look(&state)).min();
                state = state.wait(&self.room, until);
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
        self.put_in(&mut state, payload);
        Ok(())
    }

    /// Whether there is room, or will be none any more; `None` if it has to be waited for.
    pub(in crate::queue) fn look_for_room(&self, state: &mut State) -> Option<Result<(), Over>> {
        self.drain_all(state);
        if state.closed {
            return Some(Err(Over::Closed));
        }
        if self.free(state) > 0 || self.reclaim(state) {
            return Some(Ok(()));
        }
        (!self.has_taker(state, None)).then(|| Err(Over::Abandoned(state.len())))
    }

    /// Stores an item that there is room for.
    pub(in crate::queue) fn put_in(&self, state: &mut State, payload: Payload) {
        state.local.has_put = true;
        if self.joinable {
            state.unfinished += 1;
        }
        state.store.push_back(Item {
            payload,
            attempts: 0,
        });
        self.settle(state);
        self.watch(state);
    }

    /// An item, and the number of its lease.
    pub(crate) fn get(&self, deadline: Option<Instant>) -> Result<(Item, u64), Over> {
        let mut state = self.lock();
        state.local.has_got = true;
        state.local.getters += 1;
        let outcome = loop {
            let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if let Some(outcome) = self.look_for_item(&mut state, late) {
                break outcome;
            }
            if late {
                break Err(Over::Timeout);
            }
            let until = deadline.into_iter().chain(self.next_look(&state)).min();
            state = state.wait(&self.items, until);
        };
        state.local.getters -= 1;
        self.hand_over(&mut state, outcome)
    }

    /// What a getter is given that is not counted any more.
    pub(in crate::queue) fn hand_over(
        &self,
        state: &mut State,
        outcome: Result<Item, Over>,
    ) -> Result<(Item, u64), Over> {
        let outcome = outcome.and_then(|item| {
            if self.joinable {
                state.lease(item)
            } else {
                Ok((item, 0))
            }
        });
        self.settle(state);
        self.watch(state);
        outcome
    }

    /// An item for a getter that is counted, or the end; `None` if it has to be waited for.
    pub(in crate::queue) fn look_for_item(
        &self,
        state: &mut State,
        hurry: bool,
    ) -> Option<Result<Item, Over>> {
        self.drain_all(state);
        state.local.hurry = hurry;
        self.settle(state);
        state.local.hurry = false;
        let item = state.local.ready.pop_front().map(Ok);
        if item.is_some() {
            state.local.tasks.taken();
        }
        item.or_else(|| self.over(state, None).map(Err))
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
            self.watch(&mut state);
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

    /// Closes it, and drops what nobody has got; how many that were.
    pub(crate) fn close_and_discard(&self) -> usize {
        let mut state = self.lock();
        self.drain_all(&mut state);
        state.closed = true;
        state.discards = true;
        let dropped = self.discard_all(&mut state);
        self.settle(&mut state);
        dropped
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
            if let Some(outcome) = self.look_for_end(&mut state) {
                break outcome;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break Err(Over::Timeout);
            }
            self.settle(&mut state);
            state = state.wait(&self.done, deadline);
        };
        state.local.joiners -= 1;
        self.settle(&mut state);
        outcome
    }

    /// Whether all items are done, or never will be; `None` if it has to be waited for.
    pub(in crate::queue) fn look_for_end(&self, state: &mut State) -> Option<Result<(), Over>> {
        self.drain_all(state);
        if state.unfinished == 0 {
            return Some(Ok(()));
        }
        (!self.has_taker(state, None)).then_some(Err(Over::Abandoned(state.unfinished)))
    }

    /// Whether anybody may still take items, while `asker` (`None` is the local side) waits for that. As long
    /// as no other process ever held the queue, some thread of this one may; once all of them are gone, only
    /// one that has taken items before.
    pub(in crate::queue) fn has_taker(&self, state: &State, asker: Option<u64>) -> bool {
        let own = match asker.and_then(|key| state.remotes.get(&key)) {
            None => state.local.has_got,
            Some(remote) => {
                remote.has_got
                    || remote.waiting() > 0
                    || (self.local_handles(state) > 0
                        && (state.local.has_got || state.local.putters == 0))
            }
        };
        if !state.shared || state.inline || state.tickets > 0 || own {
            return true;
        }
        // One that only puts, and waits for room itself, takes nothing. That it says so does not mean that it
        // waits: it says so for a moment at each put that needs room to be granted.
        let full = self.free(state) == 0;
        let mut others = state.remotes.iter().filter(|&(&key, _)| Some(key) != asker);
        others.any(|(_, remote)| remote.has_got || !full || remote.word(Word::Putters) == 0)
    }

    /// Handles in this process; none count while it ends.
    pub(in crate::queue) fn local_handles(&self, state: &State) -> usize {
        if state.exiting {
            0
        } else {
            self.handles.load(Ordering::SeqCst)
        }
    }
}

impl State {
    fn new(limits: Limits) -> State {
        State {
            closed: false,
            discards: false,
            max_deliveries: limits.max_deliveries,
            dead: DeadLetters::new(limits.max_dead_letters),
            exiting: false,
            store: Items::default(),
            withheld: None,
            unfinished: 0,
            tickets: 0,
            shared: false,
            inline: false,
            local: Local::default(),
            remotes: BTreeMap::new(),
            next_remote: 0,
            turn: 0,
            look: None,
        }
    }

    /// Items that were put and not taken.
    pub(in crate::queue) fn len(&self) -> usize {
        self.store.len()
            + self.local.ready.len()
            + self
                .remotes
                .values()
                .map(|remote| remote.sent.len())
                .sum::<usize>()
    }

    /// Leases an item to a local thread; without memory for a second one it stays the next item.
    pub(in crate::queue) fn lease(&mut self, mut item: Item) -> Result<(Item, u64), Over> {
        let Some(payload) = item.payload.deliver() else {
            self.store.push_front(item);
            return Err(Over::NoMemory);
        };
        let lease = self.local.next_lease;
        self.local.next_lease += 1;
        let attempts = item.attempts;
        self.local.leases.insert(lease, item);
        Ok((Item { payload, attempts }, lease))
    }

    /// An item that was taken and not finished is the next one again, if it was not delivered too often.
    pub(in crate::queue) fn give_back(&mut self, mut item: Item) {
        if item.payload.is_moved_out() {
            self.unfinished -= 1;
            self.bury(item, DeadCause::MovedOut);
        } else if item.attempts + 1 >= self.max_deliveries {
            self.unfinished -= 1;
            self.bury(item, DeadCause::Deliveries);
        } else {
            item.attempts += 1;
            self.store.push_front(item);
        }
    }
}
