//! A child and how it is.

use std::time::Instant;

use crate::error::DownReason;
use crate::ipc::catch;
use crate::supervisor::child::Child;
use crate::supervisor::events::{ChildInfo, ChildState};
use crate::supervisor::spec::{ChildKind, ChildSpec};
use crate::supervisor::strategy::{Restart, Shutdown};

pub(super) struct Slot {
    pub(super) key: u64,
    pub(super) id: String,
    kind: ChildKind,
    pub(super) restart: Restart,
    pub(super) shutdown: Shutdown,
    pub(super) child: Box<dyn Child>,
    pub(super) state: ChildState,
    /// Counts the starts, so that the end of an earlier one is not taken for that of this one.
    pub(super) launch: u64,
    pub(super) restarts: u64,
    /// Restarts without a quiet time between them.
    pub(super) row: u32,
    pub(super) up_since: Instant,
    pub(super) last: Option<DownReason>,
}

impl Slot {
    pub(super) fn new(key: u64, spec: ChildSpec) -> Slot {
        Slot {
            key,
            id: spec.id,
            kind: spec.kind,
            restart: spec.restart,
            shutdown: spec.shutdown,
            child: (spec.make)(spec.heartbeat),
            state: ChildState::Stopped,
            launch: 0,
            restarts: 0,
            row: 0,
            up_since: Instant::now(),
            last: None,
        }
    }

    pub(super) fn info(&self) -> ChildInfo {
        ChildInfo {
            id: self.id.clone(),
            kind: self.kind,
            state: self.state,
            pid: self.child.pid(),
            restarts: self.restarts,
            last_end: self.last.clone(),
        }
    }

    /// Drops it: what makes the child is the user's, and its `Drop` must not take the supervisor along.
    pub(super) fn forget(self) {
        let id = self.id.clone();
        if let Err(error) = catch::catch_panic("dropping it panicked", || drop(self)) {
            log::error!(target: "offspring::supervisor", "child `{id}` is forgotten: {error}");
        }
    }
}
