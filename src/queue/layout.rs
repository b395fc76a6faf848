//! The region of an attached queue: two rings and a few words.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::ipc::hub;
use crate::ipc::region::Region;
use crate::ipc::ring::{Corrupt, RingConsumer, RingProducer};

/// A word of the region, and who writes it. The other side may read it at any time.
///
/// The upper half of the number is the cache line, the lower half the place in that line. Words
/// share a line if one side writes them and the other reads them at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    /// Owner, once: the queue's capacity, or 0 for none.
    Capacity = 0x00,
    /// Owner: [`Flag`]s.
    Flags = 0x01,
    /// Owner: a position in the inbox of a bounded queue. The client rings an owner that does not
    /// poll it when it takes this entry or a later one.
    NotifyAt = 0x02,
    /// Client: the number of items that its waiting threads and tasks can use.
    Getters = 0x10,
    /// Client: the number of its selectors that wait for an item.
    Tasks = 0x11,
    /// Client: the number of its threads and tasks that wait to write.
    Putters = 0x12,
    /// Client: for how many nanoseconds its threads were busy between two waits for an item.
    Busy = 0x13,
    /// Client: the number of in-flight references that it has announced to the owner, counted
    /// before each is sent. The owner may read this word before it reads such a message.
    HandedOn = 0x14,
    /// Both: the owner's sleep flag. While it is clear, the owner polls this region.
    OwnerSleeps = 0x20,
    /// Both: the number of items that the client may still put.
    Credit = 0x30,
    /// Owner: the last question that was answered.
    Answered = 0x40,
    /// Owner: the queue's length at that answer.
    Length = 0x41,
    /// Owner: the last join that has ended.
    Joined = 0x42,
    /// Owner: the number of unfinished items, for a join that ended in vain.
    Unfinished = 0x43,
    /// Both: how many items were dropped because the client asked for that, until the client has
    /// read the number.
    Dropped = 0x44,
    /// Owner: the number of dead letters when a join ended.
    DeadLetters = 0x45,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Flag {
    /// Every put fails.
    Closed = 1,
    /// A get that finds the inbox empty has reached the end.
    Ended = 2,
    /// Puts that find no room and joins wait in vain, because no process is left that could take
    /// items.
    Abandoned = 4,
    /// Every put fails, because no handle is left that could take items.
    Severed = 8,
}

impl Flag {
    pub(crate) fn bit(self, set: bool) -> u64 {
        if set { self as u64 } else { 0 }
    }

    #[inline]
    pub(crate) fn is_in(self, flags: u64) -> bool {
        flags & self as u64 != 0
    }
}

#[inline]
pub(crate) fn word(region: &Region, word: Word) -> &AtomicU64 {
    region.atomic(hub::line(word as usize >> 4) + (word as usize & 0xf) * 8)
}

/// Returns the number in an entry, or at the beginning of one.
pub(crate) fn number(bytes: &[u8]) -> Result<u64, Corrupt> {
    bytes.try_into().map(u64::from_le_bytes).map_err(|_| Corrupt)
}

pub(crate) fn outbox_writer(region: &Arc<Region>) -> RingProducer {
    RingProducer::new(region.clone(), hub::UP_RING)
}

pub(crate) fn outbox_reader(region: &Arc<Region>) -> RingConsumer {
    RingConsumer::new(region.clone(), hub::UP_RING)
}

pub(crate) fn inbox_writer(region: &Arc<Region>) -> RingProducer {
    RingProducer::new(region.clone(), hub::DOWN_RING)
}

pub(crate) fn inbox_reader(region: &Arc<Region>) -> RingConsumer {
    RingConsumer::new(region.clone(), hub::DOWN_RING)
}

/// The highest number of attempts that a ring entry's tag has bits for. A higher number counts as
/// this one.
const ATTEMPTS_MAX: u32 = (1 << 12) - 1;

/// The kind of a ring entry. In an inbox there are only the first two, and the upper bits of the
/// tag count the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// An item.
    Put = 1,
    /// An item whose bytes come as a parcel. In an inbox, the entry holds the parcel's number.
    Parcel = 2,
    /// The item of this lease is finished.
    Done = 3,
    /// The item of this lease is returned to the queue.
    Back = 4,
    /// Close the queue.
    Close = 5,
    /// Answer this question once all entries before it are carried out.
    Ask = 6,
    /// Report when all items are finished.
    Join = 7,
    /// Close the queue, and drop the items that no consumer has taken.
    Discard = 8,
    /// The item of this lease does not decode: the lease and the error.
    BadLease = 9,
    /// An item that was taken from a plain queue does not decode: its attempts and the error. The
    /// item itself was sent as a parcel before.
    Bad = 10,
}

impl Tag {
    const ALL: [Tag; 10] = [
        Tag::Put,
        Tag::Parcel,
        Tag::Done,
        Tag::Back,
        Tag::Close,
        Tag::Ask,
        Tag::Join,
        Tag::Discard,
        Tag::BadLease,
        Tag::Bad,
    ];

    /// Returns whether a parcel was sent before the entry.
    pub(crate) fn has_parcel(self) -> bool {
        matches!(self, Tag::Parcel | Tag::Bad)
    }

    pub(crate) fn from(word: u32) -> Option<Tag> {
        Tag::ALL.into_iter().find(|&tag| tag as u32 == word & 0xf)
    }

    pub(crate) fn with(self, attempts: u32) -> u32 {
        self as u32 | attempts.min(ATTEMPTS_MAX) << 4
    }

    pub(crate) fn attempts(word: u32) -> u32 {
        word >> 4
    }
}
