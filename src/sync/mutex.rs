//! Mutual exclusion between processes.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use bytemuck::Pod;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{
    CreateError, EncodeError, LockError, LockTimeoutError, SyncError, TryError, TryLockError,
};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::object::{ObjectHandle, Primitive, owner_answers};
use crate::sync::poison;
use crate::sync::value::{
    self, Encoded, InPlace, LockValue, Storage, lock_around_value, poison_methods,
};
use crate::sync::word::{self, Turns};
use crate::sys::{self, futex_wake_all};

pub(super) const WORD: usize = 0;
/// When a sleeper last had its turn.
pub(super) const TURNS: usize = 12;

/// The words of a mutex: the lock word and the poison flag.
#[derive(Debug)]
pub(super) enum MutexWords {}

impl Primitive for MutexWords {
    // The value is on a cache line of its own, so that threads that spin on the word do not slow
    // down the holder's access to it.
    const WORDS_LEN: usize = 64;

    fn repair(region: &Region, dead: u32) -> bool {
        // Poison the lock before the word is freed, so that the next holder sees the poison.
        word::repair(region.number(WORD), dead, 0, || poison::by_death(region));
        futex_wake_all(region.number(WORD));
        true
    }

    fn abandon(region: &Region) {
        word::abandon(region.number(WORD));
    }

    fn holds(region: &Region, session: u32) -> bool {
        word::holder_of(region.number(WORD)) == session
    }
}

/// A value that one thread at a time may use, of all threads in all processes that have a handle.
/// Dropping a handle does not affect the others; dropping the guard unlocks.
///
/// Like [`std::sync::Mutex`], including its poisoning: when a holder panics, *or its process dies*,
/// the next thread gets the lock with an error that holds the guard.
///
/// - A free lock is taken and released by one compare-and-swap each, without a system call. A
///   thread that has to wait spins for a moment, then sleeps.
/// - A thread that finds the lock free gets it, even if others are just waking up for it. But about
///   once a millisecond the lock is kept for the thread that has waited longest. So however greedy
///   others are, each of n threads gets it, on average, at least once in the time of n such turns: n
///   milliseconds, or longer if holders keep it for longer.
/// - Plain data is stored in the shared memory itself, as a single value ([`new`](Mutex::new)) or a
///   slice ([`zeroed`](Mutex::zeroed)). A holder that dies may leave it half changed. Any other
///   value that serde can encode is decoded into the guard, and written back when the guard is
///   dropped ([`encoded`](Mutex::encoded)); a holder that dies or panics leaves the old value.
/// - When the process that made the mutex ends, every call returns [`LockError::Disconnected`].
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
/// A value of variable size:
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
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "", deserialize = "T: 'static, S: Storage<T>"))]
#[must_use]
pub struct Mutex<T: ?Sized, S = InPlace> {
    object: ObjectHandle<MutexWords, LockValue<T, S>>,
}

/// Holds the lock of a [`Mutex`]. Dropping it unlocks.
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
    was_panicking: bool,
    /// The lock belongs to the thread, so the guard is not `Send`.
    thread: PhantomData<*const ()>,
}

// SAFETY: as for std's guard: `&guard` returns only `&T`, and unlocking needs the guard itself.
unsafe impl<T: ?Sized + Sync, S: Storage<T>> Sync for MutexGuard<'_, T, S> where S::View: Sync {}

lock_around_value! { Mutex, "mutex" }

impl<T: ?Sized, S> Mutex<T, S> {
    /// Returns whether a thread of any process holds the lock now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        word::is_held(self.object.word(WORD))
    }

    #[inline]
    fn unlock(&self, me: u32) {
        word::unlock_fairly(self.object.word(WORD), me, Turns(self.object.word(TURNS)));
    }
}

impl<T: ?Sized, S: Storage<T>> Mutex<T, S> {
    /// Takes the lock. Blocks while another thread holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] with the guard if a holder panicked or died,
    /// [`LockError::Disconnected`] if the process that made the mutex has ended,
    /// [`LockError::Deadlock`] if the calling thread already holds the lock, [`LockError::Decode`]
    /// if an [encoded](Mutex::encoded) value does not decode.
    // Always inlined: the result is large, and returning it through memory costs more than the
    // lock.
    #[inline(always)]
    pub fn lock(&self) -> Result<MutexGuard<'_, T, S>, LockError<MutexGuard<'_, T, S>>> {
        let guard = self.acquire(&Forever).map_err(WaitEnd::into_failed)?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock if it is free.
    ///
    /// The first call in a process that did not make the mutex may wait up to a second for the
    /// answer of the process that did.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if the lock is held, and the errors of [`lock`](Mutex::lock)
    /// except [`Deadlock`](TryLockError::Deadlock).
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T, S>, TryLockError<MutexGuard<'_, T, S>>> {
        let guard = self.try_acquire()?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    /// Takes the lock. Blocks for at most `timeout` while another thread holds it.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] if the lock was not free in time, and the errors of
    /// [`lock`](Mutex::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T, S>, LockTimeoutError<MutexGuard<'_, T, S>>> {
        let guard = self.acquire(&Deadline::after(timeout))?;
        Ok(poison::check(&self.object.region, guard)?)
    }

    #[inline(always)]
    fn acquire<L: TimeLimit>(&self, limit: &L) -> Waited<MutexGuard<'_, T, S>, SyncError, L> {
        let me = self.object.me(limit)?;
        word::lock(self.object.word(WORD), me, limit)?;
        Ok(self.open(me)?)
    }

    fn try_acquire(&self) -> Result<MutexGuard<'_, T, S>, TryError> {
        let me = self.object.me(&owner_answers())?;
        let word = self.object.word(WORD);
        if word::try_lock(word, me) {
            return Ok(self.open(me)?);
        }
        Err(if word::is_gone(word) { TryError::Disconnected } else { TryError::WouldBlock })
    }

    /// Returns the guard for the thread that has just taken the lock.
    #[inline(always)]
    fn open(&self, me: u32) -> Result<MutexGuard<'_, T, S>, SyncError> {
        match S::open(self.object.value()) {
            Ok(view) => Ok(MutexGuard {
                mutex: self,
                view,
                me,
                was_panicking: std::thread::panicking(),
                thread: PhantomData,
            }),
            Err(error) => {
                self.unlock(me);
                Err(SyncError::Decode(error))
            }
        }
    }
}

impl<'a, T: ?Sized, S: Storage<T>> MutexGuard<'a, T, S> {
    /// Returns the mutex that this guard locks.
    pub(super) fn mutex(&self) -> &'a Mutex<T, S> {
        self.mutex
    }
}

impl<T: Serialize + DeserializeOwned + 'static> MutexGuard<'_, T, Encoded> {
    /// Writes the value back now. Dropping the guard also writes it back, but there a failure can
    /// only poison the lock.
    ///
    /// # Errors
    ///
    /// If the value does not encode, or has more bytes than the mutex has room for. The mutex keeps
    /// the old value.
    pub fn commit(&mut self) -> Result<(), EncodeError> {
        Encoded::close(self.mutex.object.value(), &mut self.view)
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
        // The lock belongs to the original of a fork.
        if sys::is_fork() {
            return;
        }
        value::write_back::<T, S>(self.mutex.object.value(), &mut self.view, self.was_panicking);
        self.mutex.unlock(self.me);
    }
}

impl<T: ?Sized + fmt::Debug, S: Storage<T>> fmt::Debug for MutexGuard<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized, S> fmt::Debug for Mutex<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("value", &std::any::type_name::<T>())
            .field("locked", &self.is_locked())
            .field("contended", &word::has_waiters(self.object.word(WORD)))
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}
