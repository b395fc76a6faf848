//! The choice between a process and a thread.

use std::fmt;

use crate::error::SpawnError;

/// The variable that chooses the backend for a whole program.
const VARIABLE: &str = "OFFSPRING_BACKEND";

/// Where a worker runs: in a process of its own, or on a thread of this one.
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::process::Backend;
///
/// #[offspring::worker]
/// fn pid() -> u32 {
///     std::process::id()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let worker = ProcessBuilder::new().backend(Backend::Inline).spawn(pid::new())?;
///     assert_eq!(worker.backend(), Backend::Inline);
///     assert_eq!(worker.backend().to_string(), "inline");
///     assert_eq!(worker.join()?, std::process::id());
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// A process of its own.
    #[default]
    Process,
    /// A thread of this process: for debuggers, profilers and other tools that follow one process
    /// only.
    ///
    /// Values are encoded and decoded as for a process, and names, joins, panics and
    /// [`current`](crate::current) on the worker's thread behave the same. The differences:
    ///
    /// - A thread cannot be killed: [`terminate`](crate::Process::terminate),
    ///   [`kill`](crate::Process::kill) and their `_tree` forms do nothing,
    ///   [`request_stop`](crate::Process::request_stop) only asks, and
    ///   [`stop`](crate::Process::stop) waits until the worker returns.
    /// - Environment, arguments, directory, stdin, stdout, stderr and limits are the program's own.
    ///   The builder's options for them are ignored, and `take_stdout` returns `None`.
    /// - A crash, an exit, or a panic under `panic = "abort"` ends the whole program.
    /// - A [`Pool`](crate::Pool) ignores its limits of time and memory, and says so once in the log.
    ///   A [cancelled](crate::pool::Task::cancel) task that has begun runs to its end, and so does
    ///   the task of each worker when the pool is [killed](crate::Pool::kill).
    /// - A queue does not notice the end of an inline worker, whose handles belong to the parent's
    ///   process.
    Inline,
}

impl Backend {
    /// Returns the backend for a builder that chooses none.
    pub(crate) fn of_program() -> Result<Backend, SpawnError> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Backend::Process),
            Some(value) if value.is_empty() || value == "process" => Ok(Backend::Process),
            Some(value) if value == "inline" => Ok(Backend::Inline),
            Some(value) => Err(SpawnError::InvalidOption {
                option: "the environment variable `OFFSPRING_BACKEND`",
                problem: format!("is {value:?}: use `process` or `inline`"),
            }),
        }
    }
}

/// Shows the value of `OFFSPRING_BACKEND` that chooses it: `process` or `inline`.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Backend::Process => "process",
            Backend::Inline => "inline",
        })
    }
}
