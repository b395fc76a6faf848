//! Pools of worker processes: [`Pool`] and the types that belong to it.
//!
//! A [`Pool`] runs tasks in worker processes, any of which may die at any time. A task is any
//! registered [worker](crate::ProcessWorker) value.

// The path of a task:
//
//   submit, map --> State::queue --schedule--> link (ring down) --> worker process
//                      ^                                               |
//   join, next <-- Sink <-- WorkerMonitor (a thread for each slot) <---+ link (ring up), its end
//
// One lock guards the `State`. Under it, no user code runs and no thread waits; the one message
// that is sent under it cannot block (see `state`). Threads wait for the following:
//
// - a submitter: room, if the pool has a bound;
// - a monitor: its worker's link, which the end of the process interrupts;
// - a joiner: the task's sink;
// - the thread that drops or shuts down the pool: the monitors.
//
// So no circle of waits can form.

mod batch;
mod builder;
mod events;
mod handle;
mod initializer;
mod link;
#[cfg(feature = "metrics")]
mod load;
mod map;
mod monitor;
mod results;
mod running;
mod scope;
mod settings;
mod shared;
mod start_gate;
mod state;
mod stats;
#[cfg(feature = "stream")]
mod stream;
mod task;
mod worker;

pub use builder::PoolBuilder;
pub use events::{PoolEvent, PoolEvents};
pub use handle::{Pool, TaskOptions};
pub use initializer::{InitializerOutput, set_worker_state, with_worker_state};
#[cfg(feature = "metrics")]
pub(crate) use load::loads;
pub use map::{Map, MapUnordered};
pub use scope::Scope;
pub use stats::{PoolStats, WorkerStats};
#[cfg(feature = "stream")]
pub use stream::{MapStream, PoolEventStream};
pub use task::Task;

pub use crate::error::{
    PoolError, ShutdownError, SubmitError, TaskError, TaskTimeoutError, TrySubmitError,
};
