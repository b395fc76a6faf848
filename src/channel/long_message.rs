//! A long message while it is encoded: written directly to where the receiver will read it.

use std::sync::Arc;

use super::heap::Block;
use super::outbound::{OutboundRing, SendFailure};
use crate::ipc::codec::Spill;
use crate::ipc::deadline::{TimeLimit, WaitEnd};
use crate::ipc::wire::{Envelope, ShmBuffer, WireHandle};

pub(super) struct LongMessage<'a, L: TimeLimit> {
    ring: &'a Arc<OutboundRing>,
    /// How long to wait for room in the heap. `None`: do not wait, use a separate memory block
    /// instead.
    limit: Option<&'a L>,
    storage: LongStorage<L>,
    /// The bytes written so far.
    length: usize,
}

enum LongStorage<L: TimeLimit> {
    /// Nothing was written yet.
    Empty,
    Heap(Block),
    /// Memory of its own, for a message that is too long for the heap, or that grew when the heap
    /// had no room left.
    Separate(ShmBuffer),
    /// There was no room in time, or no memory. The remaining bytes are only counted.
    Failed(WaitEnd<L::Elapsed, SendFailure>),
}

/// A long message that was encoded.
pub(super) enum Stored {
    /// A block, and the length of the message in it.
    Heap(Block, usize),
    Parcel(Envelope),
}

impl<'a, L: TimeLimit> LongMessage<'a, L> {
    pub(super) fn new(ring: &'a Arc<OutboundRing>, limit: Option<&'a L>) -> LongMessage<'a, L> {
        LongMessage { ring, limit, storage: LongStorage::Empty, length: 0 }
    }

    fn begin(&self, total: usize) -> LongStorage<L> {
        if total > self.ring.heap.longest() {
            return LongStorage::Separate(self.separate(total));
        }
        let block = match self.limit {
            Some(limit) => self.ring.wait_for_block(total, limit),
            None => self.ring.heap.allocate(total).map_err(|error| SendFailure::Io(error).into()),
        };
        match block {
            Ok(Some(block)) => LongStorage::Heap(block),
            // The heap cannot grow, or this call must not wait for it.
            Ok(None) | Err(WaitEnd::Failed(SendFailure::Io(_))) => {
                LongStorage::Separate(self.separate(total))
            }
            Err(end) => LongStorage::Failed(end),
        }
    }

    /// Returns memory of its own, with what was written so far.
    fn separate(&self, total: usize) -> ShmBuffer {
        let mut buffer = ShmBuffer::default();
        buffer.reserve(total);
        if let LongStorage::Heap(block) = &self.storage {
            block.copy_to(self.length, |_, bytes| buffer.write(bytes));
        }
        buffer
    }

    /// Moves to a longer block. Does not wait for one: two messages that each hold a part of the
    /// heap would wait for each other.
    fn grow(&self, block: &Block, total: usize) -> LongStorage<L> {
        let wanted = total.max(block.capacity() * 2).min(self.ring.heap.longest());
        let longer = (total <= wanted).then(|| self.ring.heap.allocate(wanted).ok()?).flatten();
        match longer {
            Some(longer) => {
                block.copy_to(self.length, |at, bytes| longer.write(at, bytes));
                LongStorage::Heap(longer)
            }
            None => LongStorage::Separate(self.separate(total)),
        }
    }

    /// A message with handles always becomes a parcel: the heap holds bytes only.
    pub(super) fn finish(
        self,
        handles: Vec<WireHandle>,
    ) -> Result<Stored, WaitEnd<L::Elapsed, SendFailure>> {
        let buffer = match self.storage {
            LongStorage::Heap(block) if handles.is_empty() => {
                return Ok(Stored::Heap(block, self.length));
            }
            LongStorage::Heap(_) => self.separate(self.length),
            LongStorage::Separate(buffer) => buffer,
            LongStorage::Failed(end) => return Err(end),
            LongStorage::Empty => ShmBuffer::default(),
        };
        let envelope = buffer.into_envelope(handles).map_err(SendFailure::Io)?;
        Ok(Stored::Parcel(envelope))
    }
}

impl<L: TimeLimit> Spill for LongMessage<'_, L> {
    fn reserve(&mut self, total: usize) {
        match &self.storage {
            LongStorage::Empty => self.storage = self.begin(total),
            LongStorage::Heap(block) if block.capacity() < total => {
                self.storage = self.grow(block, total);
            }
            LongStorage::Heap(_) | LongStorage::Separate(_) | LongStorage::Failed(_) => {}
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.reserve(self.length + bytes.len());
        match &mut self.storage {
            LongStorage::Heap(block) => block.write(self.length, bytes),
            LongStorage::Separate(buffer) => buffer.write(bytes),
            LongStorage::Empty | LongStorage::Failed(_) => {}
        }
        self.length += bytes.len();
    }

    fn clear(&mut self) {
        self.length = 0;
    }
}
