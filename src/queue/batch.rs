//! Many items in one call: what has to be done once is done once a batch.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{GetError, OrElapsed, PutAllError};
use crate::ipc::hub;
use crate::ipc::ring;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire;
use crate::queue::client::attachment::{Attached, RemoteEnd, Taken};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::handle::{Got, Handle};
use crate::queue::layout::{Flag, Tag, Word};
use crate::queue::outcome::{Limit, Refused};
use crate::queue::owner::state::{Core, Item, Payload};
use crate::sys::lock;

/// So many items are pulled from an iterator before they are put: more gain nothing.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 16 << 10;

/// Encoded items, one behind the other.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// Whether it takes the item: none that is large, holds handles or does not encode.
    fn push<T: Serialize>(&mut self, item: &T) -> bool {
        let start = self.bytes.len();
        let plain = match wire::encode_into(item, &mut self.bytes) {
            Ok(along) if along.is_empty() => self.bytes.len() - start <= ring::ENTRY_MAX,
            // These are under way to nobody.
            Ok(along) => {
                along.restore();
                hub::announce();
                false
            }
            Err(_) => false,
        };
        if plain {
            self.ends.push(self.bytes.len());
        } else {
            self.bytes.truncate(start);
        }
        plain
    }

    fn is_full(&self) -> bool {
        self.ends.len() >= BATCH || self.bytes.len() >= BATCH_BYTES
    }

    fn item(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl Handle {
    pub(crate) fn put_all<I>(&self, mut items: I, limit: Limit) -> Result<(), PutAllError<I>>
    where
        I: Iterator<Item: Serialize>,
    {
        let limit = Limit::Until(limit.deadline());
        let (mut batch, mut pulled, mut put) = (Batch::default(), VecDeque::new(), 0);
        loop {
            batch.clear();
            // The one that ends a batch early goes alone, behind it.
            let mut alone = false;
            while !batch.is_full() && !alone {
                let Some(item) = items.next() else { break };
                alone = !batch.push(&item);
                pulled.push_back(item);
            }
            if pulled.is_empty() {
                return Ok(());
            }
            let (done, end) = self.put_batch(&batch, limit.deadline());
            put += done;
            pulled.drain(..done);
            let mut refused = end.map(Refused::End);
            if let (None, Some(item)) = (&refused, pulled.front()) {
                refused = self.put(item, limit).err();
                if refused.is_none() {
                    put += 1;
                    pulled.pop_front();
                }
            }
            if let Some(refused) = refused {
                let cause = refused.with(()).into();
                return Err(PutAllError::new(put, cause, pulled, items));
            }
        }
    }

    fn put_batch(&self, batch: &Batch, deadline: Option<Instant>) -> (usize, Option<RemoteEnd>) {
        let mut done = 0;
        while done < batch.len() {
            // The first one waits for room; with it others find some.
            let outcome = match self {
                Handle::Local(local) => local
                    .core()
                    .put(Payload::Bytes(SmallBytes::new(batch.item(done))), deadline)
                    .map(|()| local.core().put_more(batch, done + 1))
                    .map_err(|(_, over)| RemoteEnd::Over(over)),
                Handle::Remote(remote) => remote.attached(deadline).and_then(|attached| {
                    attached.put(&mut Outgoing::item(batch.item(done), None), deadline)?;
                    attached.put_more(batch, done + 1)
                }),
            };
            match outcome {
                Ok(more) => done += 1 + more,
                Err(end) => return (done, Some(end)),
            }
        }
        (done, None)
    }

    /// At least one, if there is no error, and at most `most`. An item that does not decode is the error only if
    /// there is no other.
    pub(crate) fn get_many<T: DeserializeOwned>(
        &self,
        most: usize,
        limit: Limit,
    ) -> Result<Vec<Got<T>>, OrElapsed<GetError>> {
        let mut got = Vec::new();
        let mut bad = None;
        for taken in self.take_many(most.max(1), limit)? {
            match self.decode(taken) {
                Ok(item) => got.push(item),
                Err(error) => bad = Some(error),
            }
        }
        match bad {
            Some(error) if got.is_empty() => Err(OrElapsed::Error(GetError::Decode(error))),
            Some(error) => {
                log::error!(target: "offspring::queue", "an item was passed over: {error}");
                Ok(got)
            }
            None => Ok(got),
        }
    }

    fn take_many(&self, most: usize, limit: Limit) -> Result<Vec<Taken>, RemoteEnd> {
        let mut taken = vec![self.take(limit, most)?];
        match self {
            Handle::Local(local) => local.core().take_more(most - 1, &mut taken),
            Handle::Remote(remote) => remote.take_more(most - 1, &mut taken),
        }
        Ok(taken)
    }
}

impl Core {
    /// Puts as many more as there is room for.
    fn put_more(&self, batch: &Batch, from: usize) -> usize {
        let mut state = self.lock();
        let room = if state.closed { 0 } else { self.free(&state) };
        let to = batch.len().min(from.saturating_add(room));
        for index in from..to {
            let payload = Payload::Bytes(SmallBytes::new(batch.item(index)));
            state.store.push_back(Item {
                payload,
                attempts: 0,
            });
        }
        if self.joinable {
            state.unfinished += to - from;
        }
        self.settle(&mut state);
        self.watch(&mut state);
        to - from
    }

    /// Takes more items for a local thread that has one: such as nobody waits for.
    fn take_more(&self, most: usize, taken: &mut Vec<Taken>) {
        if most == 0 {
            return;
        }
        let mut state = self.lock();
        self.drain_all(&mut state);
        self.settle(&mut state);
        for _ in 0..most {
            let Some(item) = state.store.pop_front() else {
                break;
            };
            let leased = if self.joinable {
                state.lease(item)
            } else {
                Ok((item, 0))
            };
            let Ok((Item { payload, attempts }, lease)) = leased else {
                break;
            };
            taken.push(Taken {
                payload,
                lease,
                attempts,
            });
        }
        self.settle(&mut state);
        self.watch(&mut state);
    }
}

impl Attached {
    /// Puts as many more as there is room for.
    fn put_more(&self, batch: &Batch, from: usize) -> Result<usize, RemoteEnd> {
        if Flag::Closed.is_in(self.flags()) {
            return Ok(0);
        }
        let wanted = batch.len() - from;
        let room = if self.capacity().is_some() {
            self.take_credits(wanted)
        } else {
            wanted
        };
        let mut outbox = lock(&self.outbox);
        let mut pushed = Ok(true);
        let mut done = 0;
        while done < room && pushed == Ok(true) {
            pushed = outbox
                .entries
                .push(Tag::Put as u32, batch.item(from + done));
            done += usize::from(pushed == Ok(true));
        }
        drop(outbox);
        if self.capacity().is_some() {
            self.word(Word::Credit)
                .fetch_add((room - done) as u64, Ordering::SeqCst);
        }
        self.ring();
        pushed.map(|_| done).map_err(|_| RemoteEnd::Gone)
    }

    fn take_credits(&self, most: usize) -> usize {
        let take = |credit: u64| credit.min(most as u64);
        let before =
            self.word(Word::Credit)
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |credit| {
                    Some(credit - take(credit))
                });
        before.map_or(0, |before| take(before) as usize)
    }

    /// Takes more of what lies in the inbox.
    pub(super) fn take_more(&self, most: usize, taken: &mut Vec<Taken>) {
        let mut inbox = lock(&self.inbox);
        for _ in 0..most {
            // A corrupt inbox is the next call's error; what is here is whole.
            let Ok(Some(item)) = self.pop(&mut inbox) else {
                break;
            };
            taken.push(item);
        }
        drop(inbox);
        if let Some(last) = taken.last() {
            self.tell_room(last);
        }
    }
}
