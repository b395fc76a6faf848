//! What may be chosen when a queue is made.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::error::CreateError;
use crate::queue::handle::Handle;
use crate::queue::{JoinableQueue, Queue};

/// Deliveries of an item that nobody finishes. An innocent item is hardly ever hit by so many deaths in a row,
/// and one that kills its consumers costs no more processes than these.
const MAX_DELIVERIES: u32 = 5;
/// Dead letters are for somebody to look at; more than these nobody will.
const MAX_DEAD_LETTERS: usize = 1024;

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum QueueKind {
    /// A queue of the program.
    User,
    /// The mailbox of an actor.
    Mailbox,
    /// A queue that this crate uses itself.
    Internal,
}

/// What bounds a queue, and what it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) kind: QueueKind,
    pub(crate) capacity: Option<usize>,
    pub(crate) max_deliveries: u32,
    pub(crate) max_dead_letters: usize,
}

impl Limits {
    pub(crate) fn capacity(capacity: Option<usize>) -> Limits {
        Limits {
            kind: QueueKind::User,
            capacity,
            max_deliveries: MAX_DELIVERIES,
            max_dead_letters: MAX_DEAD_LETTERS,
        }
    }
}

/// Makes a queue with options: from [`Queue::builder`] or [`JoinableQueue::builder`]. Dropping it makes none.
///
/// ```
/// use offspring::JoinableQueue;
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let jobs = JoinableQueue::builder().capacity(100).max_deliveries(1).build()?;
///     jobs.put("once".to_owned())?;
///     drop(jobs.get()?); // not done, and not delivered again
///     jobs.join()?;
///     assert_eq!(jobs.dead_letters()?[0].decode()?, "once");
///     Ok(())
/// }
/// ```
#[must_use = "it makes nothing until `build` is called"]
pub struct QueueBuilder<Q> {
    limits: Limits,
    queue: PhantomData<fn() -> Q>,
}

impl<Q> QueueBuilder<Q> {
    pub(crate) fn new() -> QueueBuilder<Q> {
        QueueBuilder {
            limits: Limits::capacity(None),
            queue: PhantomData,
        }
    }

    pub(crate) fn kind(mut self, kind: QueueKind) -> Self {
        self.limits.kind = kind;
        self
    }

    /// The most items that it holds which nobody has got, in all its buffers together. Default: no limit.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.limits.capacity = Some(capacity);
        self
    }

    /// The most dead letters that are kept; with one more the oldest is dropped. Default: 1024.
    pub fn max_dead_letters(mut self, letters: usize) -> Self {
        self.limits.max_dead_letters = letters;
        self
    }
}

impl<T> QueueBuilder<Queue<T>> {
    /// Makes the queue, owned by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`], or [`CreateError::Io`] if the system refuses what it needs.
    pub fn build(self) -> Result<Queue<T>, CreateError> {
        Handle::new::<T>(self.limits, false).map(Queue::from_handle)
    }
}

impl<T> QueueBuilder<JoinableQueue<T>> {
    /// How often an item is delivered, at most, before it becomes a dead letter
    /// ([`JoinableQueue::dead_letters`]). Each delivery counts that ends without
    /// [`task_done`](crate::Delivery::task_done): by the death of the consumer, a panic, or a drop, since a
    /// consumer that gives an item back for ever is as stuck as one that dies of it. At least 1; default: 5.
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.limits.max_deliveries = deliveries.max(1);
        self
    }

    /// Makes the queue, owned by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`], or [`CreateError::Io`] if the system refuses what it needs.
    pub fn build(self) -> Result<JoinableQueue<T>, CreateError> {
        Handle::new::<T>(self.limits, true).map(JoinableQueue::from_handle)
    }
}

impl<Q> fmt::Debug for QueueBuilder<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("limits", &self.limits)
            .finish()
    }
}
