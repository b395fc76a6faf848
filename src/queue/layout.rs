//! What stands where in the region of an attached queue.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::ipc::hub;
use crate::ipc::region::Region;
use crate::ipc::ring::{Consumer, Corrupt, Producer};

/// A word of the region. Who writes it is said at each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    /// Hub: 0, or what became of the attachment.
    Status,
    /// Client, once: the type of the items.
    Fingerprint,
    /// Hub, once: the queue's capacity, 0 for none.
    Capacity,
    /// Hub: [`Flag`]s.
    Flags,
    /// Both: room for so many items is granted to the client.
    Credit,
    /// Client: so many of its threads wait to put.
    Putters,
    /// Client: so many of its threads wait for an item.
    Getters,
    /// Hub: the last question that was answered.
    Answered,
    /// Hub: the queue's length at that answer.
    Length,
    /// Hub: the last join that is over.
    Joined,
    /// Hub: items that are not done.
    Unfinished,
    /// Both: items that were dropped because the client asked for it, and that it has not been told of.
    Dropped,
    /// Hub: where in the inbox the entry stands whose taking it wants to hear of.
    TellAt,
    /// Client: so many of its tasks and selectors want an item.
    Tasks,
}

pub(crate) const ATTACHED: u64 = 1;
pub(crate) const OTHER_TYPE: u64 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Flag {
    /// Puts fail.
    Closed = 1,
    /// Gets that find the inbox empty are at the end.
    Over = 2,
    /// Somebody waits for room: the hub wants to know when the item at [`Word::TellAt`], or a later one, is taken.
    TellRoom = 4,
    /// Puts that find no room and joins wait in vain: nobody is left who could take items.
    Abandoned = 8,
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
    region.atomic(hub::word(word as usize))
}

/// The number that an entry, or the front of one, consists of.
pub(crate) fn number(bytes: &[u8]) -> Result<u64, Corrupt> {
    bytes
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| Corrupt)
}

pub(crate) fn outbox_writer(region: &Arc<Region>) -> Producer {
    Producer::new(region.clone(), hub::UP_RING)
}

pub(crate) fn outbox_reader(region: &Arc<Region>) -> Consumer {
    Consumer::new(region.clone(), hub::UP_RING)
}

pub(crate) fn inbox_writer(region: &Arc<Region>) -> Producer {
    Producer::new(region.clone(), hub::DOWN_RING)
}

pub(crate) fn inbox_reader(region: &Arc<Region>) -> Consumer {
    Consumer::new(region.clone(), hub::DOWN_RING)
}

/// A client is told of no more earlier attempts at an item: so many go into a ring entry's tag.
const ATTEMPTS_MAX: u32 = (1 << 12) - 1;

/// What a ring entry is. Down only the first two; then the upper bits count earlier attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// An item.
    Put = 1,
    /// An item that comes as a parcel; down, the parcel's number.
    Parcel = 2,
    /// This lease is done.
    Done = 3,
    /// This lease is given back.
    Back = 4,
    /// No more items from anybody.
    Close = 5,
    /// Answer this question once all entries before it are in.
    Ask = 6,
    /// Say when all items are done.
    Join = 7,
    /// As `Close`, and drop what nobody has got.
    Discard = 8,
    /// This lease's item does not decode: its number and the error.
    BadLease = 9,
    /// An item that was taken from a plain queue does not decode: how often it had been taken before, and the
    /// error. It came ahead as a parcel.
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

    /// Whether a parcel came ahead of the entry.
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
