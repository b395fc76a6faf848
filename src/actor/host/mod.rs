//! The part of the host: the process that started an actor, and outlives its incarnations.

pub(super) mod directory;
pub(super) mod launch;
pub(super) mod options;
pub(super) mod record;
