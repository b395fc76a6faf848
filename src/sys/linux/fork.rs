//! Forks: copies of this process that other code made. They have its descriptors and its memory,
//! and none of this crate's threads.

use std::cell::Cell;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_FORK: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Has no destructor, so it can be read until the very end of the thread.
    static THREAD_NUMBER: Cell<u32> = const { Cell::new(0) };
}

extern "C" fn note_fork() {
    IS_FORK.store(true, Ordering::Relaxed);
    // The calling thread is the only one of the fork.
    THREAD_NUMBER.set(0);
}

/// From now on, [`is_fork`] is true in forks of this process.
pub(crate) fn watch_forks() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: the handler only stores a flag, and is part of this program's image. If there is
        // no memory to register it, forks go unnoticed.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(note_fork)) };
    });
}

/// Returns whether this process is a fork of one that has called [`watch_forks`].
#[inline]
pub(crate) fn is_fork() -> bool {
    IS_FORK.load(Ordering::Relaxed)
}

/// Returns the number that the calling thread [was given](set_thread_number), or 0 if it has none.
/// In a fork no thread has a number, so code that needs the number anyway need not check
/// [`is_fork`].
#[inline]
pub(crate) fn thread_number() -> u32 {
    THREAD_NUMBER.get()
}

/// Gives the calling thread a number. Never done in a fork.
pub(crate) fn set_thread_number(number: u32) {
    THREAD_NUMBER.set(number);
}

/// Returns the error that every call returns in a fork.
pub(crate) fn not_in_fork() -> io::Result<()> {
    if is_fork() {
        return Err(io::Error::other(
            "this process is a fork, where the handles of its original do not work: use them before the fork, or start a worker",
        ));
    }
    Ok(())
}
