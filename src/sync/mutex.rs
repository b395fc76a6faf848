//! Mutual exclusion between processes.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, EncodeError, LockError, LockTimeoutError, SyncError, TryLockError,
};
use crate::ipc::region::Region;
use crate::ipc::wire;
use crate::sync::object::{Kind, NoSession, Object};
use crate::sync::value::{self, Encoded, InPlace, Place, Storage, value_room};
use crate::sync::{poison, word};
use crate::sys::futex_wake_all;

pub(super) const WORD: usize = 0;
/// On a cache line of its own, so that those who look at the word leave it alone.
pub(super) const VALUE: usize = 64;

#[derive(Debug)]
pub(super) enum Plain {}

impl Kind for Plain {
    const NAME: &'static str = "mutex";

    fn ended(region: &Region, dead: u32, _: bool) -> bool {
        word::repair(region.number(WORD), dead, 0, || poison::by_death(region));
        futex_wake_all(region.number(WORD));
        true
    }

    fn gone(region: &Region) {
        word::abandon(region.number(WORD));
    }

    fn holds(region: &Region, session: u32) -> bool {
        word::holder_of(region.number(WORD)) == session
    }
}

/// A value that one thread of all processes uses at a time. Dropping a handle does nothing to the others; dropping the
/// guard unlocks.
///
/// As [`std::sync::Mutex`], also in its poisoning: when a holder panics, *or its process dies*, the next one gets the
/// lock with an error that holds the guard.
///
/// - A free lock is taken and released by one compare-and-swap each, without a call of the system. A thread that has to
///   wait looks for a moment, then sleeps.
/// - It is not fair: a thread that comes when the lock is free gets it, also before others that wake up for it.
/// - A value of plain data lies in the shared memory itself, of one size ([`new`](Mutex::new)) or a slice
///   ([`zeroed`](Mutex::zeroed)): a holder that dies may leave it half changed. Any other value that serde can encode is
///   copied out and in ([`encoded`](Mutex::encoded)): a holder that dies or panics leaves the old one.
/// - When the process that made the mutex ends, all calls give [`SyncError::Disconnected`].
///
/// ```
/// use offspring::sync::Mutex;
///
/// #[offspring::worker]
/// fn count(total: Mutex<u64>) {
///     for _ in 0..1000 {
///         *total.lock().unwrap() += 1;
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let total = Mutex::new(0)?;
///     let child = count::spawn(total.clone())?;
///     count(total.clone());
///     child.join()?;
///     assert_eq!(*total.lock().unwrap(), 2000);
///     Ok(())
/// }
/// ```
///
/// A value with parts of any size:
///
/// ```
/// use std::collections::BTreeMap;
/// use offspring::sync::{Encoded, Mutex};
///
/// #[offspring::worker]
/// fn note(words: Mutex<BTreeMap<String, u32>, Encoded>) {
///     *words.lock().unwrap().entry("child".to_owned()).or_default() += 1;
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let words = Mutex::encoded(BTreeMap::new())?;
///     note::spawn(words.clone())?.join()?;
///     assert_eq!(words.lock().unwrap()["child"], 1);
///     Ok(())
/// }
/// ```
#[must_use]
pub struct Mutex<T: ?Sized, S = InPlace> {
    object: Arc<Object<Plain>>,
    value: PhantomData<fn(S) -> Box<T>>,
}

/// Has the lock, until it is dropped.
///
/// ```
/// use offspring::sync::Mutex;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let names = Mutex::encoded(vec!["anna".to_owned()])?;
/// let mut guard = names.lock().unwrap();
/// guard.push("ben".to_owned());
/// guard.commit()?; // from here on it survives this process
/// drop(guard);
/// assert_eq!(names.lock().unwrap().len(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MutexGuard<'a, T: ?Sized, S: Storage<T> = InPlace> {
    mutex: &'a Mutex<T, S>,
    view: S::View,
    me: u32,
    panicking: bool,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

// SAFETY: as std's: `&guard` gives `&T`, and unlocking takes the guard itself.
unsafe impl<T: ?Sized + Sync, S: Storage<T>> Sync for MutexGuard<'_, T, S> where S::View: Sync {}

impl<T: Pod> Mutex<T> {
    /// A new mutex around plain data, which lies in shared memory itself.
    ///
    /// # Errors
    ///
    /// If the memory, or a descriptor for it, cannot be had.
    pub fn new(value: T) -> Result<Mutex<T>, CreateError> {
        Mutex::make(size_of::<T>(), align_of::<T>(), |region| {
            region.store(VALUE, bytemuck::bytes_of(&value));
        })
    }
}

impl<T: Pod> Mutex<[T]> {
    /// A new mutex around so many elements, all of them zero, in shared memory itself.
    ///
    /// ```
    /// use offspring::sync::Mutex;
    ///
    /// let numbers = Mutex::<[f64]>::zeroed(1000)?;
    /// numbers.lock().unwrap()[..10].fill(1.0);
    /// assert_eq!(numbers.lock().unwrap().iter().sum::<f64>(), 10.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If that much memory, or a descriptor, cannot be had.
    pub fn zeroed(len: usize) -> Result<Mutex<[T]>, CreateError> {
        assert!(
            size_of::<T>() > 0,
            "elements without a size cannot be shared"
        );
        Mutex::make(len.saturating_mul(size_of::<T>()), align_of::<T>(), |_| ())
    }

    /// A new mutex around a copy of these elements.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](Mutex::zeroed).
    pub fn from_slice(elements: &[T]) -> Result<Mutex<[T]>, CreateError> {
        let bytes = bytemuck::cast_slice(elements);
        Mutex::make(bytes.len(), align_of::<T>(), |region| {
            region.store(VALUE, bytes)
        })
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Mutex<T, Encoded> {
    /// A new mutex around any value that serde can encode. There is room for twice the value's bytes as they are now, and
    /// for at least 64 KiB; see [`encoded_within`](Mutex::encoded_within).
    ///
    /// # Errors
    ///
    /// If the value does not encode, or that much memory cannot be had.
    pub fn encoded(value: T) -> Result<Mutex<T, Encoded>, CreateError> {
        Mutex::encoded_within(value, 0)
    }

    /// A new mutex around a value that will never have more bytes than `capacity` (it gets what it needs now in any
    /// case). A guard whose value has grown beyond leaves the old value, and the lock poisoned.
    ///
    /// # Errors
    ///
    /// As [`encoded`](Mutex::encoded).
    pub fn encoded_within(value: T, capacity: usize) -> Result<Mutex<T, Encoded>, CreateError> {
        let (bytes, length) = value_room(&value, capacity)?;
        Mutex::make(length, 1, |region| {
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

impl<T: ?Sized, S> Mutex<T, S> {
    fn make(
        length: usize,
        align: usize,
        set_up: impl FnOnce(&Region),
    ) -> Result<Mutex<T, S>, CreateError> {
        assert!(
            align <= VALUE,
            "values in locks are aligned to {VALUE} bytes at most"
        );
        let object = Object::new(length.saturating_add(VALUE), Self::fingerprint(), set_up)?;
        Ok(Mutex {
            object,
            value: PhantomData,
        })
    }

    fn fingerprint() -> u64 {
        wire::fingerprint(std::any::type_name::<Mutex<T, S>>())
    }

    /// Whether a holder panicked or died, and nobody has cleared that.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        poison::is_set(&self.object.region)
    }

    /// Says that the value is in order again.
    ///
    /// ```
    /// # let mutex = offspring::sync::Mutex::new(1)?;
    /// let guard = mutex.lock().or_else(|error| {
    ///     let mut guard = error.into_guard()?;
    ///     *guard = 0; // start over
    ///     mutex.clear_poison();
    ///     Ok::<_, offspring::sync::SyncError>(guard)
    /// })?;
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear_poison(&self) {
        poison::clear(&self.object.region);
    }

    /// Whether some thread of some process holds the lock now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        word::is_held(self.object.word(WORD))
    }
}

impl<T: ?Sized, S: Storage<T>> Mutex<T, S> {
    /// Takes the lock; waits as long as another holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] with the guard if a holder panicked or died; [`LockError::Failed`] if the process that
    /// made the mutex has ended, or if this thread holds the lock already.
    // Always: its result is large, and through memory it would cost more than the lock.
    #[inline(always)]
    pub fn lock(&self) -> Result<MutexGuard<'_, T, S>, LockError<MutexGuard<'_, T, S>>> {
        let guard = self.acquire(None).map_err(NoSession::of_lock)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody does; else as [`lock`](Mutex::lock).
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T, S>, TryLockError<MutexGuard<'_, T, S>>> {
        // Past deadlines are not waited for; the answer to the first use is, since the owner's hub gives it at once.
        let taken = self.object.me(None).and_then(|me| {
            let word = self.object.word(WORD);
            if word::try_lock(word, me) {
                return self.open(me);
            }
            Err(if word::is_gone(word) {
                NoSession::Failed(SyncError::Disconnected)
            } else {
                NoSession::Timeout
            })
        });
        Ok(poison::check(
            &self.object.region,
            taken.map_err(NoSession::of_try_lock)?,
        )?)
    }

    /// Takes the lock; waits as long as another holds it, and at most so long.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] if the time is over; else as [`lock`](Mutex::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T, S>, LockTimeoutError<MutexGuard<'_, T, S>>> {
        // A deadline that the clock cannot express is none.
        let guard = self
            .acquire(Instant::now().checked_add(timeout))
            .map_err(NoSession::of_lock_timeout)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    #[inline(always)]
    fn acquire(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, T, S>, NoSession> {
        let me = self.object.me(deadline)?;
        word::lock(self.object.word(WORD), me, deadline)?;
        self.open(me)
    }

    fn place(&self) -> Place<'_> {
        Place {
            region: &self.object.region,
            offset: VALUE,
        }
    }

    #[inline(always)]
    fn open(&self, me: u32) -> Result<MutexGuard<'_, T, S>, NoSession> {
        match S::open(self.place()) {
            Ok(view) => Ok(MutexGuard {
                mutex: self,
                view,
                me,
                panicking: std::thread::panicking(),
                thread: PhantomData,
            }),
            Err(error) => {
                word::unlock(self.object.word(WORD), me);
                Err(NoSession::Failed(SyncError::Decode(error)))
            }
        }
    }
}

impl<'a, T: ?Sized, S: Storage<T>> MutexGuard<'a, T, S> {
    /// The mutex whose guard it is.
    pub(super) fn mutex(&self) -> &'a Mutex<T, S> {
        self.mutex
    }
}

impl<T: Serialize + DeserializeOwned + 'static> MutexGuard<'_, T, Encoded> {
    /// Writes the value back now, and tells if that fails: when the guard is dropped, failure poisons the lock.
    ///
    /// # Errors
    ///
    /// If the value does not encode, or has more bytes than the mutex has room for. The old value stays in the mutex.
    pub fn commit(&mut self) -> Result<(), EncodeError> {
        Encoded::close(self.mutex.place(), &mut self.view)
    }
}

impl<T: ?Sized, S: Storage<T>> Deref for MutexGuard<'_, T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        S::get(&self.view)
    }
}

impl<T: ?Sized, S: Storage<T>> DerefMut for MutexGuard<'_, T, S> {
    fn deref_mut(&mut self) -> &mut T {
        S::get_mut(&mut self.view)
    }
}

impl<T: ?Sized, S: Storage<T>> Drop for MutexGuard<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        value::put_back::<T, S>(self.mutex.place(), &mut self.view, self.panicking);
        word::unlock(self.mutex.object.word(WORD), self.me);
    }
}

impl<T: ?Sized + fmt::Debug, S: Storage<T>> fmt::Debug for MutexGuard<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized, S> Clone for Mutex<T, S> {
    fn clone(&self) -> Mutex<T, S> {
        Mutex {
            object: self.object.clone(),
            value: PhantomData,
        }
    }
}

impl<T: ?Sized, S> fmt::Debug for Mutex<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("value", &std::any::type_name::<T>())
            .field("locked", &self.is_locked())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized, S> Serialize for Mutex<T, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T: ?Sized, S: Storage<T>> Deserialize<'de> for Mutex<T, S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let valid = |length: usize| length.checked_sub(VALUE).is_some_and(S::fits);
        let object = Object::deserialize(Self::fingerprint(), valid, deserializer)?;
        Ok(Mutex {
            object,
            value: PhantomData,
        })
    }
}
