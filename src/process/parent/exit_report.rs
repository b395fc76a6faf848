//! Why a child ended: its exit status, and what it reported before.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::{ExitReason, KillCause, PanicReport, is_starved};
use crate::ipc::wire::{CheckedReceiver, Envelope};
use crate::process::handshake::{self, ChildMessage, EXIT_PANIC};
#[cfg(feature = "sandbox")]
use crate::process::sandbox::AppliedSandbox;
#[cfg(feature = "sandbox")]
use crate::sys;
use crate::sys::WaitStatus;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
#[cfg(feature = "sandbox")]
const SIGSYS: i32 = 31;

/// More packets than a socket's buffer holds. Further packets do not come from the child, but from
/// a program to which the child left the socket, and which may keep sending forever.
const PACKETS_MAX: usize = 1024;

/// The output of a child that has ended.
#[derive(Debug)]
pub(in crate::process) enum StoredOutput {
    /// `run` did not return.
    None,
    Here(Envelope),
    /// `run` returned, but this process had no descriptors to receive its output.
    Unread(UnreadOutput),
    /// `run` returned, but its output did not arrive.
    Lost(String),
    /// An earlier join took it.
    Taken,
}

/// Where an output is that could not be received yet.
#[derive(Debug)]
pub(in crate::process) enum UnreadOutput {
    /// In a channel, whose receiving end comes with the next message in this socket.
    InSocket(Arc<OwnedFd>),
    InChannel(CheckedReceiver<Envelope>),
}

impl UnreadOutput {
    /// Receives the output. If this process still lacks descriptors, the output stays where it is.
    pub(in crate::process) fn read(self) -> StoredOutput {
        let channel = match self {
            UnreadOutput::InChannel(channel) => Ok(channel),
            UnreadOutput::InSocket(control) => match handshake::try_recv(control.as_fd()) {
                Ok(Some((ChildMessage::ReturnedParcel, fds))) => handshake::parcel_channel(fds),
                Err(error) if is_starved(&error) => {
                    return StoredOutput::Unread(UnreadOutput::InSocket(control));
                }
                Err(error) => Err(error),
                Ok(_) => Err(io::Error::other("the message about it was replaced")),
            },
        };
        channel.map_or_else(StoredOutput::lost, StoredOutput::of_channel)
    }
}

impl StoredOutput {
    fn of_channel(channel: CheckedReceiver<Envelope>) -> StoredOutput {
        match handshake::open_parcel(&channel) {
            Ok(envelope) => StoredOutput::Here(envelope),
            Err(error) if is_starved(&error) => {
                StoredOutput::Unread(UnreadOutput::InChannel(channel))
            }
            Err(error) => StoredOutput::lost(error),
        }
    }

    fn lost(error: io::Error) -> StoredOutput {
        StoredOutput::Lost(format!("it could not be received: {error}"))
    }
}

/// The messages of a child about its end.
#[derive(Default)]
pub(in crate::process) struct ExitReport {
    returned: Option<StoredOutput>,
    panic_in_run: Option<PanicReport>,
    panic_elsewhere: Option<PanicReport>,
    /// Why the output that the child sent could not be received.
    broken: Option<String>,
    /// The forbidden system call that ended it, by its own account.
    #[cfg(feature = "sandbox")]
    forbidden: Option<i32>,
    /// Its sandbox ends it for a forbidden call, which a thread may be unable to report.
    #[cfg(feature = "sandbox")]
    is_deadly: bool,
    /// The output is the `Err` of a `Result`.
    pub(in crate::process) is_err: bool,
}

impl ExitReport {
    /// Reads all messages of a child that is dead. Never blocks.
    pub(in crate::process) fn read(control: &Arc<OwnedFd>) -> ExitReport {
        let mut report = ExitReport::default();
        for _ in 0..PACKETS_MAX {
            match handshake::try_recv(control.as_fd()) {
                Ok(Some((message, fds))) => report.add(message, fds),
                // Not a message: the worker itself wrote to the socket.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) if is_starved(&error) => {
                    if let Some(ChildMessage::ReturnedParcel) = handshake::peek(control.as_fd()) {
                        let unread = UnreadOutput::InSocket(control.clone());
                        report.returned = Some(StoredOutput::Unread(unread));
                    }
                    break;
                }
                _ => break,
            }
        }
        report
    }

    /// Says in which sandbox the child was.
    #[cfg(feature = "sandbox")]
    pub(in crate::process) fn of_sandbox(self, sandbox: Option<&AppliedSandbox>) -> ExitReport {
        ExitReport { is_deadly: sandbox.is_some_and(AppliedSandbox::is_deadly), ..self }
    }

    fn add(&mut self, message: ChildMessage, fds: Vec<OwnedFd>) {
        let output = match message {
            ChildMessage::Panicked { in_run, report } => {
                let panic = if in_run { &mut self.panic_in_run } else { &mut self.panic_elsewhere };
                *panic = Some(report);
                return;
            }
            ChildMessage::ReturnsErr => {
                self.is_err = true;
                return;
            }
            #[cfg(feature = "sandbox")]
            ChildMessage::Forbidden(number) => {
                self.forbidden = Some(i32::from_le_bytes(number));
                return;
            }
            ChildMessage::Returned(bytes) => {
                let output = handshake::envelope_of(bytes);
                output.map_or_else(StoredOutput::lost, StoredOutput::Here)
            }
            ChildMessage::ReturnedParcel => {
                let channel = handshake::parcel_channel(fds);
                channel.map_or_else(StoredOutput::lost, StoredOutput::of_channel)
            }
            ChildMessage::Unsendable(message) => {
                self.returned = Some(StoredOutput::Lost(message));
                return;
            }
            _ => return,
        };
        match output {
            StoredOutput::Lost(message) => self.broken = Some(message),
            output => self.returned = Some(output),
        }
    }

    /// Returns the reason and the output. `terminated` and `killed` are the causes of the signals
    /// that this process sent, if it sent any.
    ///
    /// An output that has arrived decides, even if a signal ended the process after it was sent.
    /// Next in order is a signal of this process, if that ended the child. A panic counts only if
    /// the process ended in the way that panics end it, because the worker may have caught the
    /// panic and continued.
    pub(in crate::process) fn conclude(
        mut self,
        status: WaitStatus,
        terminated: Option<KillCause>,
        killed: Option<KillCause>,
    ) -> (ExitReason, StoredOutput) {
        if let Some(output) = self.returned.take() {
            return (ExitReason::Returned, output);
        }
        let own_signal = match status {
            WaitStatus::Signaled { signal, .. } if signal == SIGKILL => killed,
            WaitStatus::Signaled { signal, .. } if signal == SIGTERM => terminated,
            _ => None,
        };
        let panicked_in_run = self.panic_in_run.is_some();
        let panicked = panicked_in_run || self.panic_elsewhere.is_some();
        let reason = match (status, own_signal) {
            (WaitStatus::Signaled { signal, .. }, Some(cause)) => {
                ExitReason::Killed { cause, signal }
            }
            #[cfg(feature = "sandbox")]
            (WaitStatus::Signaled { signal, .. }, _)
                if signal == SIGSYS && (self.is_deadly || self.forbidden.is_some()) =>
            {
                ExitReason::Forbidden { call: self.forbidden.map(call_name) }
            }
            (WaitStatus::Exited(EXIT_PANIC) | WaitStatus::Unknown, _) if panicked_in_run => {
                self.panicked()
            }
            (WaitStatus::Signaled { signal, .. }, _) if signal == SIGABRT && panicked => {
                self.panicked()
            }
            (WaitStatus::Exited(0), _) if self.broken.is_some() => {
                let message = self.broken.unwrap_or_default();
                return (ExitReason::Returned, StoredOutput::Lost(message));
            }
            (status, _) => reason_of(status),
        };
        (reason, StoredOutput::None)
    }

    fn panicked(self) -> ExitReason {
        let report = match (self.panic_in_run, self.panic_elsewhere) {
            // `run` passed on a panic of another thread, whose report has the location.
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

/// Returns how a message calls a system call.
#[cfg(feature = "sandbox")]
pub(super) fn call_name(number: i32) -> String {
    sys::call_name(number).map_or_else(|| format!("number {number}"), |name| format!("`{name}`"))
}

/// Returns the reason for a child that reported nothing.
pub(super) fn reason_of(status: WaitStatus) -> ExitReason {
    match status {
        WaitStatus::Exited(code) => ExitReason::Exited(code),
        WaitStatus::Signaled { signal, core_dumped } => {
            ExitReason::Signaled { signal, core_dumped }
        }
        WaitStatus::Unknown => ExitReason::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn reading_ends_although_someone_goes_on_writing() {
        let (control, theirs) = sys::packet_pair().unwrap();
        handshake::send(theirs.as_fd(), &ChildMessage::Returned(vec![7]), &[]).unwrap();
        let flood = std::thread::spawn(move || {
            loop {
                match handshake::send(theirs.as_fd(), &ChildMessage::Started, &[]) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        });
        let control = Arc::new(control);
        let report = ExitReport::read(&control);
        assert!(matches!(report.returned, Some(StoredOutput::Here(_))));
        drop(control);
        flood.join().unwrap();
    }
}
