//! The lifecycle of sessions: how they begin, attach objects, and end.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::diagnostics;
use crate::failpoints;
use crate::ipc::hub::object::{Attachment, Serviced, SharedObject, resolve};
use crate::ipc::hub::page::SessionPage;
use crate::ipc::hub::thread::HubThread;
use crate::ipc::hub::{ClientLink, REGION_BYTES, Session, ToClient, ToHub};
use crate::ipc::region::Memory;
use crate::ipc::ring::Corrupt;
use crate::ipc::wire::{CheckedReceiver, CheckedSender};

/// A channel that the hub receives from.
pub(in crate::ipc::hub) struct HubChannel {
    pub(in crate::ipc::hub) receiver: CheckedReceiver<ToHub>,
    pub(in crate::ipc::hub) role: Role,
    /// Whether its next message was left in it, because this process had no free descriptors.
    pub(in crate::ipc::hub) starved: bool,
}

pub(in crate::ipc::hub) enum Role {
    /// The in-flight reference of a handle of this object.
    InFlight(Arc<dyn SharedObject>),
    /// Closes with the hub that this process has the session with.
    Liveness(Weak<Session>),
    /// A client's session.
    Session,
}

/// A client's session, on the hub's side.
pub(in crate::ipc::hub) struct ServedSession {
    pub(in crate::ipc::hub) peer: Arc<ClientLink>,
    pub(in crate::ipc::hub) attachments: HashMap<u32, Box<dyn Attachment>>,
    /// Kept until the session ends. Dropping it then closes it, which the client notices.
    pub(in crate::ipc::hub) liveness: Option<CheckedSender<ToHub>>,
}

impl ServedSession {
    pub(in crate::ipc::hub) fn service(&mut self) -> Result<Serviced, Corrupt> {
        let mut all = Serviced::Idle;
        for attachment in self.attachments.values_mut() {
            all = all.and(attachment.service()?);
        }
        Ok(all)
    }
}

/// Serves what a client wrote before it ended or detached. Bounded, because one that still runs may
/// go on writing.
fn last_passes(mut service: impl FnMut() -> Result<Serviced, Corrupt>) {
    if failpoints::is_mutated("end.no-drain") {
        return;
    }
    for _ in 0..64 {
        let Ok(Serviced::Busy) = service() else {
            return;
        };
    }
}

/// The most objects that one client may attach: each costs this process a mapping.
const ATTACHMENTS_MAX: usize = 4096;

impl HubThread {
    /// Ends the session of a client that violates the protocol.
    pub(in crate::ipc::hub) fn expel(&mut self, id: u64, why: &str) {
        diagnostics::error("offspring::hub", format_args!("a client lost its session: {why}"));
        // Without last passes: nothing in its regions can be trusted.
        drop(self.sessions.remove(&id));
        self.channel_closed(id);
    }

    pub(in crate::ipc::hub) fn channel_closed(&mut self, id: u64) {
        let Some(HubChannel { receiver, role, .. }) = self.channels.remove(&id) else {
            return;
        };
        // Before the receiver closes the socket, whose number may then be reused at once.
        self.hub.poller.remove(receiver.socket());
        drop(receiver);
        match role {
            Role::InFlight(object) => object.count_in_flight(-1),
            Role::Liveness(session) => {
                if let Some(session) = session.upgrade() {
                    session.owner_gone();
                }
            }
            Role::Session => {
                // First serve what the client wrote before it died, then drop the attachments: that
                // ends its leases, and what it held goes to others.
                if let Some(mut session) = self.sessions.remove(&id) {
                    failpoints::point("hub.ends");
                    last_passes(|| session.service());
                }
            }
        }
    }

    pub(in crate::ipc::hub) fn take_message(&mut self, id: u64, message: ToHub) {
        match (self.channels.get(&id).map(|channel| &channel.role), message) {
            (Some(Role::InFlight(_)), ToHub::Open { page, up, down }) => self.open(page, up, down),
            (Some(Role::Session), message) => {
                if let Err(why) = self.take_session_message(id, message) {
                    self.expel(id, why);
                }
            }
            // No other message is valid on such a channel, and none does harm.
            _ => {}
        }
    }

    fn open(&mut self, page: Memory, up: CheckedReceiver<ToHub>, down: CheckedSender<ToClient>) {
        // On an error `down` is dropped, and the client notices that there is no session.
        let Some(page) = SessionPage::adopt(page) else {
            return;
        };
        // If `up` cannot be received from, `down` is dropped as well.
        if let Some(id) = self.adopt(up, Role::Session) {
            let peer = Arc::new(ClientLink::new(page, down));
            let attachments = HashMap::new();
            let liveness = None;
            self.sessions.insert(id, ServedSession { peer, attachments, liveness });
        }
    }

    /// Takes a message of a session. After each but a doorbell, a client that sleeps is rung: it may
    /// have had no room in its channel to send the next.
    fn take_session_message(&mut self, id: u64, message: ToHub) -> Result<(), &'static str> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        match message {
            ToHub::Bell => {}
            ToHub::Attach { number, object, region } => {
                let object = resolve(object).ok_or("it attached an object that does not exist")?;
                if session.attachments.len() == ATTACHMENTS_MAX
                    || session.attachments.contains_key(&number)
                {
                    return Err("it attached too many objects, or one number twice");
                }
                let map = |memory: Memory| memory.map_within(REGION_BYTES..=REGION_BYTES);
                let region =
                    region.map(map).transpose().map_err(|_| "its region cannot be mapped")?;
                let region = region.map(Arc::new);
                failpoints::point("hub.attach");
                let attachment = object.attach(session.peer.clone(), number, region)?;
                session.attachments.insert(number, attachment);
                // Counted after the insertion, and rung after the count: the client relies on the
                // attachment once it sees the count. It still holds its in-flight reference, so the
                // object cannot end in between.
                session.peer.page.attached_one_more();
                session.peer.ring();
            }
            ToHub::Liveness { sender } => {
                session.liveness = Some(sender);
                session.peer.ring();
            }
            ToHub::Parcel { number, envelope } => {
                session
                    .attachments
                    .get_mut(&number)
                    .ok_or("it sent a parcel for no attachment")?
                    .parcel(envelope);
                session.peer.parcel_arrived();
            }
            ToHub::InFlight { number, receiver } => {
                let object = session
                    .attachments
                    .get(&number)
                    .ok_or("it sent a handle of no attachment")?
                    .object();
                // Counted before the client can drop its own handle: its `Detach` comes later on
                // this same channel.
                object.count_in_flight(1);
                session.peer.ring();
                self.adopt_reference(receiver, object);
            }
            ToHub::Detach { number } => {
                let mut attachment = session
                    .attachments
                    .remove(&number)
                    .ok_or("it detached an object that is not attached")?;
                // What the client wrote before it detached counts.
                last_passes(|| attachment.service());
                if !attachment.detached() {
                    // It holds leases. It stays under its number, which is never used again, until
                    // the session ends.
                    session.attachments.insert(number, attachment);
                }
                session.peer.ring();
            }
            ToHub::Open { .. } => return Err("it opened a session twice"),
        }
        Ok(())
    }
}
