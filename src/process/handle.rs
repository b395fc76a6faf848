//! A child as its parent sees it.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{ExitReason, JoinError, JoinTimeoutError, KillCause, PanicReport};
use crate::ipc::reactor::{EventSource, Interest, WakerSet, WakerSlot};
use crate::ipc::wire;
use crate::process::child::serve::{self, Finished};
use crate::process::current::Identity;
use crate::process::handshake::{self, Order};
use crate::process::inline::{Backend, OnThread};
use crate::process::parent::exit_report::{Output, Told};
use crate::process::parent::reaper;
use crate::process::parent::stop::Stop;
use crate::process::spawn_hook;
use crate::process::stdio::Pipes;
use crate::sys::{self, Pidfd, Tree};

/// A child that was started, until nobody holds it and it has been reaped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// The name under which its worker is registered.
    pub(crate) worker: &'static str,
    pub(crate) generation: u32,
    pub(super) started_by: ThreadId,
    is_on_thread: bool,
    pub(super) detached: AtomicBool,
    state: Mutex<State>,
    ended: Condvar,
    waiters: Arc<WakerSet>,
}

#[derive(Debug)]
enum State {
    Running(Life),
    OnThread(OnThread),
    Ended { reason: ExitReason, output: Output },
}

/// What is held of a child while it runs: its end closes all three, before anybody learns of it.
#[derive(Debug)]
pub(crate) struct Life {
    /// Shared with a [`Process::join_with_output`] that waits for it.
    pidfd: Arc<Pidfd>,
    /// Over it come the child's panics, and what its worker returned.
    lifeline: OwnedFd,
    /// Its closing is the child's end; `None` if that was detached from its start on.
    life: Option<OwnedFd>,
    terminated: Option<KillCause>,
    killed: Option<KillCause>,
    pub(super) stop: Option<Stop>,
    /// Whether a thread that joins watches for its end, in place of the reaper.
    joined: bool,
}

impl Life {
    pub(crate) fn new(pidfd: Pidfd, lifeline: OwnedFd, life: Option<OwnedFd>) -> Life {
        Life {
            pidfd: Arc::new(pidfd),
            lifeline,
            life,
            terminated: None,
            killed: None,
            stop: None,
            joined: false,
        }
    }

    /// It fits the socket's buffer, and a child that has ended needs none.
    pub(super) fn ask_to_stop(&self) {
        let _ = handshake::tell(self.lifeline.as_fd(), &Order::Stop, &[]);
    }

    /// The buffer of the child's own socket then holds its life too.
    pub(super) fn detach(&self) {
        let Some(life) = &self.life else { return };
        match handshake::tell(self.lifeline.as_fd(), &Order::Detach, &[life.as_fd()]) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                log::error!(target: "offspring::process", "a process could not be detached: {error}");
            }
            _ => {}
        }
    }

    pub(super) fn terminate(&mut self, cause: KillCause) {
        self.terminated.get_or_insert(cause);
        self.pidfd.terminate();
    }

    pub(super) fn kill(&mut self, cause: KillCause) {
        self.killed.get_or_insert(cause);
        self.pidfd.kill();
    }

    pub(super) fn terminate_tree(&mut self, pid: u32) {
        self.terminated.get_or_insert(KillCause::Terminate);
        Tree::suspend(&self.pidfd, pid).terminate();
    }

    pub(super) fn kill_tree(&mut self, pid: u32) {
        self.killed.get_or_insert(KillCause::Kill);
        Tree::suspend(&self.pidfd, pid).kill();
    }
}

impl Running {
    pub(crate) fn new(pid: u32, identity: &Identity, worker: &'static str, life: Life) -> Running {
        Running::in_state(pid, identity, worker, State::Running(life))
    }

    pub(crate) fn on_thread(
        identity: &Identity,
        worker: &'static str,
        thread: OnThread,
    ) -> Running {
        Running::in_state(
            std::process::id(),
            identity,
            worker,
            State::OnThread(thread),
        )
    }

    fn in_state(pid: u32, identity: &Identity, worker: &'static str, state: State) -> Running {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Running {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            pid,
            name: identity.name.clone(),
            daemon: identity.daemon,
            worker,
            generation: identity.generation,
            started_by: thread::current().id(),
            is_on_thread: matches!(state, State::OnThread(_)),
            detached: AtomicBool::new(false),
            state: Mutex::new(state),
            ended: Condvar::new(),
            waiters: Arc::default(),
        }
    }

    /// Whether it is a worker on a thread of this process.
    pub(crate) fn is_on_thread(&self) -> bool {
        self.is_on_thread
    }

    pub(super) fn ask_thread_to_stop(&self) {
        if let State::OnThread(thread) = &*self.state() {
            thread.asked.stop();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock, so a poisoned one is still whole.
        sys::lock(&self.state)
    }

    /// Calls `act` with the pidfd, if the child was not seen to end yet.
    pub(crate) fn with_pidfd<R>(&self, act: impl FnOnce(&Pidfd) -> R) -> Option<R> {
        self.with_life(|life| act(&life.pidfd))
    }

    /// Calls `act` with what is held of the child, if it was not seen to end yet. It cannot be reaped meanwhile.
    pub(super) fn with_life<R>(&self, act: impl FnOnce(&mut Life) -> R) -> Option<R> {
        match &mut *self.state() {
            State::Running(life) => Some(act(life)),
            State::OnThread(_) | State::Ended { .. } => None,
        }
    }

    /// To wait with; `None` if the child was seen to end.
    pub(crate) fn pidfd(&self) -> Option<Arc<Pidfd>> {
        match &*self.state() {
            State::Running(life) => Some(life.pidfd.clone()),
            State::OnThread(_) | State::Ended { .. } => None,
        }
    }

    pub(crate) fn terminate(&self, cause: KillCause) {
        self.with_life(|life| life.terminate(cause));
    }

    pub(crate) fn kill(&self, cause: KillCause) {
        self.with_life(|life| life.kill(cause));
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(*self.state(), State::Ended { .. })
    }

    /// Takes the status of the process, if it has ended; called by whoever sees that: the reaper, or a thread that joins.
    pub(crate) fn reap(&self) {
        let mut state = self.state();
        let State::Running(life) = &*state else {
            return;
        };
        // Under the lock: a status can be taken once.
        let Some(status) = life.pidfd.status() else {
            return;
        };
        // Before anybody learns of the end: who joined it does not find it among the running. And before the status is taken: that
        // would wake the reaper in vain.
        reaper::forget(self.id, &life.pidfd);
        life.pidfd.reap();
        let told = Told::drain(life.lifeline.as_fd());
        let (reason, output) = told.judge(status, life.terminated, life.killed);
        *state = State::Ended { reason, output };
        drop(state);
        self.tell_end();
    }

    /// As [`wait`](Running::wait), by looking itself, if nobody else does: so an end wakes the thread that waits for it, and not the
    /// reaper first. Not for a thread that has lost its thread-locals.
    fn join(&self, deadline: Option<Instant>) -> bool {
        if let Some(pidfd) = self.take_watch() {
            // An error is no memory to wait with.
            let ended = pidfd
                .wait_or_any(&[], deadline)
                .is_ok_and(|ended| ended.is_some());
            if ended {
                self.reap();
            }
            self.give_watch_back();
        }
        self.wait(deadline)
    }

    /// The pidfd, if the reaper watched it until now.
    fn take_watch(&self) -> Option<Arc<Pidfd>> {
        self.with_life(|life| {
            (!std::mem::replace(&mut life.joined, true)).then(|| {
                reaper::leave_alone(self.id, &life.pidfd);
                life.pidfd.clone()
            })
        })
        .flatten()
    }

    fn give_watch_back(&self) {
        self.with_life(|life| {
            life.joined = false;
            reaper::watch_again(self.id, &life.pidfd);
        });
    }

    /// Called once, by the worker's thread at its end.
    pub(crate) fn end_on_thread(&self, finished: Finished, panic: Option<PanicReport>) {
        let (reason, output) = match finished {
            Finished::Returned(packet) => (ExitReason::Returned, Output::Here(packet)),
            Finished::Unsendable(message) => (ExitReason::Returned, Output::Lost(message)),
            Finished::Panicked(message) => {
                let report = panic.unwrap_or_else(|| serve::bare_report(message));
                (ExitReason::Panicked(Box::new(report)), Output::None)
            }
        };
        *self.state() = State::Ended { reason, output };
        self.tell_end();
    }

    fn tell_end(&self) {
        self.ended.notify_all();
        self.waiters.wake();
    }

    /// Waits for the end, until `deadline` if there is one. Whether it ended.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        self.wait_state(deadline).is_some()
    }

    fn wait_state(&self, deadline: Option<Instant>) -> Option<MutexGuard<'_, State>> {
        let mut state = self.state();
        loop {
            if matches!(*state, State::Ended { .. }) {
                return Some(state);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            state = sys::wait(&self.ended, state, deadline);
        }
    }
}

impl EventSource for Running {
    fn register(&self) -> io::Result<WakerSlot> {
        self.waiters.register()
    }

    fn is_ready(&self, seat: Interest<'_>) -> bool {
        let state = self.state();
        if let (State::Running(_) | State::OnThread(_), Some((waiter, waker))) = (&*state, seat) {
            // Under the lock, so that the end comes before the look or after the waker.
            waiter.set(waker);
        }
        matches!(*state, State::Ended { .. })
    }
}

/// A running child whose worker returns `T`.
///
/// Dropping it does nothing to the child: it runs on, is reaped when it ends, and at the end of the
/// program is waited for, or stopped if it is a daemon (as in Python), or left alone if it was detached. All methods
/// run in the process that started the child, from any thread.
///
/// # States
///
/// While it starts there is no handle: [`spawn`](crate::ProcessBuilder::spawn) returns when the worker runs, or with an error
/// and without a process. After that it runs, and then it has ended, for ever:
///
/// | | while it runs | when `run` has returned | when it ended otherwise |
/// | --- | --- | --- | --- |
/// | [`join`](Process::join) | waits | the output | [`JoinError::Ended`] |
/// | [`join_timeout`](Process::join_timeout) | waits, then [`Timeout`](JoinTimeoutError::Timeout) | the output | [`JoinError::Ended`] |
/// | [`is_alive`](Process::is_alive) | `true` | `false` | `false` |
/// | [`exit_reason`](Process::exit_reason) | `None` | [`Returned`](ExitReason::Returned) | why it ended |
/// | [`stop`](Process::stop) | asks it to stop, waits | [`Returned`](ExitReason::Returned) | why it ended |
/// | [`request_stop`](Process::request_stop), [`terminate`](Process::terminate), [`kill`](Process::kill), `.._tree` | do it | do nothing | do nothing |
/// | [`detach`](Process::detach) | lets go of it | does nothing | does nothing |
/// | [`take_stdin`](Process::take_stdin), `.._stdout`, `.._stderr` | the pipe, once | the pipe, once | the pipe, once |
/// | [`active_children`](crate::active_children) | lists it, unless detached | does not | does not |
/// | [`Selector`](crate::Selector), [`wait_any`](crate::wait_any) | wait | it is ready | it is ready |
/// | drop | it runs on | frees the output | nothing |
/// | end of the program | waits; a daemon is stopped, a detached one left alone | nothing | nothing |
///
/// A process that is suspended (SIGSTOP) runs: only its end ends a wait. `run` has returned when its output is here: a
/// process that dies between the two has ended otherwise, unless the output was already sent.
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
///     assert!(child.join_timeout(Duration::from_millis(1)).is_err()); // it runs on
///     assert!(child.stop(Duration::from_secs(10)).is_success());
///     assert_eq!(child.join()?, "rested");
///     Ok(())
/// }
/// ```
#[must_use = "dropping it leaves the child running; `join` waits for it"]
pub struct Process<T> {
    pub(super) running: Arc<Running>,
    pub(super) pipes: Pipes,
    output: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Process<T> {
    pub(crate) fn new(running: Arc<Running>, pipes: Pipes) -> Process<T> {
        Process {
            running,
            pipes,
            output: PhantomData,
        }
    }

    /// Waits for the end of the process, and gives what `run` returned.
    ///
    /// May be called again, and from several threads: each call decodes the output anew, unless it holds
    /// something that exists once, such as a [`Receiver`](crate::Receiver).
    ///
    /// # Errors
    ///
    /// [`JoinError::Ended`] says why the process ended without returning; [`JoinError::Output`] if what
    /// it returned does not encode or decode; [`JoinError::Taken`] after an earlier join took it.
    pub fn join(&self) -> Result<T, JoinError> {
        match self.join_until(None) {
            Ok(output) => Ok(output),
            Err(JoinTimeoutError::Failed(error)) => Err(error),
            Err(JoinTimeoutError::Timeout { .. }) => {
                unreachable!("a wait without a deadline ended at its deadline")
            }
        }
    }

    /// Waits at most this long for the end of the process. A process that still runs is left as it is.
    ///
    /// # Errors
    ///
    /// [`JoinTimeoutError::Timeout`], or as [`join`](Process::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, JoinTimeoutError> {
        self.join_until(Some(timeout))
    }

    fn join_until(&self, timeout: Option<Duration>) -> Result<T, JoinTimeoutError> {
        let running = &*self.running;
        let (name, pid) = (running.name.clone(), running.pid);
        // A deadline that the clock cannot express is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.await_end(deadline);
        let Some(mut state) = running.wait_state(deadline) else {
            let after = timeout.unwrap_or_default();
            return Err(JoinTimeoutError::Timeout { name, pid, after });
        };
        let State::Ended { reason, output } = &mut *state else {
            unreachable!("the wait ended before the process")
        };
        let packet = match std::mem::replace(output, Output::Taken) {
            Output::None => {
                *output = Output::None;
                let reason = reason.clone();
                return Err(JoinError::Ended { name, pid, reason }.into());
            }
            Output::Lost(message) => {
                *output = Output::Lost(message.clone());
                return Err(JoinError::Output { name, pid, message }.into());
            }
            Output::Taken => return Err(JoinError::Taken { name, pid }.into()),
            Output::Here(packet) => packet,
        };
        // A copy of shared memory needs a descriptor, and ipc-channel panics if there is none.
        let packet = match wire::no_panic("shared memory", || packet.try_clone()) {
            Ok(Some(copy)) => {
                *output = Output::Here(packet);
                copy
            }
            Ok(None) => packet,
            Err(error) => {
                *output = Output::Here(packet);
                let message = error.to_string();
                return Err(JoinError::Output { name, pid, message }.into());
            }
        };
        // Decoding runs code of the user, who may ask this process for something.
        drop(state);
        packet.decode().map_err(|error| {
            JoinError::Output {
                name,
                pid,
                message: error.to_string(),
            }
            .into()
        })
    }
}

impl<T> Process<T> {
    /// Waits for the end of the process, and then until what it printed and logged has been passed on.
    pub(super) fn await_end(&self, deadline: Option<Instant>) {
        if self.running.join(deadline) {
            self.pipes.settle(deadline);
            spawn_hook::settle(deadline);
        }
    }

    /// For a selector.
    pub(crate) fn target(&self) -> Arc<dyn EventSource> {
        self.running.clone()
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.running.is_alive()
    }

    /// The process's pid. After its end another process may have it; nothing here signals by pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid
    }

    /// Whether it is a process, or a thread of this one: then nothing here can end it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        if self.running.is_on_thread() {
            Backend::Inline
        } else {
            Backend::Process
        }
    }

    /// The process's name: [`ProcessBuilder::name`](crate::ProcessBuilder::name), or the worker's with a number.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.running.name
    }

    /// Whether it is stopped at the end of the program, instead of waited for.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.running.daemon
    }

    /// How the process ended; `None` while it runs.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        match &*self.running.state() {
            State::Running(_) | State::OnThread(_) => None,
            State::Ended { reason, .. } => Some(reason.clone()),
        }
    }

    /// The writing end of the child's stdin, once, if the builder asked for [`Stdio::piped`](crate::Stdio::piped).
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.pipes.stdin.take()
    }

    /// The reading end of the child's stdout, once, if the builder asked for it.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.pipes.stdout.take()
    }

    /// The reading end of the child's stderr, once, if the builder asked for it.
    pub fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.pipes.stderr.take()
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
