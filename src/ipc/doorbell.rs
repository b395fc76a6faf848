//! Sleep flags: how one side of a region asks the other for a doorbell.
//!
//! ```text
//!   sleeper                          writer
//!   flag = 1                         write the data   (sequentially consistent)
//!   fence                            if flag == 1 and swap(flag, 0) == 1:
//!   check for data, then sleep           ring
//! ```
//!
//! Each side stores, then loads what the other side stores. In the one total order of these four
//! accesses, one of the stores comes before both loads: either the sleeper's check sees the data,
//! or the writer sees the flag. Of several writers, one gets 1 from its swap. So each time the flag
//! is set, at most one doorbell is rung, and the socket that carries doorbells never fills up.
//! `tests/model` explores all orders.

use std::sync::atomic::Ordering;

use crate::failpoints;
use crate::ipc::region::{AtomicU64, fence};

/// Asks for a doorbell. The caller must check for data once more before it sleeps.
pub(crate) fn arm(flag: &AtomicU64) {
    arm_each([(flag, 1)]);
}

/// Sets several flags, each to a number other than 0. The writer that claims a flag gets its
/// number, and can report to the sleeper which flag it was.
pub(crate) fn arm_each<'a>(flags: impl IntoIterator<Item = (&'a AtomicU64, u64)>) {
    for (flag, number) in flags {
        flag.store(number, Ordering::Relaxed);
    }
    if !failpoints::is_mutated("doorbell.relaxed") {
        fence(Ordering::SeqCst);
    }
}

/// Withdraws the request. Returns whether a writer has claimed it, and so has rung or is about to.
pub(crate) fn disarm(flag: &AtomicU64) -> bool {
    flag.swap(0, Ordering::SeqCst) == 0
}

/// What a sleeper that polls active writers, and lets the others ring, knows about its own flag for
/// one writer.
///
/// The flag is set only while no doorbell can be on its way. So there is never more than one, even
/// if the sleeper finds what the writer has written by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FlagState {
    /// The flag is clear, and no doorbell is on its way. The sleeper polls.
    #[default]
    Clear,
    /// The flag was set. Whatever is written from now on comes with a doorbell.
    Armed,
    /// A writer has claimed the flag. Its doorbell has not been received yet.
    Claimed,
}

impl FlagState {
    /// Sets the flag, unless a doorbell is still to come. The caller must check for data once more,
    /// and may then forget the writer until the doorbell.
    pub(crate) fn arm(&mut self, flag: &AtomicU64) {
        if *self == FlagState::Clear {
            *self = FlagState::Armed;
            arm(flag);
        }
    }

    /// Withdraws the request: from now on the caller polls.
    pub(crate) fn disarm(&mut self, flag: &AtomicU64) {
        if *self == FlagState::Armed {
            *self = if disarm(flag) { FlagState::Claimed } else { FlagState::Clear };
        }
    }

    /// A doorbell was received.
    pub(crate) fn rung(&mut self) {
        *self = FlagState::Clear;
    }

    /// Returns whether the writer has written nothing since the flag was set, or is still inside
    /// the call that writes.
    pub(crate) fn is_quiet(self, flag: &AtomicU64) -> bool {
        self == FlagState::Armed && flag.load(Ordering::SeqCst) == 1
    }
}

/// Claims the other side's request. Returns whether the caller must ring.
///
/// The data must have been written with a sequentially consistent store, such as that of a ring's
/// [`publish`](crate::ipc::ring::RingProducer::publish), or the caller must fence between the
/// write and this call.
#[inline]
pub(crate) fn claim(flag: &AtomicU64) -> bool {
    claim_number(flag).is_some()
}

/// Like [`claim`], but returns the number that the flag was set to.
#[inline]
pub(crate) fn claim_number(flag: &AtomicU64) -> Option<u64> {
    // The load alone is cheap while the flag is clear, because the sleeper's cache line stays
    // shared.
    let is_set = flag.load(Ordering::SeqCst) != 0;
    is_set.then(|| flag.swap(0, Ordering::SeqCst)).filter(|&number| number != 0)
}
