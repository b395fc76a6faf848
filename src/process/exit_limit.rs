//! A limit for the exit of a child whose worker has returned.
//!
//! During the exit, hooks and static destructors of libraries run. If one of them hangs, the parent
//! would wait for the end of a process whose result it already has. So a timer of the system kills
//! the process; at that time no thread can be relied on. This crate's own hook, which waits for the
//! child's children, is not limited.

use std::sync::OnceLock;
use std::time::Duration;

use crate::sys;

static LIMIT: OnceLock<Duration> = OnceLock::new();

pub(super) fn set(limit: Duration) {
    // A timer that is set to zero never fires.
    let _ = LIMIT.set(limit.max(Duration::from_millis(1)));
}

/// Has the limit begin with the first exit hook. Rust flushes stdout before that, and the reader of
/// a pipe may take its time.
pub(super) fn begin_at_exit() {
    extern "C" fn begin_now() {
        begin();
    }
    // Hooks run in reverse order, so this one runs first.
    sys::at_exit(begin_now);
}

/// Starts the time again: the process must end within the limit from now. Does nothing in the
/// program itself.
pub(super) fn begin() {
    if let Some(&limit) = LIMIT.get() {
        sys::end_within(Some(limit));
    }
}

pub(super) fn suspend() {
    sys::end_within(None);
}
