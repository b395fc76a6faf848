//! A queue of another process: an attachment of this process's session with its hub.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use ipc_channel::ipc::IpcSender;

use crate::error::HandleError;
use crate::failpoints;
use crate::ipc::deadline::{Deadline, Elapsed, WaitEnd};
use crate::ipc::hub::{HubId, ParcelSink, REGION_BYTES, Session, ToHub};
use crate::ipc::region::Region;
use crate::ipc::ring::{self, Consumer, Corrupt, Producer};
use crate::ipc::wire::{self, Envelope, Failure};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::layout::{self, Flag, Tag, Word};
use crate::queue::outcome::ANSWER_WITHIN;
use crate::queue::owner::state::{Item, Over, Payload};
use crate::queue::owner::wakers::Wants;
use crate::sys::lock;

/// How an operation on a queue of another process failed.
#[derive(Debug)]
pub(crate) enum RemoteEnd {
    Over(Over),
    /// The owner has ended, or does not keep to the protocol.
    Gone,
    Handle(HandleError),
}

impl RemoteEnd {
    /// A timeout of a call that waited for nothing but the owner's answer.
    pub(crate) fn or_unresponsive(self, owner: u32) -> RemoteEnd {
        match self {
            RemoteEnd::Over(Over::Timeout) => {
                RemoteEnd::Handle(HandleError::Unresponsive { pid: owner })
            }
            end => end,
        }
    }
}

impl fmt::Display for RemoteEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteEnd::Over(over) => write!(f, "{over:?}"),
            RemoteEnd::Gone => f.write_str("it has ended"),
            RemoteEnd::Handle(error) => error.fmt(f),
        }
    }
}

/// Out of the owner's own state, with its lease.
impl From<(Item, u64)> for Taken {
    fn from((item, lease): (Item, u64)) -> Taken {
        Taken {
            payload: item.payload,
            lease,
            attempts: item.attempts,
        }
    }
}

impl From<WaitEnd<Elapsed, Failure>> for RemoteEnd {
    fn from(end: WaitEnd<Elapsed, Failure>) -> Self {
        match end {
            WaitEnd::Timeout(Elapsed) => RemoteEnd::Over(Over::Timeout),
            WaitEnd::Failed(failure) => failure.into(),
        }
    }
}

impl From<WaitEnd<Infallible, Failure>> for RemoteEnd {
    fn from(end: WaitEnd<Infallible, Failure>) -> Self {
        end.into_failed().into()
    }
}

impl From<Failure> for RemoteEnd {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone => RemoteEnd::Gone,
            failure => RemoteEnd::Handle(HandleError::Io {
                act: "reach the queue's owner",
                message: failure.into_io().to_string(),
            }),
        }
    }
}

/// An item that was taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) payload: Payload,
    /// Where in the inbox it stood.
    pub(crate) lease: u64,
    pub(crate) attempts: u32,
}

/// One queue, as this process has it open. Shared by all handles of it in this process.
#[derive(Debug)]
pub(crate) struct Attached {
    session: Arc<Session>,
    number: u32,
    region: Arc<Region>,
    pub(in crate::queue) outbox: Mutex<Outbox>,
    puts: AtomicU32,
    pub(in crate::queue) inbox: Mutex<Inbox>,
    asked: AtomicU64,
    joins: AtomicU64,
    detached: Mutex<VecDeque<u64>>,
}

#[derive(Debug)]
pub(in crate::queue) struct Outbox {
    pub(in crate::queue) entries: Producer,
    pulse: wire::Pulse,
}

#[derive(Debug)]
pub(in crate::queue) struct Inbox {
    entries: Consumer,
    parcels: BTreeMap<u64, Envelope>,
}

static ATTACHED: Mutex<Option<HashMap<(HubId, u64), Weak<Attached>>>> = Mutex::new(None);

/// Counts a waiting thread in a word of the region; as many, if it can use as much at once.
pub(in crate::queue) struct Waiting<'a> {
    word: &'a AtomicU64,
    count: u64,
}

impl<'a> Waiting<'a> {
    pub(in crate::queue) fn new(word: &'a AtomicU64) -> Waiting<'a> {
        Waiting::many(word, 1)
    }

    fn many(word: &'a AtomicU64, count: usize) -> Waiting<'a> {
        // More are never pushed at once, and a word that everybody adds to must not overflow.
        let count = count.min(1024) as u64;
        word.fetch_add(count, Ordering::SeqCst);
        Waiting { word, count }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.word.fetch_sub(self.count, Ordering::SeqCst);
    }
}

impl Attached {
    /// The attachment of this process to that queue; made over the ticket if there is none.
    pub(crate) fn open(
        hub: HubId,
        resource: u64,
        fingerprint: u64,
        ticket: &IpcSender<ToHub>,
    ) -> Result<Arc<Attached>, RemoteEnd> {
        let mut all = lock(&ATTACHED);
        let all = all.get_or_insert_default();
        if let Some(attached) = all.get(&(hub, resource)).and_then(Weak::upgrade) {
            return Ok(attached);
        }
        all.retain(|_, attached| attached.strong_count() > 0);
        let session = Session::with(hub, ticket)?;
        let region = Arc::new(Region::new(REGION_BYTES).map_err(Failure::Io)?);
        layout::word(&region, Word::Fingerprint).store(fingerprint, Ordering::SeqCst);
        let number = session.attach(resource, Some(&region))?;
        let attached = Arc::new(Attached {
            outbox: Mutex::new(Outbox {
                entries: layout::outbox_writer(&region),
                pulse: wire::Pulse::new(),
            }),
            inbox: Mutex::new(Inbox {
                entries: layout::inbox_reader(&region),
                parcels: BTreeMap::new(),
            }),
            puts: AtomicU32::new(0),
            number,
            region,
            asked: AtomicU64::new(0),
            joins: AtomicU64::new(0),
            detached: Mutex::new(VecDeque::new()),
            session: session.clone(),
        });
        let parcels: Weak<Attached> = Arc::downgrade(&attached);
        session.route(number, parcels);
        all.insert((hub, resource), Arc::downgrade(&attached));
        Ok(attached)
    }

    /// Waits until the owner has accepted the attachment.
    pub(crate) fn wait_attached(&self, deadline: Option<Instant>) -> Result<(), RemoteEnd> {
        match self
            .session
            .wait(&Deadline::from(deadline), || self.status())?
        {
            layout::ATTACHED => Ok(()),
            layout::OTHER_TYPE => Err(RemoteEnd::Handle(HandleError::Refused(
                "the queue holds items of another type".to_owned(),
            ))),
            _ => Err(RemoteEnd::Gone),
        }
    }

    /// What the owner has said to the attachment.
    pub(in crate::queue) fn status(&self) -> Option<u64> {
        let status = self.word(Word::Status).load(Ordering::SeqCst);
        (status != 0).then_some(status)
    }

    #[inline]
    pub(in crate::queue) fn word(&self, word: Word) -> &AtomicU64 {
        layout::word(&self.region, word)
    }

    pub(in crate::queue) fn session(&self) -> &Session {
        &self.session
    }

    /// While it lasts, a task or selector wants an item.
    pub(in crate::queue) fn wants(&self) -> Wants {
        Wants::new(self.region.clone())
    }

    /// Whether `get` would not wait: an item is here, the queue is at its end, or the owner has refused it.
    pub(in crate::queue) fn has_next(&self) -> bool {
        match self.status() {
            None => false,
            Some(layout::ATTACHED) => Flag::Over.is_in(self.flags()) || self.awaits_parcel(),
            Some(_) => true,
        }
    }

    #[inline]
    pub(in crate::queue) fn flags(&self) -> u64 {
        self.word(Word::Flags).load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn capacity(&self) -> Option<usize> {
        match self.word(Word::Capacity).load(Ordering::SeqCst) {
            0 => None,
            capacity => Some(usize::try_from(capacity).unwrap_or(usize::MAX)),
        }
    }

    /// Another handle's ticket, for a process that this one sends it to.
    pub(crate) fn ticket(&self) -> std::io::Result<IpcSender<ToHub>> {
        self.session.in_flight(self.number)
    }

    #[inline]
    fn take_credit(&self) -> bool {
        let credit = self.word(Word::Credit);
        credit
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |credit| {
                credit.checked_sub(1)
            })
            .is_ok()
    }

    /// Puts if there is room now.
    #[inline]
    pub(in crate::queue) fn attempt(
        &self,
        outgoing: &mut Outgoing<'_>,
    ) -> Option<Result<(), RemoteEnd>> {
        if self.session.is_gone() {
            return Some(Err(RemoteEnd::Gone));
        }
        if Flag::Closed.is_in(self.flags()) {
            return Some(Err(RemoteEnd::Over(Over::Closed)));
        }
        let bounded = self.capacity().is_some();
        if bounded && !self.take_credit() {
            let abandoned = Flag::Abandoned.is_in(self.flags());
            return abandoned.then_some(Err(RemoteEnd::Over(Over::Abandoned(0))));
        }
        failpoints::point("put.credit");
        let outcome = self.write(outgoing);
        if bounded && !matches!(outcome, Some(Ok(()))) {
            self.word(Word::Credit).fetch_add(1, Ordering::SeqCst);
        }
        outcome
    }

    /// Writes an entry if there is room now.
    #[inline]
    pub(in crate::queue) fn write(
        &self,
        outgoing: &mut Outgoing<'_>,
    ) -> Option<Result<(), RemoteEnd>> {
        let mut outbox = lock(&self.outbox);
        let pushed = match &mut outgoing.parcel {
            None => outbox.entries.push(outgoing.tag as u32, outgoing.bytes),
            // The parcel ahead of its entry, under one lock, so that both come in one order.
            parcel => match outbox.entries.has_room(outgoing.bytes.len()) {
                Ok(true) => match self.session.send_parcel(self.number, parcel) {
                    Ok(true) => outbox.entries.push(outgoing.tag as u32, outgoing.bytes),
                    Ok(false) => Ok(false),
                    Err(failure) => return Some(Err(failure.into())),
                },
                other => other,
            },
        };
        drop(outbox);
        failpoints::point("put.entry");
        match pushed {
            Ok(true) => {
                self.session.ring();
                failpoints::point("put.rung");
                Some(Ok(()))
            }
            Ok(false) => None,
            // Only the owner writes there; it is not to be trusted any more.
            Err(Corrupt) => Some(Err(RemoteEnd::Gone)),
        }
    }

    /// Whether the owner has left entries for a while: it may be slow, or dead.
    #[inline]
    pub(in crate::queue) fn is_suspicious(&self) -> bool {
        // Two threads may count one put: it is only a measure.
        let puts = self.puts.load(Ordering::Relaxed).wrapping_add(1);
        self.puts.store(puts, Ordering::Relaxed);
        // Not at each put: the look at the owner's side costs more than the put.
        if puts % 64 != 0 {
            return false;
        }
        let mut outbox = lock(&self.outbox);
        outbox.entries.is_backed_up().unwrap_or(true) && outbox.pulse.is_due()
    }

    #[inline]
    pub(crate) fn put(
        &self,
        outgoing: &mut Outgoing<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), RemoteEnd> {
        if self.is_suspicious() && self.session.check() {
            return Err(RemoteEnd::Gone);
        }
        match self.attempt(outgoing) {
            Some(outcome) => outcome,
            None => self.wait_for_room(outgoing, deadline),
        }
    }

    fn wait_for_room(
        &self,
        outgoing: &mut Outgoing<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), RemoteEnd> {
        let _waiting = Waiting::new(self.word(Word::Putters));
        failpoints::point("put.waits");
        self.session.ring();
        self.session
            .wait(&Deadline::from(deadline), || self.attempt(outgoing))?
    }

    /// Puts if the queue has room. Asks the owner, and waits only for its answer.
    pub(crate) fn try_put(&self, outgoing: &mut Outgoing<'_>, owner: u32) -> Result<(), RemoteEnd> {
        if let Some(outcome) = self.attempt(outgoing) {
            return outcome;
        }
        let deadline = Some(Instant::now() + ANSWER_WITHIN);
        let _waiting = Waiting::new(self.word(Word::Putters));
        if self.capacity().is_none() {
            self.session.ring();
            let put = self
                .session
                .wait(&Deadline::from(deadline), || self.attempt(outgoing));
            return put.map_err(|end| RemoteEnd::from(end).or_unresponsive(owner))?;
        }
        self.ask(deadline)
            .map_err(|end| end.or_unresponsive(owner))?;
        self.attempt(outgoing)
            .unwrap_or(Err(RemoteEnd::Over(Over::Timeout)))
    }

    /// Takes the next item, if it is here.
    #[inline]
    pub(in crate::queue) fn take(&self) -> Option<Result<Taken, RemoteEnd>> {
        let taken = match self.pop(&mut lock(&self.inbox)) {
            Ok(taken) => taken?,
            // Only the owner writes there; it is not to be trusted any more.
            Err(Corrupt) => return Some(Err(RemoteEnd::Gone)),
        };
        failpoints::point("get.taken");
        self.tell_room(&taken);
        if matches!(taken.payload, Payload::Parcel(_)) {
            // The owner holds its handles as well, until it sees this.
            self.session.ring();
        }
        Some(Ok(taken))
    }

    /// Wakes the owner if somebody waits for the room of what was taken, and of what was taken before it.
    #[inline]
    pub(in crate::queue) fn tell_room(&self, taken: &Taken) {
        // The entry was taken sequentially consistent: either this sees the flag, or who raised it sees the place free.
        if Flag::TellRoom.is_in(self.flags())
            && ring::is_at_or_behind(taken.lease, self.word(Word::TellAt).load(Ordering::SeqCst))
        {
            self.session.ring();
        }
    }

    /// Wakes the owner for what was written.
    pub(in crate::queue) fn ring(&self) {
        self.session.ring();
    }

    #[inline]
    pub(in crate::queue) fn pop(&self, inbox: &mut Inbox) -> Result<Option<Taken>, Corrupt> {
        let Inbox { entries, parcels } = inbox;
        while let Some(front) = entries.front()? {
            let bytes = entries.read(&front);
            let parcel = match Tag::from(front.tag) {
                // A recalled entry's bytes may be torn; but only a taken one's count.
                Some(Tag::Parcel) => Some(layout::number(bytes.as_slice()).unwrap_or(u64::MAX)),
                _ => None,
            };
            if parcel.is_some_and(|id| id != u64::MAX && !parcels.contains_key(&id)) {
                // Taken is what can be handed over at once: an entry whose parcel is on its way stays the owner's.
                return Ok(None);
            }
            if !entries.take(&front) {
                continue;
            }
            let payload = match (Tag::from(front.tag), parcel) {
                (Some(Tag::Put), _) => Payload::Bytes(bytes),
                (Some(Tag::Parcel), Some(id)) => {
                    // Parcels of entries that were recalled are older; nothing will mean them.
                    *parcels = parcels.split_off(&id);
                    Payload::Parcel(Box::new(parcels.remove(&id).ok_or(Corrupt)?))
                }
                _ => return Err(Corrupt),
            };
            return Ok(Some(Taken {
                payload,
                lease: front.position(),
                attempts: Tag::attempts(front.tag),
            }));
        }
        Ok(None)
    }

    /// Whether the next item lies here and only its parcel is on the way.
    pub(in crate::queue) fn awaits_parcel(&self) -> bool {
        !lock(&self.inbox).entries.is_empty()
    }

    #[inline]
    pub(crate) fn get(&self, deadline: Option<Instant>, most: usize) -> Result<Taken, RemoteEnd> {
        match self.take() {
            Some(outcome) => outcome,
            None => self.wait_for_item(deadline, most),
        }
    }

    fn wait_for_item(&self, deadline: Option<Instant>, most: usize) -> Result<Taken, RemoteEnd> {
        let _waiting = Waiting::many(self.word(Word::Getters), most);
        failpoints::point("get.waits");
        self.session.ring();
        loop {
            let outcome = self.session.wait(&Deadline::from(deadline), || {
                self.take().map(Some).or_else(|| {
                    (Flag::Over.is_in(self.flags()) && !self.awaits_parcel()).then_some(None)
                })
            })?;
            if let Some(outcome) = outcome {
                return outcome;
            }
            // The flag may be older than an item that was put meanwhile: ask.
            self.ask(deadline)?;
            if let Some(outcome) = self.take() {
                return outcome;
            }
            if Flag::Over.is_in(self.flags()) && !self.awaits_parcel() {
                return Err(RemoteEnd::Over(self.over()));
            }
        }
    }

    /// Takes an item if the queue has one. Asks the owner, and waits only for its answer.
    pub(crate) fn try_get(&self, most: usize, owner: u32) -> Result<Taken, RemoteEnd> {
        if let Some(outcome) = self.take() {
            return outcome;
        }
        let deadline = Some(Instant::now() + ANSWER_WITHIN);
        let _waiting = Waiting::many(self.word(Word::Getters), most);
        self.ask(deadline)
            .map_err(|end| end.or_unresponsive(owner))?;
        if let Some(outcome) = self.take() {
            return outcome;
        }
        if self.awaits_parcel() {
            // Until its parcel is here, or another thread has taken it.
            let waited = self
                .session
                .wait(&Deadline::from(deadline), || match self.take() {
                    None if self.awaits_parcel() => None,
                    taken => Some(taken),
                });
            let waited = waited.map_err(|end| RemoteEnd::from(end).or_unresponsive(owner))?;
            if let Some(outcome) = waited {
                return outcome;
            }
        }
        let over = Flag::Over.is_in(self.flags());
        Err(RemoteEnd::Over(if over {
            self.over()
        } else {
            Over::Timeout
        }))
    }

    /// Which end it is that the flag `Over` tells.
    pub(in crate::queue) fn over(&self) -> Over {
        if Flag::Closed.is_in(self.flags()) {
            Over::Closed
        } else {
            Over::Abandoned(0)
        }
    }

    /// Waits until the owner has seen all that this process wrote before, and has answered it.
    fn ask(&self, deadline: Option<Instant>) -> Result<(), RemoteEnd> {
        // Of two threads the later number may be written first: its answer covers the other's, whose own
        // entries stand before both.
        let question = self.next_question();
        self.entry(Tag::Ask, question, deadline)?;
        self.session.wait(&Deadline::from(deadline), || {
            (self.word(Word::Answered).load(Ordering::SeqCst) >= question).then_some(())
        })?;
        Ok(())
    }

    pub(in crate::queue) fn next_question(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(in crate::queue) fn next_join(&self) -> u64 {
        self.joins.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Writes an entry that is no item; waits for room in the ring.
    fn entry(&self, tag: Tag, number: u64, deadline: Option<Instant>) -> Result<(), RemoteEnd> {
        self.write_or_wait(Outgoing::entry(tag, &number.to_le_bytes()), deadline)
    }

    pub(in crate::queue) fn write_or_wait(
        &self,
        mut outgoing: Outgoing<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), RemoteEnd> {
        if let Some(outcome) = self.attempt_entry(&mut outgoing) {
            return outcome;
        }
        let _waiting = Waiting::new(self.word(Word::Putters));
        self.session.ring();
        self.session.wait(&Deadline::from(deadline), || {
            self.attempt_entry(&mut outgoing)
        })?
    }

    /// Writes an entry that needs no room in the queue, if there is room in the ring now.
    pub(in crate::queue) fn attempt_entry(
        &self,
        outgoing: &mut Outgoing<'_>,
    ) -> Option<Result<(), RemoteEnd>> {
        match self.session.is_gone() {
            true => Some(Err(RemoteEnd::Gone)),
            false => self.write(outgoing),
        }
    }

    pub(crate) fn close(&self, deadline: Instant) -> Result<(), RemoteEnd> {
        self.entry(Tag::Close, 0, Some(deadline))?;
        // The owner refuses every put after this call, so it has to know.
        self.ask(Some(deadline))
    }

    /// Closes the queue and drops the items in it; returns how many those were.
    pub(crate) fn close_and_discard(&self, deadline: Instant) -> Result<usize, RemoteEnd> {
        self.entry(Tag::Discard, 0, Some(deadline))?;
        self.ask(Some(deadline))?;
        let dropped = self.word(Word::Dropped).swap(0, Ordering::SeqCst);
        Ok(usize::try_from(dropped).unwrap_or(usize::MAX))
    }

    pub(crate) fn is_closed(&self, deadline: Instant) -> Result<bool, RemoteEnd> {
        self.ask(Some(deadline))?;
        Ok(Flag::Closed.is_in(self.flags()))
    }

    pub(crate) fn len(&self, deadline: Instant) -> Result<usize, RemoteEnd> {
        self.ask(Some(deadline))?;
        Ok(usize::try_from(self.word(Word::Length).load(Ordering::SeqCst)).unwrap_or(usize::MAX))
    }

    pub(crate) fn join(&self, deadline: Option<Instant>) -> Result<(), RemoteEnd> {
        let join = self.next_join();
        self.entry(Tag::Join, join, deadline)?;
        // The owner has read the question, so the flag is no older than it.
        self.ask(deadline)?;
        self.session
            .wait(&Deadline::from(deadline), || self.joined(join))?
    }

    /// How a join that the owner has read has ended.
    pub(in crate::queue) fn joined(&self, join: u64) -> Option<Result<(), RemoteEnd>> {
        if self.word(Word::Joined).load(Ordering::SeqCst) >= join {
            Some(Ok(()))
        } else if Flag::Abandoned.is_in(self.flags()) {
            let unfinished = self.word(Word::Unfinished).load(Ordering::SeqCst);
            Some(Err(RemoteEnd::Over(Over::Abandoned(unfinished as usize))))
        } else {
            None
        }
    }

    pub(crate) fn end_lease(&self, lease: u64, done: bool) -> Result<(), RemoteEnd> {
        self.entry(if done { Tag::Done } else { Tag::Back }, lease, None)
    }

    pub(crate) fn detach_lease(&self, lease: u64) {
        lock(&self.detached).push_back(lease);
    }

    pub(crate) fn detached(&self) -> Option<u64> {
        lock(&self.detached).pop_front()
    }
}

impl ParcelSink for Attached {
    fn parcel(&self, id: u64, packet: Envelope) {
        lock(&self.inbox).parcels.insert(id, packet);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.session.detach(self.number);
    }
}
