//! A child between its exec and the moment in which its worker runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{ExitReason, PanicReport, SpawnError};
use crate::ipc::wire::Failure;
use crate::process::child::serve::EXIT_PANIC;
use crate::process::current::Identity;
use crate::process::handle::{Life, Process, Running};
use crate::process::handshake::{self, Answer, Hello, Order};
use crate::process::parent::early_stderr::Early;
use crate::process::parent::exit_report::unsaid;
use crate::process::parent::reaper;
use crate::process::stdio::Pipes;
use crate::sys::{ChildEvent, Pidfd, WaitStatus};

/// A child on its way. Dropped before [`finish`](Start::finish), it is killed and reaped.
pub(crate) struct Start {
    pid: u32,
    name: String,
    /// `None` once somebody else looks after the child.
    pidfd: Option<Pidfd>,
    lifeline: Option<OwnedFd>,
    limit: Limit,
    /// The last panic that it told of.
    panicked: Option<PanicReport>,
    /// Until it has a stderr of its own.
    early: Option<Early>,
}

/// Until when the child must be ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    timeout: Duration,
    deadline: Instant,
}

impl Limit {
    pub(crate) fn of(timeout: Duration) -> Limit {
        // What the clock cannot express is as good as none.
        let span = timeout.min(Duration::from_secs(86_400 * 365));
        Limit {
            timeout,
            deadline: Instant::now() + span,
        }
    }
}

impl Start {
    pub(crate) fn new(
        pid: u32,
        name: String,
        pidfd: Pidfd,
        lifeline: OwnedFd,
        limit: Limit,
        early: Early,
    ) -> Start {
        Start {
            pid,
            name,
            pidfd: Some(pidfd),
            lifeline: Some(lifeline),
            limit,
            panicked: None,
            early: Some(early),
        }
    }

    /// Says all that the child needs; `before` and `after` go around its stderr.
    pub(crate) fn tell(
        &mut self,
        hello: &Hello,
        before: &[Option<OwnedFd>],
        after: &[Option<&OwnedFd>],
    ) -> Result<(), SpawnError> {
        let before = before.iter().flatten().map(AsFd::as_fd);
        let stderr = self.early.iter().map(Early::real);
        let after = after.iter().flatten().map(|fd| fd.as_fd());
        let fds: Vec<BorrowedFd<'_>> = before.chain(stderr).chain(after).collect();
        match handshake::tell(self.lifeline(), hello, &fds) {
            Ok(()) => Ok(()),
            // A child that is gone already is told better by its status.
            Err(error) if matches!(Failure::from(io::Error::from(error.kind())), Failure::Gone) => {
                Err(self.ended())
            }
            Err(source) => Err(SpawnError::Io {
                act: "speak to the new process",
                source,
            }),
        }
    }

    fn hear(&mut self) -> Result<Answer, SpawnError> {
        loop {
            match self.hear_any()? {
                // The next answer, or its end, says what it led to.
                Answer::Panicked { report, .. } => self.panicked = Some(report),
                answer => return Ok(answer),
            }
        }
    }

    fn hear_any(&mut self) -> Result<Answer, SpawnError> {
        match self.wait()? {
            ChildEvent::Timeout => {
                let deadline = self.limit.timeout;
                let (name, pid) = self.who();
                let stderr = self.stderr();
                Err(SpawnError::Timeout {
                    name,
                    pid,
                    deadline,
                    stderr,
                })
            }
            ChildEvent::Ended => Err(self.ended()),
            ChildEvent::Readable | ChildEvent::Other => match handshake::hear(self.lifeline()) {
                Ok(Some((answer, _))) => Ok(answer),
                Ok(None) => Err(self.ended()),
                Err(error)
                    if matches!(Failure::from(io::Error::from(error.kind())), Failure::Gone) =>
                {
                    Err(self.ended())
                }
                Err(error) => Err(self.protocol(format!("its answer is not understood: {error}"))),
            },
        }
    }

    /// Waits for all but its stderr, which is passed on meanwhile.
    fn wait(&mut self) -> Result<ChildEvent, SpawnError> {
        loop {
            let early = self
                .early
                .as_ref()
                .expect("a start that is not finished looks after stderr");
            let waited = self.pidfd().wait_or_readable(
                self.lifeline(),
                early.interest(),
                self.limit.deadline,
            );
            match waited.map_err(SpawnError::io("wait for the new process"))? {
                ChildEvent::Other => self.pass_on(),
                waited => return Ok(waited),
            }
        }
    }

    fn pass_on(&mut self) {
        if let (Some(early), Some(lifeline)) = (&mut self.early, &self.lifeline) {
            early.pass_on_for(lifeline.as_fd());
        }
    }

    fn stderr(&mut self) -> String {
        self.early.as_mut().map(Early::tail).unwrap_or_default()
    }

    pub(crate) fn hear_started(&mut self) -> Result<(), SpawnError> {
        let mut answer = self.hear()?;
        if matches!(answer, Answer::Early) {
            // Before the child writes to the real one: so all of it stays in order.
            self.pass_on();
            // If it is gone, the next look tells.
            let _ = handshake::tell(self.lifeline(), &Order::GoOn, &[]);
            answer = self.hear()?;
        }
        match answer {
            Answer::Started => Ok(()),
            answer => Err(self.refused(answer)),
        }
    }

    fn refused(&mut self, answer: Answer) -> SpawnError {
        let (name, pid) = self.who();
        match answer {
            Answer::Mismatch(message) => SpawnError::BinaryMismatch { name, pid, message },
            Answer::BadValue(message) => SpawnError::Decode { name, pid, message },
            Answer::Failed(message) => SpawnError::Failed { name, pid, message },
            _ => self.protocol("it answered out of turn".to_owned()),
        }
    }

    fn pidfd(&self) -> &Pidfd {
        self.pidfd
            .as_ref()
            .expect("a start that is not finished holds its child")
    }

    fn lifeline(&self) -> BorrowedFd<'_> {
        self.lifeline
            .as_ref()
            .expect("a start that is not finished holds its lifeline")
            .as_fd()
    }

    fn who(&self) -> (String, u32) {
        (self.name.clone(), self.pid)
    }

    fn protocol(&mut self, message: String) -> SpawnError {
        let (name, pid) = self.who();
        let stderr = self.stderr();
        SpawnError::Protocol {
            name,
            pid,
            message,
            stderr,
        }
    }

    /// The child closed its end, or is gone: waits for its status, which is the better answer.
    fn ended(&mut self) -> SpawnError {
        let pidfd = self
            .pidfd
            .take()
            .expect("a start that is not finished holds its child");
        // One that closed the lifeline but lives on gets no second chance.
        if !matches!(
            pidfd.wait_end(Instant::now() + Duration::from_millis(200)),
            Ok(true)
        ) {
            pidfd.kill();
            reap(&pidfd);
            return self.protocol("it closed its lifeline".to_owned());
        }
        let reason = match (reap(&pidfd), self.panicked.take()) {
            (
                WaitStatus::Exited(EXIT_PANIC) | WaitStatus::Signaled { signal: 6, .. },
                Some(report),
            ) => ExitReason::Panicked(Box::new(report)),
            (status, _) => unsaid(status),
        };
        let (name, pid) = self.who();
        let stderr = self.stderr();
        SpawnError::Died {
            name,
            pid,
            reason,
            stderr,
        }
    }

    /// Hands the child over to the reaper. `life` is what it ends with.
    pub(crate) fn finish<T: DeserializeOwned>(
        mut self,
        identity: &Identity,
        worker: &'static str,
        life: Option<OwnedFd>,
        pipes: Pipes,
    ) -> Result<Process<T>, SpawnError> {
        let lifeline = self
            .lifeline
            .take()
            .expect("a start that is not finished holds its lifeline");
        let pidfd = self
            .pidfd
            .take()
            .expect("a start that is not finished holds its child");
        if let Some(early) = self.early.take() {
            early.leave();
        }
        let life = Life::new(pidfd, lifeline, life);
        let running = Arc::new(Running::new(self.pid, identity, worker, life));
        if let Err(source) = reaper::watch(running.clone()) {
            running.with_pidfd(|pidfd| {
                pidfd.kill();
                reap(pidfd)
            });
            return Err(SpawnError::Io {
                act: "watch the new process",
                source,
            });
        }
        Ok(Process::new(running, pipes))
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            pidfd.kill();
            reap(&pidfd);
        }
    }
}

fn reap(pidfd: &Pidfd) -> WaitStatus {
    // Killed, or seen to have ended: this does not wait long.
    let _ = pidfd.wait_end(Instant::now() + Duration::from_secs(3600));
    pidfd.reap().unwrap_or(WaitStatus::Unknown)
}
