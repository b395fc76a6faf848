//! Queues that many processes put into and get from: [`Queue`] and [`JoinableQueue`], their
//! iterators, options and errors.
//!
//! Both are handles to a queue that lives in the process that made it, its *owner*. Dropping a
//! handle does not affect the queue.
//!
//! Some calls do not block in the owner process, but have to ask the owner when another process
//! makes them: `try_put`, `try_get`, `try_get_many`, `len`, `is_empty`, `is_full`, `is_closed`,
//! `close` and `close_and_discard`. They wait for the answer for at most a second, and then return
//! [`HandleError::Unresponsive`](crate::HandleError::Unresponsive).

#[cfg(feature = "async")]
mod async_ops;
mod batch;
mod builder;
mod client;
mod consumer;
mod control;
#[cfg(test)]
mod crowd;
mod dead_letter;
mod delivery;
mod handle;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_wire;
mod item;
mod joinable;
mod layout;
mod methods;
mod one_way;
mod options;
mod outcome;
mod owner;
mod producer;
#[allow(clippy::module_inception)]
mod queue;
mod role;
mod status;
#[cfg(feature = "stream")]
mod stream;
#[cfg(test)]
mod violations;

pub use crate::error::{
    DeadLetterError, GetError, GetTimeoutError, PutAllError, PutError, PutTimeoutError,
    QueueJoinError, QueueJoinTimeoutError, TaskDoneError, TryGetError, TryPutError,
};
pub use builder::QueueBuilder;
pub use consumer::{Consumer, JoinableConsumer};
pub use control::{Control, JoinableControl};
pub use dead_letter::DeadLetter;
pub use delivery::Delivery;
#[cfg(test)]
pub(crate) use hostile::{attack, hoard, lose_session};
pub use joinable::{JoinableBatches, JoinableIntoIter, JoinableIter, JoinableQueue};
pub(crate) use options::QueueKind;
pub(crate) use outcome::ANSWER_WITHIN;
pub use outcome::QueueJoined;
pub use owner::dead_letters::DeadCause;
pub use producer::{JoinableProducer, Producer};
pub use queue::{Queue, QueueBatches, QueueIntoIter, QueueIter};
pub use status::QueueStatus;
pub(crate) use status::statuses;
#[cfg(feature = "stream")]
pub use stream::{JoinableStream, QueueSink, QueueStream};
