//! Actors: processes with a state that handle messages one at a time.
//!
//! The words are OTP's. An [`Actor`] is started with arguments; its state is built in a process of
//! its own, and stays there. Any process that has its [`ActorRef`] *calls* it (and waits for the
//! reply, 5 s by default) or *casts* to it (and does not wait). A [supervisor](crate::supervisor)
//! restarts it when it dies; its address stays the same.
//!
//! **When not to use one.** An actor is for state that needs a process of its own, because it can
//! crash, leaks, may have to be killed, or is used by many processes. To organize code, use modules
//! and functions: a call to an actor takes microseconds and copies its message, and its process
//! takes milliseconds to start.

// Which process runs what. The folders `client`, `host` and `worker` do not import each other, with
// two exceptions: the host launches the worker's entry point, and a client in the host's own process
// reaches the actor's record without a message. Their messages are in `protocol.rs`.
//
//  client/: any process         host/: the process that       worker/: the process of
//  with an address              started the actor             one incarnation
//
//  ActorRef, connection
//    session   --- calls, over the incarnation's channel --->  main thread -----.
//              <-- replies, over the session's channel ------                   |
//    cast      -------------->  mailbox, a queue ----------->  mailbox thread --+-> state
//                                                              timers' thread --'
//    status    <- updates ----  record  <-------- reports ---                 (FairMutex)
//              -- requests -->  directory
//
// `worker/serve.rs` explains why there are two ways into the state, and which rules keep them in
// order.

#[allow(clippy::module_inception)]
mod actor;
mod address;
mod builder;
mod chain;
mod client;
mod context;
mod host;
mod link;
mod monitor;
mod names;
mod protocol;
mod timers;
mod worker;

pub use actor::{Actor, Checkpoint};
pub use address::{ActorHandle, ActorRef};
pub use builder::{ActorBuilder, ActorOwner, spawn};
pub use context::Context;
pub use link::Link;
pub use monitor::{Down, Monitor};
pub use names::find;
#[doc(hidden)]
pub use protocol::ActorExit;
pub use timers::Timer;
#[doc(hidden)]
pub use worker::incarnation::ActorProcess;

pub(crate) use address::TIMEOUT;
pub(crate) use host::launch::launch;
pub(crate) use host::options::{Configure, StartOptions};
pub(crate) use host::record::ActorRecord;
pub(crate) use protocol::{ActorStatus, UntypedRef};

pub use crate::error::{CallError, CastError, DownReason, LookupError, StartError};

/// Not public API: the error of a generated method that received the reply to another message.
#[doc(hidden)]
#[must_use]
pub fn foreign_reply(actor: &str) -> CallError {
    CallError::Refused {
        actor: actor.to_owned(),
        message: "the reply belongs to another message".to_owned(),
    }
}

/// Registers actor types, so that their processes can be started. `#[offspring::actor]` does this
/// for its type.
///
/// It can be used wherever an item can. See [`Actor`](crate::actor::Actor) for an example.
#[macro_export]
macro_rules! register_actor {
    ($($actor:ty),+ $(,)?) => {
        $($crate::__private::inventory::submit! {
            $crate::__private::Registration::of::<$crate::actor::ActorProcess<$actor>>(::core::file!(), ::core::line!())
        })+
    };
}
