//! Many readers or one writer.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytemuck::Pod;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, EncodeError, LockError, LockTimeoutError, SyncError, TryLockError,
};
use crate::ipc::region::Region;
use crate::ipc::wire;
use crate::sync::latch::{self, BEHIND, Latch};
use crate::sync::object::{Kind, NoSession, Object};
use crate::sync::poison;
use crate::sync::value::{self, Encoded, InPlace, Place, Storage, value_room};
use crate::sync::word::{self, Miss};

/// Read locks that are held: the sum of the records.
const READERS: usize = 8;
/// Threads that wait to write: the sum of the records.
const WANTING: usize = 12;
/// The thread that writes, or 0.
const WRITER: usize = 16;
const VALUE: usize = BEHIND;

/// Read locks that the record's process holds.
const READ: usize = 0;
/// Its threads that wait to write.
const WANT: usize = 1;

#[derive(Debug)]
enum Access {}

impl Kind for Access {
    const NAME: &'static str = "read-write lock";

    fn ended(region: &Region, dead: u32, patient: bool) -> bool {
        Latch::inherit(region, dead, patient).is_some_and(|latch| {
            let writer: &AtomicU32 = region.number(WRITER);
            if word::session(writer.load(Ordering::Relaxed)) == dead {
                poison::by_death(region);
                writer.store(0, Ordering::Relaxed);
            }
            latch.clear(dead, READ, READERS);
            latch.clear(dead, WANT, WANTING);
            latch.clear_and_wake(dead);
            true
        })
    }

    fn gone(region: &Region) {
        latch::abandon(region);
    }

    fn holds(region: &Region, session: u32) -> bool {
        let writer = region.number::<AtomicU32>(WRITER).load(Ordering::Relaxed);
        word::session(writer) == session
            || latch::record(region, session, READ).load(Ordering::Relaxed) > 0
    }
}

/// A value that many threads of all processes read at a time, or one writes. Dropping a handle does nothing to the
/// others; dropping a guard unlocks.
///
/// As [`std::sync::RwLock`], also in its poisoning: when a writer panics, *or its process dies*, whoever locks next
/// gets an error that holds the guard. A reader's death poisons nothing. Writers go before readers: when one waits, new
/// readers wait behind it. For the rest see [`Mutex`](crate::sync::Mutex), as for how values lie in it.
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
#[must_use]
pub struct RwLock<T: ?Sized, S = InPlace> {
    object: Arc<Object<Access>>,
    value: PhantomData<fn(S) -> Box<T>>,
}

/// Reads, until it is dropped.
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
    thread: PhantomData<*const ()>,
}

/// Writes, until it is dropped.
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
    me: u32,
    panicking: bool,
    thread: PhantomData<*const ()>,
}

// SAFETY: as std's: `&guard` gives `&T`, and unlocking takes the guard itself.
unsafe impl<T: ?Sized + Sync, S: Storage<T>> Sync for RwLockReadGuard<'_, T, S> where S::View: Sync {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync, S: Storage<T>> Sync for RwLockWriteGuard<'_, T, S> where S::View: Sync {}

impl<T: Pod> RwLock<T> {
    /// A new lock around plain data, which lies in shared memory itself.
    ///
    /// # Errors
    ///
    /// If the memory, or a descriptor for it, cannot be had.
    pub fn new(value: T) -> Result<RwLock<T>, CreateError> {
        RwLock::make(size_of::<T>(), align_of::<T>(), |region| {
            region.store(VALUE, bytemuck::bytes_of(&value));
        })
    }
}

impl<T: Pod> RwLock<[T]> {
    /// A new lock around so many elements, all of them zero, in shared memory itself.
    ///
    /// # Errors
    ///
    /// If that much memory, or a descriptor, cannot be had.
    pub fn zeroed(len: usize) -> Result<RwLock<[T]>, CreateError> {
        assert!(
            size_of::<T>() > 0,
            "elements without a size cannot be shared"
        );
        RwLock::make(len.saturating_mul(size_of::<T>()), align_of::<T>(), |_| ())
    }

    /// A new lock around a copy of these elements.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](RwLock::zeroed).
    pub fn from_slice(elements: &[T]) -> Result<RwLock<[T]>, CreateError> {
        let bytes = bytemuck::cast_slice(elements);
        RwLock::make(bytes.len(), align_of::<T>(), |region| {
            region.store(VALUE, bytes)
        })
    }
}

impl<T: Serialize + DeserializeOwned + 'static> RwLock<T, Encoded> {
    /// A new lock around any value that serde can encode; as [`Mutex::encoded`](crate::sync::Mutex::encoded). Each
    /// guard decodes it anew.
    ///
    /// # Errors
    ///
    /// If the value does not encode, or the memory cannot be had.
    pub fn encoded(value: T) -> Result<RwLock<T, Encoded>, CreateError> {
        RwLock::encoded_within(value, 0)
    }

    /// As [`Mutex::encoded_within`](crate::sync::Mutex::encoded_within).
    ///
    /// # Errors
    ///
    /// As [`encoded`](RwLock::encoded).
    pub fn encoded_within(value: T, capacity: usize) -> Result<RwLock<T, Encoded>, CreateError> {
        let (bytes, length) = value_room(&value, capacity)?;
        RwLock::make(length, 1, |region| {
            // There is room: that is what the length was made for.
            let _ = value::write(
                Place {
                    region,
                    offset: VALUE,
                },
                &bytes,
            );
        })
    }
}

impl<T: ?Sized, S> RwLock<T, S> {
    fn make(
        length: usize,
        align: usize,
        set_up: impl FnOnce(&Region),
    ) -> Result<RwLock<T, S>, CreateError> {
        assert!(
            align <= 64,
            "values in locks are aligned to 64 bytes at most"
        );
        let object = Object::new(length.saturating_add(VALUE), Self::fingerprint(), set_up)?;
        Ok(RwLock {
            object,
            value: PhantomData,
        })
    }

    fn fingerprint() -> u64 {
        wire::fingerprint(std::any::type_name::<RwLock<T, S>>())
    }

    /// Whether a writer panicked or died, and nobody has cleared that.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        poison::is_set(&self.object.region)
    }

    /// Says that the value is in order again.
    pub fn clear_poison(&self) {
        poison::clear(&self.object.region);
    }

    fn number(&self, offset: usize) -> u32 {
        self.object.word(offset).load(Ordering::Relaxed)
    }

    /// Waits for the latch, and with it until `busy` is over. Gives the latch, and this thread.
    fn wait(
        &self,
        limit: Limit,
        write: bool,
        busy: impl Fn(&Self) -> bool,
    ) -> Result<(Latch<'_>, u32), NoSession> {
        let deadline = limit.deadline();
        let me = self.object.me(deadline)?;
        let mut latch = Latch::take(&self.object.region, me, deadline)?;
        if self.number(WRITER) == me {
            return Err(Miss::Deadlock.into());
        }
        if !busy(self) {
            return Ok((latch, me));
        }
        if matches!(limit, Limit::Now) {
            return Err(NoSession::Timeout);
        }
        let session = word::session(me);
        if write {
            latch.add(session, WANT, WANTING, 1);
        }
        let outcome = loop {
            match latch.sleep(deadline) {
                Ok(held) if busy(self) => latch = held,
                Ok(held) => break Ok(held),
                Err(miss) => break Err(miss),
            }
        };
        match outcome {
            Ok(latch) => {
                if write {
                    latch.add(session, WANT, WANTING, -1);
                }
                Ok((latch, me))
            }
            Err(miss) => {
                if write {
                    // Readers wait behind this thread: so this cannot be left out, also if the time is over.
                    let latch = Latch::take(&self.object.region, me, None)?;
                    latch.add(session, WANT, WANTING, -1);
                    latch.release(true);
                }
                Err(miss.into())
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Limit {
    Forever,
    Now,
    Until(Option<Instant>),
}

impl Limit {
    fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Until(deadline) => deadline,
            // To see that it is taken takes the latch, which is held for moments.
            Limit::Forever | Limit::Now => None,
        }
    }

    fn within(timeout: Duration) -> Limit {
        // A deadline that the clock cannot express is none.
        Limit::Until(Instant::now().checked_add(timeout))
    }
}

impl<T: ?Sized, S: Storage<T>> RwLock<T, S> {
    fn read_within(&self, limit: Limit) -> Result<RwLockReadGuard<'_, T, S>, NoSession> {
        let (latch, me) = self.wait(limit, false, |lock| {
            lock.number(WRITER) != 0 || lock.number(WANTING) > 0
        })?;
        latch.add(word::session(me), READ, READERS, 1);
        drop(latch);
        match S::open(self.place()) {
            Ok(view) => Ok(RwLockReadGuard {
                lock: self,
                view,
                me,
                thread: PhantomData,
            }),
            Err(error) => {
                self.end_read(me);
                Err(NoSession::Failed(SyncError::Decode(error)))
            }
        }
    }

    fn write_within(&self, limit: Limit) -> Result<RwLockWriteGuard<'_, T, S>, NoSession> {
        let (latch, me) = self.wait(limit, true, |lock| {
            lock.number(WRITER) != 0 || lock.number(READERS) > 0
        })?;
        self.object.word(WRITER).store(me, Ordering::Relaxed);
        drop(latch);
        match S::open(self.place()) {
            Ok(view) => Ok(RwLockWriteGuard {
                lock: self,
                view,
                me,
                panicking: std::thread::panicking(),
                thread: PhantomData,
            }),
            Err(error) => {
                self.end_write(me);
                Err(NoSession::Failed(SyncError::Decode(error)))
            }
        }
    }

    fn end_read(&self, me: u32) {
        // Fails only if there is no lock any more.
        let Ok(latch) = Latch::take(&self.object.region, me, None) else {
            return;
        };
        latch.add(word::session(me), READ, READERS, -1);
        if self.number(READERS) == 0 {
            latch.release(true);
        }
    }

    fn end_write(&self, me: u32) {
        let Ok(latch) = Latch::take(&self.object.region, me, None) else {
            return;
        };
        self.object.word(WRITER).store(0, Ordering::Relaxed);
        latch.release(true);
    }

    fn place(&self) -> Place<'_> {
        Place {
            region: &self.object.region,
            offset: VALUE,
        }
    }

    /// Takes the lock to read; waits as long as another writes, or waits to write.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] with the guard if a writer panicked or died; [`LockError::Failed`] if the process that
    /// made the lock has ended, or if this thread writes already.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T, S>, LockError<RwLockReadGuard<'_, T, S>>> {
        let guard = self
            .read_within(Limit::Forever)
            .map_err(NoSession::of_lock)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock to write; waits as long as others read or write.
    ///
    /// # Errors
    ///
    /// As [`read`](RwLock::read).
    pub fn write(
        &self,
    ) -> Result<RwLockWriteGuard<'_, T, S>, LockError<RwLockWriteGuard<'_, T, S>>> {
        let guard = self
            .write_within(Limit::Forever)
            .map_err(NoSession::of_lock)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock to read if nobody writes, or waits to write.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody does; else as [`read`](RwLock::read).
    pub fn try_read(
        &self,
    ) -> Result<RwLockReadGuard<'_, T, S>, TryLockError<RwLockReadGuard<'_, T, S>>> {
        let guard = self
            .read_within(Limit::Now)
            .map_err(NoSession::of_try_lock)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock to write if nobody reads or writes.
    ///
    /// # Errors
    ///
    /// As [`try_read`](RwLock::try_read).
    pub fn try_write(
        &self,
    ) -> Result<RwLockWriteGuard<'_, T, S>, TryLockError<RwLockWriteGuard<'_, T, S>>> {
        let guard = self
            .write_within(Limit::Now)
            .map_err(NoSession::of_try_lock)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// As [`read`](RwLock::read), at most so long.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] if the time is over; else as [`read`](RwLock::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T, S>, LockTimeoutError<RwLockReadGuard<'_, T, S>>> {
        let guard = self
            .read_within(Limit::within(timeout))
            .map_err(NoSession::of_lock_timeout)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// As [`write`](RwLock::write), at most so long.
    ///
    /// # Errors
    ///
    /// As [`read_timeout`](RwLock::read_timeout).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T, S>, LockTimeoutError<RwLockWriteGuard<'_, T, S>>> {
        let guard = self
            .write_within(Limit::within(timeout))
            .map_err(NoSession::of_lock_timeout)?;
        Ok(poison::check(&self.object.region, guard)?)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> RwLockWriteGuard<'_, T, Encoded> {
    /// As [`MutexGuard::commit`](crate::sync::MutexGuard::commit).
    ///
    /// # Errors
    ///
    /// If the value does not encode, or has more bytes than the lock has room for. The old value stays in the lock.
    pub fn commit(&mut self) -> Result<(), EncodeError> {
        Encoded::close(self.lock.place(), &mut self.view)
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
        value::put_back::<T, S>(self.lock.place(), &mut self.view, self.panicking);
        self.lock.end_write(self.me);
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

impl<T: ?Sized, S> Clone for RwLock<T, S> {
    fn clone(&self) -> RwLock<T, S> {
        RwLock {
            object: self.object.clone(),
            value: PhantomData,
        }
    }
}

impl<T: ?Sized, S> fmt::Debug for RwLock<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("value", &std::any::type_name::<T>())
            .field("readers", &self.number(READERS))
            .field("written", &(self.number(WRITER) != 0))
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized, S> Serialize for RwLock<T, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T: ?Sized, S: Storage<T>> Deserialize<'de> for RwLock<T, S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let valid = |length: usize| length.checked_sub(VALUE).is_some_and(S::fits);
        let object = Object::deserialize(Self::fingerprint(), valid, deserializer)?;
        Ok(RwLock {
            object,
            value: PhantomData,
        })
    }
}
