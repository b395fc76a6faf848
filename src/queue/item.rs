//! An item outside the rings: on its way in, stored, and on its way out.

use std::io;

use serde::de::DeserializeOwned;

use crate::error::DecodeError;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{self, Envelope, Failure};

/// An encoded item to put.
#[derive(Debug)]
pub(in crate::queue) enum NewItem<'a> {
    /// It fits a ring entry. Borrowed from the buffer that it was encoded into.
    Bytes(&'a [u8]),
    /// It is too long for an entry, or holds handles. Boxed, so that the other kind moves as a few
    /// words.
    Parcel(Box<Envelope>),
}

/// A stored item.
#[derive(Debug)]
pub(in crate::queue) struct Item {
    pub(in crate::queue) payload: Payload,
    /// How many consumers have taken it without finishing it.
    pub(in crate::queue) attempts: u32,
}

/// An item that a consumer has taken, with the number of its lease. A plain queue has no leases.
#[derive(Debug)]
pub(in crate::queue) struct Taken {
    pub(in crate::queue) item: Item,
    pub(in crate::queue) lease: u64,
}

#[derive(Debug)]
pub(in crate::queue) enum Payload {
    Bytes(SmallBytes),
    Parcel(Box<Envelope>),
}

impl Payload {
    pub(in crate::queue) fn parcel(envelope: Envelope) -> Payload {
        Payload::Parcel(Box::new(envelope))
    }

    /// Returns a copy. Returns `None` if memory or descriptors are short, or if it holds things
    /// that exist only once.
    pub(in crate::queue) fn try_clone(&self) -> Option<Payload> {
        match self {
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes.clone())),
            Payload::Parcel(envelope) => envelope.try_clone().map(Payload::parcel),
        }
    }

    /// Returns a copy for a consumer of this process. Things that exist only once are moved out of
    /// `self` into the copy.
    pub(in crate::queue) fn deliver(&mut self) -> io::Result<Payload> {
        let delivered = match self {
            Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
            Payload::Parcel(envelope) => {
                let mut copy = envelope.duplicate().ok_or_else(|| Failure::Starved.into_io())?;
                copy.map()?;
                Payload::parcel(copy)
            }
        };
        self.mark_moved_out();
        Ok(delivered)
    }

    /// Maps a body in memory; see [`Envelope::map`].
    pub(in crate::queue) fn map(&mut self) -> io::Result<()> {
        match self {
            Payload::Bytes(_) => Ok(()),
            Payload::Parcel(envelope) => envelope.map(),
        }
    }

    /// Records that a consumer has the things in it that exist only once.
    pub(in crate::queue) fn mark_moved_out(&mut self) {
        if let Payload::Parcel(envelope) = self {
            envelope.mark_moved_out();
        }
    }

    /// Returns whether it was delivered with something that exists only once, so that it cannot be
    /// delivered again.
    pub(in crate::queue) fn is_moved_out(&self) -> bool {
        matches!(self, Payload::Parcel(envelope) if envelope.is_moved_out())
    }

    /// Returns how many descriptors it keeps open.
    pub(in crate::queue) fn descriptors(&self) -> usize {
        match self {
            Payload::Bytes(_) => 0,
            Payload::Parcel(envelope) => envelope.descriptors(),
        }
    }

    /// Decodes it. The bytes stay, and handles in it are moved out.
    pub(in crate::queue) fn decode<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        match self {
            Payload::Bytes(bytes) => wire::decode(bytes.as_slice(), Vec::new()),
            Payload::Parcel(envelope) => envelope.decode_keeping_bytes(),
        }
    }

    /// The encoded bytes.
    pub(in crate::queue) fn bytes(&self) -> Vec<u8> {
        match self {
            Payload::Bytes(bytes) => bytes.as_slice().to_vec(),
            Payload::Parcel(envelope) => envelope.bytes(),
        }
    }
}
