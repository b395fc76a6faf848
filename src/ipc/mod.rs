//! The engine: bytes, shared memory and wake-ups between processes. It is not part of the API.
//!
//! `README.md` in this folder explains how it works: the glossary, sessions and attachments,
//! parking, rings, and why no wake-up is lost.

pub(crate) mod account;
pub(crate) mod block;
pub(crate) mod catch;
pub(crate) mod codec;
pub(crate) mod deadline;
pub(crate) mod diagnostics;
pub(crate) mod doorbell;
pub(crate) mod event_stream;
#[cfg(test)]
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) mod hostile;
pub(crate) mod hub;
pub(crate) mod ipc_fd;
pub(crate) mod link;
pub(crate) mod parking;
pub(crate) mod reactor;
pub(crate) mod region;
pub(crate) mod ring;
pub(crate) mod scratch;
pub(crate) mod shared_fd;
pub(crate) mod small_bytes;
pub(crate) mod spin;
pub(crate) mod tally;
#[cfg(feature = "stream")]
pub(crate) mod unfold;
pub(crate) mod waitable;
pub(crate) mod weak_map;
pub(crate) mod wire;
