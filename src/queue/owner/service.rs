//! What the hub does for a queue: attach clients, read what they wrote, end their leases.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::failpoints;
use crate::ipc::hub::{Attachment, ClientLink, REGION_BYTES, Serviced, SharedObject};
use crate::ipc::region::Region;
use crate::ipc::ring::{self, Corrupt};
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::Envelope;
use crate::queue::layout::{self, Tag, Word};
use crate::queue::owner::client::{Outstanding, Remote};
use crate::queue::owner::state::{Core, Item, Payload, State};
use crate::queue::report;

/// Entries that are drained from one outbox before others have a turn.
const DRAIN_MAX: usize = 1024;

impl Core {
    /// Brings what clients have put and said into the state, so that this thread sees all of it.
    pub(in crate::queue) fn drain_all(&self, state: &mut State) {
        let keys: Vec<u64> = state.remotes.keys().copied().collect();
        for key in keys {
            self.drain_whole(state, key);
        }
    }

    /// Does all that one client's outbox says now, and not for ever what it goes on to say.
    fn drain_whole(&self, state: &mut State, key: u64) {
        for _ in 0..=ring::ENTRIES_MAX / DRAIN_MAX {
            // A corrupt client is ended by the service thread, which finds the same.
            let Ok(true) = self.drain(state, key) else {
                return;
            };
        }
    }

    /// Does what one client's outbox says; whether there was anything.
    pub(in crate::queue) fn drain(&self, state: &mut State, key: u64) -> Result<bool, Corrupt> {
        let Some(mut remote) = state.remotes.remove(&key) else {
            return Ok(false);
        };
        let outcome = self.drain_remote(state, &mut remote);
        state.remotes.insert(key, remote);
        outcome
    }

    pub(in crate::queue) fn drain_remote(
        &self,
        state: &mut State,
        remote: &mut Remote,
    ) -> Result<bool, Corrupt> {
        let mut busy = remote.look(self.joinable)?;
        let mut left = DRAIN_MAX;
        while left > 0 {
            // Nearly all are items, and behind each other.
            let put = state
                .store
                .push_run(|bytes| remote.outbox.take_run(Tag::Put as u32, left, bytes))?;
            if put > 0 {
                self.note_put(state, remote, put);
                busy = true;
                left -= put;
                continue;
            }
            let Some(front) = remote.outbox.front()? else {
                break;
            };
            let tag = Tag::from(front.tag).ok_or(Corrupt)?;
            if tag.has_parcel() && remote.parcels.is_empty() {
                // It was sent before its entry was written: it is about to be read.
                break;
            }
            let payload = remote.outbox.read(&front);
            remote.outbox.take_sole(&front);
            busy = true;
            left -= 1;
            self.entry(state, remote, tag, payload)?;
        }
        if busy && remote.word(Word::Putters) > 0 {
            // It may wait for room in the ring itself.
            remote.changed = true;
        }
        Ok(busy)
    }

    /// So many items of this client are in the store now.
    fn note_put(&self, state: &mut State, remote: &mut Remote, count: usize) {
        remote.has_put = true;
        remote.credits = remote.credits.saturating_sub(count);
        if self.joinable {
            state.unfinished += count;
        }
    }

    fn store(&self, state: &mut State, remote: &mut Remote, payload: Payload) {
        self.note_put(state, remote, 1);
        state.store.push_back(Item {
            payload,
            attempts: 0,
        });
    }

    pub(in crate::queue) fn entry(
        &self,
        state: &mut State,
        remote: &mut Remote,
        tag: Tag,
        payload: SmallBytes,
    ) -> Result<(), Corrupt> {
        match tag {
            Tag::Put => self.store(state, remote, Payload::Bytes(payload)),
            Tag::Parcel => {
                let packet = remote.parcels.pop_front().ok_or(Corrupt)?;
                self.store(state, remote, Payload::Parcel(Box::new(packet)));
            }
            Tag::Done | Tag::Back => {
                // The entry behind the last one that was taken may have come while this one was on its way.
                remote.look(self.joinable)?;
                let item = remote
                    .leases
                    .remove(&layout::number(payload.as_slice())?)
                    .ok_or(Corrupt)?;
                if tag == Tag::Done {
                    state.unfinished -= 1;
                } else {
                    state.give_back(item);
                }
            }
            Tag::Close => state.closed = true,
            Tag::Discard => {
                state.closed = true;
                state.discards = true;
                remote.discards = true;
            }
            Tag::BadLease | Tag::Bad => {
                remote.look(self.joinable)?;
                report::bury(state, remote, tag, payload.as_slice(), self.item)?;
            }
            Tag::Ask => remote.ask = remote.ask.max(layout::number(payload.as_slice())?),
            Tag::Join => remote.join = remote.join.max(layout::number(payload.as_slice())?),
        }
        Ok(())
    }

    /// A client's session or handle ended: what it held goes to the others.
    pub(in crate::queue) fn end(&self, key: u64) {
        let mut state = self.lock();
        if !failpoints::mistake("end.no-drain") {
            self.drain_whole(&mut state, key);
        }
        let Some(mut remote) = state.remotes.remove(&key) else {
            return;
        };
        // Untaken first to the front, then in front of those the ones that were taken earlier.
        let untaken = remote
            .recall(0, self.joinable)
            .unwrap_or_else(|Corrupt| remote.sent.take_all());
        if !failpoints::mistake("end.keep-untaken") {
            for item in untaken.into_iter().rev() {
                state.store.push_front(item);
            }
        }
        if !failpoints::mistake("end.keep-leases") {
            for (_, item) in std::mem::take(&mut remote.leases).into_iter().rev() {
                state.give_back(item);
            }
        }
        self.settle(&mut state);
    }
}

impl SharedObject for Core {
    fn count_in_flight(&self, change: isize) {
        let mut state = self.lock();
        state.shared = true;
        state.tickets = state.tickets.saturating_add_signed(change);
        self.settle(&mut state);
    }

    fn attach(
        self: Arc<Self>,
        peer: Arc<ClientLink>,
        number: u32,
        region: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, &'static str> {
        let region = region
            .filter(|region| region.len() >= REGION_BYTES)
            .ok_or("its region is too small")?;
        let mut state = self.lock();
        state.next_remote += 1;
        let key = state.next_remote;
        layout::word(&region, Word::Capacity).store(
            self.capacity.map_or(0, |capacity| capacity as u64),
            Ordering::SeqCst,
        );
        let accepted =
            layout::word(&region, Word::Fingerprint).load(Ordering::SeqCst) == self.fingerprint;
        let mut remote = Remote {
            peer,
            number,
            outbox: layout::outbox_reader(&region),
            inbox: layout::inbox_writer(&region),
            region,
            sent: Outstanding::default(),
            leases: BTreeMap::new(),
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
            discards: false,
            granted: Instant::now(),
            changed: false,
        };
        remote.set(
            Word::Status,
            if accepted {
                layout::ATTACHED
            } else {
                layout::OTHER_TYPE
            },
        );
        state.shared = true;
        if accepted {
            state.remotes.insert(key, remote);
            self.settle(&mut state);
        } else {
            remote.peer.ring();
        }
        drop(state);
        Ok(Box::new(Client { core: self, key }))
    }

    fn owner_exits(&self) {
        let mut state = self.lock();
        state.exiting = true;
        self.settle(&mut state);
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
        failpoints::point("hub.drained");
        let Some(remote) = state.remotes.get(&self.key) else {
            return Ok(Serviced::Idle);
        };
        let asked =
            remote.ask > remote.word(Word::Answered) || remote.join > remote.word(Word::Joined);
        if asked {
            // What others put before this client asked must be in the answer.
            core.drain_all(&mut state);
        }
        let waits = state
            .remotes
            .get(&self.key)
            .is_some_and(|remote| remote.wants_items() > 0 || remote.wants_room());
        // The owner's threads that wait look for themselves.
        let waits =
            waits || state.local.tasks.items.is_awaited() || state.local.tasks.room.is_awaited();
        if busy || asked || waits {
            core.settle(&mut state);
            failpoints::point("hub.settled");
        }
        state.look = core.next_look(&state);
        Ok(match state.look {
            _ if busy => Serviced::Busy,
            Some(at) => Serviced::Again(at),
            None => Serviced::Idle,
        })
    }

    fn parcel(&mut self, packet: Envelope) {
        if let Some(remote) = self.core.lock().remotes.get_mut(&self.key) {
            remote.parcels.push_back(packet);
        }
    }

    fn object(&self) -> Arc<dyn SharedObject> {
        self.core.clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.core.end(self.key);
    }
}
