//! Supervisors: restart children when they end.
//!
//! A [`Supervisor`] starts its children in order, each once the one before it is up, and stops them
//! in reverse order. When a child ends, its [`Restart`] option decides whether it is restarted, and
//! the supervisor's [`Strategy`] decides which other children are restarted with it. A supervisor
//! that has to restart children more than [`intensity`](SupervisorBuilder::intensity) times within
//! one [`period`](SupervisorBuilder::period) gives up: it stops all its children and ends. A
//! supervisor above it treats that like the end of any other child.
//!
//! Terms and defaults are OTP's, with three differences. A nested supervisor that gave up counts as
//! failed, so it is restarted even if it is transient. A supervisor can pause before a restart: see
//! [`Backoff`]. And the default limit is Elixir's, 3 restarts within 5 s, instead of 1.
//!
//! Each supervisor runs on a thread of the process that started it. Its children are processes,
//! except for nested supervisors, which are threads of the same process.

mod actor_child;
mod builder;
mod child;
mod child_info;
mod engine;
mod events;
mod handle;
mod heartbeat;
mod message;
mod nested;
mod requests;
mod restart;
mod slot;
mod spec;
mod start_info;
mod strategy;
#[cfg(feature = "stream")]
mod stream;
mod view;
mod worker_child;

pub use builder::SupervisorBuilder;
pub use child_info::{ChildInfo, ChildKind, ChildState};
pub use events::{SupervisorEnd, SupervisorEvent, SupervisorEvents};
pub use handle::Supervisor;
pub use heartbeat::Heartbeat;
pub use spec::ChildSpec;
pub use start_info::StartInfo;
pub use strategy::{Backoff, Restart, Shutdown, Strategy};
#[cfg(feature = "stream")]
pub use stream::SupervisorEventStream;

pub use crate::error::SupervisorError;
