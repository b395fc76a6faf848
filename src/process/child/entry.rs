//! The first thing in `main`: is this process a child, and what does it take to start more of it.

use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::child::serve;
use crate::process::current::{self, Identity};
use crate::sys;

/// Set for a new child, to its name; removed before its worker runs.
pub(crate) const CHILD_VARIABLE: &str = "OFFSPRING_CHILD";

/// How a copy of this program gets to `init`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// `main` calls it.
    Main,
    /// The test of this path calls it, under the standard harness.
    Test(String),
}

static ENTRY: OnceLock<Entry> = OnceLock::new();

/// How a child of this process gets to `init`; `None` if this process never did.
pub(crate) fn entry() -> Option<&'static Entry> {
    ENTRY.get()
}

/// Makes this program able to start copies of itself: call it first in `main`.
///
/// `#[offspring::main]` does it for you. In a child started by this crate the call does not return:
/// the child runs its worker and exits, so nothing of `main` behind this line runs in a child. In any
/// other process it returns at once; later calls do nothing.
///
/// ```
/// fn main() {
///     offspring::init();
///     // from here on only the main program
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
    if ENTRY.get().is_some() {
        return;
    }
    // The variable alone may have come here through a program in between; the lifeline is for a child only.
    // Not told by the parent's pid: a child whose parent has died meanwhile must not become a main program,
    // and a wrapper may stand between the two.
    let name = std::env::var_os(CHILD_VARIABLE).filter(|_| sys::stdin_is_packet_socket());
    if let Some(name) = name {
        // Before all else: until now the system calls it `exe`, as the link was that was executed.
        sys::set_process_name(&name.to_string_lossy());
        sys::remove_env(CHILD_VARIABLE);
        serve::become_child(|identity, entry| {
            current::set(identity);
            let _ = ENTRY.set(entry);
        });
    }
    let mut new = false;
    ENTRY.get_or_init(|| {
        new = true;
        entry
    });
    if new {
        serve::hide_contained_panics();
        current::set(Identity::of_main());
    }
}

/// Not public API: `#[offspring::test(timeout = "..")]`.
///
/// # Panics
///
/// If the body panics, with its panic, or if it does not end within `limit`.
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
            // Nobody waits any more after the deadline.
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
