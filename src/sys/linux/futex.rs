//! Sleeping on a word of shared memory until a thread of any process wakes its sleepers.

use std::sync::atomic::AtomicU32;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::thread::futex::{Flags, wait, wake};

/// How a sleep on a word ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FutexWait {
    /// The thread was woken, perhaps spuriously.
    Woken,
    /// The word had another value, so the thread did not sleep.
    Changed,
    /// The deadline has passed.
    TimedOut,
}

/// Sleeps while the word is `expected`, until it is woken or the deadline passes.
pub(crate) fn futex_sleep(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> FutexWait {
    let timeout = deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: left.subsec_nanos().into(),
        }
    });
    // Not private: the sleepers of one word are in several processes.
    match wait(word, Flags::empty(), expected, timeout.as_ref()) {
        Err(Errno::TIMEDOUT) => FutexWait::TimedOut,
        Err(Errno::AGAIN) => FutexWait::Changed,
        _ => FutexWait::Woken,
    }
}

/// Like [`futex_sleep`], and returns `false` only at the deadline.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> bool {
    futex_sleep(word, expected, deadline) != FutexWait::TimedOut
}

/// Wakes one thread that sleeps on the word. Returns whether there was one.
pub(crate) fn futex_wake_one(word: &AtomicU32) -> bool {
    // It fails only for an invalid address.
    wake(word, Flags::empty(), 1).is_ok_and(|woken| woken > 0)
}

/// Wakes all threads that sleep on the word. Returns whether there was one.
pub(crate) fn futex_wake_all(word: &AtomicU32) -> bool {
    wake(word, Flags::empty(), i32::MAX as u32).is_ok_and(|woken| woken > 0)
}
