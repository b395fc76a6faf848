//! Why a lock, a semaphore, an event or a barrier did not do what was asked.

use std::fmt;

use thiserror::Error;

use crate::error::{DecodeError, HandleError};

/// Why a shared object cannot be used.
///
/// ```
/// use offspring::sync::{LockError, Mutex, SyncError};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mutex = Mutex::new(1u32)?;
/// let guard = mutex.lock().unwrap();
/// assert!(matches!(mutex.lock().map(drop), Err(LockError::Failed(SyncError::Deadlock))));
/// drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The process that made it has ended: nobody could end what others hold when they die.
    #[error("using what belongs to a process that has ended")]
    Disconnected,
    /// This thread holds the lock already, and would wait for itself.
    #[error("locking what this thread holds already")]
    Deadlock,
    /// What lies in it is no value of its type.
    #[error("locking a value that does not decode")]
    Decode(#[source] DecodeError),
    /// The handle cannot be used in this process, or something that the system should give cannot be had.
    #[error("using a handle that cannot be used here")]
    Handle(#[source] HandleError),
}

/// Why a `try_` form did not do what was asked.
///
/// ```
/// use offspring::sync::{Semaphore, TryError};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let permits = Semaphore::new(1)?;
/// let _permit = permits.acquire()?;
/// assert!(matches!(permits.try_acquire(), Err(TryError::WouldBlock)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TryError {
    /// It would have to wait.
    #[error("it would have to wait")]
    WouldBlock,
    /// It cannot be done at all.
    #[error(transparent)]
    Failed(#[from] SyncError),
}

/// Why a `_timeout` form did not do what was asked.
///
/// ```
/// use std::time::Duration;
/// use offspring::sync::{Event, TimeoutError};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = Event::new()?;
/// assert!(matches!(event.wait_timeout(Duration::from_millis(1)), Err(TimeoutError::Timeout)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TimeoutError {
    /// Not within the time.
    #[error("it did not happen in time")]
    Timeout,
    /// It cannot be done at all.
    #[error(transparent)]
    Failed(#[from] SyncError),
}

/// Why permits were not given back.
///
/// ```
/// use offspring::sync::{ReleaseError, Semaphore};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let permits = Semaphore::new(1)?;
/// assert!(matches!(permits.release(), Err(ReleaseError::TooMany)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The semaphore has no more permits than it was made with, and this one is not missing.
    #[error("releasing a permit that nobody has taken and forgotten")]
    TooMany,
    /// It cannot be done at all.
    #[error(transparent)]
    Failed(#[from] SyncError),
}

/// Why a barrier did not let through.
///
/// ```
/// use offspring::sync::{Barrier, BarrierError};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let barrier = Barrier::new(2)?;
/// barrier.abort();
/// assert!(matches!(barrier.wait(), Err(BarrierError::Broken)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A party died, gave up or aborted: nobody gets through until a `reset`.
    #[error("waiting at a barrier that is broken")]
    Broken,
    /// It cannot be done at all.
    #[error(transparent)]
    Failed(#[from] SyncError),
}

/// Why a barrier did not let through in time.
///
/// ```
/// use std::time::Duration;
/// use offspring::sync::{Barrier, BarrierTimeoutError};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let barrier = Barrier::new(2)?;
/// let alone = barrier.wait_timeout(Duration::from_millis(1));
/// assert!(matches!(alone, Err(BarrierTimeoutError::Timeout)));
/// assert!(barrier.is_broken());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum BarrierTimeoutError {
    /// Not within the time: the barrier is broken now.
    #[error("not all parties came to the barrier in time")]
    Timeout,
    /// It does not let through at all.
    #[error(transparent)]
    Failed(#[from] BarrierError),
}

/// The lock was taken, but who held it before died or panicked while it did: the value may be half changed.
///
/// As [`std::sync::PoisonError`], which cannot tell of the two.
///
/// ```
/// use offspring::sync::{LockError, Mutex};
///
/// #[offspring::worker]
/// fn die_with_the_lock(total: Mutex<u32>) {
///     let mut total = total.lock().unwrap();
///     *total += 1;
///     std::process::abort();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let total = Mutex::new(7)?;
///     assert!(die_with_the_lock::spawn(total.clone())?.join().is_err());
///     match total.lock() {
///         Err(LockError::Poisoned(poison)) => {
///             assert!(poison.holder_died());
///             assert_eq!(*poison.into_inner(), 8);
///         }
///         _ => unreachable!(),
///     }
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[error("locking what was held by {}", if *.died { "a process that died" } else { "a thread that panicked" })]
pub struct PoisonError<G> {
    guard: G,
    died: bool,
}

impl<G> PoisonError<G> {
    pub(crate) fn new(guard: G, died: bool) -> PoisonError<G> {
        PoisonError { guard, died }
    }

    /// The guard: the lock is held.
    pub fn into_inner(self) -> G {
        self.guard
    }

    /// The guard.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// Whether the holder's process died; else its thread panicked.
    #[must_use]
    pub fn holder_died(&self) -> bool {
        self.died
    }

    pub(crate) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> PoisonError<H> {
        PoisonError::new(wrap(self.guard), self.died)
    }
}

impl<G> fmt::Debug for PoisonError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoisonError")
            .field("holder_died", &self.died)
            .finish_non_exhaustive()
    }
}

/// Why `lock` gave no guard, or one to a value that may be half changed.
///
/// ```
/// use offspring::sync::Mutex;
///
/// #[offspring::worker]
/// fn die_with_the_lock(total: Mutex<u32>) {
///     let mut total = total.lock().unwrap();
///     *total += 1;
///     std::process::abort();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let total = Mutex::new(7)?;
///     assert!(die_with_the_lock::spawn(total.clone())?.join().is_err());
///     let value = *total.lock().or_else(|error| error.into_guard()).unwrap(); // in spite of it
///     assert_eq!(value, 8);
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum LockError<G> {
    /// Here it is, but look at the value first.
    #[error(transparent)]
    Poisoned(#[from] PoisonError<G>),
    /// It cannot be locked.
    #[error(transparent)]
    Failed(SyncError),
}

/// Why `try_lock` gave no guard, or one to a value that may be half changed.
///
/// ```
/// use offspring::sync::{Mutex, TryLockError};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mutex = Mutex::new(1u32)?;
/// let guard = mutex.lock().unwrap();
/// let other = std::thread::scope(|scope| {
///     let other = scope.spawn(|| matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
///     other.join().unwrap()
/// });
/// assert!(other);
/// drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum TryLockError<G> {
    /// Here it is, but look at the value first.
    #[error(transparent)]
    Poisoned(#[from] PoisonError<G>),
    /// Somebody holds it.
    #[error("locking what somebody holds")]
    WouldBlock,
    /// It cannot be locked.
    #[error(transparent)]
    Failed(SyncError),
}

/// Why `lock_timeout` gave no guard, or one to a value that may be half changed.
///
/// ```
/// use std::time::Duration;
/// use offspring::sync::Mutex;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mutex = Mutex::new(1u32)?;
/// let guard = mutex.lock().unwrap();
/// let other = std::thread::scope(|scope| {
///     let other = scope.spawn(|| mutex.lock_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_timeout()));
///     other.join().unwrap()
/// });
/// assert!(other);
/// drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum LockTimeoutError<G> {
    /// Here it is, but look at the value first.
    #[error(transparent)]
    Poisoned(#[from] PoisonError<G>),
    /// Somebody held it all the time.
    #[error("locking what somebody held all the time")]
    Timeout,
    /// It cannot be locked.
    #[error(transparent)]
    Failed(SyncError),
}

impl<G> LockError<G> {
    /// The guard in spite of the poison: for values that cannot be half changed, or that the caller mends.
    ///
    /// # Errors
    ///
    /// If there is no guard.
    pub fn into_guard(self) -> Result<G, SyncError> {
        match self {
            LockError::Poisoned(poison) => Ok(poison.into_inner()),
            LockError::Failed(error) => Err(error),
        }
    }

    pub(crate) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            LockError::Poisoned(poison) => LockError::Poisoned(poison.map(wrap)),
            LockError::Failed(error) => LockError::Failed(error),
        }
    }
}

impl<G> TryLockError<G> {
    /// As [`LockError::into_guard`].
    ///
    /// # Errors
    ///
    /// If there is no guard.
    pub fn into_guard(self) -> Result<G, TryError> {
        match self {
            TryLockError::Poisoned(poison) => Ok(poison.into_inner()),
            TryLockError::WouldBlock => Err(TryError::WouldBlock),
            TryLockError::Failed(error) => Err(error.into()),
        }
    }
}

impl<G> LockTimeoutError<G> {
    /// As [`LockError::into_guard`].
    ///
    /// # Errors
    ///
    /// If there is no guard.
    pub fn into_guard(self) -> Result<G, TimeoutError> {
        match self {
            LockTimeoutError::Poisoned(poison) => Ok(poison.into_inner()),
            LockTimeoutError::Timeout => Err(TimeoutError::Timeout),
            LockTimeoutError::Failed(error) => Err(error.into()),
        }
    }

    /// Whether somebody held it all the time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, LockTimeoutError::Timeout)
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(poison) => fmt::Debug::fmt(poison, f),
            LockError::Failed(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl<G> fmt::Debug for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::Poisoned(poison) => fmt::Debug::fmt(poison, f),
            TryLockError::WouldBlock => f.write_str("WouldBlock"),
            TryLockError::Failed(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl<G> fmt::Debug for LockTimeoutError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockTimeoutError::Poisoned(poison) => fmt::Debug::fmt(poison, f),
            LockTimeoutError::Timeout => f.write_str("Timeout"),
            LockTimeoutError::Failed(error) => fmt::Debug::fmt(error, f),
        }
    }
}
