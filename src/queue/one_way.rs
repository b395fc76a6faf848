//! Handles that only put, only take, or do neither: `Producer`, `Consumer` and `Control`, and the
//! same for `JoinableQueue`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    DeadLetterError, GetError, GetTimeoutError, HandleError, PutAllError, PutError,
    PutTimeoutError, QueueJoinError, QueueJoinTimeoutError, TaskDoneError, TryGetError,
    TryPutError,
};
use crate::ipc::reactor::EventSource;
use crate::queue::dead_letter::DeadLetter;
use crate::queue::delivery::Delivery;
use crate::queue::handle::Handle;
use crate::queue::joinable::{JoinableBatches, JoinableIntoIter, JoinableIter, JoinableQueue};
use crate::queue::outcome::QueueJoined;
use crate::queue::queue::{Queue, QueueBatches, QueueIntoIter, QueueIter};
use crate::queue::role::Role;

/// A handle of a [`Queue`] that puts and cannot take. Dropping it does not affect other handles.
///
/// [`Queue::producer`] and [`Queue::split`] make it. It can be cloned and sent to other processes
/// like the queue itself.
///
/// # The end
///
/// One-way handles tell the queue exactly who could still put or take:
///
/// - When no [`Queue`] and no [`Consumer`] is left, in any process or on its way to one, every `put`
///   returns [`PutError::Abandoned`], even if the queue has room. That is final, since a `Producer`
///   cannot be made into a `Consumer`. What is in the queue then is lost with it.
/// - When no [`Queue`] and no `Producer` is left, `get` returns the items that are there, then
///   [`GetError::Abandoned`].
///
/// So a program that passes its consumers on and keeps a `Producer` gets an error when the last
/// consumer has died, where a program that keeps a [`Queue`] might wait for itself.
///
/// The items that a process puts through its `Producer`s keep their order among themselves, but not
/// with those that the same process puts through a [`Queue`] handle.
///
/// ```
/// use offspring::queue::{Consumer, PutError};
/// use offspring::Queue;
///
/// #[offspring::worker]
/// fn take_two(numbers: Consumer<u64>) -> u64 {
///     numbers.iter().take(2).sum()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (numbers, consumer) = Queue::bounded(8)?.split();
///     let process = take_two::spawn(consumer)?;
///     numbers.put(1)?;
///     numbers.put(2)?;
///     assert_eq!(process.join()?, 3);
///     // Nobody is left who could take another one.
///     let error = (3..).find_map(|n| numbers.put(n).err());
///     assert!(matches!(error, Some(PutError::Abandoned(_))));
///     Ok(())
/// }
/// ```
pub struct Producer<T> {
    queue: Queue<T>,
}

/// A handle of a [`Queue`] that takes and cannot put. Dropping it does not affect other handles,
/// and leaves the items in the queue.
///
/// [`Queue::consumer`] and [`Queue::split`] make it. It can be cloned and sent to other processes
/// like the queue itself. As long as a process has one, or one is on its way, the queue has a
/// consumer; [`Producer`] explains what that means for the end of the queue. A program that only
/// passes consumers on to its children should keep none.
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
    queue: Queue<T>,
}

/// A handle of a [`Queue`] that closes and watches it, and can neither put nor take. Dropping it
/// does not affect other handles.
///
/// [`Queue::control`] makes it. It can be cloned and sent to other processes like the queue itself.
/// It is no producer and no consumer, so the queue [ends](Producer#the-end) as if it did not exist.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::unbounded()?;
/// let control = queue.control();
/// let (producer, consumer) = queue.split();
/// producer.put(1)?;
/// assert_eq!(control.len()?, 1);
/// control.close()?;
/// assert!(producer.put(2).is_err());
/// assert_eq!(consumer.get()?, 1);
/// # Ok(())
/// # }
/// ```
pub struct Control<T> {
    queue: Queue<T>,
}

/// A handle of a [`JoinableQueue`] that puts and joins, and cannot take. Dropping it does not affect
/// other handles.
///
/// [`JoinableQueue::producer`] and [`JoinableQueue::split`] make it. It can be cloned and sent to
/// other processes like the queue itself.
///
/// # The end
///
/// The queue ends as that of a [`Producer`] does. When no [`JoinableQueue`] and no
/// [`JoinableConsumer`] is left, in any process or on its way to one, every `put` returns
/// [`PutError::Abandoned`], and [`join`](Self::join) returns [`QueueJoinError::Abandoned`] with the
/// number of unfinished items. These include the items that the last consumer held: they have
/// returned to the queue, which nobody can reach any more. Its [dead letters](Self::dead_letters)
/// can still be read.
///
/// ```
/// use offspring::queue::{JoinableConsumer, QueueJoinError};
/// use offspring::{JoinableQueue, ProcessBuilder};
///
/// #[offspring::worker]
/// fn consume(jobs: JoinableConsumer<u64>) {
///     for job in &jobs {
///         assert!(*job < 3, "job {} is too much", *job);
///         job.task_done();
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (jobs, consumer) = JoinableQueue::bounded(8)?.split();
///     let _consumer = ProcessBuilder::new().daemon(true).spawn(consume::new(consumer))?;
///     jobs.put_all(1..=2)?;
///     jobs.join()?; // both are done
///     jobs.put(3)?; // the only consumer panics
///     assert!(matches!(jobs.join(), Err(QueueJoinError::Abandoned { unfinished: 1, .. })));
///     Ok(())
/// }
/// ```
pub struct JoinableProducer<T> {
    queue: JoinableQueue<T>,
}

/// A handle of a [`JoinableQueue`] that takes and cannot put. Dropping it does not affect other
/// handles, and leaves the items in the queue.
///
/// [`JoinableQueue::consumer`] and [`JoinableQueue::split`] make it. It can be cloned and sent to
/// other processes like the queue itself. As long as a process has one or a [`Delivery`] of it, or
/// one is on its way, the queue has a consumer; [`JoinableProducer`] explains what that means for
/// the end of the queue. A program that only passes consumers on to its children should keep none.
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
    queue: JoinableQueue<T>,
}

/// A handle of a [`JoinableQueue`] that closes and joins it, and can neither put nor take. Dropping
/// it does not affect other handles.
///
/// [`JoinableQueue::control`] makes it. It can be cloned and sent to other processes like the queue
/// itself. It is no producer and no consumer, so the queue [ends](JoinableProducer#the-end) as if it
/// did not exist: a program whose children produce and consume can keep it to join the queue, and
/// hangs neither when all producers nor when all consumers have died.
///
/// ```
/// use offspring::queue::{JoinableConsumer, JoinableProducer};
/// use offspring::JoinableQueue;
///
/// #[offspring::worker]
/// fn produce(jobs: JoinableProducer<u64>) {
///     (1..=4).for_each(|n| jobs.put(n).expect("a consumer lives"));
/// }
///
/// #[offspring::worker]
/// fn consume(jobs: JoinableConsumer<u64>) {
///     jobs.iter().for_each(|job| job.task_done());
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let jobs = JoinableQueue::bounded(8)?;
///     let control = jobs.control();
///     let producer = produce::spawn(jobs.producer())?;
///     let consumer = consume::spawn(jobs.consumer())?;
///     drop(jobs); // this process neither puts nor takes
///     producer.join()?;
///     control.join()?; // all items are done
///     consumer.join()?; // its loop has ended with the only producer
///     Ok(())
/// }
/// ```
pub struct JoinableControl<T> {
    queue: JoinableQueue<T>,
}

/// The makers of one-way handles.
macro_rules! narrowing {
    ($queue:ident, $producer:ident, $consumer:ident, $control:ident) => {
        impl<T> $queue<T> {
            fn narrowed(&self, role: Role) -> $queue<T> {
                $queue::from_handle(self.handle.narrowed(role))
            }

            /// Returns a handle that puts and cannot take. This one stays as it is, and counts as
            /// a consumer as long as it exists.
            #[must_use]
            pub fn producer(&self) -> $producer<T> {
                $producer { queue: self.narrowed(Role::Producer) }
            }

            /// Returns a handle that takes and cannot put. This one stays as it is, and counts as
            /// a producer as long as it exists.
            #[must_use]
            pub fn consumer(&self) -> $consumer<T> {
                $consumer { queue: self.narrowed(Role::Consumer) }
            }

            /// Returns a handle that closes and watches the queue, and neither puts nor takes.
            #[must_use]
            pub fn control(&self) -> $control<T> {
                $control { queue: self.narrowed(Role::Control) }
            }

            /// Makes this handle into one that puts and one that takes.
            ///
            /// If the one that takes is passed on, the queue notices the end of the last consumer,
            /// because this process is none.
            #[must_use]
            pub fn split(self) -> ($producer<T>, $consumer<T>) {
                (self.producer(), self.consumer())
            }
        }
    };
}

/// What each one-way handle can do: be cloned, shown and sent, and say how full the queue is.
macro_rules! one_way {
    ($handle:ident, $queue:ident, $joinable:literal, $role:expr) => {
        impl<T> $handle<T> {
            #[doc = concat!("Like [`", stringify!($queue), "::is_closed`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer.
            pub fn is_closed(&self) -> Result<bool, HandleError> {
                self.queue.is_closed()
            }

            #[doc = concat!("Like [`", stringify!($queue), "::len`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer, and
            /// [`HandleError::Disconnected`] if it has ended.
            pub fn len(&self) -> Result<usize, HandleError> {
                self.queue.len()
            }

            /// Returns whether [`len`](Self::len) is 0.
            ///
            /// # Errors
            ///
            /// The errors of [`len`](Self::len).
            pub fn is_empty(&self) -> Result<bool, HandleError> {
                self.queue.is_empty()
            }

            #[doc = concat!("Like [`", stringify!($queue), "::is_full`].")]
            ///
            /// # Errors
            ///
            /// The errors of [`len`](Self::len).
            pub fn is_full(&self) -> Result<bool, HandleError> {
                self.queue.is_full()
            }

            /// Returns the maximum number of untaken items, or `None` if the queue is unbounded.
            #[must_use]
            pub fn capacity(&self) -> Option<usize> {
                self.queue.capacity()
            }
        }

        impl<T> Clone for $handle<T> {
            fn clone(&self) -> $handle<T> {
                $handle { queue: self.queue.clone() }
            }
        }

        impl<T> fmt::Debug for $handle<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.queue.handle.fmt::<T>(stringify!($handle), f)
            }
        }

        impl<T> Serialize for $handle<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.queue.serialize(serializer)
            }
        }

        impl<'de, T> Deserialize<'de> for $handle<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let handle = Handle::deserialize::<T, D>($joinable, $role, deserializer)?;
                Ok($handle { queue: $queue::from_handle(handle) })
            }
        }
    };
}

/// What producers and controls can do: end the queue, and read what came to nothing.
macro_rules! closing {
    ($handle:ident, $queue:ident) => {
        impl<T> $handle<T> {
            #[doc = concat!("Closes the queue for all processes, like [`", stringify!($queue), "::close`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer within a second: it
            /// closes the queue when it runs again.
            pub fn close(&self) -> Result<(), HandleError> {
                self.queue.close()
            }

            /// Closes the queue for all processes, drops the items that no consumer has taken, and
            #[doc = concat!("returns how many those were, like [`", stringify!($queue), "::close_and_discard`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer within a second, and
            /// [`HandleError::Disconnected`] if it has ended.
            pub fn close_and_discard(&self) -> Result<usize, HandleError> {
                self.queue.close_and_discard()
            }

            /// Returns the [dead letters](DeadLetter) of the queue, oldest first, in the process
            /// that made it.
            ///
            /// # Errors
            ///
            /// [`DeadLetterError::NotOwner`] in any other process.
            pub fn dead_letters(&self) -> Result<Vec<DeadLetter<T>>, DeadLetterError> {
                self.queue.dead_letters()
            }
        }
    };
}

/// What producers and controls of a `JoinableQueue` can do.
macro_rules! joining {
    ($handle:ident) => {
        impl<T> $handle<T> {
            /// Blocks until every item that was put before this call is finished or a dead letter,
            /// like [`JoinableQueue::join`].
            ///
            /// # Errors
            ///
            /// - [`QueueJoinError::Abandoned`] if items are unfinished, and no consumer is left and
            ///   none on its way;
            /// - [`QueueJoinError::Disconnected`] if the owner process has ended.
            pub fn join(&self) -> Result<QueueJoined, QueueJoinError> {
                self.queue.join()
            }

            /// Like [`join`](Self::join), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`QueueJoinTimeoutError::Timeout`], and the errors of [`join`](Self::join).
            pub fn join_timeout(
                &self,
                timeout: Duration,
            ) -> Result<QueueJoined, QueueJoinTimeoutError> {
                self.queue.join_timeout(timeout)
            }
        }

        #[cfg(feature = "async")]
        impl<T: Serialize + DeserializeOwned> $handle<T> {
            /// Like [`join`](Self::join), but does not block the thread. Needs the feature `async`,
            /// and works with every executor.
            ///
            /// # Errors
            ///
            /// The errors of [`join`](Self::join).
            pub async fn join_async(&self) -> Result<QueueJoined, QueueJoinError> {
                self.queue.join_async().await
            }
        }
    };
}

macro_rules! producing {
    ($producer:ident, $queue:ident) => {
        impl<T: Serialize + DeserializeOwned> $producer<T> {
            /// Puts an item at the end of the queue; blocks while the queue is full. An item whose
            /// `put` has returned survives the death of this process.
            ///
            /// # Errors
            ///
            /// Returns a [`PutError`], which holds the item: [`PutError::Abandoned`] if no consumer
            /// is left and none on its way, and otherwise that of
            #[doc = concat!("[`", stringify!($queue), "::put`].")]
            pub fn put(&self, item: T) -> Result<(), PutError<T>> {
                self.queue.put(item)
            }

            #[doc = concat!("Puts an item if the queue is not full, like [`", stringify!($queue), "::try_put`].")]
            ///
            /// # Errors
            ///
            /// [`TryPutError::Full`]; [`TryPutError::Handle`] with [`HandleError::Unresponsive`] if
            /// the owner does not answer; and the errors of [`put`](Self::put).
            pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
                self.queue.try_put(item)
            }

            /// Like [`put`](Self::put), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`PutTimeoutError::Timeout`], and the errors of [`put`](Self::put).
            pub fn put_timeout(
                &self,
                item: T,
                timeout: Duration,
            ) -> Result<(), PutTimeoutError<T>> {
                self.queue.put_timeout(item, timeout)
            }

            #[doc = concat!("Puts all items of an iterator, in batches, like [`", stringify!($queue), "::put_all`].")]
            ///
            /// # Errors
            ///
            /// Returns a [`PutAllError`] with the cause. The items before the one that failed have
            /// been put; the error holds that one and the rest.
            pub fn put_all<I: IntoIterator<Item = T>>(
                &self,
                items: I,
            ) -> Result<(), PutAllError<I::IntoIter>> {
                self.queue.put_all(items)
            }

            /// Like [`put_all`](Self::put_all), but blocks for at most `timeout` in total.
            ///
            /// # Errors
            ///
            /// A [`PutAllError`], whose cause is [`PutTimeoutError::Timeout`] if the queue stayed
            /// full.
            pub fn put_all_timeout<I: IntoIterator<Item = T>>(
                &self,
                items: I,
                timeout: Duration,
            ) -> Result<(), PutAllError<I::IntoIter>> {
                self.queue.put_all_timeout(items, timeout)
            }

            /// Like [`put`](Self::put), but does not block the thread. Needs the feature `async`,
            /// and works with every executor.
            ///
            /// A future that is dropped before it completes has put nothing, and drops the item.
            ///
            /// # Errors
            ///
            /// The errors of [`put`](Self::put).
            #[cfg(feature = "async")]
            pub async fn put_async(&self, item: T) -> Result<(), PutError<T>> {
                self.queue.put_async(item).await
            }
        }
    };
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
            /// The event source of a selector.
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

narrowing!(Queue, Producer, Consumer, Control);
one_way!(Producer, Queue, false, Role::Producer);
one_way!(Consumer, Queue, false, Role::Consumer);
one_way!(Control, Queue, false, Role::Control);
producing!(Producer, Queue);
consuming!(Consumer, Queue, T, QueueIter, QueueIntoIter, QueueBatches);
closing!(Producer, Queue);
closing!(Control, Queue);

narrowing!(JoinableQueue, JoinableProducer, JoinableConsumer, JoinableControl);
one_way!(JoinableProducer, JoinableQueue, true, Role::Producer);
one_way!(JoinableConsumer, JoinableQueue, true, Role::Consumer);
one_way!(JoinableControl, JoinableQueue, true, Role::Control);
producing!(JoinableProducer, JoinableQueue);
consuming!(
    JoinableConsumer,
    JoinableQueue,
    Delivery<T>,
    JoinableIter,
    JoinableIntoIter,
    JoinableBatches
);
closing!(JoinableProducer, JoinableQueue);
closing!(JoinableControl, JoinableQueue);
joining!(JoinableProducer);
joining!(JoinableControl);

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
