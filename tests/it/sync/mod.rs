//! Locks and signals between processes: what they exclude, and what a death leaves behind.

mod barrier;
mod calls;
mod condvar;
mod death;
mod event;
mod mutex;
mod reentrant;
mod rwlock;
mod semaphore;
mod storm;
