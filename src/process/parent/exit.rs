//! The end of the program: it stops daemons and waits for its other children, as Python does.
//!
//! The work is done by an `atexit` hook, on the thread that ends the program. That thread has lost
//! its thread-locals, so it uses signals, locks and condition variables only, and nothing of
//! ipc-channel. Whatever needs more is done by the reaper's thread, which still runs, like the
//! hub's: a child may need a queue of this process in order to end.
//!
//! The waits have no limit. So the program's handlers of SIGINT and SIGTERM are removed first: if a
//! handler has called `exit`, it may never return, and a second Ctrl-C would have no effect.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::error::KillCause;
use crate::ipc::hub;
use crate::process::parent::reaper;
use crate::process::parent::record::ChildRecord;
use crate::process::parent::relay;
use crate::process::spawn_hook;
use crate::process::{exit_limit, identity};
use crate::sys;

/// How long a daemon may take to end after SIGTERM, before it gets SIGKILL.
const DAEMON_GRACE: Duration = Duration::from_secs(5);

static EXITING: AtomicBool = AtomicBool::new(false);
/// The process that installed the hook. A fork of it inherits the hook, but the children are not
/// its own.
static PARENT: OnceLock<u32> = OnceLock::new();

pub(in crate::process) fn is_exiting() -> bool {
    EXITING.load(Ordering::SeqCst)
}

/// Starts what every child needs in this process: the reaper, and the hook for the end of the
/// program.
pub(in crate::process) fn start_services() -> io::Result<()> {
    reaper::start(on_exit_announced)?;
    PARENT.get_or_init(|| {
        sys::at_exit(at_exit);
        process::id()
    });
    Ok(())
}

/// Work that is finished before the program ends.
pub(crate) trait AtExit: Send + Sync {
    /// Accepts no more work, and finishes what has been accepted. The reaper calls it; it must not
    /// block.
    fn finish(&self);
    /// Waits until the work is finished, using locks and condition variables only; see the module's
    /// docs.
    fn wait(&self);
}

static FINISHERS: Mutex<Vec<Weak<dyn AtExit>>> = Mutex::new(Vec::new());

/// Has the normal end of the program wait for `finisher`, if it still exists. That happens before
/// daemons are stopped, and while processes can still be started.
pub(crate) fn finish_before_exit(finisher: &Arc<dyn AtExit>) {
    let mut finishers = sys::lock(&FINISHERS);
    finishers.retain(|other| other.strong_count() > 0);
    finishers.push(Arc::downgrade(finisher));
}

fn finishers() -> Vec<Arc<dyn AtExit>> {
    sys::lock(&FINISHERS).iter().filter_map(Weak::upgrade).collect()
}

/// Runs on the reaper's thread. The first announcement comes before `EXITING` is set, and is
/// followed by waits for the finishers, which end only after this call. So the two announcements
/// are never merged into one call.
fn on_exit_announced() {
    if is_exiting() {
        hub::owner_exits();
    } else {
        finishers().iter().for_each(|finisher| finisher.finish());
    }
}

extern "C" fn at_exit() {
    if PARENT.get() != Some(&process::id()) {
        // A fork by host code: the children are not its own, and it has no reaper.
        return;
    }
    exit_limit::suspend();
    sys::stop_handling_interrupts();
    wait_for_children();
    exit_limit::begin();
}

fn wait_for_children() {
    // A test harness does not wait: a child that a failed test left running would keep it from
    // ending.
    let is_harness = identity::is_harness();
    let finishers = if is_harness { Vec::new() } else { finishers() };
    if !finishers.is_empty() {
        reaper::announce_exit();
    }
    for finisher in finishers {
        finisher.wait();
        // Dropping it may need thread-locals.
        std::mem::forget(finisher);
    }
    // Set before the list of children is read. A start that this flag does not stop is then either
    // in the list, or its child ends with the liveness pipe.
    EXITING.store(true, Ordering::SeqCst);
    let daemons: Vec<_> = children(is_harness).filter(|child| child.daemon || is_harness).collect();
    // Signal all of them first, so that they end at the same time and share one grace.
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
    let others: Vec<_> = children(is_harness).collect();
    if !others.is_empty() {
        // They may be waiting for an item that only this process could have put. The announcement
        // has the hub end such waits.
        reaper::announce_exit();
    }
    for child in others {
        child.wait(None);
    }
    relay::finish();
    spawn_hook::at_exit();
}

/// Returns the children that the end of the program stops or waits for.
fn children(is_harness: bool) -> impl Iterator<Item = Arc<ChildRecord>> {
    // A thread that is not waited for ends with the program.
    let is_left_alone = move |child: &Arc<ChildRecord>| {
        child.is_detached() || (child.is_inline() && (child.daemon || is_harness))
    };
    reaper::running().into_iter().filter(move |child| !is_left_alone(child))
}
