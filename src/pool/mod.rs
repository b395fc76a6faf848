//! Pools: tasks on worker processes, of which any may die at any time.
//!
//! ```text
//!   submit, map --> queue --feed--> lane (ring down) --> worker process
//!                     ^                                     |
//!   join, next <-- sink <-- keeper (one thread a worker) <--+ lane (ring up), end of the process
//! ```
//!
//! One lock guards the [state](state), and no code of the user, no wait and no message happens under it. Who waits on
//! whom: a submitter for nobody; a keeper for its worker's lane, which its worker's end wakes as well; one who joins
//! for the task's sink; a pool that is dropped for its keepers.

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
