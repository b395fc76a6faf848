//! What runs now: this process with its descendants, and its queues.
//!
//! Nobody is asked, so nobody can be late: of its children a process knows what it said at their start, and the rest is what
//! the system tells of each process in one read. Who ends meanwhile is not there, or is there once more.

mod display;
mod info;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use info::{ProcessInfo, ProcessState};

use crate::process::{self, Running};
use crate::queue::{self, QueueStatus};
use crate::sys::Stat;

/// This process with all its descendants, and the queues that it has made, at one moment: [`tree`] takes it.
///
/// Copied facts: `Drop` does nothing, and a process may be gone when its facts are read. `{}` draws it; all that is drawn is
/// in methods as well. It can be sent, so that a worker can show what only it knows, such as the names of its own children.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let words = Queue::bounded(8)?;
/// words.put("tree".to_owned())?;
/// let tree = offspring::tree();
/// assert_eq!(tree.root().pid(), std::process::id());
/// assert_eq!(tree.processes().count(), 1); // nothing was started
/// let queue = tree.queues().last().expect("there is one");
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
    /// This process, and below it the others.
    pub fn root(&self) -> &ProcessInfo {
        &self.root
    }

    /// All processes, each before its children.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessInfo> {
        let mut next = vec![&self.root];
        std::iter::from_fn(move || {
            let process = next.pop()?;
            next.extend(process.children().iter().rev());
            Some(process)
        })
    }

    /// The process with this pid. A [worker on a thread](crate::process::Backend::Inline) is not found: it has no pid of its own.
    #[must_use]
    pub fn find(&self, pid: u32) -> Option<&ProcessInfo> {
        self.processes().find(|process| process.pid() == pid)
    }

    /// The queues that this process has made and somebody holds, in the order in which they were made. An actor's mailbox is one.
    #[must_use]
    pub fn queues(&self) -> &[QueueStatus] {
        &self.queues
    }
}

/// Looks at this process, all its descendants (workers, and programs that they started), and the queues that it has made.
///
/// Nobody is asked: of other processes it shows what the system tells, and of its own children what was said at their start. What
/// only another process knows is not in it: the queues which that one has made, and the names and workers of its children. A process
/// that is to show those gives its own tree, which can be sent as any value:
///
/// ```
/// use offspring::{JoinableQueue, ProcessTree};
///
/// #[offspring::worker]
/// fn look() -> ProcessTree {
///     let jobs = JoinableQueue::unbounded().unwrap();
///     jobs.put(7).unwrap();
///     offspring::tree()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let its = look::spawn()?.join()?;
///     assert_eq!(its.queues()[0].len(), 1);
///     assert!(offspring::tree().queues().is_empty()); // it is not this process's
///     Ok(())
/// }
/// ```
///
/// Waits for nobody. It reads a few lines of each process from the system: some tens of microseconds for each process on the
/// machine, and for each descendant more if it has much memory.
///
/// ```
/// use offspring::{ProcessBuilder, ProcessState};
///
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let process = ProcessBuilder::new().name("bob").daemon(true).spawn(rest::new())?;
///     let tree = offspring::tree();
///     println!("{tree}");
///
///     let bob = tree.find(process.pid()).expect("it runs");
///     assert_eq!((bob.name(), bob.is_daemon(), bob.generation()), ("bob", Some(true), Some(0)));
///     assert!(bob.worker().is_some_and(|worker| worker.ends_with("rest")));
///     assert!(bob.memory() > 0 && bob.state() != ProcessState::Ended);
///     Ok(())
/// }
/// ```
pub fn tree() -> ProcessTree {
    let own = std::process::id();
    // First those that are known: who is started later is found all the same, who ends before is no longer seen.
    let children = process::running();
    let survey = Survey::new(own, &children);
    ProcessTree {
        root: survey.describe(own),
        queues: queue::statuses(),
    }
}

/// What is known of all processes.
struct Survey<'a> {
    own: u32,
    stats: HashMap<u32, Stat>,
    /// Descendants of this process, each under its parent.
    children: HashMap<u32, Vec<u32>>,
    known: HashMap<u32, &'a Running>,
    on_threads: Vec<&'a Running>,
}

impl<'a> Survey<'a> {
    fn new(own: u32, running: &'a [Arc<Running>]) -> Survey<'a> {
        let (on_threads, known): (Vec<&Running>, Vec<&Running>) = running
            .iter()
            .map(Arc::as_ref)
            .partition(|child| child.is_on_thread());
        let stats: HashMap<u32, Stat> = Stat::of_all()
            .into_iter()
            .map(|stat| (stat.pid, stat))
            .collect();
        Survey {
            own,
            children: descendants(own, &stats),
            stats,
            known: known.into_iter().map(|child| (child.pid, child)).collect(),
            on_threads,
        }
    }

    fn describe(&self, pid: u32) -> ProcessInfo {
        let mut info = ProcessInfo::of(pid, self.stats.get(&pid));
        if pid == self.own {
            info = info.of_this_process();
        } else if let Some(child) = self.known.get(&pid) {
            info = info.of_child(child);
        }
        let below = self.children.get(&pid).into_iter().flatten();
        let mut children: Vec<ProcessInfo> = below.map(|&child| self.describe(child)).collect();
        if pid == self.own {
            children.extend(
                self.on_threads
                    .iter()
                    .map(|child| ProcessInfo::on_thread(child)),
            );
        }
        info.with_children(children)
    }
}

/// Each descendant once, under its parent. A pid may have become another's between two reads: nobody is older than its parent.
fn descendants(root: u32, stats: &HashMap<u32, Stat>) -> HashMap<u32, Vec<u32>> {
    let mut by_parent: HashMap<u32, Vec<&Stat>> = HashMap::new();
    for stat in stats.values() {
        let parent = stats.get(&stat.parent);
        if parent.is_none_or(|parent| parent.started <= stat.started) {
            by_parent.entry(stat.parent).or_default().push(stat);
        }
    }
    let mut found = HashMap::new();
    let mut seen = HashSet::from([root]);
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        let mut children = by_parent.remove(&parent).unwrap_or_default();
        children.retain(|child| seen.insert(child.pid));
        children.sort_by_key(|child| (child.started, child.pid));
        let children: Vec<u32> = children.into_iter().map(|child| child.pid).collect();
        next.extend(&children);
        found.insert(parent, children);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stats(processes: &[(u32, u32, u64)]) -> HashMap<u32, Stat> {
        let own = Stat::of(std::process::id()).unwrap();
        let stat = |&(pid, parent, started): &(u32, u32, u64)| Stat {
            pid,
            parent,
            started: Duration::from_secs(started),
            ..own.clone()
        };
        processes
            .iter()
            .map(|process| (process.0, stat(process)))
            .collect()
    }

    #[test]
    fn descendants_are_under_their_parents_in_the_order_of_their_start() {
        let found = descendants(
            1,
            &stats(&[(1, 0, 0), (5, 1, 2), (4, 1, 3), (7, 4, 4), (9, 2, 4)]),
        );
        assert_eq!(found[&1], [5, 4]);
        assert_eq!(found[&4], [7]);
        assert!(!found.contains_key(&9) && !found.contains_key(&2));
    }

    #[test]
    fn pids_that_were_used_again_make_neither_circles_nor_strangers() {
        // 2 and 3 were each read as the other's child; 4 is older than its parent.
        let found = descendants(1, &stats(&[(1, 3, 0), (2, 1, 5), (3, 2, 5), (4, 2, 1)]));
        assert_eq!(found[&2], [3]);
        assert_eq!(found[&3], [] as [u32; 0]);
    }
}
