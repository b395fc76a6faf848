//! Errors of queues.

use std::collections::VecDeque;
use std::fmt;

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
        #[error("putting into a closed queue")]
        Closed(item: T),
        /// No process is left that could take an item: the queue is full, or no handle is left that
        /// [takes](crate::queue::Producer#the-end).
        #[error("putting into a queue that no process is left to get from")]
        Abandoned(item: T),
        /// The owner process has ended, and the queue with it.
        #[error("putting into a queue whose owner process has ended")]
        Disconnected(item: T),
        /// The item does not encode.
        #[error("putting an item that does not encode")]
        Encode(item: T, #[source] cause: EncodeError),
        /// The handle does not work in this process.
        #[error("putting through a handle that does not reach its queue")]
        Handle(item: T, #[source] cause: HandleError),
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
        #[error("putting into a full queue")]
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
        #[error("timed out putting into a full queue")]
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
    #[derive(Clone, Debug)]
    pub enum GetError {
        /// The queue is closed and drained.
        #[error("getting from a queue that is closed and drained")]
        Closed,
        /// The queue is empty, and no process is left that could put an item.
        #[error("getting from an empty queue that no process is left to put into")]
        Abandoned,
        /// The owner process has ended, and the queue with it.
        #[error("getting from a queue whose owner process has ended")]
        Disconnected,
        /// An item was taken that is not a valid `T`. It is a dead letter now; the items after it
        /// are not affected.
        #[error("getting an item that does not decode")]
        Decode(#[source] cause: DecodeError),
        /// The handle does not work in this process.
        #[error("getting through a handle that does not reach its queue")]
        Handle(#[source] cause: HandleError),
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
    #[derive(Clone, Debug)]
    pub enum TryGetError adds {
        /// The queue is empty.
        #[error("getting from an empty queue")]
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
    #[derive(Clone, Debug)]
    pub enum GetTimeoutError adds {
        /// The queue stayed empty.
        #[error("timed out getting from an empty queue")]
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
    #[derive(Clone, Debug)]
    pub enum QueueJoinError {
        /// The owner process has ended, and the queue with it.
        #[error("joining a queue whose owner process has ended")]
        Disconnected,
        /// Items are unfinished, and no process is left that could finish them.
        #[error("joining a queue with {unfinished} unfinished items and no process left to finish them")]
        Abandoned {
            /// The number of unfinished items.
            unfinished: usize,
        },
        /// The handle does not work in this process.
        #[error("joining through a handle that does not reach its queue")]
        Handle(#[source] cause: HandleError),
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
    #[derive(Clone, Debug)]
    pub enum QueueJoinTimeoutError adds {
        /// Items are still unfinished.
        #[error("timed out joining a queue with unfinished items")]
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
#[error("putting the items of an iterator, after {put} of them were put")]
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

    /// Returns the items that were not put, the one that failed first.
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
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// This process has taken no item out of its delivery that is still unfinished.
    #[error(
        "calling task_done() more often than items were taken out of their deliveries (`Delivery::task_done` is for one that was not)"
    )]
    TooMany,
    /// The owner process has ended, and the queue with it.
    #[error("calling task_done() on a queue whose owner process has ended")]
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
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// This process is not the owner: dead letters stay in the process that made the queue.
    #[error("listing the dead letters of a queue that another process owns")]
    NotOwner,
    /// The queue is closed.
    #[error("redelivering a dead letter into a closed queue")]
    Closed,
    /// The letter was redelivered or discarded before, or was dropped to make room for newer ones.
    #[error("using a dead letter that the queue no longer has")]
    Gone,
    /// The letter held a receiving end, which exists only once and went with the consumer that had
    /// it. The letter stays.
    #[error("redelivering a dead letter whose receiving end went with an earlier consumer")]
    MovedOut,
    /// The system has no memory or no descriptor left for a copy. The letter stays.
    #[error("copying a dead letter without memory or a descriptor left")]
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
#[derive(Clone, Debug, Error)]
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
