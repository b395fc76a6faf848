//! The state of a queue: its items, its waiting consumers and producers, and its leases.
//!
//! One lock protects all of it. The owner's own threads and tasks, and the hub's service thread on
//! behalf of the clients, work on it directly. Each of them follows the same steps:
//!
//! 1. *Drain*: carry out what clients have written to their outboxes, so that this thread sees
//!    every put that returned before its own call began.
//! 2. *Change* the state.
//! 3. *Schedule*: move items and room to the threads and clients that wait, and notify them.
//! 4. *Arm the timer*, if something has to be taken away from a client that does not use it.
//!
//! Clients run concurrently with all of that: they put into their outbox, take from their inbox,
//! use up credit, and announce waiting threads in words of their region. Those words are levels,
//! not events: the scheduler pushes items until the inbox has as many as the client waits for. An
//! item that was pushed and not taken can be recalled, so a client that stops waiting loses nothing
//! and holds up no other.

mod ends;
mod room;
mod schedule;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::error::{DeadLetterError, DecodeError};
use crate::ipc::hub;
use crate::ipc::reactor::WakerSlot;
use crate::ipc::ring::Corrupt;
use crate::ipc::wire::Envelope;
use crate::queue::item::{Item, NewItem, Payload, Taken};
use crate::queue::options::QueueOptions;
use crate::queue::outcome::QueueFailure;
use crate::queue::owner::client::QueueClient;
use crate::queue::owner::dead_letters::Letter;
use crate::queue::owner::ledger::Ledger;
use crate::queue::owner::wakers::{Bells, Condvars, Woken};

#[derive(Debug)]
pub(in crate::queue) struct QueueState {
    capacity: Option<usize>,
    /// The name of the item type.
    item: &'static str,
    ledger: Ledger,
    own: OwnUsers,
    clients: BTreeMap<u64, QueueClient>,
    /// What clients took and did not finish whose sessions are over, and whose processes may still
    /// run.
    retired: BTreeMap<u64, BTreeMap<u64, Item>>,
    last_client: u64,
    /// The client that the next item is offered to; 0 is the owner's own process.
    turn: u64,
    /// Handles on their way to another process.
    in_flight: usize,
    /// Another process has held a handle.
    shared: bool,
    /// A worker on a thread of this process has a handle. Then a thread that waits here proves
    /// nothing about the others.
    inline: bool,
    /// The owner process is at its end: it waits for its children, and does not use the queue.
    exiting: bool,
    /// When the service thread checks the queue again by itself.
    timer: Option<Instant>,
    /// Since when room is kept back until there is enough of it for a wake-up.
    room_delayed: Option<Instant>,
}

/// The threads and tasks in the owner process.
#[derive(Debug, Default)]
struct OwnUsers {
    /// Handles in this process. They come and go without the lock.
    handles: Arc<AtomicUsize>,
    /// Threads that wait for an item, for room, and for the last item to be finished.
    getters: usize,
    putters: usize,
    joiners: usize,
    /// Futures that wait for an item.
    futures: usize,
    /// A getter does not wait: it gets what busy clients can spare.
    urgent: bool,
    /// Items that are assigned to waiting threads.
    ready: VecDeque<Item>,
    leases: HashMap<u64, Item>,
    last_lease: u64,
    /// Leases of items that were taken out of their `Delivery`, oldest first.
    detached: VecDeque<u64>,
    has_put: bool,
    has_got: bool,
    bells: Bells,
}

impl OwnUsers {
    /// Returns whether a thread or task waits for an item and none is assigned to it.
    fn wants_items(&self) -> bool {
        self.getters > self.ready.len() || self.bells.items.is_awaited()
    }

    fn wants_room(&self) -> bool {
        self.putters > 0 || self.bells.room.is_awaited()
    }
}

/// Something that threads and futures in the owner process wait for.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) enum Wait {
    Item,
    /// An item, for a future: it counts while it waits, but no item is assigned to it.
    #[cfg(feature = "async")]
    ItemAsync,
    Room,
    Done,
}

impl QueueState {
    pub(in crate::queue) fn new(
        options: QueueOptions,
        joinable: bool,
        item: &'static str,
        handles: Arc<AtomicUsize>,
    ) -> QueueState {
        QueueState {
            capacity: options.capacity,
            item,
            ledger: Ledger::new(options, joinable),
            own: OwnUsers { handles, ..OwnUsers::default() },
            clients: BTreeMap::new(),
            retired: BTreeMap::new(),
            last_client: 0,
            turn: 0,
            in_flight: 0,
            shared: false,
            inline: false,
            exiting: false,
            timer: None,
            room_delayed: None,
        }
    }

    pub(in crate::queue) fn is_closed(&self) -> bool {
        self.ledger.closed
    }

    /// The number of items that were put and not taken.
    pub(in crate::queue) fn len(&self) -> usize {
        let outstanding: usize = self.clients.values().map(QueueClient::outstanding).sum();
        self.ledger.store.len() + self.own.ready.len() + outstanding
    }

    pub(in crate::queue) fn unfinished(&self) -> usize {
        self.ledger.unfinished()
    }

    pub(in crate::queue) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The processes that hold a handle and have used it, the owner first.
    pub(in crate::queue) fn holders(&self) -> Vec<u32> {
        let own = (self.own_handles() > 0).then(std::process::id);
        let mut clients: Vec<u32> = self.clients.values().map(QueueClient::pid).collect();
        clients.sort_unstable();
        clients.dedup();
        own.into_iter().chain(clients).collect()
    }

    /// The handles in this process. None counts while the process ends.
    fn own_handles(&self) -> usize {
        if self.exiting { 0 } else { self.own.handles.load(Ordering::SeqCst) }
    }

    pub(in crate::queue) fn set_inline(&mut self) {
        self.inline = true;
    }

    pub(in crate::queue) fn set_exiting(&mut self) {
        self.exiting = true;
    }

    pub(in crate::queue) fn change_in_flight(&mut self, change: isize) {
        self.shared = true;
        self.in_flight = self.in_flight.saturating_add_signed(change);
    }
}

/// For the owner's own threads and tasks.
impl QueueState {
    /// A thread or future begins to wait.
    pub(in crate::queue) fn begin(&mut self, wait: Wait) {
        self.own.has_got |= !matches!(wait, Wait::Room | Wait::Done);
        *self.waiting(wait) += 1;
    }

    pub(in crate::queue) fn end(&mut self, wait: Wait) {
        *self.waiting(wait) -= 1;
    }

    fn waiting(&mut self, wait: Wait) -> &mut usize {
        match wait {
            Wait::Item => &mut self.own.getters,
            #[cfg(feature = "async")]
            Wait::ItemAsync => &mut self.own.futures,
            Wait::Room => &mut self.own.putters,
            Wait::Done => &mut self.own.joiners,
        }
    }

    /// An item for a getter that waits, or the end of the queue. `None` if the getter has to wait.
    pub(in crate::queue) fn check_item(
        &mut self,
        urgent: bool,
    ) -> Option<Result<Item, QueueFailure>> {
        self.drain_all();
        self.own.urgent = urgent;
        self.schedule();
        self.own.urgent = false;
        if let Some(item) = self.own.ready.pop_front() {
            self.own.bells.note_taken();
            return Some(Ok(item));
        }
        let census = self.take_census();
        self.end_of_items(&census, None).map(Err)
    }

    /// Hands the item to a getter that has ended its wait.
    pub(in crate::queue) fn deliver(&mut self, item: Item) -> Result<Taken, QueueFailure> {
        if self.ledger.is_joinable() { self.lease(item) } else { Ok(Taken { item, lease: 0 }) }
    }

    /// Takes an item that is left in the store, after the scheduler has served those that wait.
    pub(in crate::queue) fn take_stored(&mut self) -> Option<Result<Taken, QueueFailure>> {
        let item = self.ledger.store.pop_front()?;
        Some(self.deliver(item))
    }

    /// Leases an item to a thread of this process. If there is no memory for a copy, it stays the
    /// next item.
    fn lease(&mut self, mut item: Item) -> Result<Taken, QueueFailure> {
        let Some(payload) = item.payload.deliver() else {
            self.ledger.store.push_front(item);
            let message = "no memory or no descriptor is left";
            return Err(QueueFailure::io("map the item", message));
        };
        let attempts = item.attempts;
        self.own.last_lease += 1;
        let lease = self.own.last_lease;
        self.own.leases.insert(lease, item);
        let item = Item { payload, attempts };
        Ok(Taken { item, lease })
    }

    /// Ends a lease: the item is finished, or goes to the next consumer.
    pub(in crate::queue) fn end_lease(&mut self, lease: u64, done: bool) {
        match self.own.leases.remove(&lease) {
            Some(_) if done => self.ledger.note_finished(1),
            Some(item) => self.ledger.give_back(item),
            None => {}
        }
    }

    pub(in crate::queue) fn detach_lease(&mut self, lease: u64) {
        self.own.detached.push_back(lease);
    }

    /// The oldest detached lease.
    pub(in crate::queue) fn next_detached(&mut self) -> Option<u64> {
        self.own.detached.pop_front()
    }

    /// A thread of this process could not decode what it took.
    pub(in crate::queue) fn bury_undecodable(&mut self, taken: Taken, error: DecodeError) {
        let item = if self.ledger.is_joinable() {
            // The lease has the item with what was moved out of the copy.
            self.own.leases.remove(&taken.lease)
        } else {
            Some(taken.item)
        };
        if let Some(item) = item {
            self.ledger.bury_undecodable(item, error);
        }
    }

    /// Returns whether an item can be put, or never will be. `None` if the putter has to wait.
    pub(in crate::queue) fn check_room(&mut self) -> Option<Result<(), QueueFailure>> {
        self.drain_all();
        if self.ledger.closed {
            return Some(Err(QueueFailure::Closed));
        }
        if self.free() > 0 || self.revoke_room() {
            return Some(Ok(()));
        }
        let census = self.take_census();
        (!self.has_taker(&census, None)).then(|| Err(QueueFailure::Abandoned(self.len())))
    }

    /// Stores an item that there is room for.
    pub(in crate::queue) fn put(&mut self, item: NewItem<'_>) {
        self.own.has_put = true;
        match item {
            NewItem::Bytes(bytes) => {
                self.ledger.note_put(1);
                self.ledger.store.push_back_bytes(bytes);
            }
            NewItem::Parcel(envelope) => self.ledger.put(Payload::Parcel(envelope)),
        }
    }

    /// Returns whether all items are finished, or never will be. `None` if the joiner has to wait.
    pub(in crate::queue) fn check_done(&mut self) -> Option<Result<(), QueueFailure>> {
        self.drain_all();
        let unfinished = self.unfinished();
        if unfinished == 0 {
            return Some(Ok(()));
        }
        let census = self.take_census();
        (!self.has_taker(&census, None)).then_some(Err(QueueFailure::Abandoned(unfinished)))
    }

    /// Returns whether a task would get an item, or the end of the queue.
    pub(in crate::queue) fn is_ready_for_task(&mut self) -> bool {
        self.drain_all();
        self.schedule();
        !self.ledger.store.is_empty() || {
            let census = self.take_census();
            self.end_for_task(&census).is_some()
        }
    }

    pub(in crate::queue) fn close(&mut self) {
        self.ledger.closed = true;
    }

    /// Closes the queue and drops the items in it; returns how many those were.
    pub(in crate::queue) fn close_and_discard(&mut self) -> usize {
        self.ledger.closed = true;
        self.ledger.discards = true;
        self.discard_all()
    }

    /// Drops the items that no consumer has taken; returns how many those were.
    fn discard_all(&mut self) -> usize {
        let mut dropped = self.ledger.discard(&mut self.own.ready);
        for client in self.clients.values_mut() {
            if client.outstanding() > 0 {
                // The service thread finds the same corruption, and ends the session.
                let recalled = client.recall(0).map_or(0, |items| items.len());
                self.ledger.note_finished(recalled);
                dropped += recalled;
            }
        }
        if let Some(asker) = self.clients.values_mut().find(|client| client.discards) {
            asker.note_dropped(dropped);
        }
        dropped
    }

    pub(in crate::queue) fn dead_letters(&self) -> impl Iterator<Item = &(u64, Arc<Letter>)> {
        self.ledger.dead.iter()
    }

    pub(in crate::queue) fn redeliver(&mut self, number: u64) -> Result<(), DeadLetterError> {
        self.ledger.redeliver(number)
    }

    pub(in crate::queue) fn discard_letter(&mut self, number: u64) -> Result<(), DeadLetterError> {
        self.ledger.dead.remove(number).map(drop)
    }

    /// A selector or task begins to wait for an item.
    pub(in crate::queue) fn register_for_item(&mut self) -> io::Result<WakerSlot> {
        self.own.has_got = true;
        self.own.bells.items.register()
    }

    pub(in crate::queue) fn bells(&self) -> &Bells {
        &self.own.bells
    }

    /// Wakes the threads that are to be woken, and returns the tasks, to be woken without the lock.
    pub(in crate::queue) fn wake_threads(&mut self, threads: &Condvars) -> Woken {
        self.own.bells.wake_threads(threads)
    }
}

/// For clients.
impl QueueState {
    /// Adds a client; returns its key.
    pub(in crate::queue) fn add_client(&mut self, client: QueueClient) -> u64 {
        self.shared = true;
        self.last_client += 1;
        self.clients.insert(self.last_client, client);
        self.last_client
    }

    pub(in crate::queue) fn client(&mut self, key: u64) -> Option<&mut QueueClient> {
        self.clients.get_mut(&key)
    }

    pub(in crate::queue) fn add_parcel(&mut self, key: u64, parcel: Envelope) {
        if let Some(client) = self.client(key) {
            client.add_parcel(parcel);
        }
    }

    /// Carries out what one client's outbox holds; returns whether there was anything.
    pub(in crate::queue) fn drain(&mut self, key: u64) -> Result<bool, Corrupt> {
        match self.clients.get_mut(&key) {
            Some(client) => client.drain(&mut self.ledger, self.item),
            None => Ok(false),
        }
    }

    pub(in crate::queue) fn drain_fully(&mut self, key: u64) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.drain_fully(&mut self.ledger, self.item);
        }
    }

    /// Carries out what all outboxes hold, so that this thread sees every put that has returned.
    pub(in crate::queue) fn drain_all(&mut self) {
        self.clients.values_mut().for_each(QueueClient::cover_questions);
        for client in self.clients.values_mut() {
            client.drain_fully(&mut self.ledger, self.item);
        }
    }

    /// Removes a client whose session is over, and returns to the queue what it had not taken. What
    /// it took and did not finish remains its own until [`end_leases`](Self::end_leases), because
    /// its process may still work on it. Returns whether that is nothing.
    pub(in crate::queue) fn retire_client(&mut self, key: u64) -> bool {
        if let Some(client) = self.clients.remove(&key) {
            let (untaken, leases) = client.into_items();
            if !crate::failpoints::is_mutated("end.keep-untaken") {
                self.ledger.put_back(untaken.into_iter());
            }
            if !leases.is_empty() {
                self.retired.insert(key, leases);
            }
        }
        !self.retired.contains_key(&key)
    }

    /// Returns to the queue what a client that was removed took and did not finish: before the
    /// others, because it is older.
    pub(in crate::queue) fn end_leases(&mut self, key: u64) {
        let leases = self.retired.remove(&key).unwrap_or_default();
        if !crate::failpoints::is_mutated("end.keep-leases") {
            for item in leases.into_values().rev() {
                self.ledger.give_back(item);
            }
        }
    }

    /// Returns whether the service thread has to schedule for this client even if its outbox was
    /// empty.
    pub(in crate::queue) fn needs_schedule(&self, key: u64) -> bool {
        let client = self.clients.get(&key);
        let client = client.is_some_and(|client| client.wants_items() > 0 || client.wants_room());
        // Threads of the owner schedule by themselves.
        let bells = &self.own.bells;
        client || bells.items.is_awaited() || bells.room.is_awaited()
    }

    /// Makes the service thread check the queue when it is time; for the owner's own threads.
    pub(in crate::queue) fn arm_timer(&mut self) {
        if let Some(at) = self.next_check() {
            if self.timer.is_none_or(|timer| at < timer) {
                self.timer = Some(at);
                hub::reschedule();
            }
        }
    }

    /// When the service thread has to check the queue again; for that thread.
    pub(in crate::queue) fn reset_timer(&mut self) -> Option<Instant> {
        self.timer = self.next_check();
        self.timer
    }
}
