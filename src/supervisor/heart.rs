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
#[derive(Debug)]
pub struct Birth {
    generation: u64,
    previous: Option<DownReason>,
    heart: Option<Heart>,
}

impl Birth {
    pub(super) fn new(generation: u64, previous: Option<DownReason>, heart: Option<Heart>) -> Birth {
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
#[derive(Debug, Serialize, Deserialize)]
pub struct Heart {
    beats: Sender<Beat>,
    limit: Duration,
    #[serde(skip)]
    last: Mutex<Option<Instant>>,
}

impl Heart {
    pub(super) fn pair(limit: Option<Duration>) -> Result<(Option<Heart>, Option<Receiver<Beat>>), CreateError> {
        let Some(limit) = limit else { return Ok((None, None)) };
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
