//! The process that made a queue: its state, and the clients that it serves.

#[cfg(feature = "async")]
pub(super) mod async_ops;
pub(super) mod client;
pub(super) mod run_queue;
pub(super) mod schedule;
pub(super) mod service;
pub(super) mod state;
pub(super) mod wakers;
