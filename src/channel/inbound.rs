//! The receiver's view of one sending process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::heap;
use super::layout::{
    self, DONE, HEAP_START, LINK, LONG, Mark, PARCEL, READER_SLEEPS, SenderMemory, VALUE,
    WRITER_SLEEPS,
};
use super::{NewSender, RoomBell};
use crate::diagnostics;
use crate::error::{RecvError, is_starved};
use crate::ipc::codec::Slice;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::doorbell::{self, claim};
use crate::ipc::hub;
use crate::ipc::link::{LinkReader, NoParcel};
use crate::ipc::region::{AtomicU64, Reader, Region};
use crate::ipc::ring;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, Envelope, Failure};

/// The receiver returns the memory of a heap to the system when it waits, and the heap has not been
/// used for this long.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// After this many polls of an empty ring, polling has cost as much as a doorbell would have.
const MISSES_MAX: u32 = 256;

/// A sender's region, and the doorbell for a sender that waits for room in it. Outlives the ring
/// while messages in the heap are being decoded.
#[derive(Debug)]
pub(super) struct SenderRegion {
    /// The part before the heap.
    pub(super) region: Arc<Region>,
    memory: SenderMemory,
    room_bell: CheckedSender<RoomBell>,
}

impl SenderRegion {
    /// Wakes a sender that waits for room.
    fn ring_if_waiting(&self) {
        if claim(self.region.atomic(WRITER_SLEEPS)) {
            // Fails only if the sender is gone. Then no sender waits.
            let _ = hub::ring(&self.room_bell, RoomBell);
        }
    }
}

/// The ring of one sending process.
#[derive(Debug)]
pub(super) struct InboundRing {
    /// Identifies the ring among those of its receiver; never 0, never reused.
    pub(super) number: u64,
    pub(super) sender: Arc<SenderRegion>,
    reader: LinkReader,
    parcels: CheckedReceiver<Envelope>,
    /// The sender broke the protocol. The receiver reads nothing more from it.
    is_corrupt: bool,
    /// The sending process has closed its end of `parcels`.
    is_gone: bool,
    /// How often it was found empty since its last message.
    pub(super) misses: u32,
    /// How many bytes of the heap messages have touched since its memory was last returned, and
    /// when a message last used it.
    touched: usize,
    used: Instant,
}

/// The ring of one sending process, before this process has mapped it.
#[derive(Debug)]
pub(super) struct UnmappedRing {
    pub(super) sender: NewSender,
    /// How many bytes of the heap were touched by the process that read this ring before.
    pub(super) touched: usize,
}

impl UnmappedRing {
    /// Maps the memory. If it is not the memory of a sender, the error is of the kind
    /// `InvalidData`.
    pub(super) fn memory(&self) -> io::Result<SenderMemory> {
        SenderMemory::of(self.sender.region.clone())
    }

    pub(super) fn share(&self) -> io::Result<UnmappedRing> {
        let NewSender { region, room_bell, parcels } = &self.sender;
        let (region, room_bell) = (region.clone(), room_bell.clone());
        let sender = NewSender { region, room_bell, parcels: parcels.duplicate()? };
        Ok(UnmappedRing { sender, touched: self.touched })
    }
}

/// A message that was taken and is not decoded yet.
#[derive(Debug)]
pub(crate) struct RawMessage {
    /// The number of the ring that it came from. Each sending process has a ring, and so does each
    /// [separate](super::Sender::separate) sender.
    pub(crate) ring: u64,
    pub(crate) mark: Mark,
    pub(super) content: RawContent,
}

#[derive(Debug)]
pub(super) enum RawContent {
    Bytes(SmallBytes),
    Long(HeapMessage),
    Parcel(Envelope),
    /// The system refused something that receiving the message needs: descriptors for its handles,
    /// or addresses.
    Refused(io::Error),
}

/// A message in the heap of its sender. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct HeapMessage {
    sender: Arc<SenderRegion>,
    region: Arc<Region>,
    slot: usize,
    offset: usize,
    length: usize,
}

impl HeapMessage {
    fn reader(&self) -> Reader<'_> {
        self.region.reader(self.offset, self.length)
    }
}

impl Drop for HeapMessage {
    fn drop(&mut self) {
        heap::free(&self.sender.region, self.slot);
        self.sender.ring_if_waiting();
    }
}

impl RawMessage {
    /// Returns whether it could not be received yet, and stays with its sender.
    pub(super) fn is_left(&self) -> bool {
        matches!(&self.content, RawContent::Refused(error) if is_starved(error))
    }

    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, RecvError> {
        match self.content {
            RawContent::Bytes(bytes) => wire::decode(bytes.as_slice(), Vec::new()),
            RawContent::Long(message) => wire::decode_from(message.reader(), Vec::new()),
            RawContent::Parcel(envelope) => envelope.decode(),
            RawContent::Refused(error) => return Err(RecvError::Io(error)),
        }
        .map_err(RecvError::Decode)
    }

    /// Appends the bytes that were sent as one value, and returns their number.
    pub(super) fn bytes_into(self, to: &mut Vec<u8>) -> Result<usize, RecvError> {
        match self.content {
            RawContent::Bytes(bytes) => wire::decode_bytes(Slice(bytes.as_slice()), to),
            RawContent::Long(message) => wire::decode_bytes(message.reader(), to),
            RawContent::Parcel(envelope) => envelope.bytes_into(to),
            RawContent::Refused(error) => return Err(RecvError::Io(error)),
        }
        .map_err(RecvError::Decode)
    }
}

impl InboundRing {
    pub(super) fn new(memory: SenderMemory, unmapped: UnmappedRing) -> InboundRing {
        let UnmappedRing { sender, touched } = unmapped;
        let region = memory.head.clone();
        InboundRing {
            number: 0,
            reader: LinkReader::new(region.clone(), LINK),
            sender: Arc::new(SenderRegion { region, memory, room_bell: sender.room_bell }),
            parcels: sender.parcels,
            is_corrupt: false,
            is_gone: false,
            misses: 0,
            touched,
            used: Instant::now(),
        }
    }

    /// Returns what another process needs to receive from this ring from then on.
    pub(super) fn share(&self) -> io::Result<UnmappedRing> {
        let SenderRegion { memory, room_bell, .. } = &*self.sender;
        let (region, room_bell) = (memory.memory(), room_bell.clone());
        let sender = NewSender { region, room_bell, parcels: self.parcels.duplicate()? };
        Ok(UnmappedRing { sender, touched: self.touched })
    }

    pub(super) fn has_early_parcels(&self) -> bool {
        self.reader.has_early_parcels()
    }

    pub(super) fn has_next(&self) -> bool {
        !self.reader.entries.is_empty()
    }

    /// Returns the position after its last message.
    #[cfg(feature = "tracing")]
    pub(super) fn written_to(&self) -> u64 {
        self.reader.entries.written_to()
    }

    /// Returns whether all messages before this position were taken, or never will be. The sender
    /// may have lied about the position.
    #[cfg(feature = "tracing")]
    pub(super) fn is_taken_to(&self, position: u64) -> bool {
        self.is_corrupt || !self.has_next() || self.reader.entries.is_taken_to(position)
    }

    /// Returns this side's sleep flag, and the number by which the sender names the ring.
    pub(super) fn flag(&self) -> (&AtomicU64, u64) {
        (self.sender.region.atomic(READER_SLEEPS), self.number)
    }

    /// Counts a poll that found no message. After many of them, asks the sender to ring for its
    /// next message. Returns `true` if the receiver need not poll the ring again before that
    /// doorbell.
    pub(super) fn falls_quiet(&mut self) -> bool {
        self.misses = self.misses.saturating_add(1);
        if self.misses < MISSES_MAX {
            return false;
        }
        doorbell::arm_each([self.flag()]);
        !self.has_next()
    }

    /// Whether its last message was taken.
    pub(super) fn is_finished(&self) -> bool {
        // Read the flag first: the sender sets it after its last entry, so a ring that is empty
        // after the flag was seen stays empty.
        let is_done = self.is_gone || self.sender.region.atomic(DONE).load(Ordering::Acquire) == 1;
        self.is_corrupt || (is_done && self.reader.entries.is_empty())
    }

    /// Checks whether the sending process has ended. Parcels that arrive meanwhile are kept for
    /// their entries.
    pub(super) fn check_for_end(&mut self) {
        while !self.is_gone {
            match self.parcels.recv(&Deadline::now()) {
                Ok(parcel) => self.reader.keep(parcel),
                Err(WaitEnd::Timeout(_) | WaitEnd::Failed(Failure::Starved | Failure::Full)) => {
                    return;
                }
                Err(WaitEnd::Failed(Failure::Gone | Failure::Io(_))) => self.is_gone = true,
            }
        }
    }

    /// Takes the next message, if there is one.
    pub(super) fn next(&mut self) -> Option<RawMessage> {
        let front = match self.reader.entries.front() {
            Ok(Some(front)) => front,
            Ok(None) => return None,
            Err(ring::Corrupt) => return self.give_up(),
        };
        let (kind, mark) = layout::split_tag(front.tag);
        let content = self.take(kind, &front)?;
        Some(RawMessage { ring: self.number, mark, content })
    }

    fn take(&mut self, kind: u32, front: &ring::Peeked) -> Option<RawContent> {
        if kind == PARCEL {
            return self.take_parcel(front);
        }
        let entry = self.reader.entries.read(front);
        let content = match kind {
            VALUE => RawContent::Bytes(entry),
            LONG => match layout::read_long_entry(entry.as_slice(), self.sender.memory.end()) {
                Some((slot, offset, length)) => {
                    match self.sender.memory.up_to(offset + length) {
                        Ok(region) => self.long(region, slot, offset, length),
                        // The message stays there until this process has room for it.
                        Err(error) => return Some(RawContent::Refused(error)),
                    }
                }
                None => return self.give_up(),
            },
            _ => return self.give_up(),
        };
        // Succeeds: senders never recall.
        self.reader.entries.take(front);
        self.sender.ring_if_waiting();
        Some(content)
    }

    fn long(
        &mut self,
        region: Arc<Region>,
        slot: usize,
        offset: usize,
        length: usize,
    ) -> RawContent {
        self.touched = self.touched.max(offset + length - HEAP_START);
        self.used = Instant::now();
        let sender = self.sender.clone();
        RawContent::Long(HeapMessage { sender, region, slot, offset, length })
    }

    fn take_parcel(&mut self, front: &ring::Peeked) -> Option<RawContent> {
        let parcels = &self.parcels;
        let receive = || match parcels.recv(&Deadline::now()) {
            Ok(parcel) => Ok(parcel),
            Err(WaitEnd::Failed(failure)) => Err(failure),
            Err(WaitEnd::Timeout(_)) => Err(Failure::Gone),
        };
        match self.reader.take_parcel(front, receive) {
            Err(NoParcel::Stays(error)) => Some(RawContent::Refused(error)),
            Err(NoParcel::Lost(Failure::Gone)) => self.give_up(),
            outcome => {
                self.sender.ring_if_waiting();
                Some(match outcome {
                    Ok(parcel) => RawContent::Parcel(parcel),
                    Err(NoParcel::Stays(error)) => RawContent::Refused(error),
                    Err(NoParcel::Lost(failure)) => RawContent::Refused(failure.into_io()),
                })
            }
        }
    }

    /// Stops reading from a sender that broke the protocol.
    fn give_up<R>(&mut self) -> Option<R> {
        diagnostics::error(
            "offspring::channel",
            format_args!("a sending process has corrupted its ring; its messages are dropped"),
        );
        self.is_corrupt = true;
        None
    }

    /// When the heap will have been idle for [`IDLE`]. `None` if no memory of it is in use.
    pub(super) fn idle_at(&self) -> Option<Instant> {
        (self.touched > 0).then(|| self.used + IDLE)
    }

    /// Returns the memory of an idle heap to the system.
    pub(super) fn return_idle_memory(&mut self, now: Instant) {
        if self.idle_at().is_some_and(|at| at <= now) {
            if heap::return_memory(&self.sender.memory, self.touched) {
                self.touched = 0;
                self.sender.ring_if_waiting();
            }
            self.used = now;
        }
    }
}
