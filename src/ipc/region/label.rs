//! The label of memory, which says what the memory holds. The process that makes the memory writes
//! the label after the content.
//!
//! A handle says what its memory holds, but a handle can be forged, even by safe code: a custom
//! `Deserialize` can change what it passes on. So the memory says it as well, in a place that
//! cannot be accessed through any handle.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys;

/// The label and the length of the content, each in 8 bytes.
const BYTES: usize = 16;
/// Distinguishes a label from the content of memory that has none.
const MAGIC: u64 = 0x6f66_6673_7072_696e;

/// Returns the length of memory with a label for content of this length.
pub(in crate::ipc::region) fn total(content: usize) -> Option<usize> {
    content.checked_next_multiple_of(8)?.checked_add(BYTES)
}

pub(in crate::ipc::region) fn write(
    file: BorrowedFd<'_>,
    label: u64,
    content: usize,
) -> io::Result<()> {
    let bytes = [(label ^ MAGIC).to_ne_bytes(), (content as u64).to_ne_bytes()].concat();
    sys::write_at(file, content.next_multiple_of(8), &bytes)
}

/// Returns the length of the content of memory with this label.
pub(in crate::ipc::region) fn read(
    file: BorrowedFd<'_>,
    length: usize,
    label: u64,
) -> Option<usize> {
    let mut bytes = [[0; 8]; 2];
    sys::read_at(file, length.checked_sub(BYTES)?, bytes.as_flattened_mut()).ok()?;
    let [found, content] = bytes.map(u64::from_ne_bytes);
    let content = usize::try_from(content).ok()?;
    (found == label ^ MAGIC && total(content) == Some(length)).then_some(content)
}
