//! The parent's side: from `spawn` to `join`.

pub(super) mod early_stderr;
pub(super) mod exit;
pub(super) mod exit_report;
pub(super) mod reaper;
pub(super) mod relay;
pub(super) mod starting;
pub(super) mod stop;
