//! A mutex that its holder may lock again.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, LockError, LockTimeoutError, SyncError, TryLockError};
use crate::ipc::wire;
use crate::sync::mutex::{Plain, VALUE, WORD};
use crate::sync::object::{NoSession, Object};
use crate::sync::word::Miss;
use crate::sync::{poison, word};

/// How often the holder has locked; its own.
const DEPTH: usize = 8;

/// A [`Mutex`](crate::sync::Mutex) that the thread which holds it may lock again; it is free when all of its guards are
/// dropped. Dropping a handle does nothing to the others.
///
/// Since a thread may have several guards, none gives `&mut`: the value is copied out and in, as with a
/// [`std::cell::Cell`]. When a holder panics or its process dies, the lock is poisoned.
///
/// ```
/// use offspring::sync::ReentrantMutex;
///
/// fn add(total: &ReentrantMutex<u64>, n: u64) {
///     let guard = total.lock().unwrap();
///     guard.set(guard.get() + n);
/// }
///
/// #[offspring::worker]
/// fn add_twice(total: ReentrantMutex<u64>) {
///     let _together = total.lock().unwrap();
///     add(&total, 1); // locks again
///     add(&total, 1);
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let total = ReentrantMutex::new(40)?;
///     add_twice::spawn(total.clone())?.join()?;
///     assert_eq!(total.lock().unwrap().get(), 42);
///     Ok(())
/// }
/// ```
#[must_use]
pub struct ReentrantMutex<T> {
    object: Arc<Object<Plain>>,
    value: PhantomData<fn(T) -> T>,
}

/// Has the lock, until it is dropped and all other guards of this thread are.
///
/// ```
/// use offspring::sync::ReentrantMutex;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let total = ReentrantMutex::new(1)?;
/// let guard = total.lock().unwrap();
/// let again = total.lock().unwrap(); // the same thread
/// again.update(|n| n + 1);
/// drop(again);
/// assert!(total.is_locked()); // by the first
/// assert_eq!(guard.get(), 2);
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct ReentrantMutexGuard<'a, T: Pod> {
    mutex: &'a ReentrantMutex<T>,
    me: u32,
    panicking: bool,
    thread: PhantomData<*const ()>,
}

impl<T: Pod> ReentrantMutex<T> {
    /// A new mutex around plain data, which lies in shared memory.
    ///
    /// # Errors
    ///
    /// If the memory, or a descriptor for it, cannot be had.
    pub fn new(value: T) -> Result<ReentrantMutex<T>, CreateError> {
        let object = Object::new(VALUE + size_of::<T>(), fingerprint::<T>(), |region| {
            region.store(VALUE, bytemuck::bytes_of(&value));
        })?;
        Ok(ReentrantMutex {
            object,
            value: PhantomData,
        })
    }

    /// Takes the lock; waits as long as another thread holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] with the guard if a holder panicked or died; [`LockError::Failed`] if the process that
    /// made the mutex has ended.
    pub fn lock(
        &self,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        let me = self.object.me(None).map_err(NoSession::of_lock)?;
        let guard = self.acquire(me, None).map_err(NoSession::of_lock)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock if no other thread holds it.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if one does; else as [`lock`](ReentrantMutex::lock).
    pub fn try_lock(
        &self,
    ) -> Result<ReentrantMutexGuard<'_, T>, TryLockError<ReentrantMutexGuard<'_, T>>> {
        // Past deadlines are not waited for; the answer to the first use is, since the owner's hub gives it at once.
        let me = self.object.me(None).map_err(NoSession::of_try_lock)?;
        let guard = self
            .acquire(me, Some(Instant::now()))
            .map_err(NoSession::of_try_lock)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock; waits as long as another thread holds it, and at most so long.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] if the time is over; else as [`lock`](ReentrantMutex::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockTimeoutError<ReentrantMutexGuard<'_, T>>> {
        // A deadline that the clock cannot express is none.
        let deadline = Instant::now().checked_add(timeout);
        let me = self
            .object
            .me(deadline)
            .map_err(NoSession::of_lock_timeout)?;
        let guard = self
            .acquire(me, deadline)
            .map_err(NoSession::of_lock_timeout)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    fn acquire(
        &self,
        me: u32,
        deadline: Option<Instant>,
    ) -> Result<ReentrantMutexGuard<'_, T>, NoSession> {
        let depth = self.object.word(DEPTH);
        match word::lock(self.object.word(WORD), me, deadline) {
            Ok(()) => depth.store(1, Ordering::Relaxed),
            Err(Miss::Deadlock) => {
                let deeper = depth.load(Ordering::Relaxed).checked_add(1);
                depth.store(
                    deeper.ok_or(NoSession::Failed(SyncError::Deadlock))?,
                    Ordering::Relaxed,
                );
            }
            Err(miss) => return Err(miss.into()),
        }
        Ok(ReentrantMutexGuard {
            mutex: self,
            me,
            panicking: std::thread::panicking(),
            thread: PhantomData,
        })
    }
}

impl<T> ReentrantMutex<T> {
    /// Whether a holder panicked or died, and nobody has cleared that.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        poison::is_set(&self.object.region)
    }

    /// Says that the value is in order again.
    pub fn clear_poison(&self) {
        poison::clear(&self.object.region);
    }

    /// Whether some thread of some process holds the lock now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        word::is_held(self.object.word(WORD))
    }
}

impl<T: Pod> ReentrantMutexGuard<'_, T> {
    /// A copy of the value.
    #[must_use]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        self.mutex
            .object
            .region
            .load(VALUE, bytemuck::bytes_of_mut(&mut value));
        value
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.mutex
            .object
            .region
            .store(VALUE, bytemuck::bytes_of(&value));
    }

    /// Replaces the value by what `change` makes of it, and gives that.
    pub fn update(&self, change: impl FnOnce(T) -> T) -> T {
        let value = change(self.get());
        self.set(value);
        value
    }
}

impl<T: Pod> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.panicking {
            poison::by_panic(&self.mutex.object.region);
        }
        let depth = self.mutex.object.word(DEPTH);
        let outer = depth.load(Ordering::Relaxed).saturating_sub(1);
        depth.store(outer, Ordering::Relaxed);
        if outer == 0 {
            word::unlock(self.mutex.object.word(WORD), self.me);
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T> Clone for ReentrantMutex<T> {
    fn clone(&self) -> ReentrantMutex<T> {
        ReentrantMutex {
            object: self.object.clone(),
            value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantMutex")
            .field("value", &std::any::type_name::<T>())
            .field("locked", &self.is_locked())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

fn fingerprint<T>() -> u64 {
    wire::fingerprint(std::any::type_name::<ReentrantMutex<T>>())
}

impl<T> Serialize for ReentrantMutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for ReentrantMutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let valid = |length: usize| length == VALUE + size_of::<T>();
        let object = Object::deserialize(fingerprint::<T>(), valid, deserializer)?;
        Ok(ReentrantMutex {
            object,
            value: PhantomData,
        })
    }
}
