//! Locks and signals between processes: what they exclude, and what happens when a process dies.

mod barrier;
mod calls;
mod condvar;
mod death;
mod event;
#[cfg(feature = "failpoints")]
mod failpoint;
mod fork;
mod mutex;
mod reentrant;
mod rwlock;
mod semaphore;
mod sessions;
mod storm;

use offspring::sync::Mutex;

/// Whether a thread waits for the lock, or is about to sleep for it.
fn is_contended(lock: &Mutex<u64>) -> bool {
    format!("{lock:?}").contains("contended: true")
}
