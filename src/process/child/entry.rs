//! `init`: whether this process is a child, and how it can start more copies of its program.

use std::any::Any;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::ipc::wire;
use crate::process::child::{panic_hook, serve};
use crate::process::handshake::{self, CHILD_VARIABLE};
use crate::process::identity::{self, Entry, Identity};
use crate::process::registry::{self, TestPath};
use crate::sys;

/// Makes this program able to start copies of itself. Call it first in `main`.
///
/// `#[offspring::main]` does that. In a child that this crate has started, the call does not
/// return: the child runs its worker and exits, so the rest of `main` never runs in a child. In any
/// other process the call returns at once. Later calls do nothing. Calls on threads other than the
/// main one do nothing either: a child would first have to run everything that precedes the call,
/// and in a plain `#[test]` that is all other tests.
///
/// ```
/// fn main() {
///     offspring::init();
///     // only the main program comes here
/// }
/// ```
///
/// Where `main` is not yours (a test harness, criterion, a framework),
/// [`init_before_main!`](crate::init_before_main) does the same before it.
pub fn init() {
    if sys::is_main_thread() {
        enter(Entry::Main);
    }
}

/// Not public API: the constructor of `init_before_main!`. In a child it runs `constructors`, which
/// are those that have not run yet and which register workers, and does not return.
pub fn before_main(constructors: impl FnOnce()) {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    // A program and one of its libraries may both have such a constructor. The other one is among
    // the `constructors`.
    if BEGUN.swap(true, Ordering::Relaxed) {
        return;
    }
    if child_name().is_some() {
        constructors();
        sys::ignore_broken_pipes();
    }
    enter(Entry::Main);
}

/// Not public API: the first line of `#[offspring::test]`.
pub fn enter_test(test: &'static TestPath) {
    enter(Entry::Test(test.in_harness().to_owned()));
}

/// Returns how a child of this process reaches `init`; `None` if it never would. A plain test can
/// start a process only if its binary has a test at which a child can be started. Otherwise it
/// would depend on the order of the tests whether it can.
pub(in crate::process) fn entry() -> Option<&'static Entry> {
    if identity::entry().is_none() && child_name().is_none() {
        enter(Entry::Test(registry::a_test()?.to_owned()));
    }
    identity::entry()
}

/// Returns the name of this process, if it was started as a child and has not run `init` yet.
fn child_name() -> Option<OsString> {
    // Two signs are needed. The variable alone may have been inherited through another program;
    // only a child has the control socket as its stdin. The parent's pid is not a sign: a child
    // whose parent has just died must not become a main program, and there may be a wrapper between
    // the two. A program that has rights which its caller lacks is never a child, because the
    // caller would choose the worker and its value.
    let is_child = || sys::stdin_is_packet_socket() && !sys::is_elevated();
    let mark = std::env::var_os(CHILD_VARIABLE)?;
    handshake::marked_name(&mark).filter(|_| is_child())
}

fn enter(entry: Entry) {
    if identity::entry().is_some() {
        return;
    }
    if let Some(name) = child_name() {
        // First the name, so that `ps` shows it whatever happens next: until now the system shows
        // the process as `exe`, the link that was executed. The variable is removed before this
        // process can start any other program, which would inherit it.
        sys::set_process_name(&name.to_string_lossy());
        sys::remove_env(CHILD_VARIABLE);
        serve::become_child();
    }
    // Two threads may call `init` at the same time. The entry decides which of them sets up the
    // process: a panic hook that was installed twice would run twice for each panic. The other
    // thread may continue, and even start a child, before the identity is set. Until then
    // `of_process` returns the same identity.
    if identity::set_entry(entry) {
        panic_hook::hide_contained_panics();
        identity::set(Identity::of_main());
        // ipc-channel opens a socket at its first message. If it gets none, it can never send a
        // message. An error now becomes the error of the first start.
        let _ = wire::drop_raw_handles();
    }
}

/// Not public API: `#[offspring::test(timeout = "..")]`.
///
/// # Panics
///
/// Panics if the body does not end within `limit`. If the body panics, panics with the same
/// payload.
#[track_caller]
pub fn with_deadline<R: Send + 'static>(
    path: &'static str,
    limit: Duration,
    body: impl FnOnce() -> R + Send + 'static,
) -> R {
    let result = run_within(path, limit, Box::new(|| Box::new(body())));
    *result.downcast().expect("it is what the body returned")
}

type Boxed = Box<dyn Any + Send>;

/// Apart, because starting a thread is much code, and a program has many tests.
#[track_caller]
fn run_within(
    path: &'static str,
    limit: Duration,
    body: Box<dyn FnOnce() -> Boxed + Send>,
) -> Boxed {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(path.to_owned())
        .spawn(move || {
            let result = body();
            // It fails after the deadline, when no receiver is left.
            let _ = done.send(result);
        })
        .expect("the system starts a thread for the test");
    match ended.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            panic!("test `{path}` did not end within {limit:?}")
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the test's thread ended without a result and without a panic"),
        },
    }
}
