//! A region of memory that two processes map: words that both may touch, bytes that one writes.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;

use ipc_channel::ipc::IpcSharedMemory;

use crate::wire;

/// One mapping of shared memory. It ends with the last process that maps it.
pub(crate) struct Region {
    base: *mut u8,
    length: usize,
    memory: IpcSharedMemory,
}

// SAFETY: the mapping belongs to `memory`, which is `Send + Sync`, and lives as long as it does; all
// access goes through the methods below, which use atomics or copies bounded by `length`.
unsafe impl Send for Region {}
// SAFETY: as above; what two threads may do at once to the same bytes is argued at `read` and `write`.
unsafe impl Sync for Region {}

impl Region {
    /// A new region of zeroes.
    pub(crate) fn new(length: usize) -> io::Result<Region> {
        wire::memory_zeroed(length).map(Region::adopt)
    }

    /// A region that another process made.
    pub(crate) fn adopt(mut memory: IpcSharedMemory) -> Region {
        // SAFETY: only the address is kept; the slice itself is not used again, so no `&mut` to bytes
        // that the other process may write lives on.
        let bytes = unsafe { memory.deref_mut() };
        let (base, length) = (bytes.as_mut_ptr(), bytes.len());
        Region { base, length, memory }
    }

    /// The same memory, to be sent to another process.
    pub(crate) fn share(&self) -> io::Result<IpcSharedMemory> {
        wire::no_panic("shared memory", || self.memory.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The word at this offset.
    pub(crate) fn atomic(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset % 8 == 0 && offset.checked_add(8).is_some_and(|end| end <= self.length),
            "a word outside of its region"
        );
        // SAFETY: in bounds and aligned (checked above; a mapping starts on a page), alive as long as
        // `self`, and nobody in either process reaches the bytes of a word except as this atomic.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(
            offset.checked_add(bytes.len()).is_some_and(|end| end <= self.length),
            "a read outside of its region"
        );
        // SAFETY: in bounds (checked above), and `bytes` is no part of the mapping. The ring lets nobody
        // write these bytes meanwhile, except a recall (or a hostile peer): the copy is then torn, and
        // thrown away or checked before use; any bytes are valid `u8`.
        unsafe { std::ptr::copy_nonoverlapping(self.base.add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset.checked_add(bytes.len()).is_some_and(|end| end <= self.length),
            "a write outside of its region"
        );
        // SAFETY: in bounds (checked above), and `bytes` is no part of the mapping. The ring gives each
        // byte to one writer at a time; see `read` for who may look meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset), bytes.len()) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("length", &self.length).finish_non_exhaustive()
    }
}
