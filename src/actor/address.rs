//! The address of an actor.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::actor::actor::Actor;
use crate::actor::chain;
use crate::actor::client::call::put_within;
use crate::actor::client::connection::{ActorConnection, Host};
use crate::actor::host::directory;
use crate::actor::monitor::Monitor;
use crate::actor::protocol::{
    ActorKey, ActorStatus, DirectoryRequest, MailboxItem, UntypedRef, own_process_number,
};
use crate::error::{CallError, CastError, DownReason, PutTimeoutError};
use crate::ipc::deadline::Deadline;
use crate::ipc::wire;
use crate::queue::ANSWER_WITHIN;

/// How long a call waits for its reply, and a cast for room. OTP's default.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// The address of an actor. It is cheap to clone, and can be sent in worker fields, queue items and
/// messages.
///
/// Dropping it does nothing to the actor. It works in any process of the tree, and stays valid when
/// the actor is restarted.
///
/// **A call times out after 5 s by default**, unlike the other blocking calls of this crate.
/// [`call_timeout`](ActorRef::call_timeout) sets the timeout of one call,
/// [`with_timeout`](ActorRef::with_timeout) that of an address. A timeout does not take the call
/// back: the actor may still handle its message.
///
/// # Order and delivery of messages
///
/// - The casts of one process are handled in the order in which it sent them, and its calls after
///   the casts that it sent before. Calls bypass the mailbox where they can. So there are two kinds
///   of calls that may be handled after messages that were sent later: a call that timed out, and a
///   call that exceeds 16 waiting calls of its process.
/// - A call is handled at most once. If the actor dies before it replies, the call returns an error
///   at once, and the message may have been handled.
/// - A cast that has entered the mailbox survives the death of its sender. It also survives the
///   death of the incarnation, if a supervisor restarts the actor. The cast that is being handled
///   when the actor dies is not handled again, unless
///   [`ActorBuilder::redeliver`](crate::actor::ActorBuilder::redeliver) asks for it.
/// - **The mailbox ends with the actor.** When an actor is down for good, because it has no
///   supervisor or its supervisor gave up, the messages in its mailbox are dropped, and a warning
///   with their number is logged. When the process that started the actor ends, they are lost too.
///
/// ```
/// use offspring::actor::{ActorRef, spawn};
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
/// #[offspring::worker]
/// fn visitor(counter: CounterHandle) -> u64 {
///     counter.add(2).expect("it lives")
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = spawn::<Counter>((1,))?;
///     let address: ActorRef<Counter> = counter.address();
///     let here = CounterHandle::from(address.clone()); // with the methods of `impl Counter`
///     let elsewhere = visitor::spawn(here.clone())?; // in another process
///     assert_eq!(elsewhere.join()?, 3);
///     assert_eq!(here.add(0)?, 3);
///     drop(counter); // its owner stops it, and addresses learn of it
///     assert!(address.monitor()?.wait().reason.is_normal());
///     assert!(here.add(1).is_err());
///     Ok(())
/// }
/// ```
pub struct ActorRef<A: Actor> {
    pub(super) connection: Arc<ActorConnection<A::Message, A::Reply>>,
    timeout: Duration,
    actor: PhantomData<fn() -> A>,
}

#[cfg(test)]
impl<A: Actor> ActorRef<A> {
    /// Tries to close the mailbox, which this process has put into.
    pub(crate) fn close_mailbox(&self) {
        let mailbox = self.connection.mailbox.get();
        let _ = mailbox.expect("it is known after a cast").close();
    }
}

/// A typed address of an actor: an [`ActorRef`], or the handle that `#[offspring::actor]` makes,
/// such as `CounterHandle`. Plain data: dropping one does nothing.
///
/// ```
/// use offspring::actor::{ActorHandle, LookupError, find};
///
/// struct Counter(u64);
///
/// #[offspring::actor]
/// impl Counter {
///     fn start(value: u64) -> Self {
///         Counter(value)
///     }
///
///     pub fn get(&self) -> u64 {
///         self.0
///     }
/// }
///
/// /// Returns a handle with the methods of the actor of this name.
/// fn look_up<H: ActorHandle>(name: &str) -> Result<H, LookupError> {
///     find::<H::Actor>(name).map(H::from)
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let builder = offspring::ActorBuilder::new().register("counter");
///     let _counter = builder.spawn::<Counter>((3,))?;
///     assert_eq!(look_up::<CounterHandle>("counter")?.get()?, 3);
///     Ok(())
/// }
/// ```
pub trait ActorHandle: From<ActorRef<Self::Actor>> {
    /// The actor.
    type Actor: Actor;
}

impl<A: Actor> ActorHandle for ActorRef<A> {
    type Actor = A;
}

impl<A: Actor> ActorRef<A> {
    pub(super) fn new(key: ActorKey, name: &str, host: Host, timeout: Duration) -> ActorRef<A> {
        ActorRef { connection: ActorConnection::to(key, name, host), timeout, actor: PhantomData }
    }

    /// Returns the actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.connection.name
    }

    /// Returns the same address with another timeout for calls and casts. Default: 5 s.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> ActorRef<A> {
        ActorRef { connection: self.connection.clone(), timeout, actor: PhantomData }
    }

    /// Returns how long a call waits for its reply, and a cast for room in the mailbox.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a message and waits for the reply, for at most the address's
    /// [`timeout`](ActorRef::timeout): **5 s by default**.
    ///
    /// While the actor is being restarted, the call waits for the next incarnation. A call that was
    /// made before the death was noticed returns [`CallError::Restarted`].
    ///
    /// # Errors
    ///
    /// - [`CallError::Timeout`] if no reply came in time. If the actor's host, the process that
    ///   started it, is suspended, this may take up to 3 s longer.
    /// - [`CallError::Restarted`] or [`CallError::Down`] if the actor died before it replied, or is
    ///   down.
    /// - [`CallError::Cycle`] if the call would wait for itself.
    /// - [`CallError::Encode`], [`Decode`](CallError::Decode) or [`Refused`](CallError::Refused) if
    ///   the message or the reply does not cross.
    /// - [`CallError::Io`] if the system refuses a resource that the call needs.
    pub fn call(&self, message: A::Message) -> Result<A::Reply, CallError> {
        self.call_timeout(message, self.timeout)
    }

    /// Like [`call`](ActorRef::call), with this timeout.
    ///
    /// # Errors
    ///
    /// Those of [`call`](ActorRef::call).
    pub fn call_timeout(
        &self,
        message: A::Message,
        timeout: Duration,
    ) -> Result<A::Reply, CallError> {
        self.connection.call(message, timeout)
    }

    /// Like [`call`](ActorRef::call), as a future that works with every executor. Needs the feature
    /// `async`.
    ///
    /// The call and its timeout begin when the future is first polled. It occupies no thread.
    /// Dropping the future gives up the reply; the actor may still handle the message.
    ///
    /// # Errors
    ///
    /// Those of [`call`](ActorRef::call).
    #[cfg(feature = "async")]
    pub fn call_async(
        &self,
        message: A::Message,
    ) -> impl Future<Output = Result<A::Reply, CallError>> + Send + use<A> {
        self.connection.call_async(message, self.timeout)
    }

    /// Puts a message into the mailbox, and returns without waiting for its handling.
    ///
    /// While the mailbox is full, waits for at most the address's [`timeout`](ActorRef::timeout).
    /// When it returns `Ok`, the message survives the death of this process, and a restart of the
    /// actor.
    ///
    /// # Errors
    ///
    /// [`CastError`], which returns the message: [`Full`](CastError::Full) if there was no room in
    /// time, [`Down`](CastError::Down) if the actor is down for good.
    pub fn cast(&self, message: A::Message) -> Result<(), CastError<A::Message>> {
        self.cast_timeout(message, self.timeout)
    }

    /// Like [`cast`](ActorRef::cast), but does not wait for room.
    ///
    /// The first cast from a process asks the actor's host, the process that started it, where the
    /// mailbox is. It waits about 3 s at most for the answer.
    ///
    /// # Errors
    ///
    /// Those of [`cast`](ActorRef::cast).
    pub fn try_cast(&self, message: A::Message) -> Result<(), CastError<A::Message>> {
        self.cast_timeout(message, Duration::ZERO)
    }

    /// Like [`cast`](ActorRef::cast), but waits for room for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`cast`](ActorRef::cast).
    pub fn cast_timeout(
        &self,
        message: A::Message,
        timeout: Duration,
    ) -> Result<(), CastError<A::Message>> {
        let limit = Deadline::after(timeout);
        // Finding the mailbox has a time limit of its own: a first `try_cast` must not fail because
        // of it.
        let patience = timeout.max(ANSWER_WITHIN);
        let actor = || self.name().to_owned();
        let mailbox = match self.connection.mailbox(&Deadline::after(patience)) {
            Ok(Some(mailbox)) => mailbox,
            Ok(None) => {
                let cause = format!(
                    "the process that started it did not answer within {patience:?} (is it suspended?)"
                );
                return Err(CastError::Io { actor: actor(), message, cause });
            }
            Err(CallError::Down { reason, .. }) => {
                return Err(CastError::Down { actor: actor(), message, reason });
            }
            Err(CallError::Io { message: cause, .. }) => {
                return Err(CastError::Io { actor: actor(), message, cause });
            }
            Err(error) => {
                return Err(CastError::Io { actor: actor(), message, cause: error.to_string() });
            }
        };
        match put_within(mailbox, MailboxItem::Cast(message), &limit) {
            Ok(()) => {
                self.connection.count_cast();
                Ok(())
            }
            Err(error) => Err(self.cast_error(error)),
        }
    }

    fn cast_error(&self, error: PutTimeoutError<MailboxItem<A::Message>>) -> CastError<A::Message> {
        let actor = self.name().to_owned();
        match error {
            PutTimeoutError::Timeout(item) | PutTimeoutError::Abandoned(item) => {
                CastError::Full { actor, message: item.into_message() }
            }
            PutTimeoutError::Closed(item) => {
                // The host closes the mailbox just before it publishes why.
                let reason =
                    self.connection.wait(&Deadline::after(TIMEOUT), |status, _| match status {
                        ActorStatus::Down { reason, .. } => Some(reason.clone()),
                        _ => None,
                    });
                let reason = reason.ok().flatten().unwrap_or(DownReason::OwnerGone);
                CastError::Down { actor, message: item.into_message(), reason }
            }
            PutTimeoutError::Disconnected(item) => {
                let reason = DownReason::OwnerGone;
                CastError::Down { actor, message: item.into_message(), reason }
            }
            PutTimeoutError::Encode(item, cause) => {
                CastError::Encode { actor, message: item.into_message(), cause }
            }
            PutTimeoutError::Handle(item, error) => {
                CastError::Io { actor, message: item.into_message(), cause: error.to_string() }
            }
        }
    }

    /// Returns the number of the incarnation that is up, or was up last: 0 for the first.
    ///
    /// This is also the [`generation`](crate::process::CurrentProcess::generation) of the actor's
    /// process. Only the first call in a process asks the host.
    ///
    /// # Errors
    ///
    /// [`CallError::Down`] if the host process is gone, [`CallError::Timeout`] if it does not
    /// answer within the address's [`timeout`](ActorRef::timeout).
    pub fn generation(&self) -> Result<u64, CallError> {
        let limit = Deadline::after(self.timeout);
        let known = self.connection.wait(&limit, |status, ended| match status {
            ActorStatus::Starting => Some(ended.back().map_or(0, |(generation, _)| generation + 1)),
            ActorStatus::Up { generation, .. }
            | ActorStatus::Restarting { generation, .. }
            | ActorStatus::Down { generation, .. } => Some(*generation),
        })?;
        known.ok_or_else(|| self.connection.timed_out(self.timeout))
    }

    /// Watches the incarnation that is up now. If the actor is down already, the monitor returns
    /// its end at once.
    ///
    /// # Errors
    ///
    /// Those of [`generation`](ActorRef::generation), except [`CallError::Down`], which becomes the
    /// end that the monitor reports.
    pub fn monitor(&self) -> Result<Monitor, CallError> {
        let generation = match self.generation() {
            Ok(generation) => generation,
            Err(CallError::Down { .. }) => 0,
            Err(error) => return Err(error),
        };
        Ok(Monitor::new(self.connection.clone(), generation))
    }

    /// Asks the actor to stop after the messages that are in its mailbox now, and waits for its
    /// end, for at most the address's [`timeout`](ActorRef::timeout).
    ///
    /// Any process may do this. The actor ends with [`DownReason::Shutdown`], which is not a
    /// failure: a supervisor restarts it only if it is permanent. An actor that does not stop in
    /// time is not killed.
    ///
    /// # Errors
    ///
    /// [`CallError::Timeout`] if it has not ended in time; [`CallError::Cycle`] in its own handler.
    pub fn stop(&self) -> Result<DownReason, CallError> {
        chain::check_cycle(&chain::current().callers, self.connection.key, self.name())?;
        let monitor = self.monitor()?;
        match &self.connection.host {
            Host::Local(record) => record.request_stop_briefly(),
            Host::Remote(directory) => {
                let number = self.connection.key.number;
                let request = DirectoryRequest::Stop { number };
                match directory.put_timeout(request, self.timeout) {
                    Ok(()) => {}
                    Err(error) if error.is_timeout() => {
                        return Err(self.connection.timed_out(self.timeout));
                    }
                    Err(PutTimeoutError::Handle(_, error)) if !error.is_end() => {
                        return Err(self.connection.io(error));
                    }
                    Err(_) => return Ok(DownReason::OwnerGone),
                }
            }
        }
        let down = monitor.wait_timeout(self.timeout);
        down.map(|down| down.reason).ok_or_else(|| self.connection.timed_out(self.timeout))
    }

    pub(crate) fn to_untyped(&self) -> Result<UntypedRef, String> {
        let directory = match &self.connection.host {
            Host::Local(_) => directory::own_directory().map_err(|error| error.to_string())?,
            Host::Remote(directory) => directory.clone(),
        };
        Ok(UntypedRef {
            key: self.connection.key,
            name: self.connection.name.clone(),
            fingerprint: fingerprint::<A>(),
            directory,
        })
    }

    /// Returns `None` if the actor is of another type.
    pub(crate) fn from_untyped(actor: UntypedRef, timeout: Duration) -> Option<ActorRef<A>> {
        if actor.fingerprint != fingerprint::<A>() {
            return None;
        }
        let local = (actor.key.host == own_process_number())
            .then(|| directory::find_record(actor.key.number))
            .flatten();
        let host = local.map_or(Host::Remote(actor.directory), Host::Local);
        Some(ActorRef::new(actor.key, &actor.name, host, timeout))
    }
}

fn fingerprint<A: Actor>() -> u64 {
    wire::fingerprint(std::any::type_name::<A>())
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> ActorRef<A> {
        self.with_timeout(self.timeout)
    }
}

impl<A: Actor> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorRef")
            .field("actor", &std::any::type_name::<A>())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl<A: Actor> PartialEq for ActorRef<A> {
    fn eq(&self, other: &ActorRef<A>) -> bool {
        self.connection.key == other.connection.key
    }
}

impl<A: Actor> Eq for ActorRef<A> {}

impl<A: Actor> std::hash::Hash for ActorRef<A> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.connection.key.hash(state);
    }
}

impl<A: Actor> Serialize for ActorRef<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let actor = self.to_untyped().map_err(|error| wire::explain::<S::Error>(&error))?;
        (self.timeout, actor).serialize(serializer)
    }
}

impl<'de, A: Actor> Deserialize<'de> for ActorRef<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (timeout, actor) = Deserialize::deserialize(deserializer)?;
        ActorRef::from_untyped(actor, timeout)
            .ok_or_else(|| wire::explain_de("the address is that of an actor of another type"))
    }
}
