//! The hub of this process, as its callers see it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, Weak};

use serde::Serialize;

use crate::ipc::hub::retry::{self, Attempt};
use crate::ipc::hub::thread::HubThread;
use crate::ipc::hub::{HubId, ObjectKey, OwnerEnds, SharedObject, ToHub};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, Failure};
use crate::sys::{self, Pidfd, Poller, Service, lock};

/// What the hub's thread shares with its callers.
pub(in crate::ipc::hub) struct Hub {
    id: HubId,
    pub(in crate::ipc::hub) poller: Poller,
    /// Set by the hub's thread before its last check. The thread that clears it wakes the hub.
    pub(in crate::ipc::hub) asleep: AtomicBool,
    /// The last id of a channel or process in the poller. No id is used twice, so an event for
    /// something that was removed in the meantime finds nothing.
    ids: AtomicU64,
    pub(in crate::ipc::hub) incoming: Mutex<Vec<Incoming>>,
}

/// Something that the hub's thread has to handle from now on.
pub(in crate::ipc::hub) enum Incoming {
    InFlight(CheckedReceiver<ToHub>, Arc<dyn SharedObject>),
    /// The process of another hub, with which this process has the session.
    Owner(u64, Pidfd, Weak<dyn OwnerEnds>),
    /// A session with another hub has ended.
    SessionEnded,
    /// The object with this key was made active.
    Active(ObjectKey),
}

impl Hub {
    pub(in crate::ipc::hub) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.poller.wake();
        }
    }
}

static HUB: Service<Hub> = Service::new("offspring-hub");

/// Returns the hub of this process, which the first call starts.
fn hub() -> io::Result<&'static Hub> {
    HUB.start(|| {
        let hub = Hub {
            id: sys::random()?,
            poller: Poller::new()?,
            asleep: AtomicBool::new(false),
            ids: AtomicU64::new(0),
            incoming: Mutex::new(Vec::new()),
        };
        retry::wake_with(wake);
        Ok((hub, |hub| HubThread::new(hub).run()))
    })
}

/// Returns the id of this process's hub.
pub(crate) fn hub_id() -> io::Result<HubId> {
    hub().map(|hub| hub.id)
}

/// Returns whether this is the id of this process's hub.
pub(crate) fn is_local(id: HubId) -> bool {
    HUB.get().is_some_and(|hub| hub.id == id)
}

/// Has the hub serve the object with this key, which the caller has made active.
pub(crate) fn attend(key: ObjectKey) {
    if let Some(hub) = HUB.get() {
        lock(&hub.incoming).push(Incoming::Active(key));
        announce();
    }
}

/// Has the hub's thread call `attempt`, which has just failed, until it succeeds. If that thread
/// cannot be started, the calling thread does so, and blocks until then.
pub(crate) fn try_again(mut attempt: Attempt) {
    match hub() {
        Ok(_) => retry::add(attempt),
        Err(_) => {
            while !attempt() {
                std::thread::yield_now();
            }
        }
    }
}

/// Sends a doorbell now or, if the system refuses it for lack of memory, as soon as it does not:
/// the receiver may sleep, and no other doorbell may follow.
pub(crate) fn ring<M>(sender: &CheckedSender<M>, bell: M) -> Result<(), Failure>
where
    M: Serialize + Send + 'static,
{
    match wire::ring(sender, &bell) {
        Err(Failure::Io(_)) => {
            let sender = sender.clone();
            let attempt = move || !matches!(wire::ring(&sender, &bell), Err(Failure::Io(_)));
            try_again(Box::new(attempt));
            Ok(())
        }
        rung => rung,
    }
}

/// Wakes the hub's thread for something that was left for it. Pairs with the fence of that thread:
/// either the thread finds it in its last check, or this function sees the thread's flag.
fn wake() {
    fence(Ordering::SeqCst);
    if let Some(hub) = HUB.get() {
        hub.wake();
    }
}

/// Creates an in-flight reference to an object of this process.
///
/// The caller calls [`announce`] once the reference is on its way. This function does not wake the
/// hub's thread, because it runs in the middle of an encoding: a message sent now would take along
/// the raw handles of ipc-channel that have been encoded so far.
pub(crate) fn in_flight(object: Arc<dyn SharedObject>) -> io::Result<CheckedSender<ToHub>> {
    let hub = hub()?;
    let (sender, receiver) = wire::channel()?;
    object.count_in_flight(1);
    lock(&hub.incoming).push(Incoming::InFlight(receiver, object));
    Ok(sender)
}

/// Notifies a session when the process at its other end has ended.
pub(in crate::ipc::hub) fn watch_owner(
    owner: Pidfd,
    session: Weak<dyn OwnerEnds>,
) -> io::Result<()> {
    let hub = hub()?;
    let id = hub.next_id();
    hub.poller.add(&owner, id)?;
    lock(&hub.incoming).push(Incoming::Owner(id, owner, session));
    announce();
    Ok(())
}

/// A session with another hub has ended.
pub(in crate::ipc::hub) fn session_ended() {
    if let Some(hub) = HUB.get() {
        lock(&hub.incoming).push(Incoming::SessionEnded);
        announce();
    }
}

/// Wakes the hub's thread if there is something new for it.
pub(crate) fn announce() {
    let Some(hub) = HUB.get() else { return };
    if lock(&hub.incoming).is_empty() {
        return;
    }
    wake();
}
