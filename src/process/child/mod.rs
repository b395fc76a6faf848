//! The child's side: from `main` to the exit status.

pub(super) mod entry;
pub(super) mod lifeline;
pub(super) mod serve;
