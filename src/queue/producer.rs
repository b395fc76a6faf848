//! `Producer` and `JoinableProducer`: handles that put and cannot take.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    DeadLetterError, HandleError, PutAllError, PutError, PutTimeoutError, QueueJoinError,
    QueueJoinTimeoutError, TryPutError,
};
use crate::queue::dead_letter::DeadLetter;
use crate::queue::handle::Handle;
use crate::queue::joinable::JoinableQueue;
use crate::queue::one_way::{closing, joining, one_way};
use crate::queue::outcome::QueueJoined;
use crate::queue::queue::Queue;
use crate::queue::role::Role;

/// A handle of a [`Queue`] that puts and cannot take. Dropping it does not affect other handles.
///
/// [`Queue::producer`] and [`Queue::split`] make it. It can be cloned and sent to other processes
/// like the queue itself.
///
/// # The end
///
/// With one-way handles, the queue knows exactly which processes could still put or take:
///
/// - When no [`Queue`] and no [`Consumer`](crate::queue::Consumer) is left, in any process or on
///   its way to one, every `put` returns [`PutError::Abandoned`], even if the queue has room. That
///   is final, since a `Producer` cannot be made into a `Consumer`. The items that are still in the
///   queue are lost.
/// - When no [`Queue`] and no `Producer` is left, `get` returns the remaining items, then
///   [`GetError::Abandoned`](crate::queue::GetError::Abandoned).
///
/// So a program that passes its consumers on and keeps a `Producer` gets an error when the last
/// consumer has died. A program that keeps a [`Queue`] might wait for itself instead.
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
    pub(super) queue: Queue<T>,
}

/// A handle of a [`JoinableQueue`] that puts and joins, and cannot take. Dropping it does not affect
/// other handles.
///
/// [`JoinableQueue::producer`] and [`JoinableQueue::split`] make it. It can be cloned and sent to
/// other processes like the queue itself.
///
/// # The end
///
/// The queue ends like that of a [`Producer`]. When no [`JoinableQueue`] and no
/// [`JoinableConsumer`](crate::queue::JoinableConsumer) is left, in any process or on its way to
/// one, every `put` returns [`PutError::Abandoned`], and [`join`](Self::join) returns
/// [`QueueJoinError::Abandoned`] with the number of unfinished items. These include the items that
/// the last consumer held: they have returned to the queue, but no process can take from it any
/// more. Its [dead letters](Self::dead_letters) can still be read.
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
    pub(super) queue: JoinableQueue<T>,
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
            /// If the future is dropped before it completes, nothing is put, and the item is
            /// dropped.
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

impl<T> Producer<T> {
    /// Returns whether another process made the queue.
    pub(crate) fn is_remote(&self) -> bool {
        self.queue.handle.is_remote()
    }

    /// Returns whether the owner is known to be gone. Unlike [`is_closed`](Self::is_closed), it sends
    /// no message.
    pub(crate) fn is_orphan(&self) -> bool {
        self.queue.handle.is_orphan()
    }
}

one_way!(Producer, Queue, false, Role::Producer);
producing!(Producer, Queue);
closing!(Producer, Queue);

impl<T: Serialize + DeserializeOwned> JoinableProducer<T> {
    /// Like `try_put`, for a caller whose deadline has passed.
    pub(crate) fn put_at_deadline(&self, item: T) -> Result<(), PutTimeoutError<T>> {
        self.queue.put_at_deadline(item)
    }
}

impl<T> JoinableProducer<T> {
    /// The same queue with another item type, which the caller knows to have the same encoding.
    pub(crate) fn cast<U>(self) -> JoinableProducer<U> {
        JoinableProducer { queue: self.queue.cast() }
    }
}

one_way!(JoinableProducer, JoinableQueue, true, Role::Producer);
producing!(JoinableProducer, JoinableQueue);
closing!(JoinableProducer, JoinableQueue);
joining!(JoinableProducer);
