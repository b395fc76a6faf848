//! Shared memory that cannot be cut: files in memory, sealed at their length.
//!
//! An access to a mapping beyond the end of its file, or to a page that cannot be allocated, raises
//! SIGBUS. So the process that makes a file seals it at its length, and each process that receives
//! it checks the seals before it maps the file. Pages are allocated before they are written: there
//! a failure is an error.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    fstatfs, ftruncate, memfd_create,
};
use rustix::mm::{self, MapFlags, ProtFlags, munmap};
use rustix::process::{Resource, getrlimit};

use super::poll::retry;
use crate::sys::with_signals_blocked;

/// The name of ipc-channel's memory, so that `close_inherited` recognizes it in a child.
const NAME: &str = "/ipc-channel-shared-memory.offspring";
/// Below this size, memory is requested without checking how much is available.
const LOOK_FROM: u64 = 16 << 20;
/// A file of this length can be neither shorter nor longer, and no process can change that.
const LENGTH_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Returns zeroes of this length, which no process can shrink. Pages are allocated when they are
/// first written. Other seals can still be added.
pub(crate) fn sparse_memory(length: usize) -> io::Result<OwnedFd> {
    let length = u64::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    if i64::try_from(length).is_err() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // Beyond this limit the system sends a fatal signal.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| length > limit) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let file = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, length)?;
    fcntl_add_seals(&file, LENGTH_SEALS)?;
    Ok(file)
}

/// Like [`sparse_memory`], with all pages allocated: no access to it can fail.
pub(crate) fn whole_memory(length: usize) -> io::Result<OwnedFd> {
    if length as u64 >= LOOK_FROM && length as u64 > available() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    if cfg!(miri) {
        return Ok(fs::File::open("/dev/null")?.into());
    }
    let file = sparse_memory(length)?;
    allocate(file.as_fd(), 0, length)?;
    Ok(file)
}

/// Allocates the pages of this part. From then on, writing them cannot fail.
pub(crate) fn allocate(file: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<()> {
    // A signal would make the call start over.
    with_signals_blocked(|| {
        Ok(fallocate(file, FallocateFlags::empty(), offset as u64, length as u64)?)
    })
}

/// Returns the pages of this part to the system.
pub(crate) fn deallocate(file: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<()> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, hole, offset as u64, length as u64)?)
}

/// Keeps every process from adding seals.
pub(crate) fn seal_seals(file: BorrowedFd<'_>) -> io::Result<()> {
    if cfg!(miri) {
        return Ok(());
    }
    Ok(fcntl_add_seals(file, SealFlags::SEAL)?)
}

/// Makes memory constant for every process, for ever. There must be no writable mapping of it.
pub(crate) fn seal_content(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::WRITE | SealFlags::SEAL)?)
}

/// Writes bytes into memory without mapping it.
pub(crate) fn write_at(file: BorrowedFd<'_>, offset: usize, bytes: &[u8]) -> io::Result<()> {
    let written = retry(|| rustix::io::pwrite(file, bytes, offset as u64))?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Reads bytes of memory without mapping it.
pub(crate) fn read_at(file: BorrowedFd<'_>, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
    let read = retry(|| rustix::io::pread(file, &mut *bytes, offset as u64))?;
    if read == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The properties of memory that came from another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryFacts {
    /// It never changes.
    pub(crate) length: usize,
    /// True if no process can change the memory any more.
    pub(crate) is_constant: bool,
}

/// Returns an error unless this is memory that no process can cut, and that is not empty.
pub(crate) fn check_memory(file: BorrowedFd<'_>) -> io::Result<MemoryFacts> {
    /// The file system of memory files. Those with huge pages are on another one, and may fail
    /// later.
    const TMPFS: u64 = 0x0102_1994;

    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    // Other files have no seals.
    let seals = fcntl_get_seals(file).map_err(|_| invalid("shared memory is another file"))?;
    if !seals.contains(LENGTH_SEALS) || fstatfs(file)?.f_type as u64 != TMPFS {
        return Err(invalid("shared memory could be cut by the process that made it"));
    }
    match usize::try_from(fstat(file)?.st_size) {
        Ok(length) if length > 0 => {
            Ok(MemoryFacts { length, is_constant: seals.contains(SealFlags::WRITE) })
        }
        _ => Err(invalid("shared memory is empty")),
    }
}

/// Returns how much memory is available. The system itself would grant more than there is, and kill
/// processes later.
fn available() -> u64 {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kilobytes = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        Some((kilobytes("MemAvailable:")? + kilobytes("SwapFree:")?) << 10)
    });
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups.lines().filter_map(left_in_group);
    groups.chain(system).min().unwrap_or(u64::MAX)
}

/// Returns how much memory a line of /proc/self/cgroup leaves to this process: the minimum over its
/// group and all groups above it.
fn left_in_group(line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (root, limit, usage) = match fields.next()? {
        "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        _ => return None,
    };
    let group = format!("{root}{}", fields.next()?);
    let number = |directory: &str, name: &str| {
        fs::read_to_string(format!("{directory}/{name}")).ok()?.trim().parse::<u64>().ok()
    };
    let mut directory = group.trim_end_matches('/');
    let mut least = None;
    while directory.starts_with(root) {
        if let (Some(limit), Some(usage)) = (number(directory, limit), number(directory, usage)) {
            let left = limit.saturating_sub(usage.saturating_sub(cached_files(directory)));
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
        directory = directory.rsplit_once('/')?.0;
    }
    least
}

/// Returns the size of a group's page cache, which the system frees when memory is short.
fn cached_files(group: &str) -> u64 {
    let stat = fs::read_to_string(format!("{group}/memory.stat")).unwrap_or_default();
    let value = |name: &str| {
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == name)?.1.parse::<u64>().ok()
    };
    let both = |prefix: &str| {
        Some(value(&format!("{prefix}inactive_file"))? + value(&format!("{prefix}active_file"))?)
    };
    both("total_").or_else(|| both("")).unwrap_or(0)
}

/// Announces that all of this will be written, so that the system allocates large pages if it has
/// them.
pub(crate) fn expect_much(bytes: &mut [MaybeUninit<u8>]) {
    const LARGE: usize = 2 << 20;
    let skip = bytes.as_ptr().align_offset(LARGE);
    let Some(inside) = bytes.get_mut(skip..) else {
        return;
    };
    // SAFETY: whole pages inside the slice, in memory of this process. Only the size of its pages
    // changes, not their content.
    unsafe {
        libc::madvise(inside.as_mut_ptr().cast(), inside.len() / LARGE * LARGE, libc::MADV_HUGEPAGE)
    };
}

/// A mapping of shared memory.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: memory is mapped for the whole process. Each place that accesses it argues why it may.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes.
    pub(crate) fn new(file: BorrowedFd<'_>, length: usize) -> io::Result<Mapping> {
        Mapping::with(file, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// Maps the first `length` bytes of memory that no process can change, for reading only.
    pub(crate) fn constant(file: BorrowedFd<'_>, length: usize) -> io::Result<Mapping> {
        // Older systems refuse to map memory as shared if it is sealed against writing. A private
        // mapping is equivalent if no process can change the memory.
        Mapping::with(file, length, ProtFlags::READ, MapFlags::PRIVATE)
    }

    fn with(
        file: BorrowedFd<'_>,
        length: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<Mapping> {
        // Miri cannot map files. The code that runs there maps each memory once.
        let at = std::ptr::null_mut();
        #[cfg(not(miri))]
        // SAFETY: a new mapping at an address that the system chooses overlaps nothing.
        let base = unsafe { mm::mmap(at, length, protection, flags, file, 0)? };
        // Miri cannot map files. The code that runs there maps each memory once, so new memory is
        // equivalent.
        #[cfg(miri)]
        // SAFETY: as above.
        let base = unsafe {
            let _ = (file, flags);
            mm::mmap_anonymous(at, length, protection, MapFlags::PRIVATE)?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, length })
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and all users of it borrow this value.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        for length in [usize::MAX, isize::MAX as usize, 1 << 46] {
            assert_eq!(whole_memory(length).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        }
        assert!(sparse_memory(usize::MAX).is_err());
    }

    #[test]
    fn nobody_cuts_it() {
        for file in [sparse_memory(8192).unwrap(), whole_memory(8192).unwrap()] {
            assert!(ftruncate(&file, 0).is_err());
            assert!(ftruncate(&file, 1 << 20).is_err());
            assert_eq!(
                check_memory(file.as_fd()).unwrap(),
                MemoryFacts { length: 8192, is_constant: false }
            );
        }
    }

    #[test]
    fn pages_are_there_before_they_are_written() {
        let pages = |file: &OwnedFd| fstat(file).unwrap().st_blocks * 512;
        let file = whole_memory(1 << 20).unwrap();
        assert_eq!(pages(&file), 1 << 20);
        let file = sparse_memory(1 << 20).unwrap();
        assert_eq!(pages(&file), 0);
        allocate(file.as_fd(), 4096, 8192).unwrap();
        assert_eq!(pages(&file), 8192);
        deallocate(file.as_fd(), 4096, 8192).unwrap();
        assert_eq!(pages(&file), 0);
    }

    #[test]
    fn what_could_be_cut_or_is_empty_or_no_memory_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let refused = |file: &dyn AsFd| {
            let refused = check_memory(file.as_fd()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
        };
        let memory = memfd_create("test", flags).unwrap();
        ftruncate(&memory, 4096).unwrap();
        refused(&memory);
        fcntl_add_seals(&memory, SealFlags::GROW).unwrap();
        refused(&memory);
        fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
        assert_eq!(check_memory(memory.as_fd()).unwrap().length, 4096);
        let empty = memfd_create("test", flags).unwrap();
        fcntl_add_seals(&empty, LENGTH_SEALS).unwrap();
        refused(&empty);
        refused(&File::open("/dev/zero").unwrap());
        refused(&File::open("/proc/self/exe").unwrap());
        refused(&crate::sys::packet_pair().unwrap().0);
        let unsealable = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&unsealable, 4096).unwrap();
        refused(&unsealable);
    }

    #[test]
    fn constant_memory_changes_by_no_way() {
        let memory = whole_memory(4096).unwrap();
        let writable = Mapping::new(memory.as_fd(), 4096).unwrap();
        assert!(seal_content(memory.as_fd()).is_err(), "it is mapped to be written");
        drop(writable);
        seal_content(memory.as_fd()).unwrap();
        assert!(check_memory(memory.as_fd()).unwrap().is_constant);
        assert!(Mapping::new(memory.as_fd(), 4096).is_err());
        assert!(rustix::io::pwrite(&memory, b"x", 0).is_err());
        Mapping::constant(memory.as_fd(), 4096).unwrap();
    }

    #[test]
    fn groups_that_do_not_limit_memory_say_nothing() {
        assert_eq!(left_in_group("7:blkio:/"), None);
        assert_eq!(left_in_group("no line of such a file"), None);
    }
}
