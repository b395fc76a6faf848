//! The resources that run short.

use std::fs::File;

use serde::{Deserialize, Serialize};

use super::calls::Call;

/// The resource that is short in this process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Shortage {
    /// This many descriptors are left.
    Descriptors(usize),
    /// No thread or process can be started.
    Threads,
    /// This many MiB of addresses are left.
    Addresses(u64),
    /// Files, those in memory too, may have this many bytes.
    FileSize(u64),
}

pub(super) fn all(is_full: bool) -> Vec<Shortage> {
    let mut all = vec![Shortage::Threads];
    let (descriptors, addresses): (&[usize], &[u64]) = match is_full {
        true => (&[0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20], &[6, 20, 70, 140, 300]),
        false => (&[0, 3], &[20]),
    };
    all.extend(descriptors.iter().map(|&left| Shortage::Descriptors(left)));
    all.extend(addresses.iter().map(|&left| Shortage::Addresses(left)));
    all.extend([0, 4096, 1 << 20].map(Shortage::FileSize));
    all
}

impl Shortage {
    /// Returns whether a pair of call and shortage is in the sample: one pair for each call and
    /// each shortage, and all calls without descriptors.
    pub(super) fn is_in_the_sample(self, call: Call, is_warm: bool) -> bool {
        match self {
            Shortage::Descriptors(left) => is_warm == (left == 0),
            Shortage::Threads => !is_warm,
            Shortage::Addresses(_) => call as usize % 2 == usize::from(is_warm),
            Shortage::FileSize(size) => is_warm && call as u64 % 3 == size % 3,
        }
    }
}

/// A shortage that lasts until it is ended.
pub(super) enum Ongoing {
    Files(Vec<File>),
    Limit(libc::__rlimit_resource_t),
}

impl Shortage {
    /// `None` if this user cannot bring it about.
    pub(super) fn begin(self) -> Option<Ongoing> {
        Some(match self {
            Shortage::Descriptors(left) => {
                let mut files: Vec<File> =
                    std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
                files.truncate(files.len().saturating_sub(left));
                Ongoing::Files(files)
            }
            Shortage::Threads => {
                become_a_user_without_processes()?;
                limited(libc::RLIMIT_NPROC, 1)
            }
            Shortage::Addresses(mebibytes) => leave_addresses(mebibytes << 20),
            Shortage::FileSize(bytes) => limited(libc::RLIMIT_FSIZE, bytes),
        })
    }
}

impl Ongoing {
    pub(super) fn end(self) {
        match self {
            Ongoing::Files(files) => drop(files),
            Ongoing::Limit(resource) => limit(resource, None),
        }
    }
}

/// Lifts what a process inherited of its parent's shortage.
pub(super) fn lift_inherited() {
    limit(libc::RLIMIT_AS, None);
    limit(libc::RLIMIT_FSIZE, None);
    limit(libc::RLIMIT_NPROC, None);
}

/// Leaves this process that many bytes of addresses.
pub(super) fn leave_addresses(bytes: u64) -> Ongoing {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    limited(libc::RLIMIT_AS, pages * 4096 + bytes)
}

fn limited(resource: libc::__rlimit_resource_t, value: u64) -> Ongoing {
    limit(resource, Some(value));
    Ongoing::Limit(resource)
}

fn limit(resource: libc::__rlimit_resource_t, value: Option<u64>) {
    // SAFETY: the struct is filled by `getrlimit` before it is read; only the soft limit changes.
    unsafe {
        let mut limits: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(resource, &mut limits), 0);
        limits.rlim_cur = value.unwrap_or(limits.rlim_max);
        assert_eq!(libc::setrlimit(resource, &limits), 0);
    }
}

/// The limit of processes holds for others than root, and counts those of the user everywhere.
fn become_a_user_without_processes() -> Option<()> {
    let user = 1_000_000 + std::process::id();
    // SAFETY: takes numbers. A process that has changed its user cannot read its own `/proc`,
    // unless it is made dumpable again.
    unsafe {
        if libc::geteuid() != 0 {
            return None;
        }
        assert_eq!(libc::setresuid(user, user, user), 0);
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    }
    Some(())
}
