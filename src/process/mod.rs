//! Processes: builders, handles, and the types that they return.
//!
//! The types that most programs name ([`Process`], [`ProcessBuilder`], [`Stdio`], [`ExitReason`],
//! the two errors) are in the crate's root, too.
//!
//! ```
//! use offspring::process::{Backend, LogTarget};
//! use offspring::{ExitReason, ProcessBuilder};
//!
//! #[offspring::worker]
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let process = ProcessBuilder::new().logs(LogTarget::Stderr).spawn(square::new(12))?;
//!     assert_eq!(process.join()?, 144);
//!     assert_eq!(process.exit_reason(), Some(ExitReason::Returned));
//!     assert_eq!(process.backend(), Backend::Process);
//!     Ok(())
//! }
//! ```

// The parent's side (`parent`) and the child's side (`child`) do not import each other. Both import
// `handshake`, which defines all messages between them:
//
//   parent                                         child (the same image, started again)
//   value: encode the worker
//   builder: exec, control socket as stdin ------> child::entry: is this a child?
//   Hello: worker, identity, descriptors --------> child::serve: same program? take the descriptors,
//                                                  decode the worker
//                 <------------------- Started ---
//   handle, record, reaper                         run
//   Stop, Detach ------------------------------->  child::control
//                 <------------------ Panicked ---  child::panic_hook
//                 <------------------ Returned ---
//                 <------- exit status (pidfd) ---

mod backend;
mod builder;
mod child;
mod children;
pub(crate) mod crossing;
mod current;
mod default_name;
mod exit_limit;
mod group;
mod handle;
mod handshake;
#[cfg(test)]
mod hostile;
mod identity;
mod inline;
mod inline_context;
#[cfg(feature = "async")]
mod join_async;
mod output;
mod panic_report;
mod parent;
mod registry;
mod resource;
mod run;
#[cfg(feature = "sandbox")]
mod sandbox;
mod spawn_hook;
mod stdio;
mod stop;
mod task;
pub(crate) mod testing;
pub(crate) mod unix;
mod value;
mod worker;

pub use crate::error::{
    ExitReason, GroupError, JoinError, JoinTimeoutError, KillCause, MemberEnd, PanicReport,
    Protection, SpawnError,
};
pub use backend::Backend;
pub use builder::ProcessBuilder;
pub use child::entry::init;
#[doc(hidden)]
pub use child::entry::{before_main, enter_test, with_deadline};
pub use children::{ChildProcess, active_children};
pub use current::{CurrentProcess, ParentProcess, current, parent};
pub use group::{Member, ProcessGroup};
pub use handle::Process;
#[cfg(feature = "async")]
pub use join_async::JoinFuture;
pub use output::Output;
#[doc(hidden)]
pub use registry::{Registration, TestPath};
#[cfg(feature = "sandbox")]
pub use sandbox::{AppliedSandbox, Sandbox};
pub use spawn_hook::LogTarget;
pub use stdio::Stdio;
pub use worker::{ProcessWorker, Worker};

pub(crate) use child::panic_hook::catch_panics;
pub(crate) use current::this_process;
pub(crate) use default_name::default_name;
#[cfg(test)]
pub(crate) use hostile::{child_messages, control_socket};
pub(crate) use inline_context::is_inline;
pub(crate) use parent::exit::{AtExit, finish_before_exit};
pub(crate) use parent::reaper::running;
pub(crate) use parent::record::ChildRecord;
pub(crate) use registry::{actor_of, find_number};
pub(crate) use spawn_hook::{NewChild, SpawnHook};
pub(crate) use task::{TaskFailure, TaskInput, TaskOutcome};
pub(crate) use worker::number;
