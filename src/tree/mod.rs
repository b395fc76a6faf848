//! Snapshots of the running program: its processes, as a tree, and its queues.
//!
//! A snapshot asks no other process, so none can delay it. What was set when a child was spawned is
//! known in this process; everything else comes from one read of `/proc` per process. A process
//! that starts or ends in the meantime may be missing, or may still be listed.

mod display;
mod info;
pub(crate) mod survey;

use serde::{Deserialize, Serialize};

pub use info::{ProcessInfo, ProcessState};

use crate::queue::QueueStatus;

/// A snapshot of this process, all its descendants, and the queues that it owns. Made by
/// [`tree`](crate::tree()).
///
/// It is plain data: dropping it does nothing, and a process in it may be gone by now. `{}` draws
/// it as a table. It can be sent to other processes: a worker can return the tree that it sees.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let words = Queue::bounded(8)?;
/// words.put("tree".to_owned())?;
///
/// let tree = offspring::tree();
/// assert_eq!(tree.root().pid(), std::process::id());
/// assert_eq!(tree.processes().count(), 1); // no child was spawned
/// let queue = tree.queues().last().expect("`words` is in it");
/// assert_eq!((queue.len(), queue.capacity()), (1, Some(8)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct ProcessTree {
    root: ProcessInfo,
    queues: Vec<QueueStatus>,
}

impl ProcessTree {
    /// Returns this process; its descendants are below it.
    pub fn root(&self) -> &ProcessInfo {
        &self.root
    }

    /// Returns an iterator over all processes, each before its children.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessInfo> {
        let mut next = vec![&self.root];
        std::iter::from_fn(move || {
            let process = next.pop()?;
            next.extend(process.children().iter().rev());
            Some(process)
        })
    }

    /// Returns the process with this pid. Does not find a [worker on a
    /// thread](crate::process::Backend::Inline), which has no pid of its own.
    #[must_use]
    pub fn find(&self, pid: u32) -> Option<&ProcessInfo> {
        self.processes().find(|process| process.pid() == pid)
    }

    /// Returns the queues that this process owns and that still have a handle somewhere, oldest
    /// first. The mailbox of an actor is one of them.
    #[must_use]
    pub fn queues(&self) -> &[QueueStatus] {
        &self.queues
    }
}
