//! The context of an inline worker, kept by its thread.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::error::PanicReport;
use crate::process::identity::Identity;
use crate::process::panic_report;
use crate::sys;

/// A parent's request to stop, for a worker on a thread.
#[derive(Debug, Default)]
pub(super) struct StopRequest {
    requested: AtomicBool,
    changing: Mutex<()>,
    changed: Condvar,
}

impl StopRequest {
    pub(super) fn request(&self) {
        // Under the lock: otherwise, a waiter that has read the flag and is not asleep yet would
        // miss the notification.
        let _changing = sys::lock(&self.changing);
        self.requested.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Waits until the stop is requested; `false` at the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut changing = sys::lock(&self.changing);
        while !self.is_requested() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            changing = sys::wait(&self.changed, changing, deadline);
        }
        true
    }
}

/// The context of a worker, on the worker's own thread.
pub(super) struct InlineContext {
    pub(super) identity: Arc<Identity>,
    pub(super) stop: Arc<StopRequest>,
    /// The last panic on this thread.
    pub(super) panic: Option<PanicReport>,
}

thread_local! {
    static CONTEXT: RefCell<Option<InlineContext>> = const { RefCell::new(None) };
}

/// Reads this thread's context; `None` if no inline worker runs on it.
fn with<R>(read: impl FnOnce(&mut InlineContext) -> R) -> Option<R> {
    // It cannot be read while the thread is being destroyed, or by a panic hook that interrupts
    // another read.
    let result = CONTEXT.try_with(|context| {
        context.try_borrow_mut().ok().and_then(|mut context| context.as_mut().map(read))
    });
    result.ok().flatten()
}

/// Makes this the thread of an inline worker.
pub(super) fn enter(context: InlineContext) {
    CONTEXT.set(Some(context));
}

/// Ends the inline worker's time on this thread, and returns the last panic here.
pub(super) fn leave() -> Option<PanicReport> {
    CONTEXT.take().and_then(|context| context.panic)
}

/// Returns whether an inline worker runs on this thread.
pub(crate) fn is_inline() -> bool {
    with(|_| ()).is_some()
}

pub(super) fn identity() -> Option<Arc<Identity>> {
    with(|context| context.identity.clone())
}

pub(super) fn stop_request() -> Option<Arc<StopRequest>> {
    with(|context| context.stop.clone())
}

/// Keeps the report of a panic, for the panic hook. Returns whether an inline worker runs on this
/// thread.
pub(super) fn note_panic(info: &PanicHookInfo<'_>) -> bool {
    let report = panic_report::in_hook(info);
    with(|context| context.panic = Some(report)).is_some()
}

/// Takes the report of the last panic on this thread, if an inline worker runs on it.
pub(super) fn take_panic() -> Option<PanicReport> {
    with(|context| context.panic.take()).flatten()
}
