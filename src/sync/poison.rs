//! Whether a holder died or panicked.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::PoisonError;
use crate::ipc::region::Region;

/// Where it stands in the regions of all locks.
const POISON: usize = 4;
const PANICKED: u32 = 1;
const DIED: u32 = 2;

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

/// A holder's process died. Before the lock is given to another.
pub(super) fn by_death(region: &Region) {
    flag(region).store(DIED, Ordering::Relaxed);
}

/// A guard's thread panics, or its value does not encode. Before the lock is released.
pub(super) fn by_panic(region: &Region) {
    flag(region).store(PANICKED, Ordering::Relaxed);
}

/// The guard, as an error if the lock is poisoned.
#[inline]
pub(super) fn check<G>(region: &Region, guard: G) -> Result<G, PoisonError<G>> {
    match flag(region).load(Ordering::Relaxed) {
        0 => Ok(guard),
        how => Err(PoisonError::new(guard, how == DIED)),
    }
}
