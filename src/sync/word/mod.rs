//! The lock word: one word of shared memory that names the holder of a lock. It stays correct even
//! if a process dies at any instruction.
//!
//! ```text
//!  31       30     29 .. 18   17 .. 0
//!  waiters  gone   session    thread of the holder; 0 if the lock is free
//!                  0          1: free, and kept for a thread that has slept
//! ```
//!
//! Taking a free lock is one compare-and-swap from 0 to the holder, and releasing it is one back to
//! 0; neither is a system call. A thread that has to wait sets `waiters`, then sleeps on the word.
//! The releasing thread clears the bit and wakes one sleeper. A thread that has slept takes the
//! lock *with* the bit set, because it cannot know whether others still sleep. This costs one
//! superfluous wake-up, and avoids a count of sleepers that a death could leave wrong.
//!
//! # Fairness
//!
//! A woken thread takes some 50 us to get to the lock, and by then a running thread has often taken
//! it again. That makes a contended lock fast, but a sleeper could wait for ever. So once in a
//! millisecond ([`Turns`]), the releasing thread *keeps* the lock: the word then names [`KEPT`] as
//! its holder, which only a thread that has slept may replace. The kernel wakes the thread that
//! fell asleep first, and a thread that is woken in vain falls asleep last. So each of n users gets
//! the lock, on average, at least once in n milliseconds.
//!
//! The lock is kept for no thread in particular, so a death cannot lose it: the hub frees a kept
//! lock when it repairs after any death, and the next thread that tries takes it. If the releasing
//! thread finds that no thread slept, it frees the lock itself.
//!
//! # Why no wake-up is lost
//!
//! - *Release against falling asleep.* The kernel compares the word and falls asleep in one step.
//!   If the holder releases between a waiter's last read and its sleep, the word has changed, and
//!   the waiter does not sleep.
//! - *A waiter dies after it set the bit.* The bit stays, and costs the next release one system
//!   call that wakes no thread.
//! - *The holder dies.* The owner's hub finds the dead session in the word, frees the lock, and
//!   wakes *all* sleepers.
//! - *A thread dies between releasing the word and waking a sleeper, or after it was woken and
//!   before it took the lock.* The word names no holder, so nothing shows that a wake-up was lost.
//!   That is why the hub wakes all sleepers after every death, even if the word names another
//!   holder. Each reads the word and decides again.
//! - *A thread is stopped after it was woken and before it took the lock, or after it kept the lock
//!   and before it woke a sleeper.* There is no death that the hub could notice. So a sleeping
//!   thread reads the word again every second ([`LOOK_AGAIN`]), and may take a kept lock, because
//!   it has slept.
//! - *The lock was kept, and no thread slept.* A thread that was about to sleep finds that the word
//!   has changed, sets the bit again, and sleeps. When the releasing thread frees the lock, it sees
//!   the bit, and wakes that thread.
//!
//! Repair and release cannot both act: each is a compare-and-swap from a word that names the
//! holder.
//!
//! The decisions are functions of the word alone ([`next_step`], [`released`], [`kept_no_longer`],
//! [`repaired`]). The test `model` runs them in every order, with a death at every point.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::SyncError;
use crate::failpoints;
use crate::ipc::deadline::{TimeLimit, WaitEnd, Waited};
use crate::ipc::hub::OWNER;
use crate::sys::{FutexWait, futex_sleep, futex_wake_all, futex_wake_one, monotonic_us};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// A thread may sleep on the word.
pub(super) const WAITERS: u32 = 1 << 31;
/// The process that made the lock has ended.
pub(super) const GONE: u32 = 1 << 30;
const HOLDER: u32 = GONE - 1;
/// In place of a holder: the lock is free, but only a thread that has slept may take it. No session
/// has the number 0.
pub(super) const KEPT: u32 = 1;
const THREAD_BITS: u32 = 18;
/// The highest number of a thread. The hub uses it as its own, to hold a lock while it repairs.
pub(super) const THREADS_MAX: u32 = (1 << THREAD_BITS) - 1;
/// The hub as a holder.
pub(super) const HUB: u32 = holder(OWNER, THREADS_MAX);

/// Returns a thread as a lock word names it.
pub(super) const fn holder(session: u32, thread: u32) -> u32 {
    session << THREAD_BITS | thread
}

/// Returns the session of the word's holder; 0 if the lock is free.
pub(super) const fn session(word: u32) -> u32 {
    (word & HOLDER) >> THREAD_BITS
}

/// Why a thread cannot take a lock, however long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LockRefusal {
    OwnerGone,
    /// The thread already holds it.
    Deadlock,
}

impl From<LockRefusal> for SyncError {
    fn from(refusal: LockRefusal) -> SyncError {
        match refusal {
            LockRefusal::OwnerGone => SyncError::Disconnected,
            LockRefusal::Deadlock => SyncError::Deadlock,
        }
    }
}

/// The next step of a thread that wants the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LockStep {
    /// Swap the word for this one. On success the lock is taken.
    Take(u32),
    /// Swap the word for this one, then decide again.
    AnnounceWaiter(u32),
    /// Sleep as long as the word has not changed.
    Sleep,
    Refuse(LockRefusal),
}

fn next_step(seen: u32, me: u32, slept: bool) -> LockStep {
    if seen & GONE != 0 {
        LockStep::Refuse(LockRefusal::OwnerGone)
    } else if seen & HOLDER == 0 || (slept && seen & HOLDER == KEPT) {
        LockStep::Take(me | (seen & WAITERS) | if slept { WAITERS } else { 0 })
    } else if seen & HOLDER == me {
        LockStep::Refuse(LockRefusal::Deadlock)
    } else if seen & WAITERS == 0 {
        LockStep::AnnounceWaiter(seen | WAITERS)
    } else {
        LockStep::Sleep
    }
}

/// Returns the word after its holder has released it, and whether a sleeper must be woken. With
/// `keep`, the lock is kept for that sleeper.
fn released(seen: u32, keep: bool) -> (u32, bool) {
    let wake = seen & WAITERS != 0;
    (seen & GONE | if wake && keep { KEPT } else { 0 }, wake)
}

/// Returns the word after a lock was kept while no thread slept, and whether a sleeper that came
/// later must be woken. `None` if the lock is not kept any more.
fn kept_no_longer(seen: u32) -> Option<(u32, bool)> {
    (seen & HOLDER == KEPT).then(|| released(seen, false))
}

/// Returns the word after this session's death; `None` if the session did not hold the lock, and no
/// lock is kept for a thread that may be dead.
fn repaired(seen: u32, dead: u32) -> Option<u32> {
    (session(seen) == dead || seen & HOLDER == KEPT).then_some(seen & GONE)
}

/// When a contended lock was last kept for a sleeper: a word beside the lock, which only the lock's
/// holder writes. Only fairness depends on it.
pub(super) struct Turns<'a>(pub(super) &'a AtomicU32);

impl Turns<'_> {
    /// For how long running threads may take a contended lock while others sleep. A turn costs up
    /// to the time of a wake-up, 50 us, in which no thread holds the lock.
    const LENGTH_US: u32 = 1000;

    /// Returns whether the next turn is due, and begins it.
    pub(super) fn next(&self) -> bool {
        // Wraps after 71 minutes.
        let now = monotonic_us() as u32;
        let due = now.wrapping_sub(self.0.load(Ordering::Relaxed)) >= Turns::LENGTH_US;
        if due {
            self.0.store(now, Ordering::Relaxed);
        }
        due
    }
}

/// Takes the lock if it is free and no thread waits for it.
#[inline]
pub(super) fn try_lock(word: &AtomicU32, me: u32) -> bool {
    word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Takes the lock, and blocks for it until the limit.
#[inline]
pub(super) fn lock<L: TimeLimit>(word: &AtomicU32, me: u32, limit: &L) -> Waited<(), SyncError, L> {
    if try_lock(word, me) { Ok(()) } else { lock_contended(word, me, limit) }
}

/// How often a thread reads the word before it sleeps. Most critical sections are shorter than a
/// system call.
const SPINS: u32 = 100;

/// How long a thread that may be the only one woken sleeps before it checks again. A wake-up is
/// lost if its receiver is stopped just then, and this bounds the harm. A thread that wakes once a
/// second uses about 20 us of processor time per second.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Returns when such a thread checks again, or its deadline if that is earlier.
pub(super) fn looks_again<L: TimeLimit>(limit: &L) -> Option<Instant> {
    let again = Instant::now() + LOOK_AGAIN;
    Some(limit.deadline().map_or(again, |deadline| deadline.min(again)))
}

#[cold]
fn lock_contended<L: TimeLimit>(word: &AtomicU32, me: u32, limit: &L) -> Waited<(), SyncError, L> {
    let mut seen = spin(word);
    let mut slept = false;
    loop {
        match next_step(seen, me, slept) {
            LockStep::Take(new) => {
                match word.compare_exchange_weak(seen, new, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Ok(()),
                    Err(now) => seen = now,
                }
            }
            LockStep::AnnounceWaiter(new) => {
                match word.compare_exchange_weak(seen, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => seen = new,
                    Err(now) => seen = now,
                }
            }
            LockStep::Sleep => {
                let ended = futex_sleep(word, seen, looks_again(limit));
                failpoints::point("lock.woken");
                if ended == FutexWait::TimedOut {
                    // Returning here loses no wake-up, because a thread that was woken does not
                    // time out. The waiters bit stays, since others may sleep.
                    limit.check().map_err(WaitEnd::Timeout)?;
                }
                // A thread that was only about to sleep has not slept: it is running, and would
                // take each lock that is kept.
                slept |= ended != FutexWait::Changed;
                seen = spin(word);
            }
            LockStep::Refuse(refusal) => return Err(SyncError::from(refusal).into()),
        }
    }
}

/// Spins until the holder releases the lock, for at most [`SPINS`] reads. Returns the word.
fn spin(word: &AtomicU32) -> u32 {
    let mut seen = word.load(Ordering::Relaxed);
    for _ in 0..SPINS {
        // If others sleep already, the lock is being held for long, and spinning is wasted.
        if seen & HOLDER == 0 || seen & (WAITERS | GONE) != 0 {
            break;
        }
        std::hint::spin_loop();
        seen = word.load(Ordering::Relaxed);
    }
    seen
}

/// Releases a lock that is held for a few instructions at a time, such as a latch. Returns whether
/// `me` held it.
#[inline]
pub(super) fn unlock(word: &AtomicU32, me: u32) -> bool {
    word.compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed).is_ok()
        || unlock_contended(word, me, None)
}

/// Releases the lock, and keeps it for a sleeper if its turn has come. Returns whether `me` held
/// it.
#[inline]
pub(super) fn unlock_fairly(word: &AtomicU32, me: u32, turns: Turns<'_>) -> bool {
    word.compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed).is_ok()
        || unlock_contended(word, me, Some(turns))
}

#[cold]
fn unlock_contended(word: &AtomicU32, me: u32, turns: Option<Turns<'_>>) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    if seen & HOLDER != me {
        return false;
    }
    let keep = seen & WAITERS != 0 && turns.is_some_and(|turns| turns.next());
    loop {
        let (new, wake) = released(seen, keep);
        match word.compare_exchange_weak(seen, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => {
                if wake && !futex_wake_one(word) && keep {
                    keep_no_longer(word);
                }
                return true;
            }
            // Others only add bits while `me` holds the lock.
            Err(now) => seen = now,
        }
    }
}

/// Frees a lock that was kept while no thread slept.
#[cold]
fn keep_no_longer(word: &AtomicU32) {
    let mut seen = word.load(Ordering::Relaxed);
    while let Some((new, wake)) = kept_no_longer(seen) {
        match word.compare_exchange(seen, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) if wake => {
                futex_wake_one(word);
                return;
            }
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

/// Passes a dead session's lock to `heir` (0 frees it), and returns whether the session held it.
///
/// `before` runs before another thread can take the lock, and may run more than once. The caller
/// wakes all sleepers afterwards, even if the dead session did not hold the lock: see the module.
pub(super) fn repair(word: &AtomicU32, dead: u32, heir: u32, before: impl Fn()) -> bool {
    let mut seen = word.load(Ordering::Acquire);
    while let Some(new) = repaired(seen, dead) {
        let held = session(seen) == dead;
        if held {
            before();
        }
        let new = if held { new | heir } else { new };
        match word.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return held,
            Err(now) => seen = now,
        }
    }
    false
}

/// Marks the lock as gone with its owner: no thread can take it any more. Wakes every sleeper.
pub(super) fn abandon(word: &AtomicU32) {
    word.fetch_or(GONE, Ordering::AcqRel);
    futex_wake_all(word);
}

/// Returns the session whose thread holds the lock; 0 if it is free.
pub(super) fn holder_of(word: &AtomicU32) -> u32 {
    session(word.load(Ordering::Relaxed))
}

/// Returns whether a thread holds the lock.
pub(super) fn is_held(word: &AtomicU32) -> bool {
    holder_of(word) != 0
}

/// Returns whether threads wait for the lock. May stay true for a moment after the last one has
/// given up.
pub(super) fn has_waiters(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) & WAITERS != 0
}

/// Returns whether the process that made the lock is known to have ended.
pub(super) fn is_gone(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) & GONE != 0
}
