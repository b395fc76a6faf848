//! What all shared objects of this module are: memory with words, and a way to learn of deaths.
//!
//! The process that makes an object owns it: its hub attaches each process that gets a handle, and repairs the
//! memory when the session with one of them ends. All processes work on the memory directly. When the owner ends,
//! nobody would repair any more, so each of the others marks the words as gone: every call says `Disconnected`.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use ipc_channel::ipc::IpcSender;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, HandleError, LockError, LockTimeoutError, SyncError, TryLockError, chain_text,
};
use crate::ipc::deadline::{Deadline, Elapsed, TimeLimit, WaitEnd, Waited};
use crate::ipc::hub::{
    self, Arrived, Attachment, ClientLink, HandleToken, OWNER, ObjectId, OwnerGone, RemoteHandle,
    RemoteObject, Serviced, Session, SharedObject, ToHub,
};
use crate::ipc::region::Region;
use crate::ipc::ring::Corrupt;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::{self, Envelope, Failure, WireHandle};
use crate::sync::{token, word};

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

/// An object, as all of its handles in one process hold it.
#[derive(Debug)]
pub(super) struct Object<K: Kind> {
    pub(super) region: Region,
    /// This process's session with the owner; 0 as long as it is not known.
    session: AtomicU32,
    home: Home,
    /// The type of the handles.
    fingerprint: u64,
    kind: PhantomData<K>,
}

/// The process that the object belongs to.
#[derive(Debug)]
enum Home {
    /// This one, which has published it under this number.
    Here(AtomicU64),
    Elsewhere(RemoteHandle<Membership>),
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
        let home = Home::Here(AtomicU64::new(0));
        let object = Arc::new(Object::assemble(region, OWNER, home, fingerprint));
        let resource: Arc<dyn SharedObject> = object.clone();
        if let Home::Here(number) = &object.home {
            number.store(hub::publish(&resource), Ordering::Relaxed);
        }
        Ok(object)
    }

    fn assemble(region: Region, session: u32, home: Home, fingerprint: u64) -> Object<K> {
        Object {
            region,
            session: AtomicU32::new(session),
            home,
            fingerprint,
            kind: PhantomData,
        }
    }

    /// A word of the memory.
    #[inline]
    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        self.region.number(offset)
    }

    /// This process's session with the owner.
    #[inline]
    pub(super) fn session(&self, deadline: Option<Instant>) -> Result<u32, NoSession> {
        match self.session.load(Ordering::Relaxed) {
            0 => self.wait_session(deadline),
            session => Ok(session),
        }
    }

    #[cold]
    fn wait_session(&self, deadline: Option<Instant>) -> Result<u32, NoSession> {
        let Home::Elsewhere(handle) = &self.home else {
            return Ok(OWNER);
        };
        let limit = Deadline::from(deadline);
        let session = handle.attach(&limit)?.session_number(&limit)?;
        self.session.store(session, Ordering::Relaxed);
        Ok(session)
    }

    /// This thread, as it stands in a lock word.
    #[inline]
    pub(super) fn me(&self, deadline: Option<Instant>) -> Result<u32, NoSession> {
        Ok(word::holder(self.session(deadline)?, token::number()))
    }
}

/// This process among those that the owner repairs the object for.
#[derive(Debug)]
struct Membership {
    session: Arc<Session>,
    number: u32,
}

impl Membership {
    fn session_number<L: TimeLimit>(&self, limit: &L) -> Waited<u32, SyncError, L> {
        match self.session.wait_attached(self.number, limit) {
            Ok(0) => {
                let refused = "more processes share its objects than it can count".to_owned();
                Err(SyncError::Handle(HandleError::Refused(refused)).into())
            }
            Ok(session) => Ok(session),
            Err(end) => Err(end.convert()),
        }
    }
}

impl RemoteObject for Membership {
    type Error = SyncError;

    fn open(id: ObjectId, _: u64, in_flight: &IpcSender<ToHub>) -> Result<Arc<Self>, SyncError> {
        let session = Session::with(id.hub, in_flight)?;
        let number = session.attach(id.number, None)?;
        Ok(Arc::new(Membership { session, number }))
    }

    fn wait_accepted<L: TimeLimit>(&self, limit: &L) -> Waited<(), SyncError, L> {
        self.session_number(limit).map(drop)
    }

    fn in_flight(&self) -> io::Result<IpcSender<ToHub>> {
        self.session.in_flight(self.number)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // A worker that panics may have left the object half used. To the others it is as dead as its
        // process will soon be, so the owner is to find it attached when the process ends.
        if !std::thread::panicking() {
            self.session.detach(self.number);
        }
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

impl From<WaitEnd<Elapsed, SyncError>> for NoSession {
    fn from(end: WaitEnd<Elapsed, SyncError>) -> NoSession {
        match end {
            WaitEnd::Timeout(Elapsed) => NoSession::Timeout,
            WaitEnd::Failed(error) => NoSession::Failed(error),
        }
    }
}

impl From<Failure> for SyncError {
    fn from(failure: Failure) -> SyncError {
        match failure {
            Failure::Gone => SyncError::Disconnected,
            failure => SyncError::Handle(HandleError::Io {
                act: "reach its owner",
                message: failure.into_io().to_string(),
            }),
        }
    }
}

/// The objects of other processes that this one has: later handles of one find it here.
static OBJECTS: WeakMap<ObjectId, dyn Any + Send + Sync> = WeakMap::new();

/// A handle as it is written into a value.
#[derive(Serialize, Deserialize)]
struct Token {
    memory: u32,
    handle: HandleToken,
}

impl<K: Kind> Object<K> {
    pub(super) fn serialize<S: Serializer>(
        self: &Arc<Self>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        wire::may_note().map_err(wire::explain::<S::Error>)?;
        let memory = self.region.share().map_err(|error| {
            wire::explain::<S::Error>(&format!("could not share memory: {error}"))
        })?;
        let memory = wire::note(WireHandle::Memory(memory)).map_err(wire::explain::<S::Error>)?;
        let handle = match &self.home {
            Home::Here(number) => {
                let number = number.load(Ordering::Relaxed);
                HandleToken::of_local(self.clone(), number, self.fingerprint)?
            }
            Home::Elsewhere(handle) => HandleToken::of_remote(handle)?,
        };
        Token { memory, handle }.serialize(serializer)
    }

    /// `valid` says whether memory of this length can be such an object.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        fingerprint: u64,
        valid: impl FnOnce(usize) -> bool,
        deserializer: D,
    ) -> Result<Arc<Object<K>>, D::Error> {
        let token = Token::deserialize(deserializer)?;
        let memory = wire::claim(token.memory).map_err(wire::explain_de::<D::Error>)?;
        let WireHandle::Memory(memory) = memory else {
            return Err(wire::explain_de("the handle came with another thing"));
        };
        let id = token.handle.id();
        let handle = match token.handle.arrive(fingerprint)? {
            Arrived::Home(object) => return Ok(object),
            Arrived::Away(handle) => handle,
        };
        let object = OBJECTS.get_or_try_insert(id, || {
            let region = Region::adopt(memory);
            if !valid(region.len()) {
                return Err(wire::explain_de("its memory has another length"));
            }
            let home = Home::Elsewhere(handle);
            let object: Arc<Object<K>> = Arc::new(Object::assemble(region, 0, home, fingerprint));
            match object.join() {
                Ok(()) => {}
                Err(SyncError::Disconnected) => K::gone(&object.region),
                Err(error) => return Err(wire::explain_de(&chain_text(&error))),
            }
            Ok(object)
        })?;
        object
            .downcast()
            .map_err(|_| wire::explain_de("the handle is of another kind"))
    }

    /// Attaches at once, and not on first use: so the owner learns of the death of every process that has a handle.
    fn join(self: &Arc<Self>) -> Result<(), SyncError> {
        if let Home::Elsewhere(handle) = &self.home {
            let membership = handle.open()?;
            let weak: Weak<Object<K>> = Arc::downgrade(self);
            membership.session.watch(membership.number, weak)?;
        }
        Ok(())
    }
}

impl<K: Kind> OwnerGone for Object<K> {
    fn owner_gone(&self) {
        K::gone(&self.region);
    }
}

impl<K: Kind> SharedObject for Object<K> {
    // Whoever is under way holds the object; nobody counts.
    fn count_in_flight(&self, _: isize) {}

    fn attach(
        self: Arc<Self>,
        peer: Arc<ClientLink>,
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

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The owner's hub on one process that has a handle.
struct Attached<K: Kind> {
    object: Arc<Object<K>>,
    peer: Arc<ClientLink>,
    /// Nothing is left to end.
    is_done: AtomicBool,
}

impl<K: Kind> Attachment for Attached<K> {
    fn service(&mut self) -> Result<Serviced, Corrupt> {
        Ok(Serviced::Idle)
    }

    fn parcel(&mut self, _: Envelope) {}

    fn object(&self) -> Arc<dyn SharedObject> {
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
