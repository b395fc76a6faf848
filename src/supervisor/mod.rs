//! Supervisors: children that are started again when they end.
//!
//! Children are started in order, each when the one before it is up, and stopped in reverse. When one ends, its
//! [`Restart`] says whether it is started again, and the supervisor's [`Strategy`] which others are stopped and started with it. More than
//! [`intensity`](SupervisorBuilder::intensity) restarts within a [`period`](SupervisorBuilder::period) are too many: then the supervisor stops all children
//! and ends itself, and its own supervisor, if it has one, takes that for the end of a child.
//!
//! The words and the defaults are OTP's. Two things differ: a nested supervisor that gave up counts as failed, so that it is
//! started again when it is transient; and there may be a [`Backoff`] between restarts.

mod builder;
mod child;
mod engine;
mod events;
mod feed;
mod handle;
mod heartbeat;
mod nested;
mod requests;
mod restart;
mod slot;
mod spec;
mod start_info;
mod strategy;
mod view;

pub use builder::SupervisorBuilder;
pub use events::{ChildInfo, ChildState, Event, SupervisorEnd};
pub use feed::Events;
pub use handle::Supervisor;
pub use heartbeat::Heartbeat;
pub use spec::{ChildKind, ChildSpec};
pub use start_info::StartInfo;
pub use strategy::{Backoff, Restart, Shutdown, Strategy};

pub use crate::error::SupervisorError;
