//! What a hub serves: the objects of this process, and the clients' attachments to them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ipc::account::ObjectCharge;
use crate::ipc::hub::{ClientLink, Refusal};
use crate::ipc::region::Region;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::Envelope;
use crate::sys;

/// An object of this process that others can use.
pub(crate) trait SharedObject: Send + Sync {
    /// Counts a handle of the object that is now on its way (`+1`), or that has arrived or was lost
    /// (`-1`).
    fn count_in_flight(&self, change: isize);

    /// The object's type, as far as two processes of one program can compare it.
    fn fingerprint(&self) -> u64;

    /// Attaches a client, which uses the object through `region` if it sent one.
    fn attach(
        self: Arc<Self>,
        peer: Arc<ClientLink>,
        number: u32,
        region: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, Refusal>;

    /// Makes it active. Returns whether it was inactive before; if so, the hub serves it from now
    /// on.
    fn activate(&self) -> bool {
        false
    }

    /// Does what polled clients ask for. Those of them that have not written since before the tick
    /// `rest_before` are no longer polled: from then on they ring.
    fn serve(&self, now: Tick, rest_before: Tick) -> Served {
        let _ = (now, rest_before);
        Served::default()
    }

    /// Called after a panic while serving it: makes it inactive, and returns the clients that were
    /// polled.
    fn deactivate(&self) -> Vec<Arc<ClientLink>> {
        Vec::new()
    }

    /// Called when this process is exiting and waits for its children: its own handles no longer
    /// count.
    fn owner_exits(&self);

    /// For a caller of [`resolve`] that knows the object's type.
    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync>;
}

/// One client's use of one object. Dropping it reads what the client has written, and ends the
/// client's leases. So the hub drops it only once the client's process has ended, or has given up
/// everything itself.
pub(crate) trait Attachment: Send {
    /// The client has rung. Returns whether the hub has to [serve](SharedObject::serve) the object
    /// from now on.
    fn rung(&mut self) -> bool {
        false
    }

    /// Called now and then while the hub leaves the client's messages unread, among which may be a
    /// doorbell. Returns the same as [`rung`](Attachment::rung).
    fn look(&mut self) -> bool {
        false
    }

    /// Called when the in-flight reference of a handle that the client sends on has arrived and
    /// been counted.
    fn handed_on(&mut self) {}

    /// Takes a parcel from the client. Returns the same as [`rung`](Attachment::rung).
    fn parcel(&mut self, envelope: Envelope) -> bool;

    fn object(&self) -> Arc<dyn SharedObject>;

    /// Called when the client has dropped its last handle. Returns whether the client holds no
    /// lease any more, so that the attachment can be dropped.
    fn detached(&mut self) -> bool {
        true
    }

    /// Called when the session is over, while the client's process may still run. What the client
    /// can no longer take goes to others; what it has taken remains its own. Returns whether it has
    /// taken nothing, so that the attachment can be dropped.
    fn retire(&mut self) -> bool;
}

/// An attachment on the account of its client.
pub(in crate::ipc::hub) struct Charged {
    pub(in crate::ipc::hub) attachment: Box<dyn Attachment>,
    pub(in crate::ipc::hub) _charge: ObjectCharge,
}

impl Attachment for Charged {
    fn rung(&mut self) -> bool {
        self.attachment.rung()
    }

    fn look(&mut self) -> bool {
        self.attachment.look()
    }

    fn handed_on(&mut self) {
        self.attachment.handed_on();
    }

    fn parcel(&mut self, envelope: Envelope) -> bool {
        self.attachment.parcel(envelope)
    }

    fn object(&self) -> Arc<dyn SharedObject> {
        self.attachment.object()
    }

    fn detached(&mut self) -> bool {
        self.attachment.detached()
    }

    fn retire(&mut self) -> bool {
        self.attachment.retire()
    }
}

/// Must be notified of the end of an owner's process, because its waits do not notice that
/// themselves.
pub(crate) trait OwnerEnds: std::fmt::Debug + Send + Sync {
    fn owner_ended(&self);
}

/// Counts the periods in which a busy hub serves; see [`SharedObject::serve`].
pub(crate) type Tick = u64;

/// The outcome of serving an object.
#[derive(Default)]
pub(crate) struct Served {
    /// There was something to do, and there may be more.
    pub(crate) busy: bool,
    /// Serve it in the next pass as well. If false, all its clients ring.
    pub(crate) is_active: bool,
    /// Serve it at this time, in addition to any time that it has asked for before.
    pub(crate) again: Option<Instant>,
    /// Clients that have written something that no correct client writes.
    pub(crate) corrupt: Vec<Arc<ClientLink>>,
}

/// Names an object of this process to its clients. It is a capability: a process learns it together
/// with a handle, and cannot guess the key of an object of which it has received no handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ObjectKey {
    /// Counts the objects of a process.
    serial: u64,
    secret: [u8; 16],
}

impl ObjectKey {
    pub(crate) fn new() -> io::Result<ObjectKey> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Ok(ObjectKey { serial, secret: sys::random()? })
    }
}

static OBJECTS: WeakMap<ObjectKey, dyn SharedObject> = WeakMap::new();

/// Publishes an object for as long as it lives: clients attach it by this key.
pub(crate) fn publish(key: ObjectKey, object: &Arc<dyn SharedObject>) {
    sys::watch_forks();
    OBJECTS.insert(key, Arc::downgrade(object));
}

/// Returns the object with this key, if it still exists.
pub(crate) fn resolve(key: ObjectKey) -> Option<Arc<dyn SharedObject>> {
    OBJECTS.get(&key)
}

/// Returns all objects of this process, in the order in which they were made.
pub(crate) fn objects() -> Vec<Arc<dyn SharedObject>> {
    OBJECTS.values()
}

/// Notifies all objects that this process is exiting.
pub(crate) fn owner_exits() {
    for object in objects() {
        object.owner_exits();
    }
}
