//! A pool in numbers.

use std::sync::Arc;

/// A snapshot of a [`Pool`](crate::Pool): its workers, and the number of tasks in each state. This
/// is plain data: dropping it does nothing.
///
/// ```
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(2)?;
///     pool.run(square::new(3))?;
///     let stats = pool.stats();
///     assert_eq!((stats.done, stats.failed, stats.workers.len()), (1, 0, 2));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolStats {
    /// The number of tasks that are waiting for a worker.
    pub queued: u64,
    /// The number of tasks that are running, or were given to the worker that will run them next.
    pub running: u64,
    /// The number of tasks that returned an output.
    pub done: u64,
    /// The number of tasks that ended without an output.
    pub failed: u64,
    /// The number of processes that were started to replace one.
    pub restarts: u64,
    /// The workers, including spares and workers that are starting.
    pub workers: Vec<WorkerStats>,
}

/// A snapshot of one worker of a [`Pool`](crate::Pool). This is plain data: dropping it does
/// nothing.
///
/// ```
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(2)?;
///     pool.run(square::new(3))?;
///     for worker in pool.stats().workers {
///         println!("{}: {} tasks, busy {:.0} %, {:?} bytes", worker.name, worker.done, worker.busy * 100.0, worker.memory);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The name of the process.
    pub name: Arc<str>,
    /// The pid of the process; `None` while it starts.
    pub pid: Option<u32>,
    /// The name of the worker type of the task that it is running.
    pub task: Option<&'static str>,
    /// Whether the worker is a spare: ready, and not given tasks until another worker ends.
    pub is_spare: bool,
    /// The number of tasks that have ended in this worker, including its earlier processes.
    pub done: u64,
    /// The resident memory of the process, in bytes; `None` if it is not known.
    pub memory: Option<u64>,
    /// The fraction of the time since the process was ready for which it had a task: 0 to 1.
    pub busy: f64,
}
