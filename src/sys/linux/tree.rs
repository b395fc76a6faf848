//! A process with all of its descendants.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::pidfd::Pidfd;
use super::signals::with_signals_blocked;

/// How long one process may take to stop. It takes longer only if it waits for a broken device.
const STANDSTILL: Duration = Duration::from_millis(100);

/// A process and its descendants, all suspended, so that none starts another process or gets a new
/// parent before it is found. Each is held by a pidfd, so no signal can reach a stranger.
pub(crate) struct Tree<'a> {
    root: &'a Pidfd,
    descendants: HashMap<i32, Pidfd>,
}

impl<'a> Tree<'a> {
    /// Calls `act` with the tree of a child, which must not be reaped meanwhile.
    ///
    /// Holding a pidfd for each descendant, and finding them, takes descriptors, and this process
    /// may have none left. So the work happens on a thread with a table of descriptors of its own.
    pub(crate) fn with_suspended(root: &Pidfd, pid: u32, act: fn(&Tree<'_>)) {
        let run = || act(&Tree::suspend(root, pid));
        let is_done = std::thread::scope(|scope| {
            let thread = with_signals_blocked(|| {
                std::thread::Builder::new().spawn_scoped(scope, || {
                    keep_only_own_copy_of(root);
                    run();
                })
            });
            thread.is_ok_and(|thread| thread.join().is_ok())
        });
        if !is_done {
            run();
        }
    }

    fn suspend(root: &'a Pidfd, pid: u32) -> Tree<'a> {
        let mut tree = Tree { root, descendants: HashMap::new() };
        root.signal(Signal::STOP);
        await_standstill(root, pid as i32);
        // Each round finds one generation. The last round finds none.
        while tree.find_more(pid as i32) {}
        tree
    }

    fn find_more(&mut self, root: i32) -> bool {
        let found = processes().filter(|pid| *pid != root && !self.descendants.contains_key(pid));
        let found: Vec<(i32, Pidfd)> =
            found.filter_map(|pid| Some((pid, self.child(root, pid)?))).collect();
        for (_, process) in &found {
            process.signal(Signal::STOP);
        }
        found.iter().for_each(|(pid, process)| await_standstill(process, *pid));
        let any = !found.is_empty();
        self.descendants.extend(found);
        any
    }

    /// Returns the process if its parent is in the tree. A pid can be reused at any time, so the
    /// process is pinned first: as long as the pinned process has not ended, what is read is about
    /// that process. The same holds for its parent.
    fn child(&self, root: i32, pid: i32) -> Option<Pidfd> {
        // Most processes are not in the tree. For those, this saves the descriptor.
        self.parent(root, parent_of(pid)?)?;
        let process = Pidfd::of_any(pid)?;
        let parent = self.parent(root, parent_of(pid)?)?;
        (!process.has_ended() && !parent.has_ended()).then_some(process)
    }

    fn parent(&self, root: i32, pid: i32) -> Option<&Pidfd> {
        if pid == root { Some(self.root) } else { self.descendants.get(&pid) }
    }

    fn signal(&self, signal: Signal) {
        for process in self.descendants.values().chain([self.root]) {
            process.signal(signal);
        }
    }

    /// Sends SIGTERM to all, then resumes them.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }
}

impl Pidfd {
    fn of_any(pid: i32) -> Option<Pidfd> {
        pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok().map(Pidfd)
    }

    fn has_ended(&self) -> bool {
        !matches!(self.wait_end(Instant::now()), Ok(false))
    }
}

/// Gives this thread a table of descriptors of its own, separate from the program's, in which only
/// `kept` stays open.
fn keep_only_own_copy_of(kept: &Pidfd) {
    let kept = kept.as_fd().as_raw_fd() as libc::c_uint;
    // SAFETY: from the first call on, this thread sees copies of the descriptors. The thread ends
    // without using any of them but `kept`, which it only borrows.
    unsafe {
        if libc::unshare(libc::CLONE_FILES) == 0 {
            libc::syscall(libc::SYS_close_range, 3, kept - 1, 0);
            libc::syscall(libc::SYS_close_range, kept + 1, libc::c_uint::MAX, 0);
        }
    }
}

/// Waits until the process stands still. A signal takes effect when the process returns from the
/// kernel, and until then it may fork. Only the parent of the process would be notified of that
/// moment, so this polls.
fn await_standstill(process: &Pidfd, pid: i32) {
    let deadline = Instant::now() + STANDSTILL;
    while !process.has_ended() && !stands_still(pid) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Returns whether each thread is stopped, or has ended.
fn stands_still(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = read_stat(thread.path().join("stat"));
        stat.and_then(|stat| field(&stat, 0).map(|state| ["T", "t", "Z", "X"].contains(&state)))
            .unwrap_or(true)
    })
}

/// Returns whether a process, which must not be reaped meanwhile, may have children.
pub(crate) fn may_have_children(pid: u32) -> bool {
    // If the list cannot be read, assume that there are some: a kernel may be built without it.
    let has_some = |thread: fs::DirEntry| {
        fs::read(thread.path().join("children")).map_or(true, |children| !children.is_empty())
    };
    fs::read_dir(format!("/proc/{pid}/task"))
        .map_or(true, |mut threads| threads.any(|thread| thread.map_or(true, has_some)))
}

pub(in crate::sys) fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(pid: i32) -> Option<i32> {
    field(&read_stat(format!("/proc/{pid}/stat"))?, 1)?.parse().ok()
}

/// Reads the `stat` of a process or thread. The name in it may not be UTF-8, because a process
/// chooses its own.
pub(in crate::sys) fn read_stat(path: impl AsRef<Path>) -> Option<String> {
    fs::read(path).ok().map(|stat| String::from_utf8_lossy(&stat).into_owned())
}

/// Returns the n-th field after the name, which may contain anything.
pub(in crate::sys) fn field(stat: &str, n: usize) -> Option<&str> {
    stat.rsplit_once(") ")?.1.split(' ').nth(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(field("7 (a) b) R 3 4", 0), Some("R"));
        assert_eq!(field("7 (a) b) R 3 4", 1), Some("3"));
        assert_eq!(field("7 (a", 0), None);
        assert_eq!(
            parent_of(std::process::id() as i32),
            Some(std::os::unix::process::parent_id() as i32)
        );
    }
}
