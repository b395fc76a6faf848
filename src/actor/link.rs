//! Links: a process and an actor that fail together.
//!
//! The linked process watches the actor's status on a thread of its own. The actor watches a
//! channel from that process, which closes without a message if the process dies.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::actor::Actor;
use crate::actor::address::ActorRef;
use crate::actor::client::connection::{ActorConnection, end_since};
use crate::actor::client::driver::BlockingCall;
use crate::actor::context::ContextInner;
use crate::actor::protocol::{Ending, Request, Unlink};
use crate::channel::{Receiver, Sender, channel};
use crate::error::{CallError, DownReason};
use crate::ipc::block::block;
use crate::ipc::deadline::Deadline;
use crate::ipc::wire::Retry;
use crate::sys;

/// The exit code of a process whose link to an actor failed.
const EXIT_LINKED: i32 = 72;

/// How long dropping a [`Link`] waits if the actor does not take the message.
const UNLINK_PATIENCE: Duration = Duration::from_secs(1);

/// The actor in this process, if there is one. A link that fails ends it like
/// [`Context::fail`](crate::actor::Context::fail).
static OWN_ACTOR: OnceLock<Arc<ContextInner>> = OnceLock::new();

pub(super) fn set_own_actor(own: Arc<ContextInner>) {
    let _ = OWN_ACTOR.set(own);
}

/// A link between this process and an actor, from [`ActorRef::link`]: if one fails, the other does
/// too.
///
/// Dropping it unlinks them, unless the thread panics. It waits at most 1 s, and only for an actor
/// whose process is suspended; such an actor may still fail when it is resumed. A process that ends
/// without dropping its link counts as failed, however it ended.
///
/// ```
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
/// fn dependent(counter: CounterHandle) {
///     let _link = counter.link().expect("it lives");
///     counter.add(1).expect("it lives");
///     std::thread::park(); // ends with the actor
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(1)?;
///     let client = dependent::spawn(CounterHandle::from(counter.address()))?;
///     while counter.add(0)? < 2 {} // until it is linked
///     counter.kill();
///     assert_eq!(client.join().unwrap_err().reason().and_then(|reason| reason.code()), Some(72));
///     Ok(())
/// }
/// ```
#[must_use = "dropping it unlinks"]
pub struct Link {
    unlink: Sender<Unlink>,
    linked: Arc<AtomicBool>,
    /// Makes the thread that watches the actor check `linked`.
    notify: Box<dyn Fn() + Send + Sync>,
}

impl<A: Actor> ActorRef<A> {
    /// Links this process to the incarnation of the actor that is up now.
    ///
    /// When the actor ends with anything but [`DownReason::Normal`] or [`DownReason::Shutdown`], this
    /// process ends too: an actor with [`DownReason::Failed`], any other process with exit code 72.
    /// When this process ends without dropping the [`Link`], the actor fails.
    ///
    /// # Errors
    ///
    /// Those of [`call`](ActorRef::call). [`CallError::Down`] means that the actor is already down,
    /// and this process is not affected.
    pub fn link(&self) -> Result<Link, CallError> {
        let connection = &self.connection;
        let (unlink, unlinked) = channel().map_err(|error| connection.io(error))?;
        // Everything that dropping the link needs is made now: later it may be short.
        unlink.prepare(&Deadline::now()).map_err(|error| connection.io(error))?;
        let partner = crate::process::current().name().to_owned();
        let session = match connection.shared_session() {
            Some(session) => Some(session),
            None => block(connection.open_session(&BlockingCall::new(self.timeout())))?,
        };
        let session = session.ok_or_else(|| connection.timed_out(self.timeout()))?;
        let linked = Arc::new(AtomicBool::new(true));
        let (generation, watched, watcher) =
            (session.generation, connection.clone(), linked.clone());
        // First the thread, which the system may refuse, and only then the request: an actor that
        // has the request fails when this end is dropped.
        let (requested, begin) = mpsc::channel();
        sys::service_thread("offspring-link", move || {
            let failure =
                begin.recv().ok().and_then(|()| wait_for_failure(&watched, generation, &watcher));
            if let Some(reason) = failure {
                fail(&format!("actor `{}`, to which it is linked, {reason}", watched.name));
            }
        })
        .map_err(|error| connection.io(error))?;
        session
            .requests
            .send_timeout(Request::Link { partner, unlinked }, self.timeout())
            .map_err(|error| connection.io(error))?;
        let _ = requested.send(());
        let connection = connection.clone();
        Ok(Link { unlink, linked, notify: Box::new(move || connection.notify()) })
    }
}

/// Waits until the incarnation fails. Returns `None` if it ends in an orderly way, or if the link
/// is dropped first.
fn wait_for_failure<M, R>(
    connection: &Arc<ActorConnection<M, R>>,
    generation: u64,
    linked: &AtomicBool,
) -> Option<DownReason>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let mut retry = Retry::default();
    loop {
        let ended = connection.wait(&Deadline::never(), |_, ended| {
            if !linked.load(Ordering::SeqCst) {
                return Some(None);
            }
            end_since(ended, generation).map(|(_, reason)| Some(reason.clone()))
        });
        match ended {
            Ok(Some(reason)) => return reason.filter(|reason| !reason.is_normal()),
            Ok(None) => {}
            Err(CallError::Io { .. }) if !linked.load(Ordering::SeqCst) => return None,
            // This process lacks a resource. That does not mean that the actor has ended.
            Err(error @ CallError::Io { .. }) => retry.pause(&error),
            Err(_) => return Some(DownReason::OwnerGone),
        }
    }
}

/// Ends this process.
fn fail(why: &str) {
    match OWN_ACTOR.get() {
        Some(own) => own.end(Ending::Failed(why.to_owned())),
        None => {
            let name = crate::process::current().name().to_owned();
            // A closed standard error must not keep the process alive.
            let _ = writeln!(io::stderr(), "offspring: process `{name}` ends, since {why}");
            std::process::exit(EXIT_LINKED);
        }
    }
}

/// Runs in the actor's process: ends the actor if its partner dies without unlinking.
pub(super) fn watch(partner: String, unlinked: Receiver<Unlink>, own: Arc<ContextInner>) {
    let failing = own.clone();
    let thread = sys::service_thread("offspring-link", move || {
        // If descriptors are short, this waits for them.
        if unlinked.iter().next().is_none() {
            failing
                .end(Ending::Failed(format!("process `{partner}`, to which it is linked, died")));
        }
    });
    // The process at the other end relies on the link, so this actor fails, and with it the link.
    if let Err(error) = thread {
        own.end(Ending::Failed(format!("a link could not be watched: {error}")));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Before the notification, because the thread that wakes reads this.
            self.linked.store(false, Ordering::SeqCst);
            (self.notify)();
            // This is the only message of the channel, so it has room. Only the set-up of the
            // channel can wait, if the actor's process is suspended and does not read its socket.
            // An error means that the actor is gone.
            let _ = self.unlink.send_timeout(Unlink, UNLINK_PATIENCE);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
