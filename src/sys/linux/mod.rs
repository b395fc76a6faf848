//! The system calls of Linux that std lacks.

mod constructors;
mod descriptors;
mod fork;
mod futex;
mod life;
mod memory;
mod packets;
mod peek;
mod pidfd;
mod poll;
mod poller;
mod program;
mod raw_socket;
#[cfg(feature = "sandbox")]
mod sandbox;
mod setup;
mod signals;
mod stack;
mod stdio;
mod streams;
mod survey;
mod tree;

pub(crate) use constructors::ignore_broken_pipes;
pub use constructors::{Constructor, constructors_after};
pub(crate) use descriptors::*;
pub(crate) use fork::*;
pub(crate) use futex::*;
pub(crate) use life::*;
pub(crate) use memory::*;
pub(crate) use packets::*;
pub(crate) use peek::*;
pub(crate) use pidfd::*;
pub(crate) use poll::*;
pub(crate) use poller::*;
pub(crate) use program::*;
pub(crate) use raw_socket::*;
#[cfg(feature = "sandbox")]
pub(crate) use sandbox::*;
pub(crate) use setup::*;
pub(crate) use signals::*;
pub(crate) use stack::*;
pub(crate) use stdio::*;
pub(crate) use streams::*;
pub(crate) use survey::*;
pub(crate) use tree::*;
