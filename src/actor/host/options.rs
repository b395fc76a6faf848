//! How an actor is started, each time it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::process::ProcessBuilder;

/// OTP has no limit here; a start that hangs must not hang a supervisor.
const START_TIMEOUT: Duration = Duration::from_secs(10);
pub(in crate::actor) const MAILBOX: usize = 64;

#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) mailbox: usize,
    pub(crate) redeliver: u32,
    pub(crate) start_timeout: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) configure: Option<Arc<dyn Fn(ProcessBuilder) -> ProcessBuilder + Send + Sync>>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            mailbox: MAILBOX,
            redeliver: 0,
            start_timeout: START_TIMEOUT,
            heartbeat: None,
            configure: None,
        }
    }
}

impl Plan {
    /// The process of one incarnation. It is a daemon: who ends the program without stopping its actors is not kept waiting by them.
    pub(crate) fn process(&self, name: &str, generation: u64) -> ProcessBuilder {
        let builder = ProcessBuilder::new()
            .name(name)
            .daemon(true)
            .generation(u32::try_from(generation).unwrap_or(u32::MAX));
        match &self.configure {
            Some(configure) => configure(builder),
            None => builder,
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("mailbox", &self.mailbox)
            .field("redeliver", &self.redeliver)
            .field("start_timeout", &self.start_timeout)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
