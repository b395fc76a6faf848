//! Watching an actor.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::connect::HOST_CHECK;
use crate::actor::client::connection::{ActorConnection, EndHistory, Host, end_since};
use crate::actor::client::timer::Alarm;
use crate::actor::protocol::ActorStatus;
use crate::error::{CallError, DownReason};
use crate::ipc::deadline::Deadline;
#[cfg(feature = "async")]
use crate::ipc::reactor;
use crate::ipc::reactor::{EventSource, Interest, WakerSet, WakerSlot};
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::ipc::wire::Retry;
use crate::sys::lock;

/// The end of one incarnation of an actor. Plain data: `Drop` does nothing.
///
/// ```
/// use offspring::actor::DownReason;
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
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(u64::MAX)?;
///     let monitor = counter.monitor()?;
///     let _ = counter.add(1); // there is no room
///     let down = monitor.wait();
///     assert!(matches!(down.reason, DownReason::Died(_)) && !down.restarts);
///     assert_eq!(down.generation, 0);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Down {
    /// The actor's name.
    pub actor: String,
    /// The number of the incarnation: 0 for the first.
    pub generation: u64,
    /// How it ended.
    pub reason: DownReason,
    /// Whether another incarnation follows, or has followed.
    pub restarts: bool,
}

/// A watch on one incarnation of an actor, from
/// [`ActorRef::monitor`](crate::actor::ActorRef::monitor). Dropping it ends the watch.
///
/// The end is a state, not an event: once it has come, every wait returns it at once. To wait for
/// an actor and other things at the same time, add its monitor to a [`Selector`](crate::Selector)
/// or pass it to [`wait_any`](crate::wait_any).
///
/// ```
/// use std::time::Duration;
///
/// use offspring::actor::DownReason;
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
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(1)?;
///     let monitor = counter.monitor()?;
///     assert!(monitor.wait_timeout(Duration::ZERO).is_none()); // it lives
///     counter.stop();
///     assert_eq!(monitor.wait().reason, DownReason::Shutdown);
///     Ok(())
/// }
/// ```
#[must_use = "a monitor does nothing unless it is waited on"]
pub struct Monitor {
    actor: String,
    watch: Arc<dyn EndWatch>,
}

impl Monitor {
    pub(super) fn new<M, R>(connection: Arc<ActorConnection<M, R>>, generation: u64) -> Monitor
    where
        M: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        Monitor {
            actor: connection.name.clone(),
            watch: Arc::new(IncarnationWatch {
                connection,
                generation,
                host_check: Mutex::new((Instant::now(), Alarm::default())),
            }),
        }
    }

    /// Blocks until the incarnation ends, and returns how it ended. If the actor's host process
    /// ends, returns [`DownReason::OwnerGone`].
    #[must_use]
    pub fn wait(self) -> Down {
        loop {
            if let Some(down) = self.watch.wait(&Deadline::never()) {
                return down;
            }
        }
    }

    /// Like [`wait`](Monitor::wait), but returns `None` if the incarnation is still running after
    /// `timeout`.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Down> {
        self.watch.wait(&Deadline::after(timeout))
    }

    /// Like [`wait`](Monitor::wait), but does not block the thread. Needs the feature `async`, and
    /// works with every executor. A future that is dropped leaves the watch as it is.
    ///
    /// ```
    /// use offspring::actor::DownReason;
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
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let counter = Counter::spawn(u64::MAX)?;
    ///     let monitor = counter.monitor()?;
    ///     let (down, _) = tokio::join!(monitor.wait_async(), counter.add_async(1)); // no room
    ///     assert!(matches!(down.reason, DownReason::Died(_)));
    ///     Ok(())
    /// }
    /// ```
    #[cfg(feature = "async")]
    pub async fn wait_async(&self) -> Down {
        loop {
            // An error means that the host is gone, which `wait` finds, or that this process lacks
            // something for the moment.
            let _ = reactor::ready(&*self.watch).await;
            if let Some(down) = self.watch.wait(&Deadline::now()) {
                return down;
            }
            reactor::yield_now().await;
        }
    }
}

impl Waitable for Monitor {
    fn wait_source(&self) -> WaitSource {
        WaitSource::new(self.watch.clone())
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("actor", &self.actor).finish_non_exhaustive()
    }
}

/// The connection of a [`Monitor`], without the actor's types.
trait EndWatch: EventSource {
    /// Returns `None` if the incarnation is still running at the deadline.
    fn wait(&self, limit: &Deadline) -> Option<Down>;
}

struct IncarnationWatch<M, R> {
    connection: Arc<ActorConnection<M, R>>,
    generation: u64,
    /// When a selector last checked whether the host still exists, and the alarm for the next
    /// check: a host that was killed sends no update.
    host_check: Mutex<(Instant, Alarm)>,
}

impl<M, R> IncarnationWatch<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    fn down(&self, generation: u64, reason: DownReason, restarts: bool) -> Down {
        Down { actor: self.connection.name.clone(), generation, reason, restarts }
    }

    fn probe(&self, status: &ActorStatus, ended: &EndHistory) -> Option<Down> {
        let (generation, reason) = end_since(ended, self.generation)?;
        let restarts = !matches!(status, ActorStatus::Down { .. });
        Some(self.down(*generation, reason.clone(), restarts))
    }

    fn has_ended(&self) -> bool {
        let state = self.connection.state();
        state.probe(|_, ended| end_since(ended, self.generation).map(drop)).is_some()
    }

    /// Checks whether the host still exists, at most once every [`HOST_CHECK`].
    fn check_host(&self) {
        let mut check = lock(&self.host_check);
        if check.0.elapsed() < HOST_CHECK {
            return;
        }
        check.0 = Instant::now();
        drop(check);
        self.connection.check_host();
    }
}

impl<M, R> EndWatch for IncarnationWatch<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    fn wait(&self, limit: &Deadline) -> Option<Down> {
        let mut retry = Retry::default();
        loop {
            match self.connection.wait(limit, |status, ended| self.probe(status, ended)) {
                Ok(found) => return found,
                // This process lacks a resource. That does not mean that the actor has ended.
                Err(CallError::Io { .. }) if limit.is_over() => return None,
                Err(error @ CallError::Io { .. }) => retry.pause(&error),
                Err(_) => return Some(self.down(self.generation, DownReason::OwnerGone, false)),
            }
        }
    }
}

impl<M, R> EventSource for IncarnationWatch<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    fn register(&self) -> io::Result<WakerSlot> {
        self.connection.subscribe().map_err(io::Error::other)?;
        self.connection.wakers.register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        // Before the check, so that an update after it wakes the selector.
        if let Some((slot, waker)) = interest {
            slot.set(waker);
        }
        if self.has_ended() {
            return true;
        }
        if matches!(self.connection.host, Host::Local(_)) {
            return false;
        }
        self.check_host();
        if self.has_ended() {
            return true;
        }
        if interest.is_some() {
            let waker = Waker::from(Arc::new(WakeAll(self.connection.wakers.clone())));
            let due = Instant::now() + HOST_CHECK;
            lock(&self.host_check).1.set(due, &waker);
        }
        false
    }
}

/// Wakes all selectors that watch the actor. Each sets the alarm again if it is still waiting.
struct WakeAll(Arc<WakerSet>);

impl Wake for WakeAll {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}
