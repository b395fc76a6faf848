//! Actors: processes with a state, that handle messages one at a time.
//!
//! The words are OTP's. An [`Actor`] is started with arguments, and its state is built and stays in a process of its own.
//! Whoever has its [`ActorRef`] *calls* it (and waits for the reply) or *casts* to it (and goes on). A
//! supervisor starts it again when it dies; its address stays the same.
//!
//! **When not to use one.** An actor is for what must be apart: because it can crash, must be killed, leaks, or belongs to
//! many processes. Code is not organized by actors, but by modules and functions: a call costs microseconds and copies its
//! message, and a process takes milliseconds to start.
//!
//! ```text
//!  client process                 keeper (who started it)            actor's process
//!  ActorRef -> link --- call ------------------------------------->  requests -> state
//!                   <-- reply -------------------------------------
//!                   --- cast ---> mailbox (survives the actor) ---->  letters -> state
//!                   <-- news ---- desk, posts  <---- reports -------
//! ```

#[allow(clippy::module_inception)]
mod actor;
mod address;
mod builder;
mod client;
mod host;
mod link;
mod monitor;
mod names;
mod protocol;
mod worker;

pub use actor::{Actor, Checkpoint, Context};
pub use address::ActorRef;
pub use builder::{ActorBuilder, ActorOwner, spawn};
pub use link::Link;
pub use monitor::{Down, Monitor};
pub use names::find;
#[doc(hidden)]
pub use worker::incarnation::{ActorExit, ActorProcess};

pub(crate) use address::TIMEOUT;
pub(crate) use host::launch::launch;
pub(crate) use host::options::Plan;
pub(crate) use host::record::Post;
pub(crate) use protocol::{Entry, Status};

pub use crate::error::{CallError, CastError, DownReason, LookupError, StartError};

/// Not public API: a reply that is none to the message of a generated method.
#[doc(hidden)]
#[must_use]
pub fn foreign_reply(actor: &str) -> CallError {
    CallError::Refused {
        actor: actor.to_owned(),
        message: "its reply is that to another message".to_owned(),
    }
}

/// Registers actor types, so that their processes can be started: what `#[offspring::actor]` does by itself.
///
/// Stands where an item may stand. See [`Actor`](crate::actor::Actor) for an example.
#[macro_export]
macro_rules! register_actor {
    ($($actor:ty),+ $(,)?) => {
        $($crate::__private::inventory::submit! {
            $crate::__private::Registration::of::<$crate::actor::ActorProcess<$actor>>(::core::file!(), ::core::line!())
        })+
    };
}
