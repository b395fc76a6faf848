//! The interface between a supervisor and its children, whatever their kind.

use std::time::Duration;

use crate::actor::{Configure, UntypedRef};
use crate::error::{DownReason, StartError};
use crate::supervisor::strategy::{Restart, Shutdown};

/// The options of an actor or a worker. Supervisors do not have them.
#[derive(Default)]
pub(super) struct ChildOptions {
    pub(super) heartbeat: Option<Duration>,
    pub(super) configure: Option<Configure>,
}

/// Called when a child has ended, once for each successful start.
pub(super) type OnChildEnd = Box<dyn FnOnce(DownReason) + Send>;

pub(super) trait Child: Send {
    /// Starts the child and waits until it is up.
    ///
    /// `restart` lets the child's own thread know whether a restart will follow, even while the
    /// supervisor is busy.
    fn start(&mut self, restart: Restart, on_end: OnChildEnd) -> Result<(), StartError>;

    /// Stops the child and waits for its end. Does nothing if it is down.
    fn stop(&mut self, shutdown: Shutdown);

    /// Announces to clients that the child is down and will be restarted.
    fn announce_restart(&mut self, reason: &DownReason);

    /// Announces to clients that the child is down for good.
    fn announce_down(&mut self, reason: &DownReason);

    fn pid(&self) -> Option<u32>;

    /// Returns its address, if it is an actor.
    fn address(&self) -> Option<UntypedRef> {
        None
    }
}
