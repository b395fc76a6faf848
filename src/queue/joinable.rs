//! `JoinableQueue`: an item is unfinished until its consumer marks it done.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, DeadLetterError, GetError, GetTimeoutError, HandleError, PutAllError, PutError,
    PutTimeoutError, QueueJoinError, QueueJoinTimeoutError, TaskDoneError, TryGetError,
    TryPutError,
};
use crate::ipc::deadline::{Deadline, Forever, WaitEnd};
use crate::ipc::reactor::EventSource;
use crate::queue::builder::QueueBuilder;
use crate::queue::dead_letter::DeadLetter;
use crate::queue::delivery::Delivery;
use crate::queue::handle::{Got, Handle};
use crate::queue::methods::queue_methods;
use crate::queue::outcome::{QueueJoined, until_end, with_item};
use crate::queue::role::Role;

/// A queue that knows which items are finished, and loses none to a consumer that dies.
///
/// This is a handle, like [`Queue`](crate::Queue); dropping it does not affect other handles. `get`
/// returns a [`Delivery`]. Until its [`task_done`](Delivery::task_done) is called, the item is
/// leased to this process. If the delivery is dropped, its thread panics, or the process dies, the
/// item goes to the next consumer. So each item is processed at least once, and
/// [`join`](JoinableQueue::join) never waits for a consumer that is dead.
///
/// # Dead letters
///
/// An item that kills its consumers is not redelivered for ever: after
/// [`max_deliveries`](QueueBuilder::max_deliveries) deliveries (5 by default) it becomes a [dead
/// letter](JoinableQueue::dead_letters). Two other kinds of items become dead letters at once: an
/// item that does not decode, and an item that was not finished and holds a
/// [`Receiver`](crate::Receiver) or [`Connection`](crate::Connection), which exists only once and
/// is gone with its consumer. `join` does not wait for dead letters.
///
/// # The end
///
/// The queue ends as a [`Queue`](crate::Queue) does, and has the same one-way handles:
/// [`split`](JoinableQueue::split), [`producer`](JoinableQueue::producer),
/// [`consumer`](JoinableQueue::consumer) and [`control`](JoinableQueue::control). If several threads of one process consume a
/// closed queue, some may see its end while another still holds a delivery. If that delivery comes
/// back, the process has to call `get` again.
///
/// ```
/// use offspring::queue::JoinableConsumer;
/// use offspring::{JoinableQueue, ProcessWorker, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Consumer {
///     jobs: JoinableConsumer<u64>,
/// }
///
/// impl ProcessWorker for Consumer {
///     type Output = ();
///     fn run(self) {
///         for job in &self.jobs {
///             println!("consumed {}", *job);
///             job.task_done();
///         }
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (jobs, consumer) = JoinableQueue::bounded(8)?.split();
///     let _consumer = offspring::ProcessBuilder::new().daemon(true).spawn(Consumer { jobs: consumer })?;
///     for n in 1..=4 {
///         jobs.put(n)?;
///     }
///     jobs.join()?;
///     Ok(())
/// }
/// ```
pub struct JoinableQueue<T> {
    pub(super) handle: Handle,
    item: PhantomData<fn(T) -> T>,
}

queue_methods!(JoinableQueue, joinable: true, Delivery<T>, JoinableIter, JoinableIntoIter, JoinableBatches);

impl<T: Serialize + DeserializeOwned> JoinableQueue<T> {
    /// Like `try_put`, for a caller whose deadline has passed.
    pub(crate) fn put_at_deadline(&self, item: T) -> Result<(), PutTimeoutError<T>> {
        let put = self.handle.try_put(&item);
        put.map_err(|end| with_item(end, item).into())
    }
}

impl<T> JoinableQueue<T> {
    pub(super) fn receive(&self, got: Got<T>) -> Delivery<T> {
        Delivery::new(got.value, self.handle.clone(), got.lease, got.attempts)
    }

    /// Returns the same queue with another item type. The caller must know that it has the same
    /// encoding.
    pub(crate) fn cast<U>(self) -> JoinableQueue<U> {
        JoinableQueue::from_handle(self.handle)
    }

    /// Blocks until every item that was put before this call is finished or a dead letter. Returns
    /// at once if no item is unfinished. The returned value contains the number of dead letters:
    /// items that were not finished, and will not be unless they are redelivered.
    ///
    /// # Errors
    ///
    /// - [`QueueJoinError::Disconnected`] if the owner process has ended;
    /// - [`QueueJoinError::Abandoned`] if items are unfinished and no process is left that could
    ///   finish them: other processes have held the queue, none of them is left, and this one has
    ///   never taken an item.
    pub fn join(&self) -> Result<QueueJoined, QueueJoinError> {
        let joined = self.handle.join(&Forever);
        Ok(joined.map_err(WaitEnd::into_failed)?)
    }

    /// Like [`join`](JoinableQueue::join), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`QueueJoinTimeoutError::Timeout`], and the errors of [`join`](JoinableQueue::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<QueueJoined, QueueJoinTimeoutError> {
        let joined = self.handle.join(&Deadline::after(timeout));
        Ok(joined.map_err(WaitEnd::convert::<QueueJoinError>)?)
    }

    /// Marks the oldest item that this process took out of its delivery
    /// ([`Delivery::into_inner`]) as finished, like `task_done` of Python's queues. Prefer
    /// [`Delivery::task_done`], which cannot be called too often.
    ///
    /// # Errors
    ///
    /// [`TaskDoneError::TooMany`] if there is no such item, and [`TaskDoneError::Disconnected`] if
    /// the owner process has ended.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        self.handle.task_done()
    }
}

/// An iterator over the deliveries of a [`JoinableQueue`], returned by [`JoinableQueue::iter`].
/// Dropping it leaves the remaining items in the queue.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = JoinableQueue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close()?;
/// let mut seen = 0;
/// for job in &queue {
///     seen += *job;
///     job.task_done();
/// }
/// assert_eq!(seen, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JoinableIter<'a, T> {
    queue: &'a JoinableQueue<T>,
}

/// An owned iterator over the deliveries of a [`JoinableQueue`], returned by its `into_iter`.
/// Dropping it leaves the remaining items in the queue, and drops the handle.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = JoinableQueue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close()?;
/// for job in queue {
///     assert!((1..=10).contains(&*job));
///     job.task_done();
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JoinableIntoIter<T> {
    queue: JoinableQueue<T>,
}

/// An iterator over batches of deliveries of a [`JoinableQueue`], returned by
/// [`JoinableQueue::batches`]. Dropping it leaves the remaining items in the queue.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = JoinableQueue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close()?;
/// let mut total = 0;
/// for batch in queue.batches(4) {
///     let sum: u32 = batch.iter().map(|job| **job).sum();
///     batch.into_iter().for_each(offspring::Delivery::task_done);
///     total += sum;
/// }
/// assert_eq!(total, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JoinableBatches<'a, T> {
    queue: &'a JoinableQueue<T>,
    max: usize,
}
