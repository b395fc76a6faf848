//! What an actor is, and what it knows of itself.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::address::ActorRef;
use crate::actor::protocol::{Blob, Ending, Request};
use crate::channel::Sender;
use crate::error::{DecodeError, DownReason, EncodeError, SendError, is_starved};
use crate::ipc::wire::{self, Retry};
use crate::sys::lock;

/// A process with a state, that handles messages one at a time: OTP's `gen_server`.
///
/// The state is built in the new process by [`start`](Actor::start), and never leaves it. Messages come
/// from any process that has an [`ActorRef`]: as a *call*, whose sender waits for the reply, or as a *cast*, whose
/// sender goes on.
///
/// `#[offspring::actor]` on an `impl` block writes all of this; by hand it is:
///
/// ```
/// use offspring::actor::{Actor, ActorRef, Context};
/// use serde::{Deserialize, Serialize};
///
/// struct Counter {
///     value: u64,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// enum Message {
///     Add(u64),
///     Get,
/// }
///
/// impl Actor for Counter {
///     type Args = u64;
///     type Message = Message;
///     type Reply = u64;
///
///     fn start(value: u64, _: &Context<Counter>) -> Result<Counter, Box<dyn std::error::Error>> {
///         Ok(Counter { value })
///     }
///
///     fn handle(&mut self, message: Message) -> u64 {
///         if let Message::Add(n) = message {
///             self.value += n;
///         }
///         self.value
///     }
/// }
///
/// offspring::register_actor!(Counter);
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = offspring::actor::spawn::<Counter>(10)?;
///     counter.cast(Message::Add(5))?;
///     assert_eq!(counter.call(Message::Get)?, 15);
///     counter.stop();
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an actor",
    label = "not an actor",
    note = "put `#[offspring::actor]` on its `impl` block, or write `impl offspring::actor::Actor for {Self}`"
)]
pub trait Actor: Sized + Send + 'static {
    /// What [`start`](Actor::start) takes; it crosses to the new process.
    type Args: Serialize + DeserializeOwned + 'static;
    /// What it can be asked: usually an enum.
    type Message: Serialize + DeserializeOwned + Send + 'static;
    /// What it answers: usually an enum with a variant for each message.
    type Reply: Serialize + DeserializeOwned + Send + 'static;

    /// Builds the state, in the new process. Who started the actor waits for it.
    ///
    /// # Errors
    ///
    /// An error ends the process, and becomes the text of [`DownReason::Failed`].
    fn start(args: Self::Args, context: &Context<Self>) -> Result<Self, Box<dyn Error>>;

    /// Handles one message. What it returns is the reply of a call, and dropped after a cast. A panic ends
    /// the process.
    fn handle(&mut self, message: Self::Message) -> Self::Reply;

    /// Runs when the actor stops in an orderly way, before its process ends: not after a panic or a kill.
    fn stop(&mut self, reason: &DownReason) {
        let _ = reason;
    }

    /// What the next incarnation should know, asked for after each message and before its reply is sent. It is
    /// safe from the death of this process when the reply is seen. `None`, the default, leaves the last one as it is.
    fn checkpoint(&self) -> Option<Checkpoint> {
        None
    }
}

/// A value for the next incarnation of an actor: see [`Actor::checkpoint`]. Plain data: `Drop` does nothing.
///
/// ```
/// use offspring::actor::{Checkpoint, Context};
/// use offspring::supervisor::{ChildSpec, Supervisor};
///
/// struct Tally(u64);
///
/// #[offspring::actor]
/// impl Tally {
///     fn start(context: &Context<Self>) -> Result<Self, Box<dyn std::error::Error>> {
///         Ok(Tally(context.checkpoint()?.unwrap_or(0)))
///     }
///
///     fn checkpoint(&self) -> Option<Checkpoint> {
///         Checkpoint::new(&self.0).ok()
///     }
///
///     pub fn count(&mut self) -> u64 {
///         self.0 += 1;
///         self.0
///     }
///
///     pub fn crash(&self) {
///         std::process::abort();
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().child(ChildSpec::actor::<Tally>("tally", ())).start()?;
///     let tally = TallyHandle::from(supervisor.actor("tally").expect("it is there"));
///     assert_eq!(tally.count()?, 1);
///     assert!(tally.crash().is_err());
///     assert_eq!(tally.count()?, 2); // another process, which knows how far the first one came
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint(pub(crate) Blob);

impl Checkpoint {
    /// Encodes the value.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if it does not encode, or if there are handles in it: they would not survive.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Checkpoint, EncodeError> {
        let encoded = wire::encode_copy(value)?;
        if encoded.handles.is_empty() {
            Ok(Checkpoint(Blob(encoded.bytes)))
        } else {
            Err(EncodeError::new::<T>(
                "a checkpoint cannot hold handles: pass them as arguments",
            ))
        }
    }
}

/// What an actor knows of itself: given to [`Actor::start`], to be kept in the state if it is needed later.
///
/// Clones share it; dropping one does nothing.
///
/// ```
/// use offspring::actor::{Context, DownReason};
///
/// struct Job {
///     left: u32,
///     context: Context<Job>,
/// }
///
/// #[offspring::actor]
/// impl Job {
///     fn start(steps: u32, context: &Context<Self>) -> Self {
///         Job { left: steps, context: context.clone() }
///     }
///
///     /// Whether it was the last one.
///     pub fn step(&mut self) -> bool {
///         self.left -= 1;
///         if self.left == 0 {
///             self.context.stop(); // after this message
///         }
///         self.left == 0
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let job = Job::spawn(2)?;
///     let monitor = job.monitor()?;
///     assert!(!job.step()?);
///     assert!(job.step()?); // the last one
///     assert_eq!(monitor.wait().reason, DownReason::Normal);
///     Ok(())
/// }
/// ```
pub struct Context<A: Actor> {
    pub(crate) inner: Arc<Inner>,
    pub(crate) address: ActorRef<A>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) generation: u64,
    pub(crate) previous: Option<DownReason>,
    pub(crate) checkpoint: Option<Blob>,
    /// Asked for by the actor itself.
    pub(crate) ending: Mutex<Option<Ending>>,
    /// Whether there is something to look for between two messages: an ending, a panic.
    pub(crate) news: AtomicBool,
    /// To this very process.
    pub(crate) door: Sender<Request>,
}

impl<A: Actor> Context<A> {
    /// The actor's own address, to be given to others. A call to itself is an error, a cast is fine.
    #[must_use]
    pub fn address(&self) -> &ActorRef<A> {
        &self.address
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.address.name()
    }

    /// Which incarnation this is: 0 for the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// How the incarnation before this one ended; `None` in the first.
    #[must_use]
    pub fn previous(&self) -> Option<&DownReason> {
        self.inner.previous.as_ref()
    }

    /// The last [`checkpoint`](Actor::checkpoint) of the incarnations before this one.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is of another type.
    pub fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, DecodeError> {
        self.inner.checkpoint.as_ref().map(Blob::decode).transpose()
    }

    /// Stops the actor after the message that it handles now. A transient actor is not started again.
    pub fn stop(&self) {
        self.end(Ending::Normal);
    }

    /// As [`stop`](Context::stop), for a reason that counts as a failure.
    pub fn fail(&self, error: impl fmt::Display) {
        self.end(Ending::Failed(error.to_string()));
    }

    fn end(&self, ending: Ending) {
        self.inner.end(ending);
    }
}

impl Inner {
    /// The first one counts.
    pub(crate) fn set_ending(&self, ending: Ending) {
        lock(&self.ending).get_or_insert(ending);
        self.news.store(true, Ordering::Release);
    }

    pub(crate) fn end(&self, ending: Ending) {
        self.set_ending(ending);
        self.wake();
    }

    /// Has the main thread look at what there is to do. The first time needs descriptors, and goes on when there are some.
    pub(crate) fn wake(&self) {
        let mut retry = Retry::default();
        loop {
            match self.door.send(Request::Wake) {
                Err(SendError::Io(_, error)) if is_starved(&error) => retry.pause(&error),
                // The way to itself is closed only if its receiver is gone, and with it the actor.
                _ => return,
            }
        }
    }
}

impl<A: Actor> Clone for Context<A> {
    fn clone(&self) -> Context<A> {
        Context {
            inner: self.inner.clone(),
            address: self.address.clone(),
        }
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("address", &self.address)
            .field("generation", &self.inner.generation)
            .finish_non_exhaustive()
    }
}
