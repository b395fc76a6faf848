//! The flag with which one side of a region says that it sleeps, and wants a doorbell.
//!
//! *Write, then look at the other's flag* against *set the flag, then look again*: whatever the order of the two sides,
//! one of them sees the other. `tests/model` tries all of them.

use std::sync::atomic::Ordering;

use crate::failpoints;
use crate::ipc::region::{AtomicU64, fence};

/// Says that this side sleeps. What it waits for must be looked at once more afterwards.
pub(crate) fn arm(flag: &AtomicU64) {
    flag.store(1, Ordering::Relaxed);
    if !failpoints::mistake("doorbell.relaxed") {
        fence(Ordering::SeqCst);
    }
}

/// Says that this side is awake; whether somebody has rung, or is about to.
pub(crate) fn disarm(flag: &AtomicU64) -> bool {
    flag.swap(0, Ordering::SeqCst) == 0
}

/// Whether the side that this flag belongs to sleeps, and nobody has rung yet: then the caller must. What that
/// side waits for must have been written sequentially consistent (as `publish` of a ring does).
#[inline]
pub(crate) fn claim(flag: &AtomicU64) -> bool {
    flag.load(Ordering::SeqCst) == 1 && flag.swap(0, Ordering::SeqCst) == 1
}
