//! `Pool`, the handle of a pool, and how one task is submitted.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{
    EncodeError, PoolError, ShutdownError, SpawnError, SubmitError, TaskError, TrySubmitError,
};
use crate::ipc::deadline::Deadline;
use crate::ipc::hub;
use crate::ipc::wire::{self, EncodedValue, Envelope, Shape, SideData};
use crate::pool::batch::{TaskBatch, TaskSpec, needs_parcel};
use crate::pool::events::PoolEvents;
use crate::pool::monitor;
use crate::pool::settings::check_workers;
use crate::pool::shared::PoolShared;
use crate::pool::state::{Phase, PoolEnd};
use crate::pool::stats::PoolStats;
use crate::pool::task::{Task, TaskCell};
use crate::process::{self, ProcessWorker};
use crate::sys;
use crate::trace;

/// Worker processes that run tasks, one after the other in each process. A task is any registered
/// worker value.
///
/// Dropping it closes the pool, and blocks until all submitted tasks have ended. If a panic drops
/// it, it kills the tasks instead. [`shutdown`](Pool::shutdown) limits the wait, and
/// [`kill`](Pool::kill) does not wait for tasks. A pool that still exists when the program ends (in
/// a static, or after `process::exit`) is finished then.
///
/// A task that panics, ends its process, is killed, or returns a value that does not decode affects
/// no other task. It ends with a [`TaskError`], and its process is replaced if it has ended. All
/// methods take `&self` and may be called from any thread. The worker processes ignore Ctrl-C and
/// signals to the whole process group, and end with this program.
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
///     let squares: Result<Vec<u64>, _> = pool.map(1..=4, square::new).collect();
///     assert_eq!(squares?, [1, 4, 9, 16]);
///
///     let task = pool.submit(square::new(12))?;
///     assert_eq!(task.join()?, 144);
///     Ok(())
/// }
/// ```
#[must_use = "dropping it finishes its tasks and ends its workers"]
pub struct Pool {
    pub(super) shared: Arc<PoolShared>,
}

/// Options of one task, in place of the pool's defaults. Dropping them does nothing.
///
/// ```
/// use std::time::Duration;
/// use offspring::Pool;
/// use offspring::pool::TaskOptions;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let options = TaskOptions::new().task_timeout(Duration::from_secs(10)).retries(2);
///     assert_eq!(pool.submit_with(square::new(12), options)?.join()?, 144);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "pass it to `Pool::submit_with`"]
pub struct TaskOptions {
    task_timeout: Option<Duration>,
    retries: Option<u32>,
}

impl TaskOptions {
    /// Creates options that change none of the pool's defaults.
    pub fn new() -> TaskOptions {
        TaskOptions::default()
    }

    /// Sets how long the task may run. Default: that of
    /// [`PoolBuilder::task_timeout`](crate::PoolBuilder::task_timeout).
    pub fn task_timeout(mut self, limit: Duration) -> TaskOptions {
        self.task_timeout = Some(limit);
        self
    }

    /// Sets how many times the task is run again if its process ends while it runs. Default: that
    /// of [`PoolBuilder::retries`](crate::PoolBuilder::retries).
    pub fn retries(mut self, retries: u32) -> TaskOptions {
        self.retries = Some(retries);
        self
    }
}

/// Why a value did not become a task.
enum Unsendable {
    Encode(EncodeError),
    Unknown(SpawnError),
    Io(io::Error),
}

impl Pool {
    /// Starts the workers, and blocks until all are ready.
    pub(super) fn start(shared: Arc<PoolShared>) -> Result<Pool, PoolError> {
        let workers = shared.settings.workers;
        let pool = Pool { shared };
        if let Err(error) = monitor::resize(&pool.shared, workers) {
            pool.kill();
            return Err(error);
        }
        pool.shared.wait(None, |state| (!matches!(state.phase(), Phase::Building)).then_some(()));
        if !pool.shared.read(|state| matches!(state.phase(), Phase::Broken(_))) {
            return Ok(pool);
        }
        // After this wait the monitors have left, and with them the other references to the cause.
        pool.shared.wait_ended(None);
        let cause = pool.shared.change(|state, _, _| state.take_cause());
        let lost = |text: String| PoolError::Io {
            act: "start the workers",
            cause: io::Error::other(text),
        };
        Err(match cause.map(Arc::try_unwrap) {
            Some(Ok(cause)) => cause,
            Some(Err(cause)) => lost(cause.to_string()),
            None => lost("the pool gave up".to_owned()),
        })
    }

    /// Submits a task: any registered worker value. It may hold handles (queues, senders,
    /// connections).
    ///
    /// Tasks wait in this process, in one line, until a worker takes them: a task that is submitted
    /// after many others begins after them. The call does not block unless the
    /// pool has a [bound](crate::PoolBuilder::max_unfinished) and is full. Then it blocks without a
    /// timeout until there is room; [`try_submit`](Pool::try_submit) does not block, and
    /// `submit_async` (feature `async`) blocks only its task. Use [`map`](Pool::map) for inputs
    /// that do not fit in memory.
    ///
    /// # Errors
    ///
    /// Returns a [`SubmitError`], which holds the value, if the value does not encode, if its type
    /// is not registered, if there is no memory for it, or if the pool accepts no more tasks.
    pub fn submit<W: ProcessWorker>(&self, worker: W) -> Result<Task<W::Output>, SubmitError<W>> {
        self.submit_with(worker, TaskOptions::new())
    }

    /// Like [`submit`](Pool::submit), but never blocks.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySubmitError::Full) if the pool is full; else those of [`submit`](Pool::submit).
    pub fn try_submit<W: ProcessWorker>(
        &self,
        worker: W,
    ) -> Result<Task<W::Output>, TrySubmitError<W>> {
        let cell = Arc::default();
        let (batch, side_data) = match self.encode_task(&worker, TaskOptions::new(), &cell) {
            Ok(encoded) => encoded,
            Err(cause) => return Err(cause.with(worker).into()),
        };
        let submitted = self.shared.try_submit(batch);
        if !matches!(submitted, Ok(true)) {
            side_data.restore();
        }
        match submitted {
            Ok(true) => Ok(Task::new(self.shared.clone(), W::worker_name(), cell)),
            Ok(false) => Err(TrySubmitError::Full(worker)),
            Err(end) => Err(submit_error(end, worker).into()),
        }
    }

    /// Like [`submit`](Pool::submit), with options for this task.
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Pool::submit).
    pub fn submit_with<W: ProcessWorker>(
        &self,
        worker: W,
        options: TaskOptions,
    ) -> Result<Task<W::Output>, SubmitError<W>> {
        self.submit_to(worker, options, Arc::default())
    }

    /// Submits a task whose result goes to `cell`.
    pub(super) fn submit_to<W: ProcessWorker>(
        &self,
        worker: W,
        options: TaskOptions,
        cell: Arc<TaskCell>,
    ) -> Result<Task<W::Output>, SubmitError<W>> {
        let (batch, side_data) = match self.encode_task(&worker, options, &cell) {
            Ok(encoded) => encoded,
            Err(cause) => return Err(cause.with(worker)),
        };
        match side_data.restore_unless_sent(self.shared.submit(batch)) {
            Ok(()) => Ok(Task::new(self.shared.clone(), W::worker_name(), cell)),
            Err(end) => Err(submit_error(end, worker)),
        }
    }

    /// Like [`submit`](Pool::submit), but for async code: while the pool is
    /// [full](crate::PoolBuilder::max_unfinished), the task waits, not its thread. Needs the
    /// feature `async`, and works with every executor.
    ///
    /// A pool without that bound is never full, and the future is ready when it is first polled.
    /// Those that wait are woken in the order in which they came, as many as there is room for. A
    /// future that is dropped before it is ready has submitted nothing, and drops the value.
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Pool::submit); if the pool is closed meanwhile,
    /// [`SubmitError::Closed`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use offspring::Pool;
    ///
    /// #[offspring::worker]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::builder().workers(2).max_unfinished(8).build()?;
    ///     let mut sum = 0;
    ///     for n in 1..=100 {
    ///         let mut task = pool.submit_async(square::new(n)).await?;
    ///         match tokio::time::timeout(Duration::from_secs(10), &mut task).await {
    ///             Ok(output) => sum += output?,
    ///             Err(_) => task.cancel(), // it is still ours
    ///         }
    ///     }
    ///     assert_eq!(sum, 338_350);
    ///     Ok(())
    /// }
    /// ```
    #[cfg(feature = "async")]
    pub async fn submit_async<W: ProcessWorker>(
        &self,
        worker: W,
    ) -> Result<Task<W::Output>, SubmitError<W>> {
        self.submit_with_async(worker, TaskOptions::new()).await
    }

    /// Like [`submit_async`](Pool::submit_async), with options for this task.
    ///
    /// # Errors
    ///
    /// Those of [`submit_async`](Pool::submit_async).
    #[cfg(feature = "async")]
    pub async fn submit_with_async<W: ProcessWorker>(
        &self,
        worker: W,
        options: TaskOptions,
    ) -> Result<Task<W::Output>, SubmitError<W>> {
        let cell = Arc::default();
        let (batch, side_data) = match self.encode_task(&worker, options, &cell) {
            Ok(encoded) => encoded,
            Err(cause) => return Err(cause.with(worker)),
        };
        match side_data.restore_unless_sent(self.shared.submit_async(batch).await) {
            Ok(()) => Ok(Task::new(self.shared.clone(), W::worker_name(), cell)),
            Err(end) => Err(submit_error(end, worker)),
        }
    }

    /// Encodes a task. If it is not submitted, the side data that came with the batch puts back
    /// what was moved out of the worker.
    fn encode_task<W: ProcessWorker>(
        &self,
        worker: &W,
        options: TaskOptions,
        cell: &Arc<TaskCell>,
    ) -> Result<(TaskBatch, SideData), Unsendable> {
        let mut spec = self.spec::<W>().map_err(Unsendable::Unknown)?;
        spec.timeout = options.task_timeout.or(spec.timeout);
        spec.retries = options.retries.unwrap_or(spec.retries);
        let mut bytes = Vec::new();
        let mut side_data = wire::encode_into(worker, Shape::of::<W>(), &mut bytes)
            .inspect_err(|_| hub::announce())
            .map_err(Unsendable::Encode)?;
        let encoded = EncodedValue { bytes, handles: side_data.take_handles() };
        match batch_of_one(spec, encoded, cell.clone()) {
            Ok(batch) => Ok((batch, side_data)),
            Err(error) => {
                side_data.restore();
                Err(Unsendable::Io(error))
            }
        }
    }

    /// Returns the spec of tasks of this worker type, with the pool's defaults.
    pub(super) fn spec<W: ProcessWorker>(&self) -> Result<TaskSpec, SpawnError> {
        Ok(TaskSpec {
            number: process::number::<W>()?,
            name: W::worker_name(),
            timeout: self.shared.settings.task_timeout,
            retries: self.shared.settings.retries,
        })
    }

    /// Runs one task, and blocks until it has ended, like [`submit`](Pool::submit) and then
    /// [`join`](Task::join). Without a [time limit](crate::PoolBuilder::task_timeout), the wait is
    /// unbounded.
    ///
    /// # Errors
    ///
    /// Those of [`Task::join`], and [`TaskError`]s for a task that was not submitted.
    pub fn run<W: ProcessWorker>(&self, worker: W) -> Result<W::Output, TaskError> {
        let task = W::worker_name();
        match self.submit(worker) {
            Ok(task) => task.join(),
            Err(SubmitError::Closed(_)) => Err(TaskError::Stopped { task }),
            Err(SubmitError::Broken(_, cause)) => Err(TaskError::Broken { task, cause }),
            Err(SubmitError::Encode(_, cause)) => Err(TaskError::Unsendable { task, cause }),
            Err(error @ (SubmitError::Unknown(..) | SubmitError::Io(..))) => {
                let cause = EncodeError::of(task, error.to_string());
                Err(TaskError::Unsendable { task, cause })
            }
        }
    }

    /// Returns the number of processes that take tasks, or will take tasks once they have started.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.read(|state| state.workers())
    }

    /// Returns the pids of the running worker processes, spares included.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.shared.read(|state| state.pids())
    }

    /// Changes the number of workers, and returns at once. New workers start in the background.
    /// Surplus workers end once they have finished the task that they are running.
    ///
    /// # Errors
    ///
    /// - [`PoolError::InvalidOption`] unless `workers` is 1 to 4096;
    /// - [`PoolError::Closed`] if the pool was shut down or gave up;
    /// - [`PoolError::Io`] if the system refuses a thread. The pool then has as many workers as
    ///   have a thread.
    pub fn resize(&self, workers: usize) -> Result<(), PoolError> {
        check_workers(workers)?;
        if !self.shared.is_here() {
            return Err(PoolError::Closed);
        }
        monitor::resize(&self.shared, workers)
    }

    /// Returns a snapshot of the pool: its workers, and the number of tasks in each state.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let now = Instant::now();
        let (queued, running, restarts, mut workers) = self.shared.read(|state| state.stats(now));
        // Reading the memory opens files, so it is done without the lock.
        for worker in &mut workers {
            worker.memory = worker.pid.and_then(sys::resident_memory);
        }
        PoolStats {
            queued,
            running,
            done: self.shared.totals.done.load(Ordering::Relaxed),
            failed: self.shared.totals.failed.load(Ordering::Relaxed),
            restarts,
            workers,
        }
    }

    /// Returns a stream of the pool's events from now on.
    pub fn events(&self) -> PoolEvents {
        PoolEvents::new(self.shared.events.subscribe())
    }

    /// Closes the pool, and blocks for at most `grace` until all submitted tasks have ended. Then
    /// kills the remaining workers, and blocks until they have ended.
    ///
    /// Other threads may submit in the meantime; their calls return an error. Calling it again, or
    /// after [`kill`](Pool::kill), waits for the end in the same way.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if this call dropped tasks, which then end with [`TaskError::Stopped`].
    pub fn shutdown(&self, grace: Duration) -> Result<(), ShutdownError> {
        self.shared.close();
        if self.shared.wait_ended(Deadline::after(grace).deadline()) {
            return Ok(());
        }
        match self.kill_all() {
            0 => Ok(()),
            dropped => Err(ShutdownError { dropped, grace }),
        }
    }

    /// Kills all worker processes, and blocks until they have ended. Tasks that have not ended then
    /// end with [`TaskError::Stopped`].
    ///
    /// Other threads may submit in the meantime; their calls return an error. Calling it again does
    /// nothing.
    #[doc(alias = "terminate")]
    pub fn kill(&self) {
        self.kill_all();
    }

    /// Returns how many tasks were dropped.
    fn kill_all(&self) -> u64 {
        let dropped = self.shared.stop();
        self.shared.wait_ended(None);
        dropped
    }
}

impl Unsendable {
    fn with<W>(self, worker: W) -> SubmitError<W> {
        match self {
            Unsendable::Encode(cause) => SubmitError::Encode(worker, cause),
            Unsendable::Unknown(cause) => SubmitError::Unknown(worker, cause),
            Unsendable::Io(cause) => SubmitError::Io(worker, cause),
        }
    }
}

fn submit_error<W>(end: PoolEnd, worker: W) -> SubmitError<W> {
    match end {
        PoolEnd::Closed => SubmitError::Closed(worker),
        PoolEnd::Broken(cause) => SubmitError::Broken(worker, cause),
    }
}

fn batch_of_one(
    spec: TaskSpec,
    encoded: EncodedValue,
    cell: Arc<TaskCell>,
) -> io::Result<TaskBatch> {
    let context = trace::capture().map(Arc::new);
    if !needs_parcel(&encoded) {
        let mut bytes = encoded.bytes;
        bytes.extend(context.iter().flat_map(|context| context.origin()));
        return Ok(TaskBatch::single(spec, cell, 0, bytes).within(context));
    }
    let envelope = Envelope::new(encoded);
    hub::announce();
    Ok(TaskBatch::parcel(spec, cell, 0, envelope?).within(context))
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
        } else {
            self.shared.close();
            self.shared.wait_ended(None);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.settings.name)
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}
