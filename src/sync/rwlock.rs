//! Many readers or one writer.
//!
//! The [state word](state) holds the thread that writes, named like the holder of a mutex, the read
//! locks of one process, and a mark that others hold some. So taking a free lock is one step, and
//! so is unlocking while no thread waits. Everything else happens under the latch: read locks of
//! further processes, and threads that wait to write, are counted per process (see [`latch`]).
//!
//! Writers go first, and a writer that runs goes before those that are just waking up. So that no
//! thread waits for ever, once in a millisecond a writer that unlocks *keeps* the lock, as
//! [`word`](crate::sync::word) explains: only a thread that has slept may take it, to read or to
//! write, even if others wait to write. If it finds that no thread slept, it frees the lock itself.
//!
//! A process may die at any of these points:
//!
//! - *While it holds read locks, or waits to write.* The repair clears its record. The others'
//!   counts are true, so the lock is neither held nor reserved by the dead process.
//! - *While it writes.* The repair finds its session in the state word, poisons the lock, then frees
//!   it.
//! - *After it has kept the lock, or after it was woken for a lock that is kept.* The repair frees a
//!   kept lock, whichever process has died.
//! - *Between taking the latch and changing a number, or between the number and the release.* The
//!   repair inherits the latch, so no other thread has seen the half-done change. It wakes every
//!   sleeper, in case the dead process had released something without waking a thread.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::Pod;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{
    CreateError, EncodeError, LockError, LockTimeoutError, SyncError, TimeoutError, TryError,
    TryLockError,
};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::latch::{self, Claim, LATCH_BYTES, Latch};
use crate::sync::object::{ObjectHandle, Primitive, owner_answers};
use crate::sync::poison;
use crate::sync::rwlock::decisions::{
    Access, claimed, kept_no_longer, read, read_ended, repaired, write_ended, writer, written,
};
use crate::sync::state::{self, State};
use crate::sync::value::{
    self, Encoded, InPlace, LockValue, Storage, lock_around_value, poison_methods,
};
use crate::sync::word::{self, Turns};
use crate::sys;

/// The sum of the read locks that processes hold in their records.
const READERS: usize = 8;
/// The sum of the threads that wait to write, over the records.
const WRITERS_WAITING: usize = 12;
/// The [state word](state). Its number is the thread that writes, `KEPT`, `RECORDS`, or 0; its
/// inline record counts read locks.
const STATE: usize = 16;
/// When a sleeper last had its turn.
const TURNS: usize = 24;

/// Fields of a record: the read locks that the process holds outside the inline record, and its
/// threads that wait to write.
const READ: usize = 0;
const WAIT_TO_WRITE: usize = 1;

mod decisions;
#[cfg(test)]
mod model;

#[derive(Debug)]
enum RwLockWords {}

impl Primitive for RwLockWords {
    const WORDS_LEN: usize = LATCH_BYTES;

    fn repair(region: &Region, dead: u32) -> bool {
        Latch::inherit(region, dead).is_some_and(|latch| {
            latch.clear(dead, READ, READERS);
            latch.clear(dead, WAIT_TO_WRITE, WRITERS_WAITING);
            let records = readers_of_records(region) > 0;
            let _ = state::update(region.atomic(STATE), |seen| {
                if word::session(writer(seen)) == dead {
                    // Before the lock is freed, so that the next holder sees the poison.
                    poison::by_death(region);
                }
                Some(repaired(seen, dead, records))
            });
            latch.clear_and_wake(dead);
            true
        })
    }

    fn abandon(region: &Region) {
        state::abandon(region.atomic(STATE));
        latch::abandon(region);
    }

    fn holds(region: &Region, session: u32) -> bool {
        let seen = state::load(region.atomic(STATE));
        word::session(writer(seen)) == session
            || seen.held_by(session) > 0
            || latch::record(region, session, READ).load(Ordering::Relaxed) > 0
    }
}

fn readers_of_records(region: &Region) -> u32 {
    region.number::<AtomicU32>(READERS).load(Ordering::Relaxed)
}

/// A value that many threads may read at a time, or one may write, in any process. Dropping a
/// handle does not affect the others; dropping a guard unlocks.
///
/// Like [`std::sync::RwLock`], including its poisoning: when a writer panics, *or its process
/// dies*, the next thread gets the lock with an error that holds the guard. The death of a reader
/// does not poison the lock. [`Mutex`](crate::sync::Mutex) explains how values are stored, and
/// everything else.
///
/// Writers go first: while one waits, new readers wait too. So a thread that holds a read lock must
/// not block on `read` or `write` of the same lock. It may wait for itself, which is not detected.
///
/// A thread that runs goes before those that are just waking up for the lock. But about once a
/// millisecond a writer that unlocks keeps the lock for a thread that has slept for it, to read or
/// to write. So however greedy others are, each of n threads gets it, on average, at least once in
/// the time of n such turns.
///
/// ```
/// use offspring::sync::RwLock;
///
/// #[offspring::worker]
/// fn sum(numbers: RwLock<[f64]>) -> f64 {
///     numbers.read().unwrap().iter().sum() // no copy: a slice of the shared memory
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let numbers = RwLock::<[f64]>::zeroed(1000)?;
///     numbers.write().unwrap()[..10].fill(0.5);
///     let children = [sum::spawn(numbers.clone())?, sum::spawn(numbers.clone())?];
///     for child in children {
///         assert_eq!(child.join()?, 5.0);
///     }
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "", deserialize = "T: 'static, S: Storage<T>"))]
#[must_use]
pub struct RwLock<T: ?Sized, S = InPlace> {
    object: ObjectHandle<RwLockWords, LockValue<T, S>>,
}

/// Holds a read lock of an [`RwLock`]. Dropping it unlocks.
///
/// ```
/// use offspring::sync::RwLock;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let prices = RwLock::from_slice(&[3.0, 4.0])?;
/// let (one, other) = (prices.read().unwrap(), prices.read().unwrap()); // many read at once
/// assert_eq!(one[0] + other[1], 7.0);
/// assert!(prices.try_write().is_err());
/// # drop((one, other));
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockReadGuard<'a, T: ?Sized, S: Storage<T> = InPlace> {
    lock: &'a RwLock<T, S>,
    view: S::View,
    me: u32,
    /// The lock belongs to the thread, so the guard is not `Send`.
    thread: PhantomData<*const ()>,
}

/// Holds the write lock of an [`RwLock`]. Dropping it unlocks.
///
/// ```
/// use offspring::sync::RwLock;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let prices = RwLock::from_slice(&[3.0, 4.0])?;
/// let mut all = prices.write().unwrap();
/// all.iter_mut().for_each(|price| *price *= 2.0);
/// drop(all); // now others may read
/// assert_eq!(prices.read().unwrap()[1], 8.0);
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized, S: Storage<T> = InPlace> {
    lock: &'a RwLock<T, S>,
    view: S::View,
    was_panicking: bool,
    thread: PhantomData<*const ()>,
}

// SAFETY: as for std's guards: `&guard` returns only `&T`, and unlocking needs the guard itself.
unsafe impl<T: ?Sized + Sync, S: Storage<T>> Sync for RwLockReadGuard<'_, T, S> where S::View: Sync {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync, S: Storage<T>> Sync for RwLockWriteGuard<'_, T, S> where S::View: Sync {}

lock_around_value! { RwLock, "read-write lock" }

/// Under the latch: ends one of this process's read locks.
fn release_read(latch: Latch<'_>) {
    let region = latch.region();
    let state = region.atomic(STATE);
    if state::update(state, |seen| seen.left(word::session(latch.me()), 1)).is_err() {
        latch.add(READ, READERS, -1);
    }
    let mut is_read = readers_of_records(region) > 0;
    if !is_read {
        let unmark = |seen: State| Some(seen.with_number(writer(seen)));
        is_read = state::update(state, unmark).is_ok_and(|seen| seen.count() > 0);
    }
    if !is_read {
        // Wake all: a writer and readers may both be waiting, and only the writer can proceed.
        latch.release(true);
    }
}

impl<T: ?Sized, S> RwLock<T, S> {
    #[inline]
    fn state(&self) -> &AtomicU64 {
        self.object.region.atomic(STATE)
    }

    /// Takes the lock, and blocks until it is free for this access. Returns the calling thread.
    #[inline(always)]
    fn take<L: TimeLimit>(&self, access: Access, limit: &L) -> Waited<u32, SyncError, L> {
        let me = self.object.me(limit)?;
        if !self.take_at_once(me, access) {
            self.take_or_wait(me, access, limit)?;
        }
        Ok(me)
    }

    /// Takes the lock if it is free for this access. Returns the calling thread.
    #[inline]
    fn try_take(&self, access: Access) -> Result<u32, TryError> {
        let me = self.object.me(&owner_answers())?;
        if !self.take_at_once(me, access) {
            self.check_deadlock(me)?;
            // The latch is held for a few instructions. If its holder is stopped, this returns
            // `WouldBlock` after a second.
            let latch = Latch::take(&self.object.region, me, &owner_answers())?;
            if !self.claim(&latch, access, Claim::Once) {
                return Err(TryError::WouldBlock);
            }
        }
        Ok(me)
    }

    /// Takes the lock if that needs no latch.
    #[inline]
    fn take_at_once(&self, me: u32, access: Access) -> bool {
        let taken = state::update(self.state(), |seen| match access {
            Access::Read => read(seen, word::session(me)),
            Access::Write => written(seen, me),
        });
        taken.is_ok()
    }

    fn check_deadlock(&self, me: u32) -> Result<(), SyncError> {
        let is_ours = writer(state::load(self.state())) == me;
        if is_ours { Err(SyncError::Deadlock) } else { Ok(()) }
    }

    #[cold]
    fn take_or_wait<L: TimeLimit>(
        &self,
        me: u32,
        access: Access,
        limit: &L,
    ) -> Waited<(), SyncError, L> {
        self.check_deadlock(me)?;
        let mut latch = Latch::take(&self.object.region, me, limit)?;
        if self.claim(&latch, access, Claim::OrWait) {
            return Ok(());
        }
        // Announce the writer before the latch is released, so that readers that come later see it.
        if access == Access::Write {
            latch.add(WAIT_TO_WRITE, WRITERS_WAITING, 1);
        }
        let outcome = loop {
            // If the lock is kept for threads that are stopped, this thread takes it at its next
            // check.
            match latch.sleep_and_look(limit) {
                Ok(held) if !self.claim(&held, access, Claim::AfterSleep) => latch = held,
                other => break other,
            }
        };
        if access == Access::Read {
            return outcome.map(drop);
        }
        match outcome {
            Ok(latch) => {
                latch.add(WAIT_TO_WRITE, WRITERS_WAITING, -1);
                Ok(())
            }
            Err(end) => {
                // Readers would wait as long as this writer is announced.
                latch::withdraw(self.object.object(), me, WAIT_TO_WRITE, WRITERS_WAITING);
                Err(end)
            }
        }
    }

    /// Under the latch: takes the lock, and returns whether it was free for this access. If it was
    /// not, and this thread is going to sleep, the next thread that unlocks it wakes the sleepers.
    fn claim(&self, latch: &Latch<'_>, access: Access, claim: Claim) -> bool {
        let sleepers = latch::sleepers(&self.object.region) > 0;
        let writers_wait = self.object.number(WRITERS_WAITING) > 0;
        let mut by_record = None;
        let _ = state::update(self.state(), |seen| {
            let slept = claim == Claim::AfterSleep;
            let claimed = claimed(seen, latch.me(), access, slept, writers_wait, sleepers);
            by_record = claimed.map(|(_, by_record)| by_record);
            let waiting = (claim != Claim::Once).then(|| seen.with_waits(true));
            claimed.map(|(new, _)| new).or(waiting)
        });
        if by_record == Some(true) {
            latch.add(READ, READERS, 1);
        }
        by_record.is_some()
    }

    #[inline]
    fn end_read(&self, me: u32) {
        let ended = state::update(self.state(), |seen| read_ended(seen, word::session(me)));
        if ended.is_err() {
            self.end_read_by_latch(me);
        }
    }

    #[cold]
    fn end_read_by_latch(&self, me: u32) {
        match Latch::try_take(&self.object.region, me) {
            Some(latch) => release_read(latch),
            None => latch::give_back(self.object.object(), me, release_read),
        }
    }

    #[inline]
    fn end_write(&self) {
        // One step, which needs no latch. If this process dies before it wakes the others, the
        // repair wakes them.
        let ended = state::update(self.state(), |seen| {
            if seen.waits() { None } else { Some(write_ended(seen, false)) }
        });
        if ended.is_err() {
            self.end_write_and_wake();
        }
    }

    #[cold]
    fn end_write_and_wake(&self) {
        // This thread still writes, so no other one reads or changes the time of the turn.
        let keep = Turns(self.object.word(TURNS)).next();
        let _ = state::update(self.state(), |seen| Some(write_ended(seen, keep)));
        let woke = latch::notify_all(&self.object.region);
        if keep && !woke && state::update(self.state(), kept_no_longer).is_ok() {
            // A thread may have begun to sleep in the meantime, because the lock was kept.
            latch::notify_all(&self.object.region);
        }
    }
}

impl<T: ?Sized, S: Storage<T>> RwLock<T, S> {
    /// Opens the value for a thread that has just taken a read lock.
    #[inline(always)]
    fn start_read(&self, me: u32) -> Result<RwLockReadGuard<'_, T, S>, SyncError> {
        match S::open(self.object.value()) {
            Ok(view) => Ok(RwLockReadGuard { lock: self, view, me, thread: PhantomData }),
            Err(error) => {
                self.end_read(me);
                Err(SyncError::Decode(error))
            }
        }
    }

    /// Opens the value for the thread that has just taken the write lock.
    #[inline(always)]
    fn start_write(&self) -> Result<RwLockWriteGuard<'_, T, S>, SyncError> {
        match S::open(self.object.value()) {
            Ok(view) => Ok(RwLockWriteGuard {
                lock: self,
                view,
                was_panicking: std::thread::panicking(),
                thread: PhantomData,
            }),
            Err(error) => {
                self.end_write();
                Err(SyncError::Decode(error))
            }
        }
    }

    /// Takes a read lock. Blocks while another thread writes, or waits to write.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] with the guard if a writer panicked or died,
    /// [`LockError::Disconnected`] if the process that made the lock has ended,
    /// [`LockError::Deadlock`] if the calling thread holds the write lock, [`LockError::Decode`] if
    /// an [encoded](RwLock::encoded) value does not decode.
    // Always inlined, like `Mutex::lock`.
    #[inline(always)]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T, S>, LockError<RwLockReadGuard<'_, T, S>>> {
        let me = self.take(Access::Read, &Forever).map_err(WaitEnd::into_failed)?;
        let guard = self.start_read(me)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the write lock. Blocks while other threads read or write.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](RwLock::read).
    // Always inlined, like `Mutex::lock`.
    #[inline(always)]
    pub fn write(
        &self,
    ) -> Result<RwLockWriteGuard<'_, T, S>, LockError<RwLockWriteGuard<'_, T, S>>> {
        self.take(Access::Write, &Forever).map_err(WaitEnd::into_failed)?;
        let guard = self.start_write()?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes a read lock if no thread writes, or waits to write.
    ///
    /// The first call in a process that did not make the lock may wait up to a second for the
    /// answer of the process that did.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if a thread writes or waits to write, and the errors of
    /// [`read`](RwLock::read).
    pub fn try_read(
        &self,
    ) -> Result<RwLockReadGuard<'_, T, S>, TryLockError<RwLockReadGuard<'_, T, S>>> {
        let guard = self.start_read(self.try_take(Access::Read)?).map_err(TryError::from)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the write lock if no thread reads or writes.
    ///
    /// # Errors
    ///
    /// The errors of [`try_read`](RwLock::try_read).
    pub fn try_write(
        &self,
    ) -> Result<RwLockWriteGuard<'_, T, S>, TryLockError<RwLockWriteGuard<'_, T, S>>> {
        self.try_take(Access::Write)?;
        let guard = self.start_write().map_err(TryError::from)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Like [`read`](RwLock::read), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] if the lock was not free in time, and the errors of
    /// [`read`](RwLock::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T, S>, LockTimeoutError<RwLockReadGuard<'_, T, S>>> {
        let me = self.take(Access::Read, &Deadline::after(timeout))?;
        let guard = self.start_read(me).map_err(TimeoutError::from)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Like [`write`](RwLock::write), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The errors of [`read_timeout`](RwLock::read_timeout).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T, S>, LockTimeoutError<RwLockWriteGuard<'_, T, S>>> {
        self.take(Access::Write, &Deadline::after(timeout))?;
        let guard = self.start_write().map_err(TimeoutError::from)?;
        Ok(poison::check(&self.object.region, guard)?)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> RwLockWriteGuard<'_, T, Encoded> {
    /// Writes the value back now. Dropping the guard also writes it back, but there a failure can
    /// only poison the lock.
    ///
    /// # Errors
    ///
    /// If the value does not encode, or has more bytes than the lock has room for. The lock keeps
    /// the old value.
    pub fn commit(&mut self) -> Result<(), EncodeError> {
        Encoded::close(self.lock.object.value(), &mut self.view)
    }
}

impl<T: ?Sized, S: Storage<T>> Deref for RwLockReadGuard<'_, T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        S::get(&self.view)
    }
}

impl<T: ?Sized, S: Storage<T>> Deref for RwLockWriteGuard<'_, T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        S::get(&self.view)
    }
}

impl<T: ?Sized, S: Storage<T>> DerefMut for RwLockWriteGuard<'_, T, S> {
    fn deref_mut(&mut self) -> &mut T {
        S::get_mut(&mut self.view)
    }
}

impl<T: ?Sized, S: Storage<T>> Drop for RwLockReadGuard<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        // The lock belongs to the original of a fork.
        if sys::is_fork() {
            return;
        }
        self.lock.end_read(self.me);
    }
}

impl<T: ?Sized, S: Storage<T>> Drop for RwLockWriteGuard<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        // The lock belongs to the original of a fork.
        if sys::is_fork() {
            return;
        }
        value::write_back::<T, S>(self.lock.object.value(), &mut self.view, self.was_panicking);
        self.lock.end_write();
    }
}

impl<T: ?Sized + fmt::Debug, S: Storage<T>> fmt::Debug for RwLockReadGuard<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug, S: Storage<T>> fmt::Debug for RwLockWriteGuard<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized, S> fmt::Debug for RwLock<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = state::load(self.state());
        f.debug_struct("RwLock")
            .field("value", &std::any::type_name::<T>())
            .field("readers", &self.object.number(READERS).wrapping_add(seen.count()))
            .field("written", &(writer(seen) != 0))
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::sync::watched::WatchedThread;
    use crate::sync::word::KEPT;
    use crate::sys::monotonic_us;

    const LONG: Duration = Duration::from_secs(20);

    fn wait_for_a_sleeper<T>(lock: &RwLock<T>) {
        while latch::sleepers(&lock.object.region) == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn waiting_to_write_ends_in_time_while_a_stopped_process_holds_the_latch() {
        let lock = RwLock::new(1).unwrap();
        std::thread::scope(|scope| {
            let reader = lock.read().unwrap();
            let waits = scope.spawn(|| lock.write_timeout(LONG / 50).map(drop).is_err());
            wait_for_a_sleeper(&lock);
            let stopped = Latch::take(&lock.object.region, word::holder(9, 1), &Forever).unwrap();
            assert!(waits.join().unwrap(), "the reader is still there");
            drop(stopped);
            // No reader waits for a writer that has given up.
            drop(lock.read_timeout(LONG).unwrap());
            drop(reader);
        });
    }

    #[test]
    fn a_reader_unlocks_while_a_stopped_process_holds_the_latch() {
        let lock = RwLock::new(1).unwrap();
        let reader = lock.read().unwrap();
        let stopped = Latch::take(&lock.object.region, word::holder(9, 1), &Forever).unwrap();
        // A thread may wait, so the end of the read lock needs the latch.
        let _ = state::update(lock.state(), |seen| Some(seen.with_waits(true)));
        // Returns, though nothing continues before.
        drop(reader);
        drop(stopped);
        drop(lock.write_timeout(LONG).unwrap());
    }

    #[test]
    fn a_writer_unlocks_while_a_stopped_process_holds_the_latch() {
        let lock = RwLock::new(1).unwrap();
        std::thread::scope(|scope| {
            let writer = lock.write().unwrap();
            let waits = scope.spawn(|| *lock.read_timeout(LONG).unwrap());
            wait_for_a_sleeper(&lock);
            let stopped = Latch::take(&lock.object.region, word::holder(9, 1), &Forever).unwrap();
            drop(writer);
            drop(stopped);
            assert_eq!(waits.join().unwrap(), 1);
        });
    }

    /// Makes the next writer that unlocks keep the lock for a sleeper.
    fn begin_a_turn<T>(lock: &RwLock<T>) {
        let long_ago = (monotonic_us() as u32).wrapping_sub(1_000_000);
        lock.object.word(TURNS).store(long_ago, Ordering::Relaxed);
    }

    #[test]
    fn a_reader_has_its_turn_though_a_writer_waits() {
        let lock = RwLock::new(1).unwrap();
        std::thread::scope(|scope| {
            let writer = lock.write().unwrap();
            let waits = scope.spawn(|| *lock.read_timeout(LONG).unwrap());
            wait_for_a_sleeper(&lock);
            // It never comes, so the reader waits for its own turn.
            let latch = Latch::take(&lock.object.region, word::holder(9, 1), &Forever).unwrap();
            latch.add(WAIT_TO_WRITE, WRITERS_WAITING, 1);
            drop(latch);
            let mut writer = Some(writer);
            while !waits.is_finished() {
                begin_a_turn(&lock);
                drop(writer.take());
                writer = lock.try_write().ok();
                std::thread::yield_now();
            }
            assert_eq!(waits.join().unwrap(), 1);
        });
    }

    #[test]
    fn a_lock_is_kept_for_a_sleeper_when_its_turn_has_come() {
        const ROUNDS: usize = 10;
        let lock = RwLock::new(1).unwrap();
        let taken_again = (0..ROUNDS).filter(|_| {
            let (watched, end) = (WatchedThread::default(), Barrier::new(2));
            let writer = lock.write().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    watched.begin();
                    let writer = lock.write().unwrap();
                    end.wait();
                    drop(writer);
                });
                wait_for_a_sleeper(&lock);
                watched.wait_until_it_sleeps();
                begin_a_turn(&lock);
                drop(writer);
                let again = lock.try_write().is_ok();
                end.wait();
                again
            })
        });
        // A waiter that wakes to check just then does not sleep, so not every round counts.
        let taken_again = taken_again.count();
        assert!(taken_again < ROUNDS / 2, "taken again in {taken_again} of {ROUNDS} rounds");
        drop(lock.try_write().unwrap());
    }

    #[test]
    fn a_lock_that_was_kept_for_a_dead_thread_is_free_again() {
        let lock = RwLock::new(1).unwrap();
        let _ = state::update(lock.state(), |seen| Some(seen.with_number(KEPT)));
        assert!(lock.try_write().is_err());
        assert!(lock.try_read().is_err());
        lock.object.session_ended(9);
        drop(lock.try_write().unwrap());
    }

    #[test]
    fn a_lock_is_not_kept_if_no_thread_sleeps() {
        let lock = RwLock::new(1).unwrap();
        let latch = Latch::take(&lock.object.region, word::holder(9, 1), &Forever).unwrap();
        // A sleeper that gave up, but could not withdraw its announcement.
        latch.count_a_sleeper();
        drop(latch);
        for _ in 0..3 {
            let writer = lock.write().unwrap();
            let _ = state::update(lock.state(), |seen| Some(seen.with_waits(true)));
            begin_a_turn(&lock);
            drop(writer);
            drop(lock.try_read().unwrap());
        }
    }
}
