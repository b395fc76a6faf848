//! The child's end of the lifeline: what the parent asks for, and the parent's end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::process::handshake::{self, Order};
use crate::sys;

/// The exit code of a child whose parent is gone. Nobody is left to see it.
const EXIT_ORPHAN: i32 = 71;

#[derive(Debug)]
struct Heard {
    stopping: AtomicBool,
    detached: AtomicBool,
    orphaned: AtomicBool,
    /// Held while one of them changes.
    changing: Mutex<()>,
    changed: Condvar,
}

static HEARD: Heard = Heard {
    stopping: AtomicBool::new(false),
    detached: AtomicBool::new(false),
    orphaned: AtomicBool::new(false),
    changing: Mutex::new(()),
    changed: Condvar::new(),
};

impl Heard {
    fn set(&self, flag: &AtomicBool) {
        let _changing = sys::lock(&self.changing);
        flag.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether it came before the deadline.
    fn wait(&self, flag: &AtomicBool, deadline: Option<Instant>) -> bool {
        let mut changing = sys::lock(&self.changing);
        while !flag.load(Ordering::Acquire) {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            changing = sys::wait(&self.changed, changing, deadline);
        }
        true
    }
}

/// Whether the parent asked this process to stop.
pub(crate) fn is_stopping() -> bool {
    HEARD.stopping.load(Ordering::Acquire)
}

/// Waits for that.
pub(crate) fn wait_stopping(deadline: Option<Instant>) -> bool {
    HEARD.wait(&HEARD.stopping, deadline)
}

/// Whether the parent has ended, and this process was let go before.
pub(crate) fn is_orphaned() -> bool {
    HEARD.orphaned.load(Ordering::Acquire)
}

/// Waits for that.
pub(crate) fn wait_orphaned(deadline: Option<Instant>) -> bool {
    HEARD.wait(&HEARD.orphaned, deadline)
}

/// From now on the end of the parent is the end of this process, unless the parent lets go of it. `directory` is what
/// is left of a start in whose middle the parent died.
pub(crate) fn watch(lifeline: Arc<OwnedFd>, directory: PathBuf) -> io::Result<()> {
    sys::service_thread("offspring-lifeline", move || {
        while let Some(order) = next_order(&lifeline) {
            match order {
                Order::Stop => HEARD.set(&HEARD.stopping),
                Order::Detach => HEARD.set(&HEARD.detached),
            }
        }
        if !HEARD.detached.load(Ordering::Acquire) {
            let _ = std::fs::remove_dir_all(&directory);
            sys::exit_now(EXIT_ORPHAN)
        }
        HEARD.set(&HEARD.orphaned);
    })
}

/// `None` when the parent is gone.
fn next_order(lifeline: &OwnedFd) -> Option<Order> {
    loop {
        match handshake::hear(lifeline.as_fd()) {
            Ok(order) => return order.map(|(order, _)| order),
            // The parent is gone and has not read all that we said. What it said before is still to be heard.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            // Nothing that this version knows.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(_) => return None,
        }
    }
}
