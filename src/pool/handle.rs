//! The pool as its owner sees it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{EncodeError, PoolError, ShutdownError, SpawnError, SubmitError, TaskError};
use crate::ipc::hub;
use crate::ipc::wire::{self, EncodedValue, Envelope};
use crate::pool::batch::{Batch, Kind, needs_parcel};
use crate::pool::builder::{PoolBuilder, check_workers};
use crate::pool::events::PoolEvents;
use crate::pool::map::{Map, MapUnordered};
use crate::pool::scope::Scope;
use crate::pool::shared::{Refused, Shared, When};
use crate::pool::state::{Phase, Status};
use crate::pool::stats::PoolStats;
use crate::pool::task::{One, Task};
use crate::process::{self, ProcessWorker};

/// Worker processes that run tasks: any registered worker value, one after the other in each process.
///
/// Dropping it takes no more tasks, finishes those that were submitted, and waits for that; while a panic unwinds, it
/// ends them instead. [`shutdown`](Pool::shutdown) and [`terminate`](Pool::terminate) end a pool in other ways. A pool
/// that is still there when the program ends (in a static, or after `process::exit`) is finished then, too.
///
/// A task that panics, ends its process, is killed, or returns what does not decode costs exactly that task: it ends
/// with a [`TaskError`], its process is replaced if need be, and all others finish. All methods may be called from any
/// thread; the worker processes ignore Ctrl-C, which is for the program to answer, and end with it.
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
    pub(super) shared: Arc<Shared>,
}

/// How one task is run, where it differs from the pool's defaults. `Drop` does nothing.
///
/// ```
/// use std::time::Duration;
/// use offspring::pool::TaskOptions;
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let options = TaskOptions::new().timeout(Duration::from_secs(10)).retries(2);
///     assert_eq!(pool.submit_with(square::new(12), options)?.join()?, 144);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskOptions {
    timeout: Option<Duration>,
    retries: Option<u32>,
}

impl TaskOptions {
    /// The pool's defaults.
    #[must_use]
    pub fn new() -> TaskOptions {
        TaskOptions::default()
    }

    /// How long it may run. Default: [`PoolBuilder::task_timeout`].
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> TaskOptions {
        self.timeout = Some(limit);
        self
    }

    /// How often it is begun again if its process ends in it. Default: [`PoolBuilder::retries`].
    #[must_use]
    pub fn retries(mut self, retries: u32) -> TaskOptions {
        self.retries = Some(retries);
        self
    }
}

impl Pool {
    /// A pool of so many processes, with the defaults of [`Pool::builder`]; waits until all are ready.
    ///
    /// # Errors
    ///
    /// See [`PoolBuilder::build`].
    pub fn new(workers: usize) -> Result<Pool, PoolError> {
        Pool::builder().workers(workers).build()
    }

    /// A pool with options.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    pub(super) fn from_shared(shared: Arc<Shared>) -> Pool {
        Pool { shared }
    }

    /// Starts the workers for the first time.
    pub(super) fn start(&self) -> Result<(), PoolError> {
        let workers = self.shared.settings.workers;
        self.shared.resize(workers)?;
        let ready = |state: &mut crate::pool::state::State| match &state.phase {
            Phase::Broken(cause) => Some(Err(cause.clone())),
            _ if state
                .slots
                .iter()
                .any(|slot| slot.status == Status::Starting) =>
            {
                None
            }
            _ => {
                state.phase = Phase::Open;
                Some(Ok(()))
            }
        };
        let Some(Err(cause)) = self.shared.wait(None, ready) else {
            return Ok(());
        };
        self.shared.stop();
        self.shared.wait_ended(None);
        self.shared.forget_cause();
        Err(
            Arc::try_unwrap(cause).unwrap_or_else(|cause| PoolError::Io {
                act: "start the workers",
                source: std::io::Error::other(cause.to_string()),
            }),
        )
    }

    /// Submits a task: any registered worker value. Handles (queues, senders, connections) may be in it.
    ///
    /// Does not wait, unless the pool has a [bound](PoolBuilder::max_unfinished) and is full: tasks wait in this process until
    /// a worker takes them. Use [`map`](Pool::map) for inputs that are too many to lie in memory.
    ///
    /// # Errors
    ///
    /// [`SubmitError`], with the value given back: it does not encode, or the pool takes no more.
    pub fn submit<W: ProcessWorker>(&self, worker: W) -> Result<Task<W::Output>, SubmitError<W>> {
        self.submit_with(worker, TaskOptions::new())
    }

    /// As [`submit`](Pool::submit), but never waits.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Full`] if the pool is; else as [`submit`](Pool::submit).
    pub fn try_submit<W: ProcessWorker>(
        &self,
        worker: W,
    ) -> Result<Task<W::Output>, SubmitError<W>> {
        self.submit_to(worker, TaskOptions::new(), Arc::default(), When::Now)
    }

    /// As [`submit`](Pool::submit), with options for this task.
    ///
    /// # Errors
    ///
    /// As [`submit`](Pool::submit).
    pub fn submit_with<W: ProcessWorker>(
        &self,
        worker: W,
        options: TaskOptions,
    ) -> Result<Task<W::Output>, SubmitError<W>> {
        self.submit_to(worker, options, Arc::default(), When::Room)
    }

    pub(super) fn submit_to<W: ProcessWorker>(
        &self,
        worker: W,
        options: TaskOptions,
        sink: Arc<One>,
        when: When,
    ) -> Result<Task<W::Output>, SubmitError<W>> {
        let mut kind = match self.kind::<W>() {
            Ok(kind) => kind,
            Err(error) => return Err(SubmitError::Unknown(worker, error)),
        };
        kind.timeout = options.timeout.or(kind.timeout);
        kind.retries = options.retries.unwrap_or(kind.retries);
        let encoded = match wire::encode(&worker) {
            Ok(encoded) => encoded,
            Err(error) => {
                hub::announce();
                return Err(SubmitError::Encode(worker, error));
            }
        };
        let batch = match batch(kind, encoded, sink.clone()) {
            Ok(batch) => batch,
            Err(error) => return Err(SubmitError::Io(worker, error)),
        };
        match self.shared.submit(batch, when) {
            Ok(_) => Ok(Task::new(self.shared.clone(), kind.name, sink)),
            Err(Refused::Full) => Err(SubmitError::Full(worker)),
            Err(Refused::Closed) => Err(SubmitError::Closed(worker)),
            Err(Refused::Broken(cause)) => Err(SubmitError::Broken(worker, cause)),
        }
    }

    pub(super) fn kind<W: ProcessWorker>(&self) -> Result<Kind, SpawnError> {
        Ok(Kind {
            number: process::number::<W>()?,
            name: W::worker_name(),
            timeout: self.shared.settings.timeout,
            retries: self.shared.settings.retries,
        })
    }

    /// Runs one task, and waits for its output.
    ///
    /// # Errors
    ///
    /// As [`Task::join`]; a task that could not be submitted as well.
    pub fn run<W: ProcessWorker>(&self, worker: W) -> Result<W::Output, TaskError> {
        let task = W::worker_name();
        match self.submit(worker) {
            Ok(task) => task.join(),
            Err(SubmitError::Encode(_, source)) => Err(TaskError::Unsendable { task, source }),
            // It waits, and is not told that.
            Err(SubmitError::Full(_) | SubmitError::Closed(_)) => Err(TaskError::Stopped { task }),
            Err(SubmitError::Broken(_, cause)) => Err(TaskError::Broken { task, cause }),
            Err(SubmitError::Unknown(_, error)) => {
                let source = EncodeError::new::<W>(error.to_string());
                Err(TaskError::Unsendable { task, source })
            }
            Err(SubmitError::Io(_, error)) => {
                let source = EncodeError::new::<W>(error.to_string());
                Err(TaskError::Unsendable { task, source })
            }
        }
    }

    /// Makes a task of each input, and gives their outputs in the order of the inputs.
    ///
    /// Lazy: inputs are taken as outputs are, and a bounded number is between ([`Map::window`]), so inputs may be
    /// endless. How many tasks travel together is chosen by how long they take. Blocking inputs hold up outputs by one
    /// input at most.
    ///
    /// ```
    /// #[offspring::worker]
    /// fn add(a: u64, b: u64) -> u64 {
    ///     a + b
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = offspring::Pool::new(2)?;
    ///     let sums = pool.map([(1, 2), (3, 4)], |(a, b)| add::new(a, b));
    ///     assert_eq!(sums.collect::<Result<Vec<_>, _>>()?, [3, 7]);
    ///     Ok(())
    /// }
    /// ```
    pub fn map<I, F, W>(&self, inputs: I, make: F) -> Map<'_, I::IntoIter, F, W>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> W,
        W: ProcessWorker,
    {
        Map::new(self, inputs.into_iter(), make)
    }

    /// As [`map`](Pool::map), but gives outputs as they come.
    pub fn map_unordered<I, F, W>(&self, inputs: I, make: F) -> MapUnordered<'_, I::IntoIter, F, W>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> W,
        W: ProcessWorker,
    {
        MapUnordered::new(self, inputs.into_iter(), make)
    }

    /// Calls `body` with a [`Scope`], and waits for the end of all tasks that were submitted through it. If `body`
    /// panics, they are cancelled.
    ///
    /// # Errors
    ///
    /// The first error, in the order of submission, of a task that was not joined in `body`.
    ///
    /// ```
    /// #[offspring::worker]
    /// fn step(n: u64) -> u64 {
    ///     n + 1
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = offspring::Pool::new(2)?;
    ///     let first = pool.scope(|scope| {
    ///         let first = scope.submit(step::new(1));
    ///         let _not_joined = scope.submit(step::new(2));
    ///         first
    ///     })?;
    ///     assert_eq!(first?.join()?, 2); // both have ended
    ///     Ok(())
    /// }
    /// ```
    pub fn scope<'p, R>(&'p self, body: impl FnOnce(&Scope<'p>) -> R) -> Result<R, TaskError> {
        let scope = Scope::new(self);
        let result = body(&scope);
        scope.finish().map_or(Ok(result), Err)
    }

    /// How many processes take tasks, or will when they have started.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.look(|state| state.want)
    }

    /// The pids of the worker processes that run now, spares included.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.shared.look(|state| {
            state
                .slots
                .iter()
                .filter_map(|slot| slot.worker.as_ref())
                .map(|worker| worker.process.pid())
                .collect()
        })
    }

    /// Changes the number of workers. New ones are started meanwhile; ones too many end when they have finished the
    /// task that they are in. Does not wait.
    ///
    /// # Errors
    ///
    /// [`PoolError::InvalidOption`] for a number that no pool may have; the system may refuse a thread.
    pub fn resize(&self, workers: usize) -> Result<(), PoolError> {
        check_workers(workers)?;
        self.shared.resize(workers)
    }

    /// What it does now, and has done.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats::take(&self.shared)
    }

    /// What happens in it, from now on.
    pub fn events(&self) -> PoolEvents {
        PoolEvents::new(self.shared.events.subscribe())
    }

    /// Takes no more tasks, finishes those that were submitted, waits for that at most this long; then ends what is
    /// left.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if tasks were dropped. Their handles say [`TaskError::Stopped`].
    pub fn shutdown(self, grace: Duration) -> Result<(), ShutdownError> {
        self.shared.close();
        // A deadline that the clock cannot express is none.
        if self.shared.wait_ended(Instant::now().checked_add(grace)) {
            return Ok(());
        }
        match self.end() {
            0 => Ok(()),
            dropped => Err(ShutdownError { dropped, grace }),
        }
    }

    /// Ends all processes at once; what has not ended ends with [`TaskError::Stopped`].
    pub fn terminate(self) {
        self.end();
    }

    /// How many tasks were dropped.
    fn end(&self) -> u64 {
        let dropped = self.shared.stop();
        self.shared.wait_ended(None);
        dropped
    }
}

/// One task as it travels.
fn batch(kind: Kind, encoded: EncodedValue, sink: Arc<One>) -> std::io::Result<Batch> {
    if !needs_parcel(&encoded) {
        let ends = vec![encoded.bytes.len() as u32];
        return Ok(Batch::of_bytes(kind, sink, 0, encoded.bytes, ends));
    }
    let packet = Envelope::new(encoded);
    hub::announce();
    Ok(Batch::of_parcel(kind, sink, 0, packet?))
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end();
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
