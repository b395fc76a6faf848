//! The child's side: from `main` to the exit status.

pub(super) mod control;
pub(super) mod entry;
pub(super) mod panic_hook;
pub(super) mod serve;
