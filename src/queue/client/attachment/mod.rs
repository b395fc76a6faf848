//! A client's attachment to a queue of another process.
//!
//! The region has two rings, the *outbox* to the owner and the *inbox* from it, and a few words.
//! Any number of threads of this process use them; each ring has a lock. The owner runs
//! concurrently, and a thread may assume this about it:
//!
//! - An entry in the outbox is safe from the death of this process. So a put is done when its entry
//!   is published; the doorbell after it only makes the owner read it sooner.
//! - An item belongs to this process once the compare-and-swap that takes its entry succeeds.
//!   Before that, the owner may recall it at any moment, even while its bytes are being copied. So
//!   the copy is used only after the entry was taken.
//! - A thread announces that it waits in a word of the region, and rings, *before* its last check.
//!   So either the check finds what the owner has done in the meantime, or the owner sees the
//!   announcement and rings when there is something.

mod get;
mod put;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use crate::error::HandleError;
use crate::ipc::block::block;
use crate::ipc::deadline::{TimeLimit, WaitEnd, Waited};
use crate::ipc::hub::{ObjectId, ParcelSink, REGION_BYTES, Refusal, RemoteObject, Session, ToHub};
use crate::ipc::region::Region;
use crate::ipc::ring::{RingConsumer, RingProducer};
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire::{self, CheckedSender, Envelope};
use crate::queue::client::driver::{Blocking, Driver};
use crate::queue::layout::{self, Flag, Word};
use crate::queue::outcome::QueueFailure;
use crate::sys::lock;

/// The most that one thread adds to the word. More items are never pushed at once, and the sum over
/// all threads must not overflow.
const WANTED_MAX: usize = 1024;

/// One queue of another process. All handles of it in this process share it.
#[derive(Debug)]
pub(in crate::queue) struct AttachedQueue {
    session: Arc<Session>,
    number: u32,
    region: Arc<Region>,
    outbox: Mutex<OutboxWriter>,
    puts: AtomicU32,
    inbox: Mutex<InboxReader>,
    /// The numbers of the last question and the last join.
    pub(in crate::queue::client) asked: AtomicU64,
    pub(in crate::queue::client) joins: AtomicU64,
    detached: Mutex<VecDeque<u64>>,
}

#[derive(Debug)]
struct OutboxWriter {
    entries: RingProducer,
    pulse: wire::Pulse,
}

#[derive(Debug)]
struct InboxReader {
    entries: RingConsumer,
    /// The number of items that were taken.
    taken: u64,
    /// When a wait for an item last ended.
    woken: Option<Instant>,
    /// Parcels that have arrived, by number. Their entries follow.
    parcels: BTreeMap<u64, Envelope>,
}

static ATTACHED: WeakMap<ObjectId, AttachedQueue> = WeakMap::new();

/// Announces a waiting thread in a word of the region, until it is dropped. A thread that can use
/// several items at once counts as that many.
///
/// The owner keeps what it has read there, so it is rung for each change. That includes the end of
/// a wait, because others may get what this thread has waited for.
pub(in crate::queue::client) struct Announced<'a> {
    queue: &'a AttachedQueue,
    word: Word,
    count: u64,
}

impl<'a> Announced<'a> {
    fn new(queue: &'a AttachedQueue, word: Word, count: usize) -> Announced<'a> {
        let count = count.min(WANTED_MAX) as u64;
        queue.word(word).fetch_add(count, Ordering::SeqCst);
        Announced { queue, word, count }
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.queue.word(self.word).fetch_sub(self.count, Ordering::SeqCst);
        self.queue.ring();
    }
}

impl RemoteObject for AttachedQueue {
    type Error = QueueFailure;

    fn open(
        id: ObjectId,
        fingerprint: u64,
        in_flight: &CheckedSender<ToHub>,
    ) -> Result<Arc<Self>, QueueFailure> {
        ATTACHED.get_or_try_replace(
            id,
            |attached| attached.session.is_over(),
            || {
                let session = Session::with(id.hub, in_flight)?;
                let region = Arc::new(Region::new(REGION_BYTES)?);
                let number = session.attach(id.key, fingerprint, Some(&region))?;
                let attached = Arc::new(AttachedQueue {
                    outbox: Mutex::new(OutboxWriter {
                        entries: layout::outbox_writer(&region),
                        pulse: wire::Pulse::new(),
                    }),
                    inbox: Mutex::new(InboxReader {
                        entries: layout::inbox_reader(&region),
                        taken: 0,
                        woken: None,
                        parcels: BTreeMap::new(),
                    }),
                    puts: AtomicU32::new(0),
                    number,
                    region,
                    asked: AtomicU64::new(0),
                    joins: AtomicU64::new(0),
                    detached: Mutex::new(VecDeque::new()),
                    session,
                });
                let sink: Weak<AttachedQueue> = Arc::downgrade(&attached);
                attached.session.route(number, sink);
                Ok(attached)
            },
        )
    }

    fn wait_accepted<L: TimeLimit>(&self, limit: &L) -> Waited<(), QueueFailure, L> {
        block(self.accepted(&Blocking(limit)))
    }

    fn in_flight(&self) -> io::Result<CheckedSender<ToHub>> {
        // Before the message: the owner may read this region, and find that this process waits,
        // before it reads the message, and must not take the wait for one in vain.
        self.session.in_flight(self.number, || {
            self.word(Word::HandedOn).fetch_add(1, Ordering::SeqCst);
        })
    }
}

impl AttachedQueue {
    /// Waits until the owner has accepted the attachment.
    pub(in crate::queue) async fn accepted<D: Driver>(
        &self,
        driver: &D,
    ) -> Result<(), WaitEnd<D::Elapsed, QueueFailure>> {
        let answer = driver.until(self, || self.session.answer(self.number)).await?;
        answer.map_err(|refusal| match refusal {
            Refusal::NoObject => QueueFailure::Gone.into(),
            _ => QueueFailure::Handle(HandleError::Refused(refusal.text())).into(),
        })
    }

    #[inline]
    pub(in crate::queue::client) fn word(&self, word: Word) -> &AtomicU64 {
        layout::word(&self.region, word)
    }

    /// Makes the owner read this region, unless it polls it.
    #[inline]
    pub(in crate::queue::client) fn ring(&self) {
        self.session.ring(self.number, self.word(Word::OwnerSleeps));
    }

    pub(in crate::queue) fn number(&self) -> u32 {
        self.number
    }

    pub(in crate::queue) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(in crate::queue) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    #[inline]
    pub(in crate::queue::client) fn has_flag(&self, flag: Flag) -> bool {
        flag.is_in(self.word(Word::Flags).load(Ordering::SeqCst))
    }

    #[inline]
    fn is_bounded(&self) -> bool {
        self.word(Word::Capacity).load(Ordering::SeqCst) != 0
    }

    /// Announces a thread or task that waits to write.
    pub(in crate::queue::client) fn announce_putter(&self) -> Announced<'_> {
        Announced::new(self, Word::Putters, 1)
    }

    /// Announces a thread or task that waits for an item, and can use `max` of them.
    fn announce_getter(&self, max: usize) -> Announced<'_> {
        Announced::new(self, Word::Getters, max)
    }
}

impl ParcelSink for AttachedQueue {
    fn parcel(&self, id: u64, envelope: Envelope) {
        lock(&self.inbox).parcels.insert(id, envelope);
    }

    fn parcel_read(&self) {
        self.ring();
    }
}

impl AttachedQueue {
    /// Returns whether this process has lost the owner.
    pub(in crate::queue) fn is_over(&self) -> bool {
        self.session.is_over()
    }
}

impl Drop for AttachedQueue {
    fn drop(&mut self) {
        self.session.detach(self.number);
    }
}
