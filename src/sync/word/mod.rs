//! The lock word: who holds the lock, in one word of shared memory that is true after a death at any instruction.
//!
//! ```text
//!  31       30     29 .. 18   17 .. 0
//!  waiters  gone   session    thread of the holder; 0 if there is none
//! ```
//!
//! Taking a free lock is one compare-and-swap from 0 to the holder, releasing it one back: neither calls the system. A
//! thread that has to wait says so in the word and sleeps on it; whoever releases a word with waiters wakes one, and a
//! thread that slept takes the lock with that bit set, since it cannot know whether others sleep.
//!
//! When a process has died, its hub (the one of the process that made the lock) frees the word if it names the dead
//! session, and wakes *all* sleepers, whatever the word says. So nothing depends on what the dead one was about to do:
//! to wake somebody, or to act on having been woken. What each sees in the word tells it what to do.
//!
//! The decisions are functions of the word alone ([`step`], [`released`], [`repaired`]); `model` tries them in all
//! orders, with a death at every point.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::ipc::hub::OWNER;
use crate::sys::{futex_wait, futex_wake_all, futex_wake_one};

#[cfg(test)]
mod model;

/// Somebody may sleep on the word.
pub(super) const WAITERS: u32 = 1 << 31;
/// The process that made the lock has ended.
pub(super) const GONE: u32 = 1 << 30;
const HOLDER: u32 = GONE - 1;
const THREAD_BITS: u32 = 18;
/// Threads of one process are numbered from 1 to here; the last one is the hub's own, for repairs.
pub(super) const THREADS_MAX: u32 = (1 << THREAD_BITS) - 1;
/// The hub as a holder.
pub(super) const HUB: u32 = holder(OWNER, THREADS_MAX);

/// A thread as it stands in a word.
pub(super) const fn holder(session: u32, thread: u32) -> u32 {
    session << THREAD_BITS | thread
}

/// The session of the word's holder; 0 if there is none.
pub(super) const fn session(word: u32) -> u32 {
    (word & HOLDER) >> THREAD_BITS
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// Others hold it, and the time is over.
    Timeout,
    /// The process that made it has ended.
    Gone,
    /// This thread holds it.
    Deadlock,
}

/// What a thread that wants the lock does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Change the word to this, and have the lock.
    Take(u32),
    /// Change the word to this, then look again.
    Mark(u32),
    /// Sleep as long as the word is what it was.
    Sleep,
    Miss(Miss),
}

fn step(seen: u32, me: u32, slept: bool) -> Step {
    if seen & GONE != 0 {
        Step::Miss(Miss::Gone)
    } else if seen & HOLDER == 0 {
        Step::Take(me | (seen & WAITERS) | if slept { WAITERS } else { 0 })
    } else if seen & HOLDER == me {
        Step::Miss(Miss::Deadlock)
    } else if seen & WAITERS == 0 {
        Step::Mark(seen | WAITERS)
    } else {
        Step::Sleep
    }
}

/// What the word becomes when its holder releases it, and whether somebody is to be woken.
fn released(seen: u32) -> (u32, bool) {
    (seen & GONE, seen & WAITERS != 0)
}

/// What the word becomes when this session has died, if it held the lock.
fn repaired(seen: u32, dead: u32) -> Option<u32> {
    (session(seen) == dead).then_some(seen & GONE)
}

/// Takes the lock if it is free.
#[inline]
pub(super) fn try_lock(word: &AtomicU32, me: u32) -> bool {
    word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
        .is_ok()
}

/// Takes the lock; waits until the deadline, if there is one.
#[inline]
pub(super) fn lock(word: &AtomicU32, me: u32, deadline: Option<Instant>) -> Result<(), Miss> {
    if try_lock(word, me) {
        Ok(())
    } else {
        lock_contended(word, me, deadline)
    }
}

/// Looks so often before it sleeps: critical sections are mostly shorter than a call of the system.
const SPINS: u32 = 100;

#[cold]
fn lock_contended(word: &AtomicU32, me: u32, deadline: Option<Instant>) -> Result<(), Miss> {
    let mut seen = spin(word);
    let mut slept = false;
    loop {
        match step(seen, me, slept) {
            Step::Take(new) => {
                match word.compare_exchange_weak(seen, new, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Ok(()),
                    Err(now) => seen = now,
                }
            }
            Step::Mark(new) => {
                match word.compare_exchange_weak(seen, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => seen = new,
                    Err(now) => seen = now,
                }
            }
            Step::Sleep => {
                if !futex_wait(word, seen, deadline) {
                    // Nobody woke it, so nobody's wake-up is lost with it. The word keeps its mark.
                    return Err(Miss::Timeout);
                }
                slept = true;
                seen = spin(word);
            }
            Step::Miss(miss) => return Err(miss),
        }
    }
}

/// The word, after a moment in which its holder may have released it.
fn spin(word: &AtomicU32) -> u32 {
    let mut seen = word.load(Ordering::Relaxed);
    for _ in 0..SPINS {
        // If others sleep, the lock is held for longer.
        if seen & HOLDER == 0 || seen & (WAITERS | GONE) != 0 {
            break;
        }
        std::hint::spin_loop();
        seen = word.load(Ordering::Relaxed);
    }
    seen
}

/// Releases the lock; whether it was held by `me`.
#[inline]
pub(super) fn unlock(word: &AtomicU32, me: u32) -> bool {
    word.compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed)
        .is_ok()
        || unlock_contended(word, me)
}

#[cold]
fn unlock_contended(word: &AtomicU32, me: u32) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        if seen & HOLDER != me {
            return false;
        }
        let (new, wake) = released(seen);
        match word.compare_exchange_weak(seen, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => {
                if wake {
                    futex_wake_one(word);
                }
                return true;
            }
            Err(now) => seen = now,
        }
    }
}

/// Gives the lock of a dead session to `heir` (0: to nobody), after `before`; whether it held it. Whoever sleeps must
/// be woken afterwards, also if it did not.
pub(super) fn repair(word: &AtomicU32, dead: u32, heir: u32, before: impl Fn()) -> bool {
    let mut seen = word.load(Ordering::Acquire);
    while let Some(new) = repaired(seen, dead) {
        before();
        match word.compare_exchange(seen, new | heir, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
    false
}

/// Says that the process that made the lock has ended: nobody gets it any more.
pub(super) fn abandon(word: &AtomicU32) {
    word.fetch_or(GONE, Ordering::AcqRel);
    futex_wake_all(word);
}

/// The session whose thread holds the lock; 0 if nobody does.
pub(super) fn holder_of(word: &AtomicU32) -> u32 {
    session(word.load(Ordering::Relaxed))
}

/// Whether somebody holds the lock.
pub(super) fn is_held(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) & HOLDER != 0
}

/// Whether the process that made the lock is known to have ended.
pub(super) fn is_gone(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) & GONE != 0
}
