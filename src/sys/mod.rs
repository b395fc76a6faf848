//! The system calls that std lacks: pidfds, futexes, packet sockets, signal masks, sealed memory.
//!
//! `unsafe` code is here and in [`region`](crate::ipc::region), [`shared`](crate::shared) and
//! [`sync`](crate::sync), and nowhere else. Another platform is another folder beside `linux` with
//! the same functions.

use std::sync::PoisonError;
use std::time::Instant;

use self::threads::{Condvar, Mutex, MutexGuard};

pub(crate) mod failpoints;
mod service;
mod types;

pub(crate) use service::Service;
pub(crate) use types::{same_type, type_id_of, with_slice};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(target_os = "linux")]
pub use linux::{Constructor, constructors_after};

#[cfg(not(target_os = "linux"))]
compile_error!(
    "offspring runs on Linux only; another system needs a folder of its own beside src/sys/linux"
);

/// What threads of one process share in the code that `tests/model` explores. There, the types of
/// an explorer replace these.
pub(crate) mod threads {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

/// Locks a mutex under which no user code runs. Ignores poison: a panic under such a mutex breaks
/// no invariant.
#[inline]
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable, until `deadline` if there is one. For the same mutexes as
/// [`lock`].
pub(crate) fn wait<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, T> {
    match deadline {
        None => condition.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            condition.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}
