//! What happens in a pool, for those who want to watch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::{ExitReason, PoolError, TaskError};
use crate::sys::lock;

/// Something that happened in a [`Pool`](crate::Pool).
///
/// ```
/// use offspring::{Pool, PoolEvent};
///
/// #[offspring::worker]
/// fn fail() {
///     panic!("on purpose");
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let mut events = pool.events();
///     assert!(pool.run(fail::new()).is_err());
///     assert!(events.any(|event| matches!(event, PoolEvent::TaskFailed { .. })));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A worker is ready for tasks; its initializer has returned.
    WorkerStarted {
        /// Its name.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
    },
    /// A worker's process ended: by a task, from outside, or since it was to be replaced.
    WorkerEnded {
        /// Its name.
        worker: Arc<str>,
        /// Its pid.
        pid: u32,
        /// How.
        reason: ExitReason,
    },
    /// A worker did not start; it is tried again until the restart limit.
    StartFailed {
        /// Why.
        error: Arc<PoolError>,
    },
    /// A task ended without an output.
    TaskFailed {
        /// Why.
        error: TaskError,
    },
    /// A task took its process with it, and is tried again.
    TaskRetried {
        /// Name of the task's worker type.
        task: &'static str,
        /// So many processes it has ended.
        crashes: u32,
    },
    /// The pool gave up.
    Broken {
        /// Why.
        error: Arc<PoolError>,
    },
    /// The reader was slow, and so many events were left out here.
    Missed(u64),
}

/// So many events wait for a reader.
const WAITING: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Events {
    readers: Mutex<Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    events: SyncSender<PoolEvent>,
    missed: Arc<AtomicU64>,
}

impl Events {
    pub(super) fn subscribe(&self) -> PoolEvents {
        let (sender, events) = sync_channel(WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        lock(&self.readers).push(Reader {
            events: sender,
            missed: missed.clone(),
        });
        PoolEvents { events, missed }
    }

    /// Whether somebody reads.
    pub(super) fn is_watched(&self) -> bool {
        !lock(&self.readers).is_empty()
    }

    pub(super) fn tell(&self, events: Vec<PoolEvent>) {
        if events.is_empty() {
            return;
        }
        lock(&self.readers).retain(|reader| events.iter().all(|event| reader.tell(event.clone())));
    }

    /// No more will come.
    pub(super) fn end(&self) {
        lock(&self.readers).clear();
    }
}

impl Reader {
    /// Whether anybody reads still. A slow one must not hold up the pool.
    fn tell(&self, event: PoolEvent) -> bool {
        match self.events.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// The events of a pool from [`Pool::events`](crate::Pool::events) on, until it has ended; as an iterator that waits.
/// Dropping it stops the stream.
///
/// Up to 1,024 events wait for the reader; what comes on top is left out, and counted by a [`PoolEvent::Missed`].
///
/// ```
/// use std::time::Duration;
/// use offspring::{Pool, PoolEvent};
///
/// #[offspring::worker]
/// fn crash() {
///     std::process::abort();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let events = pool.events();
///     assert!(pool.run(crash::new()).is_err());
///     while let Some(event) = events.next_timeout(Duration::from_secs(10)) {
///         match event {
///             PoolEvent::WorkerEnded { worker, reason, .. } => println!("{worker} {reason}"),
///             PoolEvent::WorkerStarted { .. } => break, // in its place
///             _ => {}
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "events that nobody reads are left out"]
pub struct PoolEvents {
    events: Receiver<PoolEvent>,
    missed: Arc<AtomicU64>,
}

impl PoolEvents {
    /// The next event if there is one; waits at most this long. `None` at the end of the pool as well.
    pub fn next_timeout(&self, timeout: Duration) -> Option<PoolEvent> {
        self.next_or(|events| events.recv_timeout(timeout).ok())
    }

    fn next_or(
        &self,
        wait: impl FnOnce(&Receiver<PoolEvent>) -> Option<PoolEvent>,
    ) -> Option<PoolEvent> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            // Those that lay here came before those that were missed.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                match self.missed.swap(0, Ordering::Relaxed) {
                    0 => wait(&self.events),
                    missed => Some(PoolEvent::Missed(missed)),
                }
            }
        }
    }
}

impl Iterator for PoolEvents {
    type Item = PoolEvent;

    fn next(&mut self) -> Option<PoolEvent> {
        self.next_or(|events| events.recv().ok())
    }
}
