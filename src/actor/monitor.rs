//! Watching an actor.

use std::fmt;
use std::time::{Duration, Instant};

use crate::actor::client::call::after;
use crate::error::DownReason;

/// The end of one incarnation of an actor. Plain facts: `Drop` does nothing.
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
    /// Which incarnation it was.
    pub generation: u64,
    /// How it ended.
    pub reason: DownReason,
    /// Whether it is started again, or has been.
    pub restarts: bool,
}

/// A watch on one incarnation of an actor, from [`ActorRef::monitor`](crate::actor::ActorRef::monitor). Dropping it ends the watch.
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
#[must_use = "it tells something only to those who wait"]
pub struct Monitor {
    actor: String,
    look: Box<dyn Fn(Instant) -> Option<Down> + Send + Sync>,
}

impl Monitor {
    pub(super) fn new(
        actor: &str,
        look: impl Fn(Instant) -> Option<Down> + Send + Sync + 'static,
    ) -> Monitor {
        Monitor {
            actor: actor.to_owned(),
            look: Box::new(look),
        }
    }

    /// Waits for the end.
    #[must_use]
    pub fn wait(self) -> Down {
        loop {
            if let Some(down) = self.wait_timeout(Duration::from_secs(3600)) {
                return down;
            }
        }
    }

    /// Waits for the end, at most this long; `None` if it still runs.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Down> {
        (self.look)(after(timeout))
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}
