//! `PoolBuilder`: the options of a pool.

use std::sync::Arc;
use std::time::Duration;

use crate::error::PoolError;
use crate::pool::handle::Pool;
use crate::pool::initializer::{Initializer, InitializerOutput};
use crate::pool::settings::Settings;
use crate::pool::shared::PoolShared;
use crate::pool::state::Limits;
use crate::process::{self, AtExit, ProcessWorker};

/// Configures and builds a [`Pool`]: workers, initializer, limits. Dropping it does nothing.
///
/// ```
/// use std::time::Duration;
///
/// #[offspring::worker]
/// fn double(n: u64) -> u64 {
///     n * 2
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = offspring::Pool::builder()
///         .workers(2)
///         .name("doubler")
///         .max_tasks_per_worker(1000)
///         .task_timeout(Duration::from_secs(10))
///         .build()?;
///     assert_eq!(pool.run(double::new(4))?, 8);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct PoolBuilder {
    settings: Settings,
    initializer: Option<Result<Initializer, PoolError>>,
    workers: Option<usize>,
}

impl Pool {
    /// Builds a pool of `workers` processes with the defaults of [`PoolBuilder`]. Blocks until all are
    /// ready: see [`PoolBuilder::build`].
    ///
    /// # Errors
    ///
    /// Those of [`PoolBuilder::build`].
    pub fn new(workers: usize) -> Result<Pool, PoolError> {
        PoolBuilder::new().workers(workers).build()
    }

    /// The same as [`PoolBuilder::new`].
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }
}

impl Default for PoolBuilder {
    fn default() -> PoolBuilder {
        PoolBuilder::new()
    }
}

impl PoolBuilder {
    /// A builder with all defaults.
    pub fn new() -> PoolBuilder {
        let settings = Settings {
            workers: 0,
            name: "pool".to_owned(),
            initializer: None,
            limits: Limits {
                max_tasks: None,
                max_unfinished: None,
                spares: 0,
                restart_limit: 5,
            },
            max_memory: None,
            task_timeout: None,
            retries: 0,
            backoff: Duration::from_millis(10),
        };
        PoolBuilder {
            settings,
            initializer: None,
            workers: None,
        }
    }

    /// The number of processes that take tasks, 1 to 4096. Default: the number of processors that this
    /// process may use.
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = Some(workers);
        self
    }

    /// The name of the pool, 1 to 100 bytes without NUL; its processes are `name-0`, `name-1`, ...
    /// Default: `pool`.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.settings.name = name.into();
        self
    }

    /// A worker value that each process runs before its first task, replacements included. It can keep
    /// a value for the tasks with [`set_worker_state`](crate::pool::set_worker_state). Default: none.
    ///
    /// If it returns an error, panics or ends its process, [`build`](PoolBuilder::build) returns an
    /// error. If that happens in a replacement later, the pool tries again, up to the [restart
    /// limit](PoolBuilder::restart_limit).
    pub fn initializer<W: ProcessWorker<Output: InitializerOutput>>(
        mut self,
        worker: W,
    ) -> PoolBuilder {
        let number = process::number::<W>().map_err(|source| PoolError::Spawn {
            worker: self.settings.name.clone(),
            source,
        });
        self.initializer = Some(number.and_then(|number| Initializer::new(number, &worker)));
        self
    }

    /// Replaces a process after this many tasks. Default: never. Must not be 0.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> PoolBuilder {
        self.settings.limits.max_tasks = Some(tasks);
        self
    }

    /// Replaces a process that uses more than this many bytes of (resident) memory after a task.
    /// Default: never.
    pub fn max_memory_per_worker(mut self, bytes: u64) -> PoolBuilder {
        self.settings.max_memory = Some(bytes);
        self
    }

    /// How long a task may run, counted from its beginning. Then its process is killed and replaced,
    /// and the task ends with [`TaskError::TimeLimit`](crate::pool::TaskError::TimeLimit). Default: no
    /// limit.
    pub fn task_timeout(mut self, limit: Duration) -> PoolBuilder {
        self.settings.task_timeout = Some(limit);
        self
    }

    /// How many times a task is begun again if its process ends in it. Default: 0.
    ///
    /// Only for tasks that may run twice: the process may have ended after the last effect of the task.
    /// A task that ends its process each time is set aside with
    /// [`TaskError::SetAside`](crate::pool::TaskError::SetAside). Panics and timeouts are not retried.
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.settings.retries = retries;
        self
    }

    /// How many starts may fail in a row, without a task that ended in between, before the pool
    /// gives up: it then fails its queued tasks, and accepts no more. Default: 5. While the pool is built, no
    /// start may fail.
    pub fn restart_limit(mut self, failures: u32) -> PoolBuilder {
        self.settings.limits.restart_limit = failures;
        self
    }

    /// The pause after a start that failed; it doubles with each further failure, up to one second.
    /// Default: 10 ms. A process that was ended by a task is replaced without a pause.
    pub fn restart_backoff(mut self, pause: Duration) -> PoolBuilder {
        self.settings.backoff = pause;
        self
    }

    /// How many more processes are kept started and initialized, to take the place of one that ends.
    /// Default: 0.
    pub fn spares(mut self, spares: usize) -> PoolBuilder {
        self.settings.limits.spares = spares;
        self
    }

    /// How many tasks may be in the pool that have not ended. If there are as many,
    /// [`submit`](Pool::submit) blocks, and [`try_submit`](Pool::try_submit) returns an error.
    /// Default: no limit, so that submitting never blocks. Must not be 0.
    ///
    /// The tasks of a map count, but the limit does not hold a map up: it has a
    /// [window](crate::pool::Map::window).
    pub fn max_unfinished(mut self, tasks: u64) -> PoolBuilder {
        self.settings.limits.max_unfinished = Some(tasks);
        self
    }

    /// Starts the workers, and blocks until all are ready. The wait has no bound but that on the start
    /// of a process: an [initializer](PoolBuilder::initializer) may take as long as it likes.
    ///
    /// # Errors
    ///
    /// [`PoolError`]: an option is invalid, or a worker could not be started or initialized. No process
    /// is left running then.
    pub fn build(self) -> Result<Pool, PoolError> {
        let mut settings = self.settings;
        settings.workers = self
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        settings.initializer = self.initializer.transpose()?;
        settings.check()?;
        let shared = Arc::new(PoolShared::new(settings));
        let pool = Pool::start(shared.clone())?;
        let finisher: Arc<dyn AtExit> = shared;
        process::finish_before_exit(&finisher);
        Ok(pool)
    }
}
