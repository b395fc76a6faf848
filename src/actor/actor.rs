//! The trait of actors, and their checkpoints.

use std::error::Error;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::context::Context;
use crate::actor::protocol::Blob;
use crate::error::{DownReason, EncodeError};
use crate::ipc::wire::{self, Shape};

/// A process with a state that handles messages one at a time: OTP's `gen_server`.
///
/// The state is built in the new process by [`start`](Actor::start), and never leaves it. Messages
/// come from any process that has an [`ActorRef`](crate::actor::ActorRef): as a *call*, whose
/// sender waits for the reply, or as a *cast*, whose sender does not.
///
/// `#[offspring::actor]` on an `impl` block writes all of this. By hand it is:
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
    /// The arguments of [`start`](Actor::start), which cross to the new process.
    type Args: Serialize + DeserializeOwned + 'static;
    /// The messages: usually an enum.
    type Message: Serialize + DeserializeOwned + Send + 'static;
    /// The replies: usually an enum with a variant for each message.
    type Reply: Serialize + DeserializeOwned + Send + 'static;

    /// Builds the state, in the new process. The process that starts the actor waits for it.
    ///
    /// # Errors
    ///
    /// An error ends the process, and becomes the text of [`DownReason::Failed`].
    fn start(args: Self::Args, context: &Context<Self>) -> Result<Self, Box<dyn Error>>;

    /// Handles one message. The result is the reply to a call; after a cast it is dropped.
    ///
    /// A panic ends the process.
    fn handle(&mut self, message: Self::Message) -> Self::Reply;

    /// Runs before the process ends, if the actor stops in an orderly way: not after a panic or a
    /// kill.
    fn stop(&mut self, reason: &DownReason) {
        let _ = reason;
    }

    /// Returns what the next incarnation should know; `None`, the default, keeps the last
    /// checkpoint.
    ///
    /// Called after each message, before its reply is sent. So a caller that has the reply knows
    /// that the checkpoint will survive the death of this process. Each checkpoint is encoded and
    /// copied as a whole, so make one only if something has changed: the methods that change the
    /// state set a flag, and this method takes it back, as in the example of [`Checkpoint`].
    fn checkpoint(&mut self) -> Option<Checkpoint> {
        None
    }
}

/// A value for the next incarnation of an actor: see [`Actor::checkpoint`]. Plain data: `Drop` does
/// nothing.
///
/// ```
/// use offspring::actor::{Checkpoint, Context};
/// use offspring::supervisor::{ChildSpec, Supervisor};
///
/// struct Tally {
///     count: u64,
///     changed: bool,
/// }
///
/// #[offspring::actor]
/// impl Tally {
///     fn start(context: &Context<Self>) -> Result<Self, Box<dyn std::error::Error>> {
///         Ok(Tally { count: context.checkpoint()?.unwrap_or(0), changed: false })
///     }
///
///     fn checkpoint(&mut self) -> Option<Checkpoint> {
///         let changed = std::mem::take(&mut self.changed);
///         changed.then(|| Checkpoint::new(&self.count).expect("a number encodes"))
///     }
///
///     pub fn count(&mut self) -> u64 {
///         self.changed = true;
///         self.count += 1;
///         self.count
///     }
///
///     /// Changes nothing, so it makes no checkpoint.
///     pub fn get(&self) -> u64 {
///         self.count
///     }
///
///     pub fn crash(&self) {
///         std::process::abort();
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let tally = ChildSpec::actor::<Tally>("tally", ());
///     let supervisor = Supervisor::builder().child(tally).start()?;
///     let tally: TallyHandle = supervisor.handle("tally").expect("it is up");
///     assert_eq!(tally.count()?, 1);
///     assert!(tally.crash().is_err());
///     assert_eq!(tally.get()?, 1); // another process, which knows how far the first one came
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint(pub(crate) Blob);

impl Checkpoint {
    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the value does not encode, or holds handles, which would not survive.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Checkpoint, EncodeError> {
        let encoded = wire::encode_copy(value, Shape::Unknown)?;
        if encoded.handles.is_empty() {
            Ok(Checkpoint(Blob(encoded.bytes)))
        } else {
            Err(EncodeError::new::<T>("a checkpoint cannot hold handles: pass them as arguments"))
        }
    }
}
