//! The handle in both kinds of queue, in the owner's process and in others.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, DecodeError, GetError, HandleError, TaskDoneError};
use crate::ipc::block::block;
use crate::ipc::deadline::{Deadline, TimeLimit, WaitEnd, Waited};
use crate::ipc::hub::{self, Arrived, HandleToken, ObjectKey, RemoteHandle, SharedObject};
use crate::ipc::reactor::EventSource;
use crate::ipc::ring;
use crate::ipc::scratch::Scratch;
use crate::ipc::wire::{self, EncodedValue, Envelope, Shape, ShmBuffer, SideData};
use crate::process;
use crate::queue::client::attachment::AttachedQueue;
use crate::queue::client::driver::Blocking;
use crate::queue::item::{NewItem, Taken};
use crate::queue::options::QueueOptions;
use crate::queue::outcome::{
    ANSWER_WITHIN, PutFailure, QueueFailure, QueueJoined, or_unresponsive,
};
use crate::queue::owner::facet::Facet;
use crate::queue::owner::lock::QueueOwner;
use crate::queue::role::{ONE_WAY, Role};
use crate::sys;

/// An item that was taken and decoded.
pub(in crate::queue) struct Got<T> {
    pub(in crate::queue) value: T,
    pub(in crate::queue) lease: u64,
    pub(in crate::queue) attempts: u32,
}

/// A handle of a queue.
pub(in crate::queue) enum Handle {
    Own(OwnHandle),
    Remote(Arc<RemoteQueue>),
}

/// A handle in the owner's process, which counts such handles.
pub(in crate::queue) struct OwnHandle(Arc<Facet>);

impl OwnHandle {
    fn new(facet: Arc<Facet>) -> OwnHandle {
        facet.owner.add_handle(facet.role);
        OwnHandle(facet)
    }

    pub(in crate::queue) fn owner(&self) -> &Arc<QueueOwner> {
        &self.0.owner
    }

    #[cfg(test)]
    pub(in crate::queue) fn facet(&self) -> &Arc<Facet> {
        &self.0
    }

    /// Returns the queue, for a call. In a fork of this process, returns an error instead: there
    /// the queue is a copy, whose lock may be held by a thread that does not exist.
    #[inline]
    fn here(&self) -> Result<&QueueOwner, QueueFailure> {
        let here = sys::not_in_fork().map(|()| &**self.owner());
        here.map_err(|error| QueueFailure::io("use the queue", error))
    }
}

impl Drop for OwnHandle {
    fn drop(&mut self) {
        if !sys::is_fork() {
            self.owner().drop_handle(self.0.role);
        }
    }
}

/// A queue of another process. The first use attaches it.
pub(in crate::queue) struct RemoteQueue {
    handle: RemoteHandle<AttachedQueue>,
    facts: Facts,
    /// The fingerprint of the item type.
    item: u64,
    narrower: Vec<ObjectKey>,
}

/// Properties of a queue that every handle carries.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Facts {
    joinable: bool,
    role: Role,
    capacity: Option<usize>,
    /// The process id of the owner.
    owner: u32,
}

/// A handle as it is written into a value.
#[derive(Serialize, Deserialize)]
struct QueueToken {
    handle: HandleToken,
    facts: Facts,
    /// The keys of the facets that it can be narrowed to, in the order of [`ONE_WAY`].
    narrower: Vec<ObjectKey>,
}

#[cfg(test)]
impl RemoteQueue {
    pub(in crate::queue) fn id(&self) -> hub::ObjectId {
        self.handle.id()
    }

    pub(in crate::queue) fn fingerprint(&self) -> u64 {
        self.handle.fingerprint()
    }
}

impl RemoteQueue {
    /// Returns the attachment, if this process has used the queue.
    pub(in crate::queue) fn used(&self) -> Option<&Arc<AttachedQueue>> {
        self.handle.accepted()
    }

    /// Returns the attachment. The first use waits until the owner has accepted it.
    #[inline]
    pub(in crate::queue) fn attached<L: TimeLimit>(
        &self,
        limit: &L,
    ) -> Waited<&Arc<AttachedQueue>, QueueFailure, L> {
        match self.handle.accepted() {
            Some(attached) => Ok(attached),
            None => self.handle.attach(limit),
        }
    }

    #[cfg(feature = "async")]
    pub(in crate::queue) async fn attached_async(
        &self,
    ) -> Result<&Arc<AttachedQueue>, QueueFailure> {
        if self.used().is_none() {
            let driver = crate::queue::client::driver::Polled;
            let accepted = self.handle.open()?;
            let accepted = accepted.accepted(&driver).await;
            accepted.map_err(WaitEnd::into_failed)?;
        }
        // This does not wait, because the owner has accepted.
        let attached = self.attached(&crate::ipc::deadline::Forever);
        attached.map_err(WaitEnd::into_failed)
    }

    /// Returns the attachment, for a call that waits only for the owner's answer.
    #[inline]
    fn attached_soon(&self) -> Result<&Arc<AttachedQueue>, QueueFailure> {
        let attached = self.attached(&Deadline::after(ANSWER_WITHIN));
        attached.map_err(|end| or_unresponsive(end, self.facts.owner))
    }

    /// Asks the owner a question that it answers at once.
    fn ask<R>(
        &self,
        question: impl FnOnce(&AttachedQueue, &Deadline) -> Waited<R, QueueFailure, Deadline>,
    ) -> Result<R, HandleError> {
        let answer = Deadline::after(ANSWER_WITHIN);
        let asked = self.attached(&answer);
        let answered = asked.and_then(|attached| question(attached, &answer));
        answered.map_err(|end| or_unresponsive(end, self.facts.owner).into())
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        match self {
            Handle::Own(own) => Handle::Own(OwnHandle::new(own.0.clone())),
            Handle::Remote(remote) => Handle::Remote(remote.clone()),
        }
    }
}

impl Handle {
    /// Makes a queue, owned by this process.
    pub(in crate::queue) fn new<T>(
        options: QueueOptions,
        joinable: bool,
    ) -> Result<Handle, CreateError> {
        if options.capacity == Some(0) {
            return Err(CreateError::ZeroCapacity);
        }
        let item = std::any::type_name::<T>();
        let no_key = || CreateError::io("make a key for the queue");
        let key = ObjectKey::new().map_err(no_key())?;
        let owner = Arc::new(QueueOwner::new(options, joinable, item, key));
        let object: Arc<dyn SharedObject> = owner.clone();
        hub::publish(key, &object);
        let facet = Facet::of_queue(owner, ObjectKey::new).map_err(no_key())?;
        Ok(Handle::Own(OwnHandle::new(facet)))
    }

    /// Returns a handle with the given role, which is one of [`ONE_WAY`], made from a handle that
    /// does everything.
    pub(in crate::queue) fn narrowed(&self, role: Role) -> Handle {
        match self {
            Handle::Own(own) => Handle::Own(OwnHandle::new(own.0.narrowed(role))),
            Handle::Remote(remote) => {
                let place = ONE_WAY.iter().position(|&one_way| one_way == role);
                let key = place.and_then(|place| remote.narrower.get(place));
                let key = *key.expect("it is not narrowed twice");
                let item = remote.item;
                let handle = remote.handle.narrowed(key, role.fingerprint(item));
                let facts = Facts { role, ..remote.facts };
                Handle::Remote(Arc::new(RemoteQueue { handle, facts, item, narrower: Vec::new() }))
            }
        }
    }

    pub(in crate::queue) fn capacity(&self) -> Option<usize> {
        match self {
            Handle::Own(own) => own.owner().capacity,
            Handle::Remote(remote) => remote.facts.capacity,
        }
    }

    /// Returns the event source of a selector, or `None` if the owner cannot be reached.
    pub(in crate::queue) fn event_source(&self) -> Option<Arc<dyn EventSource>> {
        match self {
            Handle::Own(own) => Some(own.owner().clone()),
            Handle::Remote(remote) => {
                let attached = remote.handle.open().ok()?;
                Some(attached as Arc<dyn EventSource>)
            }
        }
    }

    pub(in crate::queue) fn fmt<T>(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("item", &std::any::type_name::<T>())
            .field("owner", &matches!(self, Handle::Own(_)))
            .finish_non_exhaustive()
    }
}

/// Putting.
impl Handle {
    pub(in crate::queue) fn put<T: Serialize + DeserializeOwned, L: TimeLimit>(
        &self,
        item: &T,
        limit: &L,
    ) -> Waited<(), PutFailure, L> {
        with_encoded(item, |item| match self {
            Handle::Own(own) => own.here()?.put(item, limit),
            Handle::Remote(remote) => remote.attached(limit)?.put(item, limit),
        })
    }

    /// Puts an item if the queue is not full. Waits only for the owner's answer.
    pub(in crate::queue) fn try_put<T: Serialize + DeserializeOwned>(
        &self,
        item: &T,
    ) -> Waited<(), PutFailure, Deadline> {
        with_encoded(item, |item| match self {
            Handle::Own(own) => own.here()?.put(item, &Deadline::now()),
            Handle::Remote(remote) => remote.attached_soon()?.try_put(item, remote.facts.owner),
        })
    }
}

/// Encodes an item and puts it. If it was not put, the handles in it come back.
#[inline]
fn with_encoded<T: Serialize + DeserializeOwned, E>(
    item: &T,
    put: impl FnOnce(NewItem<'_>) -> Result<(), WaitEnd<E, QueueFailure>>,
) -> Result<(), WaitEnd<E, PutFailure>> {
    let mut bytes = Scratch::take();
    match encode(item, &mut bytes) {
        Ok((None, _)) => put(NewItem::Bytes(&bytes)).map_err(WaitEnd::convert),
        Ok((Some(envelope), along)) => {
            let put = put(NewItem::Parcel(envelope)).map_err(WaitEnd::convert);
            // Handles in the item are on their way now, or no process will receive them.
            hub::announce();
            along.restore_unless_sent(put)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Encodes an item: into `bytes` if it fits a ring entry and holds no handles, and otherwise into
/// an envelope.
#[inline]
pub(in crate::queue) fn encode<T: Serialize + DeserializeOwned>(
    item: &T,
    bytes: &mut Vec<u8>,
) -> Result<(Option<Box<Envelope>>, SideData), PutFailure> {
    let mut memory = ShmBuffer::default();
    let encoded =
        wire::encode_spilling(item, Shape::of::<T>(), bytes, ring::ENTRY_MAX, &mut memory);
    let (spilled, mut along) = encoded.map_err(PutFailure::Encode)?;
    if spilled == 0 && along.is_empty() {
        return Ok((None, along));
    }
    let handles = along.take_handles();
    let envelope = if spilled > 0 {
        memory.into_envelope(handles)
    } else {
        let bytes = std::mem::take(bytes);
        Envelope::new(EncodedValue { bytes, handles })
    };
    match envelope {
        Ok(envelope) => Ok((Some(Box::new(envelope)), along)),
        Err(error) => {
            hub::announce();
            let failure = QueueFailure::io("make shared memory for the item", error);
            along.restore_unless_sent(Err(failure.into()))
        }
    }
}

/// Taking.
impl Handle {
    pub(in crate::queue) fn get<T: DeserializeOwned, L: TimeLimit>(
        &self,
        limit: &L,
    ) -> Waited<Got<T>, GetError, L> {
        let taken = self.take(1, limit).map_err(WaitEnd::convert)?;
        Ok(self.decode(taken).map_err(GetError::Decode)?)
    }

    pub(in crate::queue) fn try_get<T: DeserializeOwned>(
        &self,
    ) -> Waited<Got<T>, GetError, Deadline> {
        let taken = self.try_take(1).map_err(WaitEnd::convert)?;
        Ok(self.decode(taken).map_err(GetError::Decode)?)
    }

    /// Takes an item; `max` is the number of items that the caller can use at once.
    #[inline]
    pub(in crate::queue) fn take<L: TimeLimit>(
        &self,
        max: usize,
        limit: &L,
    ) -> Waited<Taken, QueueFailure, L> {
        match self {
            Handle::Own(own) => own.here()?.get(limit),
            Handle::Remote(remote) => remote.attached(limit)?.get(max, limit),
        }
    }

    #[inline]
    pub(in crate::queue) fn try_take(&self, max: usize) -> Waited<Taken, QueueFailure, Deadline> {
        match self {
            Handle::Own(own) => own.here()?.get(&Deadline::now()),
            Handle::Remote(remote) => remote.attached_soon()?.try_get(max, remote.facts.owner),
        }
    }

    /// Decodes an item. If it does not decode, it becomes a dead letter.
    pub(in crate::queue) fn decode<T: DeserializeOwned>(
        &self,
        mut taken: Taken,
    ) -> Result<Got<T>, DecodeError> {
        match taken.item.payload.decode::<T>() {
            Ok(value) => Ok(Got { value, lease: taken.lease, attempts: taken.item.attempts }),
            Err(error) => {
                match self {
                    Handle::Own(own) => own.owner().bury_undecodable(taken, error.clone()),
                    Handle::Remote(remote) => {
                        if let Some(attached) = remote.used() {
                            let joinable = remote.facts.joinable;
                            // If the owner is gone, so are its dead letters.
                            let _ = attached.return_undecodable(taken, joinable, &error);
                        }
                    }
                }
                Err(error)
            }
        }
    }
}

/// Leases, and the end of a queue.
impl Handle {
    /// Marks a leased item as finished. If the owner is gone, so is the lease.
    pub(in crate::queue) fn finish(&self, lease: u64) {
        match self {
            Handle::Own(own) => own.owner().end_lease(lease, true),
            Handle::Remote(remote) => {
                if let Some(attached) = remote.used().filter(|_| remote.facts.joinable) {
                    let _ = attached.finish(lease);
                }
            }
        }
    }

    /// Returns a leased item, which goes to the next consumer. Never waits.
    pub(in crate::queue) fn give_back(&self, lease: u64) {
        match self {
            Handle::Own(own) => own.owner().end_lease(lease, false),
            Handle::Remote(remote) => {
                if let Some(attached) = remote.used().filter(|_| remote.facts.joinable) {
                    attached.give_back(lease);
                }
            }
        }
    }

    pub(in crate::queue) fn detach_lease(&self, lease: u64) {
        match self {
            Handle::Own(own) => own.owner().detach_lease(lease),
            Handle::Remote(remote) => {
                if let Some(attached) = remote.used() {
                    attached.detach_lease(lease);
                }
            }
        }
    }

    pub(in crate::queue) fn task_done(&self) -> Result<(), TaskDoneError> {
        match self {
            Handle::Own(own) => {
                let lease = own.owner().next_detached().ok_or(TaskDoneError::TooMany)?;
                own.owner().end_lease(lease, true);
                Ok(())
            }
            Handle::Remote(remote) => {
                let attached = remote.used().ok_or(TaskDoneError::TooMany)?;
                let lease = attached.next_detached().ok_or(TaskDoneError::TooMany)?;
                attached.finish(lease).map_err(|_| TaskDoneError::Disconnected)
            }
        }
    }

    pub(in crate::queue) fn join<L: TimeLimit>(
        &self,
        limit: &L,
    ) -> Waited<QueueJoined, QueueFailure, L> {
        match self {
            Handle::Own(own) => own.here()?.join(limit),
            Handle::Remote(remote) => block(remote.attached(limit)?.join(&Blocking(limit))),
        }
    }

    pub(in crate::queue) fn close(&self) -> Result<(), HandleError> {
        match self {
            Handle::Own(own) => {
                own.here()?.close();
                Ok(())
            }
            Handle::Remote(remote) => match remote.ask(AttachedQueue::close) {
                // A queue whose owner is gone is closed.
                Err(HandleError::Disconnected) => Ok(()),
                outcome => outcome,
            },
        }
    }

    /// Closes the queue and drops the items in it. Returns how many it dropped.
    pub(in crate::queue) fn close_and_discard(&self) -> Result<usize, HandleError> {
        match self {
            Handle::Own(own) => Ok(own.here()?.close_and_discard()),
            Handle::Remote(remote) => remote.ask(AttachedQueue::close_and_discard),
        }
    }

    pub(in crate::queue) fn is_closed(&self) -> Result<bool, HandleError> {
        match self {
            Handle::Own(own) => Ok(own.here()?.is_closed()),
            Handle::Remote(remote) => match remote.ask(AttachedQueue::is_closed) {
                Err(HandleError::Disconnected) => Ok(true),
                outcome => outcome,
            },
        }
    }

    /// Returns whether another process made the queue.
    pub(in crate::queue) fn is_remote(&self) -> bool {
        matches!(self, Handle::Remote(_))
    }

    /// Returns whether the owner is known to be gone. Sends no message.
    pub(in crate::queue) fn is_orphan(&self) -> bool {
        match self {
            Handle::Own(_) => false,
            Handle::Remote(remote) => match remote.used() {
                Some(attached) => attached.is_over(),
                None => remote.handle.is_lost(),
            },
        }
    }

    pub(in crate::queue) fn len(&self) -> Result<usize, HandleError> {
        match self {
            Handle::Own(own) => Ok(own.here()?.len()),
            Handle::Remote(remote) => remote.ask(AttachedQueue::len),
        }
    }
}

/// The encoding of a handle that is sent to another process.
impl Handle {
    pub(in crate::queue) fn serialize<S: Serializer>(
        &self,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let token = match self {
            Handle::Own(own) => {
                let (facet, owner) = (&own.0, own.owner());
                QueueToken {
                    handle: HandleToken::of_local(facet.clone(), facet.key, facet.fingerprint())?,
                    facts: Facts {
                        joinable: owner.joinable,
                        role: facet.role,
                        capacity: owner.capacity,
                        owner: std::process::id(),
                    },
                    narrower: facet.narrower_keys(),
                }
            }
            Handle::Remote(remote) => QueueToken {
                handle: HandleToken::of_remote(&remote.handle)?,
                facts: remote.facts,
                narrower: remote.narrower.clone(),
            },
        };
        token.serialize(serializer)
    }

    pub(in crate::queue) fn deserialize<'de, T, D: Deserializer<'de>>(
        joinable: bool,
        role: Role,
        deserializer: D,
    ) -> Result<Handle, D::Error> {
        let QueueToken { handle, facts, narrower } = QueueToken::deserialize(deserializer)?;
        // Two processes of one program compare the item types by their names.
        let item = wire::fingerprint(std::any::type_name::<T>());
        let fingerprint = role.fingerprint(item);
        let arrived = handle.arrive::<Facet, AttachedQueue, D::Error>(fingerprint)?;
        let (is_joinable, actual) = match &arrived {
            Arrived::Home(facet) => (facet.owner.joinable, facet.role),
            Arrived::Away(_) => (facts.joinable, facts.role),
        };
        if is_joinable != joinable {
            return Err(wire::explain_de("the handle belongs to the other kind of queue"));
        }
        let all = if role == Role::Both { ONE_WAY.len() } else { 0 };
        if actual != role || narrower.len() != all {
            return Err(wire::explain_de("the handle puts or takes, and is to do the other"));
        }
        Ok(match arrived {
            Arrived::Home(facet) => {
                if process::is_inline() && role == Role::Both {
                    facet.owner.lock().set_inline();
                }
                Handle::Own(OwnHandle::new(facet))
            }
            Arrived::Away(handle) => {
                Handle::Remote(Arc::new(RemoteQueue { handle, facts, item, narrower }))
            }
        })
    }
}
