//! The region that one sending process shares with the receiver, and the tags of its ring's
//! entries.

use std::io;
use std::sync::{Arc, Mutex};

use crate::ipc::link::LinkLayout;
use crate::ipc::region::{Memory, Region};
use crate::ipc::ring::RING_BYTES;
use crate::ipc::wire;
use crate::sys::lock;

/// Each word is on cache lines of its own.
const LINE: usize = 128;
/// The receiver's sleep flag.
pub(super) const READER_SLEEPS: usize = RING_BYTES;
/// The sender's sleep flag: it waits for room.
pub(super) const WRITER_SLEEPS: usize = RING_BYTES + LINE;
/// Set by the sender after its last entry.
pub(super) const DONE: usize = RING_BYTES + 2 * LINE;
/// The ring itself, and the receiver's count of taken parcels.
pub(super) const LINK: LinkLayout = LinkLayout { ring: 0, parcels_taken: RING_BYTES + 3 * LINE };
/// Written by both: which slots of the heap are in use, and whether its memory is being returned.
pub(super) const HEAP: usize = RING_BYTES + 4 * LINE;
/// Written by the receiver: how often it has returned the memory of the heap.
pub(super) const HEAP_RETURNS: usize = HEAP + 8;
/// Where the heap begins, on a page of its own. Every region has the words before it, even one
/// without a heap.
pub(super) const HEAP_START: usize = (RING_BYTES + 5 * LINE).next_multiple_of(4096);

/// The sizes to try, in this order, until the system grants one. The largest holds two messages of
/// 64 MiB, of which one is read while the next is written; more room would only touch more memory.
/// Without any heap, each long message travels in memory of its own.
const HEAP_BYTES: [usize; 3] = [129 << 20, 16 << 20, 0];

/// The memory of one sender, as a process maps it: everything before the heap, and as much of the
/// heap as has been used so far. Most senders use only a small part, and addresses may be short.
#[derive(Debug)]
pub(super) struct SenderMemory {
    memory: Memory,
    /// The length of the memory.
    end: usize,
    /// The part before the heap.
    pub(super) head: Arc<Region>,
    heap: Mutex<Arc<Region>>,
}

impl SenderMemory {
    /// Makes the memory of a new sender.
    pub(super) fn new() -> io::Result<SenderMemory> {
        let mut last = None;
        for heap in HEAP_BYTES {
            match Memory::sparse(HEAP_START + heap, label()) {
                Ok(memory) => {
                    let memory = SenderMemory::of(memory)?;
                    memory.head.populate(0, HEAP_START)?;
                    return Ok(memory);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::OutOfMemory.into()))
    }

    /// Maps memory that another process made. An error if it is not the memory of a sender.
    pub(super) fn of(memory: Memory) -> io::Result<SenderMemory> {
        let end = memory.labelled_length(label())?;
        if !(HEAP_START..=HEAP_START + HEAP_BYTES[0]).contains(&end) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let head = Arc::new(memory.map_part(HEAP_START)?);
        Ok(SenderMemory { memory, end, heap: Mutex::new(head.clone()), head })
    }

    pub(super) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Returns the offset of the end of the heap.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Returns a mapping that reaches at least to this offset.
    pub(super) fn up_to(&self, end: usize) -> io::Result<Arc<Region>> {
        const FIRST: usize = 1 << 20;

        let mut heap = lock(&self.heap);
        if heap.len() < end {
            let longer = end.max(2 * heap.len()).max(FIRST).min(self.end);
            *heap = Arc::new(self.memory.map_part(longer)?);
        }
        Ok(heap.clone())
    }
}

/// Returns the label that marks memory as a sender's.
pub(super) fn label() -> u64 {
    wire::fingerprint("channel")
}

/// The entry's bytes are the message.
pub(super) const VALUE: u32 = 0;
/// The message is the next parcel.
pub(super) const PARCEL: u32 = 1;
/// The message is in the heap; the entry holds its slot, offset and length.
pub(super) const LONG: u32 = 2;

const KIND_BITS: u32 = 2;

/// Returns the tag of an entry: what it holds, and its message's mark.
#[inline]
pub(super) fn tag(kind: u32, mark: Mark) -> u32 {
    kind | u32::from(mark.0) << KIND_BITS
}

#[inline]
pub(super) fn split_tag(tag: u32) -> (u32, Mark) {
    (tag & ((1 << KIND_BITS) - 1), Mark((tag >> KIND_BITS) as u16))
}

/// A small number, at most [`Mark::MAX`], that accompanies a message outside its bytes. The public
/// calls send 0, and ignore the mark of what they receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) u16);

impl Mark {
    pub(crate) const MAX: u16 = u16::MAX >> KIND_BITS;
}

pub(super) fn long_entry(slot: usize, offset: usize, length: usize) -> [u8; 24] {
    let mut entry = [0; 24];
    for (part, number) in entry.chunks_exact_mut(8).zip([slot, offset, length]) {
        part.copy_from_slice(&(number as u64).to_le_bytes());
    }
    entry
}

/// Returns slot, offset and length from the entry of a long message. Returns `None` unless the
/// message is inside the heap, which ends at `heap_end`: the sender may have written anything.
pub(super) fn read_long_entry(entry: &[u8], heap_end: usize) -> Option<(usize, usize, usize)> {
    let number = |part: &[u8]| {
        part.try_into().ok().and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes)).ok())
    };
    let (slot, rest) = entry.split_at_checked(8)?;
    let (offset, length) = rest.split_at_checked(8)?;
    let (slot, offset, length) = (number(slot)?, number(offset)?, number(length)?);
    let is_inside =
        offset >= HEAP_START && offset.checked_add(length).is_some_and(|end| end <= heap_end);
    (slot < super::heap::SLOTS && is_inside).then_some((slot, offset, length))
}
