//! `QueueStatus`: a queue of this process, as data.

use std::any::Any;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ipc::hub;
use crate::queue::options::QueueKind;
use crate::queue::owner::lock::QueueOwner;

/// A snapshot of a queue that a process owns, as part of a
/// [`ProcessTree`](crate::tree::ProcessTree). This is plain data: dropping it does nothing.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = offspring::JoinableQueue::bounded(8)?;
/// jobs.put(1u64)?;
///
/// let tree = offspring::tree();
/// let queue = tree.queues().iter().find(|queue| queue.item() == "u64").expect("it is there");
/// assert_eq!((queue.len(), queue.capacity(), queue.unfinished()), (1, Some(8), Some(1)));
/// assert_eq!(queue.holders(), [std::process::id()]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueStatus {
    name: Option<String>,
    kind: QueueKind,
    item: String,
    len: usize,
    capacity: Option<usize>,
    unfinished: Option<usize>,
    dead: usize,
    closed: bool,
    holders: Vec<u32>,
    in_flight: usize,
}

impl QueueStatus {
    fn of(owner: &QueueOwner) -> QueueStatus {
        owner.read(|state| QueueStatus {
            name: owner.name.as_deref().map(str::to_owned),
            kind: owner.kind,
            item: owner.item.to_owned(),
            len: state.len(),
            capacity: owner.capacity,
            unfinished: owner.joinable.then_some(state.unfinished()),
            dead: state.dead_letters().count(),
            closed: state.is_closed(),
            holders: state.holders(),
            in_flight: state.in_flight(),
        })
    }

    pub(crate) fn kind(&self) -> QueueKind {
        self.kind
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn is_mailbox(&self) -> bool {
        self.kind == QueueKind::Mailbox
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn is_users(&self) -> bool {
        self.kind == QueueKind::User
    }

    /// Returns the name of the queue, if its [builder](crate::QueueBuilder::name) set one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the name of the item type, with its path.
    #[must_use]
    pub fn item(&self) -> &str {
        &self.item
    }

    /// Returns the number of items that were put and not taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no such items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the maximum number of such items, or `None` if the queue is unbounded.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// Returns the number of unfinished items, or `None` for a plain [`Queue`](crate::Queue), which
    /// does not count them.
    #[must_use]
    pub fn unfinished(&self) -> Option<usize> {
        self.unfinished
    }

    /// Returns the number of dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> usize {
        self.dead
    }

    /// Returns whether the queue is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the ids of the processes that have used the queue and hold a handle, the owner
    /// first.
    #[must_use]
    pub fn holders(&self) -> &[u32] {
        &self.holders
    }

    /// Returns the number of handles that were sent and not used yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// Returns the queues that this process owns, in the order in which they were made.
pub(crate) fn statuses() -> Vec<QueueStatus> {
    let queues = hub::objects().into_iter().filter_map(|object| {
        Arc::<dyn Any + Send + Sync>::downcast::<QueueOwner>(object.as_any()).ok()
    });
    queues.map(|owner| QueueStatus::of(&owner)).collect()
}
