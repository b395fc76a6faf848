//! How each incarnation of an actor is started.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::process::ProcessBuilder;
use crate::process::unix::ProcessBuilderExt;

/// OTP has no limit here. But a `start` that hangs must not make its supervisor hang.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const MAILBOX_CAPACITY: usize = 64;

#[derive(Clone)]
pub(crate) struct StartOptions {
    pub(crate) mailbox: usize,
    pub(crate) redeliver: u32,
    pub(crate) start_timeout: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) configure: Option<Configure>,
}

/// Sets options of a process, anew for each incarnation.
pub(crate) type Configure = Arc<dyn Fn(ProcessBuilder) -> ProcessBuilder + Send + Sync>;

impl Default for StartOptions {
    fn default() -> StartOptions {
        StartOptions {
            mailbox: MAILBOX_CAPACITY,
            redeliver: 0,
            start_timeout: START_TIMEOUT,
            heartbeat: None,
            configure: None,
        }
    }
}

impl StartOptions {
    /// Returns the builder of one incarnation's process. It is a daemon, so that a program that
    /// ends without stopping its actors does not wait for them.
    pub(crate) fn process(&self, name: &str, generation: u64) -> ProcessBuilder {
        let builder = ProcessBuilder::new()
            .name(name)
            .daemon(true)
            .shielded(true)
            .generation(u32::try_from(generation).unwrap_or(u32::MAX));
        let builder = match &self.configure {
            Some(configure) => configure(builder),
            None => builder,
        };
        builder.unattended()
    }
}

impl fmt::Debug for StartOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartOptions")
            .field("mailbox", &self.mailbox)
            .field("redeliver", &self.redeliver)
            .field("start_timeout", &self.start_timeout)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
