//! Workers on threads of this process.
//!
//! The worker's value, and what it returns, cross as they do to a process: encoded, in one message of a channel. So
//! what does not cross is found here too.

use std::cell::RefCell;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{PanicReport, SpawnError};
use crate::process::child::serve::{self, Finished};
use crate::process::current::Identity;
use crate::process::handle::{Process, Running};
use crate::process::parent::reaper;
use crate::process::registry::Run;
use crate::process::stdio::Pipes;
use crate::process::value::Arrived;
use crate::sys;

/// The variable that chooses for a whole program.
const VARIABLE: &str = "OFFSPRING_BACKEND";
/// As much as the main thread of a process has.
const STACK: usize = 8 << 20;

/// What a worker runs in.
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::process::Backend;
///
/// #[offspring::worker]
/// fn pid() -> u32 {
///     std::process::id()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let worker = ProcessBuilder::new().backend(Backend::Inline).spawn(pid::new())?;
///     assert_eq!(worker.backend(), Backend::Inline);
///     assert_eq!(worker.join()?, std::process::id());
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// A process of its own.
    #[default]
    Process,
    /// A thread of this process: for debuggers, profilers and the like, which follow one process only.
    ///
    /// Values cross as to a process, and names, joins, panics and [`current`](crate::current) on the worker's thread are
    /// the same. What a thread does not have:
    ///
    /// - It cannot be ended: [`terminate`](crate::Process::terminate), [`kill`](crate::Process::kill) and the like do
    ///   nothing, and [`stop`](crate::Process::stop) only asks. [`Process::backend`](crate::Process::backend) tells.
    /// - Environment, arguments, directory, stdin, stdout, stderr and limits are the program's: what a builder says of
    ///   them is ignored, and `take_stdout` gives `None`.
    /// - A crash, an exit, or a panic under `panic = "abort"`, ends the whole program.
    /// - A [`Pool`](crate::Pool) has no such workers: building one is an error where `OFFSPRING_BACKEND` is `inline`.
    /// - Who shares a queue with it shares its process: what a queue does when a process dies cannot be seen.
    Inline,
}

impl Backend {
    /// What the environment says, for a builder that says nothing.
    pub(crate) fn of_program() -> Result<Backend, SpawnError> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Backend::Process),
            Some(value) if value.is_empty() || value == "process" => Ok(Backend::Process),
            Some(value) if value == "inline" => Ok(Backend::Inline),
            Some(value) => Err(SpawnError::InvalidOption {
                option: "the environment variable `OFFSPRING_BACKEND`",
                problem: format!("is {value:?}: use `process` or `inline`"),
            }),
        }
    }
}

/// What the parent may say to a worker on a thread.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    stopping: AtomicBool,
    changing: Mutex<()>,
    changed: Condvar,
}

impl Asked {
    pub(crate) fn stop(&self) {
        let _changing = sys::lock(&self.changing);
        self.stopping.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether it came before the deadline.
    pub(crate) fn wait_stopping(&self, deadline: Option<Instant>) -> bool {
        let mut changing = sys::lock(&self.changing);
        while !self.is_stopping() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            changing = sys::wait(&self.changed, changing, deadline);
        }
        true
    }
}

/// What is held of a worker while it runs.
#[derive(Debug)]
pub(crate) struct OnThread {
    pub(crate) asked: Arc<Asked>,
}

/// What the worker's own thread knows.
struct Here {
    identity: Arc<Identity>,
    asked: Arc<Asked>,
    panic: Option<PanicReport>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Asks what this thread knows; `None` if no worker runs on it.
fn here<R>(ask: impl FnOnce(&mut Here) -> R) -> Option<R> {
    // A thread that is about to end, or a panic in between, knows nothing.
    let asked = HERE.try_with(|here| {
        here.try_borrow_mut()
            .ok()
            .and_then(|mut here| here.as_mut().map(ask))
    });
    asked.ok().flatten()
}

/// Whether a worker runs on this thread.
pub(crate) fn is_inline() -> bool {
    here(|_| ()).is_some()
}

pub(crate) fn identity() -> Option<Arc<Identity>> {
    here(|here| here.identity.clone())
}

pub(crate) fn asked() -> Option<Arc<Asked>> {
    here(|here| here.asked.clone())
}

/// Keeps a panic for who joins; whether a worker runs on this thread. For the panic hook.
pub(crate) fn note_panic(info: &PanicHookInfo<'_>) -> bool {
    let report = serve::panic_report(info);
    here(|here| here.panic = Some(report)).is_some()
}

/// The last panic on this thread, if a worker runs on it.
pub(crate) fn take_panic() -> Option<PanicReport> {
    here(|here| here.panic.take()).flatten()
}

/// What `spawn` waits with until the worker runs.
type Started = mpsc::SyncSender<Result<(), String>>;

pub(crate) fn spawn<T: DeserializeOwned>(
    identity: Identity,
    worker: &'static str,
    run: Run,
    value: Arrived,
    timeout: Duration,
) -> Result<Process<T>, SpawnError> {
    let asked = Arc::new(Asked::default());
    let (name, pid) = (identity.name.clone(), std::process::id());
    let running = Running::on_thread(
        &identity,
        worker,
        OnThread {
            asked: asked.clone(),
        },
    );
    let running = Arc::new(running);
    let (started, start) = mpsc::sync_channel(1);
    let here = Here {
        identity: Arc::new(identity),
        asked,
        panic: None,
    };
    let on_thread = running.clone();
    let body = move || work(here, run, value, &on_thread, &started);
    let thread = thread::Builder::new()
        .name(name.clone())
        .stack_size(STACK)
        .spawn(body);
    thread.map_err(SpawnError::io("start a thread"))?;
    match start.recv_timeout(timeout) {
        Ok(Ok(())) => Ok(Process::new(running, Pipes::default())),
        Ok(Err(message)) => Err(SpawnError::Decode { name, pid, message }),
        // A thread cannot be killed: it goes on, unseen.
        Err(RecvTimeoutError::Timeout) => Err(SpawnError::Io {
            act: "run the worker on a thread",
            source: io::Error::new(
                io::ErrorKind::TimedOut,
                format!("its value was not rebuilt within {timeout:?}"),
            ),
        }),
        Err(RecvTimeoutError::Disconnected) => Err(SpawnError::Io {
            act: "run the worker on a thread",
            source: io::Error::other("its thread has ended"),
        }),
    }
}

/// The whole life of the thread.
fn work(here: Here, run: Run, value: Arrived, running: &Arc<Running>, started: &Started) {
    HERE.set(Some(here));
    let finished = run(value, &|| {
        // Known before `spawn` returns.
        reaper::adopt(running.clone());
        let _ = started.send(Ok(()));
    });
    let last = HERE.take().and_then(|here| here.panic);
    let finished = match finished {
        // It never ran, and nobody holds it.
        Err(message) => {
            let _ = started.send(Err(message));
            return;
        }
        Ok(finished) => finished,
    };
    let panic = match &finished {
        // One that was caught before is not it.
        Finished::Panicked(message) => {
            last.filter(|report| report.message == serve::cut_message(message.clone()))
        }
        _ => None,
    };
    reaper::release(running.id);
    running.end_on_thread(finished, panic);
}
