//! Errors of actors, and why one is down.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{CreateError, DecodeError, EncodeError, ExitReason, SpawnError};

/// Why an actor, or another child of a supervisor, is down.
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
///         Some(DownReason::Died(ExitReason::Panicked(panic))) => assert_eq!(panic.message, "there is room"),
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DownReason {
    /// It stopped by itself, as it was meant to. Of a worker: `run` returned.
    Normal,
    /// It was asked to stop: by its owner, by its supervisor, or through an address.
    Shutdown,
    /// It stopped itself with an error, or its `start` gave one.
    Failed(String),
    /// It gave no sign of life for this long, and was killed.
    Hung {
        /// The limit that passed.
        limit: Duration,
    },
    /// Its process ended.
    Died(ExitReason),
    /// A supervisor reached its limit of restarts.
    GaveUp(String),
    /// The process that kept it is gone, and the actor with it.
    OwnerGone,
}

impl DownReason {
    /// Whether it ended as it was meant to: a transient child that ended so is not started again.
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
            DownReason::OwnerGone => f.write_str("is gone with the process that kept it"),
        }
    }
}

/// Why a call has no reply.
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
///         Err(CallError::Restarted { .. }) => panic!("a supervised one: call it again, if twice does no harm"),
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
    /// There was no reply in time. The actor may still handle the message, or have handled it.
    #[error("actor `{actor}` did not reply within {after:?}")]
    Timeout {
        /// Name of the actor.
        actor: String,
        /// How long was waited.
        after: Duration,
    },
    /// The actor died before it replied, and is started again, unless its supervisor gives up. It may have handled the message.
    #[error("actor `{actor}` is being restarted, since it {reason}")]
    Restarted {
        /// Name of the actor.
        actor: String,
        /// How the incarnation ended that was called.
        reason: DownReason,
    },
    /// The actor is down for good. If it was up when it was called, it may have handled the message.
    #[error("actor `{actor}` is down: it {reason}")]
    Down {
        /// Name of the actor.
        actor: String,
        /// How it ended.
        reason: DownReason,
    },
    /// The actor would wait for itself: it calls itself, or an actor that waits for it.
    #[error("the call would never return: {path}")]
    Cycle {
        /// Who waits for whom.
        path: String,
    },
    /// The message does not encode.
    #[error("calling actor `{actor}` with a message that does not encode")]
    Encode {
        /// Name of the actor.
        actor: String,
        /// What is wrong with it.
        #[source]
        source: EncodeError,
    },
    /// The reply does not decode. The message was handled.
    #[error("actor `{actor}` gave a reply that does not decode")]
    Decode {
        /// Name of the actor.
        actor: String,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The message did not decode at the actor, or its reply did not encode there.
    #[error("actor `{actor}` could not reply: {message}")]
    Refused {
        /// Name of the actor.
        actor: String,
        /// What it said.
        message: String,
    },
    /// The system refused something that the call needs.
    #[error("calling actor `{actor}`: {message}")]
    Io {
        /// Name of the actor.
        actor: String,
        /// What was tried, and the system's answer.
        message: String,
    },
}

impl CallError {
    /// Whether there was no reply in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, CallError::Timeout { .. })
    }

    /// How the actor ended, if that is why there is no reply.
    #[must_use]
    pub fn down_reason(&self) -> Option<&DownReason> {
        match self {
            CallError::Restarted { reason, .. } | CallError::Down { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// Why a cast was not taken. The message comes back: see [`CastError::into_inner`].
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
///         Err(CastError::Full(_)) => println!("it does not keep up: try again later"),
///         Err(CastError::Down(LogMessage::Line { text }, reason)) => println!("`{text}` was not logged: the log {reason}"),
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum CastError<M> {
    /// The mailbox was full, and stayed so for as long as the cast may wait.
    #[error("casting to an actor whose mailbox is full")]
    Full(M),
    /// The actor is down for good.
    #[error("casting to an actor that is down: it {1}")]
    Down(M, DownReason),
    /// The message does not encode.
    #[error("casting a message that does not encode")]
    Encode(M, #[source] EncodeError),
    /// The system refused something that the cast needs.
    #[error("casting: {1}")]
    Io(M, String),
}

impl<M> CastError<M> {
    /// The message that was not taken.
    pub fn into_inner(self) -> M {
        match self {
            CastError::Full(message)
            | CastError::Down(message, _)
            | CastError::Encode(message, _)
            | CastError::Io(message, _) => message,
        }
    }

    /// Whether the mailbox was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, CastError::Full(_))
    }
}

debug_without_item! {
    CastError { Full, Down + cause, Encode + cause, Io + cause }
}

/// Why an actor was not started. Nothing of it is left behind.
///
/// ```
/// use offspring::actor::{DownReason, StartError};
///
/// struct Dictionary(String);
///
/// #[offspring::actor]
/// impl Dictionary {
///     fn start(file: String) -> Result<Self, String> {
///         std::fs::read_to_string(&file).map(Dictionary).map_err(|error| format!("{file}: {error}"))
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
///         Err(StartError::Down { reason: DownReason::Failed(error), .. }) => assert!(error.starts_with("/no/such/file: ")),
///         other => panic!("{other:?}"),
///     }
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its process was not started.
    #[error("actor `{actor}` has no process")]
    Spawn {
        /// Name of the actor.
        actor: String,
        /// Why not.
        #[source]
        source: SpawnError,
    },
    /// Its mailbox or its channels were not made.
    #[error("actor `{actor}` has no mailbox")]
    Create {
        /// Name of the actor.
        actor: String,
        /// Why not.
        #[source]
        source: CreateError,
    },
    /// Its `start` gave an error, or it died in there.
    #[error("actor `{actor}` did not start: it {reason}")]
    Down {
        /// Name of the actor.
        actor: String,
        /// How it ended.
        reason: DownReason,
    },
    /// Its `start` took too long; it was killed.
    #[error("actor `{actor}` did not start within {after:?} and was killed")]
    Timeout {
        /// Name of the actor.
        actor: String,
        /// How long was waited.
        after: Duration,
    },
    /// Another actor of the tree has this name.
    #[error("there is an actor of the name `{actor}` already")]
    NameTaken {
        /// The name.
        actor: String,
    },
}

/// Why an actor was not found by its name.
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
///     assert!(matches!(actor::find::<Counter>("visits"), Err(LookupError::NotFound { .. }))); // not yet
///     let _visits = ActorBuilder::new().register("visits").spawn::<Counter>((0,))?;
///     let visits: CounterHandle = actor::find::<Counter>("visits")?.into();
///     assert_eq!(visits.add(1)?, 1);
///     Ok(())
/// }
/// ```
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No actor of the tree has this name.
    #[error("there is no actor of the name `{name}`")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The actor of this name is of another type.
    #[error("the actor of the name `{name}` is of another type than `{wanted}`")]
    OtherType {
        /// The name.
        name: String,
        /// The type that was looked for.
        wanted: &'static str,
    },
    /// The process that keeps the names does not answer.
    #[error("nobody answers for the names of actors: {message}")]
    Unreachable {
        /// What happened.
        message: String,
    },
}

/// Why a supervisor did not do what it was asked.
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
///     let supervisor = Supervisor::builder().child(ChildSpec::actor::<Counter>("visits", (0,))).start()?;
///     match supervisor.start_child(ChildSpec::actor::<Counter>("visits", (100,))) {
///         Err(SupervisorError::DuplicateId { id }) => assert_eq!(id, "visits"), // what was there runs on
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
    #[error("child `{id}` did not start")]
    Start {
        /// Its id.
        id: String,
        /// Why not.
        #[source]
        source: Box<StartError>,
    },
    /// Two children with one id.
    #[error("there is a child with the id `{id}` already")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// An id with a `/`, which stands between the ids in the path of a nested child.
    #[error(
        "a child cannot have the id `{id}`: `/` stands between the ids of nested supervisors, use another character"
    )]
    InvalidId {
        /// The id.
        id: String,
    },
    /// A period of 0, within which nothing ever happens, so that there would be no limit.
    #[error(
        "a period of 0 limits no restarts: use a longer one, or `intensity(usize::MAX)` for restarts without limit"
    )]
    ZeroPeriod,
    /// There is no such child.
    #[error("there is no child with the id `{id}`")]
    NotFound {
        /// The id.
        id: String,
    },
    /// The child is up, or about to be.
    #[error("child `{id}` is not stopped")]
    Running {
        /// The id.
        id: String,
    },
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Ended,
    /// The system refused something that it needs.
    #[error("the supervisor was not started")]
    Create {
        /// What.
        #[source]
        source: CreateError,
    },
}

debug_with_text! {
    CallError { Timeout, Restarted, Down, Cycle, Encode, Decode, Refused, Io }
    StartError { Spawn, Create, Down, Timeout, NameTaken }
    LookupError { NotFound, OtherType, Unreachable }
    SupervisorError { Start, DuplicateId, InvalidId, ZeroPeriod, NotFound, Running, Ended, Create }
}
