//! The state of a queue: its items, its waiting consumers and producers, and its leases.
//!
//! One lock protects all of it. The owner's own threads and tasks, and the hub's service thread on
//! behalf of the clients, work on it directly. Each of them follows the same steps:
//!
//! 1. *Drain*: carry out what clients have written to their outboxes, so that this thread sees
//!    every put that returned before its own call began.
//! 2. *Change* the state.
//! 3. *Schedule*: move items and room to the threads and clients that wait, and notify them.
//! 4. *Set the timer*, if something may have to be taken away from a client that does not use it.
//!
//! Clients run concurrently with all of that: they put into their outbox, take from their inbox,
//! use up credit, and announce waiting threads in words of their region. Those words are levels,
//! not events: the scheduler pushes items until the inbox has as many as the client waits for. An
//! item that was pushed and not taken can be recalled, so a client that stops waiting loses nothing
//! and holds up no other client.
//!
//! A client's region is read when it has rung, and is then polled until the client has written
//! nothing for a while (see [`serve`]). The results of reading are kept, and so are sums over all
//! clients (see [`clients`](super::clients)). Only two steps visit all clients. Before a question
//! is answered, and before an end is declared, `drain_all` reads the sleep flag of each client, and
//! the regions of those that have written. And what concerns every client, such as that the queue
//! is closed, is written to every client.

mod ends;
mod room;
mod schedule;
mod serve;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{DeadLetterError, DecodeError};
use crate::ipc::hub::Tick;
use crate::ipc::reactor::WakerSlot;
use crate::queue::item::{Item, NewItem, Payload, Taken};
use crate::queue::options::QueueOptions;
use crate::queue::outcome::{QueueFailure, QueueJoined};
use crate::queue::owner::client::QueueClient;
use crate::queue::owner::clients::{Clients, Key};
use crate::queue::owner::dead_letters::Letter;
use crate::queue::owner::ledger::Ledger;
use crate::queue::owner::wakers::{Bells, Condvars, Woken};
use crate::queue::role::{HandleCounts, OwnHandles, Role};
use crate::tally::Tally;

#[derive(Debug)]
pub(in crate::queue) struct QueueState {
    capacity: Option<usize>,
    /// The name of the item type.
    item: &'static str,
    ledger: Ledger,
    own: OwnUsers,
    clients: Clients,
    /// What was taken, and not finished, by clients whose sessions are over and whose processes may
    /// still run.
    retired: BTreeMap<Key, BTreeMap<u64, Item>>,
    /// Handles on their way to another process.
    in_flight: HandleCounts,
    /// True once another process has held a handle.
    shared: bool,
    /// True if a worker on a thread of this process has a handle that both puts and takes. Then a
    /// thread that waits here proves nothing about the other threads.
    inline: bool,
    /// True when the owner process is exiting: it waits for its children, and does not use the
    /// queue.
    exiting: bool,
    /// True if the hub serves the queue in each of its passes, or is about to begin.
    active: bool,
    /// The current period of the hub.
    tick: Tick,
    /// When the queue must be scheduled even if nothing changes.
    due: Option<Instant>,
    /// The earliest time at which the hub will serve the queue by itself.
    timer: Option<Instant>,
    /// Since when room has been kept back until there is enough of it for a wake-up.
    room_delayed: Option<Instant>,
    /// When all clients may be asked for room that they do not use. Before that, only a few are
    /// asked.
    revoked: Option<Instant>,
    /// Since when an item has waited that found no room in an inbox.
    stuck: Option<Instant>,
    /// True if all clients know that the queue is closed.
    close_published: bool,
    /// True if all clients know that the queue is severed.
    severed_published: bool,
    /// True if clients may have been notified that they wait in vain.
    in_vain: bool,
}

/// The threads and tasks in the owner process.
#[derive(Debug, Default)]
struct OwnUsers {
    /// Counts the handles in this process. They come and go without the lock.
    handles: Arc<OwnHandles>,
    /// How many threads wait for an item, for room, and for the last item to be finished.
    getters: usize,
    putters: usize,
    joiners: usize,
    /// How many futures wait for an item.
    futures: usize,
    /// True if a getter does not wait: it gets what busy clients can spare.
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
    /// True if the getters are on the list of those that wait for items.
    listed: bool,
    /// True if a client got room after the putters last used some.
    has_turn: bool,
}

impl OwnUsers {
    /// Returns whether a thread or task waits for an item and has none assigned.
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
    /// An item, for a future. It counts while it waits, but no item is assigned to it.
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
        handles: Arc<OwnHandles>,
    ) -> QueueState {
        QueueState {
            capacity: options.capacity,
            item,
            ledger: Ledger::new(options, joinable, item),
            own: OwnUsers { handles, ..OwnUsers::default() },
            clients: Clients::default(),
            retired: BTreeMap::new(),
            in_flight: HandleCounts::default(),
            shared: false,
            inline: false,
            exiting: false,
            active: false,
            tick: 0,
            due: None,
            timer: None,
            room_delayed: None,
            revoked: None,
            stuck: None,
            close_published: false,
            severed_published: false,
            in_vain: false,
        }
    }

    pub(in crate::queue) fn is_closed(&self) -> bool {
        self.ledger.closed
    }

    /// Returns the number of items that were put and not taken.
    pub(in crate::queue) fn len(&self) -> usize {
        self.ledger.store.len() + self.own.ready.len() + self.clients.sums.outstanding
    }

    pub(in crate::queue) fn unfinished(&self) -> usize {
        self.ledger.unfinished()
    }

    pub(in crate::queue) fn in_flight(&self) -> usize {
        self.in_flight.all()
    }

    /// Returns the processes that hold a handle and have used it, the owner first.
    pub(in crate::queue) fn holders(&self) -> Vec<u32> {
        let own = (self.own_handles().all() > 0).then(std::process::id);
        let mut clients: Vec<u32> = self.clients.iter().map(QueueClient::pid).collect();
        clients.sort_unstable();
        clients.dedup();
        own.into_iter().chain(clients).collect()
    }

    /// Counts the items that are taken.
    pub(in crate::queue) fn got(&self) -> &Tally {
        &self.ledger.got
    }

    #[cfg(test)]
    pub(in crate::queue) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Returns the counts of the handles in this process. While the process is exiting, none
    /// counts.
    fn own_handles(&self) -> HandleCounts {
        if self.exiting { HandleCounts::default() } else { self.own.handles.count() }
    }

    pub(in crate::queue) fn set_inline(&mut self) {
        self.inline = true;
    }

    pub(in crate::queue) fn set_exiting(&mut self) {
        self.exiting = true;
    }

    pub(in crate::queue) fn change_in_flight(&mut self, role: Role, change: isize) {
        self.shared = true;
        self.in_flight.change(role, change);
    }
}

/// Used by the owner's own threads and tasks.
impl QueueState {
    /// Called when a thread or future begins to wait.
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

    /// Returns an item for a getter that waits, or the end of the queue. Returns `None` if the
    /// getter has to wait.
    ///
    /// An `urgent` getter does not wait, so it must see every put that has returned.
    pub(in crate::queue) fn check_item(
        &mut self,
        urgent: bool,
    ) -> Option<Result<Item, QueueFailure>> {
        if self.ledger.store.is_empty() {
            if urgent {
                self.drain_all();
            } else {
                self.look_at_polled();
            }
        }
        loop {
            self.own.urgent = urgent;
            self.schedule();
            self.own.urgent = false;
            if let Some(item) = self.own.ready.pop_front() {
                self.own.bells.note_taken();
                return Some(Ok(item));
            }
            let end = self.end_of_items(None)?;
            // Everything that clients have done before this point counts.
            if !self.drain_all() {
                return Some(Err(end));
            }
        }
    }

    /// Hands the item to a getter that has ended its wait. If this process has too few addresses or
    /// descriptors for the item, it stays the next item, because decoding would use it up.
    pub(in crate::queue) fn deliver(&mut self, mut item: Item) -> Result<Taken, QueueFailure> {
        if self.ledger.is_joinable() {
            return self.lease(item);
        }
        match item.payload.map() {
            Ok(()) => {
                self.ledger.got.add(1);
                Ok(Taken { item, lease: 0 })
            }
            Err(error) => {
                self.ledger.store.push_front(item);
                Err(QueueFailure::io("map the item", error))
            }
        }
    }

    /// Takes an item that is left in the store after the scheduler has served those that wait.
    pub(in crate::queue) fn take_stored(&mut self) -> Option<Result<Taken, QueueFailure>> {
        let item = self.ledger.store.pop_front()?;
        Some(self.deliver(item))
    }

    /// Leases an item to a thread of this process.
    fn lease(&mut self, mut item: Item) -> Result<Taken, QueueFailure> {
        let payload = match item.payload.deliver() {
            Ok(payload) => payload,
            Err(error) => {
                self.ledger.store.push_front(item);
                return Err(QueueFailure::io("map the item", error));
            }
        };
        self.ledger.got.add(1);
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

    /// Returns the oldest detached lease.
    pub(in crate::queue) fn next_detached(&mut self) -> Option<u64> {
        self.own.detached.pop_front()
    }

    /// Called when a thread of this process could not decode what it took.
    pub(in crate::queue) fn bury_undecodable(&mut self, taken: Taken, error: DecodeError) {
        let item = if self.ledger.is_joinable() {
            // The item under the lease still has what was moved out of the copy.
            self.own.leases.remove(&taken.lease)
        } else {
            Some(taken.item)
        };
        if let Some(item) = item {
            self.ledger.bury_undecodable(item, error);
        }
    }

    /// Returns whether an item can be put, or never will be. Returns `None` if the putter has to
    /// wait.
    ///
    /// An `urgent` putter does not wait, so it must see everything that clients have taken.
    pub(in crate::queue) fn check_room(
        &mut self,
        urgent: bool,
    ) -> Option<Result<(), QueueFailure>> {
        if self.ledger.closed {
            return Some(Err(QueueFailure::Closed));
        }
        if self.is_severed() {
            return Some(Err(QueueFailure::Abandoned(self.len())));
        }
        if self.has_room(urgent) {
            return Some(Ok(()));
        }
        if urgent {
            self.drain_all();
        } else {
            self.look_at_polled();
        }
        loop {
            if self.has_room(urgent) {
                return Some(Ok(()));
            }
            if self.has_taker(None) {
                return None;
            }
            // Everything that clients have done before this point counts.
            if !self.drain_all() {
                return Some(Err(QueueFailure::Abandoned(self.len())));
            }
        }
    }

    /// Stores an item that there is room for.
    pub(in crate::queue) fn put(&mut self, item: NewItem<'_>) {
        self.own.has_put = true;
        self.own.has_turn = false;
        match item {
            NewItem::Bytes(bytes) => {
                self.ledger.note_put(1);
                self.ledger.store.push_back_bytes(bytes);
            }
            NewItem::Parcel(envelope) => self.ledger.put(Payload::Parcel(envelope)),
        }
    }

    /// Returns whether all items are finished, or never will be. Returns `None` if the joiner has
    /// to wait.
    pub(in crate::queue) fn check_done(&mut self) -> Option<Result<QueueJoined, QueueFailure>> {
        loop {
            let unfinished = self.unfinished();
            if unfinished > 0 && self.has_taker(None) {
                return None;
            }
            // Every item that clients have put before this point counts.
            if !self.drain_all() {
                let joined = QueueJoined { dead_letters: self.ledger.dead.count() };
                let abandoned = QueueFailure::Abandoned(unfinished);
                return Some(if unfinished == 0 { Ok(joined) } else { Err(abandoned) });
            }
        }
    }

    /// Returns whether a task would get an item, or the end of the queue. A task that does not wait
    /// must see every put that has returned.
    pub(in crate::queue) fn is_ready_for_task(&mut self, waits: bool) -> bool {
        if waits {
            self.look_at_polled();
        } else {
            self.drain_all();
        }
        loop {
            self.schedule();
            if !self.ledger.store.is_empty() {
                return true;
            }
            if self.end_for_task().is_none() {
                return false;
            }
            if !self.drain_all() {
                return true;
            }
        }
    }

    pub(in crate::queue) fn close(&mut self) {
        self.ledger.closed = true;
    }

    /// Closes the queue and drops the items in it. Returns how many it dropped.
    pub(in crate::queue) fn close_and_discard(&mut self) -> usize {
        self.ledger.closed = true;
        self.ledger.discards = true;
        self.discard_all()
    }

    /// Drops the items that no consumer has taken. Returns how many it dropped.
    fn discard_all(&mut self) -> usize {
        let mut dropped = self.ledger.discard(&mut self.own.ready);
        if self.clients.sums.outstanding > 0 {
            let holds =
                |&key: &_| self.clients.get(key).is_some_and(|client| client.outstanding() > 0);
            let holders: Vec<_> = self.clients.holders().filter(holds).collect();
            for key in holders {
                // The service thread will find the same corruption, and end the session.
                let recalled = self.clients.change(key, |client| client.recall(0));
                let recalled = recalled.and_then(Result::ok).map_or(0, |items| items.len());
                self.ledger.note_finished(recalled);
                dropped += recalled;
            }
        }
        if self.clients.sums.discarding > 0 {
            let asks = |&key: &_| self.clients.get(key).is_some_and(|client| client.discards);
            if let Some(asker) = self.clients.keys().find(asks) {
                self.clients.change(asker, |client| client.note_dropped(dropped));
            }
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

    /// Called when a selector or task begins to wait for an item.
    pub(in crate::queue) fn register_for_item(&mut self) -> io::Result<WakerSlot> {
        self.own.has_got = true;
        self.own.bells.items.register()
    }

    pub(in crate::queue) fn bells(&self) -> &Bells {
        &self.own.bells
    }

    /// Wakes the threads that are due to be woken, and returns the tasks, to be woken without the
    /// lock.
    pub(in crate::queue) fn wake_threads(&mut self, threads: &Condvars) -> Woken {
        self.own.bells.wake_threads(threads)
    }
}
