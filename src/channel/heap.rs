//! The heap for long messages: blocks of a sender's region, after its ring.
//!
//! Only the sender decides where a block is. It takes the lowest gap that fits, to reuse memory
//! that both sides have touched already: a fresh page costs more than the copy into it.
//!
//! One word has a bit for each slot in use. The sender sets a slot's bit when it allocates, and the
//! receiver clears it when it has copied the message out, in any order. Both use compare-and-swap
//! or a single read-modify-write, so neither can undo the other's change.
//!
//! The receiver returns memory that has been idle for a while to the system. It may do so only
//! while no bit is set, and no bit may be set until it is done. So one compare-and-swap both finds
//! all bits clear and sets `SHUT`, and the sender allocates nothing while `SHUT` is set.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::layout::{HEAP, HEAP_RETURNS, HEAP_START, SenderMemory};
use crate::ipc::region::Region;
use crate::sys::lock;

/// The most messages in the heap: those being written, and those that the receiver has not freed.
pub(super) const SLOTS: usize = 8;
const SHUT: u64 = 1 << 63;
const PAGE: usize = 4096;

/// The sender's view of the heap.
#[derive(Debug)]
pub(super) struct MessageHeap {
    memory: Arc<SenderMemory>,
    blocks: Mutex<Blocks>,
}

#[derive(Debug)]
struct Blocks {
    /// The place of each slot's block, valid while the slot's bit is set.
    places: [Range<usize>; SLOTS],
    /// The end of the highest block since the receiver last returned the memory.
    touched: usize,
    /// How often the receiver has returned it.
    returns: u64,
}

impl MessageHeap {
    pub(super) fn new(memory: Arc<SenderMemory>) -> MessageHeap {
        let places = std::array::from_fn(|_| 0..0);
        let blocks = Mutex::new(Blocks { places, touched: HEAP_START, returns: 0 });
        MessageHeap { memory, blocks }
    }

    /// Returns the length up to which a message waits for room in the heap. A longer one gets
    /// memory of its own.
    pub(super) fn longest(&self) -> usize {
        (self.memory.end() - HEAP_START) / 2
    }

    /// Returns a block of at least `length` bytes, if there is room now. An error if the system has
    /// no memory for it.
    pub(super) fn allocate(self: &Arc<MessageHeap>, length: usize) -> io::Result<Option<Block>> {
        let mut blocks = lock(&self.blocks);
        let word = self.memory.head.atomic(HEAP);
        let mut used = word.load(Ordering::SeqCst);
        while let Some((slot, place)) = blocks.free_place(used, self.memory.end(), length) {
            // Fails if the receiver has cleared a bit, or shut the heap, since the load.
            match word.compare_exchange(
                used,
                used | (1 << slot),
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return self.block(&mut blocks, slot, place).map(Some),
                Err(now) => used = now,
            }
        }
        Ok(None)
    }

    /// Returns the block of a slot whose bit was just set. From here on, the receiver returns no
    /// memory.
    fn block(
        self: &Arc<MessageHeap>,
        blocks: &mut Blocks,
        slot: usize,
        place: Range<usize>,
    ) -> io::Result<Block> {
        blocks.places[slot] = place.clone();
        let returns = self.memory.head.atomic(HEAP_RETURNS).load(Ordering::SeqCst);
        if std::mem::replace(&mut blocks.returns, returns) != returns {
            blocks.touched = HEAP_START;
        }
        let mapped = self.memory.up_to(place.end).and_then(|region| {
            if place.end > blocks.touched {
                // Populating a range at once costs half as much as one page fault after the other.
                region.populate(blocks.touched.max(place.start), place.end)?;
                blocks.touched = place.end;
            }
            Ok(region)
        });
        match mapped {
            Ok(region) => Ok(Block { heap: self.clone(), region, slot, place, is_ours: true }),
            Err(error) => {
                free(&self.memory.head, slot);
                Err(error)
            }
        }
    }
}

impl Blocks {
    /// Returns a free slot and a place with room for `length` bytes. Returns `None` if the heap has
    /// no such slot or place at the moment, or is shut.
    fn free_place(&self, used: u64, end: usize, length: usize) -> Option<(usize, Range<usize>)> {
        if used & SHUT != 0 {
            return None;
        }
        let slot = (0..SLOTS).find(|slot| used & (1 << slot) == 0)?;
        let taken =
            (0..SLOTS).filter(|slot| used & (1 << slot) != 0).map(|slot| self.places[slot].clone());
        Some((slot, lowest_gap(taken.collect(), HEAP_START..end, length)?))
    }
}

/// The lowest range of whole pages with room for `length` bytes between those that are taken.
fn lowest_gap(
    mut taken: Vec<Range<usize>>,
    within: Range<usize>,
    length: usize,
) -> Option<Range<usize>> {
    let length = length.checked_next_multiple_of(PAGE)?;
    taken.sort_by_key(|place| place.start);
    let mut start = within.start;
    for place in taken {
        if place.start.saturating_sub(start) >= length {
            break;
        }
        start = start.max(place.end);
    }
    let end = start.checked_add(length)?;
    (end <= within.end).then_some(start..end)
}

/// A part of the heap that this process writes. Dropping it frees the part, unless the part was
/// handed over.
#[derive(Debug)]
pub(super) struct Block {
    heap: Arc<MessageHeap>,
    region: Arc<Region>,
    pub(super) slot: usize,
    place: Range<usize>,
    is_ours: bool,
}

impl Block {
    pub(super) fn capacity(&self) -> usize {
        self.place.len()
    }

    pub(super) fn offset(&self) -> usize {
        self.place.start
    }

    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.capacity(), "a write beyond the end of its block");
        self.region.write(self.place.start + at, bytes);
    }

    /// Copies the first `length` bytes elsewhere.
    pub(super) fn copy_to(&self, length: usize, write: impl FnMut(usize, &[u8])) {
        self.region.copy_to(self.place.start, length, write);
    }

    /// Leaves it to the receiver to free the block.
    pub(super) fn hand_over(mut self) {
        self.is_ours = false;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.is_ours {
            free(&self.heap.memory.head, self.slot);
        }
    }
}

/// Frees a slot. Called by the side that owns its block.
pub(super) fn free(region: &Region, slot: usize) {
    region.atomic(HEAP).fetch_and(!(1 << slot), Ordering::SeqCst);
}

/// Returns the memory of the heap's first `touched` bytes to the system, if no slot is in use.
/// Called by the receiver, which must wake the sender afterwards: the sender may have found the
/// heap shut.
pub(super) fn return_memory(memory: &SenderMemory, touched: usize) -> bool {
    let word = memory.head.atomic(HEAP);
    if word.compare_exchange(0, SHUT, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return false;
    }
    memory.memory().forget(HEAP_START, touched.min(memory.end() - HEAP_START));
    memory.head.atomic(HEAP_RETURNS).fetch_add(1, Ordering::SeqCst);
    word.fetch_and(!SHUT, Ordering::SeqCst);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap() -> Arc<MessageHeap> {
        Arc::new(MessageHeap::new(Arc::new(SenderMemory::new().unwrap())))
    }

    fn allocate(heap: &Arc<MessageHeap>, length: usize) -> Option<Block> {
        heap.allocate(length).unwrap()
    }

    #[test]
    fn gaps_are_found_from_below() {
        let gap = |taken: &[Range<usize>], length| lowest_gap(taken.to_vec(), 0..10 * PAGE, length);
        assert_eq!(gap(&[], 1), Some(0..PAGE));
        assert_eq!(gap(&[0..PAGE, 2 * PAGE..3 * PAGE], PAGE), Some(PAGE..2 * PAGE));
        assert_eq!(gap(&[2 * PAGE..3 * PAGE, 0..PAGE], PAGE + 1), Some(3 * PAGE..5 * PAGE));
        assert_eq!(gap(&[PAGE..5 * PAGE, 5 * PAGE..10 * PAGE], 2 * PAGE), None);
        assert_eq!(gap(&[], usize::MAX), None);
    }

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let heap = heap();
        let mut blocks: Vec<Block> =
            (0..SLOTS).map(|n| allocate(&heap, n * 10_000 + 1).unwrap()).collect();
        assert!(allocate(&heap, 1).is_none(), "there are no more slots");
        let mut places: Vec<_> = blocks.iter().map(|block| block.place.clone()).collect();
        places.sort_by_key(|place| place.start);
        assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let first = blocks.remove(0);
        let place = first.place.clone();
        drop(first);
        assert_eq!(allocate(&heap, 1).unwrap().place, place);
    }

    #[test]
    fn what_is_handed_over_stays_until_the_receiver_frees_it() {
        let heap = heap();
        let block = allocate(&heap, 100).unwrap();
        let (slot, place) = (block.slot, block.place.clone());
        block.write(0, b"kept");
        block.hand_over();
        assert_ne!(allocate(&heap, 100).unwrap().place, place);
        assert!(!return_memory(&heap.memory, PAGE));
        free(&heap.memory.head, slot);
        assert!(return_memory(&heap.memory, PAGE));
        assert_eq!(allocate(&heap, 100).unwrap().place, place);
        let mut bytes = [1; 4];
        heap.memory.up_to(place.end).unwrap().read(place.start, &mut bytes);
        assert_eq!(bytes, [0; 4], "its memory was returned");
    }

    #[test]
    fn a_shut_heap_gives_nothing() {
        let heap = heap();
        heap.memory.head.atomic(HEAP).store(SHUT, Ordering::SeqCst);
        assert!(allocate(&heap, 1).is_none());
        // A receiver that sets bits which the sender never set harms only itself.
        heap.memory.head.atomic(HEAP).store(!SHUT, Ordering::SeqCst);
        assert!(allocate(&heap, 1).is_none());
    }
}
