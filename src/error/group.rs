//! The error of a group of processes.

use std::fmt;

use thiserror::Error;

use super::ExitReason;

/// How a process of a [`ProcessGroup`](crate::ProcessGroup) ended. This is plain data.
///
/// ```
/// use offspring::ProcessGroup;
///
/// #[offspring::worker]
/// fn fail() {
///     std::process::exit(3);
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let group = ProcessGroup::new();
///     let pid = group.spawn(fail::new())?.pid();
///     let error = group.join().unwrap_err();
///     assert_eq!(error.first().pid(), pid);
///     assert_eq!(error.first().reason().code(), Some(3));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct MemberEnd {
    name: String,
    pid: u32,
    reason: ExitReason,
    returned_err: bool,
}

impl MemberEnd {
    pub(crate) fn new(name: String, pid: u32, reason: ExitReason, returned_err: bool) -> MemberEnd {
        MemberEnd { name, pid, reason, returned_err }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns how it ended.
    #[must_use]
    pub fn reason(&self) -> &ExitReason {
        &self.reason
    }

    /// Returns whether `run` returned an `Err`. [`join`](crate::Process::join) on the process
    /// returns that `Err`.
    #[must_use]
    pub fn has_returned_err(&self) -> bool {
        self.returned_err
    }

    /// Returns whether this end is a failure of the group: `run` returned an `Err`, or the process
    /// ended in another way that this program did not cause.
    pub(crate) fn is_failure(&self) -> bool {
        match self.reason {
            ExitReason::Returned => self.returned_err,
            ExitReason::Killed { .. } => false,
            _ => true,
        }
    }
}

impl fmt::Display for MemberEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process `{}` (pid {}) {}", self.name, self.pid, self.reason)?;
        if self.returned_err { f.write_str(" an error") } else { Ok(()) }
    }
}

/// The error returned by [`ProcessGroup::join`](crate::ProcessGroup::join): a process of the group
/// failed, and the others were stopped.
///
/// Its text names the process that failed first, the reason, and how the others ended.
///
/// ```
/// use offspring::{ExitReason, ProcessGroup};
///
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::worker]
/// fn fail() {
///     panic!("no more");
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let group = ProcessGroup::new();
///     group.spawn(rest::new())?;
///     group.spawn(fail::new())?;
///     let error = group.join().unwrap_err();
///     assert!(matches!(error.first().reason(), ExitReason::Panicked(_)));
///     assert!(error.others()[0].reason().is_success()); // it was asked to stop
///     println!("{error}");
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[error("{first}, so its group was stopped{}", Others(.others))]
pub struct GroupError {
    first: MemberEnd,
    others: Vec<MemberEnd>,
}

impl GroupError {
    pub(crate) fn new(first: MemberEnd) -> GroupError {
        GroupError { first, others: Vec::new() }
    }

    pub(crate) fn add(&mut self, other: MemberEnd) {
        self.others.push(other);
    }

    /// Returns the process that failed first.
    #[must_use]
    pub fn first(&self) -> &MemberEnd {
        &self.first
    }

    /// Returns the processes that were still running then, in the order in which they ended.
    #[must_use]
    pub fn others(&self) -> &[MemberEnd] {
        &self.others
    }
}

debug_is_text! { [] GroupError }

/// How the others ended, as the end of an error's text.
struct Others<'a>(&'a [MemberEnd]);

impl fmt::Display for Others<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        for (index, other) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{} {other}", if index == 0 { ":" } else { "," })?;
        }
        match self.0.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, ", and {more} more ended"),
            _ => Ok(()),
        }
    }
}
