//! Errors of pools and their tasks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::process::{LastLine, last_words};
use super::{DecodeError, EncodeError, ExitReason, PanicReport, SpawnError};

/// Why a pool was not built, or gave up.
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
    /// An option of the [`PoolBuilder`](crate::PoolBuilder) is invalid.
    #[error("{option} {problem}")]
    InvalidOption {
        /// The name of the option.
        option: &'static str,
        /// The problem with its value, and the valid values.
        problem: String,
    },
    /// A worker process did not start.
    #[error("worker `{worker}` of the pool did not start: {cause}")]
    Spawn {
        /// The name of the process.
        worker: String,
        /// The reason.
        cause: SpawnError,
    },
    /// The initializer failed, or ended its process.
    #[error("the initializer of worker `{worker}` (pid {pid}) failed: {message}{}", LastLine(.stderr))]
    Initializer {
        /// The name of the process.
        worker: String,
        /// The pid of the process.
        pid: u32,
        /// The initializer's error, or how its process ended.
        message: String,
        /// The end of what the process wrote to stderr, if it ended: see [`TaskError::stderr`].
        stderr: String,
    },
    /// Idle workers kept ending by themselves, until the
    /// [restart limit](crate::PoolBuilder::restart_limit).
    #[error(
        "worker `{worker}` (pid {pid}) ended while it was idle, like others before it: it {reason}{}",
        LastLine(last_words(.reason, .stderr))
    )]
    Ended {
        /// The name of the process.
        worker: String,
        /// The pid of the process.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
        /// The end of what it wrote to stderr: see [`TaskError::stderr`].
        stderr: String,
    },
    /// The value of the initializer does not encode.
    #[error("cannot send the initializer to the workers: {0}")]
    Encode(EncodeError),
    /// The pool was shut down, or gave up.
    #[error("cannot resize a pool that accepts no more tasks")]
    Closed,
    /// The system refused a resource.
    #[error("could not {act}: {cause}")]
    Io {
        /// The act that failed.
        act: &'static str,
        /// The system's error.
        cause: io::Error,
    },
}

/// Defines the error of a task, and the error of a wait for it with a timeout. The second is flat:
/// it has all variants of the first and one more.
macro_rules! task_errors {
    (
        $(#[$meta:meta])*
        pub enum $base:ident { $($variants:tt)* }
        $(#[$form_meta:meta])*
        pub enum $form:ident adds { $($own:tt)* }
    ) => {
        task_errors! { @define [$(#[$meta])*] $base { $($variants)* } }
        task_errors! { @define [$(#[$form_meta])*] $form { $($own)* $($variants)* } }
        task_errors! { @widen $base $form { $($variants)* } }
    };
    (@define [$($meta:tt)*] $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        })*
    }) => {
        $($meta)*
        #[derive(Clone, Error)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* $variant {
                /// The name of the task's worker type.
                task: &'static str,
                $($(#[$field_meta])* $field: $type,)*
            },)*
        }

        impl $name {
            /// Returns the name of the task's worker type.
            #[must_use]
            pub fn task(&self) -> &'static str {
                match self {
                    $($name::$variant { task, .. } => task,)*
                }
            }

            /// Returns the pid of the process that the task was sent to, if it is known.
            #[must_use]
            pub fn pid(&self) -> Option<u32> {
                match self {
                    $name::Panicked { pid, .. }
                    | $name::Died { pid, .. }
                    | $name::SetAside { pid, .. }
                    | $name::TimeLimit { pid, .. }
                    | $name::OverMemory { pid, .. }
                    | $name::Value { pid, .. }
                    | $name::Output { pid, .. } => Some(*pid),
                    _ => None,
                }
            }

            /// Returns how the task's process ended, if that is why there is no output.
            #[must_use]
            pub fn reason(&self) -> Option<&ExitReason> {
                match self {
                    $name::Died { reason, .. } | $name::SetAside { reason, .. } => Some(reason),
                    _ => None,
                }
            }

            /// Returns the last kilobyte that the task's process wrote to stderr, if it ended with the
            /// task: the message of a failed allocation or of a C library, for example.
            ///
            /// Returns `None` if it wrote nothing, or if its stderr does not pass through this
            /// process. It does if it is [prefixed](crate::Stdio::prefixed), which
            /// [`PoolBuilder::process`](crate::PoolBuilder::process) can set.
            #[must_use]
            pub fn stderr(&self) -> Option<&str> {
                match self {
                    $name::Died { stderr, .. }
                    | $name::SetAside { stderr, .. }
                    | $name::TimeLimit { stderr, .. }
                    | $name::OverMemory { stderr, .. } => {
                        Some(stderr.as_str()).filter(|text| !text.is_empty())
                    }
                    _ => None,
                }
            }

            /// Returns what stderr adds to the reason.
            pub(super) fn last_words(&self) -> Option<&str> {
                self.stderr().map(|stderr| match self.reason() {
                    Some(reason) => last_words(reason, stderr),
                    None => stderr,
                })
            }

            /// Returns whether the task was cancelled.
            #[must_use]
            pub fn is_cancelled(&self) -> bool {
                matches!(self, $name::Cancelled { .. })
            }

            /// Returns whether the task ran longer than its time limit.
            #[must_use]
            pub fn is_time_limit(&self) -> bool {
                matches!(self, $name::TimeLimit { .. })
            }
        }

        debug_with_text! { [] $name { $($variant),* } last_words }
    };
    (@widen $base:ident $form:ident {
        $($(#[$variant_meta:meta])* $variant:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        })*
    }) => {
        impl From<$base> for $form {
            fn from(error: $base) -> $form {
                match error {
                    $($base::$variant { task, $($field),* } => $form::$variant { task, $($field),* },)*
                }
            }
        }
    };
}

task_errors! {
    /// Why a task has no output.
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
    pub enum TaskError {
        /// The task panicked. Its process continues.
        #[error("task `{task}` panicked in process `{worker}` (pid {pid}) at {report}")]
        Panicked {
            /// The name of the process.
            worker: Arc<str>,
            /// The pid of the process.
            pid: u32,
            /// The panic.
            report: Box<PanicReport>,
        }
        /// The process ended while the task ran in it. The pool replaced it.
        #[error(
            "task `{task}` died with its process `{worker}` (pid {pid}), which {reason}{}",
            LastLine(last_words(.reason, .stderr))
        )]
        Died {
            /// The name of the process.
            worker: Arc<str>,
            /// The pid of the process.
            pid: u32,
            /// How the process ended.
            reason: ExitReason,
            /// The end of what it wrote to stderr: see [`stderr`](Self::stderr).
            stderr: String,
        }
        /// The task was retried, and its process ended each time.
        #[error(
            "task `{task}` is set aside: it ended {crashes} processes, the last one `{worker}` (pid {pid}), which {reason}{}",
            LastLine(last_words(.reason, .stderr))
        )]
        SetAside {
            /// How many processes ended while they ran the task.
            crashes: u32,
            /// The name of the last process.
            worker: Arc<str>,
            /// The pid of the last process.
            pid: u32,
            /// How the last process ended.
            reason: ExitReason,
            /// The end of what it wrote to stderr: see [`stderr`](Self::stderr).
            stderr: String,
        }
        /// The task ran longer than its time limit. The pool killed and replaced its process.
        #[error(
            "task `{task}` did not end within {limit:?}; its process `{worker}` (pid {pid}) was killed{}",
            LastLine(.stderr)
        )]
        TimeLimit {
            /// The name of the process.
            worker: Arc<str>,
            /// The pid of the process.
            pid: u32,
            /// The limit.
            limit: Duration,
            /// The end of what it wrote to stderr: see [`stderr`](Self::stderr).
            stderr: String,
        }
        /// The process had more memory than
        /// [`max_memory_per_worker`](crate::PoolBuilder::max_memory_per_worker) while the task ran.
        /// The pool killed and replaced it.
        #[error(
            "task `{task}` used {used} bytes of memory, and {limit} are allowed; its process `{worker}` (pid {pid}) was killed{}",
            LastLine(.stderr)
        )]
        OverMemory {
            /// The name of the process.
            worker: Arc<str>,
            /// The pid of the process.
            pid: u32,
            /// The resident memory of the process, in bytes.
            used: u64,
            /// The limit, in bytes.
            limit: u64,
            /// The end of what it wrote to stderr: see [`stderr`](Self::stderr).
            stderr: String,
        }
        /// The task was cancelled, before it began or while it ran.
        #[error("task `{task}` was cancelled")]
        Cancelled {}
        /// The process could not decode the value of the task. It continues.
        #[error("process `{worker}` (pid {pid}) could not decode task `{task}`: {message}")]
        Value {
            /// The name of the process.
            worker: Arc<str>,
            /// The pid of the process.
            pid: u32,
            /// The error in that process.
            message: String,
        }
        /// The task returned, but its output could not be encoded or sent. Its process continues.
        #[error("the output of task `{task}` from process `{worker}` (pid {pid}) was lost: {message}")]
        Output {
            /// The name of the process.
            worker: Arc<str>,
            /// The pid of the process.
            pid: u32,
            /// The error in that process, with the type.
            message: String,
        }
        /// The output arrived, but does not decode in this process.
        #[error("the output of task `{task}` was lost: {cause}")]
        Decode {
            /// The reason.
            cause: DecodeError,
        }
        /// The process ended before the task began in it, and the value cannot be sent again
        /// because it holds a handle that cannot be copied.
        #[error("task `{task}` was lost with a process that ended before the task began")]
        Lost {}
        /// The value does not encode, or the system refuses the memory to send it.
        #[error("task `{task}` cannot be sent to a process: {cause}")]
        Unsendable {
            /// The reason.
            cause: EncodeError,
        }
        /// The pool was shut down or killed before the task ended.
        #[error("task `{task}` was dropped, because its pool was stopped")]
        Stopped {}
        /// The pool gave up.
        #[error("task `{task}` was dropped, because its pool gave up: {cause}")]
        Broken {
            /// The reason.
            cause: Arc<PoolError>,
        }
        /// An earlier call has returned the result of the task.
        #[error("the result of task `{task}` was taken before")]
        Taken {}
    }

    /// Why [`Task::join_timeout`](crate::Task::join_timeout) returned no output.
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
    pub enum TaskTimeoutError adds {
        /// The task has not ended yet.
        #[error("task `{task}` has not ended after {after:?}")]
        Timeout {
            /// The timeout of the call.
            after: Duration,
        }
    }
}

impl TaskTimeoutError {
    /// Returns whether the call timed out: the task has not ended yet.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, TaskTimeoutError::Timeout { .. })
    }
}

flat_errors! {
    /// Why a task was not submitted. [`into_inner`](Self::into_inner) returns the task.
    ///
    /// ```
    /// use std::time::Duration;
    /// use offspring::Pool;
    ///
    /// #[offspring::worker]
    /// fn double(n: u64) -> u64 {
    ///     n * 2
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::new(1)?;
    ///     pool.shutdown(Duration::from_secs(10))?;
    ///     let error = pool.submit(double::new(4)).unwrap_err();
    ///     assert!(error.is_end());
    ///     let _task = error.into_inner(); // for another pool
    ///     Ok(())
    /// }
    /// ```
    pub enum SubmitError<T> {
        /// The pool was shut down.
        #[error("cannot submit: the pool was shut down")]
        Closed(task: T),
        /// The pool gave up.
        #[error("cannot submit: the pool gave up: {1}")]
        Broken(task: T, cause: Arc<PoolError>),
        /// The value does not encode.
        #[error("cannot submit the task: {1}")]
        Encode(task: T, cause: EncodeError),
        /// The worker type is not registered, or two types have the same name.
        #[error("cannot submit the task: {1}")]
        Unknown(task: T, cause: SpawnError),
        /// The system refused memory for the value.
        #[error("cannot submit the task: no memory for its value: {1}")]
        Io(task: T, cause: io::Error),
    }
    ends { Closed, Broken }

    /// Why [`Pool::try_submit`](crate::Pool::try_submit) did not submit a task.
    /// [`into_inner`](Self::into_inner) returns the task.
    ///
    /// ```
    /// use offspring::pool::TrySubmitError;
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
    ///         Err(TrySubmitError::Full(task)) => drop(task), // or keep it for later
    ///         other => panic!("{other:?}"),
    ///     }
    ///     first.cancel();
    ///     assert!(first.join().is_err());
    ///     pool.try_submit(rest::new())?.cancel(); // there is room again
    ///     Ok(())
    /// }
    /// ```
    pub enum TrySubmitError<T> adds {
        /// The pool has [`PoolBuilder::max_unfinished`](crate::PoolBuilder::max_unfinished) tasks
        /// that have not ended.
        #[error("cannot submit: the pool is full")]
        Full => is_full
    }
}

/// The error returned by [`Pool::shutdown`](crate::Pool::shutdown) when it dropped tasks.
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
#[derive(Clone, Error, PartialEq, Eq)]
#[error("the pool dropped {dropped} tasks that had not ended within the grace of {grace:?}")]
pub struct ShutdownError {
    /// How many tasks were dropped. Their handles return [`TaskError::Stopped`].
    pub dropped: u64,
    /// The grace that was passed to the call.
    pub grace: Duration,
}

impl PoolError {
    /// Returns the last kilobyte that a worker wrote to stderr, if the pool gave up because of its
    /// end. Returns `None` if it wrote nothing, and if this process has not read it: see
    /// [`TaskError::stderr`].
    #[must_use]
    pub fn stderr(&self) -> Option<&str> {
        match self {
            PoolError::Ended { stderr, .. } | PoolError::Initializer { stderr, .. } => {
                Some(stderr.as_str()).filter(|text| !text.is_empty())
            }
            PoolError::Spawn { cause, .. } => cause.stderr(),
            _ => None,
        }
    }
}

debug_with_text! {
    [] PoolError { InvalidOption, Spawn, Initializer, Ended, Encode, Closed, Io } stderr
}

debug_is_text! { [] ShutdownError }
