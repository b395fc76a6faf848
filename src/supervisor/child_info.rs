//! The state of a child, as its supervisor reports it.

use std::fmt;

use crate::error::DownReason;

/// The kind of a child.
///
/// ```
/// use offspring::supervisor::{ChildKind, ChildSpec, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let nested = Supervisor::builder().child(ChildSpec::worker_with("server", |_| serve::new()));
///     let supervisor = Supervisor::builder().child(ChildSpec::supervisor("servers", nested)).start()?;
///     assert_eq!(supervisor.children()[0].kind, ChildKind::Supervisor);
///     let servers = supervisor.children_of("servers").expect("`servers` is a supervisor");
///     assert_eq!(servers[0].kind, ChildKind::Worker);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildKind {
    /// An actor.
    Actor,
    /// A plain [`ProcessWorker`](crate::ProcessWorker).
    Worker,
    /// A supervisor in the same process as the one above it.
    Supervisor,
}

impl fmt::Display for ChildKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ChildKind::Actor => "actor",
            ChildKind::Worker => "worker",
            ChildKind::Supervisor => "supervisor",
        })
    }
}

/// The state of a child.
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
///     let server = ChildSpec::worker_with("server", |_| serve::new());
///     let supervisor = Supervisor::builder().child(server).start()?;
///     assert_eq!(supervisor.children()[0].state, ChildState::Up);
///     supervisor.stop_child("server")?;
///     assert_eq!(supervisor.children()[0].state, ChildState::Stopped);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// The child runs.
    Up,
    /// The child does not run; the supervisor will restart it after a pause.
    Restarting,
    /// The child does not run, and the supervisor will not start it unless asked to.
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

/// A snapshot of one child of a supervisor. Plain data: dropping it does nothing.
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
///     let server = ChildSpec::worker_with("server", |_| serve::new());
///     let supervisor = Supervisor::builder().child(server).start()?;
///     for child in supervisor.children() {
///         println!("{} is {}, pid {:?}, {} restarts", child.id, child.state, child.pid, child.restarts);
///         assert!(child.last_end.is_none());
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildInfo {
    /// The id from its [`ChildSpec`](crate::supervisor::ChildSpec).
    pub id: String,
    /// The kind of child.
    pub kind: ChildKind,
    /// Its state.
    pub state: ChildState,
    /// The pid of its process, while it has one.
    pub pid: Option<u32>,
    /// The number of restarts so far.
    pub restarts: u64,
    /// How it ended the last time; `None` if it has never ended.
    pub last_end: Option<DownReason>,
}

impl fmt::Debug for ChildInfo {
    /// Shows the last end as one line: the report of a panic has a whole backtrace.
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
