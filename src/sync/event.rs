//! A flag that threads of all processes wait for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, SyncError, TimeoutError};
use crate::ipc::region::Region;
use crate::ipc::wire;
use crate::sync::object::{Kind, Object};
use crate::sys::{futex_wait, futex_wake_all};

const WORD: usize = 0;
const LENGTH: usize = 64;

const SET: u32 = 1;
/// Somebody may sleep on the word.
const WAITERS: u32 = 2;
/// The process that made the event has ended.
const GONE: u32 = 4;
/// The bits above count how often it was set, so that one who waits also sees what was cleared at once.
const ROUND: u32 = 8;

#[derive(Debug)]
enum Flag {}

impl Kind for Flag {
    const NAME: &'static str = "event";

    fn ended(region: &Region, _: u32, _: bool) -> bool {
        // It may have set the event, and not have woken those who wait for it.
        futex_wake_all(region.number(WORD));
        true
    }

    fn gone(region: &Region) {
        let word: &AtomicU32 = region.number(WORD);
        word.fetch_or(GONE, Ordering::Relaxed);
        futex_wake_all(word);
    }

    fn holds(_: &Region, _: u32) -> bool {
        false
    }
}

/// A flag that threads of all processes wait for. Dropping a handle does nothing to the others.
///
/// What was written before [`set`](Event::set) is seen after [`wait`](Event::wait). Looking at the flag and setting it
/// make no call of the system when nobody waits. When the process that made the event ends, waiting gives
/// [`SyncError::Disconnected`].
///
/// ```
/// use offspring::sync::Event;
///
/// #[offspring::worker]
/// fn wait(start: Event) -> bool {
///     start.wait().is_ok()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let start = Event::new()?;
///     let child = wait::spawn(start.clone())?;
///     start.set();
///     assert!(child.join()?);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Event {
    object: Arc<Object<Flag>>,
}

impl Event {
    /// A new event that is not set.
    ///
    /// # Errors
    ///
    /// If the memory, or a descriptor for it, cannot be had.
    pub fn new() -> Result<Event, CreateError> {
        let object = Object::new(LENGTH, fingerprint(), |_| ())?;
        Ok(Event { object })
    }

    /// Sets it: everybody who waits goes on, and whoever waits later does not wait. Does nothing if it is set.
    pub fn set(&self) {
        let word = self.object.word(WORD);
        let set =
            |seen: u32| (seen & SET == 0).then(|| (seen.wrapping_add(ROUND) | SET) & !WAITERS);
        if let Ok(before) = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, set) {
            if before & WAITERS != 0 {
                futex_wake_all(word);
            }
        }
    }

    /// Clears it: whoever waits from now on waits for the next [`set`](Event::set).
    pub fn clear(&self) {
        self.object.word(WORD).fetch_and(!SET, Ordering::AcqRel);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.object.word(WORD).load(Ordering::Acquire) & SET != 0
    }

    /// Waits until it is set; also if it is cleared again before this thread wakes up.
    ///
    /// # Errors
    ///
    /// If the process that made the event has ended.
    pub fn wait(&self) -> Result<(), SyncError> {
        match self.wait_until(None) {
            Ok(()) => Ok(()),
            Err(TimeoutError::Failed(error)) => Err(error),
            // Without a deadline there is none to pass.
            Err(TimeoutError::Timeout) => Err(SyncError::Disconnected),
        }
    }

    /// As [`wait`](Event::wait), at most so long.
    ///
    /// # Errors
    ///
    /// [`TimeoutError::Timeout`] if the time is over; else as [`wait`](Event::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), TimeoutError> {
        // A deadline that the clock cannot express is none.
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<(), TimeoutError> {
        let word = self.object.word(WORD);
        let mut seen = word.load(Ordering::Acquire);
        let round = seen / ROUND;
        let mut in_time = true;
        loop {
            if seen & SET != 0 || seen / ROUND != round {
                return Ok(());
            }
            if seen & GONE != 0 {
                return Err(SyncError::Disconnected.into());
            }
            if !in_time {
                return Err(TimeoutError::Timeout);
            }
            if seen & WAITERS == 0 {
                let marked = word.compare_exchange(
                    seen,
                    seen | WAITERS,
                    Ordering::Acquire,
                    Ordering::Acquire,
                );
                seen = marked.map_or_else(|now| now, |before| before | WAITERS);
                continue;
            }
            in_time = futex_wait(word, seen, deadline);
            seen = word.load(Ordering::Acquire);
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .finish_non_exhaustive()
    }
}

fn fingerprint() -> u64 {
    wire::fingerprint(std::any::type_name::<Event>())
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(fingerprint(), |length| length == LENGTH, deserializer)?;
        Ok(Event { object })
    }
}
