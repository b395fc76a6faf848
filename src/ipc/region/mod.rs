//! A region of memory that two processes map: words that both access, bytes that one writes.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicUsize, Ordering,
};
pub(crate) use std::sync::atomic::{AtomicU64, fence};
use std::sync::{Arc, Mutex};

use crate::sys::{self, Mapping, MemoryFacts, lock};

mod label;
mod reader;

pub(crate) use reader::Reader;

/// Shared memory as it is held and sent: a descriptor, which need not be mapped. Its length never
/// changes, whatever the process that made it does. Clones share the descriptor.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<MemoryFile>);

#[derive(Debug)]
struct MemoryFile {
    file: OwnedFd,
    facts: MemoryFacts,
    /// The mapping that [`Memory::map_ahead`] made, until it is used.
    ahead: Mutex<Option<Mapping>>,
}

impl MemoryFile {
    fn new(file: OwnedFd, facts: MemoryFacts) -> MemoryFile {
        MemoryFile { file, facts, ahead: Mutex::new(None) }
    }
}

/// When the pages of new memory are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    AtOnce,
    WhenWritten,
}

impl Memory {
    /// Wraps a descriptor from another process. Returns an error unless it is memory that no
    /// process can cut.
    pub(crate) fn adopt(file: OwnedFd) -> io::Result<Memory> {
        let facts = sys::check_memory(file.as_fd())?;
        Ok(Memory(Arc::new(MemoryFile::new(file, facts))))
    }

    /// Creates memory of zeroes, with a label if there is one.
    fn new(length: usize, pages: Pages, label: Option<u64>) -> io::Result<Memory> {
        let total = label.map_or(Some(length), |_| label::total(length));
        let total = total.ok_or(io::ErrorKind::OutOfMemory)?;
        let file = match pages {
            Pages::AtOnce => sys::whole_memory(total)?,
            Pages::WhenWritten => sys::sparse_memory(total)?,
        };
        if let Some(label) = label {
            label::write(file.as_fd(), label, length)?;
        }
        let facts = MemoryFacts { length: total, is_constant: false };
        Ok(Memory(Arc::new(MemoryFile::new(file, facts))))
    }

    /// Wraps any file, as a process that follows no rules would send it.
    #[cfg(test)]
    pub(crate) fn unchecked(file: impl Into<OwnedFd>) -> Memory {
        let facts = MemoryFacts { length: 0, is_constant: false };
        Memory(Arc::new(MemoryFile::new(file.into(), facts)))
    }

    /// Creates memory of zeroes. Parts of it are mapped, and their pages allocated, when they are
    /// used.
    pub(crate) fn sparse(length: usize, label: u64) -> io::Result<Memory> {
        let memory = Memory::new(length, Pages::WhenWritten, Some(label))?;
        sys::seal_seals(memory.as_fd())?;
        Ok(memory)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.facts.length
    }

    /// Maps it, if its length is one that its kind of content can have.
    pub(crate) fn map_within(&self, lengths: RangeInclusive<usize>) -> io::Result<Region> {
        if lengths.contains(&self.len()) {
            self.map()
        } else {
            Err(invalid("shared memory has an unexpected length"))
        }
    }

    /// Like [`map_within`](Memory::map_within), for a process that does not send the memory on: the
    /// region keeps no descriptor.
    pub(crate) fn map_and_close(self, lengths: RangeInclusive<usize>) -> io::Result<Region> {
        let mut region = self.map_within(lengths)?;
        region.memory = None;
        Ok(region)
    }

    /// Maps all of it.
    pub(crate) fn map(&self) -> io::Result<Region> {
        self.map_part(self.len())
    }

    /// Maps the content, if its maker has labelled it like this.
    pub(crate) fn map_labelled(&self, label: u64) -> io::Result<Region> {
        self.map_part(self.labelled_length(label)?)
    }

    /// Like [`map_labelled`](Memory::map_labelled), for memory that no process can change any more.
    /// An error if a process could. The mapping must not be written.
    pub(crate) fn map_constant(&self, label: u64) -> io::Result<Region> {
        let length = self.labelled_length(label)?;
        if !self.0.facts.is_constant {
            return Err(invalid("shared memory could be changed by the process that made it"));
        }
        Ok(self.region(self.mapping(length)?, length))
    }

    /// Maps all of it, for the call that maps it next. A process that has too few addresses learns
    /// that here, while the thing that holds the memory can still stay where it is.
    pub(crate) fn map_ahead(&self) -> io::Result<()> {
        let mapping = self.mapping(self.len())?;
        *lock(&self.0.ahead) = Some(mapping);
        Ok(())
    }

    /// Returns a mapping of at least `length` bytes. It can be written if the memory can.
    fn mapping(&self, length: usize) -> io::Result<Mapping> {
        if let Some(mapping) = lock(&self.0.ahead).take() {
            return Ok(mapping);
        }
        // A mapping cannot be empty, and no memory is.
        let length = length.max(1);
        match self.0.facts.is_constant {
            true => Mapping::constant(self.as_fd(), length),
            false => Mapping::new(self.as_fd(), length),
        }
    }

    /// Returns the length of its content, if its maker has labelled it like this.
    pub(crate) fn labelled_length(&self, label: u64) -> io::Result<usize> {
        label::read(self.as_fd(), self.len(), label)
            .ok_or_else(|| invalid("the shared memory holds another type"))
    }

    /// Maps the first `length` bytes.
    pub(crate) fn map_part(&self, length: usize) -> io::Result<Region> {
        if self.0.facts.is_constant {
            return Err(invalid("shared memory cannot be written"));
        }
        Ok(self.region(self.mapping(length)?, length))
    }

    /// Returns whole pages of this part to the system, mapped or not. They read as zeroes
    /// afterwards. If the system refuses, they stay as they are.
    pub(crate) fn forget(&self, offset: usize, length: usize) {
        let _ = sys::deallocate(self.as_fd(), offset, length);
    }

    fn region(&self, mapping: Mapping, length: usize) -> Region {
        Region { base: mapping.base(), length, memory: Some(self.clone()), _mapping: mapping }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

/// One mapping of shared memory. The memory is freed when the last process gives it up.
pub(crate) struct Region {
    base: *mut u8,
    length: usize,
    /// `None` if the memory is neither sent on nor extended.
    memory: Option<Memory>,
    _mapping: Mapping,
}

// SAFETY: the mapping belongs to `_mapping`, which is `Send + Sync`, and lives as long as it does.
// All access goes through the methods below, which use atomics or copies bounded by `length`, or
// are `unsafe`.
unsafe impl Send for Region {}
// SAFETY: as above; `read` and `write` argue what two threads may do at once to the same bytes.
unsafe impl Sync for Region {}

impl Region {
    /// Creates a region of zeroes. All of its pages are allocated, so no access to it can fail.
    pub(crate) fn new(length: usize) -> io::Result<Region> {
        let memory = Memory::new(length, Pages::AtOnce, None)?;
        sys::seal_seals(memory.as_fd())?;
        memory.map()
    }

    /// Like [`new`](Region::new), with a label that each process that receives it checks.
    pub(crate) fn labelled(length: usize, label: u64) -> io::Result<Region> {
        let memory = Memory::new(length, Pages::AtOnce, Some(label))?;
        sys::seal_seals(memory.as_fd())?;
        memory.map_part(length)
    }

    /// Like [`labelled`](Region::labelled), filled by `fill`, and constant afterwards.
    pub(crate) fn constant(
        length: usize,
        label: u64,
        fill: impl FnOnce(&Region),
    ) -> io::Result<Region> {
        let memory = Memory::new(length, Pages::AtOnce, Some(label))?;
        fill(&memory.map_part(length)?);
        sys::seal_content(memory.as_fd())?;
        let file = Arc::into_inner(memory.0).expect("the region has ended").file;
        Memory::adopt(file)?.map_constant(label)
    }

    /// Returns the memory, to send to another process.
    pub(crate) fn memory(&self) -> Memory {
        self.kept().clone()
    }

    fn kept(&self) -> &Memory {
        self.memory.as_ref().expect("only the memory of a client's regions is closed")
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Returns the word at this offset.
    #[inline]
    pub(crate) fn atomic(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset % 8 == 0 && offset.checked_add(8).is_some_and(|end| end <= self.length),
            "a word outside of its region"
        );
        // SAFETY: in bounds and aligned (checked above; a mapping starts on a page), alive as long
        // as `self`, and no code in either process accesses the bytes of a word except as this
        // atomic.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    /// Returns the number at this offset, which every process may change at any time.
    #[inline]
    pub(crate) fn number<A: Number>(&self, offset: usize) -> &A {
        let size = size_of::<A>();
        assert!(
            offset % size == 0 && offset.checked_add(size).is_some_and(|end| end <= self.length),
            "a number outside of its region"
        );
        // SAFETY: in bounds and aligned (checked above; a mapping starts on a page), alive as long
        // as `self`, and any bits are a value of an atomic integer.
        unsafe { &*self.base.add(offset).cast::<A>() }
    }

    /// Returns the numbers in this part, which every process may change at any time.
    #[inline]
    pub(crate) fn numbers<A: Number>(&self, offset: usize, count: usize) -> &[A] {
        let end = count.checked_mul(size_of::<A>()).and_then(|length| length.checked_add(offset));
        assert!(
            offset % size_of::<A>() == 0 && end.is_some_and(|end| end <= self.length),
            "numbers outside of their region"
        );
        // SAFETY: as in `number`, for each of them.
        unsafe { std::slice::from_raw_parts(self.base.add(offset).cast::<A>(), count) }
    }

    /// Copies elements of this size out, while other processes may write them. Each element is read
    /// in [words](word_of), each of which is old or new.
    pub(crate) fn load(&self, offset: usize, element: usize, bytes: &mut [u8]) {
        match word_of(element) {
            8 => self.load_words::<AtomicU64>(offset, bytes),
            4 => self.load_words::<AtomicU32>(offset, bytes),
            2 => self.load_words::<AtomicU16>(offset, bytes),
            _ => self.load_words::<AtomicU8>(offset, bytes),
        }
    }

    /// Copies elements of this size in, while other processes may read them; see
    /// [`load`](Region::load).
    pub(crate) fn store(&self, offset: usize, element: usize, bytes: &[u8]) {
        match word_of(element) {
            8 => self.store_words::<AtomicU64>(offset, bytes),
            4 => self.store_words::<AtomicU32>(offset, bytes),
            2 => self.store_words::<AtomicU16>(offset, bytes),
            _ => self.store_words::<AtomicU8>(offset, bytes),
        }
    }

    fn load_words<A: Number>(&self, offset: usize, bytes: &mut [u8]) {
        let words = self.numbers::<A>(offset, bytes.len() / size_of::<A>());
        for (word, bytes) in words.iter().zip(bytes.chunks_exact_mut(size_of::<A>())) {
            word.load_bytes(bytes);
        }
    }

    fn store_words<A: Number>(&self, offset: usize, bytes: &[u8]) {
        let words = self.numbers::<A>(offset, bytes.len() / size_of::<A>());
        for (word, bytes) in words.iter().zip(bytes.chunks_exact(size_of::<A>())) {
            word.store_bytes(bytes);
        }
    }

    /// Returns the address of this part.
    #[inline]
    pub(crate) fn address(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= self.length),
            "a part outside of its region"
        );
        // SAFETY: in bounds, checked above.
        unsafe { self.base.add(offset) }
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(
            offset.checked_add(bytes.len()).is_some_and(|end| end <= self.length),
            "a read outside of its region"
        );
        // SAFETY: in bounds (checked above), and `bytes` is not part of the mapping. In a ring, no
        // process writes these bytes in the meantime, except during a recall, or if the peer is
        // hostile: the copy is then torn, and is dropped or checked before use. In a lock, the
        // caller holds the lock. Any bytes are valid `u8`s.
        unsafe { copy(self.base.add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Appends a copy of the bytes to `bytes`.
    pub(crate) fn read_behind(&self, offset: usize, count: usize, bytes: &mut Vec<u8>) {
        assert!(
            offset.checked_add(count).is_some_and(|end| end <= self.length),
            "a read outside of its region"
        );
        bytes.reserve(count);
        let length = bytes.len();
        if count >= HUGE {
            sys::expect_much(bytes.spare_capacity_mut());
        }
        // SAFETY: in bounds (checked above), into room that was reserved, which is not part of the
        // mapping; the copy initializes `count` bytes there. `read` argues who may write in the
        // meantime.
        unsafe {
            copy(self.base.add(offset), bytes.as_mut_ptr().add(length), count);
            bytes.set_len(length + count);
        }
    }

    /// Copies bytes out in parts, and passes each part to `write` with its place among the bytes.
    pub(crate) fn copy_to(
        &self,
        offset: usize,
        length: usize,
        mut write: impl FnMut(usize, &[u8]),
    ) {
        let mut part = vec![0; length.min(1 << 20)];
        let mut at = 0;
        while at < length {
            let now = part.len().min(length - at);
            self.read(offset + at, &mut part[..now]);
            write(at, &part[..now]);
            at += now;
        }
    }

    /// Returns a reader of this part.
    pub(crate) fn reader(&self, offset: usize, length: usize) -> Reader<'_> {
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= self.length),
            "a reader outside of its region"
        );
        Reader::new(self, offset, length)
    }

    /// Allocates the pages of this part. From then on, writing them cannot fail.
    pub(crate) fn populate(&self, start: usize, end: usize) -> io::Result<()> {
        assert!(start <= end && end <= self.length, "outside of its region");
        sys::allocate(self.kept().as_fd(), start, end - start)?;
        // Mapping all pages at once costs less than mapping one after the other. A system that
        // cannot do it (before Linux 5.14) maps them when they are written.
        // SAFETY: in bounds (checked above); nothing changes except that pages are mapped.
        unsafe {
            libc::madvise(self.base.add(start).cast(), end - start, libc::MADV_POPULATE_WRITE)
        };
        Ok(())
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset.checked_add(bytes.len()).is_some_and(|end| end <= self.length),
            "a write outside of its region"
        );
        // SAFETY: in bounds (checked above), and `bytes` is not part of the mapping. In a ring each
        // byte belongs to one writer at a time; `read` argues who may read it in the meantime.
        unsafe { copy(bytes.as_ptr(), self.base.add(offset), bytes.len()) }
    }
}

/// Copies in parts that are short enough for the C library's vector instructions. The C library
/// copies longer ones with `rep movsb`. On some processors, that takes ten times as long if the
/// cache lines that it writes are in another processor's cache.
unsafe fn copy(from: *const u8, to: *mut u8, count: usize) {
    const PART: usize = 2048;
    for at in (0..count).step_by(PART) {
        // SAFETY: a part of what the caller vouches for.
        unsafe { std::ptr::copy_nonoverlapping(from.add(at), to.add(at), PART.min(count - at)) };
    }
}

/// Copies of at least this many bytes ask for large pages.
const HUGE: usize = 8 << 20;

/// An atomic integer.
///
/// # Safety
///
/// Any bytes must be a value of it.
pub(crate) unsafe trait Number {
    /// Copies the number into `bytes`, which are as many as it has.
    fn load_bytes(&self, bytes: &mut [u8]);

    /// Copies `bytes`, which are as many as the number has, into the number.
    fn store_bytes(&self, bytes: &[u8]);
}

macro_rules! numbers {
    ($($number:ident $integer:ident)+) => {$(
        // SAFETY: an atomic integer has the layout of its integer, of which any bytes are a value.
        unsafe impl Number for $number {
            #[inline]
            fn load_bytes(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.load(Ordering::Relaxed).to_ne_bytes());
            }

            #[inline]
            fn store_bytes(&self, bytes: &[u8]) {
                let bytes = bytes.try_into().expect("as many bytes as the number has");
                self.store($integer::from_ne_bytes(bytes), Ordering::Relaxed);
            }
        }
    )+};
}

numbers! {
    AtomicU8 u8 AtomicU16 u16 AtomicU32 u32 AtomicU64 u64 AtomicUsize usize
    AtomicI8 i8 AtomicI16 i16 AtomicI32 i32 AtomicI64 i64 AtomicIsize isize
}

/// Returns the size of the words in which elements of this size are read and written: the largest
/// power of two, up to 8, that divides it.
///
/// It depends on the element alone. Two atomic accesses of different sizes to the same bytes are a
/// data race, so an access must not use larger words merely because its elements are many or well
/// aligned.
pub(crate) fn word_of(element: usize) -> usize {
    1 << element.trailing_zeros().min(3)
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Returns memory with a copy of `bytes`.
pub(crate) fn memory_from(bytes: &[u8]) -> io::Result<Memory> {
    let region = Region::new(bytes.len())?;
    region.write(0, bytes);
    Ok(region.memory())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_element_depend_on_its_size_alone() {
        let sizes = [1, 2, 3, 4, 6, 7, 8, 12, 16, 20, 24, 40];
        assert_eq!(sizes.map(word_of), [1, 2, 1, 4, 2, 1, 8, 4, 8, 4, 8, 8]);
        let bytes: Vec<u8> = (1..=48).collect();
        for element in sizes {
            // Miri allows words of only one size in a memory.
            let region = Region::new(64).unwrap();
            let count = 48 / element * element;
            region.store(8 * element.min(2), element, &bytes[..count]);
            let mut copy = vec![0; count];
            region.load(8 * element.min(2), element, &mut copy);
            assert_eq!(copy, bytes[..count]);
        }
    }
}
