//! `Delivery`: an item of a `JoinableQueue` in the hands of a consumer.

use std::fmt;
use std::ops::Deref;

use crate::queue::handle::Handle;

/// An item that was taken from a [`JoinableQueue`](crate::JoinableQueue) and is not finished.
///
/// Dropping it without [`task_done`](Delivery::task_done), even in a panic, returns the item to the
/// queue: the next `get` takes it, or it becomes a [dead letter](crate::JoinableQueue#dead-letters)
/// after too many deliveries. The same happens when this process dies.
///
/// In a process other than the queue's owner, both send a message of a few bytes, and do not wait for
/// an answer. `Drop` never blocks. `task_done` blocks only while the owner process is suspended and
/// about a thousand of these messages are waiting for it, and then without a limit.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::unbounded()?;
/// jobs.put("sweep".to_owned())?;
/// drop(jobs.get()?); // not finished: it is delivered again
/// let job = jobs.get()?;
/// assert_eq!((job.as_str(), job.attempt()), ("sweep", 2));
/// job.task_done();
/// jobs.join()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it returns the item to the queue; call `task_done` when the work is done"]
pub struct Delivery<T> {
    /// `None` only while it is taken apart.
    value: Option<T>,
    lease: Lease,
}

struct Lease {
    handle: Handle,
    number: u64,
    attempt: u32,
    /// True until the lease is ended or detached: then dropping it returns the item to the queue.
    open: bool,
}

impl<T> Delivery<T> {
    pub(in crate::queue) fn new(
        value: T,
        handle: Handle,
        number: u64,
        attempts: u32,
    ) -> Delivery<T> {
        Delivery {
            value: Some(value),
            lease: Lease { handle, number, attempt: attempts + 1, open: true },
        }
    }

    /// Marks the item as finished: `join` does not wait for it any more, and no consumer gets it
    /// again.
    ///
    /// Does not wait for the owner's answer, but may block while the owner is suspended: see
    /// [`Delivery`].
    pub fn task_done(mut self) {
        self.lease.open = false;
        self.lease.handle.finish(self.lease.number);
    }

    /// Takes the item out of the delivery. It stays unfinished until
    /// [`JoinableQueue::task_done`](crate::JoinableQueue::task_done) is called in this process, or
    /// until this process ends.
    #[must_use = "the item stays unfinished until `JoinableQueue::task_done` is called"]
    pub fn into_inner(mut self) -> T {
        self.lease.open = false;
        self.lease.handle.detach_lease(self.lease.number);
        let value = self.value.take();
        value.expect("a delivery holds its item until it is taken apart")
    }

    /// Returns the number of this delivery of the item: 1 for the first. Outside the owner process,
    /// it does not count beyond 4096.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.lease.attempt
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value = self.value.as_ref();
        value.expect("a delivery holds its item until it is taken apart")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.open {
            self.handle.give_back(self.number);
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
