//! Pools of worker processes: [`Pool`] and what belongs to it.
//!
//! A [`Pool`] runs tasks in worker processes, any of which may die at any time. The tasks themselves
//! are registered workers, as for [`spawn`](crate::ProcessWorker::spawn).

// How a task travels:
//
//   submit, map --> queue --feed--> lane (ring down) --> worker process
//                     ^                                     |
//   join, next <-- sink <-- keeper (one thread a worker) <--+ lane (ring up), end of the process
//
// One lock guards the state, and neither code of the user nor a wait happens under it. A submitter
// waits for no thread, a keeper for its worker's lane (which its worker's end wakes as well), a
// joiner for its task's sink, and a pool that is dropped for its keepers.

mod batch;
mod builder;
mod end;
mod events;
mod feed;
mod handle;
mod initializer;
mod keeper;
mod link;
mod map;
mod scope;
mod shared;
mod state;
mod stats;
mod task;
mod worker;

pub use crate::error::{PoolError, ShutdownError, SubmitError, TaskError, TaskTimeoutError};
pub use builder::PoolBuilder;
pub use events::{PoolEvent, PoolEvents};
pub use handle::{Pool, TaskOptions};
pub use initializer::{InitializerOutput, set_worker_state, with_worker_state};
pub use map::{Map, MapUnordered};
pub use scope::Scope;
pub use stats::{PoolStats, WorkerStats};
pub use task::Task;
#[cfg(feature = "async")]
pub use task::TaskFuture;
