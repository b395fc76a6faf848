//! Many items in one call: work that need not be done for each item is done once per batch.

use std::collections::VecDeque;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diagnostics;
use crate::error::{GetError, PutAllError};
use crate::ipc::deadline::{Deadline, TimeLimit, WaitEnd, Waited};
use crate::ipc::hub;
use crate::ipc::ring;
use crate::ipc::wire::{self, Shape};
use crate::queue::handle::{Got, Handle};
use crate::queue::item::{NewItem, Taken};
use crate::queue::outcome::{QueueFailure, with_item};

/// The number of items that are pulled from an iterator before they are put. A larger number gains
/// nothing.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 16 << 10;

/// Encoded items, one after the other.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// Adds an item. Returns whether that was possible: it is not if the item is large, holds
    /// handles or does not encode.
    fn push<T: Serialize + DeserializeOwned>(&mut self, item: &T) -> bool {
        let start = self.bytes.len();
        let plain = match wire::encode_into(item, Shape::of::<T>(), &mut self.bytes) {
            Ok(along) if along.is_empty() => self.bytes.len() - start <= ring::ENTRY_MAX,
            Ok(along) => {
                // This encoding is not sent.
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

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn item(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Returns the items from this one on.
    fn rest(&self, from: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        (from..self.len()).map(|index| self.item(index))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl Handle {
    pub(in crate::queue) fn put_all<I>(
        &self,
        mut items: I,
        limit: &Deadline,
    ) -> Result<(), PutAllError<I>>
    where
        I: Iterator<Item: Serialize + DeserializeOwned>,
    {
        let (mut batch, mut pulled, mut put) = (Batch::default(), VecDeque::new(), 0);
        loop {
            batch.clear();
            // An item that does not fit the batch ends it, and is put alone after it.
            let mut ends = false;
            while !batch.is_full() && !ends {
                let Some(item) = items.next() else { break };
                ends = !batch.push(&item);
                pulled.push_back(item);
            }
            if pulled.is_empty() {
                return Ok(());
            }
            let (done, end) = self.put_batch(&batch, limit);
            put += done;
            pulled.drain(..done);
            let mut end = end.map(WaitEnd::convert);
            if let (None, Some(item)) = (&end, pulled.front()) {
                end = self.put(item, limit).err();
                if end.is_none() {
                    put += 1;
                    pulled.pop_front();
                }
            }
            if let Some(end) = end {
                let cause = with_item(end, ()).into();
                return Err(PutAllError::new(put, cause, pulled, items));
            }
        }
    }

    /// Puts the items of a batch. Returns how many were put and, if that was not all, why.
    fn put_batch<L: TimeLimit>(
        &self,
        batch: &Batch,
        limit: &L,
    ) -> (usize, Option<WaitEnd<L::Elapsed, QueueFailure>>) {
        let mut done = 0;
        while done < batch.len() {
            // Wait for room for one item, and then put as many others as there is room for.
            match self.put_some(batch, done, limit) {
                Ok(more) => done += more,
                Err(end) => return (done, Some(end)),
            }
        }
        (done, None)
    }

    fn put_some<L: TimeLimit>(
        &self,
        batch: &Batch,
        from: usize,
        limit: &L,
    ) -> Waited<usize, QueueFailure, L> {
        let first = NewItem::Bytes(batch.item(from));
        let more = match self {
            Handle::Own(own) => {
                own.owner().put(first, limit)?;
                own.owner().put_more(batch.rest(from + 1))
            }
            Handle::Remote(remote) => {
                let attached = remote.attached(limit)?;
                attached.put(first, limit)?;
                // The next call reports an error of this one.
                attached.put_more(batch.rest(from + 1)).unwrap_or(0)
            }
        };
        Ok(1 + more)
    }

    pub(in crate::queue) fn get_many<T: DeserializeOwned, L: TimeLimit>(
        &self,
        max: usize,
        limit: &L,
    ) -> Waited<Vec<Got<T>>, GetError, L> {
        let max = max.max(1);
        let first = self.take(max, limit).map_err(WaitEnd::convert)?;
        Ok(self.decode_with_more(first, max)?)
    }

    pub(in crate::queue) fn try_get_many<T: DeserializeOwned>(
        &self,
        max: usize,
    ) -> Waited<Vec<Got<T>>, GetError, Deadline> {
        let max = max.max(1);
        let first = self.try_take(max).map_err(WaitEnd::convert)?;
        Ok(self.decode_with_more(first, max)?)
    }

    /// Takes up to `max` items in all, and decodes them. Returns the error of an item that does not
    /// decode only if there is no other item.
    fn decode_with_more<T: DeserializeOwned>(
        &self,
        first: Taken,
        max: usize,
    ) -> Result<Vec<Got<T>>, GetError> {
        let mut taken = vec![first];
        match self {
            Handle::Own(own) => own.owner().take_more(max - 1, &mut taken),
            Handle::Remote(remote) => {
                if let Some(attached) = remote.used() {
                    attached.take_more(max - 1, &mut taken);
                }
            }
        }
        let (mut got, mut bad) = (Vec::with_capacity(taken.len()), None);
        for taken in taken {
            match self.decode(taken) {
                Ok(item) => got.push(item),
                Err(error) => bad = Some(error),
            }
        }
        match bad {
            Some(error) if got.is_empty() => Err(GetError::Decode(error)),
            Some(error) => {
                diagnostics::error("offspring::queue", format_args!("skipped an item: {error}"));
                Ok(got)
            }
            None => Ok(got),
        }
    }
}
