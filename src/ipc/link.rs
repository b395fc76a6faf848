//! One direction between two processes: a byte ring, and a channel for the values that do not fit
//! it.
//!
//! A *parcel* is a value that does not fit a ring entry, or that holds handles. It travels as a
//! message of its own, and an entry in the ring marks its place among the others. The protocol is
//! the same wherever it is used:
//!
//! - The parcel is sent before its entry is published, both under one lock. So a reader that finds
//!   the entry also finds the parcel, and parcels arrive in the order of their entries, whichever
//!   threads wrote them.
//! - The writer counts the parcels that it has sent, and the reader counts in shared memory those
//!   that it has taken. At most [`PARCELS_MAX`] are unread, so that they fit a socket's buffer.
//!
//! The owner chooses the channels that carry parcels and doorbells: some links share one for both,
//! some have two.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ipc::region::Region;
use crate::ipc::ring::{Corrupt, Peeked, RingConsumer, RingProducer};
use crate::ipc::wire::{Envelope, Failure, Pulse};

/// The most parcels of one writer that its reader has not taken yet.
pub(crate) const PARCELS_MAX: u64 = 8;

/// A parcel with more bytes than this carries them in shared memory, so that [`PARCELS_MAX`] of
/// them fit a socket's buffer.
pub(crate) const PARCEL_INLINE: usize = 1 << 10;

/// Where the parts of a link are in its region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkLayout {
    pub(crate) ring: usize,
    /// Written by the reader: the number of parcels that it has taken.
    pub(crate) parcels_taken: usize,
}

/// The writing end. Its owner keeps it in a mutex.
#[derive(Debug)]
pub(crate) struct LinkWriter {
    pub(crate) entries: RingProducer,
    region: Arc<Region>,
    parcels_taken: usize,
    parcels_sent: u64,
    pulse: Pulse,
}

impl LinkWriter {
    pub(crate) fn new(region: Arc<Region>, layout: LinkLayout) -> LinkWriter {
        LinkWriter {
            entries: RingProducer::new(region.clone(), layout.ring),
            region,
            parcels_taken: layout.parcels_taken,
            parcels_sent: 0,
            pulse: Pulse::new(),
        }
    }

    /// Writes one entry. Returns `false` if there is no room for it now.
    ///
    /// A reader that corrupts the ring counts as gone.
    #[inline]
    pub(crate) fn push(&mut self, tag: u32, payload: &[u8]) -> Result<bool, Failure> {
        self.entries.push(tag, payload).map_err(|Corrupt| Failure::Gone)
    }

    /// Sends a parcel with `send`, then writes its entry. Returns `false`, without calling `send`,
    /// if there is no room now for one of the two.
    pub(crate) fn push_parcel(
        &mut self,
        tag: u32,
        send: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let taken = self.region.atomic(self.parcels_taken).load(Ordering::SeqCst);
        if self.parcels_sent.saturating_sub(taken) >= PARCELS_MAX {
            return Ok(false);
        }
        // Check for room in the ring first: a parcel without an entry would shift all those that
        // follow.
        let has_room = self.entries.has_room(0);
        if !has_room.map_err(|Corrupt| Failure::Gone)? {
            return Ok(false);
        }
        match send() {
            Err(Failure::Full) => return Ok(false),
            sent => sent?,
        }
        self.parcels_sent += 1;
        self.push(tag, &[])
    }

    /// Whether entries have been left unread for a while: the reader may be slow, or dead. Checks
    /// at most every few milliseconds, and returns `false` in between.
    pub(crate) fn is_stalled(&mut self) -> bool {
        // Check the clock first. The other check takes a cache line from the reader, which writes
        // to it for each entry.
        self.pulse.is_due() && self.entries.is_backed_up().unwrap_or(true)
    }
}

/// Why a reader has no parcel for an entry.
#[derive(Debug)]
pub(crate) enum NoParcel {
    /// The parcel stays, and so does its entry: the system refuses a resource that it takes to
    /// receive it.
    Stays(io::Error),
    /// The parcel never arrived, or cannot be read. Its entry was taken.
    Lost(Failure),
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct LinkReader {
    pub(crate) entries: RingConsumer,
    region: Arc<Region>,
    parcels_taken: usize,
    /// Parcels that arrived before their entries were read.
    early: VecDeque<Envelope>,
}

impl LinkReader {
    pub(crate) fn new(region: Arc<Region>, layout: LinkLayout) -> LinkReader {
        LinkReader {
            entries: RingConsumer::new(region.clone(), layout.ring),
            region,
            parcels_taken: layout.parcels_taken,
            early: VecDeque::new(),
        }
    }

    /// Keeps a parcel until its entry is read. If a writer sends more parcels than it may, the
    /// surplus is dropped, and found missing when its entry is read.
    pub(crate) fn keep(&mut self, parcel: Envelope) {
        if (self.early.len() as u64) < PARCELS_MAX {
            self.early.push_back(parcel);
        }
    }

    pub(crate) fn has_early_parcels(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes the parcel of the entry in front, and the entry. `receive` returns the next parcel
    /// without waiting, because a parcel is sent before its entry. A writer whose parcel is missing
    /// violates the protocol.
    pub(crate) fn take_parcel(
        &mut self,
        front: &Peeked,
        receive: impl FnOnce() -> Result<Envelope, Failure>,
    ) -> Result<Envelope, NoParcel> {
        let parcel = match self.early.pop_front().map_or_else(receive, Ok) {
            Ok(mut parcel) => match parcel.map() {
                Ok(()) => Ok(parcel),
                Err(error) => {
                    self.early.push_front(parcel);
                    return Err(NoParcel::Stays(error));
                }
            },
            Err(Failure::Starved) => return Err(NoParcel::Stays(Failure::Starved.into_io())),
            Err(failure) => Err(NoParcel::Lost(failure)),
        };
        self.entries.take(front);
        self.region.atomic(self.parcels_taken).fetch_add(1, Ordering::SeqCst);
        parcel
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::ring::RING_BYTES;
    use crate::ipc::wire::EncodedValue;

    const LAYOUT: LinkLayout = LinkLayout { ring: 0, parcels_taken: RING_BYTES };

    fn link() -> (LinkWriter, LinkReader) {
        let region = Arc::new(Region::new(RING_BYTES + 128).unwrap());
        (LinkWriter::new(region.clone(), LAYOUT), LinkReader::new(region, LAYOUT))
    }

    fn parcel() -> Envelope {
        let (bytes, handles) = (vec![7], Vec::new());
        Envelope::new(EncodedValue { bytes, handles }).unwrap()
    }

    #[test]
    fn no_more_parcels_are_sent_than_may_be_unread() {
        let (mut writer, mut reader) = link();
        let mut sent = VecDeque::new();
        let mut send = |sent: &mut VecDeque<Envelope>| {
            writer.push_parcel(1, || {
                sent.push_back(parcel());
                Ok(())
            })
        };
        for _ in 0..PARCELS_MAX {
            assert!(send(&mut sent).unwrap());
        }
        assert!(!send(&mut sent).unwrap());
        assert_eq!(sent.len() as u64, PARCELS_MAX);
        let front = reader.entries.front().unwrap().unwrap();
        reader.take_parcel(&front, || Ok(sent.pop_front().unwrap())).unwrap();
        assert!(send(&mut sent).unwrap());
    }

    #[test]
    fn a_parcel_that_cannot_be_received_now_keeps_its_entry() {
        let (mut writer, mut reader) = link();
        assert!(writer.push_parcel(1, || Ok(())).unwrap());
        let front = reader.entries.front().unwrap().unwrap();
        let starved = reader.take_parcel(&front, || Err(Failure::Starved));
        assert!(matches!(starved, Err(NoParcel::Stays(_))));
        let front = reader.entries.front().unwrap().expect("it is still there");
        reader.keep(parcel());
        let taken = reader.take_parcel(&front, || unreachable!("it arrived early"));
        assert_eq!(taken.unwrap().bytes(), [7]);
        assert!(reader.entries.front().unwrap().is_none());
    }

    #[test]
    fn a_parcel_that_is_not_sent_has_no_entry() {
        let (mut writer, mut reader) = link();
        assert!(writer.push_parcel(1, || Err(Failure::Gone)).is_err());
        assert!(reader.entries.front().unwrap().is_none());
    }
}
