//! Errors of queues.

use std::collections::VecDeque;
use std::fmt;

use thiserror::Error;

use super::{DecodeError, EncodeError};

/// Why a queue did not take an item. The item comes back: see [`PutError::into_inner`].
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = offspring::Queue::unbounded()?;
/// queue.close();
/// let error = queue.put(7).unwrap_err();
/// assert_eq!(error.into_inner(), 7); // nothing is lost
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue was closed.
    #[error("putting into a closed queue")]
    Closed(T),
    /// The queue is full, other processes have held it, and nobody is left who could take an item.
    #[error("putting into a full queue that nobody is left to get from")]
    Abandoned(T),
    /// The process that made the queue has ended, and the queue with it.
    #[error("putting into a queue whose owner process has ended")]
    Disconnected(T),
    /// The item does not encode.
    #[error("putting an item that does not encode")]
    Encode(T, #[source] EncodeError),
    /// The handle cannot be used in this process.
    #[error("putting through a handle that cannot be used here")]
    Handle(T, #[source] HandleError),
}

impl<T> PutError<T> {
    /// The item that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Closed(item)
            | PutError::Abandoned(item)
            | PutError::Disconnected(item)
            | PutError::Encode(item, _)
            | PutError::Handle(item, _) => item,
        }
    }
}

impl<T> PutError<T> {
    /// The item, and the error without it.
    pub(crate) fn split(self) -> (T, PutError<()>) {
        match self {
            PutError::Closed(item) => (item, PutError::Closed(())),
            PutError::Abandoned(item) => (item, PutError::Abandoned(())),
            PutError::Disconnected(item) => (item, PutError::Disconnected(())),
            PutError::Encode(item, error) => (item, PutError::Encode((), error)),
            PutError::Handle(item, error) => (item, PutError::Handle((), error)),
        }
    }
}

/// Why `put_all` did not take all items. Those that it did not take come back: see [`PutAllError::into_rest`].
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = offspring::Queue::bounded(2)?;
/// let error = queue.put_all_timeout(1..=5, std::time::Duration::from_millis(1)).unwrap_err();
/// assert_eq!(error.put(), 2);
/// assert_eq!(error.into_rest().collect::<Vec<i32>>(), [3, 4, 5]);
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[error("putting many items: it ended after {put}")]
pub struct PutAllError<I: Iterator> {
    put: usize,
    #[source]
    cause: PutTimeoutError<()>,
    pulled: VecDeque<I::Item>,
    rest: I,
}

impl<I: Iterator> PutAllError<I> {
    pub(crate) fn new(
        put: usize,
        cause: PutTimeoutError<()>,
        pulled: VecDeque<I::Item>,
        rest: I,
    ) -> PutAllError<I> {
        PutAllError {
            put,
            cause,
            pulled,
            rest,
        }
    }

    /// How many items were put.
    #[must_use]
    pub fn put(&self) -> usize {
        self.put
    }

    /// Why the next one was not.
    #[must_use]
    pub fn cause(&self) -> &PutTimeoutError<()> {
        &self.cause
    }

    /// The items that were not put, beginning with the one that failed.
    pub fn into_rest(self) -> impl Iterator<Item = I::Item> {
        self.pulled.into_iter().chain(self.rest)
    }
}

impl<I: Iterator> fmt::Debug for PutAllError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutAllError")
            .field("put", &self.put)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// Why `try_put` did not take an item.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = offspring::Queue::bounded(1)?;
/// queue.put(1)?;
/// let error = queue.try_put(2).unwrap_err();
/// assert!(error.is_full());
/// assert_eq!(error.into_inner(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum TryPutError<T> {
    /// The queue holds as many items as it may.
    #[error("putting into a full queue")]
    Full(T),
    /// It takes none at all.
    #[error(transparent)]
    Failed(#[from] PutError<T>),
}

impl<T> TryPutError<T> {
    /// The item that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            TryPutError::Full(item) => item,
            TryPutError::Failed(error) => error.into_inner(),
        }
    }

    /// Whether the queue was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, TryPutError::Full(_))
    }
}

/// Why `put_timeout` did not take an item.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = offspring::Queue::bounded(1)?;
/// queue.put(1)?;
/// let error = queue.put_timeout(2, std::time::Duration::from_millis(1)).unwrap_err();
/// assert!(error.is_timeout());
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum PutTimeoutError<T> {
    /// The queue stayed full.
    #[error("timed out putting into a full queue")]
    Timeout(T),
    /// It takes none at all.
    #[error(transparent)]
    Failed(#[from] PutError<T>),
}

impl<T> PutTimeoutError<T> {
    /// The item that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            PutTimeoutError::Timeout(item) => item,
            PutTimeoutError::Failed(error) => error.into_inner(),
        }
    }

    /// Whether the queue stayed full.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, PutTimeoutError::Timeout(_))
    }
}

/// Why a queue gave no item.
///
/// ```
/// use offspring::{GetError, Queue};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::<u32>::unbounded()?;
/// queue.close();
/// assert!(matches!(queue.get(), Err(GetError::Closed)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum GetError {
    /// The queue is closed and drained.
    #[error("getting from a queue that is closed and drained")]
    Closed,
    /// The queue is empty, other processes have held it, and nobody is left who could put an item.
    #[error("getting from an empty queue that nobody is left to put into")]
    Abandoned,
    /// The process that made the queue has ended, and the queue with it.
    #[error("getting from a queue whose owner process has ended")]
    Disconnected,
    /// An item came that is none of the expected type. It is kept as a dead letter; the next one is not touched.
    #[error("getting an item that does not decode")]
    Decode(#[source] DecodeError),
    /// The handle cannot be used in this process.
    #[error("getting through a handle that cannot be used here")]
    Handle(#[source] HandleError),
}

/// Why `try_get` gave no item.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = offspring::Queue::<u32>::unbounded()?;
/// assert!(queue.try_get().unwrap_err().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TryGetError {
    /// The queue holds none now.
    #[error("getting from an empty queue")]
    Empty,
    /// It gives none at all.
    #[error(transparent)]
    Failed(#[from] GetError),
}

impl TryGetError {
    /// Whether the queue was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, TryGetError::Empty)
    }
}

/// Why `get_timeout` gave no item.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = offspring::Queue::<u32>::unbounded()?;
/// assert!(queue.get_timeout(std::time::Duration::from_millis(1)).unwrap_err().is_timeout());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum GetTimeoutError {
    /// The queue stayed empty.
    #[error("timed out getting from an empty queue")]
    Timeout,
    /// It gives none at all.
    #[error(transparent)]
    Failed(#[from] GetError),
}

impl GetTimeoutError {
    /// Whether the queue stayed empty.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, GetTimeoutError::Timeout)
    }
}

/// Why `JoinableQueue::join` cannot tell that all items are done.
///
/// ```
/// use offspring::{JoinableQueue, QueueJoinError};
///
/// #[offspring::worker]
/// fn take(jobs: JoinableQueue<u32>) {
///     drop(jobs.get());
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let jobs = JoinableQueue::unbounded()?;
///     jobs.put(1)?;
///     take::spawn(jobs.clone())?.join()?; // nobody is left who could do it
///     assert!(matches!(jobs.join(), Err(QueueJoinError::Abandoned { unfinished: 1, .. })));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum QueueJoinError {
    /// The process that made the queue has ended, and the queue with it.
    #[error("joining a queue whose owner process has ended")]
    Disconnected,
    /// Items are unfinished, and nobody is left who could finish them.
    #[error("joining a queue with {unfinished} unfinished items and nobody left to finish them")]
    Abandoned {
        /// How many items are not done.
        unfinished: usize,
    },
    /// The handle cannot be used in this process.
    #[error("joining through a handle that cannot be used here")]
    Handle(#[source] HandleError),
}

/// Why `JoinableQueue::join_timeout` cannot tell that all items are done.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = offspring::JoinableQueue::unbounded()?;
/// jobs.put(1)?;
/// assert!(jobs.join_timeout(std::time::Duration::from_millis(1)).unwrap_err().is_timeout());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum QueueJoinTimeoutError {
    /// Items are still unfinished.
    #[error("timed out joining a queue with unfinished items")]
    Timeout,
    /// They will not be finished.
    #[error(transparent)]
    Failed(#[from] QueueJoinError),
}

impl QueueJoinTimeoutError {
    /// Whether items are still unfinished.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, QueueJoinTimeoutError::Timeout)
    }
}

/// Why `JoinableQueue::task_done` changed nothing.
///
/// ```
/// use offspring::{JoinableQueue, TaskDoneError};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::<u32>::unbounded()?;
/// assert_eq!(jobs.task_done(), Err(TaskDoneError::TooMany));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// This process holds no item of the queue that is not done.
    #[error(
        "task_done() called too many times: this process took no item that is not done already"
    )]
    TooMany,
    /// The process that made the queue has ended, and the queue with it.
    #[error("task_done() on a queue whose owner process has ended")]
    Disconnected,
}

/// Why a dead letter cannot be seen, redelivered or discarded.
///
/// ```
/// use offspring::{DeadLetterError, JoinableQueue};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::builder().max_deliveries(1).build()?;
/// jobs.put(1)?;
/// drop(jobs.get()?);
/// let letters = [jobs.dead_letters()?, jobs.dead_letters()?].map(|mut letters| letters.remove(0));
/// let [one, same] = letters;
/// one.discard()?;
/// assert_eq!(same.discard(), Err(DeadLetterError::Gone));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// Dead letters stay in the process that made the queue, and this is another.
    #[error("dead letters are seen only in the process that made the queue")]
    NotOwner,
    /// The queue was closed, and takes nothing any more.
    #[error("redelivering a dead letter into a closed queue")]
    Closed,
    /// It was redelivered or discarded before, or dropped since too many came after it.
    #[error("the dead letter is not there any more")]
    Gone,
    /// It held the end of a channel or pipe, which exists once and went with the consumer that had it; the letter stays.
    #[error(
        "the dead letter's receiving ends went with the consumer that had it: only its bytes are left"
    )]
    Spent,
    /// The system has no memory or no descriptor for a second copy; the letter stays.
    #[error("no memory or no descriptor is left for the dead letter")]
    NoMemory,
}

/// A handle cannot be used in this process.
///
/// ```
/// use std::fs::File;
/// use offspring::{Builder, HandleError, PutError, Queue};
/// use offspring::unix::{BuilderExt, Resource};
///
/// #[offspring::worker]
/// fn greedy(found: Queue<String>) {
///     let files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect(); // all that it may open
///     let item = match found.put("tree".to_owned()) {
///         Err(PutError::Handle(item, HandleError::Io { act, message })) => {
///             eprintln!("could not {act}: {message}");
///             item
///         }
///         other => panic!("{other:?}"),
///     };
///     drop(files);
///     found.put(item).unwrap(); // the handle is as good as before
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let found = Queue::unbounded()?;
///     Builder::new().rlimit(Resource::OpenFiles, 64, 64).spawn(greedy::new(found.clone()))?.join()?;
///     assert_eq!(found.get()?, "tree");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The owner refused it.
    #[error("the owner process refused the handle: {0}")]
    Refused(String),
    /// The system refused what it needs.
    #[error("could not {act}: {message}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The system's answer.
        message: String,
    },
}

debug_without_item! {
    PutError { Closed, Abandoned, Disconnected, Encode + cause, Handle + cause }
}

debug_without_item_around! {
    TryPutError { Full }
    PutTimeoutError { Timeout }
}
