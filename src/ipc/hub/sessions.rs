//! The lifecycle of sessions: how they begin, attach objects, and end.
//!
//! A session and the process at its other end are two things. A session is over when its channel
//! closes. The client closes it when its process ends, when it drops its last handle, or by
//! mistake; the hub closes it when the client violates the protocol. Only the process's pidfd
//! proves that the process has ended. Only then does the hub give to others what the process may
//! still use (a lock that it holds, an item that it works on, the number by which lock words name
//! it):
//!
//! ```text
//!              channel closed, or expelled            the process has ended
//!   [ open ] ------------------------------> [ over ] --------------------> dropped
//!       |     retire each attachment            |     leases end
//!       |     nothing is left: dropped at once -+
//!       |
//!       | the process has ended first
//!       +------> [ open, process_ended ] -----> over, and dropped
//!                 what is in the channel is read
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use crate::diagnostics;
use crate::failpoints;
use crate::ipc::account::{Account, Charge};
use crate::ipc::hub::object::{Attachment, Charged, OwnerEnds, SharedObject, resolve};
use crate::ipc::hub::page::SessionPage;
use crate::ipc::hub::refusal::ATTACHMENTS_MAX;
use crate::ipc::hub::thread::HubThread;
use crate::ipc::hub::{ClientLink, ObjectKey, REGION_BYTES, Refusal, ToClient, ToHub};
use crate::ipc::region::{Memory, Region};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, Failure};
use crate::sys::{self, Pidfd};

/// A channel that the hub receives from.
pub(in crate::ipc::hub) struct HubChannel {
    pub(in crate::ipc::hub) receiver: CheckedReceiver<ToHub>,
    pub(in crate::ipc::hub) kind: ChannelKind,
    /// If true, its next message was left in it because this process had no free descriptors.
    pub(in crate::ipc::hub) starved: bool,
    /// If true, the hub leaves it alone for a while.
    pub(in crate::ipc::hub) deferred: bool,
    /// If true, the hub tries it again after that.
    pub(in crate::ipc::hub) called_again: bool,
    /// If true, its client's account has been full at some time.
    pub(in crate::ipc::hub) was_full: bool,
    /// Its descriptor, if a client sent it.
    _charge: Option<Charge>,
}

impl HubChannel {
    pub(in crate::ipc::hub) fn new(
        receiver: CheckedReceiver<ToHub>,
        kind: ChannelKind,
        charge: Option<Charge>,
    ) -> HubChannel {
        let (starved, deferred, called_again, was_full) = (false, false, false, false);
        HubChannel { receiver, kind, starved, deferred, called_again, was_full, _charge: charge }
    }
}

pub(in crate::ipc::hub) enum ChannelKind {
    /// The in-flight reference of a handle of this object.
    InFlight(Arc<dyn SharedObject>),
    /// The session of a client with this account.
    Session(Arc<Account>),
}

/// A process whose end the hub waits for.
pub(in crate::ipc::hub) struct WatchedProcess {
    pidfd: Pidfd,
    /// Its relation to this process: a client, or an owner of objects that this process uses.
    peer: WatchedPeer,
}

enum WatchedPeer {
    /// The client at the other end of this session.
    Client(u64),
    /// The owner with which this process has the session.
    Owner(Weak<dyn OwnerEnds>),
}

/// A client's session, on the hub's side.
pub(in crate::ipc::hub) struct ServedSession {
    pub(in crate::ipc::hub) peer: Arc<ClientLink>,
    pub(in crate::ipc::hub) attachments: HashMap<u32, Box<dyn Attachment>>,
    /// The number of the next attachment.
    next_number: u32,
    /// The id under which its process is watched.
    process: u64,
    process_ended: bool,
    /// What is kept for its process.
    account: Arc<Account>,
    _charge: Charge,
    /// The messages to the client that could not be sent yet.
    untold: VecDeque<Untold>,
}

impl ServedSession {
    /// Attaches an object for the client. Returns the object if that made it active.
    fn attach(
        &mut self,
        number: u32,
        key: ObjectKey,
        fingerprint: u64,
        region: Option<Memory>,
    ) -> Result<Option<Arc<dyn SharedObject>>, Refusal> {
        // The client may have dropped its handle before the hub read this message, and with it the
        // in-flight reference that kept the object alive.
        let object = resolve(key).ok_or(Refusal::NoObject)?;
        // Compare with the object's own type, not with what a client claims it to be.
        if object.fingerprint() != fingerprint {
            return Err(Refusal::OtherType);
        }
        let charge = self.account.charge_object(ATTACHMENTS_MAX).ok_or(Refusal::TooMany)?;
        let region = region.map(map_region).transpose()?;
        failpoints::point("hub.attach");
        let attachment = object.clone().attach(self.peer.clone(), number, region)?;
        self.attachments.insert(number, Box::new(Charged { attachment, _charge: charge }));
        // The client does not ring until its flag is set, so its object must be served.
        Ok(object.activate().then_some(object))
    }

    /// Drops all attachments: the client's leases end.
    fn end(self) {
        self.attachments.into_values().for_each(end_attachment);
    }
}

fn map_region(memory: Memory) -> Result<Arc<Region>, Refusal> {
    let region = memory.map_and_close(REGION_BYTES..=REGION_BYTES);
    region.map(Arc::new).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Refusal::Unfit,
        _ => Refusal::Starved,
    })
}

/// A message to a client that has not been sent yet.
enum Untold {
    Owner,
    Refused(u32, Refusal),
}

impl Untold {
    fn message(&self) -> Result<ToClient, Failure> {
        Ok(match *self {
            Untold::Owner => {
                ToClient::Owner { process: Pidfd::of_self().map_err(Failure::Io)?.into() }
            }
            Untold::Refused(number, refusal) => ToClient::Refused { number, refusal },
        })
    }
}

/// Drops an attachment. A panic in one must not keep the others from being dropped.
fn end_attachment(attachment: Box<dyn Attachment>) {
    if let Err(error) = wire::catch_panic("end", || drop(attachment)) {
        diagnostics::error("offspring::hub", format_args!("{error}"));
    }
}

/// What a session keeps open: the ends of its two channels, and the client's pidfd.
const SESSION_DESCRIPTORS: usize = 3;

/// How often the channel of an ended process is received from at most. If it holds more messages,
/// they come from a process that shares it, such as a fork.
const LAST_RECEIVES: usize = 32;

impl HubThread {
    /// Ends the session of a client that violates the protocol.
    pub(in crate::ipc::hub) fn expel(&mut self, id: u64, why: &str) {
        diagnostics::error("offspring::hub", format_args!("a client lost its session: {why}"));
        let session = self.sessions.remove(&id);
        self.channel_closed(id);
        if let Some(session) = session {
            self.retire(id, session);
        }
    }

    pub(in crate::ipc::hub) fn channel_closed(&mut self, id: u64) {
        let Some(HubChannel { receiver, kind, .. }) = self.channels.remove(&id) else {
            return;
        };
        // Before the receiver closes the socket, whose number may then be reused at once.
        self.hub.poller.remove(receiver.socket());
        drop(receiver);
        match kind {
            ChannelKind::InFlight(object) => object.count_in_flight(-1),
            ChannelKind::Session(_) => {
                if let Some(session) = self.sessions.remove(&id) {
                    failpoints::point("hub.ends");
                    self.retire(id, session);
                }
            }
        }
    }

    /// Ends a session whose client may still run.
    fn retire(&mut self, id: u64, mut session: ServedSession) {
        // A client that still runs sees the end of its session now.
        session.peer.close();
        let mut done = Vec::new();
        for (&number, attachment) in &mut session.attachments {
            // After a panic, it is unknown what the client still holds.
            if wire::catch_panic("retire", || attachment.retire()).unwrap_or(false) {
                done.push(number);
            }
        }
        for number in done {
            session.attachments.remove(&number).into_iter().for_each(end_attachment);
        }
        if session.attachments.is_empty() || session.process_ended {
            if let Some(process) = self.processes.remove(&session.process) {
                self.hub.poller.remove(&process.pidfd);
            }
            session.end();
        } else {
            self.over.insert(id, session);
        }
    }

    /// A process that the hub watches has ended.
    pub(in crate::ipc::hub) fn process_ended(&mut self, id: u64) {
        let Some(WatchedProcess { pidfd, peer }) = self.processes.remove(&id) else {
            return;
        };
        self.hub.poller.remove(&pidfd);
        match peer {
            WatchedPeer::Owner(session) => {
                if let Some(session) = session.upgrade() {
                    session.owner_ended();
                }
            }
            WatchedPeer::Client(id) => {
                if let Some(session) = self.over.remove(&id) {
                    session.end();
                } else if let Some(session) = self.sessions.get_mut(&id) {
                    session.process_ended = true;
                    self.read_last(id);
                }
            }
        }
    }

    /// Reads what an ended process left in its channel, and ends the session. If this process has
    /// no descriptors for that now, it does so later.
    pub(in crate::ipc::hub) fn read_last(&mut self, id: u64) {
        for _ in 0..LAST_RECEIVES {
            if !self.sessions.get(&id).is_some_and(|session| session.process_ended)
                || self.channels.get(&id).is_some_and(|channel| channel.deferred)
            {
                return;
            }
            self.receive_from(id);
        }
        self.channel_closed(id);
    }

    /// Returns `true` if the process of this session has ended.
    pub(in crate::ipc::hub) fn has_ended(&self, id: u64) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.process_ended)
    }

    /// Has [`process_ended`](Self::process_ended) called with the id that this returns.
    fn watch_client(&mut self, pidfd: Pidfd, session: u64) -> io::Result<u64> {
        let id = self.hub.next_id();
        self.hub.poller.add(&pidfd, id)?;
        self.processes.insert(id, WatchedProcess { pidfd, peer: WatchedPeer::Client(session) });
        Ok(id)
    }

    /// Records that an owner with which this process has a session is in the poller.
    pub(in crate::ipc::hub) fn watched_owner(
        &mut self,
        id: u64,
        pidfd: Pidfd,
        session: Weak<dyn OwnerEnds>,
    ) {
        self.processes.insert(id, WatchedProcess { pidfd, peer: WatchedPeer::Owner(session) });
    }

    /// Stops watching owners with which this process has no session any more.
    pub(in crate::ipc::hub) fn forget_owners(&mut self) {
        let poller = &self.hub.poller;
        self.processes.retain(|_, process| {
            let is_over =
                matches!(&process.peer, WatchedPeer::Owner(session) if session.strong_count() == 0);
            if is_over {
                poller.remove(&process.pidfd);
            }
            !is_over
        });
    }

    /// Sends a client the messages that could not be sent before, or tries again later.
    pub(in crate::ipc::hub) fn tell(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        while let Some(untold) = session.untold.front() {
            match untold.message().and_then(|message| session.peer.send(&message)) {
                Ok(()) => drop(session.untold.pop_front()),
                Err(Failure::Gone) => session.untold.clear(),
                Err(_) => return self.call_again(id),
            }
        }
    }

    pub(in crate::ipc::hub) fn take_message(&mut self, id: u64, message: ToHub) {
        match (self.channels.get(&id).map(|channel| &channel.kind), message) {
            (Some(ChannelKind::InFlight(_)), ToHub::Open { page, up, down, process }) => {
                if let Err(refusal) = self.open(page, up, down.clone(), process) {
                    let why = refusal.text();
                    diagnostics::error("offspring::hub", format_args!("refused a client: {why}"));
                    // If it cannot be sent, the client finds the channel closed.
                    let _ = wire::send(&down, &ToClient::NoSession(refusal));
                }
            }
            (Some(ChannelKind::Session(_)), message) => {
                if let Err(why) = self.take_session_message(id, message) {
                    self.expel(id, why);
                }
            }
            // No other message is valid on such a channel, and none does any harm.
            _ => {}
        }
    }

    fn open(
        &mut self,
        page: Memory,
        up: CheckedReceiver<ToHub>,
        down: CheckedSender<ToClient>,
        process: OwnedFd,
    ) -> Result<(), Refusal> {
        let page = SessionPage::adopt(page).ok_or(Refusal::Starved)?;
        let process = Pidfd::adopt_maker(process, up.socket()).map_err(|_| Refusal::Unfit)?;
        let pid = sys::maker_of(up.socket().as_fd());
        let account = self.account_of(pid);
        if account.is_full() {
            return Err(Refusal::Full);
        }
        let charge = account.charge(SESSION_DESCRIPTORS);
        let kind = ChannelKind::Session(account.clone());
        let id = self.adopt(up, kind, None).ok_or(Refusal::Starved)?;
        let Ok(process) = self.watch_client(process, id) else {
            self.channel_closed(id);
            return Err(Refusal::Starved);
        };
        let session = ServedSession {
            peer: Arc::new(ClientLink::new(page, id, down)),
            attachments: HashMap::new(),
            next_number: 0,
            process,
            process_ended: false,
            account,
            _charge: charge,
            untold: VecDeque::new(),
        };
        self.sessions.insert(id, session);
        Ok(())
    }

    /// Returns the account of the client process with this pid. A process that is not visible in
    /// this pid namespace has an account for each session.
    fn account_of(&mut self, pid: Option<i32>) -> Arc<Account> {
        let account = pid.and_then(|pid| self.accounts.get(&pid)?.upgrade()).unwrap_or_default();
        if let Some(pid) = pid {
            self.accounts.retain(|_, account| account.strong_count() > 0);
            self.accounts.insert(pid, Arc::downgrade(&account));
        }
        account
    }

    /// Handles a message of a session. After each message but a doorbell, a client that sleeps is
    /// rung: its channel may have had no room for its next message.
    fn take_session_message(&mut self, id: u64, message: ToHub) -> Result<(), &'static str> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        match message {
            // If there is no such attachment, that does no harm: it may have been refused.
            ToHub::Bell { number } => {
                if let Some(attachment) = session.attachments.get_mut(&number) {
                    if attachment.rung() {
                        self.active.push(attachment.object());
                    }
                }
                return Ok(());
            }
            ToHub::Attach { number, object, fingerprint, region } => {
                if number != session.next_number {
                    return Err("it attached out of turn");
                }
                session.next_number += 1;
                let attach = || session.attach(number, object, fingerprint, region);
                let answer = wire::catch_panic("attach", attach).unwrap_or(Err(Refusal::Unfit));
                // Answered after the insertion, and rung after the answer, because the client
                // relies on the attachment once it sees the answer. It still holds its in-flight
                // reference, so the object cannot end in between.
                let refused = answer.is_err();
                match answer {
                    Ok(object) => self.active.extend(object),
                    Err(refusal) => {
                        if session.untold.len() == ATTACHMENTS_MAX {
                            return Err("it reads no refusal");
                        }
                        session.untold.push_back(Untold::Refused(number, refusal));
                    }
                }
                session.peer.page.answered_one_more(refused);
                self.tell(id);
            }
            ToHub::Watch => {
                session.untold.push_back(Untold::Owner);
                self.tell(id);
            }
            ToHub::Parcel { number, mut envelope } => {
                envelope.charge_to(&session.account);
                if session.account.is_overdrawn() {
                    return Err("it sent more parcels than there may be");
                }
                if let Some(attachment) = session.attachments.get_mut(&number) {
                    if attachment.parcel(envelope) {
                        self.active.push(attachment.object());
                    }
                }
                session.peer.page.hub_parcel_read();
            }
            ToHub::InFlight { number, receiver } => {
                // Otherwise its attachment was refused, and the handle that it sends on is lost.
                if let Some(attachment) = session.attachments.get_mut(&number) {
                    let object = attachment.object();
                    // Counted before the client can drop its own handle, because its `Detach` comes
                    // later on this channel.
                    object.count_in_flight(1);
                    attachment.handed_on();
                    let charge = session.account.charge(1);
                    self.adopt_reference(receiver, object, Some(charge));
                }
            }
            ToHub::Detach { number } => {
                if let Some(mut attachment) = session.attachments.remove(&number) {
                    if attachment.detached() {
                        end_attachment(attachment);
                    } else {
                        // It holds leases. It stays under its number, which is never used again,
                        // until its process ends.
                        session.attachments.insert(number, attachment);
                    }
                }
            }
            ToHub::Open { .. } => return Err("it opened a session twice"),
        }
        if let Some(session) = self.sessions.get(&id) {
            session.peer.ring();
        }
        Ok(())
    }
}
