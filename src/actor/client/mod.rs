//! A process that calls an actor.

pub(super) mod call;
#[cfg(feature = "async")]
pub(super) mod call_async;
pub(super) mod connect;
pub(super) mod connection;
pub(super) mod peers;
pub(super) mod pending;
pub(super) mod session;
#[cfg(feature = "async")]
pub(super) mod timer;
