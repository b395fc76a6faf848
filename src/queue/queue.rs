//! `Queue`: every item is taken once.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, DeadLetterError, GetError, GetTimeoutError, HandleError, PutAllError, PutError,
    PutTimeoutError, TryGetError, TryPutError,
};
use crate::ipc::deadline::{Deadline, Forever, WaitEnd};
use crate::ipc::reactor::EventSource;
use crate::queue::builder::QueueBuilder;
use crate::queue::dead_letter::DeadLetter;
use crate::queue::handle::{Got, Handle};
use crate::queue::methods::queue_methods;
use crate::queue::outcome::{until_end, with_item};
use crate::queue::role::Role;

/// A first-in, first-out queue that any number of processes put into and get from.
///
/// This is a handle. It can be cloned, and sent to other processes in worker fields, queue items
/// and messages. Dropping it does not affect other handles. The queue lives in the process that
/// made it, its *owner*: when that process ends, every handle elsewhere reports `Disconnected`.
///
/// # Order and loss
///
/// The items of one producer keep their order. An item whose `put` has returned survives the death
/// of the producer. It also survives the death of a consumer that it was sent to, if that had not
/// taken it. A consumer that is killed in the middle of a `get` may take one item with it; a
/// [`JoinableQueue`](crate::JoinableQueue) loses none. An item that does not decode is an error of
/// that `get`, and becomes a [dead letter](Queue::dead_letters).
///
/// # The end
///
/// `get` returns [`GetError::Closed`] when the queue is closed and drained. It returns
/// [`GetError::Abandoned`] when the queue is empty and no process is left that could put: other
/// processes have held a handle, and each one that still does waits for an item and has never put
/// one. `put` into a full queue returns [`PutError::Abandoned`] when no process is left that could
/// take an item. `Abandoned` describes the moment of the call: if a new process gets a handle, the
/// queue works again.
///
/// A `Queue` handle is a possible producer and a possible consumer. So a program that keeps one
/// while its children put and take may wait for itself. A handle made by [`split`](Queue::split),
/// [`producer`](Queue::producer), [`consumer`](Queue::consumer) or [`control`](Queue::control)
/// counts only for what it can do.
///
/// ```
/// use offspring::{ProcessWorker, Queue, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Squares {
///     upto: u64,
///     results: Queue<u64>,
/// }
///
/// impl ProcessWorker for Squares {
///     type Output = ();
///     fn run(self) {
///         for n in 1..=self.upto {
///             self.results.put(n * n).expect("the main program reads");
///         }
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let results = Queue::unbounded()?;
///     let process = Squares { upto: 4, results: results.clone() }.spawn()?;
///     // Ends with its only producer.
///     assert_eq!(results.iter().collect::<Vec<u64>>(), [1, 4, 9, 16]);
///     process.join()?;
///     Ok(())
/// }
/// ```
pub struct Queue<T> {
    pub(super) handle: Handle,
    item: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    #[expect(clippy::unused_self, reason = "the counterpart of `JoinableQueue::receive`")]
    pub(super) fn receive(&self, got: Got<T>) -> T {
        got.value
    }
}

queue_methods!(Queue, joinable: false, T, QueueIter, QueueIntoIter, QueueBatches);

/// An iterator over the items of a [`Queue`], returned by [`Queue::iter`]. Dropping it leaves the
/// remaining items in the queue.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close()?;
/// let mut seen = 0;
/// for job in &queue {
///     seen += job;
/// }
/// assert_eq!(seen, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueueIter<'a, T> {
    queue: &'a Queue<T>,
}

/// An owned iterator over the items of a [`Queue`], returned by its `into_iter`. Dropping it leaves
/// the remaining items in the queue, and drops the handle.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close()?;
/// assert_eq!(queue.into_iter().sum::<i32>(), 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueueIntoIter<T> {
    queue: Queue<T>,
}

/// An iterator over batches of items of a [`Queue`], returned by [`Queue::batches`]. Dropping it
/// leaves the remaining items in the queue.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close()?;
/// let mut total = 0;
/// for batch in queue.batches(4) {
///     let sum: u32 = batch.into_iter().sum();
///     total += sum;
/// }
/// assert_eq!(total, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueueBatches<'a, T> {
    queue: &'a Queue<T>,
    max: usize,
}
