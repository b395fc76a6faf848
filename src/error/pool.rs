//! Errors of pools and their tasks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::{DecodeError, EncodeError, ExitReason, PanicReport, SpawnError};

/// Why a pool was not made, or gave up.
///
/// ```
/// use offspring::pool::PoolError;
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn fail() -> Result<(), String> {
///     Err("no dictionary".to_owned())
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let error = Pool::builder().workers(1).initializer(fail::new()).build().unwrap_err();
///     assert!(matches!(error, PoolError::Initializer { .. }));
///     assert!(error.to_string().ends_with("no dictionary"));
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum PoolError {
    /// An option of the [`PoolBuilder`](crate::PoolBuilder) cannot be used.
    #[error("{option} {problem}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with its value, and what is right.
        problem: String,
    },
    /// A worker process was not started.
    #[error("worker `{worker}` of the pool was not started")]
    Spawn {
        /// Name of the worker process.
        worker: String,
        /// Why.
        #[source]
        source: SpawnError,
    },
    /// The initializer failed, or ended its process.
    #[error("the initializer of worker `{worker}` (pid {pid}) failed: {message}")]
    Initializer {
        /// Name of the worker process.
        worker: String,
        /// Its pid.
        pid: u32,
        /// What it said, or how its process ended.
        message: String,
    },
    /// Workers ended again and again while they had nothing to do.
    #[error(
        "worker `{worker}` (pid {pid}) ended while it had nothing to do, as others before it: it {reason}"
    )]
    Ended {
        /// Name of the worker process.
        worker: String,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
    },
    /// The initializer's value does not encode.
    #[error("the initializer cannot be sent to the workers")]
    Encode(#[source] EncodeError),
    /// The system refused.
    #[error("could not {act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Why there is no output of a task.
///
/// ```
/// use offspring::pool::TaskError;
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn fail() {
///     panic!("on purpose");
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let error = pool.run(fail::new()).unwrap_err();
///     assert!(matches!(error, TaskError::Panicked { .. }));
///     assert!(error.task().ends_with("fail") && error.pid().is_some());
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked. Its worker goes on.
    #[error("task `{task}` panicked in process `{worker}` (pid {pid}) at {report}")]
    Panicked {
        /// Name of the task's worker type.
        task: &'static str,
        /// Name of the process.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
        /// The panic.
        report: Box<PanicReport>,
    },
    /// Its process ended while the task ran in it; the process was replaced.
    #[error("task `{task}` is lost with its process `{worker}` (pid {pid}), which {reason}")]
    Died {
        /// Name of the task's worker type.
        task: &'static str,
        /// Name of the process.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
    },
    /// It was tried again, and ended its process each time.
    #[error(
        "task `{task}` is set aside: it ended {crashes} processes, the last one `{worker}` (pid {pid}), which {reason}"
    )]
    SetAside {
        /// Name of the task's worker type.
        task: &'static str,
        /// So many processes.
        crashes: u32,
        /// Name of the last one.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
    },
    /// It ran longer than its limit; its process was killed and replaced.
    #[error(
        "task `{task}` did not end within {limit:?}; its process `{worker}` (pid {pid}) was killed"
    )]
    TimedOut {
        /// Name of the task's worker type.
        task: &'static str,
        /// Name of the process.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
        /// The limit.
        limit: Duration,
    },
    /// It was cancelled, before it began or while it ran.
    #[error("task `{task}` was cancelled")]
    Cancelled {
        /// Name of the task's worker type.
        task: &'static str,
    },
    /// Its process could not rebuild its value. The process goes on.
    #[error("process `{worker}` (pid {pid}) could not rebuild task `{task}`: {message}")]
    Value {
        /// Name of the task's worker type.
        task: &'static str,
        /// Name of the process.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
        /// What the process said.
        message: String,
    },
    /// It returned, but its output did not survive the way. Its process goes on.
    #[error("the output of task `{task}` from process `{worker}` (pid {pid}) was lost: {message}")]
    Output {
        /// Name of the task's worker type.
        task: &'static str,
        /// Name of the process.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
        /// Which type, and what is wrong with it.
        message: String,
    },
    /// The output came, and does not decode here.
    #[error("the output of task `{task}` does not decode")]
    Decode {
        /// Name of the task's worker type.
        task: &'static str,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// The process that it was sent to ended before the task began, and its value holds something that exists once.
    #[error("task `{task}` was lost on its way, with a process that ended before the task began")]
    Lost {
        /// Name of the task's worker type.
        task: &'static str,
    },
    /// An input of a map became no task: its value does not encode, or there is no memory to send it in.
    #[error("task `{task}` cannot be sent to a process")]
    Unsendable {
        /// Name of the task's worker type.
        task: &'static str,
        /// What is wrong.
        #[source]
        source: EncodeError,
    },
    /// The pool was stopped before the task ended.
    #[error("task `{task}` was dropped: its pool was stopped")]
    Stopped {
        /// Name of the task's worker type.
        task: &'static str,
    },
    /// The pool gave up.
    #[error("task `{task}` was dropped: its pool gave up")]
    Broken {
        /// Name of the task's worker type.
        task: &'static str,
        /// Why.
        #[source]
        cause: Arc<PoolError>,
    },
    /// An earlier `join_timeout` took the output.
    #[error("the output of task `{task}` was taken before")]
    Taken {
        /// Name of the task's worker type.
        task: &'static str,
    },
}

impl TaskError {
    /// Name of the task's worker type.
    #[must_use]
    pub fn task(&self) -> &'static str {
        match self {
            TaskError::Panicked { task, .. }
            | TaskError::Died { task, .. }
            | TaskError::SetAside { task, .. }
            | TaskError::TimedOut { task, .. }
            | TaskError::Cancelled { task }
            | TaskError::Lost { task }
            | TaskError::Value { task, .. }
            | TaskError::Output { task, .. }
            | TaskError::Decode { task, .. }
            | TaskError::Unsendable { task, .. }
            | TaskError::Stopped { task }
            | TaskError::Broken { task, .. }
            | TaskError::Taken { task } => task,
        }
    }

    /// The pid of the process that the task was in, if it came so far.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            TaskError::Panicked { pid, .. }
            | TaskError::Died { pid, .. }
            | TaskError::SetAside { pid, .. }
            | TaskError::TimedOut { pid, .. }
            | TaskError::Value { pid, .. }
            | TaskError::Output { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// How the process ended that the task took with it.
    #[must_use]
    pub fn reason(&self) -> Option<&ExitReason> {
        match self {
            TaskError::Died { reason, .. } | TaskError::SetAside { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, TaskError::Cancelled { .. })
    }

    /// Whether it ran longer than its limit.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, TaskError::TimedOut { .. })
    }
}

/// Why [`Task::join_timeout`](crate::Task::join_timeout) gave no output.
///
/// ```
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn rest() {
///     std::thread::sleep(std::time::Duration::from_secs(1000));
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let task = pool.submit(rest::new())?;
///     assert!(task.join_timeout(std::time::Duration::from_millis(1)).unwrap_err().is_timeout());
///     task.cancel();
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TaskTimeoutError {
    /// The task has not ended yet.
    #[error("task `{task}` has not ended after {after:?}")]
    Timeout {
        /// Name of the task's worker type.
        task: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// It ended, without an output.
    #[error(transparent)]
    Failed(#[from] TaskError),
}

impl TaskTimeoutError {
    /// Whether the task has not ended yet.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, TaskTimeoutError::Timeout { .. })
    }
}

/// Why a task was not submitted. It comes back: see [`SubmitError::into_inner`].
///
/// ```
/// use offspring::pool::SubmitError;
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn rest() {
///     std::thread::sleep(std::time::Duration::from_secs(1000));
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::builder().workers(1).max_unfinished(1).build()?;
///     let first = pool.submit(rest::new())?;
///     match pool.try_submit(rest::new()) {
///         Err(SubmitError::Full(task)) => drop(task), // or keep it for later
///         other => panic!("{other:?}"),
///     }
///     first.cancel();
///     assert!(first.join().is_err());
///     pool.try_submit(rest::new())?.cancel(); // there is room again
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum SubmitError<W> {
    /// Its value does not encode.
    #[error("submitting a task that does not encode")]
    Encode(W, #[source] EncodeError),
    /// Its type is not registered, or the registry is broken.
    #[error("submitting a task that no process would find")]
    Unknown(W, #[source] SpawnError),
    /// As many tasks as [`PoolBuilder::max_unfinished`](crate::PoolBuilder::max_unfinished) allows have not ended.
    #[error("submitting to a pool that is full")]
    Full(W),
    /// The pool takes no more tasks.
    #[error("submitting to a pool that was shut down")]
    Closed(W),
    /// The pool gave up.
    #[error("submitting to a pool that gave up")]
    Broken(W, #[source] Arc<PoolError>),
    /// The system refused.
    #[error("could not make memory for the task")]
    Io(W, #[source] io::Error),
}

impl<W> SubmitError<W> {
    /// The task that was not submitted.
    pub fn into_inner(self) -> W {
        match self {
            SubmitError::Encode(task, _)
            | SubmitError::Unknown(task, _)
            | SubmitError::Full(task)
            | SubmitError::Closed(task)
            | SubmitError::Broken(task, _)
            | SubmitError::Io(task, _) => task,
        }
    }
}

/// A shutdown that could not finish everything.
///
/// ```
/// use std::time::Duration;
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn rest() {
///     std::thread::sleep(Duration::from_secs(1000));
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let tasks = [pool.submit(rest::new())?, pool.submit(rest::new())?];
///     let error = pool.shutdown(Duration::from_millis(1)).unwrap_err();
///     assert_eq!(error.dropped, 2);
///     assert!(tasks.iter().all(|task| task.is_finished()));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the pool was stopped after {grace:?} with {dropped} tasks that had not ended")]
pub struct ShutdownError {
    /// So many tasks were dropped; their handles tell it, too.
    pub dropped: u64,
    /// How long was waited.
    pub grace: Duration,
}

debug_without_item! {
    SubmitError { Encode + cause, Unknown + cause, Full, Closed, Broken + cause, Io + cause }
}

debug_with_text! {
    PoolError { InvalidOption, Spawn, Initializer, Ended, Encode, Io }
    TaskError { Panicked, Died, SetAside, TimedOut, Cancelled, Value, Output, Decode, Lost, Unsendable, Stopped, Broken, Taken }
}
