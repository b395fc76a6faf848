//! The parent's side: from `spawn` to `join`.

pub(super) mod early_stderr;
pub(super) mod escalation;
pub(super) mod exit;
pub(super) mod exit_report;
pub(super) mod reaper;
pub(super) mod record;
pub(super) mod relay;
pub(super) mod starting;
