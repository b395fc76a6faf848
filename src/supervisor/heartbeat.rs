//! The signs of life of a worker.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::channel::{Receiver, Sender, channel};
use crate::error::CreateError;
use crate::sys::lock;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Beat;

/// By which a worker says that it is not stuck; it travels in the worker's fields.
///
/// Dropping it, in all its clones, ends the watch: a worker that has dropped its heart is not killed for its silence.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{ChildSpec, Heartbeat, Supervisor};
///
/// #[offspring::worker]
/// fn steady(heart: Heartbeat) {
///     while !offspring::current().is_stopping() {
///         heart.beat(); // if this does not come for 5 s, it is killed and started again
///         std::thread::sleep(Duration::from_millis(20));
///     }
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let spec = ChildSpec::worker_with("steady", |info| steady::new(info.heartbeat().expect("it is watched")));
///     let supervisor = Supervisor::builder().child(spec.heartbeat(Duration::from_secs(5))).start()?;
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
    pub(super) fn pair(
        limit: Option<Duration>,
    ) -> Result<(Option<Heartbeat>, Option<Receiver<Beat>>), CreateError> {
        let Some(limit) = limit else {
            return Ok((None, None));
        };
        let (beats, heard) = channel()?;
        let last = Mutex::new(None);
        Ok((Some(Heartbeat { beats, limit, last }), Some(heard)))
    }

    /// Says that the worker is alive. Cheap: what comes more often than a quarter of the limit is not sent.
    pub fn beat(&self) {
        let mut last = lock(&self.last);
        if last.is_none_or(|last| last.elapsed() >= self.limit / 4) {
            *last = Some(Instant::now());
            // A supervisor that is gone takes this process along.
            let _ = self.beats.send_timeout(Beat, Duration::ZERO);
        }
    }
}

impl Clone for Heartbeat {
    fn clone(&self) -> Heartbeat {
        Heartbeat {
            beats: self.beats.clone(),
            limit: self.limit,
            last: Mutex::new(None),
        }
    }
}
