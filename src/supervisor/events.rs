//! What a supervisor tells.

use std::fmt;
use std::time::Duration;

use crate::error::DownReason;
use crate::supervisor::spec::ChildKind;

/// Something that happened under a supervisor.
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
            } => write!(
                f,
                "more than {intensity} restarts within {period:?}, the last since child `{id}` {reason}"
            ),
        }
    }
}

/// How a child is.
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

/// A child of a supervisor as it was at one moment. Copied facts: `Drop` does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
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
