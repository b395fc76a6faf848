//! Permits that processes share.
//!
//! The [state word](state) counts every permit that is not free: in its inline record the permits
//! of one process, and in its number those of all others. So while no thread waits, and one process
//! at a time has permits, taking and returning them is one step each. Everything else happens under
//! the latch: permits of further processes are also counted in their records, forgotten ones beside
//! them, and the number is the sum of both (see [`latch`]).
//!
//! # Why no permit is lost, and none is there twice
//!
//! - *A death.* A process may die between any two changes under the latch. The repair clears its
//!   inline record and its record, and recomputes the number. So it does not matter which of the
//!   changes came first.
//! - *Falling asleep.* A thread that must wait marks the state word in the same step in which it
//!   sees that too few permits are free. From then on, each thread that takes or returns some needs
//!   the latch, until no sleeper is counted and no permit is kept for one.
//!
//! `model` explores all orders of these steps, with a death at every point.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{CreateError, ReleaseError, SyncError, TimeoutError, TryError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::latch::{self, Claim, LATCH_BYTES, Latch};
use crate::sync::object::{Object, ObjectHandle, Primitive, owner_answers};
use crate::sync::state::{self, State};
use crate::sync::word::{self, Turns};

/// The number of permits of the semaphore.
const PERMITS: usize = 8;
/// The sum of the permits that processes hold in their records.
const HELD: usize = 12;
/// The number of permits that were forgotten. No process holds them.
const FORGOTTEN: usize = 16;
/// The sum of the threads that wait for more than one permit, over the records.
const WANT_MANY: usize = 20;
/// The number of permits, 0 or 1, that only a thread that has slept may take.
const KEPT: usize = 24;
/// When a sleeper last had its turn.
const TURNS: usize = 28;
/// The [state word](state). Its number is the sum of the permits in records and of the forgotten
/// ones; its inline record counts permits.
const STATE: usize = 32;

/// Fields of a record: the permits that the process holds outside the inline record, and its threads
/// that wait for several.
const MINE: usize = 0;
const MANY: usize = 1;

#[cfg(test)]
mod model;

#[derive(Debug)]
enum SemaphoreWords {}

impl Primitive for SemaphoreWords {
    const WORDS_LEN: usize = LATCH_BYTES;

    fn repair(region: &Region, dead: u32) -> bool {
        Latch::inherit(region, dead).is_some_and(|latch| {
            latch.clear(dead, MINE, HELD);
            latch.clear(dead, MANY, WANT_MANY);
            // The permit may have been kept for a thread that is dead now.
            region.number::<AtomicU32>(KEPT).store(0, Ordering::Relaxed);
            let number = |at| region.number::<AtomicU32>(at).load(Ordering::Relaxed);
            let others = number(HELD).wrapping_add(number(FORGOTTEN));
            let _ = state::update(region.atomic(STATE), |seen| Some(repaired(seen, dead, others)));
            latch.clear_and_wake(dead);
            true
        })
    }

    fn abandon(region: &Region) {
        state::abandon(region.atomic(STATE));
        latch::abandon(region);
    }

    fn holds(region: &Region, session: u32) -> bool {
        state::load(region.atomic(STATE)).held_by(session) > 0
            || latch::record(region, session, MINE).load(Ordering::Relaxed) > 0
    }
}

/// Returns how many of all `permits` are free.
#[inline]
fn free(seen: State, permits: u32) -> u32 {
    permits.saturating_sub(seen.number()).saturating_sub(seen.count())
}

/// Returns the state after a session has taken permits without the latch; `None` if it cannot.
#[inline]
fn taken(seen: State, session: u32, count: u32, permits: u32) -> Option<State> {
    let is_free = !seen.waits() && !seen.is_gone() && free(seen, permits) >= count;
    if is_free { seen.joined(session, count) } else { None }
}

/// Returns the state after a session has returned permits of the inline record; `None` if it has
/// fewer there, or if a thread may have to be woken.
#[inline]
fn returned(seen: State, session: u32, count: u32) -> Option<State> {
    if seen.waits() { None } else { seen.left(session, count) }
}

/// Under the latch: returns the state after a session has taken permits, and whether its record
/// counts them; `None` if too few are free. `kept` is the number of free ones that it may not take.
/// `wanted` is true if a thread sleeps, or a permit is kept for one.
fn claimed(
    seen: State,
    session: u32,
    count: u32,
    (permits, kept): (u32, u32),
    wanted: bool,
) -> Option<(State, bool)> {
    if free(seen, permits).saturating_sub(kept) < count {
        return None;
    }
    let new = seen.with_waits(seen.waits() && wanted);
    Some(match new.joined(session, count) {
        Some(joined) => (joined, false),
        None => (new.with_number(new.number().wrapping_add(count)), true),
    })
}

/// Under the latch: returns the state after a session has given up permits, and how many of them its
/// record counted. Forgotten permits stay taken.
fn given_up(seen: State, session: u32, count: u32, forget: bool) -> (State, u32) {
    let inline = seen.held_by(session).min(count);
    let by_record = count - inline;
    let number = match forget {
        true => seen.number().wrapping_add(inline),
        false => seen.number().wrapping_sub(by_record),
    };
    (seen.left(session, inline).unwrap_or(seen).with_number(number), by_record)
}

/// Under the latch: returns the state after a death. `others` is the sum of the permits in records
/// and of the forgotten ones.
fn repaired(seen: State, dead: u32, others: u32) -> State {
    seen.without(dead).with_number(others)
}

/// A bounded number of permits, which threads of all processes acquire and return. Dropping a handle
/// does not affect the others; dropping a [`Permit`] returns it.
///
/// - There are never more permits than it was created with: releasing a permit that was not
///   [forgotten](Permit::forget) is an error.
/// - When a process dies, its permits are returned, whatever it was doing. Forgotten permits are
///   not.
/// - A thread that finds a permit gets it, even if others are just waking up for it. But about once
///   a millisecond a returned permit is kept for the thread that has waited longest, as for a
///   [`Mutex`](crate::sync::Mutex). So no thread that waits for one permit waits for ever.
/// - As long as no thread waits, and one process at a time has permits, taking and returning some is
///   one compare-and-swap each. Without contention it makes no system call.
/// - When the process that made the semaphore ends, acquiring returns [`SyncError::Disconnected`].
///
/// ```
/// use offspring::sync::Semaphore;
///
/// #[offspring::worker]
/// fn use_the_network(connections: Semaphore) {
///     let _permit = connections.acquire().unwrap();
///     // at most two processes are here
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let connections = Semaphore::new(2)?;
///     let workers: Vec<_> = (0..4).map(|_| use_the_network::spawn(connections.clone())).collect::<Result<_, _>>()?;
///     for worker in workers {
///         worker.join()?;
///     }
///     assert_eq!(connections.available(), 2);
///     Ok(())
/// }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use]
pub struct Semaphore {
    object: ObjectHandle<SemaphoreWords>,
}

/// One or more permits of a [`Semaphore`]. Dropping it returns them.
///
/// ```
/// use offspring::sync::Semaphore;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let permits = Semaphore::new(2)?;
/// let permit = permits.acquire()?;
/// assert_eq!(permits.available(), 1);
/// drop(permit);
/// assert_eq!(permits.available(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "the permit is returned at once if it is not kept"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: u32,
}

impl Semaphore {
    /// Creates a semaphore with `permits` permits.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroPermits`] for 0, since no thread would ever get a permit. Otherwise if
    /// the system refuses the memory, or a descriptor for it.
    pub fn new(permits: u32) -> Result<Semaphore, CreateError> {
        if permits == 0 {
            return Err(CreateError::ZeroPermits);
        }
        let object = ObjectHandle::new(0, |region| {
            let number: &AtomicU32 = region.number(PERMITS);
            number.store(permits, Ordering::Relaxed);
        })?;
        Ok(Semaphore { object })
    }

    /// Takes a permit. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// [`SyncError::Disconnected`] if the process that made the semaphore has ended,
    /// [`SyncError::Handle`] if the handle does not work in this process.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, SyncError> {
        self.acquire_many(1)
    }

    /// Takes a permit if there is one.
    ///
    /// The first call in a process that did not make the semaphore may wait up to a second for the
    /// answer of the process that did.
    ///
    /// # Errors
    ///
    /// [`TryError::WouldBlock`] if no permit is free, and the errors of
    /// [`acquire`](Semaphore::acquire).
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryError> {
        self.try_acquire_many(1)
    }

    /// Takes a permit. Blocks for at most `timeout` until there is one.
    ///
    /// # Errors
    ///
    /// [`TimeoutError::Timeout`] if the time is over, and the errors of
    /// [`acquire`](Semaphore::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, TimeoutError> {
        self.acquire_many_timeout(1, timeout)
    }

    /// Takes `count` permits together. Blocks until there are that many, and holds none of them
    /// while it waits.
    ///
    /// Threads that take single permits may starve it, because permits are kept only for threads
    /// that wait for one.
    ///
    /// ```
    /// let seats = offspring::sync::Semaphore::new(3)?;
    /// let two = seats.acquire_many(2)?;
    /// assert!(seats.try_acquire_many(2).is_err());
    /// drop(two);
    /// assert_eq!(seats.available(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Semaphore::acquire).
    ///
    /// # Panics
    ///
    /// If the semaphore has fewer than `count` permits in all.
    #[inline]
    #[track_caller]
    pub fn acquire_many(&self, count: u32) -> Result<Permit<'_>, SyncError> {
        let acquired = self.take(count, &Forever);
        acquired.map_err(WaitEnd::into_failed)
    }

    /// Takes `count` permits together, if there are that many.
    ///
    /// # Errors
    ///
    /// [`TryError::WouldBlock`] if fewer are free, and the errors of [`acquire`](Semaphore::acquire).
    ///
    /// # Panics
    ///
    /// If the semaphore has fewer than `count` permits in all.
    #[track_caller]
    pub fn try_acquire_many(&self, count: u32) -> Result<Permit<'_>, TryError> {
        self.assert_enough(count);
        let me = self.object.me(&owner_answers())?;
        if self.take_at_once(me, count) {
            return Ok(self.permit(count));
        }
        let seen = state::load(self.state());
        if seen.is_gone() {
            return Err(TryError::Disconnected);
        }
        // Check without the latch first: a call that gets no permit need not slow down the holders.
        if free(seen, self.permits()).saturating_sub(self.object.number(KEPT)) < count {
            return Err(TryError::WouldBlock);
        }
        let latch = Latch::take(&self.object.region, me, &owner_answers())?;
        if !self.claim(&latch, count, Claim::Once) {
            return Err(TryError::WouldBlock);
        }
        Ok(self.permit(count))
    }

    /// Takes `count` permits together. Blocks for at most `timeout` until there are that many.
    ///
    /// # Errors
    ///
    /// [`TimeoutError::Timeout`] if the time is over, and the errors of
    /// [`acquire`](Semaphore::acquire).
    ///
    /// # Panics
    ///
    /// If the semaphore has fewer than `count` permits in all.
    #[track_caller]
    pub fn acquire_many_timeout(
        &self,
        count: u32,
        timeout: Duration,
    ) -> Result<Permit<'_>, TimeoutError> {
        Ok(self.take(count, &Deadline::after(timeout))?)
    }

    /// Returns a permit that a thread of any process has [forgotten](Permit::forget). So one process
    /// can acquire a permit, and another return it.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::TooMany`] if no forgotten permit is left, and the errors of
    /// [`acquire`](Semaphore::acquire).
    pub fn release(&self) -> Result<(), ReleaseError> {
        let latch = Latch::of(&self.object, &Forever).map_err(WaitEnd::into_failed)?;
        let forgotten = self.object.word(FORGOTTEN);
        match forgotten.load(Ordering::Relaxed) {
            0 => Err(ReleaseError::TooMany),
            some => {
                forgotten.store(some - 1, Ordering::Relaxed);
                let _ = state::update(self.state(), |seen| {
                    Some(seen.with_number(seen.number().wrapping_sub(1)))
                });
                wake_after_return(self.object.object(), latch, 1);
                Ok(())
            }
        }
    }

    /// Returns the number of permits that can be taken now.
    #[must_use]
    pub fn available(&self) -> u32 {
        free(state::load(self.state()), self.permits())
    }

    /// Returns the number of permits that the semaphore was created with.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.object.number(PERMITS)
    }

    #[inline]
    fn state(&self) -> &AtomicU64 {
        self.object.region.atomic(STATE)
    }

    #[inline]
    #[track_caller]
    fn assert_enough(&self, count: u32) {
        assert!(
            count <= self.permits(),
            "cannot acquire {count} permits: the semaphore has only {}",
            self.permits()
        );
    }

    #[inline]
    #[track_caller]
    fn take<L: TimeLimit>(&self, count: u32, limit: &L) -> Waited<Permit<'_>, SyncError, L> {
        self.assert_enough(count);
        let me = self.object.me(limit)?;
        if !self.take_at_once(me, count) {
            self.take_or_wait(me, count, limit)?;
        }
        Ok(self.permit(count))
    }

    /// Takes permits if that needs no latch.
    #[inline]
    fn take_at_once(&self, me: u32, count: u32) -> bool {
        let (session, permits) = (word::session(me), self.permits());
        let all_free = State::default();
        let next = |seen| taken(seen, session, count, permits);
        state::update_from(all_free, self.state(), next).is_ok()
    }

    #[cold]
    fn take_or_wait<L: TimeLimit>(
        &self,
        me: u32,
        count: u32,
        limit: &L,
    ) -> Waited<(), SyncError, L> {
        let mut latch = Latch::take(&self.object.region, me, limit)?;
        if self.claim(&latch, count, Claim::OrWait) {
            return Ok(());
        }
        let wants_many = count > 1;
        if wants_many {
            latch.add(MANY, WANT_MANY, 1);
        }
        let outcome = loop {
            match latch.sleep_and_look(limit) {
                Ok(held) if !self.claim(&held, count, Claim::AfterSleep) => latch = held,
                other => break other,
            }
        };
        match outcome {
            Ok(latch) => {
                if wants_many {
                    latch.add(MANY, WANT_MANY, -1);
                }
                Ok(())
            }
            Err(end) => {
                if wants_many {
                    latch::withdraw(self.object.object(), me, MANY, WANT_MANY);
                }
                Err(end)
            }
        }
    }

    /// Under the latch: takes permits, and returns whether enough were free. If they were not, and
    /// this thread is going to sleep, the next thread that returns some takes the latch and wakes a
    /// sleeper.
    fn claim(&self, latch: &Latch<'_>, count: u32, claim: Claim) -> bool {
        let (session, permits) = (word::session(latch.me()), self.permits());
        let kept = if claim == Claim::AfterSleep { 0 } else { self.object.number(KEPT) };
        let wanted = latch::sleepers(&self.object.region) > 0 || kept > 0;
        let mut by_record = None;
        let _ = state::update(self.state(), |seen| {
            let claimed = claimed(seen, session, count, (permits, kept), wanted);
            by_record = claimed.map(|(_, by_record)| by_record);
            let waiting = (claim != Claim::Once).then(|| seen.with_waits(true));
            claimed.map(|(new, _)| new).or(waiting)
        });
        if by_record == Some(true) {
            latch.add(MINE, HELD, count as i32);
        }
        if by_record.is_some() && claim == Claim::AfterSleep {
            self.keep(0);
        }
        by_record.is_some()
    }

    fn keep(&self, permits: u32) {
        self.object.word(KEPT).store(permits, Ordering::Relaxed);
    }

    fn permit(&self, count: u32) -> Permit<'_> {
        Permit { semaphore: self, count }
    }

    /// Returns permits of this process.
    #[inline]
    fn give_back(&self, count: u32) {
        // Fails only in a fork, where the permits are those of its original.
        let Ok(me) = self.object.me(&Forever) else { return };
        let session = word::session(me);
        let no_others = State::default().joined(session, count).unwrap_or_default();
        let next = |seen| returned(seen, session, count);
        if state::update_from(no_others, self.state(), next).is_err() {
            self.give_up(me, count, false);
        }
    }

    /// Ends this process's hold on permits, under the latch. They are returned or, with `forget`,
    /// belong to no process.
    #[cold]
    fn give_up(&self, me: u32, count: u32, forget: bool) {
        let object = self.object.object();
        if let Some(latch) = Latch::try_take(&object.region, me) {
            return give_up(object, latch, count, forget);
        }
        let weak = Arc::downgrade(object);
        latch::give_back(object, me, move |latch| {
            // Whoever holds the latch has the object.
            if let Some(object) = weak.upgrade() {
                give_up(&object, latch, count, forget);
            }
        });
    }
}

fn give_up(object: &Arc<Object<SemaphoreWords>>, latch: Latch<'_>, count: u32, forget: bool) {
    let session = word::session(latch.me());
    let mut by_record = 0;
    let _ = state::update(object.region.atomic(STATE), |seen| {
        let (new, counted) = given_up(seen, session, count, forget);
        by_record = counted;
        Some(new)
    });
    latch.add(MINE, HELD, -(by_record as i32));
    if forget {
        // Last: if this process dies before, the repair returns the permit, like any other that it
        // holds.
        object.word(FORGOTTEN).fetch_add(count, Ordering::Relaxed);
    } else {
        wake_after_return(object, latch, count);
    }
}

/// Releases the latch after `count` permits have become available, and wakes those that may take
/// them.
///
/// Running threads take permits that sleepers are being woken for, which makes a contended semaphore
/// fast. So that no sleeper waits for ever, now and then a permit is kept like a lock (see
/// [`word`](crate::sync::word)): for the first thread that has slept. If no thread sleeps, this
/// thread stops keeping the permit. If this thread or the woken one dies before that, the repair
/// stops keeping it.
fn wake_after_return(object: &Arc<Object<SemaphoreWords>>, latch: Latch<'_>, count: u32) {
    // One permit for one thread, so one wake-up is enough, unless a thread waits for several permits.
    // If that one were woken and found too few, the wake-up would be lost for a thread that needs
    // only one.
    let all = count > 1 || object.number(WANT_MANY) > 0;
    let sleepers = latch::sleepers(&object.region) > 0;
    let keep = !all && sleepers && Turns(object.word(TURNS)).next();
    if keep {
        object.word(KEPT).store(1, Ordering::Relaxed);
    }
    let me = latch.me();
    if !latch.release(all) && keep {
        // Under the latch, so that a thread that found the permit kept in the meantime is counted as
        // a sleeper, and woken.
        latch::soon(object, me, |latch| {
            latch.region().number::<AtomicU32>(KEPT).store(0, Ordering::Relaxed);
            latch.release(false);
        });
    }
}

impl Permit<'_> {
    /// Consumes the permits without returning them, now or when this process dies. Call
    /// [`Semaphore::release`] once for each permit to return it.
    ///
    /// ```
    /// let semaphore = offspring::sync::Semaphore::new(1)?;
    /// semaphore.acquire()?.forget();
    /// assert_eq!(semaphore.available(), 0);
    /// semaphore.release()?;
    /// assert!(semaphore.release().is_err()); // one too many
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget(self) {
        if let Ok(me) = self.semaphore.object.me(&Forever) {
            self.semaphore.give_up(me, self.count, true);
        }
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.give_back(self.count);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("permits", &self.permits())
            .field("waiting", &latch::sleepers(&self.object.region))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::ipc::hub::OWNER;
    use crate::sync::watched::WatchedThread;
    use crate::sys::monotonic_us;

    const LONG: Duration = Duration::from_secs(20);

    /// Returns a thread of another process.
    fn other(session: u32) -> u32 {
        word::holder(session, 1)
    }

    #[test]
    fn the_permits_of_many_dead_return_after_a_stopped_process_held_the_latch() {
        const DEAD: std::ops::Range<u32> = 10..60;
        let semaphore = Semaphore::new(DEAD.len() as u32).unwrap();
        let region = &semaphore.object.region;
        for _ in 0..5 {
            for session in DEAD {
                let latch = Latch::take(region, other(session), &Forever).unwrap();
                assert!(semaphore.claim(&latch, 1, Claim::Once));
            }
            assert_eq!(semaphore.available(), 0);
            let stopped = Latch::take(region, other(9), &Forever).unwrap();
            DEAD.for_each(|dead| semaphore.object.session_ended(dead));
            drop(stopped);
            let all = semaphore.acquire_many_timeout(DEAD.len() as u32, LONG);
            assert!(all.is_ok(), "{semaphore:?}");
        }
    }

    #[test]
    fn permits_return_from_the_inline_record_and_from_the_record_of_their_process() {
        let semaphore = Semaphore::new(6).unwrap();
        let (object, region) = (&semaphore.object, &semaphore.object.region);
        let claim = |session, count| {
            let latch = Latch::take(region, other(session), &Forever).unwrap();
            assert!(semaphore.claim(&latch, count, Claim::Once));
        };
        claim(9, 1);
        let two = semaphore.acquire_many(2).unwrap();
        assert_eq!((object.number(HELD), semaphore.available()), (2, 3));
        claim(8, 1);
        object.session_ended(9);
        let three = semaphore.acquire_many(3).unwrap();
        assert_eq!((object.number(HELD), semaphore.available()), (3, 0));
        assert!(matches!(semaphore.try_acquire(), Err(TryError::WouldBlock)));
        // The first returns from the inline record, so that the second returns from both.
        drop(two);
        assert_eq!((object.number(HELD), semaphore.available()), (3, 2));
        drop(three);
        assert_eq!((object.number(HELD), semaphore.available()), (1, 5));
        object.session_ended(8);
        assert_eq!((object.number(HELD), semaphore.available()), (0, 6));
        semaphore.acquire_many(4).unwrap().forget();
        object.session_ended(OWNER);
        assert_eq!(semaphore.available(), 2, "forgotten permits outlive their process");
        (0..4).for_each(|_| semaphore.release().unwrap());
        assert!(semaphore.release().is_err());
        drop(semaphore.try_acquire_many(6).unwrap());
    }

    #[test]
    fn a_permit_is_kept_for_a_sleeper_when_its_turn_has_come() {
        const ROUNDS: usize = 10;
        let semaphore = Semaphore::new(1).unwrap();
        let taken_again = (0..ROUNDS).filter(|_| {
            let (watched, end) = (WatchedThread::default(), Barrier::new(2));
            let permit = semaphore.acquire().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    watched.begin();
                    let permit = semaphore.acquire().unwrap();
                    end.wait();
                    drop(permit);
                });
                while latch::sleepers(&semaphore.object.region) == 0 {
                    std::thread::yield_now();
                }
                watched.wait_until_it_sleeps();
                let long_ago = (monotonic_us() as u32).wrapping_sub(1_000_000);
                semaphore.object.word(TURNS).store(long_ago, Ordering::Relaxed);
                drop(permit);
                let again = semaphore.try_acquire().is_ok();
                end.wait();
                again
            })
        });
        // A waiter that wakes to check just then does not sleep, so not every round counts.
        let taken_again = taken_again.count();
        assert!(taken_again < ROUNDS / 2, "taken again in {taken_again} of {ROUNDS} rounds");
        assert_eq!(semaphore.object.number(KEPT), 0);
    }

    #[test]
    fn a_permit_that_was_kept_for_a_dead_thread_is_free_again() {
        let semaphore = Semaphore::new(1).unwrap();
        semaphore.keep(1);
        // As long as a permit is kept, threads that have not slept need the latch.
        let _ = state::update(semaphore.state(), |seen| Some(seen.with_waits(true)));
        assert!(matches!(semaphore.try_acquire(), Err(TryError::WouldBlock)));
        semaphore.object.session_ended(9);
        drop(semaphore.try_acquire().unwrap());
    }

    #[test]
    fn a_permit_is_not_kept_if_no_thread_sleeps() {
        let semaphore = Semaphore::new(1).unwrap();
        let region = &semaphore.object.region;
        // A sleeper that gave up, but could not withdraw its announcement.
        let latch = Latch::take(region, other(9), &Forever).unwrap();
        latch.count_a_sleeper();
        drop(latch);
        for _ in 0..3 {
            drop(semaphore.acquire().unwrap());
            drop(semaphore.try_acquire().unwrap());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn permits_are_given_up_while_a_stopped_process_holds_the_latch() {
        let semaphore = Semaphore::new(2).unwrap();
        let (returned, forgotten) = (semaphore.acquire().unwrap(), semaphore.acquire().unwrap());
        let stopped = Latch::take(&semaphore.object.region, other(9), &Forever).unwrap();
        // Both return, though nothing continues before.
        drop(returned);
        forgotten.forget();
        drop(stopped);
        // The hub's thread gives them up.
        drop(semaphore.acquire_timeout(LONG).unwrap());
        while semaphore.release().is_err() {
            std::thread::yield_now();
        }
        drop(semaphore.acquire_many_timeout(2, LONG).unwrap());
    }

    #[test]
    fn waiting_for_several_permits_ends_in_time_while_a_stopped_process_holds_the_latch() {
        let semaphore = Semaphore::new(3).unwrap();
        let region = &semaphore.object.region;
        let permit = semaphore.acquire().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| semaphore.acquire_many_timeout(3, LONG / 50).map(drop));
            while latch::sleepers(region) == 0 {
                std::thread::yield_now();
            }
            let stopped = Latch::take(region, other(9), &Forever).unwrap();
            assert!(matches!(waits.join().unwrap(), Err(TimeoutError::Timeout)));
            drop(stopped);
        });
        // The hub's thread withdraws what the waiting thread had announced.
        while semaphore.object.number(WANT_MANY) > 0 {
            std::thread::yield_now();
        }
        drop(permit);
    }
}
