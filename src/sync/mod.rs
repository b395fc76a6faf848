//! Locks and signals between processes, with std's names and poisoning. They survive the death of
//! the processes that use them.
//!
//! | | what it does | when a process that uses it dies |
//! | --- | --- | --- |
//! | [`Mutex`] | one thread of all processes uses the value | the next thread gets the lock, poisoned |
//! | [`RwLock`] | many threads read the value, or one writes it | like a `Mutex` for a writer; a reader's lock is released |
//! | [`ReentrantMutex`] | a mutex that its holder may lock again | like a `Mutex` |
//! | [`Semaphore`] | a number of permits | its permits return |
//! | [`Condvar`] | wait for a change of what a `Mutex` guards | a notification that it did not act on goes to another thread |
//! | [`Event`] | a flag to wait for | nothing |
//! | [`Barrier`] | a number of threads wait for each other | the barrier breaks: no thread waits for the dead |
//!
//! All of them are handles: they are `Clone`, and can be sent in worker fields, queue items and
//! messages. Words and values are in shared memory, so taking what is free is no system call. A
//! thread that has to wait sleeps. The process that made the object notices a death within
//! milliseconds, and repairs the object. When that process itself ends, every call returns
//! [`SyncError::Disconnected`] or the like, and no thread waits for ever.
//!
//! A process that is *stopped* (`SIGSTOP`, a debugger) is not dead: what it holds, it keeps.
//!
//! When a single thread ends by a panic, its guards release what it holds, as in std. A guard
//! passed to [`std::mem::forget`] keeps its lock until the process ends.

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
mod thread_number;
mod value;
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
