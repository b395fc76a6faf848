//! Reports panics of a child to its parent.
//!
//! The panic hook reports them, not the code that catches them, so the report is complete under
//! `panic = "abort"` too. The report goes over the control socket and not through ipc-channel: the
//! panic may be ipc-channel's own, and a second one inside the hook would abort the process.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;

use crate::error::PanicReport;
use crate::ipc::wire;
use crate::process::handshake::{self, ChildMessage};
use crate::process::identity;
use crate::process::inline_context;
use crate::process::panic_report;
use crate::sys;

/// The most reports that the hook sends. The parent does not read them before the child ends, so
/// all of them, and one more for the panic that ends `run`, must fit the socket's buffer.
const REPORTS_MAX: u32 = 3;

/// Rust's message for a panic during a panic. The first panic is the cause.
const CONSEQUENCES: [&str; 2] =
    ["panic in a destructor during cleanup", "panic in a function that cannot unwind"];

#[derive(Debug)]
struct PanicLog {
    control: Arc<OwnedFd>,
    /// The thread that runs the worker.
    runner: ThreadId,
    sent: AtomicU32,
    /// True if some caller catches the runner's panics and asks for their reports.
    caught: AtomicBool,
    /// The runner's last panic, and whether its report was sent.
    last: Mutex<Option<(PanicReport, bool)>>,
}

static LOG: OnceLock<PanicLog> = OnceLock::new();

/// From now on, reports each panic of this child to the parent, and then passes it to the hook that
/// was there before. The calling thread will run the worker.
pub(super) fn install(control: &Arc<OwnedFd>) {
    let _ = LOG.set(PanicLog {
        control: control.clone(),
        runner: std::thread::current().id(),
        sent: AtomicU32::new(0),
        caught: AtomicBool::new(false),
        last: Mutex::new(None),
    });
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if wire::is_quiet() {
            return;
        }
        // A panic of an inline worker ends only that worker, not this process.
        if let Some(log) = LOG.get().filter(|_| !inline_context::note_panic(info)) {
            log.note(info);
            print_process();
        }
        before(info);
    }));
}

/// Installs a hook for a main program: panics of ipc-channel that this crate turns into errors are
/// not printed.
pub(super) fn hide_contained_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !wire::is_quiet() {
            inline_context::note_panic(info);
            before(info);
        }
    }));
}

/// Prints the name of the process. Rust's own line names only the thread, and every process has a
/// `main`.
fn print_process() {
    let (identity, pid) = (identity::of_process(), std::process::id());
    let _ = writeln!(io::stderr(), "in process `{}` (pid {pid}):", identity.name);
}

impl PanicLog {
    fn note(&self, info: &PanicHookInfo<'_>) {
        let message = wire::panic_text(info.payload());
        if CONSEQUENCES.contains(&message.as_str()) {
            self.send_last();
            return;
        }
        let in_run = std::thread::current().id() == self.runner;
        let caught = in_run && self.caught.load(Ordering::Relaxed) && cfg!(panic = "unwind");
        let send = !caught && self.sent.fetch_add(1, Ordering::Relaxed) < REPORTS_MAX;
        if !send && !in_run {
            return;
        }
        let report = panic_report::in_hook(info);
        let sent = send && self.send(in_run, report.clone());
        if in_run {
            *sys::lock(&self.last) = Some((report, sent));
        }
    }

    /// Sends the runner's last panic, because that ends the process after all, although a caller
    /// was to catch it.
    fn send_last(&self) {
        if let Some((report, sent)) = &mut *sys::lock(&self.last) {
            if !*sent {
                *sent = self.send(true, report.clone());
            }
        }
    }

    fn send(&self, in_run: bool, report: PanicReport) -> bool {
        let message = ChildMessage::Panicked { in_run, report };
        handshake::send(self.control.as_fd(), &message, &[]).is_ok()
    }

    fn take_last(&self) -> Option<(PanicReport, bool)> {
        sys::lock(&self.last).take()
    }
}

/// From now on, the caller catches the panics of the runner, and asks [`caught_panic`] for their
/// reports. The parent receives only those that end the process.
pub(crate) fn catch_panics() {
    if let Some(log) = LOG.get() {
        log.caught.store(true, Ordering::Relaxed);
    }
}

/// Returns the report of a panic that was just caught on the runner's thread, or on that of an
/// inline worker.
pub(in crate::process) fn caught_panic(message: String) -> PanicReport {
    let of_process = || Some(LOG.get()?.take_last()?.0);
    let message = panic_report::cut_message(message);
    match inline_context::take_panic().or_else(of_process) {
        Some(report) if report.message == message => report,
        _ => panic_report::of_message(message),
    }
}

/// Returns the report of the panic that ended `run`, unless it was sent already.
///
/// The hook has sent it, except in two cases. Either too many panics that were caught came before
/// it, or the hook did not see it: another thread's panic was passed on with `resume_unwind`, or
/// the worker has replaced the hook.
pub(super) fn unsent_report(message: String) -> Option<PanicReport> {
    let message = panic_report::cut_message(message);
    match LOG.get().and_then(PanicLog::take_last) {
        Some((report, sent)) if report.message == message => (!sent).then_some(report),
        _ => Some(panic_report::of_message(message)),
    }
}
