//! The system calls of Linux that std lacks.

mod descriptors;
mod futex;
mod life;
mod memory;
mod poller;
mod readiness;
mod setup;
mod streams;
mod survey;
mod system;
mod tree;

pub(crate) use descriptors::*;
pub(crate) use futex::*;
pub(crate) use life::*;
pub(crate) use memory::*;
pub(crate) use poller::*;
pub(crate) use readiness::*;
pub(crate) use setup::*;
pub(crate) use streams::*;
pub(crate) use survey::*;
pub(crate) use system::*;
pub(crate) use tree::*;
