//! Queues that many processes put into and get from.

#[cfg(feature = "async")]
mod awaited;
mod batch;
mod builder;
mod client;
mod core;
mod dead;
mod delivery;
mod ends;
mod handle;
#[cfg(test)]
mod hostile;
mod items;
mod joinable;
mod layout;
mod outgoing;
mod plain;
mod remote;
mod report;
mod service;
mod settle;
mod status;
mod tasks;

pub use builder::QueueBuilder;
pub use dead::{DeadCause, DeadLetter};
pub use delivery::Delivery;
pub use joinable::{JoinableBatches, JoinableIter, JoinableQueue};
pub use plain::{Queue, QueueBatches, QueueIter};
pub use status::QueueStatus;
pub(crate) use status::statuses;
