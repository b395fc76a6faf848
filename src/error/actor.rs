//! Errors of actors, and the reasons of their ends.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{CreateError, DecodeError, EncodeError, ExitReason, SpawnError, printable};

/// How an actor, or another child of a supervisor, ended.
///
/// ```
/// use offspring::ExitReason;
/// use offspring::actor::DownReason;
///
/// struct Counter {
///     value: u64,
/// }
///
/// #[offspring::actor]
/// impl Counter {
///     fn start(value: u64) -> Self {
///         Counter { value }
///     }
///
///     pub fn add(&mut self, n: u64) -> u64 {
///         self.value = self.value.checked_add(n).expect("there is room");
///         self.value
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(u64::MAX)?;
///     let error = counter.add(1).unwrap_err();
///     match error.down_reason() {
///         Some(DownReason::Died(ExitReason::Panicked(panic))) => {
///             assert_eq!(panic.message, "there is room")
///         }
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DownReason {
    /// It stopped itself with [`Context::stop`](crate::actor::Context::stop). For a worker: `run`
    /// returned.
    Normal,
    /// It was asked to stop: by its owner, by its supervisor, or through an address.
    Shutdown,
    /// It stopped itself with [`Context::fail`](crate::actor::Context::fail), its `start` returned
    /// an error, or a [link](crate::actor::Link) failed.
    Failed(#[serde(deserialize_with = "printable::deserialize_text")] String),
    /// It missed its heartbeat, and was killed.
    Hung {
        /// The heartbeat's limit.
        limit: Duration,
    },
    /// Its process ended in another way: by a panic, an exit, or a signal.
    Died(ExitReason),
    /// It is a supervisor, and reached its limit of restarts.
    GaveUp(#[serde(deserialize_with = "printable::deserialize_text")] String),
    /// Its supervisor reached its limit of restarts, and ended all its children.
    SupervisorGaveUp {
        /// The id of the child that failed once more than is allowed.
        child: String,
        /// How that child ended.
        reason: Box<DownReason>,
        /// The number of restarts allowed within the period: see
        /// [`SupervisorBuilder::intensity`](crate::SupervisorBuilder::intensity).
        intensity: usize,
        /// The period.
        period: Duration,
    },
    /// The process that started it is gone, and the actor with it.
    OwnerGone,
}

impl DownReason {
    /// Returns whether this is an orderly end ([`Normal`](DownReason::Normal) or
    /// [`Shutdown`](DownReason::Shutdown)), after which a transient child is not restarted.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        matches!(self, DownReason::Normal | DownReason::Shutdown)
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownReason::Normal => f.write_str("stopped"),
            DownReason::Shutdown => f.write_str("was asked to stop"),
            DownReason::Failed(error) => write!(f, "failed: {error}"),
            DownReason::Hung { limit } => {
                write!(f, "gave no sign of life for {limit:?} and was killed")
            }
            DownReason::Died(reason) => write!(f, "died: its process {reason}"),
            DownReason::GaveUp(error) => write!(f, "gave up: {error}"),
            DownReason::SupervisorGaveUp { child, reason, intensity, period } => {
                let plural = if *intensity == 1 { "" } else { "s" };
                write!(
                    f,
                    "was given up by its supervisor after {intensity} restart{plural} within {period:?} \
                     (the limit is `SupervisorBuilder::intensity`): child `{child}` {reason}"
                )
            }
            DownReason::OwnerGone => f.write_str("is gone with the process that started it"),
        }
    }
}

/// An error of [`ActorRef::call`](crate::actor::ActorRef::call): why there is no reply.
///
/// ```
/// use std::time::Duration;
/// use offspring::actor::CallError;
///
/// struct Sleeper;
///
/// #[offspring::actor]
/// impl Sleeper {
///     fn start() -> Self {
///         Sleeper
///     }
///
///     pub fn sleep(&mut self, time: Duration) {
///         std::thread::sleep(time);
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let sleeper = Sleeper::spawn()?;
///     let impatient = sleeper.with_timeout(Duration::from_millis(1));
///     match impatient.sleep(Duration::from_millis(300)) {
///         Err(CallError::Timeout { .. }) => {} // it sleeps on, and may be asked again
///         Err(CallError::Restarted { .. }) => panic!("call it again if that does no harm"),
///         Err(error) => return Err(error.into()), // it is down for good, or the message was bad
///         Ok(()) => panic!("so fast"),
///     }
///     sleeper.sleep(Duration::ZERO)?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum CallError {
    /// No reply came in time. The actor may have handled the message, or may still do so.
    #[error("actor `{actor}` did not reply within {after:?}")]
    Timeout {
        /// Name of the actor.
        actor: String,
        /// The timeout.
        after: Duration,
    },
    /// The actor died before it replied, and is restarted, unless its supervisor gives up. It may
    /// have handled the message.
    #[error("actor `{actor}` is being restarted, since it {reason}")]
    Restarted {
        /// Name of the actor.
        actor: String,
        /// How the incarnation that was called ended.
        reason: DownReason,
    },
    /// The actor is down for good. If it was up when the call began, it may have handled the
    /// message.
    #[error("actor `{actor}` is down: it {reason}")]
    Down {
        /// Name of the actor.
        actor: String,
        /// How it ended.
        reason: DownReason,
    },
    /// The call would wait for itself: an actor calls itself, or an actor that waits for it.
    #[error("the call would never return: {path}")]
    Cycle {
        /// The names of the actors, each of which would wait for the next.
        path: String,
    },
    /// The message does not encode.
    #[error("cannot send a message to actor `{actor}`: {cause}")]
    Encode {
        /// Name of the actor.
        actor: String,
        /// The cause.
        cause: EncodeError,
    },
    /// The reply does not decode. The message was handled.
    #[error("cannot read the reply of actor `{actor}`: {cause}")]
    Decode {
        /// Name of the actor.
        actor: String,
        /// The cause.
        cause: DecodeError,
    },
    /// The message did not decode at the actor, or its reply did not encode there.
    #[error("actor `{actor}` did not reply: {message}")]
    Refused {
        /// Name of the actor.
        actor: String,
        /// The error in the actor's process.
        message: String,
    },
    /// An operation of the system failed.
    #[error("cannot call actor `{actor}`: {message}")]
    Io {
        /// Name of the actor.
        actor: String,
        /// The operation and its error.
        message: String,
    },
}

impl CallError {
    /// Returns whether the call timed out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, CallError::Timeout { .. })
    }

    /// Returns whether the actor is down for good, so that no later call can succeed.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, CallError::Down { .. })
    }

    /// Returns how the actor ended, if that is why there is no reply.
    #[must_use]
    pub fn down_reason(&self) -> Option<&DownReason> {
        match self {
            CallError::Restarted { reason, .. } | CallError::Down { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// An error of [`ActorRef::cast`](crate::actor::ActorRef::cast). The message comes back: see
/// [`CastError::into_inner`].
///
/// ```
/// use offspring::actor::CastError;
///
/// struct Log;
///
/// #[offspring::actor]
/// impl Log {
///     fn start() -> Self {
///         Log
///     }
///
///     #[cast]
///     pub fn line(&mut self, text: String) {
///         println!("{text}");
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let log = Log::spawn()?;
///     log.line("hello".to_owned())?;
///     log.stop();
///     match log.line("too late".to_owned()) {
///         Err(CastError::Full { .. }) => println!("it does not keep up: try again later"),
///         Err(CastError::Down { message: LogMessage::Line { text }, reason, .. }) => {
///             println!("`{text}` was not logged: the log {reason}")
///         }
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum CastError<M> {
    /// The mailbox was full until the timeout.
    #[error("cannot cast to actor `{actor}`: its mailbox is full")]
    Full {
        /// Name of the actor.
        actor: String,
        /// The message.
        message: M,
    },
    /// The actor is down for good.
    #[error("cannot cast to actor `{actor}`, which is down: it {reason}")]
    Down {
        /// Name of the actor.
        actor: String,
        /// The message.
        message: M,
        /// How the actor ended.
        reason: DownReason,
    },
    /// The message does not encode.
    #[error("cannot cast to actor `{actor}`: {cause}")]
    Encode {
        /// Name of the actor.
        actor: String,
        /// The message.
        message: M,
        /// The cause.
        cause: EncodeError,
    },
    /// An operation of the system failed, or the process that started the actor does not answer.
    #[error("cannot cast to actor `{actor}`: {cause}")]
    Io {
        /// Name of the actor.
        actor: String,
        /// The message.
        message: M,
        /// The operation and its error.
        cause: String,
    },
}

impl<M> CastError<M> {
    /// Returns the message.
    pub fn into_inner(self) -> M {
        self.split().1
    }

    pub(super) fn without_value(self) -> CastError<()> {
        self.split().0
    }

    fn split(self) -> (CastError<()>, M) {
        match self {
            CastError::Full { actor, message } => (CastError::Full { actor, message: () }, message),
            CastError::Down { actor, message, reason } => {
                (CastError::Down { actor, message: (), reason }, message)
            }
            CastError::Encode { actor, message, cause } => {
                (CastError::Encode { actor, message: (), cause }, message)
            }
            CastError::Io { actor, message, cause } => {
                (CastError::Io { actor, message: (), cause }, message)
            }
        }
    }

    /// Returns the name of the actor.
    #[must_use]
    pub fn actor(&self) -> &str {
        match self {
            CastError::Full { actor, .. }
            | CastError::Down { actor, .. }
            | CastError::Encode { actor, .. }
            | CastError::Io { actor, .. } => actor,
        }
    }

    /// Returns whether the actor is down for good, so that no later cast can succeed.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, CastError::Down { .. })
    }

    /// Returns whether the mailbox was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, CastError::Full { .. })
    }
}

debug_with_text! { [<M>] CastError { Full, Down, Encode, Io } }

/// An error of starting an actor. Nothing of the actor is left.
///
/// ```
/// use offspring::actor::{DownReason, StartError};
///
/// struct Dictionary(String);
///
/// #[offspring::actor]
/// impl Dictionary {
///     fn start(file: String) -> Result<Self, String> {
///         let text = std::fs::read_to_string(&file);
///         text.map(Dictionary).map_err(|error| format!("{file}: {error}"))
///     }
///
///     pub fn knows(&self, word: String) -> bool {
///         self.0.contains(&word)
///     }
/// }
///
/// #[offspring::main]
/// fn main() {
///     match Dictionary::spawn("/no/such/file".to_owned()) {
///         Err(StartError::Down { reason: DownReason::Failed(error), .. }) => {
///             assert!(error.starts_with("/no/such/file: "))
///         }
///         other => panic!("{other:?}"),
///     }
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum StartError {
    /// The actor's process did not start.
    #[error("actor `{actor}` did not start: {cause}")]
    Spawn {
        /// Name of the actor.
        actor: String,
        /// The cause.
        cause: SpawnError,
    },
    /// The actor's mailbox or one of its channels could not be made.
    #[error("actor `{actor}` did not start: {cause}")]
    Create {
        /// Name of the actor.
        actor: String,
        /// The cause.
        cause: CreateError,
    },
    /// The actor's `start` returned an error, or the process died in it.
    #[error("actor `{actor}` did not start: it {reason}")]
    Down {
        /// Name of the actor.
        actor: String,
        /// How it ended.
        reason: DownReason,
    },
    /// The actor's `start` took too long, and the process was killed.
    #[error("actor `{actor}` did not start within {after:?} and was killed")]
    Timeout {
        /// Name of the actor.
        actor: String,
        /// The timeout.
        after: Duration,
    },
    /// Another actor already has this name.
    #[error("the name `{actor}` is taken by another actor")]
    NameTaken {
        /// The name.
        actor: String,
    },
}

impl StartError {
    /// Returns whether the actor's `start` took too long, or its process was not ready in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            StartError::Timeout { .. } => true,
            StartError::Spawn { cause, .. } => cause.is_timeout(),
            _ => false,
        }
    }
}

/// The text of a start's error without the name of the child, for errors that have named it
/// already.
struct WithoutName<'a>(&'a StartError);

impl fmt::Display for WithoutName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            StartError::Spawn { cause, .. } => cause.fmt(f),
            StartError::Create { cause, .. } => cause.fmt(f),
            StartError::Down { reason, .. } => write!(f, "it {reason}"),
            StartError::Timeout { after, .. } => {
                write!(f, "it was not up within {after:?} and was killed")
            }
            StartError::NameTaken { .. } => f.write_str("its name is taken by another actor"),
        }
    }
}

/// An error of [`find`](crate::actor::find).
///
/// ```
/// use offspring::actor::{self, ActorBuilder, LookupError};
///
/// struct Counter {
///     value: u64,
/// }
///
/// #[offspring::actor]
/// impl Counter {
///     fn start(value: u64) -> Self {
///         Counter { value }
///     }
///
///     pub fn add(&mut self, n: u64) -> u64 {
///         self.value = self.value.checked_add(n).expect("there is room");
///         self.value
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let early = actor::find::<Counter>("visits");
///     assert!(matches!(early, Err(LookupError::NotFound { .. })));
///     let _visits = ActorBuilder::new().register("visits").spawn::<Counter>((0,))?;
///     let visits: CounterHandle = actor::find::<Counter>("visits")?.into();
///     assert_eq!(visits.add(1)?, 1);
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No actor has this name.
    #[error("no actor has the name `{name}`")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The actor of this name is of another type.
    #[error("the actor `{name}` is not a `{wanted}`")]
    OtherType {
        /// The name.
        name: String,
        /// The type of the lookup.
        wanted: &'static str,
    },
    /// The main process, which holds the names, did not answer.
    #[error("cannot look up the name of an actor: {message}")]
    Unreachable {
        /// The cause.
        message: String,
    },
}

/// An error of an operation on a supervisor.
///
/// ```
/// use offspring::Supervisor;
/// use offspring::supervisor::{ChildSpec, SupervisorError};
///
/// struct Counter {
///     value: u64,
/// }
///
/// #[offspring::actor]
/// impl Counter {
///     fn start(value: u64) -> Self {
///         Counter { value }
///     }
///
///     pub fn add(&mut self, n: u64) -> u64 {
///         self.value = self.value.checked_add(n).expect("there is room");
///         self.value
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let visits = ChildSpec::actor::<Counter>("visits", (0,));
///     let supervisor = Supervisor::builder().child(visits).start()?;
///     match supervisor.start_child(ChildSpec::actor::<Counter>("visits", (100,))) {
///         Err(SupervisorError::DuplicateId { id }) => assert_eq!(id, "visits"),
///         other => panic!("{other:?}"),
///     }
///     supervisor.stop();
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// A child did not start.
    #[error("child `{id}` did not start: {}", WithoutName(.cause))]
    Start {
        /// Its id.
        id: String,
        /// The cause.
        cause: Box<StartError>,
    },
    /// Another child has this id.
    #[error("the id `{id}` is taken by another child")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// The id contains a `/`, which separates the ids in the path of a nested child.
    #[error(
        "a child cannot have the id `{id}`: `/` separates the ids of nested supervisors, use another character"
    )]
    InvalidId {
        /// The id.
        id: String,
    },
    /// The period is 0, so no two restarts would ever fall within it.
    #[error(
        "a period of 0 limits no restarts: use a longer one, or `intensity(usize::MAX)` for restarts without limit"
    )]
    ZeroPeriod,
    /// No child has this id.
    #[error("no child has the id `{id}`")]
    NotFound {
        /// The id.
        id: String,
    },
    /// The child is up, or starting.
    #[error("child `{id}` is not stopped")]
    Running {
        /// The id.
        id: String,
    },
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Ended,
    /// An operation of the system failed.
    #[error("the supervisor did not start: {cause}")]
    Create {
        /// The cause.
        cause: CreateError,
    },
}

impl SupervisorError {
    /// Returns whether the supervisor has ended, so that no later call can succeed.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, SupervisorError::Ended)
    }
}

debug_with_text! {
    CallError { Timeout, Restarted, Down, Cycle, Encode, Decode, Refused, Io }
    StartError { Spawn, Create, Down, Timeout, NameTaken }
    LookupError { NotFound, OtherType, Unreachable }
    SupervisorError { Start, DuplicateId, InvalidId, ZeroPeriod, NotFound, Running, Ended, Create }
}
