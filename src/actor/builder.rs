//! Starting an actor, and owning it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::actor::actor::Actor;
use crate::actor::address::{ActorRef, TIMEOUT};
use crate::actor::client::connection::Way;
use crate::actor::host::directory;
use crate::actor::host::launch::launch;
use crate::actor::host::options::Plan;
use crate::actor::host::record::Post;
use crate::actor::names;
use crate::error::{DownReason, StartError};
use crate::process::ProcessBuilder;

/// How long a stop may take before the actor is killed: OTP's default.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Starts an actor with the defaults of [`ActorBuilder`].
///
/// # Errors
///
/// See [`StartError`]; nothing is left behind then.
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
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = offspring::actor::spawn::<Counter>((40,))?.typed::<CounterHandle>();
///     assert_eq!(counter.add(2)?, 42);
///     // The same: `Counter::spawn(40)`, which the macro has made.
///     Ok(())
/// }
/// ```
pub fn spawn<A: Actor>(args: A::Args) -> Result<ActorOwner<ActorRef<A>>, StartError> {
    ActorBuilder::new().spawn(args)
}

/// How an actor is started: name, mailbox, limits, and the options of its process.
///
/// Dropping it starts nothing.
///
/// ```
/// # use offspring::actor::{Actor, Context};
/// # struct Echo;
/// # impl Actor for Echo {
/// #     type Args = ();
/// #     type Message = String;
/// #     type Reply = String;
/// #     fn start(_: (), _: &Context<Echo>) -> Result<Echo, Box<dyn std::error::Error>> {
/// #         Ok(Echo)
/// #     }
/// #     fn handle(&mut self, message: String) -> String {
/// #         message
/// #     }
/// # }
/// # offspring::register_actor!(Echo);
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let echo = offspring::actor::ActorBuilder::new().name("echo").mailbox(8).spawn::<Echo>(())?;
///     assert_eq!(echo.call("hello".to_owned())?, "hello");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "must eventually spawn an actor"]
pub struct ActorBuilder {
    name: Option<String>,
    registered: bool,
    grace: Option<Duration>,
    plan: Plan,
}

impl ActorBuilder {
    /// The defaults, each stated at its method.
    pub fn new() -> ActorBuilder {
        ActorBuilder::default()
    }

    /// The actor's name, for messages and errors, and its process's. Default: the type and a number, such as `Counter-1`.
    pub fn name(mut self, name: impl Into<String>) -> ActorBuilder {
        self.name = Some(name.into());
        self
    }

    /// As [`name`](ActorBuilder::name), and makes the actor known by it in the whole tree: see [`find`](crate::actor::find).
    pub fn register(mut self, name: impl Into<String>) -> ActorBuilder {
        self.registered = true;
        self.name(name)
    }

    /// How many messages may lie in the mailbox. Default: 64. When it is full, a cast waits.
    pub fn mailbox(mut self, messages: usize) -> ActorBuilder {
        self.plan.mailbox = messages;
        self
    }

    /// How often a cast is handled again when the actor died while it handled it. Default: 0, never: it may be what kills the
    /// actor. With `n`, it is handled at most `n + 1` times, and its handling must bear to be begun twice.
    pub fn redeliver(mut self, times: u32) -> ActorBuilder {
        self.plan.redeliver = times;
        self
    }

    /// How long `start` may take, after the process runs; then it is killed. Default: 10 s.
    pub fn start_timeout(mut self, timeout: Duration) -> ActorBuilder {
        self.plan.start_timeout = timeout;
        self
    }

    /// How long the actor may give no sign of life before it is killed as [hung](DownReason::Hung). A message that takes longer to
    /// handle counts as that. Default: no limit.
    pub fn heartbeat(mut self, limit: Duration) -> ActorBuilder {
        self.plan.heartbeat = Some(limit.max(Duration::from_millis(1)));
        self
    }

    /// How long the owner waits for an orderly stop, before it kills. Default: 5 s.
    pub fn grace(mut self, grace: Duration) -> ActorBuilder {
        self.grace = Some(grace);
        self
    }

    /// Options of the actor's process: environment, arguments, directory, stdio. Called for each incarnation.
    pub fn process(
        mut self,
        configure: impl Fn(ProcessBuilder) -> ProcessBuilder + Send + Sync + 'static,
    ) -> ActorBuilder {
        self.plan.configure = Some(Arc::new(configure));
        self
    }

    /// Starts an actor, and waits until its state is built. When it dies, it is not started again: that is what
    /// supervisors are for.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left behind then.
    pub fn spawn<A: Actor>(self, args: A::Args) -> Result<ActorOwner<ActorRef<A>>, StartError> {
        let grace = self.grace.unwrap_or(GRACE);
        let registered = self.registered;
        let (post, address) = self.open::<A>()?;
        let end = Box::new(move |post: &Arc<Post>, generation, reason| {
            names::forget(post, registered);
            directory::close_post(post, generation, reason);
        });
        if let Err(error) = launch(&post, &address, args, &self.plan, end) {
            names::forget(&post, registered);
            directory::remove_post(&post);
            return Err(error);
        }
        Ok(ActorOwner {
            handle: address,
            keeper: Keeper { post, grace },
        })
    }

    /// An actor that has not been launched yet, and its address.
    pub(crate) fn open<A: Actor>(&self) -> Result<(Arc<Post>, ActorRef<A>), StartError> {
        let name = self.name.clone().unwrap_or_else(default_name::<A>);
        let post = directory::open_post(&name, self.plan.mailbox).map_err(|source| {
            StartError::Create {
                actor: name.clone(),
                source,
            }
        })?;
        let address = ActorRef::new(post.key, &name, Way::Here(post.clone()), TIMEOUT);
        if self.registered {
            if let Err(error) = names::register(&address) {
                directory::remove_post(&post);
                return Err(error);
            }
        }
        Ok((post, address))
    }
}

impl ActorBuilder {
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The actor will not be launched again.
    pub(crate) fn close(&self, post: &Post, reason: DownReason) {
        names::forget(post, self.registered);
        directory::close_post(post, post.generation(), reason);
    }
}

/// `Counter-1` of `app::Counter`.
fn default_name<A>() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let whole = std::any::type_name::<A>();
    let plain = whole.split('<').next().unwrap_or(whole);
    let short = plain.rsplit("::").next().unwrap_or(plain);
    format!("{short}-{}", COUNT.fetch_add(1, Ordering::Relaxed) + 1)
}

/// An actor that this process has started, as its owner: derefs to its address.
///
/// Dropping it stops the actor, after what its mailbox holds; what does not stop within the grace (5 s) is killed. Addresses do
/// nothing of that: they can be cloned off and dropped freely.
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
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(1)?;
///     assert!(counter.is_alive() && counter.pid().is_some());
///     let address = counter.address();
///     assert_eq!(address.add(1)?, 2);
///     assert!(counter.stop().is_normal()); // as dropping it would
///     assert!(!counter.is_alive() && address.add(1).is_err());
///     Ok(())
/// }
/// ```
#[must_use = "dropping it stops the actor"]
pub struct ActorOwner<H> {
    handle: H,
    keeper: Keeper,
}

struct Keeper {
    post: Arc<Post>,
    grace: Duration,
}

impl Keeper {
    fn stop(&self) -> DownReason {
        let deadline = Instant::now().checked_add(self.grace);
        self.post.ask_to_stop(true, deadline);
        if !self.post.wait_end(deadline) {
            self.post.kill();
            self.post.wait_end(None);
        }
        self.post.previous().unwrap_or(DownReason::Shutdown)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<H> ActorOwner<H> {
    /// Stops the actor, after what its mailbox holds now, and waits for its end; it is killed after the
    /// [grace](ActorBuilder::grace). How it ended, also if that was before.
    pub fn stop(&self) -> DownReason {
        self.keeper.stop()
    }

    /// Kills the actor's process at once (SIGKILL), and waits for its end. No stop hook runs.
    pub fn kill(&self) -> DownReason {
        self.keeper.post.kill();
        self.keeper.post.wait_end(None);
        self.keeper.post.previous().unwrap_or(DownReason::Shutdown)
    }

    /// Whether its process runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.keeper.post.is_running()
    }

    /// The pid of its process, while that runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.keeper.post.pid()
    }

    /// The address alone, to be given to others.
    #[must_use]
    pub fn address(&self) -> H
    where
        H: Clone,
    {
        self.handle.clone()
    }

    /// The same actor behind a typed handle.
    pub fn typed<T: From<H>>(self) -> ActorOwner<T> {
        ActorOwner {
            handle: T::from(self.handle),
            keeper: self.keeper,
        }
    }
}

impl<H> Deref for ActorOwner<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.handle
    }
}

impl<H: fmt::Debug> fmt::Debug for ActorOwner<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActorOwner").field(&self.handle).finish()
    }
}
