//! `PoolBuilder`: the options of a pool.

use std::sync::Arc;
use std::time::Duration;

use crate::error::PoolError;
use crate::pool::handle::Pool;
use crate::pool::initializer::{Initializer, InitializerOutput};
use crate::pool::settings::{ProcessOptions, Settings};
use crate::pool::shared::PoolShared;
use crate::pool::state::Limits;
use crate::process::{self, AtExit, ProcessBuilder, ProcessWorker};

/// Configures and builds a [`Pool`]: workers, their processes, initializer, limits. Dropping it does nothing.
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
#[must_use = "does nothing until `build` is called"]
pub struct PoolBuilder {
    settings: Settings,
    initializer: Option<Result<Initializer, PoolError>>,
    workers: Option<usize>,
}

impl Pool {
    /// Builds a pool of `workers` processes with the defaults of [`PoolBuilder`]. Blocks until all
    /// are ready: see [`PoolBuilder::build`].
    ///
    /// # Errors
    ///
    /// Those of [`PoolBuilder::build`].
    pub fn new(workers: usize) -> Result<Pool, PoolError> {
        PoolBuilder::new().workers(workers).build()
    }

    /// Returns a builder, like [`PoolBuilder::new`].
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
    /// Creates a builder with the default of each option, which is stated at its method.
    pub fn new() -> PoolBuilder {
        let settings = Settings {
            workers: 0,
            name: "pool".to_owned(),
            configure: None,
            start_timeout: None,
            initializer: None,
            initializer_timeout: None,
            limits: Limits { restart_limit: 5, ..Limits::default() },
            task_timeout: None,
            retries: 0,
            backoff: Duration::from_millis(10),
        };
        PoolBuilder { settings, initializer: None, workers: None }
    }

    /// Sets the number of processes that take tasks, 1 to 4096. Default: the number of processors
    /// that this process may use.
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = Some(workers);
        self
    }

    /// Sets the name of the pool, 1 to 100 bytes without NUL. Its processes are called `name-0`,
    /// `name-1` and so on. Default: `pool`.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.settings.name = name.into();
        self
    }

    /// Sets options of the worker processes: environment, limits, nice value, processors, stdio.
    /// Default: those of a [`ProcessBuilder`].
    ///
    /// `configure` is called for each process that is started, replacements included, on a thread
    /// of the pool. It gets the number of the process's place, which is below the number of workers
    /// and spares, and is the same for a process and its replacement. The worker finds it in
    /// [`current().slot()`](crate::process::CurrentProcess::slot). A panic in `configure` counts as
    /// a failed start.
    ///
    /// The pool itself sets the name and the backend, and has the process end with this one. A
    /// stdio that is [piped](crate::Stdio::piped) fails the start, because no code could read it.
    ///
    /// To step through tasks in a debugger, run them on threads:
    /// `.process(|_, builder| builder.backend(Backend::Inline))`, or `OFFSPRING_BACKEND=inline` for
    /// the whole program. [`Backend::Inline`](crate::process::Backend::Inline) says what differs.
    ///
    /// ```
    /// use offspring::unix::ProcessBuilderExt;
    /// use offspring::{Pool, Stdio};
    ///
    /// #[offspring::worker]
    /// fn device() -> String {
    ///     std::env::var("VISIBLE_DEVICE").expect("the pool has set it")
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::builder()
    ///         .workers(1)
    ///         .process(|slot, builder| {
    ///             let builder = builder.env("VISIBLE_DEVICE", slot.to_string());
    ///             builder.nice(5).stderr(Stdio::prefixed())
    ///         })
    ///         .build()?;
    ///     assert_eq!(pool.run(device::new())?, "0");
    ///     Ok(())
    /// }
    /// ```
    pub fn process(
        mut self,
        configure: impl Fn(usize, ProcessBuilder) -> ProcessBuilder + Send + Sync + 'static,
    ) -> PoolBuilder {
        self.settings.configure = Some(ProcessOptions(Box::new(configure)));
        self
    }

    /// Sets how long a worker process may take until it runs, not counting the
    /// [initializer](PoolBuilder::initializer). After that it is killed, and counts as one that did
    /// not start. Default: 10 seconds.
    ///
    /// A pool starts a few processes at a time (twice as many as there are processors, at least
    /// four), and the time of each counts from its own start.
    pub fn start_timeout(mut self, limit: Duration) -> PoolBuilder {
        self.settings.start_timeout = Some(limit);
        self
    }

    /// Sets a worker value that each process, replacements included, runs before its first task. It
    /// can keep a value for the tasks with [`set_worker_state`](crate::pool::set_worker_state).
    /// Default: none.
    ///
    /// If it returns an error, panics or ends its process, [`build`](PoolBuilder::build) returns an
    /// error. If that happens in a replacement later, the pool tries again, up to the [restart
    /// limit](PoolBuilder::restart_limit).
    pub fn initializer<W: ProcessWorker<Output: InitializerOutput>>(
        mut self,
        worker: W,
    ) -> PoolBuilder {
        let number = process::number::<W>()
            .map_err(|cause| PoolError::Spawn { worker: self.settings.name.clone(), cause });
        self.initializer = Some(number.and_then(|number| Initializer::new(number, &worker)));
        self
    }

    /// Sets how long the [initializer](PoolBuilder::initializer) may run in a process. After that
    /// the process is killed, and counts as one whose initializer failed. Default: no limit.
    pub fn initializer_timeout(mut self, limit: Duration) -> PoolBuilder {
        self.settings.initializer_timeout = Some(limit);
        self
    }

    /// Sets the number of tasks after which a process is replaced, at least 1. Default: no limit.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> PoolBuilder {
        self.settings.limits.max_tasks = Some(tasks);
        self
    }

    /// Sets how much resident memory, in bytes, a process may have. Default: no limit.
    ///
    /// While a task runs, its process is measured every 100 milliseconds. If it has grown beyond
    /// the limit, it is killed with the programs that the task has started, as after a
    /// [time limit](PoolBuilder::task_timeout), and the task ends with
    /// [`TaskError::OverMemory`](crate::pool::TaskError::OverMemory). For a limit that holds at
    /// every allocation, see [`rlimit`](crate::unix::ProcessBuilderExt::rlimit).
    ///
    /// A process that is beyond the limit when a task ends is replaced. A task that began in it
    /// meanwhile is not to blame: it may use as much as the limit on top of what it has found.
    /// Memory of programs that a task starts does not count.
    ///
    /// ```
    /// use offspring::Pool;
    /// use offspring::pool::TaskError;
    ///
    /// #[offspring::worker]
    /// fn hoard() {
    ///     let mut hoard = Vec::new();
    ///     loop {
    ///         hoard.push(vec![1_u8; 1 << 20]);
    ///         std::thread::sleep(std::time::Duration::from_millis(1));
    ///     }
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::builder().workers(1).max_memory_per_worker(100 << 20).build()?;
    ///     let error = pool.run(hoard::new()).unwrap_err();
    ///     assert!(matches!(error, TaskError::OverMemory { used, limit, .. } if used > limit));
    ///     Ok(())
    /// }
    /// ```
    pub fn max_memory_per_worker(mut self, bytes: u64) -> PoolBuilder {
        self.settings.limits.max_memory = Some(bytes);
        self
    }

    /// Sets how long a task may run, counted from its beginning. After that its process is killed
    /// and replaced, and the task ends with
    /// [`TaskError::TimeLimit`](crate::pool::TaskError::TimeLimit). Default: no limit.
    ///
    /// Programs that the task has started, and that are still children of its process, are killed
    /// with it. The same goes for a task that is cancelled, and for [`Pool::kill`].
    pub fn task_timeout(mut self, limit: Duration) -> PoolBuilder {
        self.settings.task_timeout = Some(limit);
        self
    }

    /// Sets how many times a task is run again if its process ends while it runs. Default: 0.
    ///
    /// Use it only for tasks that may run twice: the process may have ended after the last effect
    /// of the task. A task whose process ends each time fails with
    /// [`TaskError::SetAside`](crate::pool::TaskError::SetAside). Panics, cancellations, and limits of
    /// time and memory are not retried.
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.settings.retries = retries;
        self
    }

    /// Sets how many failures in a row the pool tolerates. A failure is a process that does not
    /// start, or that ends by itself while it is idle; a task that ends starts the count again. At
    /// the next failure the pool gives up: it fails its queued tasks and accepts no more. Default:
    /// 5.
    ///
    /// While the pool is being built, the first failure is an error of
    /// [`build`](PoolBuilder::build).
    pub fn restart_limit(mut self, failures: u32) -> PoolBuilder {
        self.settings.limits.restart_limit = failures;
        self
    }

    /// Sets the pause after a [failure](PoolBuilder::restart_limit). It doubles with each further
    /// failure, up to one second. Default: 10 milliseconds. A process that ended while it ran a
    /// task is replaced without a pause, unless failures preceded it.
    pub fn restart_backoff(mut self, pause: Duration) -> PoolBuilder {
        self.settings.backoff = pause;
        self
    }

    /// Sets how many more processes, up to 4096, are started and initialized in advance, each to
    /// replace a worker that ends. Default: 0.
    pub fn spares(mut self, spares: usize) -> PoolBuilder {
        self.settings.limits.spares = spares;
        self
    }

    /// Sets how many unfinished tasks the pool may hold, queued and running, at least 1.
    /// While it holds that many, [`submit`](Pool::submit) blocks, `submit_async` (feature `async`)
    /// waits, and [`try_submit`](Pool::try_submit) returns an error. Default: no limit, so that
    /// submitting never blocks.
    ///
    /// The tasks of a map count, but this limit does not delay a map, which has its own
    /// [window](crate::pool::Map::window).
    pub fn max_unfinished(mut self, tasks: u64) -> PoolBuilder {
        self.settings.limits.max_unfinished = Some(tasks);
        self
    }

    /// Starts the workers and spares, and blocks until all are ready. The start of each process has
    /// a limit. An [initializer](PoolBuilder::initializer) has one only if you [set
    /// it](PoolBuilder::initializer_timeout).
    ///
    /// # Errors
    ///
    /// Returns a [`PoolError`] if an option is invalid, or if a worker could not be started or
    /// initialized. Then no process is left running.
    pub fn build(self) -> Result<Pool, PoolError> {
        let mut settings = self.settings;
        settings.workers = self
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        settings.initializer = self.initializer.transpose()?;
        settings.check()?;
        let shared = Arc::new(PoolShared::new(settings));
        #[cfg(feature = "metrics")]
        crate::pool::load::list(&shared);
        let pool = Pool::start(shared.clone())?;
        let finisher: Arc<dyn AtExit> = shared;
        process::finish_before_exit(&finisher);
        Ok(pool)
    }
}
