//! `Control` and `JoinableControl`: handles that close and join, and neither put nor take. Also the
//! methods of queues that make one-way handles.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "async")]
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{DeadLetterError, HandleError, QueueJoinError, QueueJoinTimeoutError};
use crate::queue::consumer::{Consumer, JoinableConsumer};
use crate::queue::dead_letter::DeadLetter;
use crate::queue::handle::Handle;
use crate::queue::joinable::JoinableQueue;
use crate::queue::one_way::{closing, joining, one_way};
use crate::queue::outcome::QueueJoined;
use crate::queue::producer::{JoinableProducer, Producer};
use crate::queue::queue::Queue;
use crate::queue::role::Role;

/// A handle of a [`Queue`] that closes and watches it, and can neither put nor take. Dropping it
/// does not affect other handles.
///
/// [`Queue::control`] makes it. It can be cloned and sent to other processes like the queue itself.
/// It is neither a producer nor a consumer, so it has no influence on [the end](Producer#the-end)
/// of the queue.
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
    pub(super) queue: Queue<T>,
}

/// A handle of a [`JoinableQueue`] that closes and joins it, and can neither put nor take. Dropping
/// it does not affect other handles.
///
/// [`JoinableQueue::control`] makes it. It can be cloned and sent to other processes like the queue
/// itself. It is neither a producer nor a consumer, so it has no influence on [the
/// end](JoinableProducer#the-end) of the queue. A program whose children produce and consume can
/// keep it to join the queue: it never hangs, even if all producers or all consumers have died.
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
    pub(super) queue: JoinableQueue<T>,
}

one_way!(Control, Queue, false, Role::Control);
closing!(Control, Queue);

one_way!(JoinableControl, JoinableQueue, true, Role::Control);
closing!(JoinableControl, JoinableQueue);
joining!(JoinableControl);

/// Implements the methods of a queue that make one-way handles.
macro_rules! narrowing {
    ($queue:ident, $producer:ident, $consumer:ident, $control:ident) => {
        impl<T> $queue<T> {
            fn narrowed(&self, role: Role) -> $queue<T> {
                $queue::from_handle(self.handle.narrowed(role))
            }

            /// Returns a handle that puts and cannot take. This handle stays as it is, and counts
            /// as a consumer as long as it exists.
            #[must_use]
            pub fn producer(&self) -> $producer<T> {
                $producer { queue: self.narrowed(Role::Producer) }
            }

            /// Returns a handle that takes and cannot put. This handle stays as it is, and counts
            /// as a producer as long as it exists.
            #[must_use]
            pub fn consumer(&self) -> $consumer<T> {
                $consumer { queue: self.narrowed(Role::Consumer) }
            }

            /// Returns a handle that closes and watches the queue, and neither puts nor takes.
            #[must_use]
            pub fn control(&self) -> $control<T> {
                $control { queue: self.narrowed(Role::Control) }
            }

            /// Turns this handle into one that puts and one that takes.
            ///
            /// If you pass on the one that takes, this process is not a consumer, so the queue
            /// notices when the last consumer has ended.
            #[must_use]
            pub fn split(self) -> ($producer<T>, $consumer<T>) {
                (self.producer(), self.consumer())
            }
        }
    };
}

narrowing!(Queue, Producer, Consumer, Control);
narrowing!(JoinableQueue, JoinableProducer, JoinableConsumer, JoinableControl);
