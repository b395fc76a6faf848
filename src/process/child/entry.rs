//! `init`: is this process a child, and how can it start more copies of its program?

use std::sync::mpsc;
use std::time::Duration;

use crate::ipc::wire;
use crate::process::child::{panic_hook, serve};
use crate::process::handshake::CHILD_VARIABLE;
use crate::process::identity::{self, Entry, Identity};
use crate::sys;

/// Makes this program able to start copies of itself. Call it first in `main`.
///
/// `#[offspring::main]` does that. In a child that this crate has started, the call does not
/// return: the child runs its worker and exits, so the rest of `main` never runs in a child. In any
/// other process the call returns at once. Later calls do nothing.
///
/// ```
/// fn main() {
///     offspring::init();
///     // only the main program comes here
/// }
/// ```
pub fn init() {
    enter(Entry::Main);
}

/// Not public API: the first line of `#[offspring::test]`.
pub fn enter_test(path: &'static str) {
    // libtest knows tests without the name of their crate.
    let path = path.split_once("::").map_or(path, |(_, path)| path);
    enter(Entry::Test(path.to_owned()));
}

fn enter(entry: Entry) {
    if identity::entry().is_some() {
        return;
    }
    // Two signs are needed. The variable alone may have been inherited through another program;
    // only a child has the control socket as stdin. The parent's pid is not a sign: a child whose
    // parent has died meanwhile must not become a main program, and there may be a wrapper between
    // the two.
    // A program with rights that its caller lacks is no child at all: the caller would choose which
    // worker runs, and with which value.
    let is_child = || sys::stdin_is_packet_socket() && !sys::is_elevated();
    let name = std::env::var_os(CHILD_VARIABLE).filter(|_| is_child());
    if let Some(name) = name {
        // First the name, so that `ps` is right however the start goes on: until now the system
        // shows the process as `exe`, the link that was executed. The variable is removed before
        // any other program can be started from here, which would inherit it.
        sys::set_process_name(&name.to_string_lossy());
        sys::remove_env(CHILD_VARIABLE);
        serve::become_child();
    }
    // Two threads may call `init` at the same time. The entry decides which of them sets up the
    // process: installed twice, the panic hook would run twice for each panic. The other thread may
    // go on, and even start a child, before the identity is set: until then `of_process` returns
    // the same one.
    if identity::set_entry(entry) {
        panic_hook::hide_contained_panics();
        identity::set(Identity::of_main());
        // ipc-channel opens a socket at its first message, and sends none ever after if it gets
        // none. An error now is one that the first start returns.
        let _ = wire::drop_raw_handles();
    }
}

/// Not public API: `#[offspring::test(timeout = "..")]`.
///
/// # Panics
///
/// Panics if the body panics, with its panic, or if it does not end within `limit`.
pub fn with_deadline<R: Send + 'static>(
    path: &'static str,
    limit: Duration,
    body: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(path.to_owned())
        .spawn(move || {
            let result = body();
            // It fails after the deadline, when there is no receiver.
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
