//! The hub's own thread: sessions, tickets, attachments.
//!
//! It never waits for a client: what it sends is counted (see `page`), and a client that writes what no
//! client of ours writes loses its session. It sleeps in `IpcReceiverSet::select` when no region has
//! anything to do.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcMessage, IpcReceiver, IpcReceiverSet, IpcSelectionResult, IpcSender};

use crate::fail;
use crate::hub::page::Page;
use crate::hub::{Down, HubId, Peer, Session, Up};
use crate::line;
use crate::region::Region;
use crate::ring::Corrupt;
use crate::sys::{self, lock};
use crate::wire::{self, Packet};

/// A shared object of this process.
pub(crate) trait Resource: Send + Sync {
    /// A handle of it is under way (`+1`), or has arrived or was lost (`-1`).
    fn tickets(&self, change: isize);

    /// A client uses it from now on, through this region, if it sent one.
    fn attach(self: Arc<Self>, peer: Arc<Peer>, number: u32, region: Option<Arc<Region>>) -> Result<Box<dyn Attachment>, &'static str>;

    /// This process is at its end, and waits for its children: its own handles count no more.
    fn owner_exits(&self);

    /// For `resolve`: the object itself.
    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync>;
}

/// One client's use of one resource. Dropping it ends the client's leases.
pub(crate) trait Attachment: Send {
    /// Looks at the region, and does what is to do.
    fn service(&mut self) -> Result<Serviced, Corrupt>;

    /// A parcel arrived.
    fn parcel(&mut self, packet: Packet);

    fn resource(&self) -> Arc<dyn Resource>;

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
            (Serviced::Again(at), Serviced::Idle) | (Serviced::Idle, Serviced::Again(at)) => Serviced::Again(at),
            (Serviced::Idle, Serviced::Idle) => Serviced::Idle,
        }
    }
}

struct Hub {
    id: HubId,
    wake: Mutex<IpcSender<Up>>,
    asleep: AtomicBool,
    incoming: Mutex<Vec<(IpcReceiver<Up>, Incoming)>>,
}

/// What the service is to watch.
enum Incoming {
    Ticket(Arc<dyn Resource>),
    /// The end of another hub's process, for this process's session with it.
    Leash(Weak<Session>),
}

static HUB: OnceLock<Hub> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());
static RESOURCES: Mutex<Option<HashMap<u64, Weak<dyn Resource>>>> = Mutex::new(None);
static NEXT_RESOURCE: AtomicU64 = AtomicU64::new(1);

/// The hub of this process, started on first use.
fn hub() -> io::Result<&'static Hub> {
    if let Some(hub) = HUB.get() {
        return Ok(hub);
    }
    let _one_at_a_time = lock(&STARTING);
    if let Some(hub) = HUB.get() {
        return Ok(hub);
    }
    let (wake, waked) = ipc::channel()?;
    let mut set = IpcReceiverSet::new()?;
    let wake_id = set.add(waked)?;
    let id = sys::random()?;
    sys::service_thread("offspring-hub", move || {
        Service {
            hub: HUB.wait(),
            set,
            members: HashMap::from([(wake_id, Member::Wake)]),
            sessions: HashMap::new(),
        }
        .run();
    })?;
    Ok(HUB.get_or_init(|| Hub {
        id,
        wake: Mutex::new(wake),
        asleep: AtomicBool::new(false),
        incoming: Mutex::new(Vec::new()),
    }))
}

/// The id of this process's hub; starts it.
pub(crate) fn hub_id() -> io::Result<HubId> {
    hub().map(|hub| hub.id)
}

/// Whether a handle of this hub belongs to this process itself.
pub(crate) fn is_local(id: HubId) -> bool {
    HUB.get().is_some_and(|hub| hub.id == id)
}

/// Makes a resource known, under the number it returns, as long as somebody holds it.
pub(crate) fn publish(resource: &Arc<dyn Resource>) -> u64 {
    let number = NEXT_RESOURCE.fetch_add(1, Ordering::Relaxed);
    let mut resources = lock(&RESOURCES);
    let resources = resources.get_or_insert_default();
    resources.retain(|_, resource| resource.strong_count() > 0);
    resources.insert(number, Arc::downgrade(resource));
    number
}

/// The resource of this number, if it is still there.
pub(crate) fn resolve(number: u64) -> Option<Arc<dyn Resource>> {
    lock(&RESOURCES).as_ref()?.get(&number)?.upgrade()
}

/// All that this process has published and somebody holds.
pub(crate) fn resources() -> Vec<Arc<dyn Resource>> {
    let resources = lock(&RESOURCES);
    let mut numbered: Vec<_> = resources
        .iter()
        .flatten()
        .filter_map(|(n, resource)| Some((*n, resource.upgrade()?)))
        .collect();
    drop(resources);
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, resource)| resource).collect()
}

/// Makes the service look at the regions: something in them waits for a moment that it does not know of.
pub(crate) fn nudge() {
    let Some(hub) = HUB.get() else { return };
    if hub.asleep.swap(false, Ordering::SeqCst) {
        // The receiver lives as long as this process.
        let _ = wire::send(&lock(&hub.wake), Up::Bell);
    }
}

/// Tells all resources that this process is at its end.
pub(crate) fn owner_exits() {
    let resources: Vec<_> = lock(&RESOURCES)
        .iter()
        .flatten()
        .filter_map(|(_, resource)| resource.upgrade())
        .collect();
    for resource in resources {
        resource.owner_exits();
    }
}

/// A ticket for a resource of this process. The service is woken by [`announce`], which the caller calls
/// once the ticket is on its way: a wake-up in the middle of an encoding would take along raw handles of
/// ipc-channel that were encoded before it.
pub(crate) fn ticket(resource: Arc<dyn Resource>) -> io::Result<IpcSender<Up>> {
    let hub = hub()?;
    let (sender, receiver) = ipc::channel()?;
    resource.tickets(1);
    lock(&hub.incoming).push((receiver, Incoming::Ticket(resource)));
    Ok(sender)
}

/// A leash for a session with another hub: when nobody holds it any more, that hub is gone. See [`announce`].
pub(crate) fn leash(session: Weak<Session>) -> io::Result<IpcSender<Up>> {
    let hub = hub()?;
    let (sender, receiver) = ipc::channel()?;
    lock(&hub.incoming).push((receiver, Incoming::Leash(session)));
    Ok(sender)
}

/// Makes the service look at new tickets.
pub(crate) fn announce() {
    let Some(hub) = HUB.get() else { return };
    if lock(&hub.incoming).is_empty() {
        return;
    }
    fence(Ordering::SeqCst);
    if hub.asleep.swap(false, Ordering::SeqCst) {
        // The receiver lives as long as this process.
        let _ = wire::send(&lock(&hub.wake), Up::Bell);
    }
}

enum Member {
    Wake,
    Ticket(Arc<dyn Resource>),
    Leash(Weak<Session>),
    Session,
    /// A session that ended before its channel did: what it still says is not heard.
    Deaf,
}

struct SessionState {
    peer: Arc<Peer>,
    attachments: HashMap<u32, Box<dyn Attachment>>,
    /// Held, so that the client sees when it ends.
    leash: Option<IpcSender<Up>>,
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

/// Hears what a client said before it ended, and not for ever what one goes on to say.
fn last_looks(mut service: impl FnMut() -> Result<Serviced, Corrupt>) {
    if fail::mistake("end.no-drain") {
        return;
    }
    for _ in 0..64 {
        let Ok(Serviced::Busy) = service() else { return };
    }
}

/// A client may use so many resources; each costs a mapping here.
const ATTACHMENTS_MAX: usize = 4096;

struct Service {
    hub: &'static Hub,
    set: IpcReceiverSet,
    members: HashMap<u64, Member>,
    sessions: HashMap<u64, SessionState>,
}

impl Service {
    fn run(mut self) {
        let mut heard = Instant::now();
        let spin = line::Spin::of_long_looks();
        loop {
            self.adopt_tickets();
            // Clients in the middle of an exchange write again at once.
            let mut look = || (self.service() == Serviced::Busy).then_some(());
            if look().or_else(|| spin.run(None, &mut look)).is_some() {
                // Those who write need a processor too: on two of them, a hub that looks again at once finds an
                // entry or two each time, at the price of both sides' cache lines.
                line::give_way();
                let now = Instant::now();
                if now.saturating_duration_since(heard) >= HEAR_EVERY {
                    heard = now;
                    if let Some(events) = self.hear(|set| set.try_select().ok()) {
                        self.handle(events);
                    }
                }
                continue;
            }
            self.hub.asleep.store(true, Ordering::SeqCst);
            for session in self.sessions.values() {
                session.peer.page.arm_hub();
            }
            fence(Ordering::SeqCst);
            // Once more, now that whoever comes later rings.
            let mut events = None;
            let serviced = self.service();
            if lock(&self.hub.incoming).is_empty() {
                events = match serviced {
                    Serviced::Busy => None,
                    Serviced::Again(at) => self.hear(|set| set.try_select_timeout(at.saturating_duration_since(Instant::now())).ok()),
                    Serviced::Idle => self.hear(|set| set.select().ok()),
                };
            }
            self.hub.asleep.store(false, Ordering::SeqCst);
            for session in self.sessions.values() {
                session.peer.page.disarm_hub();
            }
            self.handle(events.unwrap_or_default());
        }
    }

    /// Receives. A packet that no ipc-channel has sent makes ipc-channel panic; that must not end the hub for all.
    fn hear(&mut self, select: impl FnOnce(&mut IpcReceiverSet) -> Option<Vec<IpcSelectionResult>>) -> Option<Vec<IpcSelectionResult>> {
        wire::no_panic("ipc-channel", || select(&mut self.set)).unwrap_or_else(|error| {
            log::error!(target: "offspring::hub", "a client sent what is no message: {error}");
            None
        })
    }

    /// Looks at every region.
    fn service(&mut self) -> Serviced {
        let mut all = Serviced::Idle;
        let mut corrupt = Vec::new();
        for (&id, session) in &mut self.sessions {
            // A mistake of ours with one client must not end the hub for all.
            match wire::survive("service", || session.service()) {
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

    /// Ends the session of a client that does not keep to the protocol.
    fn expel(&mut self, id: u64, why: &str) {
        if self.sessions.remove(&id).is_some() {
            log::error!(target: "offspring::hub", "a client lost its session: {why}");
            self.members.insert(id, Member::Deaf);
        }
    }

    fn adopt_tickets(&mut self) {
        let incoming = std::mem::take(&mut *lock(&self.hub.incoming));
        for (receiver, incoming) in incoming {
            match incoming {
                Incoming::Ticket(resource) => self.adopt_ticket(receiver, resource),
                Incoming::Leash(session) => self.adopt_leash(receiver, session),
            }
        }
    }

    fn adopt_ticket(&mut self, receiver: IpcReceiver<Up>, resource: Arc<dyn Resource>) {
        match self.set.add(receiver) {
            Ok(id) => {
                self.members.insert(id, Member::Ticket(resource));
            }
            Err(error) => {
                log::error!(target: "offspring::hub", "could not watch a handle that is under way: {error}");
                resource.tickets(-1);
            }
        }
    }

    fn adopt_leash(&mut self, receiver: IpcReceiver<Up>, session: Weak<Session>) {
        match self.set.add(receiver) {
            Ok(id) => {
                self.members.insert(id, Member::Leash(session));
            }
            Err(error) => log::error!(target: "offspring::hub", "could not watch another process: {error}"),
        }
    }

    fn handle(&mut self, events: Vec<IpcSelectionResult>) {
        for event in events {
            // A mistake of ours with one client must not end the hub for all.
            if let Err(error) = wire::survive("hub", || self.handle_one(event)) {
                log::error!(target: "offspring::hub", "{error}");
            }
        }
    }

    fn handle_one(&mut self, event: IpcSelectionResult) {
        match event {
            IpcSelectionResult::ChannelClosed(id) => self.closed(id),
            IpcSelectionResult::MessageReceived(id, message) => {
                let message = wire::no_panic("ipc-channel", || IpcMessage::to::<Up>(message));
                match message {
                    Ok(Ok(message)) => self.message(id, message),
                    _ => self.expel(id, "its message does not decode"),
                }
            }
        }
    }

    fn closed(&mut self, id: u64) {
        match self.members.remove(&id) {
            Some(Member::Ticket(resource)) => resource.tickets(-1),
            Some(Member::Leash(session)) => {
                if let Some(session) = session.upgrade() {
                    session.owner_gone();
                }
            }
            Some(Member::Session) => {
                // First what it put before it died, then its leases end.
                if let Some(mut session) = self.sessions.remove(&id) {
                    fail::point("hub.ends");
                    last_looks(|| session.service());
                }
            }
            Some(Member::Wake | Member::Deaf) | None => {}
        }
    }

    fn message(&mut self, id: u64, message: Up) {
        match (self.members.get(&id), message) {
            (Some(Member::Ticket(_)), Up::Open { page, up, down }) => self.open(page, up, down),
            (Some(Member::Session), message) => {
                if let Err(why) = self.session_message(id, message) {
                    self.expel(id, why);
                }
            }
            // The wake-up of our own, and what nobody may say there.
            _ => {}
        }
    }

    fn open(&mut self, page: ipc::IpcSharedMemory, up: IpcReceiver<Up>, down: IpcSender<Down>) {
        // Dropping `down` tells the client that there is no session.
        let Some(page) = Page::adopt(page) else { return };
        match self.set.add(up) {
            Ok(id) => {
                self.members.insert(id, Member::Session);
                let peer = Arc::new(Peer::new(page, down));
                let attachments = HashMap::new();
                let leash = None;
                self.sessions.insert(id, SessionState { peer, attachments, leash });
            }
            Err(error) => log::error!(target: "offspring::hub", "could not watch a new session: {error}"),
        }
    }

    fn session_message(&mut self, id: u64, message: Up) -> Result<(), &'static str> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        match message {
            Up::Bell => {}
            Up::Attach { number, resource, region } => {
                let resource = resolve(resource).ok_or("it attached what is not there")?;
                if session.attachments.len() == ATTACHMENTS_MAX || session.attachments.contains_key(&number) {
                    return Err("it attached too much");
                }
                let region = region.map(|region| Arc::new(Region::adopt(region)));
                fail::point("hub.attach");
                let attachment = resource.attach(session.peer.clone(), number, region)?;
                session.attachments.insert(number, attachment);
                session.peer.page.attached_one_more();
                session.peer.ring();
            }
            Up::Leash { sender } => session.leash = Some(sender),
            Up::Parcel { number, packet } => {
                session
                    .attachments
                    .get_mut(&number)
                    .ok_or("its parcel is for nobody")?
                    .parcel(packet);
                session.peer.parcel_arrived();
            }
            Up::Ticket { number, receiver } => {
                let resource = session.attachments.get(&number).ok_or("its ticket is for nobody")?.resource();
                resource.tickets(1);
                self.adopt_ticket(receiver, resource);
            }
            Up::Detach { number } => {
                let mut attachment = session.attachments.remove(&number).ok_or("it detached what is not there")?;
                last_looks(|| attachment.service());
                if !attachment.detached() {
                    // Under its old number, which comes only once: until the session ends.
                    session.attachments.insert(number, attachment);
                }
            }
            Up::Open { .. } => return Err("it opened a session twice"),
        }
        Ok(())
    }
}
