//! The poison of a lock: whether a holder of the lock died or panicked.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::PoisonError;
use crate::ipc::region::Region;

/// Offset of the flag in the region of every lock.
const POISON: usize = 4;
const PANICKED: u32 = 1;
const DIED: u32 = 2;

// Relaxed suffices: the flag is set before the lock is released or repaired, and checked after the
// lock was taken, so the lock word orders the two.

#[inline]
fn flag(region: &Region) -> &AtomicU32 {
    region.number(POISON)
}

pub(super) fn is_set(region: &Region) -> bool {
    flag(region).load(Ordering::Relaxed) != 0
}

pub(super) fn clear(region: &Region) {
    flag(region).store(0, Ordering::Relaxed);
}

/// For a holder whose process died. Call it before another thread can take the lock.
pub(super) fn by_death(region: &Region) {
    flag(region).store(DIED, Ordering::Relaxed);
}

/// For a guard whose thread panics, or whose value does not encode. Call it before the lock is
/// released.
pub(super) fn by_panic(region: &Region) {
    flag(region).store(PANICKED, Ordering::Relaxed);
}

/// Returns the guard, as an error if the lock is poisoned.
#[inline]
pub(super) fn check<G>(region: &Region, guard: G) -> Result<G, PoisonError<G>> {
    match flag(region).load(Ordering::Relaxed) {
        0 => Ok(guard),
        how => Err(PoisonError::new(guard, how == DIED)),
    }
}
