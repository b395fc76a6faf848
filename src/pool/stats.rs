//! A pool in numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::pool::shared::Shared;
use crate::pool::state::{Slot, Status};
use crate::sys;

/// What a [`Pool`](crate::Pool) does at a moment, and has done. Copied facts: `Drop` does nothing.
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
    /// Tasks that wait.
    pub queued: u64,
    /// Tasks that run, or were given to a worker that will run them next.
    pub running: u64,
    /// Tasks that returned.
    pub done: u64,
    /// Tasks that ended without an output.
    pub failed: u64,
    /// Processes that were started in place of others.
    pub restarts: u64,
    /// The workers that there are now.
    pub workers: Vec<WorkerStats>,
}

/// One worker of a [`Pool`](crate::Pool). Copied facts: `Drop` does nothing.
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
    /// Its name.
    pub name: Arc<str>,
    /// The pid of its process; `None` while it starts.
    pub pid: Option<u32>,
    /// The task that it runs.
    pub task: Option<&'static str>,
    /// Whether it waits to take another's place.
    pub is_spare: bool,
    /// Tasks that ended in this place, in all processes that it had.
    pub done: u64,
    /// Bytes of memory that its process has in use (resident).
    pub memory: Option<u64>,
    /// Share of the process's time in which it had a task: 0 to 1.
    pub busy: f64,
}

impl PoolStats {
    pub(super) fn take(shared: &Shared) -> PoolStats {
        let (queued, running, mut workers, restarts) = shared.look(|state| {
            let slots = || {
                state
                    .slots
                    .iter()
                    .filter(|slot| slot.status != Status::Vacant)
            };
            let running = slots().map(|slot| slot.count).sum();
            let restarts = state
                .slots
                .iter()
                .map(|slot| slot.starts.saturating_sub(1))
                .sum();
            (
                state.queued,
                running,
                slots().map(WorkerStats::take).collect::<Vec<_>>(),
                restarts,
            )
        });
        // Reading files, without the pool's lock.
        for worker in &mut workers {
            worker.memory = worker.pid.and_then(sys::resident_memory);
        }
        PoolStats {
            queued,
            running,
            done: shared.totals.done.load(Ordering::Relaxed),
            failed: shared.totals.failed.load(Ordering::Relaxed),
            restarts,
            workers,
        }
    }
}

impl WorkerStats {
    fn take(slot: &Slot) -> WorkerStats {
        let now_busy = if slot.count > 0 {
            slot.moved.elapsed()
        } else {
            Duration::ZERO
        };
        let age = slot.started.elapsed().as_secs_f64();
        WorkerStats {
            name: slot.name.clone(),
            pid: slot.worker.as_ref().map(|worker| worker.process.pid()),
            task: slot.running().map(|piece| piece.batch.kind.name),
            is_spare: slot.status == Status::Spare,
            done: slot.done,
            memory: None,
            busy: ((slot.busy + now_busy).as_secs_f64() / age.max(1e-9)).min(1.0),
        }
    }
}
