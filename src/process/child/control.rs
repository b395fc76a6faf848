//! The child's end of the control socket, and the liveness pipe.
//!
//! No thread of the child waits for either. (The exception is a child that is the first process of
//! a pid namespace, where the system's signal would be ignored.) The parent holds the only writing
//! end of the liveness pipe; when it closes, the system kills the child. The parent's last message
//! stays in the socket's buffer, where every thread of the child can read it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use crate::process::handshake::{self, ParentMessage};
use crate::sys;

/// The exit code of a child whose parent ended before the child began to watch for that. No process
/// is left to read it.
const EXIT_ORPHAN: i32 = 71;

#[derive(Debug)]
struct ControlSocket {
    socket: Arc<OwnedFd>,
    /// True if the parent asked for a stop. Set by its last message, `Stop` or `Detach`.
    stopping: OnceLock<bool>,
    /// Held while the first message is inspected and removed.
    reading: Mutex<()>,
    /// The reading end, open as long as this process lives; `None` if the process was started
    /// detached.
    liveness: Option<OwnedFd>,
}

static CONTROL: OnceLock<ControlSocket> = OnceLock::new();

/// Ties this process to its parent: from now on, when the parent ends, this process ends as well,
/// unless the parent has detached it.
pub(super) fn hold(socket: Arc<OwnedFd>, liveness: Option<OwnedFd>) -> io::Result<()> {
    if let Some(liveness) = &liveness {
        sys::die_with(liveness.as_fd(), EXIT_ORPHAN)?;
    }
    let control =
        ControlSocket { socket, stopping: OnceLock::new(), reading: Mutex::new(()), liveness };
    CONTROL.set(control).map_err(|_| io::Error::other("it is held already"))
}

/// Starts the thread that ends this process with its parent, if the system cannot do that.
pub(super) fn watch() -> io::Result<()> {
    if std::process::id() == 1 {
        // The first process of a pid namespace: no such signal reaches it.
        sys::service_thread("offspring-liveness", exit_with_parent)?;
    }
    Ok(())
}

fn exit_with_parent() {
    let liveness = CONTROL.get().and_then(|control| control.liveness.as_ref());
    if liveness.is_some_and(|liveness| sys::wait_at_end(liveness.as_fd(), None)) {
        sys::exit_now(EXIT_ORPHAN);
    }
}

impl ControlSocket {
    /// Costs one short system call until the parent's last message has arrived, and none
    /// afterwards. The call is needed: a worker that learns of the stop in another way (from a
    /// queue, by a signal) must see it here, too. A flag in shared memory would be cheaper, but
    /// each start would pay for the memory.
    fn is_stopping(&self) -> bool {
        match self.stopping.get() {
            Some(&stopping) => stopping,
            None => sys::has_unread(self.socket.as_fd()) && self.read(),
        }
    }

    /// `Stop` and `Detach` stay in the socket. So it remains readable and wakes every thread that
    /// polls it, and the descriptor that comes with `Detach` stays open. Only leftovers of the
    /// start are taken out.
    fn read(&self) -> bool {
        // Without the lock, two threads could see the same leftover, and the second one would
        // remove the message after it: a `Stop` would be lost.
        let _reading = sys::lock(&self.reading);
        loop {
            match handshake::peek(self.socket.as_fd()) {
                Some(ParentMessage::Stop) => return *self.stopping.get_or_init(|| true),
                Some(ParentMessage::Detach) => return *self.stopping.get_or_init(|| false),
                None => return false,
                Some(ParentMessage::HoldStderr | ParentMessage::ReleaseStderr) => {
                    drop(handshake::try_recv::<ParentMessage>(self.socket.as_fd()));
                }
            }
        }
    }

    fn wait_stopping(&self, deadline: Option<Instant>) -> bool {
        while !self.is_stopping() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            if self.stopping.get().is_some() {
                // Detached: no other message follows, and the socket would stay readable for ever.
                return sleep_until(deadline);
            }
            if sys::is_at_end(self.socket.as_fd()) {
                // The parent is gone. It may have sent `Stop` after the check above and then ended.
                // It can send nothing more, so one more check is enough.
                return self.is_stopping() || sleep_until(deadline);
            }
            sys::wait_readable(self.socket.as_fd(), deadline);
        }
        true
    }
}

/// Sleeps until the deadline and returns `false`: nothing can end this wait earlier.
fn sleep_until(deadline: Option<Instant>) -> bool {
    loop {
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => return false,
            Some(left) => thread::sleep(left),
        }
    }
}

/// Returns a second descriptor for the socket.
#[cfg(test)]
pub(in crate::process) fn socket() -> Option<OwnedFd> {
    CONTROL.get()?.socket.try_clone().ok()
}

/// Returns whether the parent asked this process to stop.
pub(in crate::process) fn is_stopping() -> bool {
    CONTROL.get().is_some_and(ControlSocket::is_stopping)
}

/// Waits until the parent asks this process to stop. Returns `false` at the deadline.
pub(in crate::process) fn wait_stopping(deadline: Option<Instant>) -> bool {
    CONTROL.get().map_or_else(|| sleep_until(deadline), |control| control.wait_stopping(deadline))
}

/// Returns whether the parent has ended. Only a detached process can return `true`.
pub(in crate::process) fn is_orphaned() -> bool {
    CONTROL.get().is_some_and(|control| sys::is_at_end(control.socket.as_fd()))
}

/// Waits for the end of the parent. Returns `false` at the deadline.
pub(in crate::process) fn wait_orphaned(deadline: Option<Instant>) -> bool {
    CONTROL.get().map_or_else(
        || sleep_until(deadline),
        |control| sys::wait_at_end(control.socket.as_fd(), deadline),
    )
}
