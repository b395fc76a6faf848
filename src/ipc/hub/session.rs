//! The client's side: a session with the hub of another process.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;

use crate::failpoints;
use crate::ipc::deadline::{TimeLimit, Waited};
use crate::ipc::hub::page::SessionPage;
use crate::ipc::hub::up_channel::UpChannel;
use crate::ipc::hub::{HubId, ToClient, ToHub, service};
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::reactor::{Interest, WakerSlot};
use crate::ipc::region::Region;
use crate::ipc::ring::RING_BYTES;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::{self, CheckedSender, Envelope, Failure};
use crate::sys::lock;

/// Words after the two rings of a region, each on a cache line of its own.
const WORDS: usize = 16;
const LINE: usize = 128;

/// Offset of the ring from client to hub.
pub(crate) const UP_RING: usize = 0;
/// Offset of the ring from hub to client.
pub(crate) const DOWN_RING: usize = RING_BYTES;
pub(crate) const REGION_BYTES: usize = 2 * RING_BYTES + WORDS * LINE;

/// Returns the offset of a word.
pub(crate) const fn word(index: usize) -> usize {
    assert!(index < WORDS);
    2 * RING_BYTES + index * LINE
}

/// A session with the hub of another process. It ends when the last attachment that uses it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Session {
    hub: HubId,
    page: SessionPage,
    up: UpChannel,
    down: SharedReceiver<ToClient>,
    /// The number of the next attachment. Changed under the lock of `up`, because the hub expects
    /// attachments in the order of their numbers.
    next_number: AtomicU32,
    parcels: Mutex<HashMap<u32, Weak<dyn ParcelSink>>>,
    /// What to notify of the end of the owner's process.
    watchers: Mutex<Watchers>,
}

#[derive(Debug, Default)]
struct Watchers {
    watched: bool,
    of: HashMap<u32, Weak<dyn OwnerGone>>,
}

/// An attachment whose waits do not notice the end of the owner's process by themselves.
pub(crate) trait OwnerGone: std::fmt::Debug + Send + Sync {
    fn owner_gone(&self);
}

/// Unread parcels to the hub. This many fit its socket's buffer, beside the other messages.
const PARCELS_MAX: u64 = 4;

/// An attachment that receives parcels.
pub(crate) trait ParcelSink: std::fmt::Debug + Send + Sync {
    fn parcel(&self, id: u64, envelope: Envelope);
}

static SESSIONS: WeakMap<HubId, Session> = WeakMap::new();

impl Session {
    /// Returns this process's session with a hub, and opens it over `in_flight` if there is none.
    pub(crate) fn with(
        hub: HubId,
        in_flight: &CheckedSender<ToHub>,
    ) -> Result<Arc<Session>, Failure> {
        SESSIONS.get_or_try_insert(hub, || Session::open(hub, in_flight))
    }

    fn open(hub: HubId, in_flight: &CheckedSender<ToHub>) -> Result<Arc<Session>, Failure> {
        let page = SessionPage::new().map_err(Failure::Io)?;
        let (up, up_in_hub) = wire::channel().map_err(Failure::Io)?;
        let (down_in_hub, down) = wire::channel().map_err(Failure::Io)?;
        let open = ToHub::Open { page: page.memory(), up: up_in_hub, down: down_in_hub };
        wire::send(in_flight, &open)?;
        failpoints::point("session.open");
        Ok(Arc::new(Session {
            hub,
            page,
            up: UpChannel::new(up),
            down: SharedReceiver::new(down),
            next_number: AtomicU32::new(0),
            parcels: Mutex::new(HashMap::new()),
            watchers: Mutex::default(),
        }))
    }

    /// Attaches an object, and returns the attachment's number in this session. Does not wait for
    /// the hub, which confirms in a word of the region.
    pub(crate) fn attach(&self, object: u64, region: Option<&Region>) -> Result<u32, Failure> {
        let region = region.map(Region::memory);
        let mut up = self.up.lock();
        let number = self.next_number.load(Ordering::Relaxed);
        up.post(ToHub::Attach { number, object, region })?;
        self.next_number.store(number + 1, Ordering::Relaxed);
        drop(up);
        failpoints::point("session.attach");
        Ok(number)
    }

    /// Waits until the hub has accepted this attachment. Returns the session's number.
    pub(crate) fn wait_attached<L: TimeLimit>(
        &self,
        number: u32,
        limit: &L,
    ) -> Waited<u32, Failure, L> {
        self.wait(limit, || (self.page.attached() > number.into()).then(|| self.page.number()))
    }

    /// Has `watcher` called when the owner's process ends, or at once if it has ended.
    pub(crate) fn watch(
        self: &Arc<Self>,
        number: u32,
        watcher: Weak<dyn OwnerGone>,
    ) -> Result<(), Failure> {
        let mut watchers = lock(&self.watchers);
        if watchers.watched {
            let gone = self.is_gone().then(|| watcher.upgrade()).flatten();
            watchers.of.insert(number, watcher);
            drop(watchers);
            // `owner_gone` sets the flag before it takes the watchers, so either it has found this
            // one or the flag was set here.
            gone.into_iter().for_each(|watcher| watcher.owner_gone());
            return Ok(());
        }
        watchers.of.insert(number, watcher);
        let sender = service::liveness(Arc::downgrade(self)).map_err(Failure::Io)?;
        self.send(ToHub::Liveness { sender })?;
        service::announce();
        watchers.watched = true;
        Ok(())
    }

    /// Called when the owner's process has ended, or has ended this session.
    pub(in crate::ipc::hub) fn owner_gone(&self) {
        self.down.set_gone();
        let watchers = std::mem::take(&mut lock(&self.watchers).of);
        for watcher in watchers.values().filter_map(Weak::upgrade) {
            watcher.owner_gone();
        }
    }

    /// Has parcels for this attachment delivered to `to`.
    pub(crate) fn route(&self, number: u32, to: Weak<dyn ParcelSink>) {
        lock(&self.parcels).insert(number, to);
    }

    pub(crate) fn detach(&self, number: u32) {
        lock(&self.parcels).remove(&number);
        lock(&self.watchers).of.remove(&number);
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

    /// Creates an in-flight reference for a handle of this attachment that is sent on.
    pub(crate) fn in_flight(&self, number: u32) -> io::Result<CheckedSender<ToHub>> {
        let (sender, receiver) = wire::channel()?;
        match self.send(ToHub::InFlight { number, receiver }) {
            // The receiving process finds out by itself that the hub is gone.
            Ok(()) | Err(Failure::Gone) => Ok(sender),
            Err(failure) => Err(failure.into_io()),
        }
    }

    fn send(&self, message: ToHub) -> Result<(), Failure> {
        self.up.lock().post(message)
    }

    /// Wakes the hub if it sleeps.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.page.claim_hub() {
            self.send_bell();
        }
    }

    #[cold]
    fn send_bell(&self) {
        failpoints::point("doorbell.claimed");
        if failpoints::is_mutated("client.no-bell") {
            return;
        }
        match self.up.ring() {
            Err(Failure::Gone) => self.down.set_gone(),
            // The next one rings.
            Err(_) => self.page.arm_hub(),
            Ok(()) => {}
        }
    }

    /// Finds out whether the hub is gone, without waiting; see [`SharedReceiver::check`].
    pub(crate) fn check(&self) -> bool {
        self.down.check(self)
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
                if let Some(to) = to {
                    to.parcel(id, envelope);
                }
                failpoints::point("parcel.read");
                self.page.parcel_read();
                self.ring();
                false
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        SESSIONS.remove_ended(&self.hub);
    }
}
