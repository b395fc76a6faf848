//! The child's end of the lifeline: what the parent asks for, and the parent's end.
//!
//! No thread waits for either. The parent holds the writing end of a pipe, the *life* of the child: when it is gone, the system
//! kills the child. What the parent asks for stays in the socket's buffer, where whoever wants to know looks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use crate::process::handshake::{self, Order};
use crate::sys;

/// The exit code of a child whose parent is gone before it had the chance to hold its life. Nobody is left to see it.
const EXIT_ORPHAN: i32 = 71;

#[derive(Debug)]
struct Lifeline {
    socket: Arc<OwnedFd>,
    /// Whether the parent asked for the end; unknown until an order tells that this is the last word.
    stopping: OnceLock<bool>,
    /// One at a time looks and takes.
    looking: Mutex<()>,
    /// Open as long as this process lives; `None` if it was detached from its start on.
    _life: Option<OwnedFd>,
}

static LIFELINE: OnceLock<Lifeline> = OnceLock::new();

/// From now on the end of the parent is the end of this process, unless the parent lets go of it.
pub(crate) fn hold(socket: Arc<OwnedFd>, life: Option<OwnedFd>) -> io::Result<()> {
    if let Some(life) = &life {
        sys::die_with(life.as_fd(), EXIT_ORPHAN)?;
    }
    let lifeline = Lifeline {
        socket,
        stopping: OnceLock::new(),
        looking: Mutex::new(()),
        _life: life,
    };
    LIFELINE
        .set(lifeline)
        .map_err(|_| io::Error::other("it is held already"))
}

impl Lifeline {
    /// One short call of the system while nothing was ordered, and none afterwards. It must be one: whoever hears of the order from
    /// the parent, on any way, is to see it, and memory that both share would cost every start more than these looks cost.
    fn is_stopping(&self) -> bool {
        match self.stopping.get() {
            Some(&stopping) => stopping,
            None => sys::has_unread(self.socket.as_fd()) && self.look(),
        }
    }

    /// Orders that matter stay in the buffer: so all who wait for them wake, and what comes with [`Order::Detach`] is not
    /// lost. That one is the last.
    fn look(&self) -> bool {
        let _one_at_a_time = sys::lock(&self.looking);
        loop {
            match handshake::next_order(self.socket.as_fd()) {
                Some(Order::Stop) => return *self.stopping.get_or_init(|| true),
                Some(Order::Detach) => return *self.stopping.get_or_init(|| false),
                None => return false,
                // Of the start, and late.
                Some(Order::Hold | Order::GoOn) => {
                    drop(handshake::hear_now::<Order>(self.socket.as_fd()))
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
                // Let go: that order stays in the buffer, and no other comes.
                return sleep_until(deadline);
            }
            if sys::is_at_end(self.socket.as_fd()) {
                // The order could have come before the end.
                return self.is_stopping() || sleep_until(deadline);
            }
            sys::wait_readable(self.socket.as_fd(), deadline);
        }
        true
    }
}

/// Nobody is left who could ask. Not woken in vain.
fn sleep_until(deadline: Option<Instant>) -> bool {
    loop {
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => return false,
            Some(left) => thread::sleep(left),
        }
    }
}

/// Whether the parent asked this process to stop.
pub(crate) fn is_stopping() -> bool {
    LIFELINE.get().is_some_and(Lifeline::is_stopping)
}

/// Waits for that.
pub(crate) fn wait_stopping(deadline: Option<Instant>) -> bool {
    LIFELINE.get().map_or_else(
        || sleep_until(deadline),
        |lifeline| lifeline.wait_stopping(deadline),
    )
}

/// Whether the parent has ended, and this process was let go before.
pub(crate) fn is_orphaned() -> bool {
    LIFELINE
        .get()
        .is_some_and(|lifeline| sys::is_at_end(lifeline.socket.as_fd()))
}

/// Waits for that.
pub(crate) fn wait_orphaned(deadline: Option<Instant>) -> bool {
    LIFELINE.get().map_or_else(
        || sleep_until(deadline),
        |lifeline| sys::wait_at_end(lifeline.socket.as_fd(), deadline),
    )
}
