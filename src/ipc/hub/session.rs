//! The client's side: a session with the hub of another process.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;

use crate::failpoints;
use crate::ipc::deadline::{TimeLimit, Waited};
use crate::ipc::doorbell;
use crate::ipc::hub::object::OwnerEnds;
use crate::ipc::hub::page::SessionPage;
use crate::ipc::hub::up_channel::UpChannel;
use crate::ipc::hub::{HubId, ObjectKey, Refusal, ToClient, ToHub, service};
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::reactor::{Interest, WakerSlot};
use crate::ipc::region::Region;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::{self, CheckedSender, Envelope, Failure};
use crate::sys::{self, Pidfd, lock};

/// A session with the hub of another process. It ends when the last attachment that uses it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Session {
    hub: HubId,
    page: SessionPage,
    up: UpChannel,
    down: SharedReceiver<ToClient>,
    /// The number of the next attachment. Changes only under the lock of `up`, because the hub
    /// expects attachments in the order of their numbers.
    next_number: AtomicU32,
    refused: Mutex<Refused>,
    parcels: Mutex<HashMap<u32, Weak<dyn ParcelSink>>>,
    /// The watchers to notify when the owner's process ends.
    watchers: Mutex<Watchers>,
}

/// The attachments that the hub has refused.
#[derive(Debug, Default)]
struct Refused {
    session: Option<Refusal>,
    /// How many refusals were read.
    count: u64,
    /// The refused attachments that are not detached yet.
    of: HashMap<u32, Refusal>,
}

#[derive(Debug, Default)]
struct Watchers {
    owner: OwnerProcess,
    of: HashMap<u32, Weak<dyn OwnerEnds>>,
}

/// The owner's process, as far as a session knows it.
#[derive(Debug, Default)]
enum OwnerProcess {
    #[default]
    Unknown,
    /// The session has asked the hub for its pidfd.
    Asked,
    Known(Pidfd),
    /// The hub's thread of this process watches it.
    Watched,
    Ended,
}

/// The most unread parcels to the hub. They fit its socket's buffer, beside the other messages.
const PARCELS_MAX: u64 = 4;

/// An attachment that receives parcels.
pub(crate) trait ParcelSink: std::fmt::Debug + Send + Sync {
    fn parcel(&self, id: u64, envelope: Envelope);

    /// Called when the hub can see that the parcel was read. The hub may be waiting for that to
    /// send the next.
    fn parcel_read(&self);
}

static SESSIONS: WeakMap<HubId, Session> = WeakMap::new();

impl Session {
    /// Returns this process's session with a hub, and opens it over `in_flight` if there is none.
    ///
    /// A session that is over is replaced, so that a handle that arrives now works. Older handles
    /// keep the old session, and do not work any more.
    pub(crate) fn with(
        hub: HubId,
        in_flight: &CheckedSender<ToHub>,
    ) -> Result<Arc<Session>, Failure> {
        SESSIONS.get_or_try_replace(hub, Session::is_over, || Session::open(hub, in_flight))
    }

    fn open(hub: HubId, in_flight: &CheckedSender<ToHub>) -> Result<Arc<Session>, Failure> {
        sys::watch_forks();
        let page = SessionPage::new().map_err(Failure::Io)?;
        let (up, up_in_hub) = wire::channel().map_err(Failure::Io)?;
        let (down_in_hub, down) = wire::channel().map_err(Failure::Io)?;
        let process = Pidfd::of_self().map_err(Failure::Io)?.into();
        let open = ToHub::Open { page: page.memory(), up: up_in_hub, down: down_in_hub, process };
        wire::send(in_flight, &open)?;
        failpoints::point("session.open");
        Ok(Arc::new(Session {
            hub,
            page,
            up: UpChannel::new(up),
            down: SharedReceiver::new(down),
            next_number: AtomicU32::new(0),
            refused: Mutex::default(),
            parcels: Mutex::new(HashMap::new()),
            watchers: Mutex::default(),
        }))
    }

    /// Attaches an object, and returns the attachment's number in this session. Does not wait for
    /// the hub's [`answer`](Self::answer).
    pub(crate) fn attach(
        &self,
        object: ObjectKey,
        fingerprint: u64,
        region: Option<&Region>,
    ) -> Result<u32, Failure> {
        let region = region.map(Region::memory);
        let mut up = self.up.lock();
        let number = self.next_number.load(Ordering::Relaxed);
        up.post(ToHub::Attach { number, object, fingerprint, region })?;
        self.next_number.store(number + 1, Ordering::Relaxed);
        drop(up);
        failpoints::point("session.attach");
        Ok(number)
    }

    /// Returns the hub's answer to this attachment, if it has come. Call this while waiting: a
    /// refusal comes as a message.
    pub(crate) fn answer(&self, number: u32) -> Option<Result<(), Refusal>> {
        let is_answered = self.page.answered() > number.into();
        // In this order; see `SessionPage::refused`.
        let refusals = self.page.refused();
        let refused = lock(&self.refused);
        if let Some(refusal) = refused.session {
            return Some(Err(refusal));
        }
        (is_answered && refused.count >= refusals)
            .then(|| refused.of.get(&number).map_or(Ok(()), |&refusal| Err(refusal)))
    }

    /// The session's number, once the hub has answered an attachment; 0 if the hub had none left.
    pub(crate) fn number(&self) -> u32 {
        self.page.number()
    }

    /// Has `watcher` called when the owner's process ends. A wait must call
    /// [`wait_watched`](Self::wait_watched) as well.
    pub(crate) fn watch(&self, number: u32, watcher: Weak<dyn OwnerEnds>) -> Result<(), Failure> {
        let mut watchers = lock(&self.watchers);
        watchers.of.insert(number, watcher);
        self.ask_for_owner(&mut watchers)
    }

    fn ask_for_owner(&self, watchers: &mut Watchers) -> Result<(), Failure> {
        if matches!(watchers.owner, OwnerProcess::Unknown) {
            self.send(ToHub::Watch)?;
            watchers.owner = OwnerProcess::Asked;
        }
        Ok(())
    }

    /// Waits until this process watches the owner's process, whose pidfd comes from the owner's
    /// hub.
    pub(crate) fn wait_watched<L: TimeLimit>(
        self: &Arc<Self>,
        limit: &L,
    ) -> Waited<(), Failure, L> {
        self.ask_for_owner(&mut lock(&self.watchers))?;
        self.wait(limit, || {
            (!matches!(lock(&self.watchers).owner, OwnerProcess::Asked)).then_some(())
        })?;
        let mut watchers = lock(&self.watchers);
        match &watchers.owner {
            OwnerProcess::Watched => Ok(()),
            OwnerProcess::Ended => Err(Failure::Gone.into()),
            OwnerProcess::Known(owner) => {
                // A duplicate, so that a later call can try again if this one fails.
                let owner = owner.try_clone().map_err(Failure::Io)?;
                let session: Weak<Session> = Arc::downgrade(self);
                service::watch_owner(owner, session).map_err(Failure::Io)?;
                watchers.owner = OwnerProcess::Watched;
                Ok(())
            }
            // It has come, but this process had no descriptor for it. The next call asks again.
            OwnerProcess::Unknown | OwnerProcess::Asked => Err(Failure::Starved.into()),
        }
    }

    /// Has parcels for this attachment delivered to `to`.
    pub(crate) fn route(&self, number: u32, to: Weak<dyn ParcelSink>) {
        lock(&self.parcels).insert(number, to);
    }

    pub(crate) fn detach(&self, number: u32) {
        // The original process still uses the attachment.
        if sys::is_fork() {
            return;
        }
        lock(&self.parcels).remove(&number);
        lock(&self.watchers).of.remove(&number);
        lock(&self.refused).of.remove(&number);
        // If the hub is gone, there is nothing to detach from.
        let _ = self.send(ToHub::Detach { number });
    }

    /// Takes and sends `parcel` unless too many are unread. Returns whether nothing is left to
    /// send.
    pub(crate) fn send_parcel(
        &self,
        number: u32,
        parcel: &mut Option<Envelope>,
    ) -> Result<bool, Failure> {
        let Some(envelope) = parcel.take() else { return Ok(true) };
        let message = ToHub::Parcel { number, envelope };
        let mut up = self.up.lock();
        let has_room = up.queue.parcels.wrapping_sub(self.page.hub_parcels_read()) < PARCELS_MAX;
        let sent = if has_room { up.send(&message) } else { Err(Failure::Full) };
        match sent {
            Ok(()) => {
                up.queue.parcels += 1;
                failpoints::point("put.parcel");
                Ok(true)
            }
            Err(failure) => {
                if let ToHub::Parcel { envelope, .. } = message {
                    *parcel = Some(envelope);
                }
                if matches!(failure, Failure::Full) { Ok(false) } else { Err(failure) }
            }
        }
    }

    /// Creates an in-flight reference for a handle of this attachment that is sent on. Calls
    /// `announce` before the hub can learn of it.
    pub(crate) fn in_flight(
        &self,
        number: u32,
        announce: impl FnOnce(),
    ) -> io::Result<CheckedSender<ToHub>> {
        let (sender, receiver) = wire::channel()?;
        announce();
        match self.send(ToHub::InFlight { number, receiver }) {
            // The receiving process finds out by itself that the hub is gone.
            Ok(()) | Err(Failure::Gone) => Ok(sender),
            Err(failure) => Err(failure.into_io()),
        }
    }

    fn send(&self, message: ToHub) -> Result<(), Failure> {
        self.up.lock().post(message)
    }

    /// Makes the hub check an attachment whose sleep flag is `flag`, unless the hub polls it.
    #[inline]
    pub(crate) fn ring(&self, number: u32, flag: &AtomicU64) {
        if doorbell::claim(flag) {
            self.send_bell(number);
        }
    }

    #[cold]
    fn send_bell(&self, number: u32) {
        failpoints::point("doorbell.claimed");
        if failpoints::is_mutated("client.no-bell") {
            return;
        }
        if let Err(Failure::Gone) = self.up.ring(number) {
            self.down.set_gone();
        }
    }

    /// Checks whether the hub is gone, without waiting; see [`SharedReceiver::check`].
    pub(crate) fn check(&self) -> bool {
        self.down.check(self)
    }

    /// Returns whether the hub has ended or refused the session, as far as can be known without
    /// waiting.
    pub(crate) fn is_over(&self) -> bool {
        self.check() || lock(&self.refused).session.is_some()
    }

    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.down.is_gone()
    }

    /// Waits until `ready` returns a result; see [`SharedReceiver::wait`].
    pub(crate) fn wait<R, L: TimeLimit>(
        &self,
        limit: &L,
        ready: impl FnMut() -> Option<R>,
    ) -> Waited<R, Failure, L> {
        self.down.wait(self, limit, ready)
    }
}

impl Session {
    /// Returns a slot to pass to [`poll`](Session::poll).
    pub(crate) fn register(&self) -> io::Result<WakerSlot> {
        self.down.register()
    }

    /// Like [`wait`](Session::wait), but never sleeps; see [`SharedReceiver::poll`].
    pub(crate) fn poll<R>(
        &self,
        interest: Interest<'_>,
        ready: impl FnMut() -> Option<R>,
    ) -> Poll<Result<R, Failure>> {
        self.down.poll(self, interest, ready)
    }
}

impl OwnerEnds for Session {
    fn owner_ended(&self) {
        self.down.set_gone();
        let mut watchers = lock(&self.watchers);
        watchers.owner = OwnerProcess::Ended;
        let ended = std::mem::take(&mut watchers.of);
        drop(watchers);
        for watcher in ended.values().filter_map(Weak::upgrade) {
            watcher.owner_ended();
        }
    }
}

impl SleepFlag<ToClient> for Session {
    fn arm(&self) {
        self.page.arm_client();
    }

    fn disarm(&self) -> usize {
        usize::from(self.page.disarm_client())
    }

    fn message(&self, message: ToClient) -> bool {
        match message {
            ToClient::Bell => true,
            ToClient::Parcel { number, id, envelope } => {
                let to = lock(&self.parcels).get(&number).and_then(Weak::upgrade);
                if let Some(to) = &to {
                    to.parcel(id, envelope);
                }
                failpoints::point("parcel.read");
                self.page.parcel_read();
                if let Some(to) = &to {
                    to.parcel_read();
                }
                false
            }
            ToClient::Owner { process } => {
                let owner = Pidfd::adopt(process);
                let mut watchers = lock(&self.watchers);
                match (&watchers.owner, owner) {
                    (OwnerProcess::Asked, Ok(owner)) => watchers.owner = OwnerProcess::Known(owner),
                    (OwnerProcess::Asked, Err(_)) => watchers.owner = OwnerProcess::Unknown,
                    _ => {}
                }
                false
            }
            ToClient::Refused { number, refusal } => {
                let mut refused = lock(&self.refused);
                refused.count += 1;
                refused.of.insert(number, refusal);
                false
            }
            ToClient::NoSession(refusal) => {
                lock(&self.refused).session = Some(refusal);
                false
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        SESSIONS.remove_ended(&self.hub);
        if matches!(lock(&self.watchers).owner, OwnerProcess::Watched) {
            service::session_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::deadline::Deadline;
    use crate::ipc::wire::{EncodedValue, WireHandle};

    fn parcel(files: usize) -> Option<Envelope> {
        let file = |_| WireHandle::File(Pidfd::of_self().unwrap().into());
        let value = EncodedValue { bytes: vec![7], handles: (0..files).map(file).collect() };
        Some(Envelope::new(value).unwrap())
    }

    #[test]
    fn a_parcel_that_was_not_sent_comes_back_and_does_not_count() {
        // This test is the hub.
        let (in_flight, opened) = wire::channel().unwrap();
        let session = Session::open([7; 16], &in_flight).unwrap();
        let ToHub::Open { up, .. } = opened.recv(&Deadline::now()).unwrap() else {
            panic!("no session was opened");
        };
        for _ in 0..2 * PARCELS_MAX {
            // No message may have as many descriptors.
            let mut refused = parcel(100);
            session.send_parcel(0, &mut refused).unwrap_err();
            assert!(refused.is_some());
        }
        while session.up.lock().send(&ToHub::Bell { number: 0 }).is_ok() {}
        for _ in 0..2 * PARCELS_MAX {
            let mut without_room = parcel(0);
            assert!(!session.send_parcel(0, &mut without_room).unwrap());
            assert!(without_room.is_some());
        }
        while up.recv(&Deadline::now()).is_ok() {}
        for _ in 0..PARCELS_MAX {
            assert!(session.send_parcel(0, &mut parcel(1)).unwrap());
        }
        assert!(!session.send_parcel(0, &mut parcel(1)).unwrap(), "nothing was read");
    }
}
