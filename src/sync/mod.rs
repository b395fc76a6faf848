//! Locks and signals between processes, with std's names and poisoning, that survive the death of whoever uses them.
//!
//! | | what it does | when a process that uses it dies |
//! | --- | --- | --- |
//! | [`Mutex`] | one thread of all processes uses the value | its lock goes to the next, poisoned |
//! | [`RwLock`] | many read the value, or one writes it | a writer's as that of a `Mutex`, a reader's is released |
//! | [`ReentrantMutex`] | a mutex that its holder may lock again | as a `Mutex` |
//! | [`Semaphore`] | so many permits | its permits are given back |
//! | [`Condvar`] | wait for a change of what a `Mutex` guards | a notification that it got goes to another |
//! | [`Event`] | a flag to wait for | nothing |
//! | [`Barrier`] | so many threads wait for each other | it breaks: nobody waits for the dead |
//!
//! All are handles: `Clone`, and sent in worker fields, queue items and messages. State and values lie in shared
//! memory, so that what is free is taken without a call of the system; a thread that has to wait sleeps. A death is
//! seen by the process that made the object, within milliseconds; so when that process ends, every call gives
//! [`SyncError::Disconnected`], and nobody waits for ever.
//!
//! To a thread that dies alone (a panic) the guards see, as in std. A guard that was given to [`std::mem::forget`] keeps its
//! lock until the process ends.

mod barrier;
mod condvar;
mod event;
mod latch;
mod mutex;
mod object;
mod poison;
mod reentrant;
mod rwlock;
mod semaphore;
mod token;
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
