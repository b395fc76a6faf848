//! The child's side: from `init` to the exit.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;

use crate::error::PanicReport;
use crate::ipc::hub;
use crate::ipc::wire::{self, Envelope};
use crate::process::child::entry::Entry;
use crate::process::child::lifeline;
use crate::process::current::{self, Identity};
use crate::process::handshake::{self, Answer, Hello, WIRE_VERSION};
use crate::process::inline;
use crate::process::parent::early_stderr;
use crate::process::registry::{self, ProcessWorker};
use crate::process::spawn_hook;
use crate::process::value::Arrived;
use crate::sys::{self, Keep};

/// The exit code of a worker that panicked: Rust's own.
pub(crate) const EXIT_PANIC: i32 = 101;
/// The exit code of a child whose start failed after it said why over the lifeline.
const EXIT_START: i32 = 70;

/// How `run` ended.
#[derive(Debug)]
pub(crate) enum Finished {
    Returned(Envelope),
    Unsendable(String),
    Panicked(String),
}

/// Receives the worker, calls `started`, runs it. The `Err` says why there is no worker.
pub(crate) fn run<W: ProcessWorker>(
    value: Arrived,
    started: &dyn Fn(),
) -> Result<Finished, String> {
    let worker: W = value.take()?;
    started();
    Ok(match catch_unwind(AssertUnwindSafe(|| worker.run())) {
        Err(panic) => Finished::Panicked(wire::panic_text(&*panic)),
        Ok(output) => match wire::encode(&output).map(Envelope::new) {
            Ok(Ok(packet)) => {
                hub::announce();
                Finished::Returned(packet)
            }
            Ok(Err(error)) => Finished::Unsendable(format!("no memory to send it in: {error}")),
            Err(error) => Finished::Unsendable(error.to_string()),
        },
    })
}

/// Turns this process into the child it was started as. `settle` makes its identity known.
pub(crate) fn become_child(settle: impl FnOnce(Identity, Entry)) -> ! {
    let lifeline = match sys::take_stdin() {
        Ok(lifeline) => Arc::new(lifeline),
        Err(error) => {
            eprintln!(
                "offspring: this process was started as a child, but its lifeline is missing: {error}"
            );
            std::process::exit(EXIT_START);
        }
    };
    let answer = |answer: &Answer| {
        // If the parent is gone, so is the reader; the lifeline ends us.
        let _ = handshake::tell(lifeline.as_fd(), answer, &[]);
    };
    let fail = |reason: Answer| -> ! {
        answer(&reason.map_message(|message| cut(message, MESSAGE_MAX)));
        std::process::exit(EXIT_START);
    };
    report_panics(&lifeline);
    sys::reset_signals();
    let finished = match work(&lifeline, settle, &answer) {
        Ok(finished) => finished,
        Err(reason) => fail(reason),
    };
    let code = match finished {
        Finished::Panicked(message) => {
            if let Some(report) = untold_panic(cut_message(message)) {
                answer(&Answer::Panicked {
                    in_run: true,
                    report,
                });
            }
            EXIT_PANIC
        }
        Finished::Unsendable(message) => {
            answer(&Answer::Unsendable(cut_message(message)));
            0
        }
        Finished::Returned(packet) => {
            if let Err(error) = handshake::tell_output(lifeline.as_fd(), packet) {
                answer(&Answer::Unsendable(format!(
                    "it could not be sent: {error}"
                )));
            }
            0
        }
    };
    std::process::exit(code)
}

/// Receives the worker and runs it. The `Err` says why there is none.
fn work(
    lifeline: &Arc<OwnedFd>,
    settle: impl FnOnce(Identity, Entry),
    answer: &dyn Fn(&Answer),
) -> Result<Finished, Answer> {
    let (hello, value) = arrive(lifeline)?;
    let run = registry::find(&hello.worker).ok_or_else(|| {
        Answer::Mismatch(format!("worker `{}` is not registered in it", hello.worker))
    })?;
    settle(hello.identity, hello.entry);
    let value = match value {
        Arrived::Channel(channel) if hello.has_belongings => Arrived::Channel(
            spawn_hook::receive(channel)
                .map_err(|error| failed("receive what belongs to it", error))?,
        ),
        value => value,
    };
    run(value, &|| answer(&Answer::Started)).map_err(Answer::BadValue)
}

fn failed(act: &str, error: io::Error) -> Answer {
    Answer::Failed(format!("could not {act}: {error}"))
}

/// Takes what lies ready for this process; gives its worker's value.
fn arrive(lifeline: &Arc<OwnedFd>) -> Result<(Hello, Arrived), Answer> {
    let (mut hello, fds) = handshake::hear::<Hello>(lifeline.as_fd())
        .map_err(|error| Answer::Mismatch(format!("the first message is not understood: {error}")))?
        .ok_or_else(|| Answer::Failed("the parent is gone".to_owned()))?;
    if hello.version != WIRE_VERSION {
        return Err(Answer::Mismatch(format!(
            "it speaks version {WIRE_VERSION}, the parent version {}",
            hello.version
        )));
    }
    hello.check().map_err(Answer::Mismatch)?;
    let given = hello.stdio.iter().filter(|given| **given).count();
    // Those for which no number was free are missing at the end.
    if fds.len() != given + usize::from(hello.value.is_none()) + usize::from(!hello.detached) {
        return Err(Answer::Failed(
            "no descriptors were free for what its parent gave it".to_owned(),
        ));
    }
    let mut fds = fds.into_iter();
    let stdio = hello
        .stdio
        .map(|given| if given { fds.next() } else { None });
    let value = hello.value.take();
    let channel = if value.is_none() { fds.next() } else { None };
    let life = fds.next();
    // From here on the end of the parent is our end.
    lifeline::hold(lifeline.clone(), life)
        .map_err(|error| failed("tie its life to its parent's", error))?;
    sys::close_inherited(if hello.keeps_descriptors {
        Keep::AllButMemory
    } else {
        Keep::Nothing
    });
    take_stdio(lifeline, hello.early, stdio)
        .map_err(|error| failed("set up stdin, stdout and stderr", error))?;
    let value = match value {
        Some(bytes) => Arrived::Bytes(bytes),
        None => Arrived::Channel(
            handshake::channel_around(channel).map_err(|error| failed("make a channel", error))?,
        ),
    };
    Ok((hello, value))
}

fn take_stdio(
    lifeline: &OwnedFd,
    early: (u64, u64),
    [stdin, stdout, stderr]: [Option<OwnedFd>; 3],
) -> io::Result<()> {
    // What a test harness printed so far goes where its stdout went, not into the worker's.
    let _ = io::stdout().flush();
    sys::set_stdio(stdin, stdout, None)?;
    stderr.map_or(Ok(()), |stderr| {
        early_stderr::settle(lifeline.as_fd(), early, stderr)
    })
}

const MESSAGE_MAX: usize = 8 << 10;
const THREAD_MAX: usize = 1 << 10;
const BACKTRACE_MAX: usize = 16 << 10;
/// Told from the hook. With the one that ended `run` they fit the lifeline's buffer, which nobody reads
/// before the end.
const PANICS_MAX: u32 = 3;

#[derive(Debug)]
struct Panics {
    lifeline: Arc<OwnedFd>,
    runner: ThreadId,
    told: AtomicU32,
    /// Whether those on the thread that runs the worker are caught, and told by who catches them.
    caught: AtomicBool,
    /// The last one on the thread that runs the worker, and whether it was told.
    last: Mutex<Option<(PanicReport, bool)>>,
}

static PANICS: OnceLock<Panics> = OnceLock::new();

/// From now on each panic is told to the parent, before the hook that was there prints it. In the hook,
/// not where it is caught: so it is told under `panic = "abort"` as well. Over the lifeline, not over
/// ipc-channel, which may be what panics: used again in that state it would panic in the hook, and
/// that is the end of the process.
fn report_panics(lifeline: &Arc<OwnedFd>) {
    let _ = PANICS.set(Panics {
        lifeline: lifeline.clone(),
        runner: std::thread::current().id(),
        told: AtomicU32::new(0),
        caught: AtomicBool::new(false),
        last: Mutex::new(None),
    });
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if wire::is_quiet() {
            return;
        }
        if let Some(panics) = PANICS.get().filter(|_| !inline::note_panic(info)) {
            tell_panic(panics, info);
            say_who_panics();
        }
        before(info);
    }));
}

/// Rust's own line says `thread 'main'` of the main thread of any process.
fn say_who_panics() {
    let me = current::this_process();
    let _ = writeln!(
        io::stderr(),
        "in process `{}` (pid {}):",
        me.name(),
        me.pid()
    );
}

/// The same for a program: ipc-channel's panics that we turn into errors are not printed.
pub(crate) fn hide_contained_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !wire::is_quiet() {
            inline::note_panic(info);
            before(info);
        }
    }));
}

/// What Rust says when a panic cannot go on: that panic itself was told before, and says why.
const CONSEQUENCES: [&str; 2] = [
    "panic in a destructor during cleanup",
    "panic in a function that cannot unwind",
];

fn tell_panic(panics: &Panics, info: &PanicHookInfo<'_>) {
    let message = wire::panic_text(info.payload());
    let in_run = std::thread::current().id() == panics.runner;
    if CONSEQUENCES.contains(&message.as_str()) {
        tell_cause(panics);
        return;
    }
    let caught = in_run && panics.caught.load(Ordering::Relaxed) && cfg!(panic = "unwind");
    let within = !caught && panics.told.fetch_add(1, Ordering::Relaxed) < PANICS_MAX;
    if !within && !in_run {
        return;
    }
    let report = panic_report(info);
    let told = within && {
        let report = report.clone();
        handshake::tell(
            panics.lifeline.as_fd(),
            &Answer::Panicked { in_run, report },
            &[],
        )
        .is_ok()
    };
    if in_run {
        *sys::lock(&panics.last) = Some((report, told));
    }
}

/// A panic that was to be caught ends the process after all.
fn tell_cause(panics: &Panics) {
    if let Some((report, told)) = &mut *sys::lock(&panics.last) {
        if !*told {
            let report = report.clone();
            *told = handshake::tell(
                panics.lifeline.as_fd(),
                &Answer::Panicked {
                    in_run: true,
                    report,
                },
                &[],
            )
            .is_ok();
        }
    }
}

/// From now on panics on this thread are caught by a caller who asks [`caught_panic`] for them: the parent is told
/// only of those that end the process.
pub(crate) fn catch_panics() {
    if let Some(panics) = PANICS.get() {
        panics.caught.store(true, Ordering::Relaxed);
    }
}

/// The report of a panic that was just caught on the thread that runs the worker.
pub(crate) fn caught_panic(message: String) -> PanicReport {
    let of_process = || Some(sys::lock(&PANICS.get()?.last).take()?.0);
    let message = cut_message(message);
    match inline::take_panic().or_else(of_process) {
        Some(report) if report.message == message => report,
        _ => bare_report(message),
    }
}

pub(crate) fn panic_report(info: &PanicHookInfo<'_>) -> PanicReport {
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
        .then(|| cut(backtrace.to_string(), BACKTRACE_MAX));
    PanicReport::new(
        cut_message(wire::panic_text(info.payload())),
        info.location().map(ToString::to_string),
        thread_name(),
        backtrace,
    )
}

/// Of a panic whose place nobody saw.
pub(crate) fn bare_report(message: String) -> PanicReport {
    PanicReport::new(cut_message(message), None, thread_name(), None)
}

pub(crate) fn cut_message(message: String) -> String {
    cut(message, MESSAGE_MAX)
}

/// What is still to be told of the panic that ended `run`. The hook has told it, with the place, unless it
/// came after too many others that were caught, or without a hook: then it was passed on from another
/// thread, or the worker put a hook of its own in the way.
fn untold_panic(message: String) -> Option<PanicReport> {
    let last = PANICS
        .get()
        .and_then(|panics| sys::lock(&panics.last).take());
    match last {
        Some((report, told)) if report.message == message => (!told).then_some(report),
        _ => Some(bare_report(message)),
    }
}

fn thread_name() -> Option<String> {
    std::thread::current()
        .name()
        .map(|name| cut(name.to_owned(), THREAD_MAX))
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str(" [cut]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered to this first message.
    fn answer_to(first: &[u8]) -> String {
        let (parent, child) = sys::packet_pair().unwrap();
        sys::send_packet(parent.as_fd(), first, &[]).unwrap();
        match arrive(&Arc::new(child)) {
            Err(Answer::Mismatch(message)) => message,
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
            early: (0, 0),
            keeps_descriptors: false,
            detached: true,
            has_belongings: false,
            value: None,
        };
        let bytes = wire::encode(&hello).unwrap().bytes;
        assert!(answer_to(&bytes).contains("speaks version"));
        // What comes later in the message may be anything in another version.
        let cut = answer_to(&bytes[..bytes.len() / 2]);
        assert!(cut.contains("not understood"), "{cut}");
    }
}
