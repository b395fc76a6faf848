//! The address of an actor.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::actor::actor::Actor;
use crate::actor::client::call::{after, put_until};
use crate::actor::client::connection::{ActorConnection, Way, end_of};
use crate::actor::host::directory;
use crate::actor::monitor::{Down, Monitor};
use crate::actor::protocol::{ActorKey, DeskRequest, Entry, Letter, Status, own_number};
use crate::error::{CallError, CastError, DownReason, PutTimeoutError};
use crate::ipc::wire;

/// How long a call waits for its reply, and a cast for room: OTP's default.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// The address of an actor: cheap to clone, to be sent in worker fields, queue items and messages.
///
/// Dropping it does nothing to the actor. It works from any process of the tree, and stays the actor's address when
/// the actor is started again after its death.
///
/// **What becomes of messages.** The casts of one process are handled in the order in which it sent them, its calls after the
/// casts before them. Calls have a way of their own: one that timed out may be handled after what was sent later, and so may
/// one of more than 16 that wait at once. A call is handled at most once; when the actor dies before it replied, the call
/// is an error at once, and the message may have been handled. A cast that was taken into the mailbox survives the death of its sender, and of the actor, until
/// it is handled; the one that is being handled when the actor dies is not handled again, unless
/// [`ActorBuilder::redeliver`](crate::actor::ActorBuilder::redeliver) asks for it.
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
///     drop(counter); // its owner stops it; addresses know
///     assert!(address.monitor()?.wait().reason.is_normal());
///     assert!(here.add(1).is_err());
///     Ok(())
/// }
/// ```
pub struct ActorRef<A: Actor> {
    pub(super) link: Arc<ActorConnection<A::Message, A::Reply>>,
    timeout: Duration,
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor> ActorRef<A> {
    pub(super) fn new(key: ActorKey, name: &str, way: Way, timeout: Duration) -> ActorRef<A> {
        ActorRef {
            link: ActorConnection::of(key, name, way),
            timeout,
            actor: PhantomData,
        }
    }

    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// The same address with another patience for calls and casts. Default: 5 s.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> ActorRef<A> {
        ActorRef {
            link: self.link.clone(),
            timeout,
            actor: PhantomData,
        }
    }

    /// How long a call waits for its reply, and a cast for room in the mailbox.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a message and waits for the reply, at most as long as the address's [`timeout`](ActorRef::timeout). While the
    /// actor is being restarted, the call waits for it.
    ///
    /// # Errors
    ///
    /// [`CallError`] says whether there was no reply in time, or the actor died before it replied, or the call would
    /// wait for itself.
    pub fn call(&self, message: A::Message) -> Result<A::Reply, CallError> {
        self.link.call(message, self.timeout)
    }

    /// As [`call`](ActorRef::call), but waits at most this long.
    ///
    /// # Errors
    ///
    /// As [`call`](ActorRef::call).
    pub fn call_timeout(
        &self,
        message: A::Message,
        timeout: Duration,
    ) -> Result<A::Reply, CallError> {
        self.link.call(message, timeout)
    }

    /// As [`call`](ActorRef::call), for tasks: needs the feature `async`, and works with every executor. The call begins when
    /// the future is polled, and costs no thread.
    ///
    /// Dropping the future gives up the reply; the actor may handle the message all the same.
    ///
    /// # Errors
    ///
    /// As [`call`](ActorRef::call).
    #[cfg(feature = "async")]
    pub fn call_async(
        &self,
        message: A::Message,
    ) -> impl Future<Output = Result<A::Reply, CallError>> + Send + use<A> {
        self.link.call_async(message, self.timeout)
    }

    /// Puts a message into the mailbox and goes on; waits while that is full, at most as long as the address's
    /// [`timeout`](ActorRef::timeout). When it returns, the message is safe from the death of this process, and of the actor.
    ///
    /// # Errors
    ///
    /// [`CastError`]; the message comes back with it.
    pub fn cast(&self, message: A::Message) -> Result<(), CastError<A::Message>> {
        self.cast_timeout(message, self.timeout)
    }

    /// As [`cast`](ActorRef::cast), without waiting for room.
    ///
    /// # Errors
    ///
    /// [`CastError::Full`], or as [`cast`](ActorRef::cast).
    pub fn try_cast(&self, message: A::Message) -> Result<(), CastError<A::Message>> {
        self.cast_timeout(message, Duration::ZERO)
    }

    /// As [`cast`](ActorRef::cast), but waits at most this long for room.
    ///
    /// # Errors
    ///
    /// As [`cast`](ActorRef::cast).
    pub fn cast_timeout(
        &self,
        message: A::Message,
        timeout: Duration,
    ) -> Result<(), CastError<A::Message>> {
        let deadline = after(timeout);
        // To learn where the mailbox is takes its time once, also for a `try_cast`.
        let mailbox = match self.link.mailbox(after(timeout.max(TIMEOUT))) {
            Ok(Some(mailbox)) => mailbox,
            Ok(None) => return Err(CastError::Full(message)),
            Err(CallError::Down { reason, .. }) => return Err(CastError::Down(message, reason)),
            Err(error) => return Err(CastError::Io(message, error.to_string())),
        };
        match put_until(mailbox, Letter::Cast(message), deadline) {
            Ok(()) => {
                self.link.note_cast();
                Ok(())
            }
            Err(error) => Err(self.cast_error(error)),
        }
    }

    fn cast_error(&self, error: PutTimeoutError<Letter<A::Message>>) -> CastError<A::Message> {
        match error {
            PutTimeoutError::Timeout(letter) | PutTimeoutError::Abandoned(letter) => {
                CastError::Full(letter.into_message())
            }
            PutTimeoutError::Closed(letter) => {
                let reason = self.link.wait(after(TIMEOUT), |status, _| match status {
                    Status::Down { reason, .. } => Some(reason.clone()),
                    _ => None,
                });
                CastError::Down(
                    letter.into_message(),
                    reason.ok().flatten().unwrap_or(DownReason::OwnerGone),
                )
            }
            PutTimeoutError::Disconnected(letter) => {
                CastError::Down(letter.into_message(), DownReason::OwnerGone)
            }
            PutTimeoutError::Encode(letter, error) => {
                CastError::Encode(letter.into_message(), error)
            }
            PutTimeoutError::Handle(letter, error) => {
                CastError::Io(letter.into_message(), error.to_string())
            }
        }
    }

    /// Which incarnation is up, or was the last: 0 for the first, as the process's
    /// [`generation`](crate::process::CurrentProcess::generation). Asks nobody after the first time.
    ///
    /// # Errors
    ///
    /// [`CallError::Down`] if the process that kept the actor is gone, [`CallError::Timeout`] if it does not answer.
    pub fn generation(&self) -> Result<u64, CallError> {
        let known = self
            .link
            .wait(after(self.timeout), |status, ended| match status {
                Status::Starting => Some(ended.back().map_or(0, |(generation, _)| generation + 1)),
                Status::Up { generation, .. }
                | Status::Restarting { generation, .. }
                | Status::Down { generation, .. } => Some(*generation),
            })?;
        known.ok_or_else(|| CallError::Timeout {
            actor: self.name().to_owned(),
            after: self.timeout,
        })
    }

    /// Watches the incarnation that is up now: tells once how it ended. If the actor is down already, it tells that.
    ///
    /// # Errors
    ///
    /// As [`generation`](ActorRef::generation).
    pub fn monitor(&self) -> Result<Monitor, CallError> {
        let generation = match self.generation() {
            Ok(generation) => generation,
            Err(CallError::Down { .. }) => 0,
            Err(error) => return Err(error),
        };
        let link = self.link.clone();
        let look = move |deadline| {
            let down = link.wait(deadline, |status, ended| {
                let (generation, reason) = end_of(ended, generation)?;
                Some(Down {
                    actor: link.name.clone(),
                    generation: *generation,
                    reason: reason.clone(),
                    restarts: !matches!(status, Status::Down { .. }),
                })
            });
            down.unwrap_or_else(|_| {
                Some(Down {
                    actor: link.name.clone(),
                    generation,
                    reason: DownReason::OwnerGone,
                    restarts: false,
                })
            })
        };
        Ok(Monitor::new(self.name(), look))
    }

    /// Asks the actor to stop, after what its mailbox holds now, and waits for its end, at most as long as the address's
    /// [`timeout`](ActorRef::timeout). An actor that is stopped by this counts as one that ended as it was meant to: its supervisor
    /// starts it again only if it is permanent.
    ///
    /// # Errors
    ///
    /// [`CallError::Timeout`] if it has not ended by then; [`CallError::Cycle`] in its own handler.
    pub fn stop(&self) -> Result<DownReason, CallError> {
        self.link.check_cycle_now()?;
        let monitor = self.monitor()?;
        match &self.link.way {
            Way::Here(post) => post.ask_to_stop_soon(),
            Way::There(desk) => {
                let number = self.link.key.number;
                if desk.put(DeskRequest::Stop { number }).is_err() {
                    return Ok(DownReason::OwnerGone);
                }
            }
        }
        monitor
            .wait_timeout(self.timeout)
            .map(|down| down.reason)
            .ok_or(CallError::Timeout {
                actor: self.name().to_owned(),
                after: self.timeout,
            })
    }

    pub(crate) fn entry(&self) -> Result<Entry, String> {
        let desk = match &self.link.way {
            Way::Here(_) => directory::own_desk().map_err(|error| error.to_string())?,
            Way::There(desk) => desk.clone(),
        };
        Ok(Entry {
            key: self.link.key,
            name: self.link.name.clone(),
            fingerprint: fingerprint::<A>(),
            desk,
        })
    }

    /// The address that an entry stands for; `None` if it is of another type.
    pub(crate) fn from_entry(entry: Entry, timeout: Duration) -> Option<ActorRef<A>> {
        if entry.fingerprint != fingerprint::<A>() {
            return None;
        }
        let here = (entry.key.owner == own_number())
            .then(|| directory::post(entry.key.number))
            .flatten();
        let way = here.map_or(Way::There(entry.desk), Way::Here);
        Some(ActorRef::new(entry.key, &entry.name, way, timeout))
    }
}

pub(super) fn fingerprint<A: Actor>() -> u64 {
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
        self.link.key == other.link.key
    }
}

impl<A: Actor> Eq for ActorRef<A> {}

impl<A: Actor> std::hash::Hash for ActorRef<A> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.link.key.hash(state);
    }
}

impl<A: Actor> Serialize for ActorRef<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self
            .entry()
            .map_err(|error| wire::explain::<S::Error>(&error))?;
        (self.timeout, entry).serialize(serializer)
    }
}

impl<'de, A: Actor> Deserialize<'de> for ActorRef<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (timeout, entry) = Deserialize::deserialize(deserializer)?;
        ActorRef::from_entry(entry, timeout)
            .ok_or_else(|| wire::explain_de("the address is of an actor of another type"))
    }
}
