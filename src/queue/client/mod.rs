//! A queue as seen from a process that does not own it.

#[cfg(feature = "async")]
pub(super) mod async_ops;
pub(super) mod attachment;
pub(super) mod outgoing;
