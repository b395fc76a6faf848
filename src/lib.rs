//! stub

mod channel;
mod error;
mod hub;
mod line;
mod pipe;
mod process;
mod queue;
mod region;
mod ring;
mod sys;
mod wire;

pub use channel::{Receiver, ReceiverIter, Sender, channel};
pub use error::*;
pub use offspring_macros::{Worker, main, test, worker};
pub use pipe::{Connection, pipe};
pub use queue::{Delivery, JoinableIter, JoinableQueue, Queue, QueueIter};
pub use process::{
    Builder, ChildProcess, CurrentProcess, ParentProcess, Process, ProcessWorker, Stdio, Worker, active_children, current, init, parent,
};

/// Not public API: what the macros reach.
#[doc(hidden)]
pub mod __private {
    pub use crate::process::{Registration, enter_test, with_deadline};
    pub use inventory;
    pub use serde;
}
