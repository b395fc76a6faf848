//! `Consumer` and `JoinableConsumer`: handles that take and cannot put.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{GetError, GetTimeoutError, HandleError, TaskDoneError, TryGetError};
use crate::ipc::reactor::EventSource;
use crate::queue::delivery::Delivery;
use crate::queue::handle::Handle;
use crate::queue::joinable::{JoinableBatches, JoinableIntoIter, JoinableIter, JoinableQueue};
use crate::queue::one_way::one_way;
use crate::queue::queue::{Queue, QueueBatches, QueueIntoIter, QueueIter};
use crate::queue::role::Role;

/// A handle of a [`Queue`] that takes and cannot put. Dropping it does not affect other handles,
/// and leaves the items in the queue.
///
/// [`Queue::consumer`] and [`Queue::split`] make it. It can be cloned and sent to other processes
/// like the queue itself. As long as a process has one, or one is on its way, the queue has a
/// consumer; [`Producer`](crate::queue::Producer) explains what that means for the end of the
/// queue. A program that only passes consumers on to its children should keep none itself.
///
/// ```
/// use offspring::queue::{GetError, Producer};
/// use offspring::Queue;
///
/// #[offspring::worker]
/// fn count(upto: u64, numbers: Producer<u64>) {
///     (1..=upto).for_each(|n| numbers.put(n).expect("the main program reads"));
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (producer, numbers) = Queue::unbounded()?.split();
///     count::spawn(4, producer)?;
///     // Ends with its only producer.
///     assert_eq!(numbers.iter().collect::<Vec<u64>>(), [1, 2, 3, 4]);
///     assert!(matches!(numbers.get(), Err(GetError::Abandoned)));
///     Ok(())
/// }
/// ```
pub struct Consumer<T> {
    pub(super) queue: Queue<T>,
}

/// A handle of a [`JoinableQueue`] that takes and cannot put. Dropping it does not affect other
/// handles, and leaves the items in the queue.
///
/// [`JoinableQueue::consumer`] and [`JoinableQueue::split`] make it. It can be cloned and sent to
/// other processes like the queue itself. As long as a process has one or a [`Delivery`] of it, or
/// one is on its way, the queue has a consumer;
/// [`JoinableProducer`](crate::queue::JoinableProducer) explains what that means for the end of the
/// queue. A program that only passes consumers on to its children should keep none itself.
///
/// ```
/// use offspring::queue::JoinableConsumer;
/// use offspring::JoinableQueue;
///
/// #[offspring::worker]
/// fn consume(jobs: JoinableConsumer<u64>) -> u64 {
///     jobs.iter().map(|job| job.task_done()).count() as u64
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (jobs, consumer) = JoinableQueue::bounded(8)?.split();
///     let process = consume::spawn(consumer)?;
///     jobs.put_all(1..=100)?;
///     drop(jobs); // no producer is left
///     assert_eq!(process.join()?, 100);
///     Ok(())
/// }
/// ```
pub struct JoinableConsumer<T> {
    pub(super) queue: JoinableQueue<T>,
}

macro_rules! consuming {
    ($consumer:ident, $queue:ident, $item:ty, $iter:ident, $into_iter:ident, $batches:ident) => {
        impl<T: Serialize + DeserializeOwned> $consumer<T> {
            /// Takes the first item; blocks while the queue is empty.
            ///
            /// # Errors
            ///
            /// [`GetError::Abandoned`] if the queue is empty, and no producer is left and none on
            #[doc = concat!("its way; and the other errors of [`", stringify!($queue), "::get`].")]
            pub fn get(&self) -> Result<$item, GetError> {
                self.queue.get()
            }

            #[doc = concat!("Takes the first item if the queue is not empty, like [`", stringify!($queue), "::try_get`].")]
            ///
            /// # Errors
            ///
            /// [`TryGetError::Empty`]; [`TryGetError::Handle`] with [`HandleError::Unresponsive`]
            /// if the owner does not answer; and the errors of [`get`](Self::get).
            pub fn try_get(&self) -> Result<$item, TryGetError> {
                self.queue.try_get()
            }

            /// Like [`get`](Self::get), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`GetTimeoutError::Timeout`], and the errors of [`get`](Self::get).
            pub fn get_timeout(&self, timeout: Duration) -> Result<$item, GetTimeoutError> {
                self.queue.get_timeout(timeout)
            }

            /// Takes at least one and at most `max` items: blocks while the queue is empty, then
            #[doc = concat!("takes what is immediately available, like [`", stringify!($queue), "::get_many`].")]
            ///
            /// # Errors
            ///
            /// The errors of [`get`](Self::get). An item that does not decode is an error only if
            /// no other item was taken with it; otherwise it is logged and skipped.
            pub fn get_many(&self, max: usize) -> Result<Vec<$item>, GetError> {
                self.queue.get_many(max)
            }

            /// Like [`get_many`](Self::get_many), but does not block while the queue is empty.
            ///
            /// # Errors
            ///
            /// [`TryGetError::Empty`], and the errors of [`get_many`](Self::get_many).
            pub fn try_get_many(&self, max: usize) -> Result<Vec<$item>, TryGetError> {
                self.queue.try_get_many(max)
            }

            /// Like [`get_many`](Self::get_many), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`GetTimeoutError::Timeout`], and the errors of [`get_many`](Self::get_many).
            pub fn get_many_timeout(
                &self,
                max: usize,
                timeout: Duration,
            ) -> Result<Vec<$item>, GetTimeoutError> {
                self.queue.get_many_timeout(max, timeout)
            }

            /// Returns an iterator over batches of at most `max` items, taken with
            /// [`get_many`](Self::get_many), that ends as [`iter`](Self::iter) does.
            pub fn batches(&self, max: usize) -> $batches<'_, T> {
                self.queue.batches(max)
            }

            /// Returns an iterator that takes items with [`get`](Self::get) until the end of the
            #[doc = concat!("queue, or until its owner process ends, like [`", stringify!($queue), "::iter`].")]
            pub fn iter(&self) -> $iter<'_, T> {
                self.queue.iter()
            }

            /// Like [`get`](Self::get), but does not block the thread. Needs the feature `async`,
            /// and works with every executor.
            ///
            /// Dropping the future loses no item: it takes one only when it completes.
            ///
            /// # Errors
            ///
            /// The errors of [`get`](Self::get).
            #[cfg(feature = "async")]
            pub async fn get_async(&self) -> Result<$item, GetError> {
                self.queue.get_async().await
            }
        }

        impl<T> $consumer<T> {
            /// Returns the event source of a selector.
            pub(crate) fn target(&self) -> Option<Arc<dyn EventSource>> {
                self.queue.target()
            }
        }

        impl<'a, T: Serialize + DeserializeOwned> IntoIterator for &'a $consumer<T> {
            type Item = $item;
            type IntoIter = $iter<'a, T>;

            fn into_iter(self) -> $iter<'a, T> {
                self.iter()
            }
        }

        impl<T: Serialize + DeserializeOwned> IntoIterator for $consumer<T> {
            type Item = $item;
            type IntoIter = $into_iter<T>;

            fn into_iter(self) -> $into_iter<T> {
                self.queue.into_iter()
            }
        }
    };
}

one_way!(Consumer, Queue, false, Role::Consumer);
consuming!(Consumer, Queue, T, QueueIter, QueueIntoIter, QueueBatches);

one_way!(JoinableConsumer, JoinableQueue, true, Role::Consumer);
consuming!(
    JoinableConsumer,
    JoinableQueue,
    Delivery<T>,
    JoinableIter,
    JoinableIntoIter,
    JoinableBatches
);

impl<T> JoinableConsumer<T> {
    /// Marks the oldest item that this process took out of its delivery
    /// ([`Delivery::into_inner`]) as finished, like [`JoinableQueue::task_done`].
    ///
    /// # Errors
    ///
    /// [`TaskDoneError::TooMany`] if there is no such item, and [`TaskDoneError::Disconnected`] if
    /// the owner process has ended.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        self.queue.task_done()
    }
}
