//! Every public error, and why a process ended.
//!
//! One enum answers one question of a caller: why did it not start (`SpawnError`), why is there no
//! result (`JoinError`), why was this item not taken (`PutError`), why is there none (`GetError`).
//! The blocking form has the plain enum; the `try_` and `_timeout` forms add the one case of their own.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A value could not be turned into bytes.
#[derive(Clone, Debug, Error)]
#[error("`{type_name}` does not encode: {message}")]
pub struct EncodeError {
    type_name: &'static str,
    message: String,
}

impl EncodeError {
    pub(crate) fn new<T: ?Sized>(message: impl Into<String>) -> Self {
        EncodeError {
            type_name: std::any::type_name::<T>(),
            message: message.into(),
        }
    }
}

/// Bytes that arrived are not a value of the expected type.
#[derive(Clone, Debug, Error)]
#[error("received bytes are no `{type_name}`: {message}")]
pub struct DecodeError {
    type_name: &'static str,
    message: String,
}

impl DecodeError {
    pub(crate) fn new<T: ?Sized>(message: impl Into<String>) -> Self {
        DecodeError {
            type_name: std::any::type_name::<T>(),
            message: message.into(),
        }
    }
}

/// Why a process was not started. Nothing of it is left behind: no child, no zombie, no file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// [`init`](crate::init) did not run in this process, so a child of it would run `main` again.
    #[error(
        "this process never ran `offspring::init()`: put `#[offspring::main]` on `fn main`, or call `offspring::init();` as its first line \
         (in a test: `#[offspring::test]` in place of `#[test]`)"
    )]
    NotInitialized,
    /// The worker's type has no entry in the registry.
    #[error("worker `{worker}` is not registered: add `offspring::register!({worker});` beside the type")]
    NotRegistered {
        /// The type, or the name given to it.
        worker: &'static str,
    },
    /// Two different worker types carry one name.
    #[error(
        "two workers are called `{name}` ({first} and {second}): give one another name with `#[offspring(name = \"...\")]` beside its derive"
    )]
    DuplicateWorker {
        /// The name that both have.
        name: &'static str,
        /// Source position of one.
        first: String,
        /// Source position of the other.
        second: String,
    },
    /// An option of the [`Builder`](crate::Builder) cannot be used.
    #[error("{option} {problem}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with its value, and what is right.
        problem: String,
    },
    /// Processes that start processes reached the depth limit: the last fuse against a fork bomb.
    #[error("processes are nested {depth} deep: raise the limit with the environment variable `OFFSPRING_MAX_DEPTH` if that is meant")]
    TooDeep {
        /// How deep this process itself is (the program is 0).
        depth: u32,
    },
    /// The program is ending and starts nothing more.
    #[error("the program is ending and starts no more processes")]
    Exiting,
    /// The worker's value cannot cross to another process.
    #[error("worker cannot be sent to its process")]
    Encode(#[source] EncodeError),
    /// The child could not rebuild the worker's value.
    #[error("process `{name}` (pid {pid}) could not rebuild its worker: {message}")]
    Decode {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// What the child said.
        message: String,
    },
    /// The started program is not this program.
    #[error("process `{name}` (pid {pid}) is not this program: {message}")]
    BinaryMismatch {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// What differs.
        message: String,
    },
    /// The child ended before it was ready.
    #[error(
        "process `{name}` (pid {pid}) ended before it was ready: {reason} (does `main` reach `offspring::init()` before anything that can end it?)"
    )]
    Died {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
    },
    /// The child was not ready in time; it was killed.
    #[error(
        "process `{name}` (pid {pid}) was not ready within {deadline:?} and was killed (does `main` call `offspring::init()` first? \
         is `Builder::start_timeout` long enough?)"
    )]
    Timeout {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// The deadline that passed.
        deadline: Duration,
    },
    /// The child answered what no child of ours answers; it was killed.
    #[error("process `{name}` (pid {pid}) does not speak offspring's protocol: {message}")]
    Protocol {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// What was wrong.
        message: String,
    },
    /// The system refused something that a start needs.
    #[error("could not {act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl SpawnError {
    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> SpawnError {
        move |source| SpawnError::Io { act, source }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// `run` returned, and its output arrived.
    Returned,
    /// The process ended itself with this code, without returning from `run`.
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the system wrote a core dump.
        core_dumped: bool,
    },
    /// `run` panicked.
    Panicked(PanicReport),
    /// This program ended it.
    Killed(KillCause),
    /// Somebody else took the exit status (host code that calls `waitpid(-1)` or ignores SIGCHLD).
    Unknown,
}

impl ExitReason {
    /// Whether `run` returned.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, ExitReason::Returned)
    }

    /// The exit code as Python's `exitcode` gives it: 0 after a return, the code of an exit, 101 for
    /// a panic, `-N` for signal N, `None` if nobody knows.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            ExitReason::Returned => Some(0),
            ExitReason::Exited(code) => Some(*code),
            ExitReason::Signaled { signal, .. } => Some(-signal),
            ExitReason::Panicked(_) => Some(101),
            ExitReason::Killed(cause) => Some(-cause.signal()),
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
                    f.write_str(", not sent by this program: out of memory?")?;
                }
                if *core_dumped {
                    f.write_str(", core dumped")?;
                }
                Ok(())
            }
            ExitReason::Panicked(report) => write!(f, "panicked at {report}"),
            ExitReason::Killed(cause) => write!(f, "ended by this program ({cause})"),
            ExitReason::Unknown => f.write_str("ended, but somebody else took its exit status"),
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

/// Why this program ended a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KillCause {
    /// [`Process::terminate`](crate::Process::terminate) was called.
    Terminate,
    /// [`Process::kill`](crate::Process::kill) was called.
    Kill,
    /// The program ended, and the process was a daemon.
    Exit,
}

impl KillCause {
    fn signal(self) -> i32 {
        match self {
            KillCause::Terminate | KillCause::Exit => 15,
            KillCause::Kill => 9,
        }
    }
}

impl fmt::Display for KillCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KillCause::Terminate => "terminate",
            KillCause::Kill => "kill",
            KillCause::Exit => "a daemon, at the end of the program",
        })
    }
}

/// A panic of another process, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PanicReport {
    /// The panic's message; long ones are cut at 8 KiB.
    pub message: String,
    /// `file:line:column` of the panic.
    pub location: Option<String>,
    /// Name of the thread that panicked.
    pub thread: Option<String>,
    /// The backtrace, if `RUST_BACKTRACE` asks for one; long ones are cut at 16 KiB.
    pub backtrace: Option<String>,
}

impl PanicReport {
    pub(crate) fn new(
        message: String,
        location: Option<String>,
        thread: Option<String>,
        backtrace: Option<String>,
    ) -> Self {
        PanicReport {
            message,
            location,
            thread,
            backtrace,
        }
    }
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.location.as_deref().unwrap_or("an unknown place");
        write!(f, "{location}: {}", self.message)
    }
}

/// Why there is no output of a process.
#[derive(Clone, Debug, Error)]
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
    /// `run` returned, but its output did not survive the way.
    #[error("the output of process `{name}` (pid {pid}) was lost: {message}")]
    Output {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// Which type, and what is wrong with it.
        message: String,
    },
    /// The output holds something that exists only once, and an earlier `join` took it.
    #[error("the output of process `{name}` (pid {pid}) was taken by an earlier join")]
    Taken {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
    },
}

impl JoinError {
    /// How the process ended, if that is why there is no output.
    #[must_use]
    pub fn reason(&self) -> Option<&ExitReason> {
        match self {
            JoinError::Ended { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// Why [`Process::join_timeout`](crate::Process::join_timeout) gave no output.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum JoinTimeoutError {
    /// The process still runs.
    #[error("process `{name}` (pid {pid}) still runs after {after:?}")]
    Timeout {
        /// Name of the process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How long was waited.
        after: Duration,
    },
    /// It ended, without an output.
    #[error(transparent)]
    Failed(#[from] JoinError),
}

impl JoinTimeoutError {
    /// Whether the process still runs.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, JoinTimeoutError::Timeout { .. })
    }
}

/// A shared object could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A capacity of 0 holds nothing.
    #[error("a capacity of 0 holds nothing: use at least 1, or the unbounded form")]
    ZeroCapacity,
    /// The system refused something that it needs.
    #[error("could not {act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl CreateError {
    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> CreateError {
        move |source| CreateError::Io { act, source }
    }
}

/// Why a queue did not take an item. The item comes back: see [`PutError::into_inner`].
#[derive(Error)]
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue was closed.
    #[error("putting into a closed queue")]
    Closed(T),
    /// The process that made the queue has ended, and the queue with it.
    #[error("putting into a queue whose owner process has ended")]
    Disconnected(T),
    /// The item does not encode.
    #[error("putting an item that does not encode")]
    Encode(T, #[source] EncodeError),
    /// The handle cannot be used in this process.
    #[error("putting through a handle that cannot be used here")]
    Handle(T, #[source] HandleError),
}

impl<T> PutError<T> {
    /// The item that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Closed(item)
            | PutError::Disconnected(item)
            | PutError::Encode(item, _)
            | PutError::Handle(item, _) => item,
        }
    }
}

/// Why `try_put` did not take an item.
#[derive(Error)]
#[non_exhaustive]
pub enum TryPutError<T> {
    /// The queue holds as many items as it may.
    #[error("putting into a full queue")]
    Full(T),
    /// It takes none at all.
    #[error(transparent)]
    Failed(#[from] PutError<T>),
}

impl<T> TryPutError<T> {
    /// The item that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            TryPutError::Full(item) => item,
            TryPutError::Failed(error) => error.into_inner(),
        }
    }

    /// Whether the queue was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, TryPutError::Full(_))
    }
}

/// Why `put_timeout` did not take an item.
#[derive(Error)]
#[non_exhaustive]
pub enum PutTimeoutError<T> {
    /// The queue stayed full.
    #[error("timed out putting into a full queue")]
    Timeout(T),
    /// It takes none at all.
    #[error(transparent)]
    Failed(#[from] PutError<T>),
}

impl<T> PutTimeoutError<T> {
    /// The item that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            PutTimeoutError::Timeout(item) => item,
            PutTimeoutError::Failed(error) => error.into_inner(),
        }
    }

    /// Whether the queue stayed full.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, PutTimeoutError::Timeout(_))
    }
}

/// Why a queue gave no item.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum GetError {
    /// The queue is at its end: closed and drained, or nobody is left who could put.
    #[error("getting from a queue that is closed and drained")]
    Closed,
    /// The process that made the queue has ended, and the queue with it.
    #[error("getting from a queue whose owner process has ended")]
    Disconnected,
    /// An item came that is none of the expected type. It counts as taken; the next one is not touched.
    #[error("getting an item that does not decode")]
    Decode(#[source] DecodeError),
    /// The handle cannot be used in this process.
    #[error("getting through a handle that cannot be used here")]
    Handle(#[source] HandleError),
}

/// Why `try_get` gave no item.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TryGetError {
    /// The queue holds none now.
    #[error("getting from an empty queue")]
    Empty,
    /// It gives none at all.
    #[error(transparent)]
    Failed(#[from] GetError),
}

impl TryGetError {
    /// Whether the queue was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, TryGetError::Empty)
    }
}

/// Why `get_timeout` gave no item.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum GetTimeoutError {
    /// The queue stayed empty.
    #[error("timed out getting from an empty queue")]
    Timeout,
    /// It gives none at all.
    #[error(transparent)]
    Failed(#[from] GetError),
}

impl GetTimeoutError {
    /// Whether the queue stayed empty.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, GetTimeoutError::Timeout)
    }
}

/// Why `JoinableQueue::join` cannot tell that all items are done.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum QueueJoinError {
    /// The process that made the queue has ended, and the queue with it.
    #[error("joining a queue whose owner process has ended")]
    Disconnected,
    /// Items are unfinished, and nobody is left who could finish them.
    #[error("joining a queue with {unfinished} unfinished items and nobody left to finish them")]
    Abandoned {
        /// How many items are not done.
        unfinished: usize,
    },
    /// The handle cannot be used in this process.
    #[error("joining through a handle that cannot be used here")]
    Handle(#[source] HandleError),
}

/// Why `JoinableQueue::join_timeout` cannot tell that all items are done.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum QueueJoinTimeoutError {
    /// Items are still unfinished.
    #[error("timed out joining a queue with unfinished items")]
    Timeout,
    /// They will not be finished.
    #[error(transparent)]
    Failed(#[from] QueueJoinError),
}

impl QueueJoinTimeoutError {
    /// Whether items are still unfinished.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, QueueJoinTimeoutError::Timeout)
    }
}

/// Why `JoinableQueue::task_done` changed nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// This process holds no item of the queue that is not done.
    #[error("task_done() called too many times: this process took no item that is not done already")]
    TooMany,
    /// The process that made the queue has ended, and the queue with it.
    #[error("task_done() on a queue whose owner process has ended")]
    Disconnected,
}

/// A handle cannot be used in this process.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The owner refused it.
    #[error("the owner process refused the handle: {0}")]
    Refused(String),
    /// The system refused what it needs.
    #[error("could not {act}: {message}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The system's answer.
        message: String,
    },
}

/// Why a message was not sent. It comes back: see [`SendError::into_inner`].
#[derive(Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The other end is gone.
    #[error("sending to a receiver that is gone")]
    Disconnected(T),
    /// The message does not encode.
    #[error("sending a message that does not encode")]
    Encode(T, #[source] EncodeError),
    /// The end was moved to another process.
    #[error("sending through an end that was moved to another process")]
    Moved(T),
    /// The system refused.
    #[error("could not send the message")]
    Io(T, #[source] io::Error),
}

impl<T> SendError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Disconnected(message)
            | SendError::Encode(message, _)
            | SendError::Moved(message)
            | SendError::Io(message, _) => message,
        }
    }
}

/// Why `send_timeout` did not send a message.
#[derive(Error)]
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// There was no room in time.
    #[error("timed out sending to a receiver that does not keep up")]
    Timeout(T),
    /// It cannot be sent at all.
    #[error(transparent)]
    Failed(#[from] SendError<T>),
}

impl<T> SendTimeoutError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::Timeout(message) => message,
            SendTimeoutError::Failed(error) => error.into_inner(),
        }
    }

    /// Whether there was no room in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, SendTimeoutError::Timeout(_))
    }
}

/// Why no message was received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Every other end is gone, and all that was sent has been received.
    #[error("receiving from senders that are gone")]
    Disconnected,
    /// A message came that is none of the expected type. It is taken; the next one is not touched.
    #[error("receiving a message that does not decode")]
    Decode(#[source] DecodeError),
    /// The end was moved to another process.
    #[error("receiving through an end that was moved to another process")]
    Moved,
    /// The system refused.
    #[error("could not receive a message")]
    Io(#[source] io::Error),
}

/// Why `try_recv` gave no message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None is there now.
    #[error("receiving, but no message is there")]
    Empty,
    /// None will come, or this one was bad.
    #[error(transparent)]
    Failed(#[from] RecvError),
}

impl TryRecvError {
    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, TryRecvError::Empty)
    }
}

/// Why `recv_timeout` gave no message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// None came in time.
    #[error("timed out receiving a message")]
    Timeout,
    /// None will come, or this one was bad.
    #[error(transparent)]
    Failed(#[from] RecvError),
}

impl RecvTimeoutError {
    /// Whether none came in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, RecvTimeoutError::Timeout)
    }
}

/// `Debug` by hand, so that errors which carry an item back do not ask `T: Debug` of users who `unwrap`.
macro_rules! debug_without_item {
    ($($error:ident { $($variant:ident $(+ $cause:ident)?),+ })+) => {$(
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($error::$variant(_, $($cause)?) => f.debug_tuple(stringify!($variant)).field(&"..")$(.field($cause))?.finish(),)+
                }
            }
        }
    )+};
}

debug_without_item! {
    PutError { Closed, Disconnected, Encode + cause, Handle + cause }
    SendError { Disconnected, Encode + cause, Moved, Io + cause }
}

/// The same for the forms that add one case to another error.
macro_rules! debug_without_item_around {
    ($($error:ident { $own:ident })+) => {$(
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $error::$own(_) => f.debug_tuple(stringify!($own)).field(&"..").finish(),
                    $error::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
                }
            }
        }
    )+};
}

debug_without_item_around! {
    TryPutError { Full }
    PutTimeoutError { Timeout }
    SendTimeoutError { Timeout }
}
