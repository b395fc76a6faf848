//! Permits that processes share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{CreateError, ReleaseError, SyncError, TimeoutError, TryError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::latch::{self, LATCH_BYTES, Latch};
use crate::sync::object::{Object, ObjectHandle, Primitive, owner_answers};
use crate::sync::word::Turns;

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

/// Fields of a record: the permits that the process holds, and its threads that wait for several.
const MINE: usize = 0;
const MANY: usize = 1;

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
            latch.clear_and_wake(dead);
            true
        })
    }

    fn abandon(region: &Region) {
        latch::abandon(region);
    }

    fn holds(region: &Region, session: u32) -> bool {
        latch::record(region, session, MINE).load(Ordering::Relaxed) > 0
    }
}

/// A bounded number of permits, which threads of all processes acquire and return. Dropping a handle does not
/// affect the others; dropping a [`Permit`] returns it.
///
/// - There are never more permits than it was created with: releasing a permit that was not
///   [forgotten](Permit::forget) is an error.
/// - When a process dies, its permits are returned, whatever it was doing. Forgotten permits are
///   not.
/// - A thread that finds a permit gets it, even if others are just waking up for it. But about once
///   a millisecond a returned permit is kept for the thread that has waited longest, so no thread
///   that waits for one permit waits for ever.
/// - Without contention it makes no system call.
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
        self.object.session(&owner_answers())?;
        if latch::is_gone(&self.object.region) {
            return Err(TryError::Disconnected);
        }
        // Check without the latch first: a call that gets no permit need not slow down the holders.
        if !self.has(count) {
            return Err(TryError::WouldBlock);
        }
        let latch = Latch::of(&self.object, &owner_answers())?;
        if !self.has(count) {
            return Err(TryError::WouldBlock);
        }
        Ok(self.permit(&latch, count))
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
                wake_after_return(self.object.object(), latch, 1);
                Ok(())
            }
        }
    }

    /// Returns the number of permits that can be taken now.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.permits()
            .saturating_sub(self.object.number(HELD))
            .saturating_sub(self.object.number(FORGOTTEN))
    }

    /// Returns the number of permits that the semaphore was created with.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.object.number(PERMITS)
    }

    #[track_caller]
    fn assert_enough(&self, count: u32) {
        assert!(
            count <= self.permits(),
            "cannot acquire {count} permits: the semaphore has only {}",
            self.permits()
        );
    }

    #[track_caller]
    fn take<L: TimeLimit>(&self, count: u32, limit: &L) -> Waited<Permit<'_>, SyncError, L> {
        self.assert_enough(count);
        let mut latch = Latch::of(&self.object, limit)?;
        if self.has(count) {
            return Ok(self.permit(&latch, count));
        }
        let me = latch.me();
        let wants_many = count > 1;
        if wants_many {
            latch.add(MANY, WANT_MANY, 1);
        }
        let outcome = loop {
            match latch.sleep_and_look(limit) {
                Ok(held) if self.available() < count => latch = held,
                other => break other,
            }
        };
        match outcome {
            Ok(latch) => {
                if wants_many {
                    latch.add(MANY, WANT_MANY, -1);
                }
                self.keep(0);
                Ok(self.permit(&latch, count))
            }
            Err(end) => {
                if wants_many {
                    latch::withdraw(self.object.object(), me, MANY, WANT_MANY);
                }
                Err(end)
            }
        }
    }

    /// Returns whether a thread that has not slept may take this many permits.
    #[inline]
    fn has(&self, count: u32) -> bool {
        self.available().saturating_sub(self.object.number(KEPT)) >= count
    }

    fn keep(&self, permits: u32) {
        self.object.word(KEPT).store(permits, Ordering::Relaxed);
    }

    /// Under the latch: adds permits to this process's record.
    fn permit(&self, latch: &Latch<'_>, count: u32) -> Permit<'_> {
        latch.add(MINE, HELD, count as i32);
        Permit { semaphore: self, count }
    }

    /// Removes permits from this process's record. They are returned or, with `forget`, belong to
    /// no process.
    fn give_up(&self, count: u32, forget: bool) {
        // Fails only in a fork, where the permits are those of its original.
        let Ok(me) = self.object.me(&Forever) else { return };
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

#[inline]
fn give_up(object: &Arc<Object<SemaphoreWords>>, latch: Latch<'_>, count: u32, forget: bool) {
    latch.add(MINE, HELD, -(count as i32));
    if forget {
        // After the record: if this process dies between the two, the repair returns the permit,
        // like any other that it holds.
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
        self.semaphore.give_up(self.count, true);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.give_up(self.count, false);
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
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::sync::word;
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
                latch.add(MINE, HELD, 1);
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
    fn a_permit_is_kept_for_a_sleeper_when_its_turn_has_come() {
        const ROUNDS: usize = 60;
        let semaphore = Semaphore::new(1).unwrap();
        let (region, stop) = (&semaphore.object.region, AtomicBool::new(false));
        let mut taken_again = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    drop(semaphore.acquire().unwrap());
                }
            });
            for _ in 0..ROUNDS {
                let permit = semaphore.acquire().unwrap();
                while latch::sleepers(region) == 0 {
                    std::thread::yield_now();
                }
                // Nothing shows whether it has fallen asleep, so not every round counts.
                std::thread::sleep(Duration::from_millis(1));
                let long_ago = (monotonic_us() as u32).wrapping_sub(1_000_000);
                semaphore.object.word(TURNS).store(long_ago, Ordering::Relaxed);
                drop(permit);
                taken_again += usize::from(semaphore.try_acquire().is_ok());
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert!(taken_again < ROUNDS / 2, "taken again in {taken_again} of {ROUNDS} rounds");
        assert_eq!(semaphore.object.number(KEPT), 0);
    }

    #[test]
    fn a_permit_that_was_kept_for_a_dead_thread_is_free_again() {
        let semaphore = Semaphore::new(1).unwrap();
        semaphore.keep(1);
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
