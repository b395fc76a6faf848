//! Where the large messages of one sender lie: blocks of its region, behind the ring.
//!
//! The sender alone decides where a block lies: at the lowest place that is free, so that memory which both sides
//! have touched before is used again (a fresh page costs more than the copy into it). Who uses a slot stands in one
//! word: the sender sets its bit, the receiver clears it once the message is copied out, in any order. What a
//! receiver does not want back for a while, it returns to the system: only while no bit is set, and none can be
//! set meanwhile.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::layout::{HEAP, HEAP_START};
use crate::ipc::region::Region;
use crate::sys::lock;

/// Messages that the receiver has not taken out, or that are being written.
pub(super) const SLOTS: usize = 8;
const SHUT: u64 = 1 << 63;
const PAGE: usize = 4096;

/// The sender's side.
#[derive(Debug)]
pub(super) struct Heap {
    region: Arc<Region>,
    places: Mutex<Places>,
}

#[derive(Debug)]
struct Places {
    /// Where the block of each slot lies, if its bit is set.
    slots: [Range<usize>; SLOTS],
    /// The end of the highest block that there ever was.
    touched: usize,
}

impl Heap {
    pub(super) fn new(region: Arc<Region>) -> Heap {
        Heap {
            region,
            places: Mutex::new(Places {
                slots: std::array::from_fn(|_| 0..0),
                touched: HEAP_START,
            }),
        }
    }

    /// The longest message for which it is worth waiting.
    pub(super) fn longest(&self) -> usize {
        (self.region.len() - HEAP_START) / 2
    }

    /// A block of at least this length, if there is room now.
    pub(super) fn allocate(self: &Arc<Heap>, length: usize) -> Option<Block> {
        let mut places = lock(&self.places);
        let word = self.region.atomic(HEAP);
        let mut used = word.load(Ordering::SeqCst);
        loop {
            if used & SHUT != 0 {
                return None;
            }
            let slot = (0..SLOTS).find(|slot| used & (1 << slot) == 0)?;
            let taken = (0..SLOTS)
                .filter(|slot| used & (1 << slot) != 0)
                .map(|slot| places.slots[slot].clone());
            let place = lowest_gap(taken.collect(), HEAP_START..self.region.len(), length)?;
            // The receiver may have cleared other bits since.
            match word.compare_exchange(
                used,
                used | (1 << slot),
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => {
                    places.slots[slot] = place.clone();
                    if place.end > places.touched {
                        // Many at once are had for half of what they cost one by one.
                        self.region
                            .populate(places.touched.max(place.start), place.end);
                        places.touched = place.end;
                    }
                    return Some(Block {
                        heap: self.clone(),
                        slot,
                        place,
                        ours: true,
                    });
                }
                Err(now) => used = now,
            }
        }
    }
}

/// The lowest place of whole pages for so many bytes between those that are taken.
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

/// A part of the heap that this process writes. Dropping it frees it, unless it was handed over.
#[derive(Debug)]
pub(super) struct Block {
    heap: Arc<Heap>,
    pub(super) slot: usize,
    place: Range<usize>,
    ours: bool,
}

impl Block {
    pub(super) fn capacity(&self) -> usize {
        self.place.len()
    }

    pub(super) fn offset(&self) -> usize {
        self.place.start
    }

    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(
            at + bytes.len() <= self.capacity(),
            "a write outside of its block"
        );
        self.heap.region.write(self.place.start + at, bytes);
    }

    /// Copies what was written here to another place.
    pub(super) fn copy_to(&self, length: usize, write: impl FnMut(usize, &[u8])) {
        self.heap.region.copy_to(self.place.start, length, write);
    }

    /// The receiver frees it from now on.
    pub(super) fn hand_over(mut self) {
        self.ours = false;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.ours {
            free(&self.heap.region, self.slot);
        }
    }
}

/// Either side: what lies in this slot is not needed any more.
pub(super) fn free(region: &Region, slot: usize) {
    region
        .atomic(HEAP)
        .fetch_and(!(1 << slot), Ordering::SeqCst);
}

/// The receiver: returns the memory of the heap's first bytes to the system, if nothing lies there. The sender must
/// be told of the room: it may have found the heap shut.
pub(super) fn give_back(region: &Region, touched: usize) -> bool {
    let word = region.atomic(HEAP);
    if word
        .compare_exchange(0, SHUT, Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        return false;
    }
    region.forget(HEAP_START, touched.min(region.len() - HEAP_START));
    word.fetch_and(!SHUT, Ordering::SeqCst);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::layout;

    fn heap() -> Arc<Heap> {
        Arc::new(Heap::new(layout::region().unwrap()))
    }

    #[test]
    fn gaps_are_found_from_below() {
        let gap = |taken: &[Range<usize>], length| lowest_gap(taken.to_vec(), 0..10 * PAGE, length);
        assert_eq!(gap(&[], 1), Some(0..PAGE));
        assert_eq!(
            gap(&[0..PAGE, 2 * PAGE..3 * PAGE], PAGE),
            Some(PAGE..2 * PAGE)
        );
        assert_eq!(
            gap(&[2 * PAGE..3 * PAGE, 0..PAGE], PAGE + 1),
            Some(3 * PAGE..5 * PAGE)
        );
        assert_eq!(gap(&[PAGE..5 * PAGE, 5 * PAGE..10 * PAGE], 2 * PAGE), None);
        assert_eq!(gap(&[], usize::MAX), None);
    }

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let heap = heap();
        let mut blocks: Vec<Block> = (0..SLOTS)
            .map(|n| heap.allocate(n * 10_000 + 1).unwrap())
            .collect();
        assert!(heap.allocate(1).is_none(), "there are no more slots");
        let mut places: Vec<_> = blocks.iter().map(|block| block.place.clone()).collect();
        places.sort_by_key(|place| place.start);
        assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let first = blocks.remove(0);
        let place = first.place.clone();
        drop(first);
        assert_eq!(heap.allocate(1).unwrap().place, place);
    }

    #[test]
    fn what_is_handed_over_stays_until_the_receiver_frees_it() {
        let heap = heap();
        let block = heap.allocate(100).unwrap();
        let (slot, place) = (block.slot, block.place.clone());
        block.write(0, b"kept");
        block.hand_over();
        assert_ne!(heap.allocate(100).unwrap().place, place);
        assert!(!give_back(&heap.region, PAGE));
        free(&heap.region, slot);
        assert!(give_back(&heap.region, PAGE));
        assert_eq!(heap.allocate(100).unwrap().place, place);
        let mut bytes = [1; 4];
        heap.region.read(place.start, &mut bytes);
        assert_eq!(bytes, [0; 4], "its memory was given back");
    }

    #[test]
    fn a_shut_heap_gives_nothing() {
        let heap = heap();
        heap.region.atomic(HEAP).store(SHUT, Ordering::SeqCst);
        assert!(heap.allocate(1).is_none());
        // Bits that the sender never set are the receiver's own loss.
        heap.region.atomic(HEAP).store(!SHUT, Ordering::SeqCst);
        assert!(heap.allocate(1).is_none());
    }
}
