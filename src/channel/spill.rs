//! A long message, while it is encoded: it is written where the receiver will read it.

use std::sync::Arc;
use std::time::Instant;

use super::heap::Block;
use super::sender::{Outgoing, SendEnd};
use crate::codec::Spill;
use crate::region::Region;
use crate::wire::{self, Packet, WireHandle};

/// Where it lies, and how long it is so far.
pub(super) struct Message<'a> {
    ring: &'a Arc<Outgoing>,
    deadline: Option<Instant>,
    place: Place,
    length: usize,
}

enum Place {
    /// Nothing was written yet.
    None,
    Heap(Block),
    /// In memory that goes away with the message: it is too long for the heap, or grew where no room was left.
    Own(Region),
    /// There is no room for it, or no memory; the rest is only counted.
    Lost(SendEnd),
}

impl<'a> Message<'a> {
    pub(super) fn new(ring: &'a Arc<Outgoing>, deadline: Option<Instant>) -> Message<'a> {
        Message {
            ring,
            deadline,
            place: Place::None,
            length: 0,
        }
    }

    fn begin(&self, total: usize) -> Place {
        if total > self.ring.heap.longest() {
            return Message::own();
        }
        match self.ring.wait_for_block(total, self.deadline) {
            Ok(block) => Place::Heap(block),
            Err(end) => Place::Lost(end),
        }
    }

    fn own() -> Place {
        // As long as a message may be: pages exist once they are written.
        Region::sparse(wire::message_limit()).map_or_else(|error| Place::Lost(SendEnd::Io(error)), Place::Own)
    }

    /// To a longer place. It does not wait: two that each hold a part of the heap would wait for each other.
    fn grow(&self, block: &Block, total: usize) -> Place {
        let wanted = total.max(block.capacity() * 2).min(self.ring.heap.longest());
        let longer = (total <= wanted).then(|| self.ring.heap.allocate(wanted)).flatten();
        let place = longer.map_or_else(Message::own, Place::Heap);
        match &place {
            Place::Heap(longer) => block.copy_to(self.length, |at, bytes| longer.write(at, bytes)),
            Place::Own(region) => block.copy_to(self.length, |at, bytes| region.write(at, bytes)),
            Place::None | Place::Lost(_) => {}
        }
        place
    }

    /// What goes into the ring for it: a block and its length, or a parcel.
    pub(super) fn finish(self, handles: Vec<WireHandle>) -> Result<Finished, SendEnd> {
        match self.place {
            Place::Heap(block) if handles.is_empty() => Ok(Finished::Block(block, self.length)),
            Place::Heap(block) => {
                let region = Region::sparse(self.length).map_err(SendEnd::Io)?;
                block.copy_to(self.length, |at, bytes| region.write(at, bytes));
                Ok(Finished::Parcel(Packet::of_region(region, self.length, handles)))
            }
            Place::Own(region) => Ok(Finished::Parcel(Packet::of_region(region, self.length, handles))),
            Place::Lost(end) => Err(end),
            Place::None => Err(SendEnd::Io(std::io::Error::other("nothing was written"))),
        }
    }
}

pub(super) enum Finished {
    Block(Block, usize),
    Parcel(Packet),
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
        match &self.place {
            Place::Heap(block) => block.write(self.length, bytes),
            Place::Own(region) => region.write(self.length, bytes),
            Place::None | Place::Lost(_) => {}
        }
        self.length += bytes.len();
    }
}
