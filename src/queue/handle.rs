//! One handle for both kinds of queue, in the owner's process and in others.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use ipc_channel::ipc::IpcSender;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, DeadLetterError, DecodeError, GetError, HandleError, OrElapsed, QueueJoinError,
    TaskDoneError,
};
use crate::ipc::hub::{self, HubId, SharedObject, ToHub};
use crate::ipc::reactor::EventSource;
use crate::ipc::ring;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{self, Envelope, ShmBuffer, WireHandle};
use crate::process;
use crate::queue::builder::Limits;
use crate::queue::client::attachment::{Attached, RemoteEnd, Taken};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::dead_letter::DeadLetter;
use crate::queue::outcome::{ANSWER_WITHIN, Limit, Refused};
use crate::queue::owner::state::{Core, Payload};
use crate::sys;

/// An item that was taken and decoded.
pub(crate) struct Got<T> {
    pub(crate) value: T,
    pub(crate) lease: u64,
    pub(crate) attempts: u32,
}

pub(crate) enum Handle {
    Local(Local),
    Remote(Arc<Remote>),
}

/// Counts the handles of the owner's own process.
pub(crate) struct Local(Arc<Core>);

impl Local {
    pub(super) fn core(&self) -> &Core {
        &self.0
    }

    #[cfg(feature = "async")]
    pub(super) fn shared(&self) -> &Arc<Core> {
        &self.0
    }

    fn new(core: Arc<Core>) -> Local {
        core.handle(true);
        Local(core)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.0.handle(false);
    }
}

/// A queue of another process; attached on first use.
pub(crate) struct Remote {
    hub: HubId,
    resource: u64,
    fingerprint: u64,
    joinable: bool,
    capacity: Option<usize>,
    /// The process id of the owner.
    owner: u32,
    link: Mutex<Link>,
    attached: OnceLock<Arc<Attached>>,
}

/// What there is before the owner has accepted the attachment.
#[derive(Default)]
struct Link {
    /// Keeps the owner aware of this handle until the attachment does.
    ticket: Option<IpcSender<ToHub>>,
    opened: Option<Arc<Attached>>,
}

impl Remote {
    pub(super) fn attached(&self, deadline: Option<Instant>) -> Result<&Arc<Attached>, RemoteEnd> {
        if let Some(attached) = self.attached.get() {
            return Ok(attached);
        }
        // Opened under the lock, waited for without it: each thread has a deadline of its own.
        let attached = self.open()?;
        attached.wait_attached(deadline)?;
        let attached = self.attached.get_or_init(|| attached);
        *sys::lock(&self.link) = Link::default();
        Ok(attached)
    }

    #[cfg(feature = "async")]
    pub(super) fn peek(&self) -> Option<&Arc<Attached>> {
        self.attached.get()
    }

    /// A ticket for a process that the handle goes on to. Waits for nobody: the owner may be stopped.
    fn ticket(&self) -> Result<IpcSender<ToHub>, String> {
        let link = sys::lock(&self.link);
        let Some(attached) = self.attached.get() else {
            // One ticket for two: the owner counts a handle under way until neither has it.
            let held = link
                .ticket
                .as_ref()
                .ok_or_else(|| RemoteEnd::Gone.to_string())?;
            return wire::no_panic("ipc-channel", || held.clone())
                .map_err(|error| error.to_string());
        };
        drop(link);
        // On a thread of its own: what this one sends in the middle of an encoding would take along raw
        // handles of ipc-channel that were encoded before.
        let ticket =
            wire::on_helper_thread(|| attached.ticket().map_err(|error| error.to_string()));
        ticket.unwrap_or_else(|error| Err(error.to_string()))
    }

    pub(super) fn open(&self) -> Result<Arc<Attached>, RemoteEnd> {
        let mut link = sys::lock(&self.link);
        if let Some(attached) = self.attached.get().or(link.opened.as_ref()) {
            return Ok(attached.clone());
        }
        let held = link.ticket.as_ref().ok_or(RemoteEnd::Gone)?;
        let attached = Attached::open(self.hub, self.resource, self.fingerprint, held)?;
        link.opened = Some(attached.clone());
        Ok(attached)
    }
}

impl Remote {
    /// The attachment, for an operation with this limit.
    #[inline]
    fn attached_within(
        &self,
        limit: Limit,
        deadline: Option<Instant>,
    ) -> Result<&Arc<Attached>, RemoteEnd> {
        match self.attached.get() {
            Some(attached) => Ok(attached),
            // The first use waits until the owner has accepted the attachment.
            None if matches!(limit, Limit::Now) => {
                let attached = self.attached(Some(Instant::now() + ANSWER_WITHIN));
                attached.map_err(|end| end.or_unresponsive(self.owner))
            }
            None => self.attached(deadline),
        }
    }

    /// Asks the owner for something that it answers at once.
    fn ask_owner<R>(
        &self,
        question: impl FnOnce(&Attached, Instant) -> Result<R, RemoteEnd>,
    ) -> Result<R, HandleError> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let answer = self
            .attached(Some(deadline))
            .and_then(|attached| question(attached, deadline));
        answer.map_err(|end| match end.or_unresponsive(self.owner) {
            RemoteEnd::Handle(error) => error,
            RemoteEnd::Gone | RemoteEnd::Over(_) => HandleError::Disconnected,
        })
    }

    #[inline]
    fn put(
        &self,
        outgoing: &mut Outgoing<'_>,
        limit: Limit,
        deadline: Option<Instant>,
    ) -> Result<(), RemoteEnd> {
        let attached = self.attached_within(limit, deadline)?;
        if matches!(limit, Limit::Now) {
            attached.try_put(outgoing, self.owner)
        } else {
            attached.put(outgoing, deadline)
        }
    }

    /// Takes up to `most` more of the items that are here.
    pub(super) fn take_more(&self, most: usize, taken: &mut Vec<Taken>) {
        if let Some(attached) = self.attached.get() {
            attached.take_more(most, taken);
        }
    }

    #[inline]
    fn take(&self, limit: Limit, most: usize) -> Result<Taken, RemoteEnd> {
        let deadline = limit.deadline();
        let attached = self.attached_within(limit, deadline)?;
        if matches!(limit, Limit::Now) {
            attached.try_get(most, self.owner)
        } else {
            attached.get(deadline, most)
        }
    }
}

#[cfg(test)]
impl Handle {
    pub(super) fn core(&self) -> &Arc<Core> {
        match self {
            Handle::Local(local) => &local.0,
            Handle::Remote(_) => panic!("it belongs to another process"),
        }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        match self {
            Handle::Local(local) => Handle::Local(Local::new(local.0.clone())),
            Handle::Remote(remote) => Handle::Remote(remote.clone()),
        }
    }
}

/// The type of a queue's items, as far as two processes of one program can tell.
fn fingerprint<T>() -> u64 {
    wire::fingerprint(std::any::type_name::<T>())
}

impl Handle {
    pub(crate) fn new<T>(limits: Limits, joinable: bool) -> Result<Handle, CreateError> {
        if limits.capacity == Some(0) {
            return Err(CreateError::ZeroCapacity);
        }
        let core = Arc::new(Core::new(limits, joinable, std::any::type_name::<T>()));
        let resource: Arc<dyn SharedObject> = core.clone();
        core.number
            .store(hub::publish(&resource), Ordering::Relaxed);
        Ok(Handle::Local(Local::new(core)))
    }

    pub(crate) fn put<T: Serialize>(&self, item: &T, limit: Limit) -> Result<(), Refused> {
        let mut bytes = SCRATCH.with(Cell::take);
        bytes.clear();
        let mut memory = ShmBuffer::default();
        let outcome = match wire::encode_spilling(item, &mut bytes, ring::ENTRY_MAX, &mut memory) {
            Ok((0, along)) if along.is_empty() => {
                self.put_bytes(&bytes, limit).map_err(Refused::End)
            }
            Ok((spilled, mut along)) => {
                let put = self.put_packet(
                    &mut bytes,
                    (spilled > 0).then_some(memory),
                    along.take_handles(),
                    limit,
                );
                along.restore_unless_sent(put)
            }
            Err(error) => Err(Refused::Encode(error)),
        };
        SCRATCH.with(|scratch| scratch.set(bytes));
        outcome
    }

    #[inline]
    fn put_bytes(&self, bytes: &[u8], limit: Limit) -> Result<(), RemoteEnd> {
        let deadline = limit.deadline();
        match self {
            Handle::Local(local) => {
                let put = local
                    .0
                    .put(Payload::Bytes(SmallBytes::new(bytes)), deadline);
                put.map_err(|(_, over)| RemoteEnd::Over(over))
            }
            Handle::Remote(remote) => remote.put(&mut Outgoing::item(bytes, None), limit, deadline),
        }
    }

    /// Puts what does not go into a ring: a long item, or one with handles.
    fn put_packet(
        &self,
        bytes: &mut Vec<u8>,
        memory: Option<ShmBuffer>,
        handles: Vec<WireHandle>,
        limit: Limit,
    ) -> Result<(), Refused> {
        let outcome = envelope_of(bytes, memory, handles).and_then(|packet| {
            let deadline = limit.deadline();
            let put = match self {
                Handle::Local(local) => local
                    .0
                    .put(Payload::Parcel(Box::new(packet)), deadline)
                    .map_err(|(_, over)| RemoteEnd::Over(over)),
                Handle::Remote(remote) => {
                    remote.put(&mut Outgoing::item(&[], Some(packet)), limit, deadline)
                }
            };
            put.map_err(Refused::End)
        });
        // Handles in it are under way, or, if it was refused, to nobody.
        hub::announce();
        outcome
    }

    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        limit: Limit,
    ) -> Result<Got<T>, OrElapsed<GetError>> {
        let taken = self.take(limit, 1)?;
        self.decode(taken)
            .map_err(|error| OrElapsed::Error(GetError::Decode(error)))
    }

    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        mut taken: Taken,
    ) -> Result<Got<T>, DecodeError> {
        let (lease, attempts) = (taken.lease, taken.attempts);
        match taken.payload.decode::<T>() {
            Ok(value) => Ok(Got {
                value,
                lease,
                attempts,
            }),
            Err(error) => {
                // If the owner is gone, so are its dead letters.
                let _ = match self {
                    Handle::Local(local) => {
                        local
                            .0
                            .undecodable(taken.payload, attempts, lease, error.clone());
                        Ok(())
                    }
                    Handle::Remote(remote) => match remote.attached.get() {
                        Some(attached) => attached.undecodable(taken, remote.joinable, &error),
                        None => Ok(()),
                    },
                };
                Err(error)
            }
        }
    }

    /// For a selector; `None` if it cannot be reached, which `get` says at once.
    pub(super) fn target(&self) -> Option<Arc<dyn EventSource>> {
        match self {
            Handle::Local(local) => Some(local.0.clone()),
            Handle::Remote(remote) => remote
                .open()
                .ok()
                .map(|attached| attached as Arc<dyn EventSource>),
        }
    }

    /// The next item; `most` says how many the caller can use at once.
    #[inline]
    pub(super) fn take(&self, limit: Limit, most: usize) -> Result<Taken, RemoteEnd> {
        match self {
            Handle::Local(local) => local
                .0
                .get(limit.deadline())
                .map(Taken::from)
                .map_err(RemoteEnd::Over),
            Handle::Remote(remote) => remote.take(limit, most),
        }
    }

    /// Ends the lease of an item of a joinable queue. If the owner is gone, so is the lease.
    pub(crate) fn end_lease(&self, lease: u64, done: bool) {
        let _ = match self {
            Handle::Local(local) => {
                local.0.end_lease(lease, done);
                Ok(())
            }
            Handle::Remote(remote) => match remote.attached.get() {
                Some(attached) if remote.joinable => attached.end_lease(lease, done),
                _ => Ok(()),
            },
        };
    }

    pub(crate) fn detach_lease(&self, lease: u64) {
        match self {
            Handle::Local(local) => local.0.detach_lease(lease),
            Handle::Remote(remote) => {
                if let Some(attached) = remote.attached.get() {
                    attached.detach_lease(lease);
                }
            }
        }
    }

    pub(crate) fn task_done(&self) -> Result<(), TaskDoneError> {
        match self {
            Handle::Local(local) => {
                let lease = local.0.detached().ok_or(TaskDoneError::TooMany)?;
                local.0.end_lease(lease, true);
                Ok(())
            }
            Handle::Remote(remote) => {
                let attached = remote.attached.get().ok_or(TaskDoneError::TooMany)?;
                let lease = attached.detached().ok_or(TaskDoneError::TooMany)?;
                attached
                    .end_lease(lease, true)
                    .map_err(|_| TaskDoneError::Disconnected)
            }
        }
    }

    pub(crate) fn close(&self) -> Result<(), HandleError> {
        match self {
            Handle::Local(local) => {
                local.0.close();
                Ok(())
            }
            Handle::Remote(remote) => match remote.ask_owner(Attached::close) {
                // A queue whose owner is gone is closed.
                Err(HandleError::Disconnected) => Ok(()),
                outcome => outcome,
            },
        }
    }

    /// Closes the queue and drops the items in it; returns how many those were.
    pub(crate) fn close_and_discard(&self) -> Result<usize, HandleError> {
        match self {
            Handle::Local(local) => Ok(local.0.close_and_discard()),
            Handle::Remote(remote) => remote.ask_owner(Attached::close_and_discard),
        }
    }

    pub(crate) fn dead_letters<T>(&self) -> Result<Vec<DeadLetter<T>>, DeadLetterError> {
        match self {
            Handle::Local(local) => Ok(local.0.dead_letters()),
            Handle::Remote(_) => Err(DeadLetterError::NotOwner),
        }
    }

    pub(crate) fn is_closed(&self) -> Result<bool, HandleError> {
        match self {
            Handle::Local(local) => Ok(local.0.is_closed()),
            Handle::Remote(remote) => match remote.ask_owner(Attached::is_closed) {
                Err(HandleError::Disconnected) => Ok(true),
                outcome => outcome,
            },
        }
    }

    pub(crate) fn len(&self) -> Result<usize, HandleError> {
        match self {
            Handle::Local(local) => Ok(local.0.len()),
            Handle::Remote(remote) => remote.ask_owner(Attached::len),
        }
    }

    pub(crate) fn capacity(&self) -> Option<usize> {
        match self {
            Handle::Local(local) => local.0.capacity,
            Handle::Remote(remote) => remote.capacity,
        }
    }

    pub(crate) fn join(&self, limit: Limit) -> Result<(), OrElapsed<QueueJoinError>> {
        let deadline = limit.deadline();
        match self {
            Handle::Local(local) => local.0.join(deadline).map_err(RemoteEnd::Over)?,
            Handle::Remote(remote) => remote.attached(deadline)?.join(deadline)?,
        }
        Ok(())
    }

    pub(crate) fn fmt<T>(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("item", &std::any::type_name::<T>())
            .field("owner", &matches!(self, Handle::Local(_)))
            .finish_non_exhaustive()
    }

    pub(crate) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fail = |act: &str, error: &dyn fmt::Display| {
            wire::explain::<S::Error>(&format!("{act}: {error}"))
        };
        wire::may_note().map_err(wire::explain::<S::Error>)?;
        let (token, ticket) = match self {
            Handle::Local(local) => {
                let core = &local.0;
                let hub = hub::hub_id().map_err(|error| fail("could not start the hub", &error))?;
                let ticket = hub::in_flight(core.clone())
                    .map_err(|error| fail("could not make a handle to send", &error))?;
                let token = Token {
                    hub,
                    resource: core.number.load(Ordering::Relaxed),
                    fingerprint: core.fingerprint,
                    joinable: core.joinable,
                    capacity: core.capacity,
                    owner: std::process::id(),
                    index: 0,
                };
                (token, ticket)
            }
            Handle::Remote(remote) => {
                let ticket = remote.ticket().map_err(|error| {
                    fail(
                        "could not get a handle to send from the queue's owner",
                        &error,
                    )
                })?;
                let token = Token {
                    hub: remote.hub,
                    resource: remote.resource,
                    fingerprint: remote.fingerprint,
                    joinable: remote.joinable,
                    capacity: remote.capacity,
                    owner: remote.owner,
                    index: 0,
                };
                (token, ticket)
            }
        };
        let index = wire::note(WireHandle::Sender(ticket.to_opaque()))
            .map_err(wire::explain::<S::Error>)?;
        Token { index, ..token }.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T, D: Deserializer<'de>>(
        joinable: bool,
        deserializer: D,
    ) -> Result<Handle, D::Error> {
        let token = Token::deserialize(deserializer)?;
        let WireHandle::Sender(ticket) =
            wire::claim(token.index).map_err(wire::explain_de::<D::Error>)?
        else {
            return Err(wire::explain_de("a queue's handle came with another thing"));
        };
        if token.fingerprint != fingerprint::<T>() || token.joinable != joinable {
            return Err(wire::explain_de("the handle is of a queue of another type"));
        }
        if hub::is_local(token.hub) {
            // It came home.
            let resource = hub::resolve(token.resource)
                .and_then(|resource| resource.as_any().downcast::<Core>().ok());
            let core = resource
                .ok_or_else(|| wire::explain_de::<D::Error>("the queue does not exist any more"))?;
            if process::is_inline() {
                core.lock().inline = true;
            }
            return Ok(Handle::Local(Local::new(core)));
        }
        Ok(Handle::Remote(Arc::new(Remote {
            hub: token.hub,
            resource: token.resource,
            fingerprint: token.fingerprint,
            joinable,
            capacity: token.capacity,
            owner: token.owner,
            link: Mutex::new(Link {
                ticket: Some(ticket.to()),
                opened: None,
            }),
            attached: OnceLock::new(),
        })))
    }
}

thread_local! {
    /// Items are encoded here, so that a small one costs no allocation.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A long item, or one with handles.
pub(super) fn envelope_of(
    bytes: &mut Vec<u8>,
    memory: Option<ShmBuffer>,
    handles: Vec<WireHandle>,
) -> Result<Envelope, Refused> {
    let packet = match memory {
        Some(memory) => memory.into_envelope(handles),
        None => {
            let bytes = std::mem::take(bytes);
            Envelope::new(wire::EncodedValue { bytes, handles })
        }
    };
    packet.map_err(|error| {
        Refused::End(RemoteEnd::Handle(HandleError::Io {
            act: "make shared memory for the item",
            message: error.to_string(),
        }))
    })
}

/// A handle as it is written into a value.
#[derive(Serialize, Deserialize)]
struct Token {
    hub: HubId,
    resource: u64,
    fingerprint: u64,
    joinable: bool,
    capacity: Option<usize>,
    /// The process id of the owner.
    owner: u32,
    /// The index of the ticket among the raw handles of the value.
    index: u32,
}
