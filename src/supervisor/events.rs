//! What a supervisor tells.

use std::fmt;
use std::time::Duration;

use crate::error::DownReason;
use crate::supervisor::spec::ChildKind;

/// Something that happened under a supervisor.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Event, Restart, Supervisor};
///
/// #[offspring::worker]
/// fn greet() {
///     println!("hello");
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().start()?;
///     let mut events = supervisor.events();
///     let hello = ChildSpec::worker_with("hello", |_| greet::new()).restart(Restart::Temporary);
///     supervisor.start_child(hello)?;
///     assert!(matches!(events.next(), Some(Event::Started { id, restarts: 0, .. }) if id == "hello"));
///     match events.next() {
///         Some(Event::Ended { id, reason }) => println!("{id} {reason}"), // hello stopped
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A child is up.
    Started {
        /// Which.
        id: String,
        /// Its process; `None` for a supervisor.
        pid: Option<u32>,
        /// How often it was started again.
        restarts: u64,
    },
    /// A child ended by itself.
    Ended {
        /// Which.
        id: String,
        /// How.
        reason: DownReason,
    },
    /// The supervisor stopped a child.
    Stopped {
        /// Which.
        id: String,
    },
    /// A child, with those that go with it, is started again after this pause.
    Restarting {
        /// Which.
        id: String,
        /// The pause.
        after: Duration,
    },
    /// A child was to be started, and was not.
    StartFailed {
        /// Which.
        id: String,
        /// Why.
        error: String,
    },
    /// Too many restarts: the supervisor stops all children, and ends.
    GaveUp {
        /// The child that failed last.
        id: String,
        /// How it ended.
        reason: DownReason,
    },
    /// The listener was slow, and so many events were left out here.
    Missed(u64),
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
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().intensity(2).child(ChildSpec::worker_with("broken", |_| fail::new())).start()?;
///     match supervisor.wait() {
///         SupervisorEnd::GaveUp { id, intensity, .. } => assert_eq!((id.as_str(), intensity), ("broken", 2)),
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
    /// There were too many restarts.
    GaveUp {
        /// The child that failed last.
        id: String,
        /// How it ended.
        reason: DownReason,
        /// The restarts that were allowed.
        intensity: usize,
        /// Within this time.
        period: Duration,
    },
}

impl fmt::Display for SupervisorEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SupervisorEnd::Stopped => f.write_str("was stopped"),
            SupervisorEnd::GaveUp {
                id,
                reason,
                intensity,
                period,
            } => {
                let restarts = if *intensity == 1 {
                    "restart"
                } else {
                    "restarts"
                };
                write!(
                    f,
                    "more than {intensity} {restarts} within {period:?}, the last since child `{id}` {reason}"
                )
            }
        }
    }
}

/// How a child is.
///
/// ```
/// use offspring::supervisor::{ChildSpec, ChildState, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().child(ChildSpec::worker_with("server", |_| serve::new())).start()?;
///     assert_eq!(supervisor.children()[0].state, ChildState::Up);
///     supervisor.stop_child("server")?;
///     assert_eq!(supervisor.children()[0].state, ChildState::Stopped);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// It runs.
    Up,
    /// It will be started again, after a pause.
    Restarting,
    /// It does not run, and is not to.
    Stopped,
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ChildState::Up => "up",
            ChildState::Restarting => "restarting",
            ChildState::Stopped => "stopped",
        })
    }
}

/// A child of a supervisor as it was at one moment. Copied facts: `Drop` does nothing.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().child(ChildSpec::worker_with("server", |_| serve::new())).start()?;
///     for child in supervisor.children() {
///         println!("{}: {:?}, pid {:?}, started again {} times", child.id, child.state, child.pid, child.restarts);
///         assert!(child.last_end.is_none());
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its id.
    pub id: String,
    /// What it is.
    pub kind: ChildKind,
    /// How it is.
    pub state: ChildState,
    /// Its process, while it has one.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// How it ended the last time.
    pub last_end: Option<DownReason>,
}

impl fmt::Debug for ChildInfo {
    /// The last end in one line: a panic's report has pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_end = self.last_end.as_ref().map(|end| end.to_string());
        f.debug_struct("ChildInfo")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("state", &self.state)
            .field("pid", &self.pid)
            .field("restarts", &self.restarts)
            .field("last_end", &last_end)
            .finish()
    }
}
