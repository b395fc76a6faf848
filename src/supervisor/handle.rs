//! A running supervisor.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::actor::{Actor, ActorHandle, ActorRef, TIMEOUT};
use crate::error::SupervisorError;
use crate::process::current;
use crate::supervisor::builder::SupervisorBuilder;
use crate::supervisor::child_info::ChildInfo;
use crate::supervisor::engine::{Engine, Level};
use crate::supervisor::events::{SupervisorEnd, SupervisorEvents};
use crate::supervisor::message::{ChildRequest, EngineMessage};
use crate::supervisor::slot::ChildSlot;
use crate::supervisor::spec::ChildSpec;
use crate::supervisor::view::SupervisorView;
use crate::sys;

/// Keeps children running: starts them in order, restarts them when they end, and stops them in
/// reverse order.
///
/// Dropping it stops the children like [`stop`](Supervisor::stop), and waits for that. It lives in
/// the process that started it; if that process is killed, its children end too.
///
/// # Blocking
///
/// A supervisor does one thing at a time. [`start_child`](Supervisor::start_child),
/// [`start_child_of`](Supervisor::start_child_of), [`stop_child`](Supervisor::stop_child),
/// [`restart_child`](Supervisor::restart_child), [`delete_child`](Supervisor::delete_child) and
/// [`stop`](Supervisor::stop) block until the supervisor has finished what it is doing, and then
/// what they ask for. Only the options of the children limit that time: a start takes up to the
/// child's start timeout (10 s by default), a stop up to its
/// [`Shutdown`](crate::supervisor::Shutdown) (5 s by default). A child with
/// [`Shutdown::Infinity`](crate::supervisor::Shutdown::Infinity) that does not end blocks them
/// forever. So does a closure of [`ChildSpec::worker_with`] that does not return, or that calls one
/// of them on its own supervisor. All other methods except [`wait`](Supervisor::wait) and
/// [`run`](Supervisor::run) return at once.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Strategy, Supervisor};
/// # use offspring::actor::{Actor, Context};
/// # struct Store;
/// # impl Actor for Store {
/// #     type Args = u64;
/// #     type Message = ();
/// #     type Reply = u32;
/// #     fn start(_: u64, _: &Context<Store>) -> Result<Store, Box<dyn std::error::Error>> {
/// #         Ok(Store)
/// #     }
/// #     fn handle(&mut self, (): ()) -> u32 {
/// #         std::process::id()
/// #     }
/// # }
/// # offspring::register_actor!(Store);
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder()
///         .strategy(Strategy::OneForOne)
///         .intensity(3)
///         .child(ChildSpec::actor::<Store>("store", 7))
///         .start()?;
///     let store = supervisor.actor::<Store>("store").expect("it is up");
///     let first = store.call(())?;
///     let monitor = store.monitor()?;
///     kill(first);
///     // A call that reaches the dying process returns `CallError::Restarted`.
///     assert!(monitor.wait().restarts);
///     assert_ne!(store.call(())?, first); // the same address, another process
///     supervisor.stop();
///     Ok(())
/// }
/// # fn kill(pid: u32) {
/// #     std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
/// # }
/// ```
#[must_use = "dropping it stops the children"]
pub struct Supervisor {
    outbox: mpsc::Sender<EngineMessage>,
    view: Arc<SupervisorView>,
}

impl SupervisorBuilder {
    /// Starts the children in order, each once the one before it is up, and then supervises them on
    /// a thread of this process. Blocks until all are up.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Start`] if a child does not start: those before it are stopped again,
    /// last first. [`SupervisorError::DuplicateId`], [`SupervisorError::InvalidId`] or
    /// [`SupervisorError::ZeroPeriod`], before any child is started.
    pub fn start(self) -> Result<Supervisor, SupervisorError> {
        let (policy, specs) = self.into_parts();
        policy.check()?;
        let view = Arc::<SupervisorView>::default();
        let mut engine = Engine::new(policy, Level::Top, Vec::new(), view.clone());
        specs.into_iter().try_for_each(|spec| engine.add(spec))?;
        let forget = |slots: Vec<ChildSlot>| slots.into_iter().for_each(ChildSlot::forget);
        let outbox = engine.launch(forget, drop)?;
        Ok(Supervisor { outbox, view })
    }
}

impl Supervisor {
    /// Returns a builder with default options and no children.
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder::new()
    }

    /// Returns a snapshot of the children, in the order of their start.
    #[must_use]
    pub fn children(&self) -> Vec<ChildInfo> {
        self.view.children()
    }

    /// Like [`children`](Supervisor::children), for the nested supervisor `id`. Deeper ones have a
    /// path, such as `"supervisor/supervisor"`. Returns `None` if there is no such supervisor in
    /// this process.
    #[must_use]
    pub fn children_of(&self, id: &str) -> Option<Vec<ChildInfo>> {
        self.view.children_of(id)
    }

    /// Returns the address of the actor `id`. An actor under a nested supervisor has a path, such
    /// as `"supervisor/actor"`.
    ///
    /// The address stays valid when the actor is restarted. Returns `None` if there is no such
    /// actor, if it is of another type, or if it is down for good.
    #[must_use]
    pub fn actor<A: Actor>(&self, id: &str) -> Option<ActorRef<A>> {
        ActorRef::from_untyped(self.view.actor(id)?, TIMEOUT)
    }

    /// Like [`actor`](Supervisor::actor), as a typed handle such as the one that
    /// `#[offspring::actor]` makes. [`ChildSpec::with_handle`] returns it before the start.
    ///
    /// ```
    /// # use offspring::Supervisor;
    /// # use offspring::supervisor::ChildSpec;
    /// # struct Counter(u64);
    /// # #[offspring::actor]
    /// # impl Counter {
    /// #     fn start(value: u64) -> Self {
    /// #         Counter(value)
    /// #     }
    /// #     pub fn get(&self) -> u64 {
    /// #         self.0
    /// #     }
    /// # }
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let counter = ChildSpec::actor::<Counter>("counter", (7,));
    /// let supervisor = Supervisor::builder().child(counter).start()?;
    /// let counter: CounterHandle = supervisor.handle("counter").expect("it is up");
    /// assert_eq!(counter.get()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handle<H: ActorHandle>(&self, id: &str) -> Option<H> {
        self.actor::<H::Actor>(id).map(H::from)
    }

    /// Returns a stream of the events from now on.
    pub fn events(&self) -> SupervisorEvents {
        self.view.subscribe()
    }

    /// Starts one more child, after the others. Blocks until it is up; see
    /// [Blocking](Supervisor#blocking).
    ///
    /// As in OTP, a nested supervisor loses a child added like this when it is restarted. Children
    /// that it must always have belong in its [builder](SupervisorBuilder::child).
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Start`] if the child does not start; the supervisor then forgets it.
    /// [`SupervisorError::DuplicateId`], [`SupervisorError::InvalidId`], or
    /// [`SupervisorError::Ended`] if the supervisor has ended.
    pub fn start_child(&self, spec: ChildSpec) -> Result<(), SupervisorError> {
        request(&self.outbox, ChildRequest::Start(spec))
    }

    /// Like [`start_child`](Supervisor::start_child), but starts the child under the nested
    /// supervisor `id`. Deeper ones have a path, such as `"supervisor/supervisor"`.
    ///
    /// When that supervisor is restarted, it starts all children of its builder, even those that
    /// had ended or were deleted. Children that were added later are gone, and the clients of such
    /// an actor learn that it is down.
    ///
    /// # Errors
    ///
    /// Like [`start_child`](Supervisor::start_child); [`SupervisorError::NotFound`] if there is no
    /// such supervisor in this process.
    pub fn start_child_of(&self, id: &str, spec: ChildSpec) -> Result<(), SupervisorError> {
        request(&self.view.outbox_of(id)?, ChildRequest::Start(spec))
    }

    /// Stops a child according to its [`Shutdown`](crate::supervisor::Shutdown), and waits for its
    /// end; see [Blocking](Supervisor#blocking). This is OTP's `terminate_child`.
    ///
    /// The child stays known, for [`restart_child`](Supervisor::restart_child); a temporary one is
    /// forgotten. A child of a nested supervisor has a path, such as `"supervisor/child"`, here and
    /// in the methods below.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`], or [`SupervisorError::Ended`] if the supervisor has ended.
    #[doc(alias = "terminate_child")]
    pub fn stop_child(&self, id: &str) -> Result<(), SupervisorError> {
        let (outbox, id) = self.view.resolve(id)?;
        request(&outbox, ChildRequest::Stop(id))
    }

    /// Starts a child that is stopped. Blocks until it is up; see [Blocking](Supervisor#blocking).
    /// An actor that was down for good gets a new address.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`] if the child is not stopped, [`SupervisorError::Start`] if it
    /// does not start. [`SupervisorError::NotFound`], or [`SupervisorError::Ended`] if the
    /// supervisor has ended.
    pub fn restart_child(&self, id: &str) -> Result<(), SupervisorError> {
        let (outbox, id) = self.view.resolve(id)?;
        request(&outbox, ChildRequest::Restart(id))
    }

    /// Forgets a child that is stopped. Blocks while the supervisor is busy; see
    /// [Blocking](Supervisor#blocking).
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`] if the child is not stopped. [`SupervisorError::NotFound`], or
    /// [`SupervisorError::Ended`] if the supervisor has ended.
    pub fn delete_child(&self, id: &str) -> Result<(), SupervisorError> {
        let (outbox, id) = self.view.resolve(id)?;
        request(&outbox, ChildRequest::Delete(id))
    }

    /// Stops all children, last first, and waits for that; see [Blocking](Supervisor#blocking).
    /// Returns how the supervisor ended, even if it had ended before.
    pub fn stop(&self) -> SupervisorEnd {
        let _ = self.outbox.send(EngineMessage::Stop);
        self.wait()
    }

    /// Blocks until the supervisor has ended: it was stopped, or it gave up.
    #[must_use]
    pub fn wait(&self) -> SupervisorEnd {
        self.view.wait_end(None).unwrap_or(SupervisorEnd::Stopped)
    }

    /// Like [`wait`](Supervisor::wait), but blocks for at most `timeout`. Returns `None` if the
    /// supervisor is still running then.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<SupervisorEnd> {
        self.view.wait_end(Instant::now().checked_add(timeout))
    }

    /// Supervises until this process is [asked to
    /// stop](crate::process::CurrentProcess::is_stopping), then stops the children.
    ///
    /// A worker that calls this is a supervisor in a process of its own.
    ///
    /// # Panics
    ///
    /// Panics if the supervisor gives up. The process then counts as failed, and a supervisor above
    /// it can react.
    #[track_caller]
    pub fn run(self) {
        if current().depth() > 0 {
            let outbox = self.outbox.clone();
            // If this thread cannot be started, a request to stop has no effect, and the SIGTERM
            // that follows it ends the process.
            let _ = sys::service_thread("offspring-stop", move || {
                current().wait_stopping();
                let _ = outbox.send(EngineMessage::Stop);
            });
        }
        if let end @ SupervisorEnd::GaveUp { .. } = self.wait() {
            panic!("the supervisor gave up: {end}");
        }
    }
}

fn request(
    outbox: &mpsc::Sender<EngineMessage>,
    request: ChildRequest,
) -> Result<(), SupervisorError> {
    let (reply, result) = mpsc::channel();
    let request = EngineMessage::Request(request, reply);
    outbox.send(request).map_err(|_| SupervisorError::Ended)?;
    // Disconnects if the supervisor ends before it gets to the request.
    result.recv().unwrap_or(Err(SupervisorError::Ended))
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("children", &self.children()).finish_non_exhaustive()
    }
}
