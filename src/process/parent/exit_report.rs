//! What a child said of its end, and what is to be made of it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::{ExitReason, KillCause, PanicReport};
use crate::ipc::wire::Envelope;
use crate::process::child::serve::EXIT_PANIC;
use crate::process::handshake::{self, Answer};
use crate::sys::WaitStatus;

/// What is there of what its worker returned.
#[derive(Debug)]
pub(in crate::process) enum Output {
    None,
    Here(Envelope),
    Lost(String),
    Taken,
}

/// What a child said before it ended.
#[derive(Default)]
pub(in crate::process) struct Told {
    returned: Option<Output>,
    panic_in_run: Option<PanicReport>,
    panic_elsewhere: Option<PanicReport>,
    /// Why there is no output, though there was one.
    broken: Option<String>,
}

impl Told {
    /// The child is dead, so what it sent is all here: nothing is waited for.
    pub(in crate::process) fn drain(lifeline: BorrowedFd<'_>) -> Told {
        let mut told = Told::default();
        loop {
            match handshake::hear_now(lifeline) {
                Ok(Some((answer, fds))) => told.take(answer, fds),
                // Nonsense of the worker's own.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                _ => return told,
            }
        }
    }

    fn take(&mut self, answer: Answer, fds: Vec<OwnedFd>) {
        let output = match answer {
            Answer::Panicked {
                in_run: true,
                report,
            } => return self.panic_in_run = Some(report),
            Answer::Panicked {
                in_run: false,
                report,
            } => return self.panic_elsewhere = Some(report),
            Answer::Returned(bytes) => handshake::of_bytes(bytes),
            Answer::Parcel => handshake::open_parcel(fds),
            Answer::Unsendable(message) => return self.returned = Some(Output::Lost(message)),
            _ => return,
        };
        match output {
            Ok(packet) => self.returned = Some(Output::Here(packet)),
            Err(error) => self.broken = Some(format!("it could not be received: {error}")),
        }
    }

    pub(in crate::process) fn judge(
        mut self,
        status: WaitStatus,
        terminated: Option<KillCause>,
        killed: Option<KillCause>,
    ) -> (ExitReason, Output) {
        if let Some(output) = self.returned.take() {
            return (ExitReason::Returned, output);
        }
        let reason = match (status, terminated, killed) {
            (
                WaitStatus::Signaled {
                    signal: signal @ 9, ..
                },
                _,
                Some(cause),
            )
            | (
                WaitStatus::Signaled {
                    signal: signal @ 15,
                    ..
                },
                Some(cause),
                _,
            ) => ExitReason::Killed { cause, signal },
            // A panic that was caught is only the reason if the process ended as panics end it.
            (WaitStatus::Exited(EXIT_PANIC) | WaitStatus::Unknown, ..)
                if self.panic_in_run.is_some() =>
            {
                self.panicked()
            }
            (WaitStatus::Signaled { signal: 6, .. }, ..)
                if self.panic_in_run.is_some() || self.panic_elsewhere.is_some() =>
            {
                self.panicked()
            }
            (WaitStatus::Exited(0), ..) if self.broken.is_some() => {
                return (
                    ExitReason::Returned,
                    Output::Lost(self.broken.unwrap_or_default()),
                );
            }
            (status, ..) => unsaid(status),
        };
        (reason, Output::None)
    }

    fn panicked(self) -> ExitReason {
        let report = match (self.panic_in_run, self.panic_elsewhere) {
            // A panic of another thread that `run` passed on: the other thread knows the place.
            (Some(run), Some(elsewhere))
                if run.location.is_none() && run.message == elsewhere.message =>
            {
                elsewhere
            }
            (Some(report), _) | (None, Some(report)) => report,
            (None, None) => return ExitReason::Unknown,
        };
        ExitReason::Panicked(Box::new(report))
    }
}

/// The reason, for a child that said nothing of it.
pub(crate) fn unsaid(status: WaitStatus) -> ExitReason {
    match status {
        WaitStatus::Exited(code) => ExitReason::Exited(code),
        WaitStatus::Signaled {
            signal,
            core_dumped,
        } => ExitReason::Signaled {
            signal,
            core_dumped,
        },
        WaitStatus::Unknown => ExitReason::Unknown,
    }
}
