//! One thread takes the status of every child that nobody joins just then.
//!
//! It sleeps on the pidfds of all children, so it wakes only when one ends, and never asks for a child
//! that is not ours (`waitpid(-1)` would take the host program's own). A thread that joins a child sleeps on the pidfd itself
//! meanwhile: the way over this one would be one more wake-up. Who of the two sees the end takes the status, under the child's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::process::handle::Running;
use crate::process::parent::exit;
use crate::sys::{self, Pidfd, Poller, Service};

struct Reaper {
    endings: Poller,
    children: Mutex<BTreeMap<u64, Arc<Running>>>,
    /// When to look after a child that was asked to stop.
    reminders: Mutex<BTreeSet<(Instant, u64)>>,
    exiting: AtomicBool,
}

static REAPER: Service<Reaper> = Service::new("offspring-reaper");

impl Reaper {
    fn children(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Running>>> {
        sys::lock(&self.children)
    }

    /// Without the lock, which is the last that a child takes.
    fn child(&self, id: u64) -> Option<Arc<Running>> {
        self.children().get(&id).cloned()
    }

    fn run(&self) {
        loop {
            let next = sys::lock(&self.reminders).first().map(|&(at, _)| at);
            for id in self.endings.wait(next) {
                if id == Poller::WAKE {
                    if self.exiting.swap(false, Ordering::SeqCst) {
                        exit::reaper_woke();
                    }
                    continue;
                }
                if let Some(child) = self.child(id) {
                    child.reap();
                }
            }
            self.look_after(Instant::now());
        }
    }

    fn look_after(&self, now: Instant) {
        while let Some(id) = self.due(now) {
            let again = self.child(id).and_then(|child| child.escalate(now));
            sys::lock(&self.reminders).extend(again.map(|at| (at, id)));
        }
    }

    fn due(&self, now: Instant) -> Option<u64> {
        let mut reminders = sys::lock(&self.reminders);
        let first = reminders.first().copied().filter(|(at, _)| *at <= now)?;
        reminders.remove(&first);
        Some(first.1)
    }
}

/// Starts the reaper, if it does not run yet.
pub(crate) fn start() -> io::Result<()> {
    REAPER
        .start(|| {
            let reaper = Reaper {
                endings: Poller::new()?,
                children: Mutex::new(BTreeMap::new()),
                reminders: Mutex::new(BTreeSet::new()),
                exiting: AtomicBool::new(false),
            };
            Ok((reaper, Reaper::run))
        })
        .map(drop)
}

/// Tells the hub, or those that finish first, that this process is at its end. The reaper does it, since the thread that ends the
/// process has no thread-locals any more, and ipc-channel needs them.
pub(crate) fn announce_exit() {
    if let Some(reaper) = REAPER.get() {
        reaper.exiting.store(true, Ordering::SeqCst);
        reaper.endings.wake();
    }
}

/// Has the reaper look after a child then.
pub(crate) fn remind(at: Instant, id: u64) {
    let reaper = REAPER.wait();
    sys::lock(&reaper.reminders).insert((at, id));
    reaper.endings.wake();
}

/// Hands a child over. [`start`] was called before.
pub(crate) fn watch(child: Arc<Running>) -> io::Result<()> {
    let reaper = REAPER.wait();
    let id = child.id;
    // Known before it is watched: its end may come at once.
    reaper.children().insert(id, child.clone());
    let watched = child
        .with_pidfd(|pidfd| reaper.endings.add(pidfd, id))
        .unwrap_or(Ok(()));
    watched.inspect_err(|_| {
        reaper.children().remove(&id);
    })
}

/// Its status is taken.
pub(crate) fn forget(id: u64, pidfd: &Pidfd) {
    let reaper = REAPER.wait();
    reaper.endings.remove(pidfd);
    reaper.children().remove(&id);
}

/// A thread watches for its end itself.
pub(crate) fn leave_alone(id: u64, pidfd: &Pidfd) {
    REAPER.wait().endings.pause(pidfd, id);
}

/// And does not any more.
pub(crate) fn watch_again(id: u64, pidfd: &Pidfd) {
    REAPER.wait().endings.resume(pidfd, id);
}

/// Counts a worker on a thread among the children. [`start`] was called before.
pub(crate) fn adopt(child: Arc<Running>) {
    REAPER.wait().children().insert(child.id, child);
}

/// It is at its end.
pub(crate) fn release(id: u64) {
    REAPER.wait().children().remove(&id);
}

/// All that run, in the order of their start.
pub(crate) fn running() -> Vec<Arc<Running>> {
    REAPER
        .get()
        .map(|reaper| reaper.children().values().cloned().collect())
        .unwrap_or_default()
}
