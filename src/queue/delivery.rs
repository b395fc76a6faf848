//! An item of a `JoinableQueue` in a consumer's hands.

use std::fmt;
use std::ops::Deref;

use crate::queue::handle::Handle;

/// An item that was got from a [`JoinableQueue`](crate::JoinableQueue) and is not done yet.
///
/// Dropping it without [`task_done`](Delivery::task_done), also by a panic, gives the item back: it is
/// the next one that anybody gets. The same happens when this process dies.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::unbounded()?;
/// jobs.put("sweep".to_owned())?;
/// drop(jobs.get()?); // not done: it comes again
/// let job = jobs.get()?;
/// assert_eq!((job.as_str(), job.attempt()), ("sweep", 2));
/// job.task_done();
/// jobs.join()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it gives the item back; call `task_done` when the work is done"]
pub struct Delivery<T> {
    /// `None` only while it is being dropped.
    value: Option<T>,
    lease: Lease,
}

struct Lease {
    handle: Handle,
    number: u64,
    attempt: u32,
    open: bool,
}

impl<T> Delivery<T> {
    pub(crate) fn new(value: T, handle: Handle, number: u64, attempts: u32) -> Delivery<T> {
        Delivery {
            value: Some(value),
            lease: Lease {
                handle,
                number,
                attempt: attempts + 1,
                open: true,
            },
        }
    }

    /// Says that the work on the item is done: it counts no more for `join`, and nobody gets it again.
    pub fn task_done(mut self) {
        self.lease.open = false;
        self.lease.handle.end_lease(self.lease.number, true);
    }

    /// Takes the item out. It stays unfinished until [`JoinableQueue::task_done`](crate::JoinableQueue::task_done)
    /// is called in this process, or this process ends.
    #[must_use = "the item stays unfinished until `JoinableQueue::task_done` is called"]
    pub fn into_inner(mut self) -> T {
        self.lease.open = false;
        self.lease.handle.detach_lease(self.lease.number);
        self.value
            .take()
            .expect("a delivery holds its item until it is taken apart")
    }

    /// Which attempt at the item this is: 1 if nobody had it before. From 4096 on, outside of the owner's process, it stays
    /// there.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.lease.attempt
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
            .as_ref()
            .expect("a delivery holds its item until it is taken apart")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.open {
            self.handle.end_lease(self.number, false);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("item", &self.value)
            .field("attempt", &self.lease.attempt)
            .finish()
    }
}
