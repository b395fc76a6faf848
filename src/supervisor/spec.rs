//! How to start, restart and stop a child.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::{self, Actor, ActorHandle, StartOptions};
use crate::error::StartError;
use crate::process::{ProcessBuilder, ProcessWorker};
use crate::supervisor::actor_child::ActorChild;
use crate::supervisor::builder::SupervisorBuilder;
use crate::supervisor::child::{Child, ChildOptions};
use crate::supervisor::child_info::ChildKind;
use crate::supervisor::start_info::StartInfo;
use crate::supervisor::strategy::{Restart, Shutdown};
use crate::supervisor::worker_child::WorkerChild;

/// OTP's default for all children but supervisors.
const SHUTDOWN: Shutdown = Shutdown::Timeout(Duration::from_secs(5));

/// Describes a child of a supervisor: how to start it, when to restart it, and how to stop it.
///
/// Dropping it starts nothing.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{ChildSpec, Restart, Shutdown, Supervisor};
///
/// # struct Counter(u64);
/// # #[offspring::actor]
/// # impl Counter {
/// #     fn start(value: u64) -> Self {
/// #         Counter(value)
/// #     }
/// #     pub fn add(&mut self, n: u64) -> u64 {
/// #         self.0 = self.0.checked_add(n).expect("the sum fits");
/// #         self.0
/// #     }
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = ChildSpec::actor::<Counter>("counter", (7,))
///         .restart(Restart::Transient)
///         .shutdown(Shutdown::Timeout(Duration::from_secs(1)));
///     let supervisor = Supervisor::builder().child(counter).start()?;
///     let counter: CounterHandle = supervisor.handle("counter").expect("it is up");
///     assert_eq!(counter.add(1)?, 8);
///     Ok(())
/// }
/// ```
#[must_use = "does nothing until a supervisor starts it"]
pub struct ChildSpec {
    pub(super) id: String,
    pub(super) restart: Restart,
    pub(super) shutdown: Shutdown,
    pub(super) options: ChildOptions,
    pub(super) source: ChildSource,
}

/// What the supervisor makes the child from.
pub(super) enum ChildSource {
    /// Makes an actor or a worker.
    Process(ChildKind, Box<dyn FnOnce(ChildOptions) -> Box<dyn Child> + Send>),
    Supervisor(SupervisorBuilder),
}

impl ChildSource {
    fn kind(&self) -> ChildKind {
        match self {
            ChildSource::Process(kind, _) => *kind,
            ChildSource::Supervisor(_) => ChildKind::Supervisor,
        }
    }
}

impl ChildSpec {
    /// An actor named `id`. Each incarnation starts with a clone of `args`.
    ///
    /// Like [`actor_with`](ChildSpec::actor_with), but with the default options of an
    /// [`actor::ActorBuilder`].
    pub fn actor<A: Actor>(id: impl Into<String>, args: A::Args) -> ChildSpec
    where
        A::Args: Clone + Send,
    {
        let id = id.into();
        ChildSpec::actor_with::<A>(id.clone(), actor::ActorBuilder::new().name(id), args)
    }

    /// An actor with the options of `builder`. Each incarnation starts with a clone of `args`.
    pub fn actor_with<A: Actor>(
        id: impl Into<String>,
        builder: actor::ActorBuilder,
        args: A::Args,
    ) -> ChildSpec
    where
        A::Args: Clone + Send,
    {
        ChildSpec::of_actor(id.into(), ActorChild::<A>::new(builder, args))
    }

    /// Like [`actor_with`](ChildSpec::actor_with), and returns the actor's typed handle, too: for
    /// this program, and as an argument of the children beside it. Its name is `id` unless `builder`
    /// has one.
    ///
    /// Until a supervisor has started the actor, calls wait for it, and casts for their handling. If
    /// the `ChildSpec` is dropped instead, the actor is down.
    ///
    /// # Errors
    ///
    /// [`StartError::Create`] if the mailbox cannot be made, [`StartError::NameTaken`] if the name
    /// to [register](crate::ActorBuilder::register) is taken.
    ///
    /// ```
    /// use offspring::actor::ActorBuilder;
    /// use offspring::supervisor::{ChildSpec, Supervisor};
    ///
    /// struct Store(Vec<String>);
    ///
    /// #[offspring::actor]
    /// impl Store {
    ///     fn start() -> Self {
    ///         Store(Vec::new())
    ///     }
    ///
    ///     pub fn keep(&mut self, word: String) -> usize {
    ///         self.0.push(word);
    ///         self.0.len()
    ///     }
    /// }
    ///
    /// struct Greeter(StoreHandle);
    ///
    /// #[offspring::actor]
    /// impl Greeter {
    ///     fn start(store: StoreHandle) -> Self {
    ///         Greeter(store)
    ///     }
    ///
    ///     pub fn greet(&self) -> usize {
    ///         self.0.keep("hello".to_owned()).expect("the store is up")
    ///     }
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let options = ActorBuilder::new().mailbox(8);
    ///     let (first, store) = ChildSpec::with_handle::<StoreHandle>("store", options, ())?;
    ///     let options = ActorBuilder::new();
    ///     let (second, greeter) = ChildSpec::with_handle::<GreeterHandle>("greeter", options, (store,))?;
    ///     let _supervisor = Supervisor::builder().child(first).child(second).start()?;
    ///     assert_eq!(greeter.greet()?, 1);
    ///     Ok(())
    /// }
    /// ```
    pub fn with_handle<H: ActorHandle>(
        id: impl Into<String>,
        builder: actor::ActorBuilder,
        args: <H::Actor as Actor>::Args,
    ) -> Result<(ChildSpec, H), StartError>
    where
        <H::Actor as Actor>::Args: Clone + Send,
    {
        let id = id.into();
        let mut child = ActorChild::<H::Actor>::new(builder.name_or(&id), args);
        let address = child.open()?;
        Ok((ChildSpec::of_actor(id, child), H::from(address)))
    }

    fn of_actor<A: Actor>(id: String, mut child: ActorChild<A>) -> ChildSpec
    where
        A::Args: Clone + Send,
    {
        ChildSpec::of_process(id, ChildKind::Actor, move |options| {
            child.configure(options);
            Box::new(child)
        })
    }

    /// A plain worker; each start runs a clone of `worker`. It counts as ended normally when its
    /// `run` returns, whatever that returns.
    ///
    /// The type that `#[worker]` makes of a function is not `Clone`: use
    /// [`worker_with`](ChildSpec::worker_with).
    pub fn worker<W: ProcessWorker + Clone + Send>(id: impl Into<String>, worker: W) -> ChildSpec {
        ChildSpec::worker_with(id, move |_| worker.clone())
    }

    /// Like [`worker`](ChildSpec::worker), but calls `make` for each start. A [`StartInfo`]
    /// describes the earlier starts to it.
    ///
    /// `make` runs on the supervisor's thread, in this process. A panic in it counts as a failed
    /// start.
    pub fn worker_with<W: ProcessWorker>(
        id: impl Into<String>,
        make: impl Fn(&StartInfo) -> W + Send + 'static,
    ) -> ChildSpec {
        let id = id.into();
        let name = id.clone();
        ChildSpec::of_process(id, ChildKind::Worker, move |options| {
            let ChildOptions { heartbeat, configure } = options;
            let options = StartOptions { heartbeat, configure, ..StartOptions::default() };
            Box::new(WorkerChild::new(make, name, options))
        })
    }

    /// A nested supervisor, in this process.
    ///
    /// When it gives up, it ends with [`DownReason::GaveUp`](crate::actor::DownReason::GaveUp).
    /// When it is restarted, it starts the children of its builder again, and the addresses of its
    /// actors stay valid. As in OTP, children that were [added
    /// later](crate::Supervisor::start_child_of) are lost.
    ///
    /// For a supervisor in a process of its own, use a worker that calls
    /// [`run`](crate::Supervisor::run).
    pub fn supervisor(id: impl Into<String>, builder: SupervisorBuilder) -> ChildSpec {
        ChildSpec::new(id.into(), ChildSource::Supervisor(builder)).shutdown(Shutdown::Infinity)
    }

    fn of_process(
        id: String,
        kind: ChildKind,
        make: impl FnOnce(ChildOptions) -> Box<dyn Child> + Send + 'static,
    ) -> ChildSpec {
        ChildSpec::new(id, ChildSource::Process(kind, Box::new(make)))
    }

    fn new(id: String, source: ChildSource) -> ChildSpec {
        let (restart, options) = (Restart::default(), ChildOptions::default());
        ChildSpec { id, restart, shutdown: SHUTDOWN, options, source }
    }

    /// Sets when the child is restarted. Default: [`Restart::Permanent`].
    pub fn restart(mut self, restart: Restart) -> ChildSpec {
        self.restart = restart;
        self
    }

    /// Sets how the child is stopped. Default: [`Shutdown::Timeout`] of 5 s; for a supervisor
    /// [`Shutdown::Infinity`], and other values have no effect there.
    pub fn shutdown(mut self, shutdown: Shutdown) -> ChildSpec {
        self.shutdown = shutdown;
        self
    }

    /// Sets for how long the child may show no sign of life before the supervisor kills it.
    /// Default: no limit; the minimum is 1 ms. Has no effect on a supervisor.
    ///
    /// An actor shows signs of life on its own between two messages; a worker has to call
    /// [`Heartbeat::beat`](crate::supervisor::Heartbeat::beat). The child then counts as
    /// [hung](crate::actor::DownReason::Hung). Detection can take up to twice the limit.
    pub fn heartbeat(mut self, limit: Duration) -> ChildSpec {
        self.options.heartbeat = Some(limit.max(Duration::from_millis(1)));
        self
    }

    /// Sets options of the child's process, such as its environment, limits or stdio. Has no effect
    /// on a supervisor.
    ///
    /// `configure` is called for each start, on the supervisor's thread; a panic in it counts as a
    /// failed start. For an actor, it is called after that of its
    /// [builder](crate::actor::ActorBuilder::process). A stdio that is [piped](crate::Stdio::piped)
    /// fails the start, because no code could read it.
    ///
    /// ```
    /// use offspring::supervisor::{ChildSpec, Supervisor};
    /// use offspring::{Sender, channel};
    ///
    /// #[offspring::worker]
    /// fn report(sender: Sender<String>) {
    ///     sender.send(std::env::var("ROLE").expect("it is set")).expect("the program reads it");
    ///     offspring::current().wait_stopping();
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let (sender, roles) = channel()?;
    ///     let spec = ChildSpec::worker_with("reporter", move |_| report::new(sender.clone()))
    ///         .process(|builder| builder.env("ROLE", "witness"));
    ///     let _supervisor = Supervisor::builder().child(spec).start()?;
    ///     assert_eq!(roles.recv()?, "witness");
    ///     Ok(())
    /// }
    /// ```
    pub fn process(
        mut self,
        configure: impl Fn(ProcessBuilder) -> ProcessBuilder + Send + Sync + 'static,
    ) -> ChildSpec {
        self.options.configure = Some(Arc::new(configure));
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.source.kind())
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}
