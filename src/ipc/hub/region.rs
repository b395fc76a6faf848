//! The layout of the region of an attachment.

use crate::ipc::ring::RING_BYTES;

/// The number of cache lines with words, after the two rings of a region.
const LINES: usize = 5;
const LINE: usize = 128;

/// Offset of the ring from client to hub.
pub(crate) const UP_RING: usize = 0;
/// Offset of the ring from hub to client.
pub(crate) const DOWN_RING: usize = RING_BYTES;
pub(crate) const REGION_BYTES: usize = 2 * RING_BYTES + LINES * LINE;

/// Returns the offset of a line of words.
pub(crate) const fn line(index: usize) -> usize {
    assert!(index < LINES);
    2 * RING_BYTES + index * LINE
}
