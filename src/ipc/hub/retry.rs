//! Work that cannot be done at once and must not be lost: the hub's thread tries it again until it
//! succeeds.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::sys::lock;

/// Returns whether it has succeeded. It must not block: the hub's thread calls it.
pub(crate) type Attempt = Box<dyn FnMut() -> bool + Send>;

/// The first pause between two attempts. Each is twice as long as the one before, up to
/// [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

struct Retried {
    attempt: Attempt,
    pause: Duration,
    due: Instant,
}

static RETRIES: Mutex<Vec<Retried>> = Mutex::new(Vec::new());
/// Wakes the hub's thread. Set before that runs.
static WAKE: OnceLock<fn()> = OnceLock::new();

pub(in crate::ipc::hub) fn wake_with(wake: fn()) {
    let _ = WAKE.set(wake);
}

/// Has the hub's thread, which must be running, call `attempt`, which has just failed.
pub(in crate::ipc::hub) fn add(attempt: Attempt) {
    lock(&RETRIES).push(Retried { attempt, pause: PAUSE, due: Instant::now() + PAUSE });
    if let Some(wake) = WAKE.get() {
        wake();
    }
}

/// Retries what is due. The attempts run without the lock, because one may add another.
pub(in crate::ipc::hub) fn run_due() {
    let mut retries = lock(&RETRIES);
    if retries.is_empty() {
        return;
    }
    let now = Instant::now();
    let all = std::mem::take(&mut *retries).into_iter();
    let (due, later): (Vec<Retried>, _) = all.partition(|retry| retry.due <= now);
    *retries = later;
    drop(retries);
    for mut retry in due {
        if !(retry.attempt)() {
            retry.pause = (2 * retry.pause).min(PAUSE_MAX);
            retry.due = Instant::now() + retry.pause;
            lock(&RETRIES).push(retry);
        }
    }
}

/// Returns when the next attempt is due.
pub(in crate::ipc::hub) fn next_due() -> Option<Instant> {
    lock(&RETRIES).iter().map(|retry| retry.due).min()
}
