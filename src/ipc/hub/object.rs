//! What a hub serves: the objects of this process, and the clients' attachments to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::ipc::hub::{ClientLink, Refusal};
use crate::ipc::region::Region;
use crate::ipc::ring::Corrupt;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::Envelope;

/// An object of this process that others can use.
pub(crate) trait SharedObject: Send + Sync {
    /// Counts a handle of the object that was sent on its way (`+1`), and one that has arrived or
    /// was lost (`-1`).
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

    /// Called when this process has reached its end and waits for its children: its own handles no
    /// longer count.
    fn owner_exits(&self);

    /// For a caller of [`resolve`] that knows the object's type.
    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync>;
}

/// One client's use of one object. Dropping it ends the client's leases, so the hub drops it only
/// once the client's process has ended, or has given up everything itself.
pub(crate) trait Attachment: Send {
    /// Does what the client asks for in the region. Called whenever that may be something.
    fn service(&mut self) -> Result<Serviced, Corrupt>;

    /// Takes a parcel from the client.
    fn parcel(&mut self, envelope: Envelope);

    fn object(&self) -> Arc<dyn SharedObject>;

    /// Called when the client has dropped its last handle. Returns whether it holds no lease any
    /// more, so that the attachment can be dropped.
    fn detached(&mut self) -> bool {
        true
    }

    /// Called when the session is over, while the client's process may still run. What the client
    /// can no longer take goes to others; what it has taken remains its own. Returns whether that
    /// is nothing, so that the attachment can be dropped.
    fn retire(&mut self) -> bool;
}

/// What has to be notified of the end of an owner's process, because its waits do not notice it by
/// themselves.
pub(crate) trait OwnerEnds: std::fmt::Debug + Send + Sync {
    fn owner_ended(&self);
}

/// What an attachment found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serviced {
    /// Something, and there may be more.
    Busy,
    /// Nothing until a doorbell, or until this time.
    Again(Instant),
    /// Nothing until a doorbell.
    Idle,
}

impl Serviced {
    /// Combines the results of two attachments.
    pub(in crate::ipc::hub) fn and(self, other: Serviced) -> Serviced {
        match (self, other) {
            (Serviced::Busy, _) | (_, Serviced::Busy) => Serviced::Busy,
            (Serviced::Again(one), Serviced::Again(two)) => Serviced::Again(one.min(two)),
            (Serviced::Again(at), Serviced::Idle) | (Serviced::Idle, Serviced::Again(at)) => {
                Serviced::Again(at)
            }
            (Serviced::Idle, Serviced::Idle) => Serviced::Idle,
        }
    }
}

static OBJECTS: WeakMap<u64, dyn SharedObject> = WeakMap::new();
static NEXT_OBJECT: AtomicU64 = AtomicU64::new(1);

/// Publishes an object for as long as it lives, and returns the number under which clients attach
/// it.
pub(crate) fn publish(object: &Arc<dyn SharedObject>) -> u64 {
    let number = NEXT_OBJECT.fetch_add(1, Ordering::Relaxed);
    OBJECTS.insert(number, Arc::downgrade(object));
    number
}

/// Returns the object with this number, if it still exists.
pub(crate) fn resolve(number: u64) -> Option<Arc<dyn SharedObject>> {
    OBJECTS.get(&number)
}

/// Returns all objects of this process, in the order in which they were published.
pub(crate) fn objects() -> Vec<Arc<dyn SharedObject>> {
    OBJECTS.values()
}

/// Notifies all objects that this process has reached its end.
pub(crate) fn owner_exits() {
    for object in objects() {
        object.owner_exits();
    }
}
