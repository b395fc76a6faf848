//! Actors that are known by name in the whole tree.
//!
//! The program itself keeps the names. Each process gets the way to it from its parent, as soon as there is one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::actor::Actor;
use crate::actor::address::{ActorRef, TIMEOUT};
use crate::actor::host::directory;
use crate::actor::host::record::Post;
use crate::actor::protocol::{DeskRequest, Entry};
use crate::channel::{Sender, channel};
use crate::error::{LookupError, StartError};
use crate::ipc::wire::{self, EncodedValue, Envelope};
use crate::process::{Companion, Heir, current};
use crate::queue::Queue;
use crate::sys::lock;

const PATIENCE: Duration = Duration::from_secs(5);

/// Where the program itself is asked.
fn root() -> Option<Queue<DeskRequest>> {
    static ROOT: OnceLock<Option<Queue<DeskRequest>>> = OnceLock::new();
    if current().depth() == 0 {
        return directory::own_desk().ok();
    }
    ROOT.get_or_init(|| {
        let root = lock(&INHERITED).take()?.decode();
        root.inspect_err(|error| log::error!(target: "offspring::actor", "the way to the names did not arrive: {error}"))
            .ok()
    })
    .clone()
}

static PASSES_ON: AtomicBool = AtomicBool::new(false);
static INHERITED: Mutex<Option<Envelope>> = Mutex::new(None);

inventory::submit! {
    Companion {
        name: "names",
        prepare,
        receive: |packet| *lock(&INHERITED) = Some(packet),
        settle: |_| {},
    }
}

/// From now on, children of this process know where names are kept.
pub(super) fn pass_on() {
    PASSES_ON.store(true, Ordering::SeqCst);
}

fn prepare(_: &Heir<'_>) -> Option<EncodedValue> {
    let root = PASSES_ON.load(Ordering::SeqCst).then(root)??;
    wire::encode(&root).ok()
}

fn ask<T: Serialize + DeserializeOwned>(
    question: impl FnOnce(Sender<T>) -> DeskRequest,
) -> Result<T, String> {
    let root = root().ok_or("this process was started before the program had any actor")?;
    let (sender, answer) = channel().map_err(|error| error.to_string())?;
    root.put(question(sender))
        .map_err(|error| error.to_string())?;
    answer
        .recv_timeout(PATIENCE)
        .map_err(|error| error.to_string())
}

/// Finds an actor by the name that [`ActorBuilder::register`](crate::actor::ActorBuilder::register) gave it, from any process of the tree.
///
/// # Errors
///
/// [`LookupError`]: there is none of this name, or it is of another type, or nobody answers.
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
///     assert_eq!(guest::spawn()?.join()?, 1); // a process that was told nothing
///     counter.stop();
///     assert!(find::<Counter>("visitors").is_err());
///     Ok(())
/// }
/// ```
pub fn find<A: Actor>(name: &str) -> Result<ActorRef<A>, LookupError> {
    let entry = look_up(name).map_err(|message| LookupError::Unreachable { message })?;
    let name = name.to_owned();
    match entry.filter(|entry| !is_stale(entry)) {
        None => Err(LookupError::NotFound { name }),
        Some(entry) => ActorRef::from_entry(entry, TIMEOUT).ok_or(LookupError::OtherType {
            name,
            wanted: std::any::type_name::<A>(),
        }),
    }
}

fn look_up(name: &str) -> Result<Option<Entry>, String> {
    let name = name.to_owned();
    ask(|found| DeskRequest::Find { name, found })
}

/// Whether the actor's keeper is gone, and could not take the name back.
fn is_stale(entry: &Entry) -> bool {
    matches!(entry.desk.is_closed(), Ok(true))
}

/// Makes the actor known.
pub(super) fn register<A: Actor>(address: &ActorRef<A>) -> Result<(), StartError> {
    let actor = || address.name().to_owned();
    let down = |message: String| StartError::Down {
        actor: actor(),
        reason: crate::error::DownReason::Failed(format!("could not register its name: {message}")),
    };
    let entry = address.entry().map_err(down)?;
    let attempt = || {
        let (name, entry) = (actor(), entry.clone());
        ask(|done| DeskRequest::Register { name, entry, done })
    };
    if attempt().map_err(down)? {
        return Ok(());
    }
    // The name of one whose keeper was killed is free.
    let stale = look_up(address.name()).map_err(down)?.filter(is_stale);
    if let (Some(entry), Some(root)) = (stale, root()) {
        let _ = root.put(DeskRequest::Unregister {
            name: actor(),
            key: entry.key,
        });
        if attempt().map_err(down)? {
            return Ok(());
        }
    }
    Err(StartError::NameTaken { actor: actor() })
}

/// Its name, if it has one in the tree, is free again.
pub(crate) fn forget(post: &Post, registered: bool) {
    if let (true, Some(root)) = (registered, root()) {
        let _ = root.put(DeskRequest::Unregister {
            name: post.name.clone(),
            key: post.key,
        });
    }
}
