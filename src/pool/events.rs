//! The events of a pool, for callers that observe it.

use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{ExitReason, PoolError, TaskError};
use crate::ipc::event_stream::{EventStream, StreamEvent};
use crate::ipc::waitable::{WaitSource, Waitable};

/// Something that happened in a [`Pool`](crate::Pool).
///
/// ```
/// use offspring::pool::PoolEvent;
/// use offspring::Pool;
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
    /// A worker is ready for tasks: its initializer has returned.
    WorkerStarted {
        /// The name of the process.
        worker: Arc<str>,
        /// The pid of the process.
        pid: u32,
    },
    /// A worker process ended: during a task, by a signal, or because the pool is replacing it.
    WorkerEnded {
        /// The name of the process.
        worker: Arc<str>,
        /// The pid of the process.
        pid: u32,
        /// How it ended.
        reason: ExitReason,
        /// The last kilobyte that it wrote to stderr, if this process has read that: see
        /// [`TaskError::stderr`].
        stderr: String,
    },
    /// A worker did not start. The pool tries again, up to the restart limit.
    StartFailed {
        /// The reason.
        error: Arc<PoolError>,
    },
    /// A task ended without an output.
    TaskFailed {
        /// The reason.
        error: TaskError,
    },
    /// A process ended while it ran the task. The task will run again.
    TaskRetried {
        /// The name of the task's worker type.
        task: &'static str,
        /// How many processes have ended while they ran it.
        crashes: u32,
    },
    /// The pool gave up.
    Broken {
        /// The reason.
        error: Arc<PoolError>,
    },
    /// The reader was slow: this many events were dropped here.
    Missed(u64),
}

impl StreamEvent for PoolEvent {
    fn missed(count: u64) -> PoolEvent {
        PoolEvent::Missed(count)
    }
}

/// The events of a pool, from the call of [`Pool::events`](crate::Pool::events) to the end of the
/// pool. Dropping it ends this stream only.
///
/// As an iterator it blocks until the next event, and ends with the pool. It buffers up to 1,024
/// events. If the buffer is full, new events are dropped; a [`PoolEvent::Missed`] with their number
/// takes their place.
///
/// ```
/// use std::time::Duration;
/// use offspring::pool::PoolEvent;
/// use offspring::Pool;
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
///             PoolEvent::WorkerStarted { .. } => break, // its replacement
///             _ => {}
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the stream"]
pub struct PoolEvents {
    pub(super) stream: EventStream<PoolEvent>,
}

impl PoolEvents {
    pub(super) fn new(stream: EventStream<PoolEvent>) -> PoolEvents {
        PoolEvents { stream }
    }

    /// Returns the next event. Returns `None` if there is no event now, or if the stream has ended.
    /// Never blocks.
    pub fn try_next(&self) -> Option<PoolEvent> {
        self.stream.try_next()
    }

    /// Returns the next event; blocks for at most `timeout` until there is one. Returns `None`
    /// after that, and at the end of the stream.
    pub fn next_timeout(&self, timeout: Duration) -> Option<PoolEvent> {
        self.stream.next_timeout(timeout)
    }
}

impl Waitable for PoolEvents {
    fn wait_source(&self) -> WaitSource {
        self.stream.wait_source()
    }
}

impl Iterator for PoolEvents {
    type Item = PoolEvent;

    fn next(&mut self) -> Option<PoolEvent> {
        self.stream.next()
    }
}

impl FusedIterator for PoolEvents {}
