//! Links: two that die together.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::actor::{Actor, Inner};
use crate::actor::address::ActorRef;
use crate::actor::client::connection::{ActorConnection, end_of};
use crate::actor::protocol::{Ending, Release, Request};
use crate::channel::{Receiver, Sender, channel};
use crate::error::{CallError, DownReason, RecvError};
use crate::ipc::deadline::Deadline;
use crate::sys;

/// The exit code of a process that ends because an actor died that it was linked to.
const EXIT_LINKED: i32 = 72;

/// The actor that this process is, to be stopped by those that it is linked to.
static OWN: OnceLock<Arc<Inner>> = OnceLock::new();

pub(super) fn be_actor(own: Arc<Inner>) {
    let _ = OWN.set(own);
}

/// Two that die together: from [`ActorRef::link`].
///
/// Dropping it unlinks them, unless the thread panics. A process that ends without dropping it counts as one that died, however
/// it ended.
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
    release: Sender<Release>,
    open: Arc<AtomicBool>,
    /// Has who watches the actor look again.
    nudge: Box<dyn Fn() + Send + Sync>,
}

impl<A: Actor> ActorRef<A> {
    /// Links this process and the incarnation of the actor that is up now: when the actor ends otherwise than as it was meant to,
    /// this process ends too (an actor by [`DownReason::Failed`](crate::actor::DownReason::Failed), another process with exit
    /// code 72); when this process ends without dropping the [`Link`], the actor fails.
    ///
    /// # Errors
    ///
    /// As [`call`](ActorRef::call); [`CallError::Down`] if it is down already: nothing happens to this process then.
    pub fn link(&self) -> Result<Link, CallError> {
        let (release, bond) = channel().map_err(|error| self.link.io(error))?;
        let partner = crate::process::current().name().to_owned();
        let limit = Deadline::after(self.timeout());
        let session = self
            .link
            .session(limit.instant())?
            .ok_or_else(|| CallError::Timeout {
                actor: self.name().to_owned(),
                after: self.timeout(),
            })?;
        let (generation, bind) = (session.generation, Request::Bind { partner, bond });
        session
            .door
            .send_within(bind, &limit)
            .map_err(|error| self.link.io(error))?;
        let open = Arc::new(AtomicBool::new(true));
        let (link, watched) = (self.link.clone(), open.clone());
        sys::service_thread("offspring-link", move || {
            if let Some(reason) = wait_for_end(&link, generation, &watched) {
                die_with(&format!(
                    "actor `{}`, to which it is linked, {reason}",
                    link.name
                ));
            }
        })
        .map_err(|error| self.link.io(error))?;
        let link = self.link.clone();
        let nudge = Box::new(move || link.nudge());
        Ok(Link {
            release,
            open,
            nudge,
        })
    }
}

/// Waits until the incarnation ends otherwise than it was meant to; `None` if it does not, or the bond is dissolved before.
fn wait_for_end<M, R>(
    link: &Arc<ActorConnection<M, R>>,
    generation: u64,
    open: &AtomicBool,
) -> Option<DownReason>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    loop {
        let ended = link.wait(
            crate::actor::client::call::after(Duration::MAX),
            |_, ended| {
                if !open.load(Ordering::SeqCst) {
                    return Some(None);
                }
                end_of(ended, generation).map(|(_, reason)| Some(reason.clone()))
            },
        );
        match ended {
            Ok(Some(reason)) => return reason.filter(|reason| !reason.is_normal()),
            Ok(None) => {}
            Err(_) => return Some(DownReason::OwnerGone),
        }
    }
}

fn die_with(why: &str) {
    match OWN.get() {
        Some(own) => own.end(Ending::Failed(why.to_owned())),
        None => {
            eprintln!(
                "offspring: process `{}` ends, since {why}",
                crate::process::current().name()
            );
            std::process::exit(EXIT_LINKED);
        }
    }
}

/// In the actor: ends it when its partner is gone without a word.
pub(super) fn watch(partner: String, bond: Receiver<Release>, own: Arc<Inner>) {
    let thread = sys::service_thread("offspring-link", move || {
        if let Err(RecvError::Disconnected) = bond.recv() {
            own.end(Ending::Failed(format!(
                "process `{partner}`, to which it is linked, died"
            )));
        }
    });
    if let Err(error) = thread {
        log::error!(target: "offspring::actor", "a link is not watched, for want of a thread: {error}");
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.open.store(false, Ordering::SeqCst);
            (self.nudge)();
            // An actor that is gone does not need to know.
            let _ = self.release.send(Release);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
