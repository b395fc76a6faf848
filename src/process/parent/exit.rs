//! The end of the program: daemons are stopped, the others waited for, as Python does.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::error::KillCause;
use crate::ipc::hub;
use crate::process::child::entry::{Entry, entry};
use crate::process::current;
use crate::process::handle::Running;
use crate::process::parent::reaper;
use crate::process::parent::relay;
use crate::process::spawn_hook;
use crate::sys;

/// How long a daemon may take to end after SIGTERM, before SIGKILL.
const DAEMON_GRACE: Duration = Duration::from_secs(5);

static EXITING: AtomicBool = AtomicBool::new(false);
/// The process that has children to look after.
static PARENT: OnceLock<u32> = OnceLock::new();

pub(crate) fn is_exiting() -> bool {
    EXITING.load(Ordering::SeqCst)
}

/// Makes sure that the end of this process looks after its children.
pub(crate) fn install() {
    PARENT.get_or_init(|| {
        sys::at_exit(at_exit);
        process::id()
    });
}

/// Something that has work to finish before the program ends.
pub(crate) trait AtExit: Send + Sync {
    /// Takes nothing more, and finishes. Called by the reaper; must not wait.
    fn finish(&self);
    /// Waits until it has finished; only locks and condition variables, see `at_exit`.
    fn wait(&self);
}

static FINISHERS: Mutex<Vec<Weak<dyn AtExit>>> = Mutex::new(Vec::new());

/// At the normal end of the program `finisher` is waited for, if it is still there: before daemons are stopped, and
/// while processes can still be started.
pub(crate) fn finish_before_exit(finisher: &Arc<dyn AtExit>) {
    let mut finishers = sys::lock(&FINISHERS);
    finishers.retain(|other| other.strong_count() > 0);
    finishers.push(Arc::downgrade(finisher));
}

fn finishers() -> Vec<Arc<dyn AtExit>> {
    sys::lock(&FINISHERS)
        .iter()
        .filter_map(Weak::upgrade)
        .collect()
}

/// What the reaper does when the program's end wakes it.
pub(crate) fn reaper_woke() {
    if is_exiting() {
        hub::owner_exits();
    } else {
        finishers().iter().for_each(|finisher| finisher.finish());
    }
}

/// Runs on the thread that ends the program, after its thread-locals are gone: so only signals and
/// waits here, nothing of ipc-channel. Reaper and hub still run: children may need a queue of ours to end.
extern "C" fn at_exit() {
    if PARENT.get() != Some(&process::id()) {
        // A copy that host code forked: the children are not its own, and no reaper runs in it.
        return;
    }
    let finishers = if is_harness() {
        Vec::new()
    } else {
        finishers()
    };
    if !finishers.is_empty() {
        reaper::announce_exit();
    }
    for finisher in finishers {
        finisher.wait();
        // Its destructor may need what this thread has lost already.
        std::mem::forget(finisher);
    }
    EXITING.store(true, Ordering::SeqCst);
    let daemons: Vec<_> = children()
        .filter(|child| child.daemon || is_harness())
        .collect();
    for daemon in &daemons {
        daemon.terminate(KillCause::Exit);
    }
    let deadline = Instant::now() + DAEMON_GRACE;
    for daemon in &daemons {
        if !daemon.wait(Some(deadline)) {
            daemon.kill(KillCause::Exit);
            daemon.wait(None);
        }
    }
    let others: Vec<_> = children().collect();
    if !others.is_empty() {
        // They may wait for an item that only this process could have put.
        reaper::announce_exit();
    }
    for child in others {
        child.wait(None);
    }
    relay::finish();
    spawn_hook::finish();
}

fn children() -> impl Iterator<Item = Arc<Running>> {
    let of_ours = |child: &Arc<Running>| {
        !child.is_detached() && !(child.is_on_thread() && (child.daemon || is_harness()))
    };
    // A thread that nobody waits for ends with the program.
    reaper::running().into_iter().filter(of_ours)
}

/// Whether this is a test harness itself. It waits for nobody: what a failed test left running would keep
/// it from ending.
fn is_harness() -> bool {
    matches!(entry(), Some(Entry::Test(_))) && current::current().depth() == 0
}
