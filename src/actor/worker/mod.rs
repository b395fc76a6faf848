//! The part of the worker: the process of one incarnation of an actor.

pub(super) mod fair_mutex;
pub(super) mod incarnation;
pub(super) mod reply_channels;
pub(super) mod serve;
