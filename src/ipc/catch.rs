//! Turning panics into errors: panics of ipc-channel, where it should return an error, and panics
//! of bugs that must not end a service thread.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Whether this thread is inside [`no_panic`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Returns the text of a panic's payload.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is not a string".to_owned())
}

/// Drops the payload of a panic, which may panic itself, and returns its text.
pub(crate) fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = panic_text(&*payload);
    drop_caught(payload);
    text
}

/// Drops a value of the program, whose `Drop` may panic. In that case, the panic hook has reported
/// it.
pub(crate) fn drop_caught<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Forgotten, because each attempt to drop this payload could panic in turn.
        std::mem::forget(panic);
    }
}

/// Runs a call of ipc-channel that panics where it should return an error. The panic hooks of this
/// crate do not report such a panic, because it becomes an error value, and is not a panic of the
/// program or the worker.
pub(crate) fn no_panic<R>(what: &str, call: impl FnOnce() -> R) -> io::Result<R> {
    with_quiet(true, || catch_panic(what, call))
}

/// Runs code in which a panic would be a bug that must not end a service thread.
pub(crate) fn catch_panic<R>(what: &str, call: impl FnOnce() -> R) -> io::Result<R> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| io::Error::other(format!("{what}: {}", text_of(panic))))
}

pub(crate) fn with_quiet<R>(quiet: bool, call: impl FnOnce() -> R) -> R {
    let outer = QUIET.replace(quiet);
    let result = call();
    QUIET.set(outer);
    result
}

/// Returns whether the panic on this thread is about to become an error value. For panic hooks.
/// With `panic = "abort"` no panic becomes one, and its message is the last thing that the process
/// writes.
pub(crate) fn is_quiet() -> bool {
    // A thread that is ending may have lost its thread-locals.
    !cfg!(panic = "abort") && QUIET.try_with(Cell::get).unwrap_or(false)
}
