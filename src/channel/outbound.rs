//! This process's ring to one receiver, and how a message enters it.
//!
//! A send has three steps: obtain the ring (the first send makes it), prepare the message (encode
//! it to where the receiver will read it), and push its entry. A message is prepared once, before
//! the first wait for room, because it may hold handles that can be moved only once. Pushing is one
//! attempt that never waits. The three forms of `send` differ in what drives it: a thread that
//! sleeps, a task that is polled, or nothing.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde::Serialize;

use super::heap::{Block, MessageHeap};
use super::layout::{
    self, DONE, LINK, LONG, Mark, PARCEL, READER_SLEEPS, SenderMemory, VALUE, WRITER_SLEEPS, tag,
};
use super::long_message::{LongMessage, Stored};
use super::{NewSender, RoomBell, ToReceiver};
use crate::error::{EncodeError, SendError};
use crate::ipc::deadline::{Deadline, Elapsed, TimeLimit, WaitEnd, Waited};
use crate::ipc::doorbell;
use crate::ipc::hub;
use crate::ipc::link::{LinkWriter, PARCEL_INLINE};
use crate::ipc::parking::{SharedReceiver, SleepFlag};
#[cfg(feature = "async")]
use crate::ipc::reactor;
use crate::ipc::region::Region;
use crate::ipc::ring;
use crate::ipc::scratch::Scratch;
use crate::ipc::spin::Spin;
use crate::ipc::wire::{self, CheckedSender, EncodedValue, Envelope, Failure, Shape, SideData};
use crate::sys::{self, lock};

/// State shared by the clones of a sender.
#[derive(Debug)]
pub(super) struct SenderShared {
    /// Where all senders ring, and where a new one introduces itself.
    to_receiver: CheckedSender<ToReceiver>,
    /// Made by the first send.
    ring: OnceLock<Arc<OutboundRing>>,
    /// Held while the ring is made.
    joining: Mutex<()>,
}

/// This process's ring to the receiver.
#[derive(Debug)]
pub(super) struct OutboundRing {
    region: Arc<Region>,
    pub(super) heap: Arc<MessageHeap>,
    /// Where the receiver rings when there is room again.
    room: SharedReceiver<RoomBell>,
    /// Closes when this process ends. That is how the receiver learns of its death.
    parcels: CheckedSender<Envelope>,
    writer: Mutex<LinkWriter>,
    /// How long to poll for [`AMPLE`] room.
    refill: Spin,
}

/// How much of a full ring should be free before this process writes to it again, if that does not
/// take long.
///
/// A busy receiver frees one entry at a time. If the sender used each free entry at once, the two
/// would fetch each other's cache lines for every message, or wake each other for every few.
const AMPLE: usize = ring::CAPACITY / 16;

impl Drop for OutboundRing {
    fn drop(&mut self) {
        // A forked process drops a copy of the ring, and the original may continue to send.
        if !sys::is_fork() {
            self.region.atomic(DONE).store(1, Ordering::Release);
        }
    }
}

impl SleepFlag<RoomBell> for OutboundRing {
    fn arm(&self) {
        doorbell::arm(self.region.atomic(WRITER_SLEEPS));
    }

    fn disarm(&self) -> usize {
        usize::from(doorbell::disarm(self.region.atomic(WRITER_SLEEPS)))
    }

    fn message(&self, _: RoomBell) -> bool {
        true
    }
}

impl OutboundRing {
    fn has_ample_room(&self) -> bool {
        // A ring that is corrupt reports it when it is written.
        lock(&self.writer).entries.room_for(AMPLE).map_or(true, |room| room >= AMPLE)
    }

    /// Allocates a block in the heap; waits until there is room.
    pub(super) fn wait_for_block<L: TimeLimit>(
        &self,
        length: usize,
        limit: &L,
    ) -> Waited<Option<Block>, SendFailure, L> {
        const NAP_MAX: Duration = Duration::from_millis(1);

        let allocate = || self.heap.allocate(length).map_err(SendFailure::Io).transpose();
        if let Some(block) = allocate() {
            return Ok(Some(block?));
        }
        // A busy receiver frees one block at a time, and waking this thread for each block would
        // cost both sides more than the copy. So this thread first sleeps for about the time of a
        // copy, after which there is room for several, and asks for a doorbell only then.
        let nap = Duration::from_nanos(length as u64 / 2).min(NAP_MAX);
        std::thread::sleep(limit.left().map_or(nap, |left| nap.min(left)));
        let block = self.room.wait(self, limit, allocate).map_err(WaitEnd::convert)?;
        Ok(Some(block?))
    }
}

/// Why a message was not sent, other than a timeout.
#[derive(Debug)]
pub(crate) enum SendFailure {
    Disconnected,
    Encode(EncodeError),
    Io(io::Error),
}

impl SendFailure {
    /// The public error, with the message.
    pub(crate) fn with<T>(self, message: T) -> SendError<T> {
        match self {
            SendFailure::Disconnected => SendError::Disconnected(message),
            SendFailure::Encode(error) => SendError::Encode(message, error),
            SendFailure::Io(error) => SendError::Io(message, error),
        }
    }
}

impl From<Failure> for SendFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone => SendFailure::Disconnected,
            failure => SendFailure::Io(failure.into_io()),
        }
    }
}

/// A message that is ready to enter the ring.
struct Prepared<'a> {
    mark: Mark,
    content: MessageContent<'a>,
}

enum MessageContent<'a> {
    Value(&'a [u8]),
    /// A block, and the length of the message in it. Taken when the entry is pushed.
    Long(Option<(Block, usize)>),
    /// Taken when the entry is pushed.
    Parcel(Option<Envelope>),
}

/// Encodes a message. `limit` bounds the wait for room in the heap; without it, there is no wait.
fn prepare<'b, V: ?Sized + Serialize, L: TimeLimit>(
    ring: &Arc<OutboundRing>,
    mark: Mark,
    (value, shape): (&V, Shape),
    bytes: &'b mut Vec<u8>,
    limit: Option<&L>,
) -> Waited<(Prepared<'b>, SideData), SendFailure, L> {
    let mut long = LongMessage::new(ring, limit);
    let encoded = wire::encode_spilling(value, shape, bytes, ring::ENTRY_MAX, &mut long);
    let (spilled, mut side_data) =
        encoded.inspect_err(|_| hub::announce()).map_err(SendFailure::Encode)?;
    if !side_data.is_empty() {
        // From here on the handles are in flight, whatever becomes of the message.
        hub::announce();
    }
    let handles = side_data.take_handles();
    let content = if spilled == 0 && handles.is_empty() {
        Ok(MessageContent::Value(bytes))
    } else if spilled == 0 {
        let bytes = bytes.to_vec();
        parcel(Envelope::new(EncodedValue { bytes, handles })).map_err(WaitEnd::from)
    } else {
        long.finish(handles).and_then(|stored| match stored {
            Stored::Heap(block, length) => Ok(MessageContent::Long(Some((block, length)))),
            Stored::Parcel(envelope) => parcel(Ok(envelope)).map_err(WaitEnd::from),
        })
    };
    match content {
        Ok(content) => Ok((Prepared { mark, content }, side_data)),
        Err(end) => side_data.restore_unless_sent(Err(end)),
    }
}

fn parcel<'a>(envelope: io::Result<Envelope>) -> Result<MessageContent<'a>, SendFailure> {
    envelope
        .and_then(|envelope| envelope.with_inline_limit(PARCEL_INLINE))
        .map(|envelope| MessageContent::Parcel(Some(envelope)))
        .map_err(SendFailure::Io)
}

impl Prepared<'_> {
    /// Writes the entry. Returns `false` if there is no room for it now.
    fn write(
        &mut self,
        writer: &mut LinkWriter,
        parcels: &CheckedSender<Envelope>,
    ) -> Result<bool, Failure> {
        match &mut self.content {
            MessageContent::Value(bytes) => writer.push(tag(VALUE, self.mark), bytes),
            MessageContent::Long(stored) => {
                let (block, length) = stored.take().expect("a message is pushed once");
                let entry = layout::long_entry(block.slot, block.offset(), length);
                let pushed = writer.push(tag(LONG, self.mark), &entry);
                match pushed {
                    Ok(true) => block.hand_over(),
                    _ => *stored = Some((block, length)),
                }
                pushed
            }
            MessageContent::Parcel(envelope) => writer.push_parcel(tag(PARCEL, self.mark), || {
                wire::send(parcels, envelope.as_ref().expect("a message is pushed once"))
                    .inspect(|()| *envelope = None)
            }),
        }
    }
}

impl SenderShared {
    pub(super) fn new(to_receiver: CheckedSender<ToReceiver>) -> SenderShared {
        SenderShared { to_receiver, ring: OnceLock::new(), joining: Mutex::new(()) }
    }

    pub(super) fn to_receiver(&self) -> CheckedSender<ToReceiver> {
        self.to_receiver.clone()
    }

    /// Returns the ring; the first call makes it.
    pub(super) fn ring<L: TimeLimit>(
        &self,
        limit: &L,
    ) -> Waited<&Arc<OutboundRing>, SendFailure, L> {
        match self.ring.get() {
            Some(ring) => Ok(ring),
            None => self.join(lock(&self.joining), limit),
        }
    }

    /// Like [`ring`](Self::ring), but does not wait for another thread that makes it.
    fn try_ring(&self) -> Waited<&Arc<OutboundRing>, SendFailure, Deadline> {
        if let Some(ring) = self.ring.get() {
            return Ok(ring);
        }
        match self.joining.try_lock() {
            Ok(joining) => self.join(joining, &Deadline::now()),
            Err(_) => Err(WaitEnd::Timeout(Elapsed)),
        }
    }

    /// Makes the ring and introduces it to the receiver, which may have many other messages to read
    /// first.
    fn join<L: TimeLimit>(
        &self,
        joining: MutexGuard<'_, ()>,
        limit: &L,
    ) -> Waited<&Arc<OutboundRing>, SendFailure, L> {
        if let Some(ring) = self.ring.get() {
            return Ok(ring);
        }
        let memory = Arc::new(SenderMemory::new().map_err(SendFailure::Io)?);
        let region = memory.head.clone();
        let (room_bell, room) = wire::channel().map_err(SendFailure::Io)?;
        let (parcels, parcels_there) = wire::channel().map_err(SendFailure::Io)?;
        let new = NewSender { region: memory.memory(), room_bell, parcels: parcels_there };
        wire::send_within(&self.to_receiver, &ToReceiver::Join(new), limit)
            .map_err(WaitEnd::convert)?;
        let ring = self.ring.get_or_init(|| {
            Arc::new(OutboundRing {
                heap: Arc::new(MessageHeap::new(memory)),
                room: SharedReceiver::new(room),
                parcels,
                writer: Mutex::new(LinkWriter::new(region.clone(), LINK)),
                refill: Spin::of_long_polls(),
                region,
            })
        });
        drop(joining);
        Ok(ring)
    }

    /// Sends a message; waits for room.
    pub(super) fn send<V: ?Sized + Serialize, L: TimeLimit>(
        &self,
        mark: Mark,
        value: (&V, Shape),
        limit: &L,
    ) -> Waited<(), SendFailure, L> {
        let ring = self.ring(limit)?;
        let mut bytes = Scratch::take();
        let (mut message, side_data) = prepare(ring, mark, value, &mut bytes, Some(limit))?;
        side_data.restore_unless_sent(self.push_within(ring, &mut message, limit))
    }

    /// Sends a message if there is room now.
    pub(super) fn try_send<V: ?Sized + Serialize>(
        &self,
        mark: Mark,
        value: (&V, Shape),
    ) -> Waited<(), SendFailure, Deadline> {
        let ring = self.try_ring()?;
        let mut bytes = Scratch::take();
        let (mut message, side_data) = prepare(ring, mark, value, &mut bytes, None::<&Deadline>)?;
        let sent = match self.push_first(ring, &mut message) {
            Some(pushed) => pushed.map_err(WaitEnd::from),
            // A receiver that died while it was awake may have left its ring full.
            None if ring.room.check(&**ring) => Err(SendFailure::Disconnected.into()),
            None => Err(WaitEnd::Timeout(Elapsed)),
        };
        side_data.restore_unless_sent(sent)
    }

    fn push_within<L: TimeLimit>(
        &self,
        ring: &OutboundRing,
        message: &mut Prepared<'_>,
        limit: &L,
    ) -> Waited<(), SendFailure, L> {
        if let Some(pushed) = self.push_first(ring, message) {
            return Ok(pushed?);
        }
        ring.refill.run(limit.deadline(), &mut || ring.has_ample_room().then_some(()));
        // Accept any room that there is now: the receiver may take nothing more for a long time.
        let pushed = ring.room.wait(ring, limit, || self.push(ring, message));
        Ok(pushed.map_err(WaitEnd::convert)??)
    }

    /// The first attempt, which also notices a receiver that died while it was awake. If the
    /// receiver died asleep, ringing it fails, and a wait for room ends with that failure. But a
    /// receiver that dies awake leaves its sleep flag clear, so this process would neither ring nor
    /// wait.
    fn push_first(
        &self,
        ring: &OutboundRing,
        message: &mut Prepared<'_>,
    ) -> Option<Result<(), SendFailure>> {
        let mut writer = lock(&ring.writer);
        if writer.is_stalled() {
            // The check makes system calls, so it runs without the lock.
            drop(writer);
            if ring.room.check(ring) {
                return Some(Err(SendFailure::Disconnected));
            }
            writer = lock(&ring.writer);
        }
        self.push_locked(ring, writer, message)
    }

    /// One attempt. `None` if there is no room now.
    fn push(
        &self,
        ring: &OutboundRing,
        message: &mut Prepared<'_>,
    ) -> Option<Result<(), SendFailure>> {
        self.push_locked(ring, lock(&ring.writer), message)
    }

    fn push_locked(
        &self,
        ring: &OutboundRing,
        mut writer: MutexGuard<'_, LinkWriter>,
        message: &mut Prepared<'_>,
    ) -> Option<Result<(), SendFailure>> {
        if ring.room.is_gone() {
            return Some(Err(SendFailure::Disconnected));
        }
        let pushed = message.write(&mut writer, &ring.parcels);
        drop(writer);
        match pushed {
            Ok(true) => {}
            Ok(false) => return None,
            Err(failure) => return Some(Err(failure.into())),
        }
        let reader_sleeps = ring.region.atomic(READER_SLEEPS);
        if let Some(number) = doorbell::claim_number(reader_sleeps) {
            if let Err(Failure::Gone) = hub::ring(&self.to_receiver, ToReceiver::Bell(number)) {
                ring.room.set_gone();
                return Some(Err(SendFailure::Disconnected));
            }
        }
        Some(Ok(()))
    }
}

#[cfg(feature = "async")]
impl SenderShared {
    /// Sends a message; the task waits for room. It holds the message and no reference to it, so a
    /// future of this is `Send` even if the message is not `Sync`.
    pub(super) async fn send_async<T: Serialize>(
        &self,
        message: T,
        shape: Shape,
    ) -> Result<(), SendError<T>> {
        let sent = match self.ring_async().await {
            Ok(ring) => {
                let mut bytes = Vec::new();
                let no_wait = None::<&crate::ipc::deadline::Forever>;
                match prepare(ring, Mark::default(), (&message, shape), &mut bytes, no_wait) {
                    Ok((mut prepared, side_data)) => {
                        side_data.restore_unless_sent(self.push_async(ring, &mut prepared).await)
                    }
                    Err(end) => Err(end.into_failed()),
                }
            }
            Err(failure) => Err(failure),
        };
        sent.map_err(|failure| failure.with(message))
    }

    async fn ring_async(&self) -> Result<&Arc<OutboundRing>, SendFailure> {
        loop {
            // If the receiver has much to read, its socket may have no room for a new sender, and
            // no event wakes a task when there is room again.
            match self.try_ring() {
                Ok(ring) => return Ok(ring),
                Err(WaitEnd::Timeout(Elapsed)) => reactor::yield_now().await,
                Err(WaitEnd::Failed(failure)) => return Err(failure),
            }
        }
    }

    async fn push_async(
        &self,
        ring: &OutboundRing,
        message: &mut Prepared<'_>,
    ) -> Result<(), SendFailure> {
        if let Some(pushed) = self.push_first(ring, message) {
            return pushed;
        }
        let attempt = |interest: reactor::Interest<'_>| {
            ring.room
                .poll(ring, interest, || self.push(ring, message))
                .map(|pushed| pushed.unwrap_or_else(|failure| Err(failure.into())))
        };
        reactor::until(|| ring.room.register(), attempt).await.map_err(SendFailure::Io)?
    }
}
