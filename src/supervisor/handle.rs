//! A running supervisor.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::actor::{Actor, ActorRef, TIMEOUT};
use crate::error::SupervisorError;
use crate::process::current;
use crate::supervisor::builder::SupervisorBuilder;
use crate::supervisor::engine::{Engine, Message};
use crate::supervisor::events::{ChildInfo, SupervisorEnd};
use crate::supervisor::feed::Events;
use crate::supervisor::spec::ChildSpec;
use crate::supervisor::view::View;
use crate::sys;

/// Keeps children running: starts them in order, starts them again when they end, stops them in reverse order.
///
/// Dropping it stops the children, last first, each as its [`Shutdown`](crate::supervisor::Shutdown) says, and waits for that. It lives in the
/// process that started it; when that is killed, its children end too.
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
///     let store = supervisor.actor::<Store>("store").expect("it is there");
///     let first = store.call(())?;
/// #   let monitor = store.monitor()?;
///     kill(first); // whoever does that
/// #   assert!(monitor.wait().restarts);
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
    outbox: mpsc::Sender<Message>,
    view: Arc<View>,
}

impl Supervisor {
    /// A supervisor without children, with the defaults of [`SupervisorBuilder`].
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder::new()
    }

    pub(super) fn new(outbox: mpsc::Sender<Message>, view: Arc<View>) -> Supervisor {
        Supervisor { outbox, view }
    }

    /// The children, in the order of their start.
    #[must_use]
    pub fn children(&self) -> Vec<ChildInfo> {
        self.view.children()
    }

    /// The children of the nested supervisor with this id; of one below that, by `"supervisor/supervisor"`. `None` if there is no such
    /// supervisor in this process.
    #[must_use]
    pub fn children_of(&self, id: &str) -> Option<Vec<ChildInfo>> {
        self.view.children_of(id)
    }

    /// The address of the actor with this id; of one under a nested supervisor, by `"supervisor/actor"`. It stays the same through
    /// restarts. `None` if there is no such actor, or it is of another type, or is down for good.
    #[must_use]
    pub fn actor<A: Actor>(&self, id: &str) -> Option<ActorRef<A>> {
        ActorRef::from_entry(self.view.entry(id)?, TIMEOUT)
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.view.listen()
    }

    /// Starts one more child, behind the others. As in OTP, [`SupervisorBuilder::child`] is for those that a supervisor always has: what is added to
    /// a running one is lost with it.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Start`] if it does not start: it is forgotten then. [`SupervisorError::DuplicateId`],
    /// [`SupervisorError::Ended`].
    pub fn start_child(&self, spec: ChildSpec) -> Result<(), SupervisorError> {
        ask(&self.outbox, move |engine| engine.start_child(spec))
    }

    /// As [`start_child`](Supervisor::start_child), under the nested supervisor with this id; under one below that, by
    /// `"supervisor/supervisor"`. When that supervisor is started again, it starts the children that it was built with anew, also those
    /// that had ended or were deleted; what was added is gone, and clients of such an actor learn that it is down.
    ///
    /// # Errors
    ///
    /// As [`start_child`](Supervisor::start_child); [`SupervisorError::NotFound`] if there is no such supervisor in this process.
    pub fn start_child_of(&self, id: &str, spec: ChildSpec) -> Result<(), SupervisorError> {
        ask(&self.view.outbox_of(id)?, move |engine| {
            engine.start_child(spec)
        })
    }

    /// Stops a child, and keeps it for [`restart_child`](Supervisor::restart_child); a temporary one is forgotten. A child of a nested
    /// supervisor is `"supervisor/child"`, here and in the calls below.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`], [`SupervisorError::Ended`].
    #[doc(alias = "terminate_child")]
    pub fn stop_child(&self, id: &str) -> Result<(), SupervisorError> {
        let (way, id) = self.view.way(id)?;
        ask(&way, move |engine| engine.stop_child(&id))
    }

    /// Starts a child that is stopped. An actor that was down for good gets a new address.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`] if it is not stopped, [`SupervisorError::Start`], [`SupervisorError::NotFound`],
    /// [`SupervisorError::Ended`].
    pub fn restart_child(&self, id: &str) -> Result<(), SupervisorError> {
        let (way, id) = self.view.way(id)?;
        ask(&way, move |engine| engine.restart_child(&id))
    }

    /// Forgets a child that is stopped.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`] if it is not stopped, [`SupervisorError::NotFound`], [`SupervisorError::Ended`].
    pub fn delete_child(&self, id: &str) -> Result<(), SupervisorError> {
        let (way, id) = self.view.way(id)?;
        ask(&way, move |engine| engine.delete_child(&id))
    }

    /// Stops all children, last first, and waits for that. How the supervisor ended, also if that was before.
    pub fn stop(&self) -> SupervisorEnd {
        let _ = self.outbox.send(Message::Stop);
        self.wait()
    }

    /// Waits until the supervisor has ended: it was stopped, or gave up.
    #[must_use]
    pub fn wait(&self) -> SupervisorEnd {
        self.view.wait_end(None).unwrap_or(SupervisorEnd::Stopped)
    }

    /// Waits at most this long for the supervisor's end; `None` if it still works.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<SupervisorEnd> {
        self.view.wait_end(Instant::now().checked_add(timeout))
    }

    /// Supervises until this process is [asked to stop](crate::process::CurrentProcess::is_stopping): what a worker calls that is a
    /// supervisor in a process of its own.
    ///
    /// # Panics
    ///
    /// When it gives up: so the process fails, and its own supervisor does what its strategy says.
    pub fn run(self) {
        if current().depth() > 0 {
            let outbox = self.outbox.clone();
            // Without a thread it ends by the signal that follows.
            let _ = sys::service_thread("offspring-stop", move || {
                current().wait_stopping();
                let _ = outbox.send(Message::Stop);
            });
        }
        if let end @ SupervisorEnd::GaveUp { .. } = self.wait() {
            panic!("the supervisor gave up: {end}");
        }
    }
}

fn ask<T: Send + 'static>(
    way: &mpsc::Sender<Message>,
    request: impl FnOnce(&mut Engine) -> Result<T, SupervisorError> + Send + 'static,
) -> Result<T, SupervisorError> {
    let (reply, replied) = mpsc::channel();
    let request = Message::Request(Box::new(move |engine| {
        let result = request(engine);
        // Who has the answer sees what it did.
        engine.publish();
        let _ = reply.send(result);
    }));
    // One that has ended drops what it was asked, and so the way back.
    way.send(request).map_err(|_| SupervisorError::Ended)?;
    replied.recv().unwrap_or(Err(SupervisorError::Ended))
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("children", &self.children())
            .finish_non_exhaustive()
    }
}
