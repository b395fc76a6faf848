//! Queues that many processes put into and get from.

#[cfg(feature = "async")]
mod async_ops;
mod batch;
mod builder;
mod client;
mod dead_letter;
mod delivery;
mod handle;
#[cfg(test)]
mod hostile;
mod joinable;
mod layout;
mod outcome;
mod owner;
#[allow(clippy::module_inception)]
mod queue;
mod report;
mod status;

pub use builder::QueueBuilder;
pub use dead_letter::{DeadCause, DeadLetter};
pub use delivery::Delivery;
pub use joinable::{JoinableBatches, JoinableIter, JoinableQueue};
pub use queue::{Queue, QueueBatches, QueueIter};
pub use status::QueueStatus;
pub(crate) use status::statuses;
