//! A child and its state.

use std::sync::Arc;
use std::time::Instant;

use crate::diagnostics;
use crate::error::DownReason;
use crate::ipc::catch;
use crate::supervisor::child::Child;
use crate::supervisor::child_info::{ChildInfo, ChildKind, ChildState};
use crate::supervisor::nested::NestedChild;
use crate::supervisor::spec::{ChildSource, ChildSpec};
use crate::supervisor::strategy::{Restart, Shutdown};
use crate::supervisor::view::SupervisorView;

pub(super) struct ChildSlot {
    /// Unique among all children that one supervisor has ever had; an id can be used again.
    pub(super) key: u64,
    pub(super) id: String,
    kind: ChildKind,
    pub(super) restart: Restart,
    pub(super) shutdown: Shutdown,
    pub(super) child: Box<dyn Child>,
    /// The child's view, if it is a supervisor.
    pub(super) nested: Option<Arc<SupervisorView>>,
    pub(super) state: ChildState,
    /// The number of starts. Distinguishes the end of this start from that of an earlier one.
    pub(super) launch: u64,
    pub(super) restarts: u64,
    /// The number of restarts in a row, for the back-off.
    pub(super) row: u32,
    pub(super) up_since: Instant,
    pub(super) last_end: Option<DownReason>,
}

impl ChildSlot {
    pub(super) fn new(key: u64, spec: ChildSpec) -> ChildSlot {
        let (kind, child, nested) = match spec.source {
            ChildSource::Process(kind, make) => (kind, make(spec.options), None),
            ChildSource::Supervisor(builder) => {
                let child = NestedChild::new(builder);
                let view = child.view();
                let child: Box<dyn Child> = Box::new(child);
                (ChildKind::Supervisor, child, Some(view))
            }
        };
        ChildSlot {
            key,
            id: spec.id,
            kind,
            restart: spec.restart,
            shutdown: spec.shutdown,
            child,
            nested,
            state: ChildState::Stopped,
            launch: 0,
            restarts: 0,
            row: 0,
            up_since: Instant::now(),
            last_end: None,
        }
    }

    pub(super) fn info(&self) -> ChildInfo {
        ChildInfo {
            id: self.id.clone(),
            kind: self.kind,
            state: self.state,
            pid: self.child.pid(),
            restarts: self.restarts,
            last_end: self.last_end.clone(),
        }
    }

    /// Drops the child. It holds user code, whose `Drop` may panic, which the supervisor must
    /// survive.
    pub(super) fn forget(self) {
        let id = self.id.clone();
        if let Err(error) = catch::catch_panic("dropping it panicked", || drop(self)) {
            diagnostics::error(
                "offspring::supervisor",
                format_args!("child `{id}` is forgotten: {error}"),
            );
        }
    }
}
