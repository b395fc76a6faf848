//! Starting an actor, and owning it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::actor::actor::Actor;
use crate::actor::address::{ActorRef, TIMEOUT};
use crate::actor::client::connection::Host;
use crate::actor::host::directory;
use crate::actor::host::launch::launch;
use crate::actor::host::options::{Configure, StartOptions};
use crate::actor::host::record::ActorRecord;
use crate::actor::names;
use crate::error::{DownReason, StartError};
use crate::process::{ProcessBuilder, default_name};

/// How long a stop may take before the actor is killed: OTP's default.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Starts an actor with the defaults of [`ActorBuilder`].
///
/// # Errors
///
/// [`StartError`]; nothing of the actor is left then.
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

/// Configures an actor: its name, mailbox and limits, and the options of its process.
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
#[must_use = "does nothing until `spawn` is called"]
pub struct ActorBuilder {
    name: Option<String>,
    registered: bool,
    grace: Option<Duration>,
    options: StartOptions,
}

impl ActorBuilder {
    /// Creates a builder with the default options, which each method states.
    pub fn new() -> ActorBuilder {
        ActorBuilder::default()
    }

    /// Sets the actor's name, for messages and errors, and that of its process. Default: the type
    /// and a number, such as `Counter-1`.
    pub fn name(mut self, name: impl Into<String>) -> ActorBuilder {
        self.name = Some(name.into());
        self
    }

    /// Sets the name unless there is one.
    pub(crate) fn name_or(mut self, name: &str) -> ActorBuilder {
        self.name.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Like [`name`](ActorBuilder::name), and also registers the name, so that any process of the
    /// tree can [`find`](crate::actor::find) the actor.
    pub fn register(mut self, name: impl Into<String>) -> ActorBuilder {
        self.registered = true;
        self.name(name)
    }

    /// Sets how many messages the mailbox holds. Default: 64. While it is full, casts wait.
    pub fn mailbox(mut self, messages: usize) -> ActorBuilder {
        self.options.mailbox = messages;
        self
    }

    /// Sets how many more times a cast is handled if the actor dies while handling it. Default: 0,
    /// because the message may be what kills the actor.
    ///
    /// With `n`, a cast is handled at most `n + 1` times, so handlers must tolerate being run more
    /// than once for the same message.
    pub fn redeliver(mut self, times: u32) -> ActorBuilder {
        self.options.redeliver = times;
        self
    }

    /// Sets how long [`Actor::start`] may take once the process runs. Default: 10 s. After that the
    /// process is killed.
    pub fn start_timeout(mut self, timeout: Duration) -> ActorBuilder {
        self.options.start_timeout = timeout;
        self
    }

    /// Sets for how long the actor may give no sign of life before it is killed as
    /// [hung](DownReason::Hung). Default: no limit.
    ///
    /// An actor gives signs of life between messages, so this also limits the time that one message
    /// takes.
    pub fn heartbeat(mut self, limit: Duration) -> ActorBuilder {
        self.options.heartbeat = Some(limit.max(Duration::from_millis(1)));
        self
    }

    /// Sets how long the owner waits for an orderly stop before it kills. Default: 5 s.
    pub fn grace(mut self, grace: Duration) -> ActorBuilder {
        self.grace = Some(grace);
        self
    }

    /// Sets options of the actor's process, such as its environment, arguments, directory or stdio.
    /// `configure` is called for each incarnation.
    pub fn process(
        mut self,
        configure: impl Fn(ProcessBuilder) -> ProcessBuilder + Send + Sync + 'static,
    ) -> ActorBuilder {
        self.options.configure = Some(Arc::new(configure));
        self
    }

    /// Like [`process`](ActorBuilder::process), but keeps the closure that was set before, and runs
    /// after it.
    pub(crate) fn process_too(mut self, configure: Configure) -> ActorBuilder {
        self.options.configure = Some(match self.options.configure.take() {
            Some(first) => Arc::new(move |builder| configure(first(builder))),
            None => configure,
        });
        self
    }

    /// Starts an actor, and waits until its state is built.
    ///
    /// An actor that dies is not restarted: that is what [supervisors](crate::supervisor) are for.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing of the actor is left then.
    pub fn spawn<A: Actor>(self, args: A::Args) -> Result<ActorOwner<ActorRef<A>>, StartError> {
        let grace = self.grace.unwrap_or(GRACE);
        let registered = self.registered;
        let (record, address) = self.open::<A>()?;
        let on_end = Box::new(move |record: &Arc<ActorRecord>, generation, reason| {
            names::unregister(record, registered);
            directory::close_record(record, generation, reason);
        });
        if let Err(error) = launch(&record, &address, args, &self.options, on_end) {
            names::unregister(&record, registered);
            directory::remove_record(&record);
            return Err(error);
        }
        Ok(ActorOwner { handle: address, guard: OwnerGuard { record, grace } })
    }

    /// Makes the record and the address of an actor that has not been launched yet.
    pub(crate) fn open<A: Actor>(&self) -> Result<(Arc<ActorRecord>, ActorRef<A>), StartError> {
        let name = self.name.clone().unwrap_or_else(|| {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            default_name(std::any::type_name::<A>(), &COUNT)
        });
        let record = directory::open_record(&name, self.options.mailbox)
            .map_err(|cause| StartError::Create { actor: name.clone(), cause })?;
        let address = ActorRef::new(record.key, &name, Host::Local(record.clone()), TIMEOUT);
        if self.registered {
            if let Err(error) = names::register(&address) {
                directory::remove_record(&record);
                return Err(error);
            }
        }
        Ok((record, address))
    }

    pub(crate) fn options(&self) -> &StartOptions {
        &self.options
    }

    /// Closes the record of an actor that will not be launched again.
    pub(crate) fn close(&self, record: &ActorRecord, reason: DownReason) {
        names::unregister(record, self.registered);
        directory::close_record(record, record.generation(), reason);
    }
}

/// The owner of an actor that this process has started. Derefs to the actor's address.
///
/// Dropping it stops the actor after the messages that are in its mailbox now, and waits for its
/// end. An actor that has not stopped within the [grace](ActorBuilder::grace) (5 s by default) is
/// killed. Addresses can be cloned and dropped freely: they do not stop the actor.
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
    guard: OwnerGuard,
}

/// Separate from the handle, so that [`ActorOwner::typed`] can take the handle out of a type that
/// has no `Drop`.
struct OwnerGuard {
    record: Arc<ActorRecord>,
    grace: Duration,
}

impl OwnerGuard {
    fn stop(&self) -> DownReason {
        let deadline = Instant::now().checked_add(self.grace);
        self.record.request_stop(true, deadline);
        if !self.record.wait_end(deadline) {
            self.record.kill();
        }
        self.down()
    }

    fn kill(&self) -> DownReason {
        self.record.kill();
        self.down()
    }

    /// Waits until the actor is down, and returns how it ended. The wait is short: no process
    /// survives SIGKILL, and the host thread that sees the end runs no user code before it
    /// publishes the end.
    fn down(&self) -> DownReason {
        self.record.wait_down();
        self.record.previous().unwrap_or(DownReason::Shutdown)
    }
}

impl Drop for OwnerGuard {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<H> ActorOwner<H> {
    /// Stops the actor after the messages that are in its mailbox now, and waits for its end. Kills
    /// it after the [grace](ActorBuilder::grace).
    ///
    /// Returns how the actor ended, even if it had ended before.
    pub fn stop(&self) -> DownReason {
        self.guard.stop()
    }

    /// Kills the actor's process at once (SIGKILL), and waits for its end. [`Actor::stop`] does not
    /// run.
    ///
    /// Returns how the actor ended, even if it had ended before. The wait has no timeout, since no
    /// process survives the signal. It takes milliseconds, unless the process is inside a system
    /// call that cannot be interrupted, such as a read from a dead network disk.
    pub fn kill(&self) -> DownReason {
        self.guard.kill()
    }

    /// Returns whether the actor's process is running.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.guard.record.is_running()
    }

    /// Returns the pid of the actor's process; `None` if it is not running.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.guard.record.pid()
    }

    /// Returns the address, to pass to others.
    #[must_use]
    pub fn address(&self) -> H
    where
        H: Clone,
    {
        self.handle.clone()
    }

    /// Converts the address to a typed handle, such as the one that `#[offspring::actor]`
    /// generates.
    pub fn typed<T: From<H>>(self) -> ActorOwner<T> {
        ActorOwner { handle: T::from(self.handle), guard: self.guard }
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
