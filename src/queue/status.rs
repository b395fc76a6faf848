//! The queues of this process, as facts.

use std::any::Any;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ipc::hub;
use crate::queue::builder::QueueKind;
use crate::queue::owner::state::{Core, State};

/// A queue of this process at one moment; in a [`ProcessTree`](crate::tree::ProcessTree). Copied facts: `Drop` does nothing.
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
    kind: QueueKind,
    item: String,
    len: usize,
    capacity: Option<usize>,
    unfinished: Option<usize>,
    dead: usize,
    closed: bool,
    holders: Vec<u32>,
    under_way: usize,
}

impl QueueStatus {
    fn of(core: &Core) -> QueueStatus {
        let mut state = core.lock();
        core.drain_all(&mut state);
        QueueStatus {
            kind: core.kind,
            item: core.item.to_owned(),
            len: state.len(),
            capacity: core.capacity,
            unfinished: core.joinable.then_some(state.unfinished),
            dead: state.dead.len(),
            closed: state.closed,
            holders: holders(core, &state),
            under_way: state.tickets,
        }
    }

    pub(crate) fn kind(&self) -> QueueKind {
        self.kind
    }

    /// The type of its items, with its path.
    #[must_use]
    pub fn item(&self) -> &str {
        &self.item
    }

    /// Items that were put and that nobody has got.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many it takes; `None` without a bound.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// Items that were put and are not done; `None` for a plain [`Queue`](crate::Queue), which does not count them.
    #[must_use]
    pub fn unfinished(&self) -> Option<usize> {
        self.unfinished
    }

    /// Its dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> usize {
        self.dead
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The pids of the processes that have used it and hold a handle, each once; this one's first.
    #[must_use]
    pub fn holders(&self) -> &[u32] {
        &self.holders
    }

    /// Handles that were sent and not used yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

fn holders(core: &Core, state: &State) -> Vec<u32> {
    let own = (core.local_handles(state) > 0).then(std::process::id);
    let mut others: Vec<u32> = state
        .remotes
        .values()
        .map(|remote| remote.peer.page.pid())
        .collect();
    others.sort_unstable();
    others.dedup();
    own.into_iter().chain(others).collect()
}

/// In the order in which they were made.
pub(crate) fn statuses() -> Vec<QueueStatus> {
    let resources = hub::objects().into_iter();
    let queues = resources.filter_map(|resource| {
        Arc::<dyn Any + Send + Sync>::downcast::<Core>(resource.as_any()).ok()
    });
    queues.map(|core| QueueStatus::of(&core)).collect()
}
