//! What a client writes into its outbox.

use crate::ipc::wire::Envelope;
use crate::queue::layout::Tag;

/// An entry to be written.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(in crate::queue) tag: Tag,
    pub(in crate::queue) bytes: &'a [u8],
    /// What goes ahead of it; taken once it is sent.
    pub(in crate::queue) parcel: Option<Envelope>,
}

impl<'a> Outgoing<'a> {
    pub(in crate::queue) fn entry(tag: Tag, bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing {
            tag,
            bytes,
            parcel: None,
        }
    }

    pub(in crate::queue) fn parcel(tag: Tag, bytes: &'a [u8], packet: Envelope) -> Outgoing<'a> {
        Outgoing {
            tag,
            bytes,
            parcel: Some(packet),
        }
    }

    /// An item: bytes that fit a ring entry, or a parcel.
    pub(crate) fn item(bytes: &'a [u8], packet: Option<Envelope>) -> Outgoing<'a> {
        match packet {
            None => Outgoing::entry(Tag::Put, bytes),
            Some(packet) => Outgoing::parcel(Tag::Parcel, &[], packet),
        }
    }
}
