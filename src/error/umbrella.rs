//! One error for functions that do several things with this crate.

use std::error::Error as StdError;
use std::fmt;
use std::iter::Empty;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::process::LastLines;
use super::*;

/// Any error of this crate, for functions that spawn, put, call and join: `?` turns every error of
/// this crate into it.
///
/// [`downcast_ref`](Error::downcast_ref) returns the specific error. Values that an error would
/// return to its caller are dropped: `PutError<T>` becomes `PutError<()>`, and the error of a
/// poisoned lock loses its guard.
///
/// A worker may return it too. Only its text crosses to the other process, where it cannot be
/// downcast.
///
/// ```
/// use offspring::Queue;
/// use offspring::queue::GetError;
///
/// #[offspring::worker]
/// fn add(numbers: Queue<u64>) -> offspring::Result<u64> {
///     Ok(numbers.get()? + numbers.get()?)
/// }
///
/// fn sum_of(numbers: impl IntoIterator<Item = u64>) -> offspring::Result<u64> {
///     let queue = Queue::unbounded()?;
///     queue.put_all(numbers)?;
///     queue.close()?;
///     add::spawn(queue)?.join()?
/// }
///
/// #[offspring::main]
/// fn main() -> offspring::Result<()> {
///     assert_eq!(sum_of([3, 4])?, 7);
///     let error = sum_of([3]).unwrap_err();
///     assert_eq!(error.to_string(), "cannot get: the queue is closed and drained");
///     let here = offspring::Error::from(GetError::Closed);
///     assert!(matches!(here.downcast_ref(), Some(GetError::Closed)));
///     Ok(())
/// }
/// ```
pub struct Error(Box<dyn StdError + Send + Sync>);

/// The result of a function that does several things with this crate.
///
/// ```
/// fn filled(items: u32) -> offspring::Result<offspring::Queue<u32>> {
///     let queue = offspring::Queue::unbounded()?;
///     queue.put_all(0..items)?;
///     Ok(queue)
/// }
///
/// #[offspring::main]
/// fn main() -> offspring::Result<()> {
///     assert_eq!(filled(3)?.len()?, 3);
///     Ok(())
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the specific error, if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// Returns the specific error.
    ///
    /// # Errors
    ///
    /// This error, if it is not an `E`.
    pub fn downcast<E: StdError + 'static>(self) -> Result<E> {
        self.0.downcast().map(|error| *error).map_err(Error)
    }

    fn last_words(&self) -> Option<&str> {
        let spawn = self.downcast_ref::<SpawnError>().and_then(SpawnError::stderr);
        let join = self.downcast_ref::<JoinError>().and_then(JoinError::last_words);
        let timeout =
            self.downcast_ref::<JoinTimeoutError>().and_then(JoinTimeoutError::last_words);
        let pool = self.downcast_ref::<PoolError>().and_then(PoolError::stderr);
        let task = self.downcast_ref::<TaskError>().and_then(TaskError::last_words);
        let task_timeout =
            self.downcast_ref::<TaskTimeoutError>().and_then(TaskTimeoutError::last_words);
        spawn.or(join).or(timeout).or(pool).or(task).or(task_timeout)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text alone: it is what `main` prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}{}", LastLines(self.last_words()))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Error(text.into()))
    }
}

macro_rules! from_errors {
    ($($error:ident)+) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Error {
                Error(Box::new(error))
            }
        }
    )+};
}

macro_rules! from_errors_with_value {
    ($($error:ident)+) => {$(
        impl<T> From<$error<T>> for Error {
            fn from(error: $error<T>) -> Error {
                Error(Box::new(error.without_value()))
            }
        }
    )+};
}

from_errors! {
    BarrierError BarrierTimeoutError CallError CreateError DeadLetterError DecodeError EncodeError
    GetError GetTimeoutError GroupError HandleError JoinError JoinTimeoutError LookupError PoolError
    QueueJoinError QueueJoinTimeoutError RecvError RecvTimeoutError ReleaseError ShutdownError
    SpawnError StartError SupervisorError SyncError TaskDoneError TaskError TaskTimeoutError
    TimeoutError TryError TryGetError TryRecvError WaitError
}

from_errors_with_value! {
    CastError LockError LockTimeoutError PoisonError PutError PutTimeoutError SendError
    SendTimeoutError SubmitError TryLockError TryPutError TrySendError TrySubmitError
}

impl<I: Iterator> From<PutAllError<I>> for Error {
    fn from(error: PutAllError<I>) -> Error {
        let error: PutAllError<Empty<()>> = error.without_items();
        Error(Box::new(error))
    }
}
