//! The signs of life of a worker.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::channel::{Receiver, Sender, channel};
use crate::error::CreateError;
use crate::sys::lock;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Beat;

/// Lets a worker show its supervisor that it is not stuck. It travels in the worker's fields.
///
/// Once all its clones are dropped, the supervisor no longer watches the worker: dropping it never
/// causes the worker to be killed.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{ChildSpec, Heartbeat, Supervisor};
///
/// #[offspring::worker]
/// fn steady(heartbeat: Heartbeat) {
///     while !offspring::current().is_stopping() {
///         heartbeat.beat(); // after 5 s without it, the supervisor kills and restarts this worker
///         std::thread::sleep(Duration::from_millis(20));
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let spec = ChildSpec::worker_with("steady", |info| {
///         steady::new(info.heartbeat().expect("the spec below sets a limit"))
///     });
///     let spec = spec.heartbeat(Duration::from_secs(5));
///     let supervisor = Supervisor::builder().child(spec).start()?;
///     supervisor.stop();
///     Ok(())
/// }
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    beats: Sender<Beat>,
    limit: Duration,
    #[serde(skip)]
    last: Mutex<Option<Instant>>,
}

impl Heartbeat {
    /// Returns the worker's end and the supervisor's, if there is a limit.
    pub(super) fn pair(
        limit: Option<Duration>,
    ) -> Result<(Option<Heartbeat>, Option<Receiver<Beat>>), CreateError> {
        let Some(limit) = limit else {
            return Ok((None, None));
        };
        let (beats, received) = channel()?;
        let last = Mutex::new(None);
        Ok((Some(Heartbeat { beats, limit, last }), Some(received)))
    }

    /// Signals that the worker is alive. Never blocks.
    ///
    /// This is cheap enough for a hot loop: a call within a quarter of the limit after the last
    /// signal does nothing.
    pub fn beat(&self) {
        let mut last = lock(&self.last);
        if last.is_none_or(|last| last.elapsed() >= self.limit / 4) {
            *last = Some(Instant::now());
            // If the supervisor is gone, this process is about to be ended anyway.
            let _ = self.beats.send_timeout(Beat, Duration::ZERO);
        }
    }
}

impl Clone for Heartbeat {
    fn clone(&self) -> Heartbeat {
        Heartbeat { beats: self.beats.clone(), limit: self.limit, last: Mutex::new(None) }
    }
}
