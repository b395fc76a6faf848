//! Events of a supervisor, and the stream that carries them.

use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

use crate::error::DownReason;
use crate::ipc::event_stream::{EventStream, StreamEvent};
use crate::ipc::waitable::{WaitSource, Waitable};

/// Something that happened under a supervisor.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Restart, Supervisor, SupervisorEvent};
///
/// #[offspring::worker]
/// fn greet() {
///     println!("hello");
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().start()?;
///     let mut events = supervisor.events();
///     let hello = ChildSpec::worker_with("hello", |_| greet::new()).restart(Restart::Temporary);
///     supervisor.start_child(hello)?;
///     assert!(matches!(events.next(), Some(SupervisorEvent::Started { id, .. }) if id == "hello"));
///     match events.next() {
///         Some(SupervisorEvent::Ended { id, reason }) => println!("{id} {reason}"), // hello stopped
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupervisorEvent {
    /// A child is up.
    Started {
        /// Its id.
        id: String,
        /// The pid of its process; `None` for a supervisor.
        pid: Option<u32>,
        /// The number of restarts so far.
        restarts: u64,
    },
    /// A child ended on its own.
    Ended {
        /// Its id.
        id: String,
        /// How it ended.
        reason: DownReason,
    },
    /// The supervisor stopped a child.
    Stopped {
        /// Its id.
        id: String,
    },
    /// The supervisor will restart a child, and those that its strategy restarts with it, after a
    /// pause.
    Restarting {
        /// Its id.
        id: String,
        /// The length of the pause.
        after: Duration,
    },
    /// The supervisor failed to start a child.
    StartFailed {
        /// Its id.
        id: String,
        /// The text of the error and of its causes.
        error: String,
    },
    /// There were too many restarts, so the supervisor stops all its children and ends.
    GaveUp {
        /// The child that ended last.
        id: String,
        /// How it ended.
        reason: DownReason,
    },
    /// This many events were dropped at this point, because the reader was too slow.
    Missed(u64),
}

impl StreamEvent for SupervisorEvent {
    fn missed(count: u64) -> SupervisorEvent {
        SupervisorEvent::Missed(count)
    }
}

/// The events of a supervisor, from the call of [`events`](crate::Supervisor::events) to the
/// supervisor's end. Dropping it ends this stream only.
///
/// As an iterator, it blocks until the next event, and ends with the supervisor. It buffers up to
/// 1,024 events. When the buffer is full, further events are dropped, and a
/// [`SupervisorEvent::Missed`] with their number takes their place.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Supervisor, SupervisorEvents};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().start()?;
///     let events: SupervisorEvents = supervisor.events();
///     supervisor.start_child(ChildSpec::worker_with("server", |_| serve::new()))?;
///     supervisor.stop();
///     assert_eq!(events.count(), 2); // started, stopped
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the stream"]
pub struct SupervisorEvents {
    pub(super) stream: EventStream<SupervisorEvent>,
}

impl SupervisorEvents {
    pub(super) fn new(stream: EventStream<SupervisorEvent>) -> SupervisorEvents {
        SupervisorEvents { stream }
    }

    /// Returns the next event if there is one. Never blocks. Also returns `None` at the end of the
    /// stream.
    pub fn try_next(&self) -> Option<SupervisorEvent> {
        self.stream.try_next()
    }

    /// Blocks for at most `timeout` until the next event. Returns `None` after the timeout, and at
    /// the end of the stream.
    pub fn next_timeout(&self, timeout: Duration) -> Option<SupervisorEvent> {
        self.stream.next_timeout(timeout)
    }
}

impl Iterator for SupervisorEvents {
    type Item = SupervisorEvent;

    fn next(&mut self) -> Option<SupervisorEvent> {
        self.stream.next()
    }
}

impl FusedIterator for SupervisorEvents {}

/// Ready when [`try_next`](SupervisorEvents::try_next) returns an event, and at the end of the
/// stream.
impl Waitable for SupervisorEvents {
    fn wait_source(&self) -> WaitSource {
        self.stream.wait_source()
    }
}

/// How a supervisor ended.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Supervisor, SupervisorEnd};
///
/// #[offspring::worker]
/// fn fail() {
///     std::process::exit(1);
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let broken = ChildSpec::worker_with("broken", |_| fail::new());
///     let supervisor = Supervisor::builder().intensity(2).child(broken).start()?;
///     match supervisor.wait() {
///         SupervisorEnd::GaveUp { id, intensity, .. } => {
///             assert_eq!((id.as_str(), intensity), ("broken", 2));
///         }
///         end => panic!("{end}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupervisorEnd {
    /// It was stopped.
    Stopped,
    /// It gave up, because there were too many restarts.
    GaveUp {
        /// The child that ended last.
        id: String,
        /// How that child ended.
        reason: DownReason,
        /// The number of restarts that were allowed.
        intensity: usize,
        /// The period in which they were allowed.
        period: Duration,
    },
}

impl fmt::Display for SupervisorEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SupervisorEnd::Stopped => f.write_str("was stopped"),
            SupervisorEnd::GaveUp { id, reason, intensity, period } => {
                let plural = if *intensity == 1 { "" } else { "s" };
                write!(
                    f,
                    "more than {intensity} restart{plural} within {period:?} (the limit is `SupervisorBuilder::intensity`), the last because child `{id}` {reason}"
                )
            }
        }
    }
}
