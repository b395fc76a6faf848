//! The errors of processes, and how processes end.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::EncodeError;

/// The error returned when a process does not start. A failed start leaves no process, no zombie
/// and no file behind.
///
/// ```
/// use offspring::{ProcessBuilder, SpawnError};
///
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let nowhere = ProcessBuilder::new().current_dir("/there/is/no/such/place").spawn(rest::new());
///     match nowhere {
///         Err(SpawnError::Io { act, .. }) => println!("could not {act}"),
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// This process never called [`init`](crate::init) on its main thread, so its children would run
    /// `main` again.
    #[error(
        "this process never ran `offspring::init()` on its main thread: put `#[offspring::main]` on `fn main`, or call `offspring::init();` as \
         its first line (in a test: `#[offspring::test]` in place of `#[test]`; where `main` is not yours: `offspring::init_before_main!();`)"
    )]
    NotInitialized,
    /// The worker's type is not registered.
    #[error(
        "worker `{worker}` is not registered: add `offspring::register!({worker});` beside the type"
    )]
    NotRegistered {
        /// The type, or its name if it has one.
        worker: &'static str,
    },
    /// Two worker types have the same name.
    #[error(
        "two workers are called `{name}` ({first} and {second}): give one another name with `#[offspring(name = \"...\")]` beside its derive"
    )]
    DuplicateWorker {
        /// Their name.
        name: &'static str,
        /// Source location of one.
        first: String,
        /// Source location of the other.
        second: String,
    },
    /// An option of the [`ProcessBuilder`](crate::ProcessBuilder) has an invalid value.
    #[error("{option} {problem}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// The mistake in its value, and the valid values.
        problem: String,
    },
    /// Processes are nested too deep. The default limit is 16, the last protection against a fork
    /// bomb.
    #[error(
        "processes are nested {depth} deep: if that is intended, raise the limit with the environment variable `OFFSPRING_MAX_DEPTH`"
    )]
    TooDeep {
        /// The depth of this process (0 for the program itself).
        depth: u32,
    },
    /// The program is ending, and starts no more processes.
    #[error("the program is ending and starts no more processes")]
    Exiting,
    /// The [`ProcessGroup`](crate::ProcessGroup) is ending, and starts no more processes: one of
    /// them has failed, or the group was stopped.
    #[error("the group is ending and starts no more processes (`ProcessGroup::join` says why)")]
    GroupEnding,
    /// The worker's value does not encode.
    #[error("could not encode the worker")]
    Encode(#[source] EncodeError),
    /// The child could not decode the worker's value.
    #[error("process `{name}` (pid {pid}) could not decode its worker: {message}")]
    Decode {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The child's error.
        message: String,
    },
    /// The program that was started is not this one.
    #[error("process `{name}` (pid {pid}) is not this program: {message}")]
    BinaryMismatch {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The difference.
        message: String,
    },
    /// The child ended before its worker ran.
    #[error(
        "process `{name}` (pid {pid}) ended before it was ready: {reason} (does `main` reach `offspring::init()` before anything that can end it?){}",
        Tail(.stderr)
    )]
    Died {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// The worker did not run in time. The child was killed.
    #[error(
        "process `{name}` (pid {pid}) was not ready within {deadline:?} and was killed (does `main` call `offspring::init()` first? \
         is `ProcessBuilder::start_timeout` long enough?){}",
        Tail(.stderr)
    )]
    Timeout {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The timeout.
        deadline: Duration,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// The child sent something that is not part of the protocol. It was killed.
    #[error("process `{name}` (pid {pid}) does not speak offspring's protocol: {message}{}", Tail(.stderr))]
    Protocol {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The mistake.
        message: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// The system refused the child a resource that its start needs. The child has ended.
    #[error("process `{name}` (pid {pid}) could not be set up: {message}")]
    Failed {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The child's error.
        message: String,
    },
    /// The system refused this process a resource that the start needs.
    #[error("could not {act}")]
    Io {
        /// The act that failed.
        act: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl SpawnError {
    /// Returns whether the process was not ready in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, SpawnError::Timeout { .. })
    }

    /// Returns the last 4 KiB that the child wrote to stderr before its worker ran. Returns `None`
    /// if it wrote nothing, and for errors other than `Died`, `Timeout` and `Protocol`. The text
    /// went to the child's stderr as well.
    #[must_use]
    pub fn stderr(&self) -> Option<&str> {
        match self {
            SpawnError::Died { stderr, .. }
            | SpawnError::Timeout { stderr, .. }
            | SpawnError::Protocol { stderr, .. } => {
                Some(stderr.as_str()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    }

    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> SpawnError {
        move |source| SpawnError::Io { act, source }
    }
}

/// The last lines of stderr, as the end of an error's text.
struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES: usize = 8;
        let lines: Vec<&str> = self.0.trim_end().lines().collect();
        if !lines.is_empty() {
            f.write_str("; its stderr ends with:")?;
        }
        lines[lines.len().saturating_sub(LINES)..]
            .iter()
            .try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// How a process ended.
///
/// ```
/// use offspring::ExitReason;
///
/// #[offspring::worker]
/// fn leave(code: i32) {
///     std::process::exit(code);
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let child = leave::spawn(3)?;
///     assert!(child.join().is_err());
///     assert_eq!(child.exit_reason(), Some(ExitReason::Exited(3)));
///     assert_eq!(ExitReason::Exited(3).to_string(), "exited with code 3");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExitReason {
    /// `run` returned and its output arrived.
    Returned,
    /// The process exited with this code, without returning from `run`.
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The number of the signal.
        signal: i32,
        /// Whether the system wrote a core dump.
        core_dumped: bool,
    },
    /// `run` panicked.
    Panicked(Box<PanicReport>),
    /// This program ended it.
    Killed {
        /// The call that did.
        cause: KillCause,
        /// The signal that ended it: SIGTERM (15) or SIGKILL (9).
        signal: i32,
    },
    /// The exit status is unknown: host code took it, with `waitpid(-1)` or by ignoring SIGCHLD.
    Unknown,
}

impl ExitReason {
    /// Returns whether `run` returned.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, ExitReason::Returned)
    }

    /// Returns the exit code, like Python's `exitcode`: 0 after a return, the code of an exit, 101
    /// for a panic, `-N` for signal N, and `None` if it is unknown.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            ExitReason::Returned => Some(0),
            ExitReason::Exited(code) => Some(*code),
            ExitReason::Signaled { signal, .. } => Some(-signal),
            ExitReason::Panicked(_) => Some(101),
            ExitReason::Killed { signal, .. } => Some(-signal),
            ExitReason::Unknown => None,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Returned => f.write_str("returned"),
            ExitReason::Exited(code) => write!(f, "exited with code {code}"),
            ExitReason::Signaled { signal, core_dumped } => {
                write!(f, "ended by signal {signal}")?;
                if let Some(name) = signal_name(*signal) {
                    write!(f, " ({name})")?;
                }
                if *signal == 9 {
                    f.write_str(" from another process, or from the system for lack of memory")?;
                }
                if *core_dumped {
                    f.write_str(", core dumped")?;
                }
                Ok(())
            }
            ExitReason::Panicked(report) => write!(f, "panicked at {report}"),
            ExitReason::Killed { cause, signal } => {
                let name = signal_name(*signal).unwrap_or("a signal");
                write!(f, "ended by this program with {name} ({cause})")
            }
            ExitReason::Unknown => f.write_str("ended, but other code took its exit status"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// The call with which this program ended one of its processes.
///
/// ```
/// use offspring::ExitReason;
/// use offspring::process::KillCause;
///
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let child = rest::spawn()?;
///     child.kill();
///     let error = child.join().unwrap_err();
///     assert!(matches!(error.reason(), Some(ExitReason::Killed { cause: KillCause::Kill, signal: 9 })));
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KillCause {
    /// [`Process::terminate`](crate::Process::terminate) was called.
    Terminate,
    /// [`Process::kill`](crate::Process::kill) was called.
    Kill,
    /// [`Process::stop`](crate::Process::stop) or [`request_stop`](crate::Process::request_stop)
    /// was called, and the process still ran after the grace.
    Stop,
    /// The program ended, and the process was its daemon.
    Exit,
}

impl fmt::Display for KillCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KillCause::Terminate => "terminate",
            KillCause::Kill => "kill",
            KillCause::Stop => "stop, after its grace",
            KillCause::Exit => "a daemon, at the end of the program",
        })
    }
}

/// A panic of another process, as text.
///
/// ```
/// use offspring::ExitReason;
///
/// #[offspring::worker]
/// fn fail() {
///     panic!("no more {}", 7);
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let error = fail::spawn()?.join().unwrap_err();
///     let Some(ExitReason::Panicked(report)) = error.reason() else { panic!("{error}") };
///     assert_eq!(report.message, "no more 7");
///     assert!(report.location.is_some());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PanicReport {
    /// The message of the panic, cut at 8 KiB.
    pub message: String,
    /// `file:line:column` of the panic, if it is known.
    pub location: Option<String>,
    /// The name of the thread that panicked, if it has one.
    pub thread: Option<String>,
    /// The backtrace if `RUST_BACKTRACE` is set, cut at 16 KiB.
    pub backtrace: Option<String>,
}

impl PanicReport {
    pub(crate) fn new(
        message: String,
        location: Option<String>,
        thread: Option<String>,
        backtrace: Option<String>,
    ) -> Self {
        PanicReport { message, location, thread, backtrace }
    }
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.location.as_deref().unwrap_or("an unknown location");
        write!(f, "{location}: {}", self.message)
    }
}

/// The error returned by [`Process::join`](crate::Process::join): why there is no output.
///
/// ```
/// use offspring::JoinError;
///
/// #[offspring::worker]
/// fn rest() {
///     std::thread::sleep(std::time::Duration::from_secs(1000));
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let child = rest::spawn()?;
///     child.terminate();
///     match child.join() {
///         Err(JoinError::Ended { pid, reason, .. }) => assert_eq!((pid, reason.code()), (child.pid(), Some(-15))),
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The process ended without returning from `run`.
    #[error("process `{name}` (pid {pid}) {reason}")]
    Ended {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
    },
    /// `run` returned, but its output does not encode or decode, or could not be sent or copied.
    #[error("the output of process `{name}` (pid {pid}) was lost: {message}")]
    Output {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// Why there is no output.
        message: String,
    },
    /// The output contains something that exists only once, and an earlier `join` took it.
    #[error("the output of process `{name}` (pid {pid}) was taken by an earlier join")]
    Taken {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
    },
}

impl JoinError {
    /// Returns how the process ended, if that is why there is no output.
    #[must_use]
    pub fn reason(&self) -> Option<&ExitReason> {
        match self {
            JoinError::Ended { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// The error returned by [`Process::join_timeout`](crate::Process::join_timeout).
///
/// It has the variants of [`JoinError`], and [`Timeout`](JoinTimeoutError::Timeout).
///
/// ```
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let child = rest::spawn()?;
///     let error = child.join_timeout(std::time::Duration::from_millis(1)).unwrap_err();
///     assert!(error.is_timeout());
///     child.kill();
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum JoinTimeoutError {
    /// The process still runs.
    #[error("process `{name}` (pid {pid}) still runs after {after:?}")]
    Timeout {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The timeout.
        after: Duration,
    },
    /// The process ended without returning from `run`.
    #[error("process `{name}` (pid {pid}) {reason}")]
    Ended {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
    },
    /// `run` returned, but its output does not encode or decode, or could not be sent or copied.
    #[error("the output of process `{name}` (pid {pid}) was lost: {message}")]
    Output {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// Why there is no output.
        message: String,
    },
    /// The output contains something that exists only once, and an earlier `join` took it.
    #[error("the output of process `{name}` (pid {pid}) was taken by an earlier join")]
    Taken {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
    },
}

impl JoinTimeoutError {
    /// Returns whether the process still runs.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, JoinTimeoutError::Timeout { .. })
    }

    /// Returns how the process ended, if that is why there is no output.
    #[must_use]
    pub fn reason(&self) -> Option<&ExitReason> {
        match self {
            JoinTimeoutError::Ended { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

impl From<JoinError> for JoinTimeoutError {
    fn from(error: JoinError) -> JoinTimeoutError {
        match error {
            JoinError::Ended { name, pid, reason } => JoinTimeoutError::Ended { name, pid, reason },
            JoinError::Output { name, pid, message } => {
                JoinTimeoutError::Output { name, pid, message }
            }
            JoinError::Taken { name, pid } => JoinTimeoutError::Taken { name, pid },
        }
    }
}

debug_with_text! {
    SpawnError { NotInitialized, NotRegistered, DuplicateWorker, InvalidOption, TooDeep, Exiting, GroupEnding, Encode, Decode, BinaryMismatch, Died, Timeout, Protocol, Failed, Io }
    JoinError { Ended, Output, Taken }
    JoinTimeoutError { Timeout, Ended, Output, Taken }
}
