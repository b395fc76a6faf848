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
mod collect;
mod companion;
mod current;
mod early;
mod entry;
mod exit;
mod handle;
mod handshake;
mod inline;
mod lifeline;
mod reaper;
mod registry;
mod relay;
mod start;
mod stdio;
mod stop;
mod task;
pub(crate) mod testing;
mod told;
pub(crate) mod unix;
mod value;

pub use builder::Builder;
pub use children::{ChildProcess, active_children};
pub use collect::Output;
pub use companion::Forwarding;
pub(crate) use companion::{Companion, Heir};
pub(crate) use current::this_process;
pub use current::{CurrentProcess, ParentProcess, current, parent};
pub use entry::init;
#[doc(hidden)]
pub use entry::{enter_test, with_deadline};
pub(crate) use exit::{AtExit, finish_before_exit};
pub use handle::Process;
pub(crate) use handle::Running;
pub use inline::Backend;
pub(crate) use inline::is_inline;
pub(crate) use reaper::running;
#[doc(hidden)]
pub use registry::Registration;
pub use registry::{ProcessWorker, Worker};
pub(crate) use registry::{find_number, number};
pub use stdio::Stdio;
pub(crate) use task::{Mishap, Performed, Value, catch_panics};
