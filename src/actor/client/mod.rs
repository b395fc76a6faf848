//! The part of a client: any process that has the address of an actor.

pub(super) mod call;
#[cfg(feature = "async")]
pub(super) mod call_async;
pub(super) mod connect;
pub(super) mod connection;
pub(super) mod connections;
pub(super) mod driver;
pub(super) mod pending;
pub(super) mod session;
pub(super) mod timer;
