//! How processes end.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::printable;

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
        /// `true` if the system wrote a core dump.
        core_dumped: bool,
    },
    /// It made a system call that its sandbox forbids, and
    /// [`kill_on_violation`](crate::ProcessBuilder::sandbox) was chosen.
    Forbidden {
        /// The name of the call, such as `openat`, or its number. `None` if it was not reported:
        /// by a thread that blocks all signals, as C libraries do while they start a program. A
        /// hostile worker can report another call.
        call: Option<String>,
    },
    /// `run` panicked.
    Panicked(Box<PanicReport>),
    /// This program ended it.
    Killed {
        /// The call that ended it.
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
            ExitReason::Forbidden { .. } => Some(-31),
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
                write!(f, "was killed by signal {signal}")?;
                if let Some(name) = signal_name(*signal) {
                    write!(f, " ({name})")?;
                }
                if *signal == 9 {
                    f.write_str(
                        ", sent by another process or by the kernel's out-of-memory killer",
                    )?;
                }
                if *core_dumped {
                    f.write_str(", core dumped")?;
                }
                Ok(())
            }
            ExitReason::Forbidden { call: Some(call) } => {
                write!(f, "made the system call {call}, which its sandbox forbids")
            }
            ExitReason::Forbidden { call: None } => {
                f.write_str("made a system call that its sandbox forbids")
            }
            ExitReason::Panicked(report) => write!(f, "panicked at {report}"),
            ExitReason::Killed { cause, signal } => {
                let name = signal_name(*signal).unwrap_or("a signal");
                write!(f, "was ended by this program with {name} ({cause})")
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
            KillCause::Terminate => "`terminate`",
            KillCause::Kill => "`kill`",
            KillCause::Stop => "`stop`, after its grace",
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
    /// The message of the panic, cut at 8 KiB. Control characters other than newlines and tabs are
    /// escaped, as `Debug` does it.
    #[serde(deserialize_with = "printable::deserialize_text")]
    pub message: String,
    /// `file:line:column` of the panic, if it is known.
    #[serde(deserialize_with = "printable::deserialize_optional")]
    pub location: Option<String>,
    /// The name of the thread that panicked, if it has one.
    #[serde(deserialize_with = "printable::deserialize_optional")]
    pub thread: Option<String>,
    /// The backtrace if `RUST_BACKTRACE` is set, cut at 16 KiB.
    #[serde(deserialize_with = "printable::deserialize_optional")]
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
