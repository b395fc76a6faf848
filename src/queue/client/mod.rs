//! A process that uses a queue of another process.

pub(super) mod attachment;
pub(super) mod driver;
pub(super) mod outgoing;
mod questions;
mod source;
