//! How a pool is made.

use std::sync::Arc;
use std::time::Duration;

use crate::error::PoolError;
use crate::pool::handle::Pool;
use crate::pool::initializer::{Initializer, InitializerOutput};
use crate::pool::shared::Shared;
use crate::process::{self, AtExit, Backend, ProcessWorker};

/// How a [`Pool`] is made: workers, initializer, limits. Dropping it does nothing; [`build`](PoolBuilder::build) uses it up.
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
#[must_use = "must eventually build a pool"]
pub struct PoolBuilder {
    settings: Settings,
    initializer: Option<Result<Initializer, PoolError>>,
    workers: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) workers: usize,
    pub(super) name: String,
    pub(super) initializer: Option<Initializer>,
    pub(super) max_tasks: Option<u64>,
    pub(super) max_memory: Option<u64>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    pub(super) restart_limit: u32,
    pub(super) backoff: Duration,
    pub(super) spares: usize,
    pub(super) max_unfinished: Option<u64>,
}

/// So many workers are a mistake.
const WORKERS_MAX: usize = 4096;
const NAME_MAX: usize = 100;

impl PoolBuilder {
    pub(super) fn new() -> PoolBuilder {
        let settings = Settings {
            workers: 0,
            name: "pool".to_owned(),
            initializer: None,
            max_tasks: None,
            max_memory: None,
            timeout: None,
            retries: 0,
            restart_limit: 5,
            backoff: Duration::from_millis(10),
            spares: 0,
            max_unfinished: None,
        };
        PoolBuilder {
            settings,
            initializer: None,
            workers: None,
        }
    }

    /// How many processes take tasks. Default: as many as this process may use processors.
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = Some(workers);
        self
    }

    /// The name of the pool; its workers are `name-0`, `name-1`, ... Default: `pool`. 1 to 100 bytes without NUL.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.settings.name = name.into();
        self
    }

    /// A worker value that each process runs before its first task, also the processes that replace others. It may keep
    /// something for the tasks with [`set_worker_state`](crate::pool::set_worker_state). Default: none.
    ///
    /// If it returns an error, panics or ends its process, [`build`](PoolBuilder::build) says so; if that happens
    /// later, to a process that replaces another, it is tried again up to the [restart
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

    /// After so many tasks a process is replaced by a new one. Default: never.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> PoolBuilder {
        self.settings.max_tasks = Some(tasks);
        self
    }

    /// A process that has more bytes of memory in use (resident) after a task is replaced by a new one. Default: never.
    pub fn max_memory_per_worker(mut self, bytes: u64) -> PoolBuilder {
        self.settings.max_memory = Some(bytes);
        self
    }

    /// How long a task may run, from its begin; then its process is killed and replaced, and the task ends with
    /// [`TaskError::TimedOut`](crate::pool::TaskError::TimedOut). Default: as long as it likes.
    pub fn task_timeout(mut self, limit: Duration) -> PoolBuilder {
        self.settings.timeout = Some(limit);
        self
    }

    /// How many times a task is begun again whose process ended in it. Only for tasks that may run twice: the process
    /// may have ended after the task's last effect. Default: 0. A task that ends its process each time is set aside with
    /// [`TaskError::SetAside`](crate::pool::TaskError::SetAside). Panics and timeouts are not tried again.
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.settings.retries = retries;
        self
    }

    /// How many starts may fail one after the other, without a task in between, before the pool gives up: it then
    /// fails what waits, and takes nothing more. Default: 5. The first start of a worker may never fail.
    pub fn restart_limit(mut self, failures: u32) -> PoolBuilder {
        self.settings.restart_limit = failures;
        self
    }

    /// The pause after a start that failed; it doubles with each that follows, up to a second. Default: 10 ms. A
    /// worker that was ended by a task is replaced without a pause.
    pub fn restart_backoff(mut self, pause: Duration) -> PoolBuilder {
        self.settings.backoff = pause;
        self
    }

    /// How many processes wait, started and initialized, to take the place of one that ends. Default: 0.
    pub fn spares(mut self, spares: usize) -> PoolBuilder {
        self.settings.spares = spares;
        self
    }

    /// How many tasks of the pool may not have ended: while there are as many, [`submit`](Pool::submit) waits, and
    /// [`try_submit`](Pool::try_submit) refuses. Default: as many as memory holds, so that submitting never waits. A map is
    /// not held up by it, since it has a [window](crate::pool::Map::window); but its tasks count.
    pub fn max_unfinished(mut self, tasks: u64) -> PoolBuilder {
        self.settings.max_unfinished = Some(tasks);
        self
    }

    /// Starts the workers, and waits until all are ready.
    ///
    /// # Errors
    ///
    /// [`PoolError`]: an option that cannot be used, or the first worker that could not be started or initialized. No
    /// process is left behind then.
    pub fn build(self) -> Result<Pool, PoolError> {
        let mut settings = self.settings;
        settings.workers = self
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        settings.initializer = self.initializer.transpose()?;
        settings.check()?;
        let shared = Arc::new(Shared::new(settings));
        let pool = Pool::from_shared(shared.clone());
        pool.start()?;
        let finisher: Arc<dyn AtExit> = shared;
        process::finish_before_exit(&finisher);
        Ok(pool)
    }
}

impl Settings {
    fn check(&self) -> Result<(), PoolError> {
        let invalid = |option, problem: String| Err(PoolError::InvalidOption { option, problem });
        check_workers(self.workers)?;
        if matches!(Backend::of_program(), Ok(Backend::Inline)) {
            let problem =
                "is `inline`: a pool ends workers, and a thread cannot be ended".to_owned();
            return invalid("the environment variable `OFFSPRING_BACKEND`", problem);
        }
        if self.spares > WORKERS_MAX {
            return invalid(
                "spares",
                format!("is {}: use at most {WORKERS_MAX}", self.spares),
            );
        }
        if self.name.is_empty() || self.name.len() > NAME_MAX || self.name.contains('\0') {
            return invalid(
                "name",
                format!(
                    "has {} bytes: use 1 to {NAME_MAX}, without NUL",
                    self.name.len()
                ),
            );
        }
        if self.max_tasks == Some(0) {
            return invalid("max_tasks_per_worker", "is 0: use at least 1".to_owned());
        }
        if self.max_unfinished == Some(0) {
            return invalid("max_unfinished", "is 0: use at least 1".to_owned());
        }
        Ok(())
    }
}

pub(super) fn check_workers(workers: usize) -> Result<(), PoolError> {
    if (1..=WORKERS_MAX).contains(&workers) {
        return Ok(());
    }
    Err(PoolError::InvalidOption {
        option: "workers",
        problem: format!("is {workers}: use 1 to {WORKERS_MAX}"),
    })
}
