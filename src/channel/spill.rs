//! A long message, while it is encoded: it is written where the receiver will read it.

use std::sync::Arc;

use super::heap::Block;
use super::sender::{Outgoing, SendEnd};
use crate::ipc::codec::Spill;
use crate::ipc::deadline::Deadline;
use crate::ipc::wire::{Envelope, ShmBuffer, WireHandle};

/// Where it lies, and how long it is so far.
pub(super) struct Message<'a> {
    ring: &'a Arc<Outgoing>,
    /// How long it waits for a place in the heap; not at all: it has memory of its own if there is none.
    limit: Option<&'a Deadline>,
    place: Place,
    length: usize,
}

enum Place {
    /// Nothing was written yet.
    None,
    Heap(Block),
    /// In memory that goes away with the message: it is too long for the heap, or grew where no room was left.
    Own(ShmBuffer),
    /// There is no room for it, or no memory; the rest is only counted.
    Lost(SendEnd),
}

impl<'a> Message<'a> {
    pub(super) fn new(ring: &'a Arc<Outgoing>, limit: &'a Deadline) -> Message<'a> {
        Message {
            ring,
            limit: Some(limit),
            place: Place::None,
            length: 0,
        }
    }

    #[cfg(feature = "async")]
    pub(super) fn at_once(ring: &'a Arc<Outgoing>) -> Message<'a> {
        Message {
            ring,
            limit: None,
            place: Place::None,
            length: 0,
        }
    }

    fn begin(&self, total: usize) -> Place {
        if total > self.ring.heap.longest() {
            return Place::Own(self.own(total));
        }
        let Some(limit) = self.limit else {
            let block = self.ring.heap.allocate(total);
            return block.map_or_else(|| Place::Own(self.own(total)), Place::Heap);
        };
        match self.ring.wait_for_block(total, limit) {
            Ok(block) => Place::Heap(block),
            Err(end) => Place::Lost(end),
        }
    }

    fn own(&self, total: usize) -> ShmBuffer {
        let mut own = ShmBuffer::default();
        own.reserve(total);
        if let Place::Heap(block) = &self.place {
            block.copy_to(self.length, |_, bytes| own.write(bytes));
        }
        own
    }

    /// To a longer place. It does not wait: two that each hold a part of the heap would wait for each other.
    fn grow(&self, block: &Block, total: usize) -> Place {
        let wanted = total
            .max(block.capacity() * 2)
            .min(self.ring.heap.longest());
        let longer = (total <= wanted)
            .then(|| self.ring.heap.allocate(wanted))
            .flatten();
        match longer {
            Some(longer) => {
                block.copy_to(self.length, |at, bytes| longer.write(at, bytes));
                Place::Heap(longer)
            }
            None => Place::Own(self.own(total)),
        }
    }

    /// What goes into the ring for it: a block and its length, or a parcel.
    pub(super) fn finish(self, handles: Vec<WireHandle>) -> Result<Finished, SendEnd> {
        let own = match self.place {
            Place::Heap(block) if handles.is_empty() => {
                return Ok(Finished::Block(block, self.length));
            }
            Place::Heap(_) => self.own(self.length),
            Place::Own(own) => own,
            Place::Lost(end) => return Err(end),
            Place::None => ShmBuffer::default(),
        };
        own.into_envelope(handles)
            .map(Finished::Parcel)
            .map_err(SendEnd::Io)
    }
}

pub(super) enum Finished {
    Block(Block, usize),
    Parcel(Envelope),
}

impl Spill for Message<'_> {
    fn reserve(&mut self, total: usize) {
        match &self.place {
            Place::None => self.place = self.begin(total),
            Place::Heap(block) if block.capacity() < total => self.place = self.grow(block, total),
            Place::Heap(_) | Place::Own(_) | Place::Lost(_) => {}
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.reserve(self.length + bytes.len());
        match &mut self.place {
            Place::Heap(block) => block.write(self.length, bytes),
            Place::Own(own) => own.write(bytes),
            Place::None | Place::Lost(_) => {}
        }
        self.length += bytes.len();
    }
}
