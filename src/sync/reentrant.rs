//! A mutex that its holder may lock again.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytemuck::Pod;
use serde::{Deserialize, Serialize};

use crate::error::{CreateError, LockError, LockTimeoutError, SyncError, TryError, TryLockError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::mutex::{MutexWords, TURNS, WORD};
use crate::sync::object::{ObjectHandle, Primitive, owner_answers};
use crate::sync::poison;
use crate::sync::value::{InPlace, LockValue, poison_methods};
use crate::sync::word::{self, Turns};
use crate::sys;

/// The words of a mutex, and the depth.
#[derive(Debug)]
enum ReentrantWords {}

impl Primitive for ReentrantWords {
    const WORDS_LEN: usize = MutexWords::WORDS_LEN;

    fn repair(region: &Region, dead: u32) -> bool {
        MutexWords::repair(region, dead)
    }

    fn abandon(region: &Region) {
        MutexWords::abandon(region);
    }

    fn holds(region: &Region, session: u32) -> bool {
        MutexWords::holds(region, session)
    }
}

/// How many guards the holder has. Only the holder reads and writes it: a thread that takes the
/// lock sets it to 1, so the count of a dead process is never used.
const DEPTH: usize = 8;

/// A [`Mutex`](crate::sync::Mutex) that the thread holding it may lock again. Dropping the last of
/// that thread's guards unlocks it. Dropping a handle does not affect the others.
///
/// A thread may have several guards, so none of them returns `&mut`: the value is copied out and
/// in, as with a [`std::cell::Cell`]. When a holder panics or its process dies, the lock is
/// poisoned.
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
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "", deserialize = "T: Pod"))]
#[must_use]
pub struct ReentrantMutex<T> {
    object: ObjectHandle<ReentrantWords, LockValue<T, InPlace>>,
}

/// Holds the lock of a [`ReentrantMutex`]. Dropping the thread's last guard unlocks.
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
    was_panicking: bool,
    /// The lock belongs to the thread, so the guard is not `Send`.
    thread: PhantomData<*const ()>,
}

impl<T: Pod> ReentrantMutex<T> {
    /// Creates a mutex around plain data, which is stored in shared memory.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory, or a descriptor for it.
    pub fn new(value: T) -> Result<ReentrantMutex<T>, CreateError> {
        ObjectHandle::in_place(&value).map(|object| ReentrantMutex { object })
    }

    /// Takes the lock. Blocks while another thread holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] with the guard if a holder panicked or died,
    /// [`LockError::Disconnected`] if the process that made the mutex has ended.
    pub fn lock(
        &self,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        let me = self.object.me(&Forever).map_err(WaitEnd::into_failed)?;
        let guard = self.acquire(me, &Forever).map_err(WaitEnd::into_failed)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock if no other thread holds it.
    ///
    /// The first call in a process that did not make the mutex may wait up to a second for the
    /// answer of the process that did.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if another thread holds the lock, and the errors of
    /// [`lock`](ReentrantMutex::lock).
    pub fn try_lock(
        &self,
    ) -> Result<ReentrantMutexGuard<'_, T>, TryLockError<ReentrantMutexGuard<'_, T>>> {
        let me = self.object.me(&owner_answers()).map_err(TryError::from)?;
        let guard = self.acquire(me, &Deadline::now()).map_err(TryError::from)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock. Blocks for at most `timeout` while another thread holds it.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] if the time is over, and the errors of
    /// [`lock`](ReentrantMutex::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockTimeoutError<ReentrantMutexGuard<'_, T>>> {
        let limit = Deadline::after(timeout);
        let me = self.object.me(&limit)?;
        let guard = self.acquire(me, &limit)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    fn acquire<L: TimeLimit>(
        &self,
        me: u32,
        limit: &L,
    ) -> Waited<ReentrantMutexGuard<'_, T>, SyncError, L> {
        let depth = self.object.word(DEPTH);
        match word::lock(self.object.word(WORD), me, limit) {
            Ok(()) => depth.store(1, Ordering::Relaxed),
            // The word names this thread: it already holds the lock.
            Err(WaitEnd::Failed(SyncError::Deadlock)) => {
                let deeper = depth.load(Ordering::Relaxed).checked_add(1);
                depth.store(deeper.ok_or(SyncError::Deadlock)?, Ordering::Relaxed);
            }
            Err(end) => return Err(end),
        }
        Ok(ReentrantMutexGuard {
            mutex: self,
            me,
            was_panicking: std::thread::panicking(),
            thread: PhantomData,
        })
    }
}

poison_methods! { impl [T] ReentrantMutex<T> }

impl<T> ReentrantMutex<T> {
    /// Returns whether a thread of any process holds the lock now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        word::is_held(self.object.word(WORD))
    }
}

impl<T: Pod> ReentrantMutexGuard<'_, T> {
    /// Returns a copy of the value.
    #[must_use]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        self.mutex.object.region.read(MutexWords::WORDS_LEN, bytes);
        value
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        let bytes = bytemuck::bytes_of(&value);
        self.mutex.object.region.write(MutexWords::WORDS_LEN, bytes);
    }

    /// Replaces the value with what `change` returns for it, and returns the new value.
    pub fn update(&self, change: impl FnOnce(T) -> T) -> T {
        let value = change(self.get());
        self.set(value);
        value
    }
}

impl<T: Pod> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        // The lock belongs to the original of a fork.
        if sys::is_fork() {
            return;
        }
        if std::thread::panicking() && !self.was_panicking {
            poison::by_panic(&self.mutex.object.region);
        }
        let depth = self.mutex.object.word(DEPTH);
        let outer = depth.load(Ordering::Relaxed).saturating_sub(1);
        depth.store(outer, Ordering::Relaxed);
        if outer == 0 {
            let object = &self.mutex.object;
            word::unlock_fairly(object.word(WORD), self.me, Turns(object.word(TURNS)));
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
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
