//! `QueueBuilder`: a queue with options.

use std::fmt;
use std::marker::PhantomData;

use crate::error::CreateError;
use crate::queue::handle::Handle;
use crate::queue::options::{QueueKind, QueueOptions};
use crate::queue::{JoinableQueue, Queue};

/// Builds a [`Queue`] or a [`JoinableQueue`] with options. Dropping it does nothing.
///
/// ```
/// use offspring::JoinableQueue;
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let jobs = JoinableQueue::builder().capacity(100).max_deliveries(1).build()?;
///     jobs.put("once".to_owned())?;
///     drop(jobs.get()?); // not finished, and not delivered again
///     jobs.join()?;
///     assert_eq!(jobs.dead_letters()?[0].decode()?, "once");
///     Ok(())
/// }
/// ```
#[must_use = "does nothing until `build` is called"]
pub struct QueueBuilder<Q> {
    options: QueueOptions,
    queue: PhantomData<fn() -> Q>,
}

impl<Q> QueueBuilder<Q> {
    /// Creates a builder with the default of each option, which is stated at its method.
    /// [`Queue::builder`] and [`JoinableQueue::builder`] do the same.
    pub fn new() -> QueueBuilder<Q> {
        QueueBuilder { options: QueueOptions::default(), queue: PhantomData }
    }

    /// Sets the purpose of the queue.
    pub(crate) fn kind(mut self, kind: QueueKind) -> Self {
        self.options.kind = kind;
        self
    }

    /// Names the queue, for [`tree`](crate::tree()), [`QueueStatus`](crate::tree::ProcessTree::queues)
    /// and the reports of its dead letters. Names need not be unique. Default: none.
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rows = offspring::Queue::<u64>::builder().name("rows").capacity(100).build()?;
    /// let tree = offspring::tree();
    /// assert!(tree.queues().iter().any(|queue| queue.name() == Some("rows")));
    /// assert!(tree.to_string().contains("rows (u64)"));
    /// # drop(rows);
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into().into());
        self
    }

    /// Sets the maximum number of items that no consumer has taken, in all buffers together, at
    /// least 1. Default: unbounded.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.options.capacity = Some(capacity);
        self
    }

    /// Sets the maximum number of dead letters that are kept. When it is exceeded, the oldest is
    /// dropped. Default: 1024.
    ///
    /// Whatever the maximum, the letters keep at most 64 descriptors open. Each handle in a letter
    /// needs one, and so does an item of more than 32 KiB. If they would need more, the oldest
    /// letter that has some is dropped.
    pub fn max_dead_letters(mut self, letters: usize) -> Self {
        self.options.max_dead_letters = letters;
        self
    }
}

impl<T> QueueBuilder<Queue<T>> {
    /// Creates the queue, owned by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`], or [`CreateError::Io`] if the system refuses what it needs.
    pub fn build(self) -> Result<Queue<T>, CreateError> {
        Handle::new::<T>(self.options, false).map(Queue::from_handle)
    }
}

impl<T> QueueBuilder<JoinableQueue<T>> {
    /// Sets the maximum number of deliveries of an item, after which it becomes a
    /// [dead letter](JoinableQueue::dead_letters). 0 counts as 1. Default: 5.
    ///
    /// A delivery counts whether the consumer dies, panics, or drops it without
    /// [`task_done`](crate::Delivery::task_done): a consumer that returns an item again and again
    /// makes no more progress than one that is killed by it.
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.options.max_deliveries = deliveries.max(1);
        self
    }

    /// Creates the queue, owned by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`], or [`CreateError::Io`] if the system refuses what it needs.
    pub fn build(self) -> Result<JoinableQueue<T>, CreateError> {
        Handle::new::<T>(self.options, true).map(JoinableQueue::from_handle)
    }
}

impl<Q> Default for QueueBuilder<Q> {
    fn default() -> Self {
        QueueBuilder::new()
    }
}

impl<Q> fmt::Debug for QueueBuilder<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder").field("options", &self.options).finish()
    }
}
