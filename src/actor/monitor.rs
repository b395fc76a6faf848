//! Watching an actor.

use std::fmt;
use std::time::{Duration, Instant};

use crate::actor::call::after;
use crate::error::DownReason;

/// The end of one incarnation of an actor. Plain facts: `Drop` does nothing.
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
#[must_use = "it tells something only to those who wait"]
pub struct Monitor {
    actor: String,
    look: Box<dyn Fn(Instant) -> Option<Down> + Send + Sync>,
}

impl Monitor {
    pub(super) fn new(actor: &str, look: impl Fn(Instant) -> Option<Down> + Send + Sync + 'static) -> Monitor {
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
        f.debug_struct("Monitor").field("actor", &self.actor).finish_non_exhaustive()
    }
}
