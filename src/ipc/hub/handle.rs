//! Handles of shared objects: how they travel, and how a process that receives one attaches to the
//! object.
//!
//! On its way, a handle is a [`HandleToken`] in the encoded value and, beside the value, an
//! *in-flight reference*: the sending end of a channel to the hub of the object's owner. The hub
//! sees this channel close when the handle has arrived or was lost, so the object lives as long as
//! a handle is on its way. A process that receives a handle keeps the reference until the owner has
//! accepted the attachment. From then on, the attachment keeps the object alive.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize, de, ser};

use crate::ipc::deadline::{TimeLimit, Waited};
use crate::ipc::hub::{HubId, ObjectKey, SharedObject, ToHub, object, service};
use crate::ipc::wire::{self, CheckedSender, Failure, WireHandle};
use crate::sys::{self, lock};

/// Identifies an object among those of all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ObjectId {
    pub(crate) hub: HubId,
    pub(crate) key: ObjectKey,
}

/// A process's attachment to an object of another process.
pub(crate) trait RemoteObject: Sized {
    type Error: From<Failure>;

    /// Opens the attachment: sends the owner's hub what it needs, without waiting for its answer.
    ///
    /// `in_flight` opens the session with that hub if this process has none.
    fn open(
        id: ObjectId,
        fingerprint: u64,
        in_flight: &CheckedSender<ToHub>,
    ) -> Result<Arc<Self>, Self::Error>;

    /// Waits until the owner has accepted the attachment.
    fn wait_accepted<L: TimeLimit>(&self, limit: &L) -> Waited<(), Self::Error, L>;

    /// Makes a new in-flight reference, for a handle that this process sends on.
    fn in_flight(&self) -> io::Result<CheckedSender<ToHub>>;
}

/// A handle of an object of another process.
#[derive(Debug)]
pub(crate) struct RemoteHandle<A> {
    id: ObjectId,
    fingerprint: u64,
    opening: Mutex<Opening<A>>,
    /// Set once the owner has accepted.
    accepted: OnceLock<Arc<A>>,
}

/// What a handle has until the owner has accepted its attachment.
#[derive(Debug)]
struct Opening<A> {
    in_flight: Option<CheckedSender<ToHub>>,
    opened: Option<Arc<A>>,
    /// Why there is no reference.
    lacking: Option<String>,
}

#[cfg(test)]
impl<A> RemoteHandle<A> {
    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl<A: RemoteObject> RemoteHandle<A> {
    /// Returns the attachment, if the owner is known to have accepted it.
    #[inline]
    pub(crate) fn accepted(&self) -> Option<&Arc<A>> {
        self.accepted.get().filter(|_| !sys::is_fork())
    }

    /// Returns whether this process has not used the handle, and the owner is gone. Sends no message.
    pub(crate) fn is_lost(&self) -> bool {
        let opening = lock(&self.opening);
        opening.in_flight.as_ref().is_some_and(|owner| sys::is_at_end(owner.as_fd()))
    }

    /// Returns the attachment. The first call opens it.
    pub(crate) fn open(&self) -> Result<Arc<A>, A::Error> {
        sys::not_in_fork().map_err(Failure::Io)?;
        let mut opening = lock(&self.opening);
        if let Some(attachment) = self.accepted().or(opening.opened.as_ref()) {
            return Ok(attachment.clone());
        }
        if let Some(why) = &opening.lacking {
            return Err(Failure::Io(io::Error::other(why.clone())).into());
        }
        let in_flight = opening.in_flight.as_ref();
        let in_flight = in_flight.ok_or(Failure::Gone)?;
        let attachment = A::open(self.id, self.fingerprint, in_flight)?;
        opening.opened = Some(attachment.clone());
        Ok(attachment)
    }

    /// Waits until the owner has accepted the attachment, and returns it.
    pub(crate) fn attach<L: TimeLimit>(&self, limit: &L) -> Waited<&Arc<A>, A::Error, L> {
        if let Some(attachment) = self.accepted() {
            return Ok(attachment);
        }
        // Opened under the lock, waited for without it: each thread has a deadline of its own.
        let attachment = self.open()?;
        attachment.wait_accepted(limit)?;
        let attachment = self.accepted.get_or_init(|| attachment);
        // Only now: until the owner accepts, only the reference keeps the object alive.
        let mut opening = lock(&self.opening);
        opening.in_flight = None;
        opening.opened = None;
        Ok(attachment)
    }

    /// Returns a handle of another object, which lives as long as this one and is used in the same
    /// way. If the system refuses a resource for it, its calls return that error.
    pub(crate) fn narrowed(&self, key: ObjectKey, fingerprint: u64) -> RemoteHandle<A>
    where
        A: Send + Sync,
    {
        // It keeps this handle's object alive, and that keeps the other one alive.
        let (in_flight, lacking) = match self.in_flight() {
            Ok(in_flight) => (Some(in_flight), None),
            Err(why) => (None, Some(why)),
        };
        RemoteHandle {
            id: ObjectId { hub: self.id.hub, key },
            fingerprint,
            opening: Mutex::new(Opening { in_flight, opened: None, lacking }),
            accepted: OnceLock::new(),
        }
    }

    /// Returns an in-flight reference for a process to which this handle is sent on.
    ///
    /// Never waits for the owner, which may be stopped.
    fn in_flight(&self) -> Result<CheckedSender<ToHub>, String>
    where
        A: Send + Sync,
    {
        // Until the owner has accepted, a copy of the reference serves both processes: the hub
        // counts one handle as long as either has it.
        let opening = lock(&self.opening);
        if let Some(in_flight) = &opening.in_flight {
            return Ok(in_flight.clone());
        }
        drop(opening);
        let Some(attachment) = self.accepted() else {
            return Err(Failure::Gone.into_io().to_string());
        };
        attachment.in_flight().map_err(|error| error.to_string())
    }
}

/// A handle as it is written into a value; its in-flight reference travels beside the value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandleToken {
    id: ObjectId,
    /// The object's type, as far as two processes of one program can compare it.
    fingerprint: u64,
    /// The index of the in-flight reference among the value's handles.
    in_flight: u32,
}

/// What a handle becomes in the process that decodes it.
#[derive(Debug)]
pub(crate) enum Arrived<R, A> {
    /// The object belongs to this process: the handle has come home.
    Home(Arc<R>),
    Away(RemoteHandle<A>),
}

impl HandleToken {
    /// Returns the token of a handle of an object of this process, which was published under this
    /// key.
    pub(crate) fn of_local<E: ser::Error>(
        object: Arc<dyn SharedObject>,
        key: ObjectKey,
        fingerprint: u64,
    ) -> Result<HandleToken, E> {
        wire::may_note().map_err(wire::explain::<E>)?;
        let hub = service::hub_id().map_err(failed("could not start the hub"))?;
        let in_flight =
            service::in_flight(object).map_err(failed("could not make a handle to send"))?;
        HandleToken::new(ObjectId { hub, key }, fingerprint, in_flight)
    }

    /// Returns the token of a handle of an object of another process.
    pub(crate) fn of_remote<A: RemoteObject + Send + Sync, E: ser::Error>(
        handle: &RemoteHandle<A>,
    ) -> Result<HandleToken, E> {
        wire::may_note().map_err(wire::explain::<E>)?;
        let in_flight = handle
            .in_flight()
            .map_err(failed("could not get a handle to send from the object's owner"))?;
        HandleToken::new(handle.id, handle.fingerprint, in_flight)
    }

    fn new<E: ser::Error>(
        id: ObjectId,
        fingerprint: u64,
        in_flight: CheckedSender<ToHub>,
    ) -> Result<HandleToken, E> {
        let in_flight = wire::note(WireHandle::Sender(in_flight.to()));
        Ok(HandleToken { id, fingerprint, in_flight: in_flight.map_err(wire::explain::<E>)? })
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    /// Turns the token into a handle of an object of type `R`. If the object belongs to another
    /// process, this process has an `A` for it.
    pub(crate) fn arrive<R: SharedObject + 'static, A, E: de::Error>(
        self,
        fingerprint: u64,
    ) -> Result<Arrived<R, A>, E> {
        let in_flight = wire::claim(self.in_flight).map_err(wire::explain_de::<E>)?;
        let WireHandle::Sender(in_flight) = in_flight else {
            return Err(wire::explain_de("the handle came with another thing"));
        };
        if self.fingerprint != fingerprint {
            return Err(wire::explain_de("the handle is of another type"));
        }
        if service::is_local(self.id.hub) {
            let object = object::resolve(self.id.key);
            let object =
                object.ok_or_else(|| wire::explain_de::<E>("the object no longer exists"))?;
            // Compare with the object's own type, not with what the sender wrote into the token.
            let object = Some(object).filter(|object| object.fingerprint() == fingerprint);
            let object = object.and_then(|object| object.as_any().downcast().ok());
            return object
                .map(Arrived::Home)
                .ok_or_else(|| wire::explain_de("the handle is of another type"));
        }
        Ok(Arrived::Away(RemoteHandle {
            id: self.id,
            fingerprint,
            opening: Mutex::new(Opening {
                in_flight: Some(in_flight.to()),
                opened: None,
                lacking: None,
            }),
            accepted: OnceLock::new(),
        }))
    }
}

fn failed<E: ser::Error, D: fmt::Display>(act: &'static str) -> impl Fn(D) -> E {
    move |error| wire::explain(&format!("{act}: {error}"))
}
