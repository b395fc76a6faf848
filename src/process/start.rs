//! A child between its exec and the moment in which its worker runs.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcReceiver, IpcSender};
use serde::de::DeserializeOwned;

use crate::error::{ExitReason, PanicReport, SpawnError};
use crate::process::child::EXIT_PANIC;
use crate::process::current::Identity;
use crate::process::directory::Candidates;
use crate::process::early::Early;
use crate::process::handle::{Life, Process, Running, unsaid};
use crate::process::handshake::{self, Answer, Boot, Hello, Report};
use crate::process::reaper;
use crate::process::stdio::Pipes;
use crate::sys::{Pidfd, Status, Waited};
use crate::wire::{self, Failure};

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
    /// Where its server may be, as long as the start may fail.
    directory: Option<Candidates>,
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
    pub(crate) fn new(pid: u32, name: String, pidfd: Pidfd, lifeline: OwnedFd, limit: Limit, directory: Candidates, early: Early) -> Start {
        Start {
            pid,
            name,
            pidfd: Some(pidfd),
            lifeline: Some(lifeline),
            limit,
            panicked: None,
            early: Some(early),
            directory: Some(directory),
        }
    }

    pub(crate) fn tell(&mut self, hello: &Hello, fds: &[OwnedFd]) -> Result<(), SpawnError> {
        let stderr = self.early.iter().map(Early::real);
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).chain(stderr).collect();
        match handshake::tell(self.lifeline(), hello, &fds) {
            Ok(()) => Ok(()),
            // A child that is gone already is told better by its status.
            Err(error) if matches!(Failure::from(io::Error::from(error.kind())), Failure::Disconnected) => Err(self.ended()),
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
            Waited::Timeout => {
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
            Waited::Ended => Err(self.ended()),
            Waited::Readable | Waited::Other => match handshake::hear(self.lifeline()) {
                Ok(Some((answer, _))) => Ok(answer),
                Ok(None) => Err(self.ended()),
                Err(error) if matches!(Failure::from(io::Error::from(error.kind())), Failure::Disconnected) => Err(self.ended()),
                Err(error) => Err(self.protocol(format!("its answer is not understood: {error}"))),
            },
        }
    }

    /// Waits for all but its stderr, which is passed on meanwhile.
    fn wait(&mut self) -> Result<Waited, SpawnError> {
        loop {
            let early = self.early.as_ref().expect("a start that is not finished looks after stderr");
            let waited = self
                .pidfd()
                .wait_or_readable(self.lifeline(), early.interest(), self.limit.deadline);
            match waited.map_err(SpawnError::io("wait for the new process"))? {
                Waited::Other => self.pass_on(),
                waited => return Ok(waited),
            }
        }
    }

    fn pass_on(&mut self) {
        if let Some(early) = &mut self.early {
            early.pass_on();
        }
    }

    fn stderr(&mut self) -> String {
        self.early.as_mut().map(Early::tail).unwrap_or_default()
    }

    pub(crate) fn hear_ready(&mut self) -> Result<String, SpawnError> {
        match self.hear()? {
            Answer::Ready(server) => {
                // Before the child writes to the real one: so all of it stays in order.
                self.pass_on();
                Ok(server)
            }
            answer => Err(self.refused(answer)),
        }
    }

    pub(crate) fn hear_started(&mut self) -> Result<(), SpawnError> {
        match self.hear()? {
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
            Answer::Ready(_) | Answer::Started | Answer::Panicked { .. } => self.protocol("it answered out of turn".to_owned()),
        }
    }

    pub(crate) fn send_boot(&mut self, server: String, boot: Boot) -> Result<(), SpawnError> {
        let is_its_own = self.directory.as_ref().is_some_and(|directory| directory.hold(Path::new(&server)));
        if server.contains('\0') || !is_its_own {
            return Err(self.protocol("it named a server that is none".to_owned()));
        }
        let sent = match fs::metadata(&server) {
            Ok(file) if file.file_type().is_socket() => wire::no_panic("ipc-channel", || IpcSender::connect(server))
                .and_then(|sender| sender)
                .map_err(Failure::from)
                .and_then(|sender| wire::send(&sender, boot)),
            // Not tried: ipc-channel keeps a descriptor for each name that it cannot connect to.
            _ => Err(Failure::Disconnected),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Failure::Io(source)) if source.kind() != io::ErrorKind::ConnectionRefused && source.kind() != io::ErrorKind::NotFound => {
                Err(SpawnError::Io {
                    act: "send the worker to the new process",
                    source,
                })
            }
            // The server is gone: what its process says, or its status, tells more.
            Err(_) => Err(match self.hear() {
                Ok(answer) => self.refused(answer),
                Err(error) => error,
            }),
        }
    }

    fn pidfd(&self) -> &Pidfd {
        self.pidfd.as_ref().expect("a start that is not finished holds its child")
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
        let pidfd = self.pidfd.take().expect("a start that is not finished holds its child");
        // One that closed the lifeline but lives on gets no second chance.
        if !matches!(pidfd.wait_end(Instant::now() + Duration::from_millis(200)), Ok(true)) {
            pidfd.kill();
            reap(&pidfd);
            return self.protocol("it closed its lifeline".to_owned());
        }
        let reason = match (reap(&pidfd), self.panicked.take()) {
            (Status::Exited(EXIT_PANIC) | Status::Signaled { signal: 6, .. }, Some(report)) => ExitReason::Panicked(Box::new(report)),
            (status, _) => unsaid(status),
        };
        let (name, pid) = self.who();
        let stderr = self.stderr();
        SpawnError::Died { name, pid, reason, stderr }
    }

    /// Hands the child over to the reaper.
    pub(crate) fn finish<T: DeserializeOwned>(
        mut self,
        identity: &Identity,
        worker: &'static str,
        reports: IpcReceiver<Report>,
        pipes: Pipes,
    ) -> Result<Process<T>, SpawnError> {
        let lifeline = self.lifeline.take().expect("a start that is not finished holds its lifeline");
        let pidfd = self.pidfd.take().expect("a start that is not finished holds its child");
        // It removed the directory itself, when the parent had connected.
        self.directory = None;
        if let Some(early) = self.early.take() {
            early.leave();
        }
        let life = Life::new(pidfd, lifeline, reports);
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
        // Now nobody makes anything in there any more.
        if let Some(directory) = &self.directory {
            directory.remove();
        }
    }
}

fn reap(pidfd: &Pidfd) -> Status {
    // Killed, or seen to have ended: this does not wait long.
    let _ = pidfd.wait_end(Instant::now() + Duration::from_secs(3600));
    pidfd.reap().unwrap_or(Status::Unknown)
}
