//! Reading the processes of the system, and finding the descendants of this one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::process::{self, ChildRecord};
use crate::queue;
use crate::sys::Stat;
use crate::tree::{ProcessInfo, ProcessTree};

/// Takes a snapshot of this process, all its descendants (workers, and programs that they started),
/// and the queues that this process owns.
///
/// For a child, it shows what was set at its spawn: its name, its worker, whether it is a daemon.
/// For a grandchild, it shows only what the system knows: the queues of another process, and the
/// names and workers of its children, are known only there. A worker can return its own tree:
///
/// ```
/// use offspring::JoinableQueue;
/// use offspring::tree::ProcessTree;
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
///     let tree = look::spawn()?.join()?;
///     assert_eq!(tree.queues()[0].len(), 1);
///     assert!(offspring::tree().queues().is_empty()); // `jobs` was not this process's queue
///     Ok(())
/// }
/// ```
///
/// Asks no other process and so never waits for one. It costs some tens of microseconds for each
/// process on the machine, and more for a descendant that uses much memory.
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::tree::ProcessState;
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
///     assert_eq!((bob.name(), bob.is_daemon()), ("bob", Some(true)));
///     assert!(bob.worker().is_some_and(|worker| worker.ends_with("rest")));
///     assert!(bob.memory() > 0 && bob.state() != ProcessState::Ended);
///     Ok(())
/// }
/// ```
pub fn tree() -> ProcessTree {
    let own = std::process::id();
    // Read the known children before the processes of the system. A child that starts in between is
    // then listed without its details, and one that ends in between is not listed.
    let children = process::running();
    let survey = Survey::new(own, &children);
    ProcessTree { root: survey.describe(own), queues: queue::statuses() }
}

struct Survey<'a> {
    own: u32,
    stats: HashMap<u32, Stat>,
    /// The descendants of this process, by their parents.
    children: HashMap<u32, Vec<u32>>,
    /// The children that are processes, by their pids.
    known: HashMap<u32, &'a ChildRecord>,
    on_threads: Vec<&'a ChildRecord>,
}

impl<'a> Survey<'a> {
    fn new(own: u32, running: &'a [Arc<ChildRecord>]) -> Survey<'a> {
        let (on_threads, known): (Vec<&ChildRecord>, Vec<&ChildRecord>) =
            running.iter().map(Arc::as_ref).partition(|child| child.is_inline());
        let stats: HashMap<u32, Stat> =
            Stat::of_all().into_iter().map(|stat| (stat.pid, stat)).collect();
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
            children.extend(self.on_threads.iter().map(|child| ProcessInfo::on_thread(child)));
        }
        info.with_children(children)
    }
}

/// The descendants of `root` by their parents, each exactly once.
///
/// `stats` was not read at one moment, so a pid may have been reused in between, and its parent may
/// be wrong. A process that is older than its parent reveals that; `seen` breaks the circles that
/// remain.
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
        processes.iter().map(|process| (process.0, stat(process))).collect()
    }

    #[test]
    fn descendants_are_under_their_parents_in_the_order_of_their_start() {
        let found =
            descendants(1, &stats(&[(1, 0, 0), (5, 1, 2), (4, 1, 3), (7, 4, 4), (9, 2, 4)]));
        assert_eq!(found[&1], [5, 4]);
        assert_eq!(found[&4], [7]);
        assert!(!found.contains_key(&9) && !found.contains_key(&2));
    }

    #[test]
    fn reused_pids_make_neither_circles_nor_wrong_children() {
        // 1 was read as a child of its own grandchild; 4 is older than its parent.
        let found = descendants(1, &stats(&[(1, 3, 0), (2, 1, 5), (3, 2, 5), (4, 2, 1)]));
        assert_eq!(found[&2], [3]);
        assert_eq!(found[&3], [] as [u32; 0]);
    }
}
