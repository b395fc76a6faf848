//! The latch: a lock inside an object, held for a few instructions, and each process's record in
//! it.
//!
//! Each process counts what it holds of an object (permits, read locks) in a record of its own,
//! which only that process changes, and only under the latch. The sum over all records is kept
//! beside them, so that a thread reads one word to see whether it must wait.
//!
//! # A death at any instruction
//!
//! A process may die at any instruction, even between changing its record and changing the sum. In
//! that case the latch still names the dead session. The owner's hub inherits the latch, clears the
//! dead session's record and *recomputes* the sum from the records. So the sum is never trusted
//! after a death. The records of the living are true, because no other process writes them.
//!
//! If the dead process did not hold the latch, the hub takes it like any thread, then does the
//! same.
//!
//! # Waiting
//!
//! A thread that has to wait releases the latch and sleeps on the *turn*, a number that grows with
//! every release. The thread reads the turn when it takes the latch, before it reads anything else.
//! So if anything changes after the thread has read it, the turn changes as well, and the kernel
//! does not let the thread fall asleep. This also holds for a change that needs no latch, such as
//! the end of a write lock. Sleepers are counted in the records as well, so that a release without
//! sleepers makes no system call.
//!
//! # A process that is stopped while it holds the latch
//!
//! The other processes cannot take the latch from it, since it may continue at any time, and they
//! cannot do without the latch. Four rules limit the harm:
//!
//! - A call with a deadline ends at most twice [`GRACE`] after it. What the call had announced in
//!   its record is withdrawn later, by the hub's thread of its process ([`withdraw`]).
//! - The release of a permit or a read lock waits for the latch for at most [`RELEASE`]. Then the
//!   hub's thread does it later, too ([`give_back`]).
//! - A repair that does not get the latch is tried again by the hub's thread, until it succeeds.
//! - An operation that can be one atomic step needs no latch: the end of a write lock, the breaking
//!   of a barrier, the end of a wait for a condition variable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::SyncError;
use crate::failpoints;
use crate::ipc::deadline::{Deadline, TimeLimit, WaitEnd, Waited};
use crate::ipc::hub::{self, OWNER, SESSIONS_MAX};
use crate::ipc::region::Region;
use crate::sync::object::{Object, Primitive};
use crate::sync::thread_number;
use crate::sync::word::{self, HUB};
use crate::sys::{futex_wait, futex_wake_all, futex_wake_one};

const LATCH: usize = 0;
const TURN: usize = 64;
/// The sum over all records of threads that sleep until the next turn.
const SLEEPERS: usize = 72;
/// Where the records begin. The room before them is for an object's own words.
const RECORDS: usize = 128;
/// Numbers in a record.
const FIELDS: usize = 4;
/// The field that counts the process's sleeping threads.
const ASLEEP: usize = 3;
/// The number of bytes of the words and the records together.
pub(super) const LATCH_BYTES: usize = (RECORDS + SESSIONS_MAX * FIELDS * 4).next_multiple_of(64);

/// How long the hub's thread tries to take a latch. No running thread holds one this long.
const PATIENCE: Duration = Duration::from_micros(200);

/// A wait ends with the latch held. If its time is over, it tries to take the latch for this much
/// longer.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// How long the release of something waits for the latch, before it is left to the hub's thread: as
/// long as a `try_` call waits.
const RELEASE: Duration = Duration::from_secs(1);

/// How a thread claims something under the latch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It does not wait.
    Once,
    /// If it gets nothing, it sleeps.
    OrWait,
    /// It has slept, so it may take what is kept for such threads. If it gets nothing, it sleeps
    /// again.
    AfterSleep,
}

/// A held latch.
pub(super) struct Latch<'a> {
    region: &'a Region,
    me: u32,
    /// The turn when it was taken.
    turn: u32,
}

impl<'a> Latch<'a> {
    /// Returns the latch that this thread holds.
    #[inline]
    fn held(region: &'a Region, me: u32) -> Latch<'a> {
        Latch { region, me, turn: region.number::<AtomicU32>(TURN).load(Ordering::Acquire) }
    }

    /// Takes the latch if it is free and no thread waits for it.
    #[inline]
    pub(super) fn try_take(region: &'a Region, me: u32) -> Option<Latch<'a>> {
        if !word::try_lock(region.number(LATCH), me) {
            return None;
        }
        failpoints::point("latch.taken");
        Some(Latch::held(region, me))
    }

    /// Takes the latch, and blocks for it until the limit.
    #[inline]
    pub(super) fn take<L: TimeLimit>(
        region: &'a Region,
        me: u32,
        limit: &L,
    ) -> Waited<Latch<'a>, SyncError, L> {
        word::lock(region.number(LATCH), me, limit)?;
        failpoints::point("latch.taken");
        Ok(Latch::held(region, me))
    }

    /// Takes the latch for the hub after a death, from the dead session if it held it.
    ///
    /// Returns `None` if another thread holds the latch and does not release it soon, as when its
    /// process is stopped.
    pub(super) fn inherit(region: &'a Region, dead: u32) -> Option<Latch<'a>> {
        if !word::repair(region.number(LATCH), dead, HUB, || ()) {
            match word::lock(region.number(LATCH), HUB, &Deadline::after(PATIENCE)) {
                Ok(()) => {}
                // No other thread takes the latch of an object that is gone, so there is nothing to
                // take.
                Err(WaitEnd::Failed(SyncError::Disconnected)) => {}
                Err(_) => return None,
            }
        }
        Some(Latch::held(region, HUB))
    }

    /// Takes the latch of an object for the calling thread.
    #[inline]
    pub(super) fn of<P: Primitive, L: TimeLimit>(
        object: &'a Object<P>,
        limit: &L,
    ) -> Waited<Latch<'a>, SyncError, L> {
        let me = object.me(limit)?;
        Latch::take(&object.region, me, limit)
    }

    /// The words of the object.
    pub(super) fn region(&self) -> &'a Region {
        self.region
    }

    /// Returns the thread that holds the latch.
    pub(super) fn me(&self) -> u32 {
        self.me
    }

    /// Returns a number in a session's record.
    fn record(&self, session: u32, field: usize) -> &'a AtomicU32 {
        record(self.region, session, field)
    }

    /// Adds to a number in this process's record, and to the sum over all records.
    #[inline]
    pub(super) fn add(&self, field: usize, sum: usize, change: i32) {
        let session = word::session(self.me);
        // If this process dies between the two, the repair clears the record and recomputes the
        // sum, whichever of the two came first.
        for number in [self.record(session, field), self.region.number(sum)] {
            let value: u32 = number.load(Ordering::Relaxed);
            number.store(value.wrapping_add_signed(change), Ordering::Relaxed);
        }
    }

    /// Clears a number in a dead session's record, and recomputes the sum.
    pub(super) fn clear(&self, dead: u32, field: usize, sum: usize) {
        self.record(dead, field).store(0, Ordering::Relaxed);
        let all = (1..SESSIONS_MAX as u32).fold(0u32, |all, session| {
            all.wrapping_add(self.record(session, field).load(Ordering::Relaxed))
        });
        self.region.number::<AtomicU32>(sum).store(all, Ordering::Relaxed);
    }

    /// Ends a repair: clears the dead session's count of sleepers, releases the latch and wakes
    /// every sleeper.
    pub(super) fn clear_and_wake(self, dead: u32) {
        self.clear(dead, ASLEEP, SLEEPERS);
        self.wake_all();
    }

    /// Releases the latch and wakes every sleeper, even if none is counted: the dead process may
    /// have released something without waking a thread, or may have died after it was woken.
    pub(super) fn wake_all(self) {
        let region = self.region;
        next_turn(region);
        drop(self);
        wake_sleepers(region);
    }

    /// Releases the latch, sleeps until the next turn or the limit, and takes the latch again.
    pub(super) fn sleep<L: TimeLimit>(self, limit: &L) -> Waited<Latch<'a>, SyncError, L> {
        self.sleep_until(limit.deadline(), limit)
    }

    /// Like [`sleep`](Latch::sleep), for a thread that may be the only one woken. It also wakes
    /// when it is time to [check again](word::LOOK_AGAIN).
    pub(super) fn sleep_and_look<L: TimeLimit>(self, limit: &L) -> Waited<Latch<'a>, SyncError, L> {
        self.sleep_until(word::looks_again(limit), limit)
    }

    fn sleep_until<L: TimeLimit>(
        self,
        until: Option<Instant>,
        limit: &L,
    ) -> Waited<Latch<'a>, SyncError, L> {
        let Latch { region, me, turn } = self;
        self.add(ASLEEP, SLEEPERS, 1);
        drop(self);
        // If the owner ended before the turn was read, nothing would wake this thread. If it ends
        // later, it changes the turn.
        let woken = is_gone(region) || futex_wait(region.number(TURN), turn, until);
        failpoints::point("turn.woken");
        let latch = take_again(region, me, limit)?;
        latch.add(ASLEEP, SLEEPERS, -1);
        let turned = region.number::<AtomicU32>(TURN).load(Ordering::Relaxed) != turn;
        if !woken && !turned {
            limit.check().map_err(WaitEnd::Timeout)?;
        }
        Ok(latch)
    }

    /// Counts a sleeper that does not exist.
    #[cfg(test)]
    pub(super) fn count_a_sleeper(&self) {
        self.add(ASLEEP, SLEEPERS, 1);
    }

    /// Releases the latch after something became free, and wakes one sleeper, or all. Returns
    /// whether it woke one; after it woke all, returns `false`.
    #[inline]
    pub(super) fn release(self, all: bool) -> bool {
        let region = self.region;
        let sleepers = sleepers(region) > 0;
        if sleepers {
            next_turn(region);
        }
        drop(self);
        if sleepers && all {
            futex_wake_all(region.number(TURN));
        }
        sleepers && !all && futex_wake_one(region.number(TURN))
    }
}

/// Takes the latch after a sleep, even a little after the limit, because this thread counts as
/// asleep until it has the latch.
///
/// If the holder is stopped just then, the count stays one too high. That costs each later release
/// a system call, but no wake-up is lost. If this thread was woken, it passes the wake-up on.
fn take_again<'a, L: TimeLimit>(
    region: &'a Region,
    me: u32,
    limit: &L,
) -> Waited<Latch<'a>, SyncError, L> {
    loop {
        let deadline = limit.deadline();
        let grace = Deadline::from(deadline.map(|deadline| deadline.max(Instant::now()) + GRACE));
        let end = match Latch::take(region, me, &grace) {
            Ok(latch) => return Ok(latch),
            Err(WaitEnd::Failed(error)) => WaitEnd::Failed(error),
            Err(WaitEnd::Timeout(_)) => match limit.check() {
                Ok(()) => continue,
                Err(elapsed) => WaitEnd::Timeout(elapsed),
            },
        };
        futex_wake_one(region.number(TURN));
        return Err(end);
    }
}

impl Drop for Latch<'_> {
    #[inline]
    fn drop(&mut self) {
        word::unlock(self.region.number(LATCH), self.me);
    }
}

pub(super) fn record(region: &Region, session: u32, field: usize) -> &AtomicU32 {
    region.number(RECORDS + (session as usize * FIELDS + field) * 4)
}

/// Returns the number of threads that wait.
pub(super) fn sleepers(region: &Region) -> u32 {
    region.number::<AtomicU32>(SLEEPERS).load(Ordering::SeqCst)
}

/// Wakes every sleeper, after a change that was made without the latch. Returns whether it woke one.
pub(super) fn notify_all(region: &Region) -> bool {
    // Sequentially consistent, like the steps of a thread that falls asleep. So either its count is
    // seen here, or it sees the new turn.
    next_turn(region);
    sleepers(region) > 0 && futex_wake_all(region.number(TURN))
}

/// Takes back what this thread has announced in its process's record, and wakes every sleeper.
///
/// Called when the thread's time is over. If the thread does not get the latch soon, the hub's
/// thread does this later.
pub(super) fn withdraw<P: Primitive>(object: &Arc<Object<P>>, me: u32, field: usize, sum: usize) {
    now_or_later(object, me, GRACE, move |latch| {
        latch.add(field, sum, -1);
        latch.release(true);
    });
}

/// Gives back something of this process under the latch, which was not free at once.
///
/// If the latch stays held, `release` runs on the hub's thread later. Until then this process's
/// record says that it holds what it has given back. That is safe: others wait a little longer, and
/// if this process dies, the repair releases it.
#[cold]
pub(super) fn give_back<P: Primitive>(
    object: &Arc<Object<P>>,
    me: u32,
    release: impl Fn(Latch<'_>) + Send + 'static,
) {
    now_or_later(object, me, RELEASE, release);
}

/// Does something under the latch: at once, or on the hub's thread. Hardly waits.
#[cold]
pub(super) fn soon<P: Primitive>(
    object: &Arc<Object<P>>,
    me: u32,
    act: impl Fn(Latch<'_>) + Send + 'static,
) {
    now_or_later(object, me, PATIENCE, act);
}

fn now_or_later<P: Primitive>(
    object: &Arc<Object<P>>,
    me: u32,
    patience: Duration,
    act: impl Fn(Latch<'_>) + Send + 'static,
) {
    let attempt = move |region: &Region, me, patience| {
        match Latch::take(region, me, &Deadline::after(patience)) {
            Ok(latch) => {
                act(latch);
                true
            }
            Err(WaitEnd::Timeout(_)) => false,
            // The owner is gone, and with it the object.
            Err(WaitEnd::Failed(_)) => true,
        }
    };
    if !attempt(&object.region, me, patience) {
        let session = word::session(me);
        // What is left to do does not keep an owner's object alive: one that is no longer used needs
        // nothing, and a latch that a process broke on purpose may never be free. A client stays
        // attached until its record is true.
        let kept = (session != OWNER).then(|| object.clone());
        let object = Arc::downgrade(object);
        hub::try_again(Box::new(move || {
            let _ = &kept;
            let me = word::holder(session, thread_number::current());
            object.upgrade().is_none_or(|object| attempt(&object.region, me, PATIENCE))
        }));
    }
}

fn next_turn(region: &Region) {
    region.number::<AtomicU32>(TURN).fetch_add(1, Ordering::SeqCst);
}

fn wake_sleepers(region: &Region) {
    futex_wake_all(region.number(LATCH));
    futex_wake_all(region.number(TURN));
}

/// Marks the latch as gone with the object's owner: from now on no thread gets it. Wakes every
/// sleeper.
pub(super) fn abandon(region: &Region) {
    word::abandon(region.number(LATCH));
    // After the mark, so that a thread that reads the new turn also sees the mark, and does not
    // sleep.
    next_turn(region);
    wake_sleepers(region);
}

/// Returns whether the owner is known to have ended.
pub(super) fn is_gone(region: &Region) -> bool {
    word::is_gone(region.number(LATCH))
}
