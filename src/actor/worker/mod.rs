//! The actor's own process.

pub(super) mod fair_mutex;
pub(super) mod incarnation;
pub(super) mod reply_channels;
pub(super) mod serve;
