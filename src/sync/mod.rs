//! Locks and signals between processes, with std's names and poisoning. They survive the death of
//! the processes that use them.
//!
//! | | what it does | when a process that uses it dies |
//! | --- | --- | --- |
//! | [`Mutex`] | one thread at a time, in any process, uses the value | the next thread gets the lock, poisoned |
//! | [`RwLock`] | many threads read the value, or one writes it | like a `Mutex` for a writer; a reader's lock is released |
//! | [`ReentrantMutex`] | a mutex that its holder may lock again | like a `Mutex` |
//! | [`Semaphore`] | a bounded number of permits | its permits are returned |
//! | [`Condvar`] | threads wait for a change of what a `Mutex` guards | a notification that it did not act on goes to another thread |
//! | [`Event`] | threads wait for a flag | nothing |
//! | [`Barrier`] | a number of threads wait for each other | the barrier breaks, and the waiting threads return an error |
//!
//! All of them are handles: they are `Clone`, and can be sent in worker fields, queue items and
//! messages. Their state is in shared memory, so taking a free lock needs no system call, and a
//! thread that has to wait sleeps. The process that made an object owns it: it notices the death of
//! another process within milliseconds, and repairs the object. When the owner itself ends, every
//! call that takes a lock or waits returns an error such as [`SyncError::Disconnected`], and no
//! thread waits forever.
//!
//! A process that is *stopped* (`SIGSTOP`, a debugger) is not dead, and keeps what it holds. If it
//! is stopped during a call on an object, other calls on that object may block until it continues.
//! Calls with a timeout still end within some tens of milliseconds of it. The drop of a permit or of
//! a read guard returns after at most a second; what it held is then released when the process
//! continues. If a process is stopped just when it was to get a free lock or permit, others get it
//! within a second.
//!
//! When a thread panics, its guards release what it holds, as in std. A guard passed to
//! [`std::mem::forget`] keeps its lock until the process ends.

mod barrier;
mod condvar;
mod event;
mod event_watch;
mod latch;
mod mutex;
mod object;
mod poison;
mod reentrant;
mod rwlock;
mod semaphore;
mod state;
mod thread_number;
mod value;
#[cfg(test)]
mod watched;
mod word;

pub use crate::error::{
    BarrierError, BarrierTimeoutError, LockError, LockTimeoutError, PoisonError, ReleaseError,
    SyncError, TimeoutError, TryError, TryLockError,
};
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use reentrant::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use value::{Encoded, InPlace, Storage};
