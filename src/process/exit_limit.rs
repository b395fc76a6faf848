//! A limit for the end of a child whose worker has returned.
//!
//! Exit hooks and static destructors of libraries run then, and one that hangs would leave the
//! parent waiting for a result that it has already been sent. The system's timer kills the process:
//! no thread can be relied on at that time. This crate's own hook, which waits for the child's
//! children, is not limited.

use std::sync::OnceLock;
use std::time::Duration;

use crate::sys;

static LIMIT: OnceLock<Duration> = OnceLock::new();

pub(super) fn set(limit: Duration) {
    // A timer with a time of zero never fires.
    let _ = LIMIT.set(limit.max(Duration::from_millis(1)));
}

/// Begins with the first exit hook. Rust flushes stdout before that, and the reader of a pipe may
/// take its time.
pub(super) fn begin_at_exit() {
    extern "C" fn begin_now() {
        begin();
    }
    // Hooks run in reverse order, so this is the first one.
    sys::at_exit(begin_now);
}

/// Begins anew: the process ends within the limit. Does nothing in the program itself.
pub(super) fn begin() {
    if let Some(&limit) = LIMIT.get() {
        sys::end_within(Some(limit));
    }
}

pub(super) fn suspend() {
    sys::end_within(None);
}
