//! What a supervisor is told of a child.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::actor::{self, Actor};
use crate::process::ProcessWorker;
use crate::supervisor::builder::SupervisorBuilder;
use crate::supervisor::child::{ActorChild, Child, WorkerChild};
use crate::supervisor::nested::NestedChild;
use crate::supervisor::start_info::StartInfo;
use crate::supervisor::strategy::{Restart, Shutdown};

/// OTP's default for all but supervisors.
const SHUTDOWN: Shutdown = Shutdown::Timeout(Duration::from_secs(5));

/// What kind of child it is.
///
/// ```
/// use offspring::supervisor::{ChildKind, ChildSpec, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let nested = Supervisor::builder().child(ChildSpec::worker_with("server", |_| serve::new()));
///     let supervisor = Supervisor::builder().child(ChildSpec::supervisor("servers", nested)).start()?;
///     assert_eq!(supervisor.children()[0].kind, ChildKind::Supervisor);
///     assert_eq!(supervisor.children_of("servers").expect("it is there")[0].kind, ChildKind::Worker);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildKind {
    /// An actor.
    Actor,
    /// A plain [`ProcessWorker`].
    Worker,
    /// A supervisor, in the process of its parent.
    Supervisor,
}

impl fmt::Display for ChildKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ChildKind::Actor => "actor",
            ChildKind::Worker => "worker",
            ChildKind::Supervisor => "supervisor",
        })
    }
}

/// A child of a supervisor: how to start it, when to start it again, how to stop it.
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
/// #         self.0 = self.0.checked_add(n).expect("there is room");
/// #         self.0
/// #     }
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = ChildSpec::actor::<Counter>("counter", (7,))
///         .restart(Restart::Transient)
///         .shutdown(Shutdown::Timeout(Duration::from_secs(1)));
///     let supervisor = Supervisor::builder().child(counter).start()?;
///     let counter = CounterHandle::from(supervisor.actor("counter").expect("it is there"));
///     assert_eq!(counter.add(1)?, 8);
///     Ok(())
/// }
/// ```
#[must_use = "must be given to a supervisor"]
pub struct ChildSpec {
    pub(super) id: String,
    pub(super) kind: ChildKind,
    pub(super) restart: Restart,
    pub(super) shutdown: Shutdown,
    pub(super) heartbeat: Option<Duration>,
    pub(super) make: Box<dyn FnOnce(Option<Duration>) -> Box<dyn Child> + Send>,
}

impl ChildSpec {
    /// An actor, by the options of an [`actor::ActorBuilder`] with the name `id`. Each incarnation gets a clone of `args`.
    pub fn actor<A: Actor>(id: impl Into<String>, args: A::Args) -> ChildSpec
    where
        A::Args: Clone + Send,
    {
        let id = id.into();
        ChildSpec::actor_with::<A>(id.clone(), actor::ActorBuilder::new().name(id), args)
    }

    /// An actor with options of its own.
    pub fn actor_with<A: Actor>(
        id: impl Into<String>,
        builder: actor::ActorBuilder,
        args: A::Args,
    ) -> ChildSpec
    where
        A::Args: Clone + Send,
    {
        ChildSpec::new(id.into(), ChildKind::Actor, move |heartbeat| {
            let builder = match heartbeat {
                Some(limit) => builder.heartbeat(limit),
                None => builder,
            };
            let post = None;
            Box::new(ActorChild::<A> {
                builder,
                args,
                post,
            })
        })
    }

    /// A plain worker: each start runs a clone. That `run` returns counts as an end as it was meant to.
    /// One that is not `Clone`, as most that are functions, takes [`worker_with`](ChildSpec::worker_with).
    pub fn worker<W: ProcessWorker + Clone + Send>(id: impl Into<String>, worker: W) -> ChildSpec {
        ChildSpec::worker_with(id, move |_| worker.clone())
    }

    /// A plain worker that is made anew for each start, in this process, and may know how its predecessor ended.
    pub fn worker_with<W: ProcessWorker>(
        id: impl Into<String>,
        make: impl Fn(&StartInfo) -> W + Send + 'static,
    ) -> ChildSpec {
        let id = id.into();
        let name = id.clone();
        ChildSpec::new(id, ChildKind::Worker, move |heartbeat| {
            Box::new(WorkerChild {
                make,
                name,
                heartbeat,
                starts: 0,
                previous: Arc::new(Mutex::new(None)),
                running: None,
            })
        })
    }

    /// A supervisor in this process. When it gives up, that is its end, by
    /// [`DownReason::GaveUp`](crate::actor::DownReason::GaveUp); started again, it starts the children of its builder anew, whose addresses stay
    /// the same. What was [added](crate::supervisor::Supervisor::start_child_of) since is lost, as in OTP.
    ///
    /// A supervisor in a process of its own is a worker that [runs](crate::supervisor::Supervisor::run) one.
    pub fn supervisor(id: impl Into<String>, builder: SupervisorBuilder) -> ChildSpec {
        let spec = ChildSpec::new(id.into(), ChildKind::Supervisor, move |_| {
            Box::new(NestedChild::new(builder))
        });
        spec.shutdown(Shutdown::Infinity)
    }

    fn new(
        id: String,
        kind: ChildKind,
        make: impl FnOnce(Option<Duration>) -> Box<dyn Child> + Send + 'static,
    ) -> ChildSpec {
        ChildSpec {
            id,
            kind,
            restart: Restart::default(),
            shutdown: SHUTDOWN,
            heartbeat: None,
            make: Box::new(make),
        }
    }

    /// When it is started again. Default: [`Restart::Permanent`].
    pub fn restart(mut self, restart: Restart) -> ChildSpec {
        self.restart = restart;
        self
    }

    /// How it is stopped. Default: 5 s for an orderly stop, then it is killed; for a supervisor no limit. A worker is asked
    /// ([`is_stopping`](crate::process::CurrentProcess::is_stopping)), gets SIGTERM in the middle of that time, and SIGKILL at its end.
    pub fn shutdown(mut self, shutdown: Shutdown) -> ChildSpec {
        self.shutdown = shutdown;
        self
    }

    /// How long it may give no sign of life, before it is killed and counts as hung; looked at now and
    /// then, so it may take up to twice as long. At least 1 ms. Default: no limit. An actor gives it by
    /// itself, between messages; a worker by its [`Heartbeat`](crate::supervisor::Heartbeat).
    pub fn heartbeat(mut self, limit: Duration) -> ChildSpec {
        self.heartbeat = Some(limit.max(Duration::from_millis(1)));
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}
