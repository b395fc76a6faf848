//! The entries that a client writes into its outbox.

use crate::ipc::ring;
use crate::ipc::wire::Envelope;
use crate::queue::item::NewItem;
use crate::queue::layout::Tag;

/// The room in the outbox that items leave free, for the ends of a thousand leases. A client holds
/// no more than about that many items, so it can end its leases without waiting for an owner that
/// is suspended.
const LEASE_ROOM: usize = 1024 * 16;

/// An entry to write.
#[derive(Debug)]
pub(in crate::queue) struct Outgoing<'a> {
    pub(in crate::queue) tag: Tag,
    pub(in crate::queue) bytes: &'a [u8],
    /// Sent before the entry is written, and `None` after that.
    pub(in crate::queue) parcel: Option<Envelope>,
}

impl<'a> Outgoing<'a> {
    pub(in crate::queue) fn entry(tag: Tag, bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing { tag, bytes, parcel: None }
    }

    pub(in crate::queue) fn parcel(tag: Tag, bytes: &'a [u8], parcel: Envelope) -> Outgoing<'a> {
        Outgoing { tag, bytes, parcel: Some(parcel) }
    }

    /// Returns the room that the outbox must have for it.
    #[inline]
    pub(in crate::queue) fn room(&self) -> usize {
        let reserve = match self.tag {
            Tag::Put | Tag::Parcel => LEASE_ROOM,
            _ => 0,
        };
        ring::entry_size(self.bytes.len()) as usize + reserve
    }
}

impl<'a> From<NewItem<'a>> for Outgoing<'a> {
    fn from(item: NewItem<'a>) -> Self {
        match item {
            NewItem::Bytes(bytes) => Outgoing::entry(Tag::Put, bytes),
            NewItem::Parcel(parcel) => Outgoing::parcel(Tag::Parcel, &[], *parcel),
        }
    }
}
