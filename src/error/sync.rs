//! Why an operation on a lock, a semaphore, an event or a barrier failed.

use thiserror::Error;

use crate::error::{DecodeError, HandleError};

flat_errors! {
    /// The error of a call on a shared object that has no error of its own, such as
    /// [`Semaphore::acquire`](crate::sync::Semaphore::acquire).
    ///
    /// ```
    /// use offspring::sync::{Event, SyncError};
    ///
    /// #[offspring::worker]
    /// fn make() -> Event {
    ///     Event::new().unwrap()
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let event = make::spawn()?.join()?;
    ///     assert!(matches!(event.wait(), Err(SyncError::Disconnected))); // its process has ended
    ///     Ok(())
    /// }
    /// ```
    #[derive(Clone)]
    pub enum SyncError {
        /// The process that made the object has ended. No process is left that would release what a
        /// dying process holds, so the object is unusable.
        #[error("the process that owns the lock or signal has ended")]
        Disconnected,
        /// The calling thread already holds the lock, so it would wait for itself.
        #[error("cannot lock: the calling thread already holds the lock (drop its guard first)")]
        Deadlock,
        /// The value in the lock is not a valid value of its type.
        #[error("cannot lock the value: {0}")]
        Decode(cause: DecodeError),
        /// The handle does not work in this process.
        #[error("cannot use the handle: {0}")]
        Handle(cause: HandleError),
    }
    ends { Disconnected }

    /// The error of a `try_` call on a shared object.
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
    #[derive(Clone)]
    pub enum TryError adds {
        /// The call would have to wait.
        #[error("the call would block: try again later, or use the blocking call")]
        WouldBlock => is_would_block
    }

    /// The error of a `_timeout` call on a shared object.
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
    #[derive(Clone)]
    pub enum TimeoutError adds {
        /// The call waited until its timeout.
        #[error("timed out waiting for a lock or signal")]
        Timeout => is_timeout
    }
}

flat_errors! {
    /// The error of [`Semaphore::release`](crate::sync::Semaphore::release).
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
    #[derive(Clone)]
    pub enum ReleaseError {
        /// Every forgotten permit was released already, or none was forgotten. Drop a `Permit` to
        /// return it.
        #[error("cannot release a permit: the semaphore has no forgotten permits")]
        TooMany,
        /// The process that made the semaphore has ended.
        #[error("cannot release a permit: the process that owns the semaphore has ended")]
        Disconnected,
        /// The handle does not work in this process.
        #[error("cannot use the handle: {0}")]
        Handle(cause: HandleError),
    }
    ends { Disconnected }
}

flat_errors! {
    /// The error of [`Barrier::wait`](crate::sync::Barrier::wait).
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
    #[derive(Clone)]
    pub enum BarrierError {
        /// A party died, timed out or aborted. No thread passes until a `reset`.
        #[error("cannot wait: the barrier is broken (`reset` makes it usable again)")]
        Broken,
        /// The process that made the barrier has ended.
        #[error("cannot wait: the process that owns the barrier has ended")]
        Disconnected,
        /// The handle does not work in this process.
        #[error("cannot use the handle: {0}")]
        Handle(cause: HandleError),
    }
    ends { Disconnected }

    /// The error of [`Barrier::wait_timeout`](crate::sync::Barrier::wait_timeout).
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
    #[derive(Clone)]
    pub enum BarrierTimeoutError adds {
        /// Not all parties arrived in time. The barrier is broken now.
        #[error("timed out waiting for the other parties of a barrier")]
        Timeout => is_timeout
    }
}

/// Semaphores and barriers guard no value, so `Deadlock` and `Decode` cannot occur.
macro_rules! from_sync_error {
    ($($error:ident)+) => {$(
        impl From<SyncError> for $error {
            fn from(error: SyncError) -> $error {
                match error {
                    SyncError::Disconnected => $error::Disconnected,
                    SyncError::Handle(cause) => $error::Handle(cause),
                    other => $error::Handle(HandleError::Refused(other.to_string())),
                }
            }
        }
    )+};
}

from_sync_error! { ReleaseError BarrierError }

/// The guard of a lock whose holder died or panicked. The value may be half changed.
///
/// Like [`std::sync::PoisonError`], but it distinguishes a dead process from a panic.
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
#[error("the lock is poisoned: its holder {}", if *.died { "died with its process" } else { "panicked, or could not write its value back" })]
pub struct PoisonError<G> {
    guard: G,
    died: bool,
}

impl<G> PoisonError<G> {
    pub(crate) fn new(guard: G, died: bool) -> PoisonError<G> {
        PoisonError { guard, died }
    }

    /// Returns the guard, which holds the lock.
    pub fn into_inner(self) -> G {
        self.guard
    }

    /// Returns a reference to the guard.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// Returns a mutable reference to the guard.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// Whether the holder's process died. If not, the holder's thread panicked, or the changed
    /// value did not encode.
    #[must_use]
    pub fn holder_died(&self) -> bool {
        self.died
    }

    pub(super) fn without_value(self) -> PoisonError<()> {
        self.map(drop)
    }

    pub(crate) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> PoisonError<H> {
        PoisonError::new(wrap(self.guard), self.died)
    }
}

/// Defines the error of an operation that returns a guard: the variants of the plain error, and
/// `Poisoned` with the guard.
macro_rules! guard_error {
    (
        $(#[$meta:meta])*
        $name:ident from $plain:ident $({ $(#[$own_meta:meta])* $own:ident => $is_own:ident })?
    ) => {
        $(#[$meta])*
        #[derive(Error)]
        #[non_exhaustive]
        pub enum $name<G> {
            /// The lock is poisoned. The calling thread holds it now, with the guard in the error.
            #[error(transparent)]
            Poisoned(#[from] PoisonError<G>),
            $($(#[$own_meta])* $own,)?
            /// The process that made the lock has ended.
            #[error("cannot lock: the process that owns the lock has ended")]
            Disconnected,
            /// The calling thread already holds the lock, so it would wait for itself.
            #[error("cannot lock: the calling thread already holds the lock (drop its guard first)")]
            Deadlock,
            /// The value in the lock is not a valid value of its type.
            #[error("cannot lock the value: {0}")]
            Decode(DecodeError),
            /// The handle does not work in this process.
            #[error("cannot lock: {0}")]
            Handle(HandleError),
        }

        impl<G> $name<G> {
            /// Returns the guard of a poisoned lock. For values that cannot be half changed, and
            /// for callers that repair the value.
            ///
            /// # Errors
            ///
            /// The plain error if the lock was not taken.
            pub fn into_guard(self) -> Result<G, $plain> {
                match self {
                    $name::Poisoned(poison) => Ok(poison.into_inner()),
                    $($name::$own => Err($plain::$own),)?
                    $name::Disconnected => Err($plain::Disconnected),
                    $name::Deadlock => Err($plain::Deadlock),
                    $name::Decode(cause) => Err($plain::Decode(cause)),
                    $name::Handle(cause) => Err($plain::Handle(cause)),
                }
            }

            pub(super) fn without_value(self) -> $name<()> {
                match self {
                    $name::Poisoned(poison) => poison.without_value().into(),
                    $($name::$own => $name::$own,)?
                    $name::Disconnected => $name::Disconnected,
                    $name::Deadlock => $name::Deadlock,
                    $name::Decode(cause) => $name::Decode(cause),
                    $name::Handle(cause) => $name::Handle(cause),
                }
            }

            /// Whether a loop that repeats this call should stop. True for `Disconnected`, and
            /// false for everything else.
            #[must_use]
            pub fn is_end(&self) -> bool {
                matches!(self, $name::Disconnected)
            }

            $(
                #[doc = concat!("Whether this is [`", stringify!($own), "`](Self::", stringify!($own), ").")]
                #[must_use]
                pub fn $is_own(&self) -> bool {
                    matches!(self, $name::$own)
                }
            )?
        }

        impl<G> From<$plain> for $name<G> {
            fn from(error: $plain) -> $name<G> {
                match error {
                    $($plain::$own => $name::$own,)?
                    $plain::Disconnected => $name::Disconnected,
                    $plain::Deadlock => $name::Deadlock,
                    $plain::Decode(cause) => $name::Decode(cause),
                    $plain::Handle(cause) => $name::Handle(cause),
                }
            }
        }

        debug_with_text! {
            [<G>] $name { Poisoned, $($own,)? Disconnected, Deadlock, Decode, Handle }
        }
    };
}

guard_error! {
    /// The error of `lock`, `read` and `write`.
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
    ///     let value = *total.lock().or_else(|error| error.into_guard()).unwrap();
    ///     assert_eq!(value, 8);
    ///     Ok(())
    /// }
    /// ```
    LockError from SyncError
}

guard_error! {
    /// The error of `try_lock`, `try_read` and `try_write`.
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
    TryLockError from TryError {
        /// Another thread or process holds the lock.
        #[error("cannot lock: another thread or process holds the lock (try again later, or use the blocking call)")]
        WouldBlock => is_would_block
    }
}

guard_error! {
    /// The error of `lock_timeout`, `read_timeout` and `write_timeout`.
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
    LockTimeoutError from TimeoutError {
        /// Another thread or process held the lock until the timeout.
        #[error("timed out waiting for a lock")]
        Timeout => is_timeout
    }
}

impl<G> LockError<G> {
    pub(crate) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            LockError::Poisoned(poison) => poison.map(wrap).into(),
            LockError::Disconnected => LockError::Disconnected,
            LockError::Deadlock => LockError::Deadlock,
            LockError::Decode(cause) => LockError::Decode(cause),
            LockError::Handle(cause) => LockError::Handle(cause),
        }
    }
}

debug_is_text! { [G] PoisonError<G> }
