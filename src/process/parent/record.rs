//! The record of a child in its parent.
//!
//! A record is shared by the child's handle, the reaper, and selectors, which use it concurrently.
//! All decisions are made under its lock: only under it are signals sent and the exit status taken.
//! So the status is taken once, and no signal is sent to a process that has been reaped. The locks
//! of the reaper are always taken after this one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::diagnostics;
use crate::error::{ExitReason, KillCause, PanicReport};
use crate::ipc::reactor::{self, EventSource, Interest, WakerSet, WakerSlot};
use crate::process::handshake::{self, ParentMessage};
use crate::process::identity::Identity;
use crate::process::inline_context::StopRequest;
use crate::process::panic_report;
use crate::process::parent::escalation::{Escalation, StopSignal};
use crate::process::parent::exit_report::{ExitReport, StoredOutput};
use crate::process::parent::reaper;
use crate::process::run::RunOutcome;
#[cfg(feature = "sandbox")]
use crate::process::sandbox::AppliedSandbox;
use crate::sys::{self, Pidfd, Tree};

/// A child that was started. The reaper holds the record while the child runs, and a handle as long
/// as it exists.
#[derive(Debug)]
pub(crate) struct ChildRecord {
    /// Unique in this process, unlike a pid.
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// The name under which its worker is registered.
    pub(crate) worker: &'static str,
    pub(crate) generation: u32,
    #[cfg(feature = "sandbox")]
    pub(in crate::process) sandbox: Option<AppliedSandbox>,
    pub(in crate::process) started_by: ThreadId,
    is_inline: bool,
    detached: AtomicBool,
    state: Mutex<State>,
    ended: Condvar,
    wakers: Arc<WakerSet>,
}

#[derive(Debug)]
pub(in crate::process) enum State {
    Running(LiveChild),
    Inline(Arc<StopRequest>),
    Ended {
        reason: ExitReason,
        output: StoredOutput,
        /// `run` has returned the `Err` of a `Result`.
        is_err: bool,
    },
}

/// The descriptors of a running child. It is dropped, and its descriptors are closed, before any
/// thread learns that the child has ended. Only an output that could not be received yet keeps one.
#[derive(Debug)]
pub(crate) struct LiveChild {
    /// Also held by a thread that joins.
    pidfd: Arc<Pidfd>,
    /// Shared with an output that is still in it when the child has ended.
    control: Arc<OwnedFd>,
    /// The writing end of the liveness pipe: when it closes, the system kills the child. `None` if
    /// the child was started detached.
    liveness: Option<OwnedFd>,
    /// Why this process sent SIGTERM or SIGKILL, if it did.
    terminated: Option<KillCause>,
    killed: Option<KillCause>,
    stop: Option<Escalation>,
    /// True if a thread that joins waits for the pidfd instead of the reaper.
    is_watched_by_join: bool,
}

impl LiveChild {
    pub(in crate::process) fn new(
        pidfd: Pidfd,
        control: OwnedFd,
        liveness: Option<OwnedFd>,
    ) -> LiveChild {
        LiveChild {
            pidfd: Arc::new(pidfd),
            control: Arc::new(control),
            liveness,
            terminated: None,
            killed: None,
            stop: None,
            is_watched_by_join: false,
        }
    }

    /// Returns when the reaper must check on the child, if that changes.
    fn request_stop(&mut self, grace: Duration) -> Option<Instant> {
        let now = Instant::now();
        if let Some(stop) = &mut self.stop {
            return stop.hasten(grace, now);
        }
        // The message fits the socket's buffer, so sending fails only if the child has ended.
        let _ = handshake::send(self.control.as_fd(), &ParentMessage::Stop, &[]);
        self.stop.insert(Escalation::new(grace, now)).due()
    }

    fn escalate(&mut self, now: Instant) -> Option<Instant> {
        let stop = self.stop.as_mut()?;
        let signal = stop.advance(now);
        let due = stop.due();
        match signal {
            Some(StopSignal::Terminate) => self.terminate(KillCause::Stop),
            Some(StopSignal::Kill) => self.kill(KillCause::Stop),
            None => return None,
        }
        due
    }

    /// Sends the writing end of the liveness pipe to the child, which never takes it out of the
    /// buffer of its socket. So the pipe stays open as long as the child lives, and this process
    /// may die at any time after the call.
    fn detach(&self) {
        let Some(liveness) = &self.liveness else {
            return;
        };
        let fds = [liveness.as_fd()];
        match handshake::send(self.control.as_fd(), &ParentMessage::Detach, &fds) {
            // The child has already ended.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                diagnostics::error(
                    "offspring::process",
                    format_args!("could not detach a process: {error}"),
                );
            }
            Ok(()) => {}
        }
    }

    fn terminate(&mut self, cause: KillCause) {
        self.terminated.get_or_insert(cause);
        self.pidfd.terminate();
    }

    fn kill(&mut self, cause: KillCause) {
        self.killed.get_or_insert(cause);
        if !self.pidfd.kill() {
            // The child runs as another user. But it has asked the system to kill it when this pipe
            // closes, which needs no permission.
            self.liveness = None;
        }
    }
}

impl ChildRecord {
    pub(in crate::process) fn new(
        pid: u32,
        identity: &Identity,
        worker: &'static str,
        live: LiveChild,
    ) -> ChildRecord {
        ChildRecord::in_state(pid, identity, worker, State::Running(live))
    }

    #[cfg(feature = "sandbox")]
    pub(in crate::process) fn in_sandbox(self, sandbox: Option<AppliedSandbox>) -> ChildRecord {
        ChildRecord { sandbox, ..self }
    }

    pub(in crate::process) fn inline(
        identity: &Identity,
        worker: &'static str,
        stop: Arc<StopRequest>,
    ) -> ChildRecord {
        ChildRecord::in_state(std::process::id(), identity, worker, State::Inline(stop))
    }

    fn in_state(pid: u32, identity: &Identity, worker: &'static str, state: State) -> ChildRecord {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ChildRecord {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            pid,
            name: identity.name.clone(),
            daemon: identity.daemon,
            worker,
            generation: identity.generation,
            #[cfg(feature = "sandbox")]
            sandbox: None,
            started_by: thread::current().id(),
            is_inline: matches!(state, State::Inline(_)),
            detached: AtomicBool::new(false),
            state: Mutex::new(state),
            ended: Condvar::new(),
            wakers: Arc::default(),
        }
    }

    /// Returns whether it is a worker on a thread of this process.
    pub(crate) fn is_inline(&self) -> bool {
        self.is_inline
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock, so the state is consistent even if the lock is
        // poisoned.
        sys::lock(&self.state)
    }

    /// Calls `act` if the child is a process that has not been reaped. It cannot be reaped in the
    /// meantime.
    fn with_live<R>(&self, act: impl FnOnce(&mut LiveChild) -> R) -> Option<R> {
        match &mut *self.state() {
            State::Running(live) => Some(act(live)),
            State::Inline(_) | State::Ended { .. } => None,
        }
    }

    /// Like [`with_live`](ChildRecord::with_live), but calls `act` with the pidfd.
    pub(in crate::process) fn with_pidfd<R>(&self, act: impl FnOnce(&Pidfd) -> R) -> Option<R> {
        self.with_live(|live| act(&live.pidfd))
    }

    /// Returns the pidfd, to wait with; `None` if the child has been reaped.
    pub(in crate::process) fn pidfd(&self) -> Option<Arc<Pidfd>> {
        self.with_live(|live| live.pidfd.clone())
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(*self.state(), State::Ended { .. })
    }

    /// Returns why it ended, and whether `run` has returned an `Err`; `None` while it is running.
    pub(in crate::process) fn end(&self) -> Option<(ExitReason, bool)> {
        match &*self.state() {
            State::Running(_) | State::Inline(_) => None,
            State::Ended { reason, is_err, .. } => Some((reason.clone(), *is_err)),
        }
    }

    /// Returns why it ended; `None` while it is running.
    pub(in crate::process) fn exit_reason(&self) -> Option<ExitReason> {
        self.end().map(|(reason, _)| reason)
    }
}

/// Ending it.
impl ChildRecord {
    pub(in crate::process) fn request_stop(&self, grace: Duration) {
        if let State::Inline(stop) = &*self.state() {
            stop.request();
        }
        if let Some(due) = self.with_live(|live| live.request_stop(grace)).flatten() {
            reaper::remind(due, self.id);
        }
    }

    /// Sends the signal that is due after a request to stop. Returns when the next one is.
    pub(in crate::process) fn escalate(&self, now: Instant) -> Option<Instant> {
        self.with_live(|live| live.escalate(now)).flatten()
    }

    pub(in crate::process) fn terminate(&self, cause: KillCause) {
        self.with_live(|live| live.terminate(cause));
    }

    pub(in crate::process) fn kill(&self, cause: KillCause) {
        self.with_live(|live| live.kill(cause));
    }

    pub(in crate::process) fn terminate_tree(&self) {
        self.with_live(|live| {
            live.terminated.get_or_insert(KillCause::Terminate);
            Tree::with_suspended(&live.pidfd, self.pid, |tree| tree.terminate());
        });
    }

    pub(in crate::process) fn kill_tree(&self) {
        self.with_live(|live| {
            Tree::with_suspended(&live.pidfd, self.pid, |tree| tree.kill());
            live.kill(KillCause::Kill);
        });
    }

    /// Like [`kill_tree`](ChildRecord::kill_tree), but as fast as `kill` if it has no children. A
    /// child that it starts at this very moment may survive.
    pub(in crate::process) fn kill_with_programs(&self) {
        let has_some = self.with_live(|_| sys::may_have_children(self.pid));
        if has_some == Some(true) {
            self.kill_tree();
        } else {
            self.kill(KillCause::Kill);
        }
    }

    pub(in crate::process) fn detach(&self) {
        self.detached.store(true, Ordering::SeqCst);
        self.with_live(|live| live.detach());
    }

    /// Returns whether it was detached, in which case the end of this program does not wait for it.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::SeqCst)
    }
}

/// Its end.
impl ChildRecord {
    /// Takes the exit status if the process has ended. The reaper and a joining thread may call
    /// this at the same time: the first one takes the status, and the other finds the state
    /// `Ended`.
    pub(in crate::process) fn reap(&self) {
        let mut state = self.state();
        let State::Running(live) = &*state else {
            return;
        };
        // This leaves the zombie there, so the pid stays ours until everything below is done.
        let Some(status) = live.pidfd.status() else {
            return;
        };
        // Before the status is taken, because that makes the pidfd ready once more and would wake
        // the reaper for nothing. And before the state changes, because a thread that sees the end
        // must not find the child among those that are running.
        reaper::forget(self.id, &live.pidfd);
        live.pidfd.reap();
        // The child is dead, so everything that it sent is in the socket. A fork of this process
        // shares the socket, but must read nothing from it: the child is not its own.
        let report = match reaper::is_here() {
            true => ExitReport::read(&live.control),
            false => ExitReport::default(),
        };
        #[cfg(feature = "sandbox")]
        let report = report.of_sandbox(self.sandbox.as_ref());
        let returned_err = report.is_err;
        let (reason, output) = report.conclude(status, live.terminated, live.killed);
        let is_err = returned_err && reason.is_success();
        *state = State::Ended { reason, output, is_err };
        // Wakers may run user code, which must not run under the lock. The end is final, so a
        // thread that checks in between finds it, and a thread that waits is notified below.
        drop(state);
        self.notify_end();
    }

    /// Records the end of an inline worker. Its thread calls this once.
    pub(in crate::process) fn end_inline(&self, outcome: RunOutcome, panic: Option<PanicReport>) {
        let is_err = matches!(outcome, RunOutcome::Returned { is_err: true, .. });
        let (reason, output) = match outcome {
            RunOutcome::Returned { output, .. } => {
                (ExitReason::Returned, StoredOutput::Here(output))
            }
            RunOutcome::Unsendable(message) => (ExitReason::Returned, StoredOutput::Lost(message)),
            RunOutcome::Panicked(message) => {
                let report = panic.unwrap_or_else(|| panic_report::of_message(message));
                (ExitReason::Panicked(Box::new(report)), StoredOutput::None)
            }
        };
        *self.state() = State::Ended { reason, output, is_err };
        self.notify_end();
    }

    fn notify_end(&self) {
        self.ended.notify_all();
        self.wakers.wake();
    }

    /// Like [`wait`](ChildRecord::wait), but the calling thread sleeps on the pidfd itself, unless
    /// another thread does so already. So the end of the child wakes this thread directly; by way
    /// of the reaper it would take a second wake-up. The thread must still have its thread-locals.
    pub(in crate::process) fn join(&self, deadline: Option<Instant>) -> bool {
        if let Some(pidfd) = self.take_watch() {
            // An error means that there is no memory to wait with. Then the reaper waits.
            let ended = pidfd.wait_or_any(&[], deadline).is_ok_and(|ended| ended.is_some());
            if ended {
                self.reap();
            }
            self.return_watch();
        }
        self.wait(deadline)
    }

    /// Takes the pidfd away from the reaper. Returns `None` if another thread has it.
    fn take_watch(&self) -> Option<Arc<Pidfd>> {
        self.with_live(|live| {
            (!std::mem::replace(&mut live.is_watched_by_join, true)).then(|| {
                reaper::pause_watch(self.id, &live.pidfd);
                live.pidfd.clone()
            })
        })
        .flatten()
    }

    /// Returns the pidfd to the reaper, unless the child has been reaped. The child may have ended
    /// since the wait timed out: the reaper's poller is level-triggered and then reports it. Other
    /// threads that join in the meantime sleep on the condition variable, and depend on that
    /// report.
    fn return_watch(&self) {
        self.with_live(|live| {
            live.is_watched_by_join = false;
            reaper::resume_watch(self.id, &live.pidfd);
        });
    }

    /// Waits for the end. Returns `false` at the deadline. Uses only the lock and the condition
    /// variable, so that a thread that has lost its thread-locals can call it.
    pub(in crate::process) fn wait(&self, deadline: Option<Instant>) -> bool {
        self.wait_ended(deadline).is_some()
    }

    /// Like [`wait`](ChildRecord::wait), but returns the state, which is `Ended`.
    pub(in crate::process) fn wait_ended(
        &self,
        deadline: Option<Instant>,
    ) -> Option<MutexGuard<'_, State>> {
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

impl EventSource for ChildRecord {
    fn register(&self) -> io::Result<WakerSlot> {
        self.wakers.register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        reactor::check_and_set(interest, || !self.is_alive())
    }
}
