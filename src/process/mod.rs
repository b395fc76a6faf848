//! Processes: registry, entry, handshake, start, end.
//!
//! ```text
//!   parent                                      child (the same image, started again)
//!   value into a channel
//!   builder  --- exec, lifeline=stdin ------->
//!   handshake -- Hello: image, worker,
//!                stdio, the channel, a life -->  entry::init
//!                                               same program? take the descriptors, decode the value
//!             <-- Started -------------------
//!   handle, reaper                              run
//!             <-- Panicked ------------------
//!             <-- Returned (output) ---------
//!             <-- exit status (pidfd) -------
//! ```

mod builder;
mod child;
mod children;
mod current;
mod handle;
mod handshake;
mod inline;
#[cfg(feature = "async")]
mod join_async;
mod output;
mod parent;
mod registry;
mod spawn_hook;
mod stdio;
mod task;
pub(crate) mod testing;
pub(crate) mod unix;
mod value;

pub use crate::error::{
    ExitReason, JoinError, JoinTimeoutError, KillCause, PanicReport, SpawnError,
};
pub use builder::ProcessBuilder;
pub use child::entry::init;
#[doc(hidden)]
pub use child::entry::{enter_test, with_deadline};
pub use children::{ChildProcess, active_children};
pub(crate) use current::this_process;
pub use current::{CurrentProcess, ParentProcess, current, parent};
pub use handle::Process;
pub(crate) use handle::Running;
pub use inline::Backend;
pub(crate) use inline::is_inline;
pub use output::Output;
pub(crate) use parent::exit::{AtExit, finish_before_exit};
pub(crate) use parent::reaper::running;
#[doc(hidden)]
pub use registry::Registration;
pub use registry::{ProcessWorker, Worker};
pub(crate) use registry::{actor_of, find_number, number};
pub use spawn_hook::LogTarget;
pub(crate) use spawn_hook::{Companion, Heir};
pub use stdio::Stdio;
pub(crate) use task::{Mishap, Performed, Value, catch_panics};
