//! The messages to the thread of a supervisor.

use std::sync::mpsc;

use crate::error::{DownReason, SupervisorError};
use crate::supervisor::spec::ChildSpec;

pub(super) enum EngineMessage {
    /// A child ended. `launch` counts the starts of that child: the engine ignores the end of a
    /// start that it stopped itself.
    Ended {
        key: u64,
        launch: u64,
        reason: DownReason,
    },
    /// A request, and where its result goes. An engine that ends drops both, so the caller's
    /// receiver disconnects.
    Request(ChildRequest, mpsc::Sender<Result<(), SupervisorError>>),
    Stop,
}

pub(super) enum ChildRequest {
    Start(ChildSpec),
    Stop(String),
    Restart(String),
    Delete(String),
}
