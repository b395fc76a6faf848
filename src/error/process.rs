//! The errors of processes.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::{EncodeError, ExitReason, Protection};

/// The error returned when a process does not start. A failed start leaves no process, no zombie
/// and no file.
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
    /// Another worker type has the same name, and the same place in the source: a macro made both.
    /// Types of one name in different places, as in two versions of a crate, are told apart.
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
    #[error("cannot start the worker: {0}")]
    Encode(EncodeError),
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
        "process `{name}` (pid {pid}) did not become ready: it {reason} (does `main` reach `offspring::init()` before anything that can end it?){}",
        LastLine(.stderr)
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
        LastLine(.stderr)
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
    #[error("process `{name}` (pid {pid}) does not speak offspring's protocol: {message}{}", LastLine(.stderr))]
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
    /// The kernel cannot do what the worker's [`Sandbox`](crate::ProcessBuilder::sandbox) asks for.
    /// The child has ended.
    #[error("process `{name}` (pid {pid}) has no sandbox: it lacks {missing}: {reason}")]
    Sandbox {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// What the kernel lacks.
        missing: Protection,
        /// Why it does.
        reason: String,
    },
    /// The system refused this process a resource that the start needs.
    #[error("could not {act}: {cause}")]
    Io {
        /// The act that failed.
        act: Cow<'static, str>,
        /// The system's error.
        cause: io::Error,
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
        move |cause| SpawnError::Io { act: act.into(), cause }
    }
}

/// Returns the lines of a child's stderr without empty ones and Rust's hint about backtraces.
fn telling_lines(stderr: &str) -> Vec<&str> {
    let said = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: run with `RUST_");
    stderr.lines().filter(said).collect()
}

/// Returns the part of stderr to show beside the reason: none of it for a panic, whose message the
/// reason already contains.
pub(super) fn last_words<'a>(reason: &ExitReason, stderr: &'a str) -> &'a str {
    if matches!(reason, ExitReason::Panicked(_)) { "" } else { stderr }
}

/// The last line of stderr, as the end of an error's `Display` text.
pub(super) struct LastLine<'a>(pub(super) &'a str);

impl fmt::Display for LastLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match telling_lines(self.0).last() {
            Some(line) => write!(f, "; its stderr ends with: {}", line.trim()),
            None => Ok(()),
        }
    }
}

/// The last lines of stderr, as the end of an error's `Debug` text. Empty if there is only one
/// line, which `Display` shows already.
pub(super) struct LastLines<'a>(pub(super) Option<&'a str>);

impl fmt::Display for LastLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES: usize = 8;
        let lines = telling_lines(self.0.unwrap_or_default());
        if lines.len() < 2 {
            return Ok(());
        }
        f.write_str("; the last lines of its stderr:")?;
        lines[lines.len().saturating_sub(LINES)..]
            .iter()
            .try_for_each(|line| write!(f, "\n    {line}"))
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
    #[error("process `{name}` (pid {pid}) {reason}{}", LastLine(last_words(.reason, .stderr)))]
    Ended {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
        /// The end of what it wrote to stderr: see [`stderr`](Self::stderr).
        stderr: String,
    },
    /// `run` returned, but its output does not encode or decode, or could not be sent, received or
    /// copied. If this process had too few descriptors to receive it, a later call returns it.
    #[error("there is no output of process `{name}` (pid {pid}): {message}")]
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

    /// Returns the last kilobyte that the process wrote to stderr, such as the message of a failed
    /// allocation or of a C library. Returns `None` if it wrote nothing, or if this process did not
    /// read its stderr. This process reads it if it is [prefixed](crate::Stdio::prefixed), or piped
    /// and collected by [`join_with_output`](crate::Process::join_with_output); an inherited stderr
    /// goes straight to the terminal.
    #[must_use]
    pub fn stderr(&self) -> Option<&str> {
        match self {
            JoinError::Ended { stderr, .. } => {
                Some(stderr.as_str()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    }

    /// Returns what stderr adds to the reason.
    pub(super) fn last_words(&self) -> Option<&str> {
        match self {
            JoinError::Ended { reason, stderr, .. } => Some(last_words(reason, stderr)),
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
    #[error("process `{name}` (pid {pid}) is still running after {after:?}")]
    Timeout {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The timeout.
        after: Duration,
    },
    /// The process ended without returning from `run`.
    #[error("process `{name}` (pid {pid}) {reason}{}", LastLine(last_words(.reason, .stderr)))]
    Ended {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
        /// The end of what it wrote to stderr: see [`stderr`](Self::stderr).
        stderr: String,
    },
    /// `run` returned, but its output does not encode or decode, or could not be sent, received or
    /// copied. If this process had too few descriptors to receive it, a later call returns it.
    #[error("there is no output of process `{name}` (pid {pid}): {message}")]
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

    /// Returns the last kilobyte that the process wrote to stderr, such as the message of a failed
    /// allocation or of a C library. Returns `None` if it wrote nothing, or if this process did not
    /// read its stderr. This process reads it if it is [prefixed](crate::Stdio::prefixed), or piped
    /// and collected by [`join_with_output`](crate::Process::join_with_output); an inherited stderr
    /// goes straight to the terminal.
    #[must_use]
    pub fn stderr(&self) -> Option<&str> {
        match self {
            JoinTimeoutError::Ended { stderr, .. } => {
                Some(stderr.as_str()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    }

    /// Returns what stderr adds to the reason.
    pub(super) fn last_words(&self) -> Option<&str> {
        match self {
            JoinTimeoutError::Ended { reason, stderr, .. } => Some(last_words(reason, stderr)),
            _ => None,
        }
    }
}

impl From<JoinError> for JoinTimeoutError {
    fn from(error: JoinError) -> JoinTimeoutError {
        match error {
            JoinError::Ended { name, pid, reason, stderr } => {
                JoinTimeoutError::Ended { name, pid, reason, stderr }
            }
            JoinError::Output { name, pid, message } => {
                JoinTimeoutError::Output { name, pid, message }
            }
            JoinError::Taken { name, pid } => JoinTimeoutError::Taken { name, pid },
        }
    }
}

debug_with_text! {
    [] SpawnError { NotInitialized, NotRegistered, DuplicateWorker, InvalidOption, TooDeep, Exiting, GroupEnding, Encode, Decode, BinaryMismatch, Died, Timeout, Protocol, Failed, Sandbox, Io } stderr
}
debug_with_text! {
    [] JoinError { Ended, Output, Taken } last_words
}
debug_with_text! {
    [] JoinTimeoutError { Timeout, Ended, Output, Taken } last_words
}
