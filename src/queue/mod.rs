//! Queues that many processes put into and get from.

mod bytes;
mod client;
mod core;
mod delivery;
mod handle;
mod joinable;
mod layout;
mod plain;
mod remote;
mod service;
mod settle;

pub use delivery::Delivery;
pub use joinable::{JoinableIter, JoinableQueue};
pub use plain::{Queue, QueueIter};
