//! A flag that threads of all processes wait for.
//!
//! One word holds the flag, whether a thread may be asleep on the word, and the number of times
//! that the flag was set. A waiting thread remembers that number, so it notices even a flag that
//! was set and cleared while it slept. No process holds anything of an event, so a death leaves
//! nothing to release. But the dead process may have set the flag and not woken the sleepers, so
//! the repair wakes them all.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{CreateError, SyncError, TimeoutError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::sync::event_watch::{EventWatch, StopLimit, WatchedFlag};
use crate::sync::object::{ObjectHandle, Primitive};
use crate::sys::{futex_wait, futex_wake_all};

const WORD: usize = 0;

const SET: u32 = 1;
/// A thread may be asleep on the word.
const WAITERS: u32 = 2;
/// The process that made the event has ended.
const GONE: u32 = 4;
/// The bits from here on count how often the flag was set.
const ROUND: u32 = 8;

#[derive(Debug)]
enum EventWords {}

impl Primitive for EventWords {
    const WORDS_LEN: usize = 64;

    fn repair(region: &Region, _: u32) -> bool {
        futex_wake_all(region.number(WORD));
        true
    }

    fn abandon(region: &Region) {
        let word: &AtomicU32 = region.number(WORD);
        word.fetch_or(GONE, Ordering::Relaxed);
        futex_wake_all(word);
    }

    fn holds(_: &Region, _: u32) -> bool {
        false
    }
}

/// A flag that threads of all processes wait for. Dropping a handle does not affect the others.
///
/// Whatever was written before [`set`](Event::set) is visible after [`wait`](Event::wait). Reading
/// and setting the flag make no system call while no thread waits. When the process that made the
/// event ends, waiting returns [`SyncError::Disconnected`].
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
///
/// [`wait_any`](crate::wait_any) and a [`Selector`](crate::Selector) can wait for an event too: it
/// is ready while its flag is set. Unlike [`wait`](Event::wait), they may miss a flag that is set
/// and soon cleared again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use]
pub struct Event {
    object: ObjectHandle<EventWords>,
    /// What selectors register with. The first one makes it.
    #[serde(skip)]
    watch: OnceLock<Arc<EventWatch<EventFlag>>>,
}

/// The event as the watching thread holds it: without `watch`, because dropping that ends the
/// thread.
#[derive(Debug)]
struct EventFlag(ObjectHandle<EventWords>);

impl Event {
    /// Creates an event that is not set.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory, or a descriptor for it.
    pub fn new() -> Result<Event, CreateError> {
        ObjectHandle::new(0, |_| ()).map(|object| Event { object, watch: OnceLock::new() })
    }

    /// Sets the flag. This wakes every thread that waits, and later waits return at once. Does
    /// nothing if the flag is already set.
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

    /// Clears the flag. A later wait blocks until the next [`set`](Event::set).
    pub fn clear(&self) {
        self.object.word(WORD).fetch_and(!SET, Ordering::AcqRel);
    }

    /// Returns whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.object.word(WORD).load(Ordering::Acquire) & SET != 0
    }

    /// Blocks until the flag is set. Returns even if the flag was cleared again before this thread
    /// woke.
    ///
    /// # Errors
    ///
    /// [`SyncError::Disconnected`] if the process that made the event has ended.
    pub fn wait(&self) -> Result<(), SyncError> {
        wait_until_set(&self.object, &Forever).map_err(WaitEnd::into_failed)
    }

    /// Like [`wait`](Event::wait), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimeoutError::Timeout`] if the flag was not set in time, and the errors of
    /// [`wait`](Event::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), TimeoutError> {
        let limit = Deadline::after(timeout);
        Ok(wait_until_set(&self.object, &limit)?)
    }
}

fn wait_until_set<L: TimeLimit>(
    object: &ObjectHandle<EventWords>,
    limit: &L,
) -> Waited<(), SyncError, L> {
    let word = object.word(WORD);
    let mut seen = word.load(Ordering::Acquire);
    let round = seen / ROUND;
    if seen & SET == 0 {
        // The owner's end wakes only processes that have a session with the owner. The session is
        // opened after the round was read, so that a flag that is set in the meantime counts.
        object.session(limit)?;
        seen = word.load(Ordering::Acquire);
    }
    loop {
        if seen & SET != 0 || seen / ROUND != round {
            return Ok(());
        }
        if seen & GONE != 0 {
            return Err(SyncError::Disconnected.into());
        }
        // Checked after the flag was read, so that a flag that was set just in time counts.
        limit.check().map_err(WaitEnd::Timeout)?;
        if seen & WAITERS == 0 {
            let new = seen | WAITERS;
            let marked = word.compare_exchange(seen, new, Ordering::SeqCst, Ordering::Acquire);
            seen = marked.map_or_else(|now| now, |_| new);
            // Check the limit once more before sleeping. `interrupt` stops the limit, then clears
            // this mark, so either the check sees the stop, or the futex sees the cleared mark.
            continue;
        }
        futex_wait(word, seen, limit.deadline());
        seen = word.load(Ordering::Acquire);
    }
}

impl WatchedFlag for EventFlag {
    fn is_ready(&self) -> bool {
        self.0.word(WORD).load(Ordering::Acquire) & (SET | GONE) != 0
    }

    fn wait_until_ready(&self, limit: &StopLimit) -> bool {
        !matches!(wait_until_set(&self.0, limit), Err(WaitEnd::Failed(_)))
    }

    fn interrupt(&self) {
        // Changing the word keeps a thread that is about to sleep on it awake. Woken threads that
        // still have to wait mark it again. If this process dies before it wakes the sleepers, the
        // repair wakes them.
        let word = self.0.word(WORD);
        word.fetch_and(!WAITERS, Ordering::SeqCst);
        futex_wake_all(word);
    }
}

impl Waitable for Event {
    fn wait_source(&self) -> WaitSource {
        let watch = || Arc::new(EventWatch::new(EventFlag(self.object.clone())));
        WaitSource::new(self.watch.get_or_init(watch).clone())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}
