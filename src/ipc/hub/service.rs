//! The hub of this process, as its callers see it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, Weak};

use crate::ipc::hub::retry::{self, Attempt};
use crate::ipc::hub::thread::HubThread;
use crate::ipc::hub::{HubId, Session, SharedObject, ToHub};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender};
use crate::sys::{self, Poller, Service, lock};

/// What the hub's thread shares with its callers.
pub(in crate::ipc::hub) struct Hub {
    id: HubId,
    pub(in crate::ipc::hub) poller: Poller,
    /// Set by the hub's thread before its last check. The thread that clears it wakes the hub.
    pub(in crate::ipc::hub) asleep: AtomicBool,
    /// Channels for the thread to receive from.
    pub(in crate::ipc::hub) incoming: Mutex<Vec<(CheckedReceiver<ToHub>, Incoming)>>,
}

/// What a new channel is for.
pub(in crate::ipc::hub) enum Incoming {
    InFlight(Arc<dyn SharedObject>),
    /// Closes with another hub's process, with which this process has the session.
    Liveness(Weak<Session>),
}

impl Hub {
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
            incoming: Mutex::new(Vec::new()),
        };
        Ok((hub, |hub| HubThread::new(hub).run()))
    })
}

/// Returns the id of this process's hub.
pub(crate) fn hub_id() -> io::Result<HubId> {
    hub().map(|hub| hub.id)
}

/// Returns whether this is the hub of this process.
pub(crate) fn is_local(id: HubId) -> bool {
    HUB.get().is_some_and(|hub| hub.id == id)
}

/// Wakes the hub's thread so that it asks all attachments again when they are due. Call this after
/// scheduling work that is due earlier than the thread expects.
pub(crate) fn reschedule() {
    if let Some(hub) = HUB.get() {
        hub.wake();
    }
}

/// Has the hub's thread call `attempt`, which has just failed, until it succeeds. Where the thread
/// cannot be started, the caller's does, and blocks for it.
pub(crate) fn try_again(mut attempt: Attempt) {
    let Ok(hub) = hub() else {
        while !attempt() {
            std::thread::yield_now();
        }
        return;
    };
    retry::add(attempt);
    // As in `announce`.
    fence(Ordering::SeqCst);
    hub.wake();
}

/// Creates an in-flight reference to an object of this process.
///
/// The caller calls [`announce`] once the reference is on its way. This function does not wake the
/// hub's thread, because it runs in the middle of an encoding: a message sent now would take along
/// the raw handles of ipc-channel that were encoded before.
pub(crate) fn in_flight(object: Arc<dyn SharedObject>) -> io::Result<CheckedSender<ToHub>> {
    let hub = hub()?;
    let (sender, receiver) = wire::channel()?;
    object.count_in_flight(1);
    lock(&hub.incoming).push((receiver, Incoming::InFlight(object)));
    Ok(sender)
}

/// Creates a channel for another process's hub to hold: when it closes, that process is gone, and
/// so is `session`. The caller calls [`announce`] once it is on its way.
pub(crate) fn liveness(session: Weak<Session>) -> io::Result<CheckedSender<ToHub>> {
    let hub = hub()?;
    let (sender, receiver) = wire::channel()?;
    lock(&hub.incoming).push((receiver, Incoming::Liveness(session)));
    Ok(sender)
}

/// Wakes the hub's thread if there are new channels for it.
pub(crate) fn announce() {
    let Some(hub) = HUB.get() else { return };
    if lock(&hub.incoming).is_empty() {
        return;
    }
    // Pairs with the fence of the thread: either it finds the channel in its last check, or its
    // flag is seen here.
    fence(Ordering::SeqCst);
    hub.wake();
}
