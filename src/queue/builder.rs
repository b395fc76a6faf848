//! `QueueBuilder`: a queue with options.

use std::fmt;
use std::marker::PhantomData;

use crate::error::CreateError;
use crate::queue::handle::Handle;
use crate::queue::options::{QueueKind, QueueOptions};
use crate::queue::{JoinableQueue, Queue};

/// Makes a [`Queue`] or a [`JoinableQueue`] with options. Dropping it without `build` makes none.
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
#[must_use = "it makes nothing until `build` is called"]
pub struct QueueBuilder<Q> {
    options: QueueOptions,
    queue: PhantomData<fn() -> Q>,
}

impl<Q> QueueBuilder<Q> {
    /// Starts with the default options. [`Queue::builder`] and [`JoinableQueue::builder`] do the same.
    pub fn new() -> QueueBuilder<Q> {
        QueueBuilder {
            options: QueueOptions::default(),
            queue: PhantomData,
        }
    }

    /// Sets what the queue is for.
    pub(crate) fn kind(mut self, kind: QueueKind) -> Self {
        self.options.kind = kind;
        self
    }

    /// Sets the maximum number of items that no consumer has taken, in all buffers together. The default
    /// is no maximum.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.options.capacity = Some(capacity);
        self
    }

    /// Sets the maximum number of dead letters that are kept: one more, and the oldest is dropped. The
    /// default is 1024.
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
    /// [dead letter](JoinableQueue::dead_letters). The minimum is 1, and the default is 5.
    ///
    /// Each delivery counts that ends without [`task_done`](crate::Delivery::task_done): by the death of
    /// the consumer, a panic, or a drop. A consumer that gives an item back for ever makes no more
    /// progress than one that dies of it.
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
        f.debug_struct("QueueBuilder")
            .field("options", &self.options)
            .finish()
    }
}
