//! What a worker is told at its start, and its signs of life.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::channel::{Receiver, Sender, channel};
use crate::error::{CreateError, DownReason};
use crate::sys::lock;

/// What a supervised worker may know of its start: given to the closure of
/// [`ChildSpec::worker_with`](crate::supervisor::ChildSpec::worker_with), to be put into the worker's fields. Plain facts: `Drop`
/// does nothing.
///
/// ```
/// use offspring::supervisor::{Birth, ChildSpec, Supervisor};
/// use offspring::{Sender, channel};
///
/// #[offspring::worker]
/// fn careful(generation: u64, told: Sender<String>) {
///     let how = if generation == 0 { "in full" } else { "with care" };
///     told.send(how.to_owned()).expect("the supervisor reads");
///     assert!(generation > 0, "the first one crashes");
///     offspring::current().wait_stopping();
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (told, tells) = channel()?;
///     let spec = ChildSpec::worker_with("careful", move |birth: &Birth| careful::new(birth.generation(), told.clone()));
///     let supervisor = Supervisor::builder().child(spec).start()?;
///     assert_eq!(tells.recv()?, "in full");
///     assert_eq!(tells.recv()?, "with care"); // once more, after it had crashed
///     supervisor.stop();
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Birth {
    generation: u64,
    previous: Option<DownReason>,
    heart: Option<Heart>,
}

impl Birth {
    pub(super) fn new(
        generation: u64,
        previous: Option<DownReason>,
        heart: Option<Heart>,
    ) -> Birth {
        Birth {
            generation,
            previous,
            heart,
        }
    }

    /// How often it was started before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How the worker before it ended; `None` for the first.
    #[must_use]
    pub fn previous(&self) -> Option<&DownReason> {
        self.previous.as_ref()
    }

    /// Its heart, if its [`heartbeat`](crate::supervisor::ChildSpec::heartbeat) is watched.
    #[must_use]
    pub fn heart(&self) -> Option<Heart> {
        self.heart.clone()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Beat;

/// By which a worker says that it is not stuck; it travels in the worker's fields.
///
/// Dropping it, in all its clones, ends the watch: a worker that has dropped its heart is not killed for its silence.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{ChildSpec, Heart, Supervisor};
///
/// #[offspring::worker]
/// fn steady(heart: Heart) {
///     while !offspring::current().is_stopping() {
///         heart.beat(); // if this does not come for 5 s, it is killed and started again
///         std::thread::sleep(Duration::from_millis(20));
///     }
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let spec = ChildSpec::worker_with("steady", |birth| steady::new(birth.heart().expect("it is watched")));
///     let supervisor = Supervisor::builder().child(spec.heartbeat(Duration::from_secs(5))).start()?;
///     supervisor.stop();
///     Ok(())
/// }
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct Heart {
    beats: Sender<Beat>,
    limit: Duration,
    #[serde(skip)]
    last: Mutex<Option<Instant>>,
}

impl Heart {
    pub(super) fn pair(
        limit: Option<Duration>,
    ) -> Result<(Option<Heart>, Option<Receiver<Beat>>), CreateError> {
        let Some(limit) = limit else {
            return Ok((None, None));
        };
        let (beats, heard) = channel()?;
        let last = Mutex::new(None);
        Ok((Some(Heart { beats, limit, last }), Some(heard)))
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

impl Clone for Heart {
    fn clone(&self) -> Heart {
        Heart {
            beats: self.beats.clone(),
            limit: self.limit,
            last: Mutex::new(None),
        }
    }
}
