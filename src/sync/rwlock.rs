//! Many readers or one writer.
//!
//! The state is three numbers: the number of read locks held, the number of threads that wait to
//! write, and the thread that writes. They change under the latch, except that a writer unlocks by
//! one store. Readers and waiting writers are counted per process (see [`latch`]); the writer is
//! named by its thread, like the holder of a mutex.
//!
//! A process may die at any of these points:
//!
//! - *While it holds read locks, or waits to write.* The repair clears its record; the others'
//!   counts are true, so the lock is neither held nor reserved by the dead.
//! - *While it writes.* The repair finds its session in the writer's word, poisons the lock, then
//!   frees it.
//! - *Between taking the latch and changing a number, or between the number and the release.* The
//!   repair inherits the latch, so no other thread has seen the half-done change. It wakes every
//!   sleeper, in case the dead process had released something without waking anyone.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
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
use crate::sync::latch::{self, LATCH_BYTES, Latch};
use crate::sync::object::{ObjectHandle, Primitive, owner_answers};
use crate::sync::value::{
    self, Encoded, InPlace, LockValue, Storage, lock_around_value, poison_methods,
};
use crate::sync::{poison, word};

/// The number of read locks held: the sum of the records.
const READERS: usize = 8;
/// The number of threads that wait to write: the sum of the records.
const WRITERS_WAITING: usize = 12;
/// The thread that writes, or 0.
const WRITER: usize = 16;

/// Fields of a record: the read locks that the process holds, and its threads that wait to write.
const READ: usize = 0;
const WAIT_TO_WRITE: usize = 1;

#[derive(Debug)]
enum RwLockWords {}

impl Primitive for RwLockWords {
    const WORDS_LEN: usize = LATCH_BYTES;

    fn repair(region: &Region, dead: u32) -> bool {
        Latch::inherit(region, dead).is_some_and(|latch| {
            let writer: &AtomicU32 = region.number(WRITER);
            if word::session(writer.load(Ordering::Relaxed)) == dead {
                poison::by_death(region);
                writer.store(0, Ordering::Relaxed);
            }
            latch.clear(dead, READ, READERS);
            latch.clear(dead, WAIT_TO_WRITE, WRITERS_WAITING);
            latch.clear_and_wake(dead);
            true
        })
    }

    fn abandon(region: &Region) {
        latch::abandon(region);
    }

    fn holds(region: &Region, session: u32) -> bool {
        let writer = region.number::<AtomicU32>(WRITER).load(Ordering::Relaxed);
        word::session(writer) == session
            || latch::record(region, session, READ).load(Ordering::Relaxed) > 0
    }
}

/// A value that many threads may read at a time, or one may write, in any process. Dropping a
/// handle does not affect the others; dropping a guard unlocks.
///
/// Like [`std::sync::RwLock`], including its poisoning: when a writer panics, *or its process
/// dies*, the next thread gets the lock with an error that holds the guard. A reader's death
/// poisons nothing. For how values are stored, and for the rest, see [`Mutex`](crate::sync::Mutex).
///
/// Writers go first: while one waits, new readers wait too. So a thread that holds a read lock must
/// not block on `read` or `write` of the same lock: it may wait for itself, which is not detected.
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

/// How a thread wants to use the value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl<T: ?Sized, S> RwLock<T, S> {
    fn is_busy(&self, access: Access) -> bool {
        let others = match access {
            Access::Read => WRITERS_WAITING,
            Access::Write => READERS,
        };
        self.writer() != 0 || self.object.number(others) > 0
    }

    /// The thread that writes. Acquires what the last one has written, which has unlocked without
    /// the latch.
    fn writer(&self) -> u32 {
        self.object.word(WRITER).load(Ordering::Acquire)
    }

    fn check_deadlock(&self, latch: &Latch<'_>) -> Result<(), SyncError> {
        if self.writer() == latch.me() {
            return Err(SyncError::Deadlock);
        }
        Ok(())
    }

    /// Blocks until the lock is free for this access, and returns with the latch held.
    #[inline]
    fn wait_until_free<L: TimeLimit>(
        &self,
        access: Access,
        limit: &L,
    ) -> Waited<Latch<'_>, SyncError, L> {
        let latch = Latch::of(&self.object, limit)?;
        self.check_deadlock(&latch)?;
        if self.is_busy(access) { self.sleep_until_free(latch, access, limit) } else { Ok(latch) }
    }

    #[cold]
    fn sleep_until_free<'a, L: TimeLimit>(
        &'a self,
        mut latch: Latch<'a>,
        access: Access,
        limit: &L,
    ) -> Waited<Latch<'a>, SyncError, L> {
        let me = latch.me();
        // Announce the writer before the latch is released: readers that come later must see it.
        if access == Access::Write {
            latch.add(WAIT_TO_WRITE, WRITERS_WAITING, 1);
        }
        let outcome = loop {
            match latch.sleep(limit) {
                Ok(held) if self.is_busy(access) => latch = held,
                other => break other,
            }
        };
        if access == Access::Read {
            return outcome;
        }
        match outcome {
            Ok(latch) => {
                latch.add(WAIT_TO_WRITE, WRITERS_WAITING, -1);
                Ok(latch)
            }
            Err(end) => {
                // Readers wait for as long as this writer is announced.
                latch::withdraw(self.object.object(), me, WAIT_TO_WRITE, WRITERS_WAITING);
                Err(end)
            }
        }
    }

    /// Returns with the latch held if the lock is free for this access.
    fn try_free(&self, access: Access) -> Result<Latch<'_>, TryError> {
        // The latch is held for a few instructions. If its holder is stopped, this returns
        // `WouldBlock` after a second.
        let latch = Latch::of(&self.object, &owner_answers())?;
        self.check_deadlock(&latch)?;
        if self.is_busy(access) {
            return Err(TryError::WouldBlock);
        }
        Ok(latch)
    }

    fn end_read(&self, me: u32) {
        // Fails only if the owner is gone, and with it the lock.
        let Ok(latch) = Latch::take(&self.object.region, me, &Forever) else {
            return;
        };
        latch.add(READ, READERS, -1);
        if self.object.number(READERS) == 0 {
            // All: a writer and readers may both wait, and only the writer can proceed.
            latch.release(true);
        }
    }

    fn end_write(&self) {
        // One store, which needs no latch: while a thread writes, only that thread changes the word.
        // If its process dies before it wakes the others, the repair does.
        self.object.word(WRITER).store(0, Ordering::Release);
        latch::notify_all(&self.object.region);
    }
}

impl<T: ?Sized, S: Storage<T>> RwLock<T, S> {
    /// Makes the thread that holds the latch a reader, and opens the value.
    fn start_read(&self, latch: Latch<'_>) -> Result<RwLockReadGuard<'_, T, S>, SyncError> {
        let me = latch.me();
        latch.add(READ, READERS, 1);
        drop(latch);
        match S::open(self.object.value()) {
            Ok(view) => Ok(RwLockReadGuard { lock: self, view, me, thread: PhantomData }),
            Err(error) => {
                self.end_read(me);
                Err(SyncError::Decode(error))
            }
        }
    }

    /// Makes the thread that holds the latch the writer, and opens the value.
    fn start_write(&self, latch: Latch<'_>) -> Result<RwLockWriteGuard<'_, T, S>, SyncError> {
        let me = latch.me();
        self.object.word(WRITER).store(me, Ordering::Relaxed);
        drop(latch);
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
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T, S>, LockError<RwLockReadGuard<'_, T, S>>> {
        let free = self.wait_until_free(Access::Read, &Forever);
        let guard = self.start_read(free.map_err(WaitEnd::into_failed)?)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the write lock. Blocks while other threads read or write.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](RwLock::read).
    pub fn write(
        &self,
    ) -> Result<RwLockWriteGuard<'_, T, S>, LockError<RwLockWriteGuard<'_, T, S>>> {
        let free = self.wait_until_free(Access::Write, &Forever);
        let guard = self.start_write(free.map_err(WaitEnd::into_failed)?)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes a read lock if no thread writes, or waits to write.
    ///
    /// The first call in a process that did not make the lock may wait up to a second for the
    /// answer of the process that did.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if a thread does, and the errors of [`read`](RwLock::read).
    pub fn try_read(
        &self,
    ) -> Result<RwLockReadGuard<'_, T, S>, TryLockError<RwLockReadGuard<'_, T, S>>> {
        let guard = self.start_read(self.try_free(Access::Read)?).map_err(TryError::from)?;
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
        let guard = self.start_write(self.try_free(Access::Write)?).map_err(TryError::from)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Like [`read`](RwLock::read), but blocks for up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] if the lock was not free in time, and the errors of
    /// [`read`](RwLock::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T, S>, LockTimeoutError<RwLockReadGuard<'_, T, S>>> {
        let free = self.wait_until_free(Access::Read, &Deadline::after(timeout))?;
        let guard = self.start_read(free).map_err(TimeoutError::from)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Like [`write`](RwLock::write), but blocks for up to `timeout`.
    ///
    /// # Errors
    ///
    /// The errors of [`read_timeout`](RwLock::read_timeout).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T, S>, LockTimeoutError<RwLockWriteGuard<'_, T, S>>> {
        let free = self.wait_until_free(Access::Write, &Deadline::after(timeout))?;
        let guard = self.start_write(free).map_err(TimeoutError::from)?;
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
    fn drop(&mut self) {
        self.lock.end_read(self.me);
    }
}

impl<T: ?Sized, S: Storage<T>> Drop for RwLockWriteGuard<'_, T, S> {
    fn drop(&mut self) {
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
        f.debug_struct("RwLock")
            .field("value", &std::any::type_name::<T>())
            .field("readers", &self.object.number(READERS))
            .field("written", &(self.object.number(WRITER) != 0))
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
