//! The process that made a queue: its state, and the clients that it serves.

#[cfg(feature = "async")]
mod async_ops;
pub(super) mod client;
mod clients;
pub(super) mod dead_letters;
pub(super) mod facet;
mod ledger;
pub(super) mod lock;
mod place;
mod run_queue;
mod service;
mod source;
mod state;
mod threads;
mod wakers;
