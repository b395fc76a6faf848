//! What all shared objects of this module are: memory with words, and a way to learn of deaths.
//!
//! The process that makes an object owns it: its hub attaches each process that gets a handle, and repairs the
//! memory when the session with one of them ends. All processes work on the memory directly. When the owner ends,
//! nobody would repair any more, so each of the others marks the words as gone: every call says `Disconnected`.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use ipc_channel::ipc::IpcSender;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, HandleError, LockError, LockTimeoutError, SyncError, TryLockError,
};
use crate::ipc::deadline::{Deadline, Elapsed, WaitEnd};
use crate::ipc::hub::{
    self, Attachment, HubId, OWNER, OwnerGone, Peer, Resource, Serviced, Session, ToHub,
};
use crate::ipc::region::Region;
use crate::ipc::ring::Corrupt;
use crate::ipc::wire::{self, Envelope, Failure, WireHandle};
use crate::sync::{token, word};
use crate::sys::lock;

/// What sets one kind of object apart. The words are its own.
pub(super) trait Kind: fmt::Debug + Send + Sync + 'static {
    const NAME: &'static str;

    /// A session has died: ends what it held, and wakes everybody who waits. Called by the owner's hub, which must
    /// not wait; false if it would have to: then it is called again on another thread, with `patient` set.
    fn ended(region: &Region, dead: u32, patient: bool) -> bool;

    /// The owner has ended: nobody gets anything any more, everybody who waits wakes.
    fn gone(region: &Region);

    /// Whether this session holds something.
    fn holds(region: &Region, session: u32) -> bool;
}

/// A handle's hold on an object, the same for all handles in one process.
#[derive(Debug)]
pub(super) struct Object<K: Kind> {
    pub(super) region: Region,
    side: Side,
    /// What the handle says of the type of the value.
    fingerprint: u64,
    kind: PhantomData<K>,
}

#[derive(Debug)]
enum Side {
    Owner { number: AtomicU64 },
    Client(Client),
}

#[derive(Debug)]
struct Client {
    hub: HubId,
    resource: u64,
    /// `None` if the owner had ended before this process could attach.
    attached: OnceLock<(Arc<Session>, u32)>,
    /// Keeps the object alive until the attachment does.
    ticket: Mutex<Option<IpcSender<ToHub>>>,
    /// This process's session, once it is known.
    session: AtomicU32,
}

impl<K: Kind> Object<K> {
    /// A new object in memory of this length, set up before anybody else sees it.
    pub(super) fn new(
        length: usize,
        fingerprint: u64,
        set_up: impl FnOnce(&Region),
    ) -> Result<Arc<Object<K>>, CreateError> {
        let region = Region::sealed(length).map_err(CreateError::io("make shared memory"))?;
        set_up(&region);
        let number = AtomicU64::new(0);
        let object = Arc::new(Object {
            region,
            side: Side::Owner { number },
            fingerprint,
            kind: PhantomData,
        });
        let resource: Arc<dyn Resource> = object.clone();
        if let Side::Owner { number } = &object.side {
            number.store(hub::publish(&resource), Ordering::Relaxed);
        }
        Ok(object)
    }

    /// A word of the memory.
    #[inline]
    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        self.region.number(offset)
    }

    /// This process's session with the owner.
    #[inline]
    pub(super) fn session(&self, deadline: Option<Instant>) -> Result<u32, NoSession> {
        match &self.side {
            Side::Owner { .. } => Ok(OWNER),
            Side::Client(client) => match client.session.load(Ordering::Relaxed) {
                0 => client.wait_session(deadline),
                session => Ok(session),
            },
        }
    }

    /// This thread, as it stands in a lock word.
    #[inline]
    pub(super) fn me(&self, deadline: Option<Instant>) -> Result<u32, NoSession> {
        Ok(word::holder(self.session(deadline)?, token::number()))
    }
}

/// Why a process cannot use an object.
#[derive(Debug)]
pub(super) enum NoSession {
    Timeout,
    Failed(SyncError),
}

impl NoSession {
    /// The error of a call without a deadline: there was none to pass.
    pub(super) fn of_forever(self) -> SyncError {
        match self {
            NoSession::Failed(error) => error,
            NoSession::Timeout => SyncError::Disconnected,
        }
    }

    pub(super) fn of_lock<G>(self) -> LockError<G> {
        LockError::Failed(self.of_forever())
    }

    pub(super) fn of_try_lock<G>(self) -> TryLockError<G> {
        match self {
            NoSession::Failed(error) => TryLockError::Failed(error),
            NoSession::Timeout => TryLockError::WouldBlock,
        }
    }

    pub(super) fn of_lock_timeout<G>(self) -> LockTimeoutError<G> {
        match self {
            NoSession::Failed(error) => LockTimeoutError::Failed(error),
            NoSession::Timeout => LockTimeoutError::Timeout,
        }
    }
}

impl From<WaitEnd<Elapsed, Failure>> for NoSession {
    fn from(end: WaitEnd<Elapsed, Failure>) -> NoSession {
        match end {
            WaitEnd::Timeout(Elapsed) => NoSession::Timeout,
            WaitEnd::Failed(Failure::Gone) => NoSession::Failed(SyncError::Disconnected),
            WaitEnd::Failed(failure) => NoSession::Failed(SyncError::Handle(HandleError::Io {
                act: "reach its owner",
                message: failure.into_io().to_string(),
            })),
        }
    }
}

impl Client {
    #[cold]
    fn wait_session(&self, deadline: Option<Instant>) -> Result<u32, NoSession> {
        let gone = || NoSession::Failed(SyncError::Disconnected);
        let (session, number) = self.attached.get().ok_or_else(gone)?;
        let found = session.wait_attached(*number, &Deadline::from(deadline))?;
        if found == 0 {
            let refused = HandleError::Refused(
                "more processes share its objects than it can count".to_owned(),
            );
            return Err(NoSession::Failed(SyncError::Handle(refused)));
        }
        self.session.store(found, Ordering::Relaxed);
        *lock(&self.ticket) = None;
        Ok(found)
    }
}

/// One object, one attachment: handles of it that come later find it here.
type Known = HashMap<(HubId, u64), Weak<dyn std::any::Any + Send + Sync>>;
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// A handle as it is written into a value.
#[derive(Serialize, Deserialize)]
struct Token {
    hub: HubId,
    resource: u64,
    fingerprint: u64,
    ticket: u32,
    memory: u32,
}

impl<K: Kind> Object<K> {
    pub(super) fn serialize<S: Serializer>(
        self: &Arc<Self>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let fail = |act: &str, error: &dyn fmt::Display| {
            wire::explain::<S::Error>(&format!("{act}: {error}"))
        };
        wire::may_note().map_err(wire::explain::<S::Error>)?;
        let memory = self.region.share();
        let memory = memory.map_err(|error| fail("could not share memory", &error))?;
        let memory = wire::note(WireHandle::Memory(memory)).map_err(wire::explain::<S::Error>)?;
        wire::may_note().map_err(wire::explain::<S::Error>)?;
        let (hub, resource, ticket) = match &self.side {
            Side::Owner { number } => {
                let hub = hub::hub_id().map_err(|error| fail("could not start the hub", &error))?;
                let ticket = hub::ticket(self.clone())
                    .map_err(|error| fail("could not make a handle to send", &error))?;
                (hub, number.load(Ordering::Relaxed), ticket)
            }
            Side::Client(client) => {
                // On a thread of its own: what this one sends in the middle of an encoding would take along raw
                // handles of ipc-channel that were encoded before.
                let ticket = wire::beside(|| match client.attached.get() {
                    Some((session, number)) => {
                        session.ticket(*number).map_err(|error| error.to_string())
                    }
                    None => Err(SyncError::Disconnected.to_string()),
                });
                let ticket = ticket.unwrap_or_else(|error| Err(error.to_string()));
                let ticket = ticket.map_err(|error| {
                    fail("could not get a handle to send from its owner", &error)
                })?;
                (client.hub, client.resource, ticket)
            }
        };
        Token {
            hub,
            resource,
            fingerprint: self.fingerprint,
            ticket: wire::note(WireHandle::Sender(ticket.to_opaque()))
                .map_err(wire::explain::<S::Error>)?,
            memory,
        }
        .serialize(serializer)
    }

    /// `valid` says whether memory of this length can be such an object.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        fingerprint: u64,
        valid: impl FnOnce(usize) -> bool,
        deserializer: D,
    ) -> Result<Arc<Object<K>>, D::Error> {
        let token = Token::deserialize(deserializer)?;
        let memory = wire::claim(token.memory).map_err(wire::explain_de::<D::Error>)?;
        let ticket = wire::claim(token.ticket).map_err(wire::explain_de::<D::Error>)?;
        let (WireHandle::Memory(memory), WireHandle::Sender(ticket)) = (memory, ticket) else {
            return Err(wire::explain_de("the handle came with other things"));
        };
        if token.fingerprint != fingerprint {
            return Err(wire::explain_de("the handle is of another type"));
        }
        if hub::is_local(token.hub) {
            // It came home.
            let object =
                hub::resolve(token.resource).and_then(|resource| resource.as_any().downcast().ok());
            return object.ok_or_else(|| wire::explain_de("it does not exist any more"));
        }
        let mut known = lock(&KNOWN);
        let known = known.get_or_insert_default();
        let key = (token.hub, token.resource);
        if let Some(object) = known.get(&key).and_then(Weak::upgrade) {
            return object
                .downcast()
                .map_err(|_| wire::explain_de("the handle is of another kind"));
        }
        known.retain(|_, object| object.strong_count() > 0);
        let region = Region::adopt(memory);
        if !valid(region.len()) {
            return Err(wire::explain_de("its memory has another length"));
        }
        let object = Arc::new(Object {
            region,
            side: Side::Client(Client {
                hub: token.hub,
                resource: token.resource,
                attached: OnceLock::new(),
                ticket: Mutex::new(None),
                session: AtomicU32::new(0),
            }),
            fingerprint,
            kind: PhantomData,
        });
        match object.meet_owner(ticket.to()) {
            Ok(()) => {}
            Err(Failure::Gone) => K::gone(&object.region),
            Err(failure) => {
                return Err(wire::explain_de(&format!(
                    "could not reach its owner: {}",
                    failure.into_io()
                )));
            }
        }
        let weak: Weak<Object<K>> = Arc::downgrade(&object);
        known.insert(key, weak);
        Ok(object)
    }

    /// Attaches at once, and not on first use: so the owner learns of the death of every process that has a handle.
    fn meet_owner(self: &Arc<Self>, ticket: IpcSender<ToHub>) -> Result<(), Failure> {
        let Side::Client(client) = &self.side else {
            return Ok(());
        };
        let session = Session::with(client.hub, &ticket)?;
        let number = session.attach(client.resource, None)?;
        *lock(&client.ticket) = Some(ticket);
        let weak: Weak<Object<K>> = Arc::downgrade(self);
        session.watch(number, weak)?;
        let _ = client.attached.set((session, number));
        Ok(())
    }
}

impl<K: Kind> OwnerGone for Object<K> {
    fn owner_gone(&self) {
        K::gone(&self.region);
    }
}

impl<K: Kind> Drop for Object<K> {
    fn drop(&mut self) {
        if let Side::Client(client) = &self.side {
            // A worker that panics has not finished with it: for the others it is as dead as its process will soon be.
            let detach = client.attached.get().filter(|_| !std::thread::panicking());
            if let Some((session, number)) = detach {
                session.detach(*number);
            }
        }
    }
}

impl<K: Kind> Resource for Object<K> {
    // Whoever is under way holds the object; nobody counts.
    fn tickets(&self, _: isize) {}

    fn attach(
        self: Arc<Self>,
        peer: Arc<Peer>,
        _: u32,
        _: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, &'static str> {
        Ok(Box::new(Attached {
            object: self,
            peer,
            is_done: AtomicBool::new(false),
        }))
    }

    // Its threads that hold something may still release it: who waits at the end of a program waits for children.
    fn owner_exits(&self) {}

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

/// The owner's hub on one process that has a handle.
struct Attached<K: Kind> {
    object: Arc<Object<K>>,
    peer: Arc<Peer>,
    /// Nothing is left to end.
    is_done: AtomicBool,
}

impl<K: Kind> Attachment for Attached<K> {
    fn service(&mut self) -> Result<Serviced, Corrupt> {
        Ok(Serviced::Idle)
    }

    fn parcel(&mut self, _: Envelope) {}

    fn resource(&self) -> Arc<dyn Resource> {
        self.object.clone()
    }

    fn detached(&mut self) -> bool {
        // What a handle left behind, such as a guard that was forgotten, is its process's until that ends. And when
        // the process has attached anew meanwhile, what it holds now is none of this one's business.
        let is_done = !K::holds(&self.object.region, self.peer.number);
        self.is_done.store(is_done, Ordering::Relaxed);
        is_done
    }
}

impl<K: Kind> Drop for Attached<K> {
    fn drop(&mut self) {
        let dead = self.peer.number;
        if self.is_done.load(Ordering::Relaxed)
            || dead == 0
            || K::ended(&self.object.region, dead, false)
        {
            return;
        }
        // A process that is stopped, or does not keep to the rules, has what is needed. The number of the dead one is
        // not used again meanwhile, since the peer is held.
        let (object, peer) = (self.object.clone(), self.peer.clone());
        let repair = move || {
            K::ended(&object.region, peer.number, true);
        };
        if let Err(error) = crate::sys::service_thread("offspring-repair", repair) {
            log::error!(target: "offspring::sync", "what a dead process held of a {} stays held: {error}", K::NAME);
        }
    }
}
