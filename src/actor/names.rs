//! Actors that are known by name in the whole tree.
//!
//! The directory of the program's main process holds the names. A child inherits a handle of it
//! from its parent, if its parent is the main process and has an actor by then, or if its parent
//! inherited one itself.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::actor::Actor;
use crate::actor::address::{ActorRef, TIMEOUT};
use crate::actor::host::directory;
use crate::actor::host::record::ActorRecord;
use crate::actor::protocol::{ActorKey, DirectoryRequest, UntypedRef};
use crate::channel::{Sender, channel};
use crate::diagnostics;
use crate::error::{DownReason, EncodeError, LookupError, StartError};
use crate::ipc::wire::{self, EncodedValue, Envelope, Shape};
use crate::process::{NewChild, SpawnHook, this_process};
use crate::queue::Producer;
use crate::sys::lock;

/// How long the main process may take to accept a request, and how long to answer it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The directory of the main process.
fn main_directory() -> Option<Producer<DirectoryRequest>> {
    static DIRECTORY: OnceLock<Option<Producer<DirectoryRequest>>> = OnceLock::new();
    if this_process().depth() == 0 {
        return directory::own_directory().ok();
    }
    DIRECTORY
        .get_or_init(|| {
            let inherited = lock(&INHERITED).take()?.decode();
            inherited
                .inspect_err(|error| {
                    diagnostics::error(
                        "offspring::actor",
                        format_args!("the names of actors are not known here: {error}"),
                    )
                })
                .ok()
        })
        .clone()
}

static INHERITED: Mutex<Option<Envelope>> = Mutex::new(None);

inventory::submit! {
    SpawnHook {
        name: "names",
        prepare,
        receive: |packet| *lock(&INHERITED) = Some(packet),
        after_end: |_| {},
    }
}

/// Encodes the main process's directory for a child. If the program has no actors, this does not
/// open a directory.
fn prepare(child: &NewChild<'_>) -> Option<EncodedValue> {
    if this_process().depth() == 0 && !directory::is_open() {
        return None;
    }
    let encoded = wire::encode(&main_directory()?, Shape::Own);
    encoded.inspect_err(|error| not_passed_on(child, error)).ok()
}

fn not_passed_on(child: &NewChild<'_>, error: &EncodeError) {
    diagnostics::error(
        "offspring::actor",
        format_args!("the names of actors will not be known in `{}`: {error}", child.name),
    );
}

fn ask<T: Serialize + DeserializeOwned>(
    question: impl FnOnce(Sender<T>) -> DirectoryRequest,
) -> Result<T, String> {
    let directory =
        main_directory().ok_or("this process was started before the program had any actor")?;
    let (sender, answer) = channel().map_err(|error| error.to_string())?;
    directory.put_timeout(question(sender), PATIENCE).map_err(|error| error.to_string())?;
    answer.recv_timeout(PATIENCE).map_err(|error| error.to_string())
}

/// Finds an actor by the name that it was [registered](crate::actor::ActorBuilder::register) under,
/// from any process of the tree.
///
/// # Errors
///
/// [`LookupError::NotFound`] if no actor has this name, [`LookupError::OtherType`] if it is of
/// another type, [`LookupError::Unreachable`] if the main process does not accept
/// the question, or does not answer it, within 5 s.
///
/// ```
/// use offspring::actor::{ActorBuilder, find};
///
/// # struct Counter(u64);
/// # #[offspring::actor]
/// # impl Counter {
/// #     fn start(value: u64) -> Self {
/// #         Counter(value)
/// #     }
/// #     pub fn add(&mut self, n: u64) -> u64 {
/// #         self.0 = self.0.checked_add(n).expect("there is room");
/// #         self.0
/// #     }
/// # }
/// #[offspring::worker]
/// fn guest() -> u64 {
///     let counter = find::<Counter>("visitors").expect("it is there");
///     CounterHandle::from(counter).add(1).expect("it lives")
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = ActorBuilder::new().register("visitors").spawn::<Counter>((0,))?;
///     assert_eq!(guest::spawn()?.join()?, 1); // a process without the address
///     counter.stop();
///     assert!(find::<Counter>("visitors").is_err());
///     Ok(())
/// }
/// ```
pub fn find<A: Actor>(name: &str) -> Result<ActorRef<A>, LookupError> {
    let actor = look_up(name).map_err(|message| LookupError::Unreachable { message })?;
    let name = name.to_owned();
    match actor.filter(|actor| !is_stale(actor)) {
        None => Err(LookupError::NotFound { name }),
        Some(actor) => ActorRef::from_untyped(actor, TIMEOUT)
            .ok_or(LookupError::OtherType { name, wanted: std::any::type_name::<A>() }),
    }
}

fn look_up(name: &str) -> Result<Option<UntypedRef>, String> {
    let name = name.to_owned();
    ask(|found| DirectoryRequest::Find { name, found })
}

/// Whether the actor's host was killed, so that it could not unregister the name.
fn is_stale(actor: &UntypedRef) -> bool {
    matches!(actor.directory.is_closed(), Ok(true))
}

pub(super) fn register<A: Actor>(address: &ActorRef<A>) -> Result<(), StartError> {
    let name = || address.name().to_owned();
    let down = |message: String| StartError::Down {
        actor: name(),
        reason: DownReason::Failed(format!("could not register its name: {message}")),
    };
    let actor = address.to_untyped().map_err(down)?;
    let attempt = || {
        let (name, actor) = (name(), actor.clone());
        ask(|done| DirectoryRequest::Register { name, actor, done })?
    };
    // Even if the request failed, it may still be carried out. This one comes after it.
    let attempt = || attempt().inspect_err(|_| forget(address.name(), actor.key)).map_err(down);
    if attempt()? {
        return Ok(());
    }
    // If an actor is gone but could not unregister its name, the name is free. Two processes may
    // find that at the same time: each unregisters only the key that it found, so the second cannot
    // undo the registration of the first.
    let holder = look_up(address.name()).map_err(down)?;
    if let Some(gone) = holder.filter(|actor| is_stale(actor) || is_down(actor)) {
        forget(address.name(), gone.key);
        if attempt()? {
            return Ok(());
        }
    }
    Err(StartError::NameTaken { actor: name() })
}

/// Asks the actor's host whether the actor is down. If the host does not answer, it may be
/// suspended, so the actor keeps its name.
fn is_down(actor: &UntypedRef) -> bool {
    let Ok((answer, answered)) = channel() else { return false };
    let request = DirectoryRequest::IsDown { number: actor.key.number, answer };
    actor.directory.put_timeout(request, PATIENCE).is_ok()
        && answered.recv_timeout(PATIENCE).unwrap_or(false)
}

/// Frees the name, if this actor has it.
fn forget(name: &str, key: ActorKey) {
    if let Some(directory) = main_directory() {
        let request = DirectoryRequest::Unregister { name: name.to_owned(), key };
        // If the request is lost, the next process that asks for the name finds that the actor is gone.
        let _ = directory.put_timeout(request, PATIENCE);
    }
}

/// Frees the actor's name, if it was registered.
pub(crate) fn unregister(record: &ActorRecord, registered: bool) {
    if registered {
        forget(&record.name, record.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::client::connection::Host;
    use crate::actor::context::Context;

    struct Nobody;

    impl Actor for Nobody {
        type Args = ();
        type Message = ();
        type Reply = ();

        fn start(_: (), _: &Context<Nobody>) -> Result<Nobody, Box<dyn std::error::Error>> {
            Ok(Nobody)
        }

        fn handle(&mut self, _: ()) {}
    }

    #[test]
    fn the_name_of_an_actor_that_went_down_without_unregistering_it_is_free() {
        let open = || {
            let record = directory::open_record("the name", 1).unwrap();
            let host = Host::Local(record.clone());
            (ActorRef::<Nobody>::new(record.key, "the name", host, TIMEOUT), record)
        };
        let ((first, record), (second, other)) = (open(), open());
        register(&first).unwrap();
        assert!(matches!(register(&second), Err(StartError::NameTaken { .. })));
        // The host had no descriptors left to unregister the name.
        directory::remove_record(&record);
        register(&second).unwrap();
        assert_eq!(find::<Nobody>("the name").unwrap(), second);
        unregister(&other, true);
        directory::remove_record(&other);
        assert!(find::<Nobody>("the name").is_err());
    }
}
