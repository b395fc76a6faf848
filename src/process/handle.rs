//! The handle of a child process.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{ExitReason, JoinError, JoinTimeoutError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::reactor::EventSource;
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::ipc::wire::Failure;
use crate::process::backend::Backend;
use crate::process::parent::exit_report::StoredOutput;
use crate::process::parent::record::{ChildRecord, State};
#[cfg(feature = "sandbox")]
use crate::process::sandbox::AppliedSandbox;
use crate::process::spawn_hook;
use crate::process::stdio::ParentPipes;

/// A running child as its parent holds it, whatever the type of its output.
pub(super) type StartedChild = (Arc<ChildRecord>, ParentPipes);

/// A child process whose worker returns `T`.
///
/// Dropping it does nothing to the child, which keeps running and is reaped when it ends. The end
/// of the program waits for it, stops it if it is a daemon (as in Python), or leaves it alone if it
/// was detached. All methods can be called from any thread of the process that started the child.
///
/// # States
///
/// A child that is starting has no handle: [`spawn`](crate::ProcessBuilder::spawn) returns once the
/// worker runs, or returns an error once there is no process. So a child that has a handle is
/// running, or has ended for good:
///
/// | | while it runs | after `run` has returned | after any other end |
/// | --- | --- | --- | --- |
/// | [`join`](Process::join) | waits | the output | [`JoinError::Ended`] |
/// | [`join_timeout`](Process::join_timeout) | waits, then [`Timeout`](JoinTimeoutError::Timeout) | the output | [`JoinError::Ended`] |
/// | [`is_alive`](Process::is_alive) | `true` | `false` | `false` |
/// | [`exit_reason`](Process::exit_reason) | `None` | [`Returned`](ExitReason::Returned) | why it ended |
/// | [`stop`](Process::stop) | asks it to stop, waits | [`Returned`](ExitReason::Returned) | why it ended |
/// | [`request_stop`](Process::request_stop), [`terminate`](Process::terminate), [`kill`](Process::kill), `.._tree` | act | do nothing | do nothing |
/// | [`detach`](Process::detach) | lets it outlive the program | does nothing | does nothing |
/// | [`take_stdin`](Process::take_stdin), `.._stdout`, `.._stderr` | the pipe, once | the pipe, once | the pipe, once |
/// | [`active_children`](crate::active_children) | contains it, unless detached | does not | does not |
/// | [`Selector`](crate::Selector), [`wait_any`](crate::wait_any) | wait | it is ready | it is ready |
/// | drop | it keeps running | frees the output | nothing |
/// | end of the program | waits; stops a daemon; leaves a detached one alone | nothing | nothing |
///
/// A suspended process (SIGSTOP) counts as running. `run` counts as returned once its output has
/// arrived: a process that dies while it sends its output belongs in the last column.
///
/// ```
/// use std::time::Duration;
///
/// #[offspring::worker]
/// fn rest() -> String {
///     offspring::current().wait_stopping();
///     "rested".to_owned()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let child = rest::spawn()?;
///     assert!(child.is_alive() && child.exit_reason().is_none());
///     assert!(child.join_timeout(Duration::from_millis(1)).is_err()); // it keeps running
///     assert!(child.stop(Duration::from_secs(10)).is_success());
///     assert_eq!(child.join()?, "rested");
///     Ok(())
/// }
/// ```
#[must_use = "dropping it leaves the child running; `join` waits for it"]
pub struct Process<T> {
    pub(super) record: Arc<ChildRecord>,
    pub(super) pipes: ParentPipes,
    output: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Process<T> {
    pub(super) fn new((record, pipes): StartedChild) -> Process<T> {
        Process { record, pipes, output: PhantomData }
    }

    /// Waits for the end of the process and returns the output of `run`.
    ///
    /// Unlike the `join` of a thread, it may be called again, even from several threads at once:
    /// each call decodes the output anew. If the output contains something that exists only once,
    /// such as a [`Receiver`](crate::Receiver), only the first call gets it.
    ///
    /// It waits as long as the process runs; [`join_timeout`](Process::join_timeout) limits that.
    ///
    /// # Errors
    ///
    /// - [`JoinError::Ended`] if the process ended without returning from `run`, with the reason;
    /// - [`JoinError::Output`] if its output does not encode or decode, or could not be sent or
    ///   copied, or if this process has too few descriptors to receive it (a later call then returns
    ///   it);
    /// - [`JoinError::Taken`] if an earlier call took the output.
    pub fn join(&self) -> Result<T, JoinError> {
        self.join_within(&Forever).map_err(WaitEnd::into_failed)
    }

    /// Like [`join`](Process::join), but waits no longer than `timeout`. A process that still runs
    /// is left as it is.
    ///
    /// # Errors
    ///
    /// Returns [`JoinTimeoutError::Timeout`] if the process still runs, and otherwise the errors of
    /// [`join`](Process::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, JoinTimeoutError> {
        self.join_within(&Deadline::after(timeout)).map_err(|end| match end {
            WaitEnd::Failed(error) => error.into(),
            WaitEnd::Timeout(_) => self.timed_out(timeout),
        })
    }

    pub(super) fn join_within<L: TimeLimit>(&self, limit: &L) -> Waited<T, JoinError, L> {
        let (name, pid) = (self.record.name.clone(), self.record.pid);
        let mut state = loop {
            self.await_end(limit.deadline());
            if let Some(state) = self.record.wait_ended(limit.deadline()) {
                break state;
            }
            limit.check().map_err(WaitEnd::Timeout)?;
        };
        let State::Ended { reason, output, .. } = &mut *state else {
            unreachable!("the wait ended before the process")
        };
        let stored = match std::mem::replace(output, StoredOutput::Taken) {
            StoredOutput::Unread(unread) => unread.read(),
            stored => stored,
        };
        let envelope = match stored {
            StoredOutput::None => {
                *output = StoredOutput::None;
                let (reason, stderr) = (reason.clone(), self.pipes.stderr_tail());
                return Err(JoinError::Ended { name, pid, reason, stderr }.into());
            }
            StoredOutput::Lost(message) => {
                *output = StoredOutput::Lost(message.clone());
                return Err(JoinError::Output { name, pid, message }.into());
            }
            StoredOutput::Unread(unread) => {
                *output = StoredOutput::Unread(unread);
                let error = Failure::Starved.into_io();
                let message = format!("it could not be received yet: {error}; join again later");
                return Err(JoinError::Output { name, pid, message }.into());
            }
            StoredOutput::Taken => return Err(JoinError::Taken { name, pid }.into()),
            StoredOutput::Here(envelope) => envelope,
        };
        // `None` if it contains something that exists only once.
        let envelope = match envelope.try_clone() {
            Some(copy) => {
                *output = StoredOutput::Here(envelope);
                copy
            }
            None => envelope,
        };
        // Decoding runs user code, which may use this handle.
        drop(state);
        let decoded = envelope.decode();
        decoded.map_err(|error| {
            let message = error.to_string();
            JoinError::Output { name, pid, message }.into()
        })
    }
}

impl<T> Process<T> {
    pub(super) fn timed_out(&self, after: Duration) -> JoinTimeoutError {
        JoinTimeoutError::Timeout { name: self.record.name.clone(), pid: self.record.pid, after }
    }

    /// Waits for the end of the process, and then until its last lines and log records have been
    /// passed on.
    pub(super) fn await_end(&self, deadline: Option<Instant>) {
        if self.record.join(deadline) {
            self.pipes.flush(deadline);
            spawn_hook::after_end(deadline);
        }
    }

    pub(crate) fn source(&self) -> Arc<dyn EventSource> {
        self.record.clone()
    }

    /// Waits for the end of the process. Returns how it ended, and the last kilobyte of its stderr as
    /// far as this process has read it.
    pub(crate) fn end(&self) -> (ExitReason, String) {
        self.await_end(None);
        let reason = self.record.exit_reason().unwrap_or(ExitReason::Unknown);
        (reason, self.pipes.stderr_tail())
    }

    /// Returns whether the process still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.record.is_alive()
    }

    /// Returns the pid. After the end of the process the system may reuse it. No method here sends
    /// a signal by pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.record.pid
    }

    /// Returns what the worker runs in. A worker on a thread cannot be killed.
    #[must_use]
    pub fn backend(&self) -> Backend {
        if self.record.is_inline() { Backend::Inline } else { Backend::Process }
    }

    /// Returns the name: [`ProcessBuilder::name`](crate::ProcessBuilder::name), or the worker's
    /// with a number.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns whether the end of the program stops the process instead of waiting for it.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.record.daemon
    }

    /// Returns how the process ended, or `None` while it runs.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.record.exit_reason()
    }

    /// Returns what the kernel has done for the worker's
    /// [sandbox](crate::ProcessBuilder::sandbox), or `None` if it has none.
    #[cfg(feature = "sandbox")]
    #[must_use]
    pub fn sandbox(&self) -> Option<&AppliedSandbox> {
        self.record.sandbox.as_ref()
    }

    /// Takes the writing end of the child's stdin. Returns `None` unless stdin is
    /// [`piped`](crate::Stdio::piped), and after the first call.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.pipes.stdin.take()
    }

    /// Takes the reading end of the child's stdout. Returns `None` unless stdout is
    /// [`piped`](crate::Stdio::piped), and after the first call.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.pipes.stdout.take()
    }

    /// Takes the reading end of the child's stderr. Returns `None` unless stderr is
    /// [`piped`](crate::Stdio::piped), and after the first call.
    pub fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.pipes.stderr.take()
    }
}

impl<T> Waitable for Process<T> {
    fn wait_source(&self) -> WaitSource {
        WaitSource::new(self.source())
    }
}

impl<T> fmt::Debug for Process<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .field("daemon", &self.is_daemon())
            .field("exit_reason", &self.exit_reason())
            .finish()
    }
}
