//! What stands where in the region that one sender shares with the receiver.

use std::io;
use std::sync::Arc;

use crate::ipc::region::Region;
use crate::ipc::ring::RING_BYTES;

const LINE: usize = 128;
/// Receiver: it sleeps.
pub(super) const READER_SLEEPS: usize = RING_BYTES;
/// Sender: it waits for room.
pub(super) const WRITER_SLEEPS: usize = RING_BYTES + LINE;
/// Sender: it is done; nothing follows.
pub(super) const DONE: usize = RING_BYTES + 2 * LINE;
/// Receiver: so many parcels were taken.
pub(super) const PARCELS_TAKEN: usize = RING_BYTES + 3 * LINE;
/// Both: which slots of the heap are in use, and whether its memory is being given back.
pub(super) const HEAP: usize = RING_BYTES + 4 * LINE;
/// The heap begins here, on a page of its own; the words before it are all that must be there.
pub(super) const HEAP_START: usize = (RING_BYTES + 5 * LINE).next_multiple_of(4096);

/// Two messages of 64 MiB: while one is read the next is written, and more would only touch more memory. The longest
/// heap that can be had is taken: where a limit forbids much address space, large messages travel in memory of
/// their own.
const HEAP_BYTES: [usize; 3] = [129 << 20, 16 << 20, 0];

pub(super) fn region() -> io::Result<Arc<Region>> {
    let mut last = None;
    for heap in HEAP_BYTES {
        match Region::sparse(HEAP_START + heap) {
            Ok(region) => return Ok(Arc::new(region)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::OutOfMemory.into()))
}

/// An entry whose bytes are the message.
pub(super) const VALUE: u32 = 0;
/// An entry that means the next parcel.
pub(super) const PARCEL: u32 = 1;
/// An entry that says where in the heap the message lies: slot, offset and length.
pub(super) const LARGE: u32 = 2;

const KIND_BITS: u32 = 2;

/// The tag of an entry of this kind, whose message has this mark.
#[inline]
pub(super) fn tag(kind: u32, mark: Mark) -> u32 {
    kind | u32::from(mark.0) << KIND_BITS
}

/// Kind and mark.
#[inline]
pub(super) fn split_tag(tag: u32) -> (u32, Mark) {
    (
        tag & ((1 << KIND_BITS) - 1),
        Mark((tag >> KIND_BITS) as u16),
    )
}

/// A small number that goes with a message, outside of its bytes: at most [`Mark::MAX`]. What is sent by the public calls
/// has 0, and who receives by them does not see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) u16);

impl Mark {
    pub(crate) const MAX: u16 = u16::MAX >> KIND_BITS;
}

pub(super) fn large_entry(slot: usize, offset: usize, length: usize) -> [u8; 24] {
    let mut entry = [0; 24];
    for (part, number) in entry.chunks_exact_mut(8).zip([slot, offset, length]) {
        part.copy_from_slice(&(number as u64).to_le_bytes());
    }
    entry
}

/// Slot, offset and length of a large entry that lies in the heap of this region.
pub(super) fn large_of(entry: &[u8], region: &Region) -> Option<(usize, usize, usize)> {
    let number = |part: &[u8]| {
        part.try_into()
            .ok()
            .and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes)).ok())
    };
    let (slot, rest) = entry.split_at_checked(8)?;
    let (offset, length) = rest.split_at_checked(8)?;
    let (slot, offset, length) = (number(slot)?, number(offset)?, number(length)?);
    let inside = offset >= HEAP_START
        && offset
            .checked_add(length)
            .is_some_and(|end| end <= region.len());
    (slot < super::heap::SLOTS && inside).then_some((slot, offset, length))
}
