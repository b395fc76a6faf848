//! The hub's own thread: sessions, in_flight, attachments.
//!
//! It never waits for a client: what it sends is counted (see `page`), and a client that writes what no
//! client of ours writes loses its session. It sleeps in its poller when no region has anything to do.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcReceiver, IpcSender};

use crate::failpoints;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::hub::page::SessionPage;
use crate::ipc::hub::{ClientLink, HubId, Session, ToClient, ToHub};
use crate::ipc::parking;
use crate::ipc::region::Region;
use crate::ipc::ring::Corrupt;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::{self, CheckedReceiver, Envelope, Failure};
use crate::sys::{self, Poller, Service, lock};

/// A shared object of this process.
pub(crate) trait SharedObject: Send + Sync {
    /// A handle of it is under way (`+1`), or has arrived or was lost (`-1`).
    fn count_in_flight(&self, change: isize);

    /// A client uses it from now on, through this region, if it sent one.
    fn attach(
        self: Arc<Self>,
        peer: Arc<ClientLink>,
        number: u32,
        region: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, &'static str>;

    /// This process is at its end, and waits for its children: its own handles count no more.
    fn owner_exits(&self);

    /// For `resolve`: the object itself.
    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync>;
}

/// One client's use of one object. Dropping it ends the client's leases.
pub(crate) trait Attachment: Send {
    /// Looks at the region, and does what is to do.
    fn service(&mut self) -> Result<Serviced, Corrupt>;

    /// A parcel arrived.
    fn parcel(&mut self, envelope: Envelope);

    fn object(&self) -> Arc<dyn SharedObject>;

    /// The client's last handle is gone, not the client. Whether it holds nothing more, and this can go too.
    fn detached(&mut self) -> bool {
        true
    }
}

/// What an attachment had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serviced {
    /// Something; there may be more.
    Busy,
    /// Nothing now, and nothing until somebody rings, or until then.
    Again(Instant),
    /// Nothing until somebody rings.
    Idle,
}

impl Serviced {
    /// Of two attachments together.
    fn and(self, other: Serviced) -> Serviced {
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

struct Hub {
    id: HubId,
    poller: Poller,
    asleep: AtomicBool,
    incoming: Mutex<Vec<(IpcReceiver<ToHub>, Incoming)>>,
}

/// What the service is to watch.
enum Incoming {
    InFlight(Arc<dyn SharedObject>),
    /// The end of another hub's process, for this process's session with it.
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
static OBJECTS: WeakMap<u64, dyn SharedObject> = WeakMap::new();
static NEXT_OBJECT: AtomicU64 = AtomicU64::new(1);

/// The hub of this process, started by its first use.
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

/// The id of this process's hub; starts it.
pub(crate) fn hub_id() -> io::Result<HubId> {
    hub().map(|hub| hub.id)
}

/// Whether a handle of this hub belongs to this process itself.
pub(crate) fn is_local(id: HubId) -> bool {
    HUB.get().is_some_and(|hub| hub.id == id)
}

/// Makes an object known, under the number it returns, as long as somebody holds it.
pub(crate) fn publish(object: &Arc<dyn SharedObject>) -> u64 {
    let number = NEXT_OBJECT.fetch_add(1, Ordering::Relaxed);
    OBJECTS.insert(number, Arc::downgrade(object));
    number
}

/// Returns the object of this number, if it still exists.
pub(crate) fn resolve(number: u64) -> Option<Arc<dyn SharedObject>> {
    OBJECTS.get(&number)
}

/// Returns all resources of this process, in the order in which they were published.
pub(crate) fn objects() -> Vec<Arc<dyn SharedObject>> {
    OBJECTS.values()
}

/// Makes the service look at the regions: something in them waits for a moment that it does not know of.
pub(crate) fn reschedule() {
    if let Some(hub) = HUB.get() {
        hub.wake();
    }
}

/// Tells all resources that this process is at its end.
pub(crate) fn owner_exits() {
    for object in objects() {
        object.owner_exits();
    }
}

/// An in-flight reference to an object of this process. The service is woken by [`announce`], which the caller calls
/// once the in_flight is on its way: a wake-up in the middle of an encoding would take along raw handles of
/// ipc-channel that were encoded before it.
pub(crate) fn in_flight(object: Arc<dyn SharedObject>) -> io::Result<IpcSender<ToHub>> {
    let hub = hub()?;
    let (sender, receiver) = ipc::channel()?;
    object.count_in_flight(1);
    lock(&hub.incoming).push((receiver, Incoming::InFlight(object)));
    Ok(sender)
}

/// A liveness for a session with another hub: when nobody holds it any more, that hub is gone. See [`announce`].
pub(crate) fn liveness(session: Weak<Session>) -> io::Result<IpcSender<ToHub>> {
    let hub = hub()?;
    let (sender, receiver) = ipc::channel()?;
    lock(&hub.incoming).push((receiver, Incoming::Liveness(session)));
    Ok(sender)
}

/// Makes the service look at new in_flight.
pub(crate) fn announce() {
    let Some(hub) = HUB.get() else { return };
    if lock(&hub.incoming).is_empty() {
        return;
    }
    fence(Ordering::SeqCst);
    hub.wake();
}

/// Who speaks to the hub, and where.
struct Member {
    receiver: CheckedReceiver<ToHub>,
    role: Role,
    /// Whether it was put off and not heard since.
    starved: bool,
}

enum Role {
    InFlight(Arc<dyn SharedObject>),
    Liveness(Weak<Session>),
    Session,
}

struct SessionState {
    peer: Arc<ClientLink>,
    attachments: HashMap<u32, Box<dyn Attachment>>,
    /// Held, so that the client sees when it ends.
    liveness: Option<IpcSender<ToHub>>,
}

impl SessionState {
    fn service(&mut self) -> Result<Serviced, Corrupt> {
        let mut all = Serviced::Idle;
        for attachment in self.attachments.values_mut() {
            all = all.and(attachment.service()?);
        }
        Ok(all)
    }
}

/// How often a busy hub asks for messages: a system call that nearly always finds none.
const HEAR_EVERY: Duration = Duration::from_micros(100);

/// How long a member is not heard for whose message this process has no descriptors.
const PUT_OFF: Duration = Duration::from_millis(20);

/// So many messages of one member are heard before the others get their turn; more are there at the next look.
const HEAR_MAX: usize = 64;

/// Hears what a client said before it ended, and not for ever what one goes on to say.
fn last_looks(mut service: impl FnMut() -> Result<Serviced, Corrupt>) {
    if failpoints::mistake("end.no-drain") {
        return;
    }
    for _ in 0..64 {
        let Ok(Serviced::Busy) = service() else {
            return;
        };
    }
}

/// A client may use so many resources; each costs a mapping here.
const ATTACHMENTS_MAX: usize = 4096;

struct HubThread {
    hub: &'static Hub,
    /// The id of the next member.
    next: u64,
    members: HashMap<u64, Member>,
    sessions: HashMap<u64, SessionState>,
    /// Members whose next message cannot be read yet, each until when.
    put_off: Vec<(Instant, u64)>,
}

impl HubThread {
    fn new(hub: &'static Hub) -> HubThread {
        HubThread {
            hub,
            next: 0,
            members: HashMap::new(),
            sessions: HashMap::new(),
            put_off: Vec::new(),
        }
    }

    fn run(mut self) {
        let mut heard = Instant::now();
        let spin = parking::Spin::of_long_looks();
        loop {
            self.adopt_in_flight();
            self.hear_those_put_off();
            // Clients in the middle of an exchange write again at once.
            let mut look = || (self.service() == Serviced::Busy).then_some(());
            if look().or_else(|| spin.run(None, &mut look)).is_some() {
                // Those who write need a processor too: on two of them, a hub that looks again at once finds an
                // entry or two each time, at the price of both sides' cache lines.
                parking::snooze();
                let now = Instant::now();
                if now.saturating_duration_since(heard) >= HEAR_EVERY {
                    heard = now;
                    let told = self.hub.poller.wait(Some(now));
                    self.hear(told);
                }
                continue;
            }
            self.hub.asleep.store(true, Ordering::SeqCst);
            for session in self.sessions.values() {
                session.peer.page.arm_hub();
            }
            fence(Ordering::SeqCst);
            // Once more, now that whoever comes later rings.
            let serviced = self.service();
            let until = match serviced {
                Serviced::Again(at) if lock(&self.hub.incoming).is_empty() => Some(at),
                Serviced::Idle if lock(&self.hub.incoming).is_empty() => None,
                _ => Some(Instant::now()),
            };
            let put_off = self.put_off.first().map(|&(until, _)| until);
            let told = self.hub.poller.wait(until.into_iter().chain(put_off).min());
            self.hub.asleep.store(false, Ordering::SeqCst);
            for session in self.sessions.values() {
                session.peer.page.disarm_hub();
            }
            self.hear(told);
        }
    }

    /// Hears who has something to say.
    fn hear(&mut self, told: Vec<u64>) {
        for id in told.into_iter().filter(|&id| id != Poller::WAKE) {
            // A mistake of ours with one client must not end the hub for all.
            if let Err(error) = wire::catch_panic("hub", || self.hear_one(id)) {
                log::error!(target: "offspring::hub", "{error}");
            }
        }
    }

    /// This process has no descriptors for what a member sends: it is heard later. Until then it is out of the poller, which
    /// would say again and again that there is something to read. [`Poller::pause`] would not do: a paused member that has ended
    /// is still told of (HUP), and the hub would do nothing else.
    fn put_off(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut member.starved, true) {
            log::warn!(target: "offspring::hub", "a client waits: this process has no descriptors left");
        }
        if let Some(socket) = member.receiver.socket() {
            self.hub.poller.remove(socket);
            self.put_off.push((Instant::now() + PUT_OFF, id));
        }
    }

    fn hear_those_put_off(&mut self) {
        let now = Instant::now();
        while self.put_off.first().is_some_and(|&(until, _)| until <= now) {
            let (_, id) = self.put_off.remove(0);
            let socket = self
                .members
                .get(&id)
                .and_then(|member| member.receiver.socket());
            let watched = socket.map(|socket| self.hub.poller.add(socket, id));
            if let Some(Err(error)) = watched {
                self.expel(id, &error.to_string());
            }
        }
    }

    fn hear_one(&mut self, id: u64) {
        for _ in 0..HEAR_MAX {
            let Some(member) = self.members.get_mut(&id) else {
                return;
            };
            match member.receiver.recv(&Deadline::now()) {
                Ok(message) => {
                    member.starved = false;
                    self.message(id, message);
                }
                Err(WaitEnd::Timeout(_)) => return,
                Err(WaitEnd::Failed(Failure::Starved)) => return self.put_off(id),
                Err(WaitEnd::Failed(Failure::Gone)) => return self.closed(id),
                Err(WaitEnd::Failed(Failure::Io(error))) => {
                    return self.expel(id, &error.to_string());
                }
            }
        }
    }

    /// Looks at every region.
    fn service(&mut self) -> Serviced {
        let mut all = Serviced::Idle;
        let mut corrupt = Vec::new();
        for (&id, session) in &mut self.sessions {
            // A mistake of ours with one client must not end the hub for all.
            match wire::catch_panic("service", || session.service()) {
                Ok(Ok(serviced)) => all = all.and(serviced),
                Ok(Err(Corrupt)) => corrupt.push((id, "it wrote what no client writes")),
                Err(_) => corrupt.push((id, "serving it panicked")),
            }
        }
        for (id, why) in corrupt {
            self.expel(id, why);
        }
        all
    }

    /// Ends what a client has here that does not keep to the protocol.
    fn expel(&mut self, id: u64, why: &str) {
        log::error!(target: "offspring::hub", "a client lost its session: {why}");
        // Its regions are not looked at any more.
        drop(self.sessions.remove(&id));
        self.closed(id);
    }

    fn adopt_in_flight(&mut self) {
        let incoming = std::mem::take(&mut *lock(&self.hub.incoming));
        for (receiver, incoming) in incoming {
            match incoming {
                Incoming::InFlight(object) => self.adopt_reference(receiver, object),
                Incoming::Liveness(session) => drop(self.adopt(receiver, Role::Liveness(session))),
            }
        }
    }

    fn adopt_reference(&mut self, receiver: IpcReceiver<ToHub>, object: Arc<dyn SharedObject>) {
        if self
            .adopt(receiver, Role::InFlight(object.clone()))
            .is_none()
        {
            object.count_in_flight(-1);
        }
    }

    /// Hears one more from now on; its id.
    fn adopt(&mut self, receiver: IpcReceiver<ToHub>, role: Role) -> Option<u64> {
        let receiver = CheckedReceiver::new(receiver);
        let socket = receiver.socket()?;
        if let Err(error) = self.hub.poller.add(socket, self.next) {
            log::error!(target: "offspring::hub", "could not watch one more channel: {error}");
            return None;
        }
        let id = self.next;
        self.next += 1;
        let starved = false;
        self.members.insert(
            id,
            Member {
                receiver,
                role,
                starved,
            },
        );
        Some(id)
    }

    fn closed(&mut self, id: u64) {
        let Some(Member { receiver, role, .. }) = self.members.remove(&id) else {
            return;
        };
        if let Some(socket) = receiver.socket() {
            self.hub.poller.remove(socket);
        }
        drop(receiver);
        match role {
            Role::InFlight(object) => object.count_in_flight(-1),
            Role::Liveness(session) => {
                if let Some(session) = session.upgrade() {
                    session.owner_gone();
                }
            }
            Role::Session => {
                // First what it put before it died, then its leases end.
                if let Some(mut session) = self.sessions.remove(&id) {
                    failpoints::point("hub.ends");
                    last_looks(|| session.service());
                }
            }
        }
    }

    fn message(&mut self, id: u64, message: ToHub) {
        match (self.members.get(&id).map(|member| &member.role), message) {
            (Some(Role::InFlight(_)), ToHub::Open { page, up, down }) => self.open(page, up, down),
            (Some(Role::Session), message) => {
                if let Err(why) = self.session_message(id, message) {
                    self.expel(id, why);
                }
            }
            // What nobody may say there.
            _ => {}
        }
    }

    fn open(
        &mut self,
        page: ipc::IpcSharedMemory,
        up: IpcReceiver<ToHub>,
        down: IpcSender<ToClient>,
    ) {
        // Dropping `down` tells the client that there is no session.
        let Some(page) = SessionPage::adopt(page) else {
            return;
        };
        if let Some(id) = self.adopt(up, Role::Session) {
            let peer = Arc::new(ClientLink::new(page, down));
            let attachments = HashMap::new();
            let liveness = None;
            self.sessions.insert(
                id,
                SessionState {
                    peer,
                    attachments,
                    liveness,
                },
            );
        }
    }

    fn session_message(&mut self, id: u64, message: ToHub) -> Result<(), &'static str> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        match message {
            ToHub::Bell => {}
            ToHub::Attach {
                number,
                object,
                region,
            } => {
                let object = resolve(object).ok_or("it attached what is not there")?;
                if session.attachments.len() == ATTACHMENTS_MAX
                    || session.attachments.contains_key(&number)
                {
                    return Err("it attached too much");
                }
                let region = region.map(|region| Arc::new(Region::adopt(region)));
                failpoints::point("hub.attach");
                let attachment = object.attach(session.peer.clone(), number, region)?;
                session.attachments.insert(number, attachment);
                session.peer.page.attached_one_more();
                session.peer.ring();
            }
            ToHub::Liveness { sender } => session.liveness = Some(sender),
            ToHub::Parcel { number, envelope } => {
                session
                    .attachments
                    .get_mut(&number)
                    .ok_or("its parcel is for nobody")?
                    .parcel(envelope);
                session.peer.parcel_arrived();
            }
            ToHub::InFlight { number, receiver } => {
                let object = session
                    .attachments
                    .get(&number)
                    .ok_or("its in_flight is for nobody")?
                    .object();
                object.count_in_flight(1);
                self.adopt_reference(receiver, object);
            }
            ToHub::Detach { number } => {
                let mut attachment = session
                    .attachments
                    .remove(&number)
                    .ok_or("it detached what is not there")?;
                last_looks(|| attachment.service());
                if !attachment.detached() {
                    // Under its old number, which comes only once: until the session ends.
                    session.attachments.insert(number, attachment);
                }
            }
            ToHub::Open { .. } => return Err("it opened a session twice"),
        }
        Ok(())
    }
}
