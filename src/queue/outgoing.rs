//! What a client writes into its outbox.

use crate::queue::layout::Tag;
use crate::wire::Packet;

/// An entry to be written.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(super) tag: Tag,
    pub(super) bytes: &'a [u8],
    /// What goes ahead of it; taken once it is sent.
    pub(super) parcel: Option<Packet>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn entry(tag: Tag, bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing {
            tag,
            bytes,
            parcel: None,
        }
    }

    pub(super) fn parcel(tag: Tag, bytes: &'a [u8], packet: Packet) -> Outgoing<'a> {
        Outgoing {
            tag,
            bytes,
            parcel: Some(packet),
        }
    }

    /// An item: bytes that fit a ring entry, or a parcel.
    pub(crate) fn item(bytes: &'a [u8], packet: Option<Packet>) -> Outgoing<'a> {
        match packet {
            None => Outgoing::entry(Tag::Put, bytes),
            Some(packet) => Outgoing::parcel(Tag::Parcel, &[], packet),
        }
    }
}
