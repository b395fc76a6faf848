//! Objects: the base of all types of this module. An object is a few words in shared memory, and a
//! subscription to the deaths of the processes that use it.
//!
//! The process that makes an object owns it. Its hub attaches each process that receives a handle,
//! and repairs the memory when the session with one of them ends. All processes work on the memory
//! directly, without asking the owner. When the owner's process itself ends, no process is left to
//! repair the memory. So each other process marks the words as gone, and every call returns
//! `Disconnected`. A process that has merely lost its session with the owner marks nothing: the
//! objects that it is attached to keep working.
//!
//! # Why the order of a repair is safe
//!
//! - A process attaches when it *decodes* a handle, not when it first uses it. A lock word names a
//!   session, and the owner's hub notices the end of exactly the sessions that are attached. So a
//!   process cannot hold something while its death would go unnoticed.
//! - The hub ends an attachment only once the pidfd of its process reports that none of its threads
//!   runs any more. The repair therefore never races with the process it repairs for. A client that
//!   loses its session while it runs, whatever the reason, keeps what it holds until then.
//! - A session's number is used again only after the hub has dropped its [`ClientLink`]. A repair
//!   that is postponed holds the link, so the number cannot name a new process before the repair is
//!   done.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, HandleError, LockTimeoutError, SyncError, TimeoutError};
use crate::ipc::deadline::{Deadline, Elapsed, TimeLimit, WaitEnd, Waited};
use crate::ipc::hub::{
    self, Arrived, Attachment, ClientLink, HandleToken, OWNER, ObjectId, ObjectKey, OwnerEnds,
    Refusal, RemoteHandle, RemoteObject, Session, SharedObject, ToHub,
};
use crate::ipc::region::Region;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::{self, CheckedSender, Envelope, Failure, WireHandle};
use crate::sync::{thread_number, word};
use crate::sys::{self, lock};

/// One kind of object: its words, and how they are repaired after a death.
pub(super) trait Primitive: fmt::Debug + Send + Sync + 'static {
    /// The number of bytes of the object's own words. The value, if the object guards one, begins
    /// after them.
    const WORDS_LEN: usize;

    /// Called once after the end of a session, before `repair`. Does what needs no latch.
    fn session_ended(_: &Region) {}

    /// Releases what a dead session held, and wakes every thread that waits.
    ///
    /// The owner's hub calls this, so it must not block. If it would have to, it returns false, and
    /// is called again until it returns true.
    fn repair(region: &Region, dead: u32) -> bool;

    /// Called when the owner has ended: marks the words as gone, and wakes every thread that waits.
    fn abandon(region: &Region);

    /// Returns whether this session holds something.
    fn holds(region: &Region, session: u32) -> bool;
}

/// The value in an object's memory, after its words.
pub(super) trait ObjectContent: 'static {
    /// Returns whether the content fits memory of this length.
    fn fits(length: usize) -> bool;
}

/// The content of an object without a value.
impl ObjectContent for () {
    fn fits(length: usize) -> bool {
        length == 0
    }
}

/// Returns the limit of a `try_` call for the two waits that it cannot avoid: the first call in a
/// process needs the owner's answer to its attachment, and some calls need the latch, which is held
/// for a few instructions.
pub(super) fn owner_answers() -> Deadline {
    Deadline::after(Duration::from_secs(1))
}

/// A handle of an object. Each public type of this module wraps one.
#[derive(Debug)]
pub(super) struct ObjectHandle<P: Primitive, C: ?Sized = ()> {
    object: Arc<Object<P>>,
    content: PhantomData<fn() -> Box<C>>,
}

/// An object, shared by all of its handles in this process.
#[derive(Debug)]
pub(super) struct Object<P: Primitive> {
    pub(super) region: Region,
    /// The number of this process's session with the owner; 0 while it is not known.
    session: AtomicU32,
    home: Home,
    /// The type of the handles.
    fingerprint: u64,
    primitive: PhantomData<P>,
}

/// The process that the object belongs to.
#[derive(Debug)]
enum Home {
    /// This process, which has published the object under this key.
    Here(ObjectKey),
    Elsewhere(RemoteHandle<Membership>),
}

impl<P: Primitive, C: ?Sized> ObjectHandle<P, C> {
    /// Creates an object with room for this many bytes of content. `set_up` runs before another
    /// process can have the memory.
    pub(super) fn new(
        content: usize,
        set_up: impl FnOnce(&Region),
    ) -> Result<ObjectHandle<P, C>, CreateError> {
        let length = content.saturating_add(P::WORDS_LEN);
        let region = Region::labelled(length, Self::fingerprint());
        let region = region.map_err(CreateError::io("make shared memory"))?;
        set_up(&region);
        let key = ObjectKey::new().map_err(CreateError::io("make a key for the object"))?;
        let home = Home::Here(key);
        let object = Arc::new(Object::assemble(region, OWNER, home, Self::fingerprint()));
        let published: Arc<dyn SharedObject> = object.clone();
        hub::publish(key, &published);
        Ok(ObjectHandle::of(object))
    }

    /// Returns the object, which all its handles in this process share.
    pub(super) fn object(&self) -> &Arc<Object<P>> {
        &self.object
    }

    fn of(object: Arc<Object<P>>) -> ObjectHandle<P, C> {
        ObjectHandle { object, content: PhantomData }
    }

    /// The object's type, as far as two processes of one program can compare it.
    fn fingerprint() -> u64 {
        wire::fingerprint(std::any::type_name::<Self>())
    }
}

impl<P: Primitive, C: ?Sized> Clone for ObjectHandle<P, C> {
    fn clone(&self) -> ObjectHandle<P, C> {
        ObjectHandle::of(self.object.clone())
    }
}

impl<P: Primitive, C: ?Sized> Deref for ObjectHandle<P, C> {
    type Target = Object<P>;

    #[inline]
    fn deref(&self) -> &Object<P> {
        &self.object
    }
}

impl<P: Primitive> Object<P> {
    fn assemble(region: Region, session: u32, home: Home, fingerprint: u64) -> Object<P> {
        Object {
            region,
            session: AtomicU32::new(session),
            home,
            fingerprint,
            primitive: PhantomData,
        }
    }

    /// Returns a word of the memory.
    #[inline]
    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        self.region.number(offset)
    }

    /// Returns the value of a word.
    #[inline]
    pub(super) fn number(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// Returns the number of this process's session with the owner. The first call in a process
    /// waits until the owner has accepted the attachment.
    pub(super) fn session<L: TimeLimit>(&self, limit: &L) -> Waited<u32, SyncError, L> {
        match self.session.load(Ordering::Relaxed) {
            session if session != 0 && !sys::is_fork() => Ok(session),
            _ => self.wait_session(limit),
        }
    }

    fn wait_session<L: TimeLimit>(&self, limit: &L) -> Waited<u32, SyncError, L> {
        // The original process has that number too.
        sys::not_in_fork().map_err(|error| SyncError::from(Failure::Io(error)))?;
        let Home::Elsewhere(handle) = &self.home else {
            return Ok(OWNER);
        };
        let session = handle.attach(limit)?.session_number(limit)?;
        self.session.store(session, Ordering::Relaxed);
        Ok(session)
    }

    /// Returns the calling thread, as a lock word names it. Waits if the process has no session
    /// yet. Returns an error in a fork.
    #[inline]
    pub(super) fn me<L: TimeLimit>(&self, limit: &L) -> Waited<u32, SyncError, L> {
        match (self.session.load(Ordering::Relaxed), thread_number::known()) {
            (session, thread) if session != 0 && thread != 0 => Ok(word::holder(session, thread)),
            _ => self.find_me(limit),
        }
    }

    #[cold]
    fn find_me<L: TimeLimit>(&self, limit: &L) -> Waited<u32, SyncError, L> {
        let session = self.session(limit)?;
        Ok(word::holder(session, thread_number::current()))
    }
}

/// This process's attachment to an object of another process.
#[derive(Debug)]
struct Membership {
    session: Arc<Session>,
    number: u32,
}

impl Membership {
    fn session_number<L: TimeLimit>(&self, limit: &L) -> Waited<u32, SyncError, L> {
        let refused = |why: &str| SyncError::Handle(HandleError::Refused(why.to_owned()));
        let answer = self.session.wait(limit, || self.session.answer(self.number));
        match answer.map_err(WaitEnd::convert)? {
            Err(Refusal::NoObject) => return Err(SyncError::Disconnected.into()),
            Err(refusal) => return Err(refused(&refusal.text()).into()),
            Ok(()) => {}
        }
        // This process must watch the owner's process before it can sleep on a word: the end of
        // that process may be the only thing that wakes the sleeper.
        self.session.wait_watched(limit).map_err(WaitEnd::convert)?;
        match self.session.number() {
            0 => {
                let all = "4094 other processes use its objects, and more cannot: end some of them";
                Err(refused(all).into())
            }
            number => Ok(number),
        }
    }
}

impl RemoteObject for Membership {
    type Error = SyncError;

    fn open(
        id: ObjectId,
        fingerprint: u64,
        in_flight: &CheckedSender<ToHub>,
    ) -> Result<Arc<Self>, SyncError> {
        detach_left();
        let session = Session::with(id.hub, in_flight)?;
        let number = session.attach(id.key, fingerprint, None)?;
        Ok(Arc::new(Membership { session, number }))
    }

    fn wait_accepted<L: TimeLimit>(&self, limit: &L) -> Waited<(), SyncError, L> {
        self.session_number(limit).map(drop)
    }

    fn in_flight(&self) -> io::Result<CheckedSender<ToHub>> {
        self.session.in_flight(self.number, || ())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // A worker that panics may leave the object half used, and its process is about to end.
        // Because it stays attached, the object is repaired as after a kill.
        if std::thread::panicking() {
            lock(&LEFT_BY_PANICS).push((self.session.clone(), self.number));
        } else {
            self.session.detach(self.number);
        }
    }
}

/// Attachments whose last handle was dropped by a panic.
static LEFT_BY_PANICS: Mutex<Vec<(Arc<Session>, u32)>> = Mutex::new(Vec::new());

/// Detaches what panics have left. Called when a handle arrives, which shows that this process has
/// outlived the panics, as a process of a pool does. So such attachments do not pile up.
fn detach_left() {
    if !std::thread::panicking() {
        let left = std::mem::take(&mut *lock(&LEFT_BY_PANICS));
        left.into_iter().for_each(|(session, number)| session.detach(number));
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

impl<G> From<WaitEnd<Elapsed, SyncError>> for LockTimeoutError<G> {
    fn from(end: WaitEnd<Elapsed, SyncError>) -> Self {
        TimeoutError::from(end).into()
    }
}

/// The objects of other processes that this process has, so that all handles of one share its
/// mapping and its attachment.
static OBJECTS: WeakMap<ObjectId, dyn Any + Send + Sync> = WeakMap::new();

/// A handle as it is written into a value.
#[derive(Serialize, Deserialize)]
struct ObjectToken {
    /// The index of the memory among the value's handles.
    memory: u32,
    handle: HandleToken,
}

impl<P: Primitive, C: ?Sized> Serialize for ObjectHandle<P, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        wire::may_note().map_err(wire::explain::<S::Error>)?;
        let memory = wire::note(WireHandle::Memory(self.region.memory()))
            .map_err(wire::explain::<S::Error>)?;
        let handle = match &self.home {
            Home::Here(key) => HandleToken::of_local(self.object.clone(), *key, self.fingerprint)?,
            Home::Elsewhere(handle) => HandleToken::of_remote(handle)?,
        };
        ObjectToken { memory, handle }.serialize(serializer)
    }
}

impl<'de, P: Primitive, C: ObjectContent + ?Sized> Deserialize<'de> for ObjectHandle<P, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = ObjectToken::deserialize(deserializer)?;
        let memory = wire::claim(token.memory).map_err(wire::explain_de::<D::Error>)?;
        let WireHandle::Memory(memory) = memory else {
            return Err(wire::explain_de("the handle arrived without its shared memory"));
        };
        let id = token.handle.id();
        let handle = match token.handle.arrive(Self::fingerprint())? {
            Arrived::Home(object) => return Ok(ObjectHandle::of(object)),
            Arrived::Away(handle) => handle,
        };
        let object = OBJECTS.get_or_try_insert(id, || {
            let region = memory.map_labelled(Self::fingerprint());
            let region = region.map_err(|error| wire::explain_de(&error.to_string()))?;
            let content = region.len().checked_sub(P::WORDS_LEN);
            if !content.is_some_and(C::fits) {
                return Err(wire::explain_de(
                    "the shared memory of the handle has an unexpected length",
                ));
            }
            let home = Home::Elsewhere(handle);
            let object = Object::<P>::assemble(region, 0, home, Self::fingerprint());
            let object = Arc::new(object);
            match object.attach_to_owner() {
                Ok(()) => {}
                // Decoding still succeeds, and every call on the handle returns the error. Only
                // this handle is lost: the owner may still be alive.
                Err(SyncError::Disconnected) => {}
                Err(error) => return Err(wire::explain_de(&error.to_string())),
            }
            Ok(object)
        })?;
        let object = object.downcast::<Object<P>>().ok();
        let object = object.filter(|object| object.fingerprint == Self::fingerprint());
        object
            .map(ObjectHandle::of)
            .ok_or_else(|| wire::explain_de("the handle is of another type"))
    }
}

impl<P: Primitive> Object<P> {
    /// Attaches, without waiting for the owner's answer, and asks to be notified of the owner's
    /// end.
    fn attach_to_owner(self: &Arc<Self>) -> Result<(), SyncError> {
        if let Home::Elsewhere(handle) = &self.home {
            let membership = handle.open()?;
            let weak: Weak<Object<P>> = Arc::downgrade(self);
            membership.session.watch(membership.number, weak)?;
        }
        Ok(())
    }
}

impl<P: Primitive> OwnerEnds for Object<P> {
    fn owner_ended(&self) {
        P::abandon(&self.region);
    }
}

impl<P: Primitive> SharedObject for Object<P> {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    // There is nothing to count: the hub holds the object for each handle in flight.
    fn count_in_flight(&self, _: isize) {}

    fn attach(
        self: Arc<Self>,
        client: Arc<ClientLink>,
        _: u32,
        _: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, Refusal> {
        Ok(Box::new(Participant { object: self, client, is_done: AtomicBool::new(false) }))
    }

    // Nothing ends yet: a thread of this process may still release what its children wait for.
    fn owner_exits(&self) {}

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A process that is attached to an object, as the owner's hub sees it. Dropping it repairs the
/// object.
struct Participant<P: Primitive> {
    object: Arc<Object<P>>,
    client: Arc<ClientLink>,
    /// True once the process has detached, and holds nothing.
    is_done: AtomicBool,
}

impl<P: Primitive> Attachment for Participant<P> {
    fn parcel(&mut self, _: Envelope) -> bool {
        false
    }

    fn object(&self) -> Arc<dyn SharedObject> {
        self.object.clone()
    }

    fn detached(&mut self) -> bool {
        // Whatever outlives a handle, such as a forgotten guard, belongs to its process until that
        // ends. If the process has attached again in the meantime, the new attachment repairs the
        // same session a second time, which changes nothing.
        let is_done = !P::holds(&self.object.region, self.client.number);
        self.is_done.store(is_done, Ordering::Relaxed);
        is_done
    }

    fn retire(&mut self) -> bool {
        // The process still has the memory, and may hold the object or take it, neither of which
        // needs the session.
        false
    }
}

impl<P: Primitive> Drop for Participant<P> {
    fn drop(&mut self) {
        if !self.is_done.load(Ordering::Relaxed) && self.client.number != 0 {
            repair(self.object.clone(), self.client.number, self.client.clone());
        }
    }
}

/// Repairs the object after the end of a session, now or as soon as possible. `number` keeps the
/// session's number from being used again before that.
fn repair<P: Primitive>(object: Arc<Object<P>>, dead: u32, number: impl Send + 'static) {
    P::session_ended(&object.region);
    // The repair does not keep the object alive. An object that is no longer used needs no repair,
    // and a latch that a process broke on purpose may never be free.
    let object = Arc::downgrade(&object);
    let repair = move || {
        let _ = &number;
        object.upgrade().is_none_or(|object| P::repair(&object.region, dead))
    };
    // A process that is stopped, or violates the protocol, may hold the latch.
    if !repair() {
        hub::try_again(Box::new(repair));
    }
}

impl<P: Primitive, C: ?Sized> ObjectHandle<P, C> {
    /// Repairs the object, as the hub does when a session ends.
    #[cfg(test)]
    pub(super) fn session_ended(&self, dead: u32) {
        repair(self.object.clone(), dead, ());
    }
}
