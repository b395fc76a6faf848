//! The child's side: from `init` to the exit.
//!
//! The order of the first steps matters, because each of them protects the next ones:
//!
//! 1. The control socket leaves stdin, before anything can read from it.
//! 2. The panic hook is installed, so that a panic from here on reaches the parent.
//! 3. Signals are reset: those that the parent blocks or ignores would make `terminate` do nothing.
//! 4. The first message is received and checked. A process that is not the same program stops here.
//! 5. The liveness pipe is watched: from now on the child ends with its parent, whatever it does.
//! 6. Inherited descriptors are closed, and stdio is set up, which needs /proc and /dev.
//! 7. The sandbox is put on. Threads that are started later are in it from their beginning.
//! 8. Only then user code runs: it decodes the worker.

use std::io::{self, Write};
#[cfg(feature = "sandbox")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

#[cfg(feature = "sandbox")]
use crate::ipc::spin;
use crate::process::child::{control, panic_hook};
use crate::process::exit_limit;
use crate::process::handshake::{
    self, ChildMessage, EXIT_PANIC, Hello, ParentMessage, WIRE_VERSION,
};
use crate::process::identity;
use crate::process::panic_report;
use crate::process::registry;
use crate::process::run::RunOutcome;
#[cfg(feature = "sandbox")]
use crate::process::sandbox::AppliedSandbox;
use crate::process::spawn_hook;
use crate::process::value::IncomingValue;
#[cfg(feature = "sandbox")]
use crate::sys::SandboxFailure;
use crate::sys::{self, Keep};

/// The exit code of a child whose start failed, after it has sent the reason.
const EXIT_START: i32 = 70;

/// Turns this process into the child that it was started as.
pub(super) fn become_child() -> ! {
    let control = match sys::take_stdin() {
        Ok(control) => Arc::new(control),
        Err(error) => {
            eprintln!(
                "offspring: this process was started as a child, but its control socket is missing: {error}"
            );
            std::process::exit(EXIT_START);
        }
    };
    let send = |message: &ChildMessage| {
        // It fails only if the parent is gone. Then the liveness pipe ends this process.
        let _ = handshake::send(control.as_fd(), message, &[]);
    };
    panic_hook::install(&control);
    sys::reset_signals();
    let outcome = match run_worker(&control, &send) {
        Ok(outcome) => outcome,
        Err(refusal) => {
            send(&refusal.map_text(panic_report::cut_message));
            std::process::exit(EXIT_START);
        }
    };
    let code = match outcome {
        RunOutcome::Panicked(message) => {
            if let Some(report) = panic_hook::unsent_report(message) {
                send(&ChildMessage::Panicked { in_run: true, report });
            }
            EXIT_PANIC
        }
        RunOutcome::Unsendable(message) => {
            send(&ChildMessage::Unsendable(panic_report::cut_message(message)));
            0
        }
        RunOutcome::Returned { output, is_err } => {
            if is_err {
                send(&ChildMessage::ReturnsErr);
            }
            if let Err(error) = handshake::send_output(control.as_fd(), output) {
                let message = format!("it could not be sent: {error}");
                send(&ChildMessage::Unsendable(message));
            }
            0
        }
    };
    exit_limit::begin_at_exit();
    std::process::exit(code)
}

/// Receives the worker and runs it. Its error is the message that refuses the start.
fn run_worker(
    control: &Arc<OwnedFd>,
    send: &dyn Fn(&ChildMessage),
) -> Result<RunOutcome, ChildMessage> {
    let (hello, value) = receive(control)?;
    let run = registry::find(&hello.worker).ok_or_else(|| {
        ChildMessage::Mismatch(format!("worker `{}` is not registered in it", hello.worker))
    })?;
    exit_limit::set(hello.exit_timeout);
    if hello.shielded {
        sys::shield_from_outside();
    }
    #[cfg(feature = "sandbox")]
    if let Some(plan) = &hello.sandbox {
        send(&enter_sandbox(control, plan)?);
    }
    // After the sandbox, which binds threads that are started in it.
    control::watch().map_err(|error| failed("watch for the end of its parent", error))?;
    identity::set(hello.identity);
    identity::set_entry(hello.entry);
    let value = match value {
        IncomingValue::Channel(channel) if hello.has_hooks => IncomingValue::Channel(
            spawn_hook::receive(channel)
                .map_err(|error| failed("receive what it inherits", error))?,
        ),
        value => value,
    };
    run(value, &|| send(&ChildMessage::Started)).map_err(ChildMessage::BadValue)
}

/// Puts this process into its sandbox, and returns the message that says so.
#[cfg(feature = "sandbox")]
fn enter_sandbox(
    control: &Arc<OwnedFd>,
    plan: &sys::SandboxPlan,
) -> Result<ChildMessage, ChildMessage> {
    // What is read from files and then kept: the bounds of the stack, for the decoder; the number of
    // processors; the debug information of this program, for backtraces.
    sys::stack_left();
    spin::is_alone();
    panic_report::warm_up();
    let packet = handshake::packet(&ChildMessage::Forbidden([0; 4]))
        .map_err(|error| failed("prepare its sandbox", error))?;
    let report = sys::ViolationReport { socket: control.as_raw_fd(), packet };
    match sys::enter_sandbox(plan, report) {
        Ok(missing) => Ok(ChildMessage::Sandboxed(AppliedSandbox::new(plan, missing))),
        Err(SandboxFailure::Missing(missing, reason)) => {
            Err(ChildMessage::NoSandbox { missing, reason })
        }
        Err(SandboxFailure::Invalid(reason)) => {
            Err(ChildMessage::Failed(format!("its sandbox cannot be made: {reason}")))
        }
    }
}

fn failed(act: &str, error: io::Error) -> ChildMessage {
    ChildMessage::Failed(format!("could not {act}: {error}"))
}

/// Takes everything that the parent has put into the socket, and returns the worker's value.
fn receive(control: &Arc<OwnedFd>) -> Result<(Hello, IncomingValue), ChildMessage> {
    let (mut hello, fds) = handshake::recv::<Hello>(control.as_fd())
        .map_err(|error| {
            ChildMessage::Mismatch(format!("the first message cannot be decoded: {error}"))
        })?
        .ok_or_else(|| ChildMessage::Failed("its parent is gone".to_owned()))?;
    if hello.version != WIRE_VERSION {
        return Err(ChildMessage::Mismatch(format!(
            "it has protocol version {WIRE_VERSION}, its parent version {}",
            hello.version
        )));
    }
    hello.check(registry::fingerprint).map_err(ChildMessage::Mismatch)?;
    let stdio_count = hello.stdio.iter().filter(|given| **given).count();
    let expected = stdio_count + usize::from(hello.value.is_none()) + usize::from(!hello.detached);
    // The system drops the descriptors for which this process has no free number.
    if fds.len() != expected {
        return Err(ChildMessage::Failed(
            "it had too few free descriptors for those that its parent sent".to_owned(),
        ));
    }
    let mut fds = fds.into_iter();
    let stdio = hello.stdio.map(|given| if given { fds.next() } else { None });
    let value = hello.value.take();
    let channel = if value.is_none() { fds.next() } else { None };
    let liveness = fds.next();
    control::hold(control.clone(), liveness)
        .map_err(|error| failed("watch for the end of its parent", error))?;
    sys::close_inherited(if hello.keeps_descriptors { Keep::AllButMemory } else { Keep::Nothing });
    set_up_stdio(control, hello.early_stderr, stdio)
        .map_err(|error| failed("set up stdin, stdout and stderr", error))?;
    let value = match value {
        Some(bytes) => IncomingValue::Bytes(bytes),
        None => IncomingValue::Channel(
            handshake::channel_around(channel).map_err(|error| failed("make a channel", error))?,
        ),
    };
    Ok((hello, value))
}

fn set_up_stdio(
    control: &OwnedFd,
    early_stderr: (u64, u64),
    [stdin, stdout, stderr]: [Option<OwnedFd>; 3],
) -> io::Result<()> {
    // What a test harness has printed so far must go to its own stdout, not to the worker's.
    let _ = io::stdout().flush();
    sys::set_stdio(stdin, stdout, None)?;
    stderr.map_or(Ok(()), |stderr| replace_early_stderr(control.as_fd(), early_stderr, stderr))
}

/// Replaces the early stderr with the real one, unless a wrapper has put something else in its
/// place. The parent's half, and the argument for the order, are in `parent::early_stderr`.
fn replace_early_stderr(
    control: BorrowedFd<'_>,
    pipe: (u64, u64),
    real: OwnedFd,
) -> io::Result<()> {
    if sys::stderr_identity() != Some(pipe) {
        return Ok(());
    }
    // First the pipe, then the socket: the parent announces text before it takes the text out of
    // the pipe.
    if sys::stderr_has_unread() || handshake::try_recv::<ParentMessage>(control).is_ok() {
        handshake::send(control, &ChildMessage::EarlyStderr, &[])?;
        while !matches!(handshake::recv(control)?, Some((ParentMessage::ReleaseStderr, _)) | None) {
        }
    }
    sys::set_stdio(None, None, Some(real))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::wire;
    use crate::process::identity::{Entry, Identity};

    /// Returns the text of the refusal that follows this first message.
    fn refusal_of(first: &[u8]) -> String {
        let (parent, child) = sys::packet_pair().unwrap();
        sys::send_packet(parent.as_fd(), first, &[]).unwrap();
        match receive(&Arc::new(child)) {
            Err(ChildMessage::Mismatch(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_parent_of_another_version_is_refused_before_anything_is_done() {
        let hello = Hello {
            version: WIRE_VERSION + 1,
            image: Some(sys::image_identity().unwrap()),
            registry: registry::fingerprint(),
            worker: "worker".to_owned(),
            identity: Identity::of_main(),
            entry: Entry::Main,
            stdio: [false; 3],
            early_stderr: (0, 0),
            keeps_descriptors: false,
            detached: true,
            shielded: false,
            exit_timeout: std::time::Duration::MAX,
            has_hooks: false,
            #[cfg(feature = "sandbox")]
            sandbox: None,
            value: None,
        };
        let bytes = wire::encode(&hello, wire::Shape::Own).unwrap().bytes;
        assert!(refusal_of(&bytes).contains("has protocol version"));
        // The rest of the message may be anything in another version.
        let cut = refusal_of(&bytes[..bytes.len() / 2]);
        assert!(cut.contains("cannot be decoded"), "{cut}");
    }
}
