//! A child between its exec and the moment in which its worker runs.
//!
//! Until the reaper takes over, only [`StartingChild`] holds the child, and it kills and reaps the
//! child when it is dropped. So each error on the way ends the child, and no other thread can reap
//! it or signal it in the meantime. The child runs concurrently, and may die at every step. So no
//! step concludes anything from a message that did not arrive: a closed socket, a failed send and a
//! ready pidfd all lead to [`ended`](StartingChild::ended), where the exit status decides. A
//! message that did arrive counts, even if the child is dead by then.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{ExitReason, PanicReport, SpawnError};
use crate::ipc::wire::Failure;
use crate::process::handshake::{self, ChildMessage, EXIT_PANIC, Hello, ParentMessage};
use crate::process::identity::Identity;
use crate::process::parent::early_stderr::EarlyStderr;
#[cfg(feature = "sandbox")]
use crate::process::parent::exit_report::call_name;
use crate::process::parent::exit_report::reason_of;
use crate::process::parent::reaper;
use crate::process::parent::record::{ChildRecord, LiveChild};
#[cfg(feature = "sandbox")]
use crate::process::sandbox::AppliedSandbox;
use crate::sys::{ChildEvent, Pidfd, WaitStatus};

/// How long a child that has closed its control socket may take to die.
const END_PATIENCE: Duration = Duration::from_millis(200);
/// No process that has been killed, or has been seen to end, takes this long.
const REAP_PATIENCE: Duration = Duration::from_secs(3600);
/// A longer timeout is as good as none; the clock may not be able to express it.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400 * 365);
const SIGABRT: i32 = 6;

/// A child that is being started. Dropping it before [`finish`](StartingChild::finish) kills and
/// reaps it.
pub(in crate::process) struct StartingChild {
    pid: u32,
    name: String,
    /// `None` once it has been reaped, or handed over.
    pidfd: Option<Pidfd>,
    control: Option<OwnedFd>,
    limit: StartLimit,
    /// What the kernel did for its sandbox, once it has reported that.
    #[cfg(feature = "sandbox")]
    sandbox: Option<AppliedSandbox>,
    /// The system call that ends it.
    #[cfg(feature = "sandbox")]
    forbidden: Option<i32>,
    /// The last panic that it reported.
    panicked: Option<PanicReport>,
    /// `None` once it has its real stderr.
    early: Option<EarlyStderr>,
}

/// The time by which the worker must run.
#[derive(Clone, Copy, Debug)]
pub(in crate::process) struct StartLimit {
    timeout: Duration,
    deadline: Instant,
}

impl StartLimit {
    /// Starts the clock.
    pub(in crate::process) fn after(timeout: Duration) -> StartLimit {
        StartLimit { timeout, deadline: Instant::now() + timeout.min(TIMEOUT_MAX) }
    }
}

impl StartingChild {
    pub(in crate::process) fn new(
        pid: u32,
        name: String,
        pidfd: Pidfd,
        control: OwnedFd,
        limit: StartLimit,
        early: EarlyStderr,
    ) -> StartingChild {
        StartingChild {
            pid,
            name,
            pidfd: Some(pidfd),
            control: Some(control),
            limit,
            #[cfg(feature = "sandbox")]
            sandbox: None,
            #[cfg(feature = "sandbox")]
            forbidden: None,
            panicked: None,
            early: Some(early),
        }
    }

    /// Sends the first message. Its descriptors are `before`, the real stderr, and `after`.
    pub(in crate::process) fn send_hello(
        &mut self,
        hello: &Hello,
        before: &[Option<OwnedFd>],
        after: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), SpawnError> {
        let before = before.iter().flatten().map(AsFd::as_fd);
        let stderr = self.early.iter().map(EarlyStderr::real);
        let after = after.iter().flatten().copied();
        let fds: Vec<BorrowedFd<'_>> = before.chain(stderr).chain(after).collect();
        match handshake::send(self.control(), hello, &fds) {
            Ok(()) => Ok(()),
            // The child is gone. Its status makes a better error.
            Err(error) if is_gone(&error) => Err(self.ended()),
            Err(cause) => Err(SpawnError::io("send the first message to the new process")(cause)),
        }
    }

    /// Waits until the worker runs; if it has a sandbox, then only in that.
    pub(in crate::process) fn wait_started(&mut self, in_sandbox: bool) -> Result<(), SpawnError> {
        let mut message = self.next_message()?;
        if matches!(message, ChildMessage::EarlyStderr) {
            // The child waits for the release and writes nothing in the meantime. So this passes on
            // all of its early text, before anything that it will write to the real stderr.
            self.pass_on();
            // If the child is gone, the next call notices.
            let _ = handshake::send(self.control(), &ParentMessage::ReleaseStderr, &[]);
            message = self.next_message()?;
        }
        #[cfg(not(feature = "sandbox"))]
        let _ = in_sandbox;
        #[cfg(feature = "sandbox")]
        if let ChildMessage::Sandboxed(applied) = message {
            self.sandbox = Some(applied);
            message = self.next_message()?;
        }
        match message {
            #[cfg(feature = "sandbox")]
            ChildMessage::Started if in_sandbox != self.sandbox.is_some() => {
                Err(self.protocol("it did not report its sandbox".to_owned()))
            }
            ChildMessage::Started => Ok(()),
            message => Err(self.refused(message)),
        }
    }

    /// Returns the next message that is not a panic. A panic may have been caught: what follows, a
    /// message or the end of the child, shows what it led to.
    fn next_message(&mut self) -> Result<ChildMessage, SpawnError> {
        loop {
            match self.any_message()? {
                // A child that never stops reporting panics must not hide the deadline.
                ChildMessage::Panicked { .. } if self.limit.deadline <= Instant::now() => {
                    return Err(self.timed_out());
                }
                ChildMessage::Panicked { report, .. } => self.panicked = Some(report),
                #[cfg(feature = "sandbox")]
                ChildMessage::Forbidden(number) => {
                    self.forbidden = Some(i32::from_le_bytes(number));
                }
                message => return Ok(message),
            }
        }
    }

    fn timed_out(&mut self) -> SpawnError {
        let deadline = self.limit.timeout;
        let (name, pid) = self.name_and_pid();
        let stderr = self.stderr_tail();
        SpawnError::Timeout { name, pid, deadline, stderr }
    }

    fn any_message(&mut self) -> Result<ChildMessage, SpawnError> {
        match self.wait()? {
            ChildEvent::Timeout => Err(self.timed_out()),
            ChildEvent::Ended => Err(self.ended()),
            ChildEvent::Readable | ChildEvent::Other => match handshake::recv(self.control()) {
                Ok(Some((message, _))) => Ok(message),
                Ok(None) => Err(self.ended()),
                Err(error) if is_gone(&error) => Err(self.ended()),
                Err(error) => Err(self.protocol(format!("its message cannot be decoded: {error}"))),
            },
        }
    }

    /// Waits for a message, the child's end, or the deadline, and passes the child's stderr on in
    /// the meantime.
    fn wait(&mut self) -> Result<ChildEvent, SpawnError> {
        loop {
            let early = self.early.as_ref().expect("a start that is not finished passes stderr on");
            let event = self.pidfd().wait_or_readable(
                self.control(),
                early.interest(),
                self.limit.deadline,
            );
            match event.map_err(SpawnError::io("wait for the new process"))? {
                ChildEvent::Other => self.pass_on(),
                event => return Ok(event),
            }
        }
    }

    fn pass_on(&mut self) {
        if let (Some(early), Some(control)) = (&mut self.early, &self.control) {
            early.pass_on_during_start(control.as_fd());
        }
    }

    fn stderr_tail(&mut self) -> String {
        self.early.as_mut().map(EarlyStderr::tail).unwrap_or_default()
    }

    fn refused(&mut self, message: ChildMessage) -> SpawnError {
        let (name, pid) = self.name_and_pid();
        match message {
            ChildMessage::Mismatch(message) => SpawnError::BinaryMismatch { name, pid, message },
            ChildMessage::BadValue(message) => SpawnError::Decode { name, pid, message },
            ChildMessage::Failed(message) => SpawnError::Failed { name, pid, message },
            #[cfg(feature = "sandbox")]
            ChildMessage::NoSandbox { missing, reason } => {
                SpawnError::Sandbox { name, pid, missing, reason }
            }
            _ => self.protocol("it sent a message out of turn".to_owned()),
        }
    }

    fn pidfd(&self) -> &Pidfd {
        self.pidfd.as_ref().expect("a start that is not finished holds its child")
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.control
            .as_ref()
            .expect("a start that is not finished holds the control socket")
            .as_fd()
    }

    fn name_and_pid(&self) -> (String, u32) {
        (self.name.clone(), self.pid)
    }

    fn protocol(&mut self, message: String) -> SpawnError {
        let (name, pid) = self.name_and_pid();
        let stderr = self.stderr_tail();
        SpawnError::Protocol { name, pid, message, stderr }
    }

    /// Called when the child has closed its end of the socket, or is dead. Returns its exit status
    /// as the error.
    fn ended(&mut self) -> SpawnError {
        let pidfd = self.pidfd.take().expect("a start that is not finished holds its child");
        // A dying process closes its descriptors a moment before its pidfd becomes ready. A process
        // that closed the socket and keeps running has broken the protocol.
        if !matches!(pidfd.wait_end(Instant::now() + END_PATIENCE), Ok(true)) {
            pidfd.kill();
            reap(&pidfd);
            return self.protocol("it closed its control socket".to_owned());
        }
        let reason = match (reap(&pidfd), self.panicked.take()) {
            (WaitStatus::Exited(EXIT_PANIC), Some(report)) => {
                ExitReason::Panicked(Box::new(report))
            }
            (WaitStatus::Signaled { signal, .. }, Some(report)) if signal == SIGABRT => {
                ExitReason::Panicked(Box::new(report))
            }
            #[cfg(feature = "sandbox")]
            (WaitStatus::Signaled { .. }, _) if self.forbidden.is_some() => {
                ExitReason::Forbidden { call: self.forbidden.map(call_name) }
            }
            (status, _) => reason_of(status),
        };
        let (name, pid) = self.name_and_pid();
        let stderr = self.stderr_tail();
        SpawnError::Died { name, pid, reason, stderr }
    }

    /// Hands the child over to the reaper, and returns its record. `liveness` is the writing end of
    /// the liveness pipe.
    pub(in crate::process) fn finish(
        mut self,
        identity: &Identity,
        worker: &'static str,
        liveness: Option<OwnedFd>,
    ) -> Result<Arc<ChildRecord>, SpawnError> {
        let control =
            self.control.take().expect("a start that is not finished holds the control socket");
        let pidfd = self.pidfd.take().expect("a start that is not finished holds its child");
        // From here on, dropping `self` does nothing, and the code for each error must end the
        // child.
        if let Some(early) = self.early.take() {
            early.leave();
        }
        let live = LiveChild::new(pidfd, control, liveness);
        let record = ChildRecord::new(self.pid, identity, worker, live);
        #[cfg(feature = "sandbox")]
        let record = record.in_sandbox(self.sandbox.take());
        let record = Arc::new(record);
        // The child may have ended since `Started`. Its end is not lost: the pidfd stays ready, and
        // the reaper's poller reports it as soon as it watches the pidfd.
        if let Err(cause) = reaper::watch(record.clone()) {
            // The reaper does not watch it, and no other thread has the record, so it is reaped
            // here.
            record.with_pidfd(|pidfd| {
                pidfd.kill();
                reap(pidfd)
            });
            return Err(SpawnError::io("watch the new process")(cause));
        }
        Ok(record)
    }
}

impl Drop for StartingChild {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            pidfd.kill();
            reap(&pidfd);
        }
    }
}

/// Returns whether an error of the socket means that the other side is gone.
fn is_gone(error: &io::Error) -> bool {
    matches!(Failure::from(io::Error::from(error.kind())), Failure::Gone)
}

/// Takes the status of a child that has been killed, or has been seen to end.
fn reap(pidfd: &Pidfd) -> WaitStatus {
    let _ = pidfd.wait_end(Instant::now() + REAP_PATIENCE);
    pidfd.reap().unwrap_or(WaitStatus::Unknown)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sys;

    #[test]
    fn a_child_that_floods_its_parent_with_panics_does_not_start() {
        let mut program = Command::new("sleep").arg("1000").spawn().unwrap();
        let (control, theirs) = sys::packet_pair().unwrap();
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let (early, _stderr) = EarlyStderr::new(null.into()).unwrap();
        let mut starting = StartingChild::new(
            program.id(),
            "flood".to_owned(),
            Pidfd::of(&program).unwrap(),
            control,
            StartLimit::after(Duration::from_secs(1)),
            early,
        );
        let flood = std::thread::spawn(move || {
            loop {
                let report = PanicReport::new("again".to_owned(), None, None, None);
                let message = ChildMessage::Panicked { in_run: false, report };
                match handshake::send(theirs.as_fd(), &message, &[]) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        });
        let error = starting.wait_started(false).unwrap_err();
        assert!(matches!(error, SpawnError::Timeout { .. }), "{error}");
        drop(starting);
        flood.join().unwrap();
        assert!(program.wait().is_err(), "its status was taken");
    }
}
