//! Shared memory whose pages exist: a sealed file in memory, all of whose pages are allocated
//! before it is mapped.
//!
//! Access to a mapping beyond the end of its file, or to a page that cannot be allocated, raises
//! SIGBUS. So pages are allocated here, where a failure is an error, and the file is sealed at its
//! length: no process that receives it can shrink it.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use crate::sys::{replace, with_signals_blocked};

/// The name of ipc-channel's memory, so that `close_inherited` recognizes it in a child.
const NAME: &str = "/ipc-channel-shared-memory.offspring";
const LINK: &str = "/memfd:/ipc-channel-shared-memory.";
/// Below this size, memory is requested without checking how much is available.
const LOOK_FROM: u64 = 16 << 20;

/// Returns zeroes of this length, which no process can shrink.
pub(crate) fn sealed_memory(length: usize) -> io::Result<OwnedFd> {
    let length = u64::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    if i64::try_from(length).is_err() || (length >= LOOK_FROM && length > available()) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // Beyond this limit the system sends a fatal signal.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| length > limit) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let file = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, length)?;
    // A signal would make the call start over.
    with_signals_blocked(|| fallocate(&file, FallocateFlags::empty(), 0, length))?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Returns an error if shared memory of this length cannot be created, where ipc-channel would
/// panic.
pub(crate) fn probe_shared_memory(length: usize) -> io::Result<()> {
    let memory = rustix::fs::memfd_create("offspring", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memory, length as u64)?;
    Ok(())
}

/// Returns shared memory of this length whose pages are allocated when they are first written. It
/// cannot shrink, so every process that maps it can access all of it.
pub(crate) fn sparse_memory(length: usize) -> io::Result<OwnedFd> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| limit < length as u64) {
        // Beyond this limit the system sends a fatal signal.
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create(SPARSE_NAME, flags)?;
    rustix::fs::ftruncate(&memory, length as u64)?;
    rustix::fs::fcntl_add_seals(
        &memory,
        rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW | rustix::fs::SealFlags::SEAL,
    )?;
    Ok(memory)
}

/// Like the name of ipc-channel's own memory, for `close_inherited`.
const SPARSE_NAME: &str = "/ipc-channel-shared-memory.sparse";

/// Returns how much memory is available. The system grants more than there is, and kills processes
/// later.
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

/// Returns what a line of /proc/self/cgroup leaves this process: the minimum over its group and all
/// groups above it.
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

/// Returns the size of a group's page cache, which the system gives up for memory.
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

/// Makes the descriptor of the memory that begins with `mark` a descriptor of `file`. `mark` is
/// unique.
///
/// ipc-channel sends only memory that it created itself, which is neither sealed nor allocated, and
/// does not expose its descriptor.
pub(crate) fn replace_marked(mark: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
    // Usually the lowest number that was free.
    let near = file.as_raw_fd() + 1;
    let is_marked = |fd: i32| {
        let link = fs::read_link(format!("/proc/self/fd/{fd}"));
        if !link.is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(LINK.as_bytes()))
        {
            return false;
        }
        // Through a descriptor of our own, because another thread may close that one at any time.
        let mut begin = vec![0; mark.len()];
        File::open(format!("/proc/self/fd/{fd}"))
            .and_then(|memory| memory.read_exact_at(&mut begin, 0))
            .is_ok_and(|()| begin == mark)
    };
    let found = if is_marked(near) {
        near
    } else {
        fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .find(|&fd| is_marked(fd))
            .ok_or_else(|| {
                io::Error::other("the memory's descriptor is not among this process's")
            })?
    };
    // The mark is unique, so this is the descriptor of memory that the caller holds, which stays
    // open.
    replace(found, file)
}

/// Announces that all of this will be written, so that the system allocates large pages if it has
/// them.
pub(crate) fn expect_much(bytes: &mut [MaybeUninit<u8>]) {
    const LARGE: usize = 2 << 20;
    let skip = bytes.as_ptr().align_offset(LARGE);
    let Some(inside) = bytes.get_mut(skip..) else {
        return;
    };
    // SAFETY: whole pages inside of the slice, in memory of this process. Only their size changes,
    // not their content.
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

// SAFETY: memory is mapped for the whole process. What may be done with it is argued where it is
// used.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(file: &OwnedFd, length: usize) -> io::Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the system chooses overlaps nothing.
        let base = unsafe {
            mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file.as_fd(), 0)?
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
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        for length in [usize::MAX, isize::MAX as usize, 1 << 46] {
            assert_eq!(sealed_memory(length).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        }
    }

    #[test]
    fn nobody_cuts_it() {
        let file = sealed_memory(8192).unwrap();
        assert!(ftruncate(&file, 0).is_err());
        assert!(ftruncate(&file, 1 << 20).is_err());
        assert_eq!(File::from(file).metadata().unwrap().len(), 8192);
    }

    #[test]
    fn groups_that_do_not_limit_memory_say_nothing() {
        assert_eq!(left_in_group("7:blkio:/"), None);
        assert_eq!(left_in_group("no line of such a file"), None);
    }
}
