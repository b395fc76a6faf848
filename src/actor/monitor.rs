//! Watching an actor.

use std::fmt;
use std::time::Duration;

use crate::error::DownReason;
use crate::ipc::deadline::Deadline;

/// The end of one incarnation of an actor. Plain data: `Drop` does nothing.
///
/// ```
/// use offspring::actor::DownReason;
///
/// # struct Counter(u64);
/// # #[offspring::actor]
/// # impl Counter {
/// #     fn start(value: u64) -> Self {
/// #         Counter(value)
/// #     }
/// #     pub fn add(&mut self, n: u64) -> u64 {
/// #         self.0 = self.0.checked_add(n).expect("there is room");
/// #         self.0
/// #     }
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(u64::MAX)?;
///     let monitor = counter.monitor()?;
///     let _ = counter.add(1); // there is no room
///     let down = monitor.wait();
///     assert!(matches!(down.reason, DownReason::Died(_)) && !down.restarts);
///     assert_eq!(down.generation, 0);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Down {
    /// The actor's name.
    pub actor: String,
    /// The number of the incarnation: 0 for the first.
    pub generation: u64,
    /// How it ended.
    pub reason: DownReason,
    /// Whether another incarnation follows, or has followed.
    pub restarts: bool,
}

/// A watch on one incarnation of an actor, from
/// [`ActorRef::monitor`](crate::actor::ActorRef::monitor). Dropping it ends the watch.
///
/// The end is a state, not an event: once it has come, every wait returns it at once.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::actor::DownReason;
///
/// # struct Counter(u64);
/// # #[offspring::actor]
/// # impl Counter {
/// #     fn start(value: u64) -> Self {
/// #         Counter(value)
/// #     }
/// #     pub fn add(&mut self, n: u64) -> u64 {
/// #         self.0 = self.0.checked_add(n).expect("there is room");
/// #         self.0
/// #     }
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(1)?;
///     let monitor = counter.monitor()?;
///     assert!(monitor.wait_timeout(Duration::ZERO).is_none()); // it lives
///     counter.stop();
///     assert_eq!(monitor.wait().reason, DownReason::Shutdown);
///     Ok(())
/// }
/// ```
#[must_use = "a monitor does nothing unless it is waited on"]
pub struct Monitor {
    actor: String,
    wait: Box<dyn Fn(&Deadline) -> Option<Down> + Send + Sync>,
}

impl Monitor {
    pub(super) fn new(
        actor: &str,
        wait: impl Fn(&Deadline) -> Option<Down> + Send + Sync + 'static,
    ) -> Monitor {
        Monitor {
            actor: actor.to_owned(),
            wait: Box::new(wait),
        }
    }

    /// Blocks until the incarnation ends, and returns how. If the actor's host process ends,
    /// returns [`DownReason::OwnerGone`].
    #[must_use]
    pub fn wait(self) -> Down {
        loop {
            if let Some(down) = (self.wait)(&Deadline::never()) {
                return down;
            }
        }
    }

    /// Like [`wait`](Monitor::wait), but returns `None` if the incarnation still runs after
    /// `timeout`.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Down> {
        (self.wait)(&Deadline::after(timeout))
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}
