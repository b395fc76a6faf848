//! The thread that takes the exit status of every child that no thread joins at the moment.
//!
//! It sleeps on the pidfds of all children, so it wakes only when one of them ends, and it never
//! asks for a process that is not a child of this crate, as `waitpid(-1)` would: that would take
//! the status of the host program's own children. While a thread joins a child, that thread sleeps
//! on the pidfd and the reaper does not. The status is taken under the lock of the child's record.
//!
//! Locks: a record's lock comes first, then one of the two here. So the reaper clones a record out
//! of its table, and calls it after the table is unlocked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::process::parent::record::ChildRecord;
use crate::sys::{self, Pidfd, Poller, Service};

struct Reaper {
    endings: Poller,
    children: Mutex<BTreeMap<u64, Arc<ChildRecord>>>,
    /// When to check on which child, for children that were asked to stop.
    reminders: Mutex<BTreeSet<(Instant, u64)>>,
    /// Set before the poller is woken, and cleared before the call, so that each announcement is
    /// followed by a call.
    exit_announced: AtomicBool,
    on_exit: fn(),
}

static REAPER: Service<Reaper> = Service::new("offspring-reaper");

impl Reaper {
    fn children(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ChildRecord>>> {
        sys::lock(&self.children)
    }

    fn child(&self, id: u64) -> Option<Arc<ChildRecord>> {
        self.children().get(&id).cloned()
    }

    fn run(&self) {
        loop {
            let next = sys::lock(&self.reminders).first().map(|&(at, _)| at);
            for id in self.endings.wait(next) {
                if id == Poller::WAKE {
                    if self.exit_announced.swap(false, Ordering::SeqCst) {
                        (self.on_exit)();
                    }
                    continue;
                }
                // If it is not in the table, a joining thread has just reaped it.
                if let Some(child) = self.child(id) {
                    child.reap();
                }
            }
            self.send_due_signals(Instant::now());
        }
    }

    fn send_due_signals(&self, now: Instant) {
        while let Some(id) = self.pop_due(now) {
            let again = self.child(id).and_then(|child| child.escalate(now));
            sys::lock(&self.reminders).extend(again.map(|at| (at, id)));
        }
    }

    fn pop_due(&self, now: Instant) -> Option<u64> {
        let mut reminders = sys::lock(&self.reminders);
        let first = reminders.first().copied().filter(|(at, _)| *at <= now)?;
        reminders.remove(&first);
        Some(first.1)
    }
}

/// Starts the reaper, if it is not running yet. After [`announce_exit`] it calls `on_exit`.
pub(super) fn start(on_exit: fn()) -> io::Result<()> {
    REAPER
        .start(|| {
            let reaper = Reaper {
                endings: Poller::new()?,
                children: Mutex::new(BTreeMap::new()),
                reminders: Mutex::new(BTreeSet::new()),
                exit_announced: AtomicBool::new(false),
                on_exit,
            };
            Ok((reaper, Reaper::run))
        })
        .map(drop)
}

/// Returns whether this process has a reaper. It has none before it starts a child, and a fork has
/// none.
pub(super) fn is_here() -> bool {
    REAPER.get().is_some()
}

/// Has the reaper call `on_exit`. The thread that ends the process cannot do so itself: it has lost
/// the thread-locals that ipc-channel needs.
pub(super) fn announce_exit() {
    if let Some(reaper) = REAPER.get() {
        reaper.exit_announced.store(true, Ordering::SeqCst);
        reaper.endings.wake();
    }
}

/// Has the reaper check on a child at this time.
pub(super) fn remind(at: Instant, id: u64) {
    if let Some(reaper) = REAPER.get() {
        sys::lock(&reaper.reminders).insert((at, id));
        // The reaper may be asleep until a later reminder.
        reaper.endings.wake();
    }
}

/// Hands a child over to the reaper, which must be running.
pub(super) fn watch(child: Arc<ChildRecord>) -> io::Result<()> {
    let reaper = REAPER.get().ok_or_else(|| io::Error::other("this process has no reaper"))?;
    let id = child.id;
    // Into the table first: the pidfd may be ready at once, and then the reaper looks for the child
    // there.
    reaper.children().insert(id, child.clone());
    let watched = child.with_pidfd(|pidfd| reaper.endings.add(pidfd, id)).unwrap_or(Ok(()));
    watched.inspect_err(|_| {
        reaper.children().remove(&id);
    })
}

/// Called when the child's status is about to be taken.
pub(super) fn forget(id: u64, pidfd: &Pidfd) {
    if let Some(reaper) = REAPER.get() {
        reaper.endings.remove(pidfd);
        reaper.children().remove(&id);
    }
}

/// Called when a joining thread begins to wait for the child's end.
pub(super) fn pause_watch(id: u64, pidfd: &Pidfd) {
    if let Some(reaper) = REAPER.get() {
        reaper.endings.pause(pidfd, id);
    }
}

/// Called when that thread stops waiting.
pub(super) fn resume_watch(id: u64, pidfd: &Pidfd) {
    if let Some(reaper) = REAPER.get() {
        reaper.endings.resume(pidfd, id);
    }
}

/// Adds an inline worker to the children. The reaper must be running.
pub(in crate::process) fn adopt(child: Arc<ChildRecord>) {
    if let Some(reaper) = REAPER.get() {
        reaper.children().insert(child.id, child);
    }
}

/// Removes an inline worker that has ended.
pub(in crate::process) fn release(id: u64) {
    if let Some(reaper) = REAPER.get() {
        reaper.children().remove(&id);
    }
}

/// Returns all children that are running, in the order of their start.
pub(crate) fn running() -> Vec<Arc<ChildRecord>> {
    REAPER.get().map(|reaper| reaper.children().values().cloned().collect()).unwrap_or_default()
}
