//! Errors of queues.

use std::collections::VecDeque;
use std::iter::Empty;

use thiserror::Error;

use super::{DecodeError, EncodeError};

flat_errors! {
    /// The error returned by [`put`](crate::Queue::put). [`into_inner`](Self::into_inner) returns
    /// the item.
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = offspring::Queue::unbounded()?;
    /// queue.close()?;
    /// let error = queue.put(7).unwrap_err();
    /// assert!(error.is_end());
    /// assert_eq!(error.into_inner(), 7); // nothing is lost
    /// # Ok(())
    /// # }
    /// ```
    pub enum PutError<T> {
        /// The queue is closed.
        #[error("cannot put: the queue is closed")]
        Closed(item: T),
        /// No process is left that could take an item: the queue is full, or no handle is left that
        /// [takes](crate::queue::Producer#the-end).
        #[error("cannot put: no consumer is left that could take the item")]
        Abandoned(item: T),
        /// The owner process has ended, and the queue with it.
        #[error("cannot put: the process that owns the queue has ended")]
        Disconnected(item: T),
        /// The item does not encode.
        #[error("cannot put the item: {1}")]
        Encode(item: T, cause: EncodeError),
        /// The handle does not work in this process.
        #[error("cannot put: {1}")]
        Handle(item: T, cause: HandleError),
    }
    ends { Closed, Abandoned, Disconnected }

    /// The error returned by [`try_put`](crate::Queue::try_put). [`into_inner`](Self::into_inner)
    /// returns the item.
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
    pub enum TryPutError<T> adds {
        /// The queue is full.
        #[error("cannot put: the queue is full")]
        Full => is_full
    }

    /// The error returned by [`put_timeout`](crate::Queue::put_timeout).
    /// [`into_inner`](Self::into_inner) returns the item.
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
    pub enum PutTimeoutError<T> adds {
        /// The queue stayed full.
        #[error("timed out putting: the queue stayed full")]
        Timeout => is_timeout
    }
}

flat_errors! {
    /// The error returned by [`get`](crate::Queue::get).
    ///
    /// ```
    /// use offspring::Queue;
    /// use offspring::queue::GetError;
    ///
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = Queue::<u32>::unbounded()?;
    /// queue.close()?;
    /// let error = queue.get().unwrap_err();
    /// assert!(matches!(error, GetError::Closed) && error.is_end());
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone)]
    pub enum GetError {
        /// The queue is closed and drained.
        #[error("cannot get: the queue is closed and drained")]
        Closed,
        /// The queue is empty, and no process is left that could put an item.
        #[error("cannot get: the queue is empty, and no producer is left")]
        Abandoned,
        /// The owner process has ended, and the queue with it.
        #[error("cannot get: the process that owns the queue has ended")]
        Disconnected,
        /// An item was taken that is not a valid `T`. It is a dead letter now; the items after it
        /// are not affected.
        #[error("cannot get the item: {0}")]
        Decode(cause: DecodeError),
        /// The handle does not work in this process.
        #[error("cannot get: {0}")]
        Handle(cause: HandleError),
    }
    ends { Closed, Abandoned, Disconnected }

    /// The error returned by [`try_get`](crate::Queue::try_get).
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = offspring::Queue::<u32>::unbounded()?;
    /// let error = queue.try_get().unwrap_err();
    /// assert!(error.is_empty() && !error.is_end());
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone)]
    pub enum TryGetError adds {
        /// The queue is empty.
        #[error("cannot get: the queue is empty")]
        Empty => is_empty
    }

    /// The error returned by [`get_timeout`](crate::Queue::get_timeout).
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = offspring::Queue::<u32>::unbounded()?;
    /// let error = queue.get_timeout(std::time::Duration::from_millis(1)).unwrap_err();
    /// assert!(error.is_timeout());
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone)]
    pub enum GetTimeoutError adds {
        /// The queue stayed empty.
        #[error("timed out getting: the queue stayed empty")]
        Timeout => is_timeout
    }
}

flat_errors! {
    /// The error returned by [`JoinableQueue::join`](crate::JoinableQueue::join).
    ///
    /// ```
    /// use offspring::JoinableQueue;
    /// use offspring::queue::QueueJoinError;
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
    ///     take::spawn(jobs.clone())?.join()?; // no process is left that could do it
    ///     assert!(matches!(jobs.join(), Err(QueueJoinError::Abandoned { unfinished: 1, .. })));
    ///     Ok(())
    /// }
    /// ```
    #[derive(Clone)]
    pub enum QueueJoinError {
        /// The owner process has ended, and the queue with it.
        #[error("cannot join the queue: the process that owns it has ended")]
        Disconnected,
        /// Items are unfinished, and no process is left that could finish them.
        #[error("cannot join the queue: {unfinished} items are unfinished, and no consumer is left")]
        Abandoned {
            /// The number of unfinished items.
            unfinished: usize,
        },
        /// The handle does not work in this process.
        #[error("cannot join the queue: {0}")]
        Handle(cause: HandleError),
    }
    ends { Disconnected, Abandoned }

    /// The error returned by [`JoinableQueue::join_timeout`](crate::JoinableQueue::join_timeout).
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
    #[derive(Clone)]
    pub enum QueueJoinTimeoutError adds {
        /// Items are still unfinished.
        #[error("timed out joining the queue: items are still unfinished")]
        Timeout => is_timeout
    }
}

/// The error returned by [`put_all`](crate::Queue::put_all). [`into_rest`](Self::into_rest) returns
/// the items that were not put.
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
#[error("stopped after {put} items: {cause}")]
pub struct PutAllError<I: Iterator> {
    put: usize,
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
        PutAllError { put, cause, pulled, rest }
    }

    /// Returns the number of items that were put.
    #[must_use]
    pub fn put(&self) -> usize {
        self.put
    }

    /// Returns why the next item was not put.
    #[must_use]
    pub fn cause(&self) -> &PutTimeoutError<()> {
        &self.cause
    }

    pub(super) fn without_items(self) -> PutAllError<Empty<()>> {
        PutAllError::new(self.put, self.cause, VecDeque::new(), std::iter::empty())
    }

    /// Returns the items that were not put, the one that failed first.
    pub fn into_rest(self) -> impl Iterator<Item = I::Item> {
        self.pulled.into_iter().chain(self.rest)
    }
}

debug_is_text! { [I: Iterator] PutAllError<I> }

/// The error returned by [`JoinableQueue::task_done`](crate::JoinableQueue::task_done). No item was
/// marked as finished.
///
/// ```
/// use offspring::JoinableQueue;
/// use offspring::queue::TaskDoneError;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::<u32>::unbounded()?;
/// assert_eq!(jobs.task_done(), Err(TaskDoneError::TooMany));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// No unfinished item has been taken out of its delivery in this process.
    #[error(
        "task_done() was called more often than items were taken out of their deliveries (`Delivery::task_done` is for one that was not)"
    )]
    TooMany,
    /// The owner process has ended, and the queue with it.
    #[error("cannot mark an item as finished: the process that owns the queue has ended")]
    Disconnected,
}

impl TaskDoneError {
    /// Returns whether the queue has ended, so that no later call can succeed.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, TaskDoneError::Disconnected)
    }
}

/// The error returned when a dead letter cannot be listed, redelivered or discarded.
///
/// ```
/// use offspring::JoinableQueue;
/// use offspring::queue::DeadLetterError;
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
#[derive(Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// This process is not the owner: dead letters stay in the process that made the queue.
    #[error("cannot list dead letters: another process owns the queue")]
    NotOwner,
    /// The queue is closed.
    #[error("cannot redeliver the dead letter: the queue is closed")]
    Closed,
    /// The letter was redelivered or discarded before, or was dropped to make room for newer ones.
    #[error("the queue no longer has the dead letter")]
    Gone,
    /// The letter held a receiving end, which exists only once and went with the consumer that had
    /// it. The letter stays.
    #[error("cannot redeliver the dead letter: its receiving end went with an earlier consumer")]
    MovedOut,
    /// The system has no memory or no descriptor left for a copy. The letter stays.
    #[error("cannot copy the dead letter: there is no memory or no descriptor left")]
    NoMemory,
}

/// The error of a handle that cannot be used in this process, or cannot be used now.
///
/// ```
/// use std::fs::File;
/// use offspring::queue::PutError;
/// use offspring::{ProcessBuilder, HandleError, Queue};
/// use offspring::unix::{ProcessBuilderExt, Resource};
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
///     ProcessBuilder::new().rlimit(Resource::OpenFiles, 64, 64).spawn(greedy::new(found.clone()))?.join()?;
///     assert_eq!(found.get()?, "tree");
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The owner process refused the handle.
    #[error("the owner process refused the handle: {0}")]
    Refused(String),
    /// The owner process has ended, and the object with it.
    #[error("the owner process has ended")]
    Disconnected,
    /// The owner process did not answer within a second: it is suspended, or the machine is
    /// overloaded. The call may be repeated.
    #[error("the owner process (pid {pid}) did not answer within a second (is it suspended?)")]
    Unresponsive {
        /// The process id of the owner.
        pid: u32,
    },
    /// The system refused a resource.
    #[error("could not {act}: {message}")]
    Io {
        /// The act that failed.
        act: &'static str,
        /// The system's error.
        message: String,
    },
}

impl HandleError {
    /// Returns whether the owner has ended, so that no later call can succeed.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, HandleError::Disconnected)
    }
}

debug_with_text! {
    TaskDoneError { TooMany, Disconnected }
    DeadLetterError { NotOwner, Closed, Gone, MovedOut, NoMemory }
    HandleError { Refused, Disconnected, Unresponsive, Io }
}
