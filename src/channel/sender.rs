//! The sending end: a ring for each process that sends.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_channel::ipc::{self, IpcSender};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::{Borrowed, Bytes};
use super::heap::{Block, Heap};
use super::layout::{
    self, DONE, LARGE, Mark, PARCEL, PARCELS_TAKEN, READER_SLEEPS, VALUE, WRITER_SLEEPS, tag,
};
use super::spill::{Finished, Message};
use super::{Bell, Inward, Joining, PARCEL_INLINE, PARCELS_MAX, Token};
use crate::error::{EncodeError, SendError, SendTimeoutError};
use crate::ipc::deadline::{Deadline, Elapsed, WaitEnd};
use crate::ipc::doorbell::{self, claim};
use crate::ipc::hub;
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::region::Region;
use crate::ipc::ring;
use crate::ipc::wire::{self, EncodedValue, Envelope, Failure, WireHandle};
use crate::sys::lock;

/// The sending end of a [`channel`](crate::channel()). Clones share it; sent to another process, it stays usable here too.
///
/// Dropping it changes nothing for what was sent. When every sender is gone and all is received, the
/// receiver reports [`RecvError::Disconnected`](crate::RecvError::Disconnected).
///
/// ```
/// #[offspring::worker]
/// fn tell(to: offspring::Sender<u32>, n: u32) {
///     to.send(n).unwrap();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (sender, receiver) = offspring::channel()?;
///     let children = [1, 2].map(|n| tell::spawn(sender.clone(), n));
///     drop(sender); // the children have clones of their own
///     let mut told: Vec<u32> = receiver.iter().collect();
///     told.sort_unstable();
///     assert_eq!(told, [1, 2]);
///     for child in children {
///         child?.join()?;
///     }
///     Ok(())
/// }
/// ```
pub struct Sender<T> {
    pub(super) shared: Arc<SenderShared>,
    message: PhantomData<fn(T)>,
}

#[derive(Debug)]
pub(super) struct SenderShared {
    pub(super) outward: Mutex<IpcSender<Inward>>,
    /// Made by the first `send`.
    ring: Mutex<Option<Arc<Outgoing>>>,
}

/// This process's ring to the receiver.
#[derive(Debug)]
pub(super) struct Outgoing {
    region: Arc<Region>,
    pub(super) heap: Arc<Heap>,
    pub(super) back: SharedReceiver<Bell>,
    /// Its end tells the receiver that this process is gone.
    parcels: Mutex<IpcSender<Envelope>>,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    producer: ring::Producer,
    parcels: u64,
    pulse: wire::Pulse,
}

impl SleepFlag<Bell> for Outgoing {
    fn arm(&self) {
        doorbell::arm(self.region.atomic(WRITER_SLEEPS));
    }

    fn disarm(&self) -> usize {
        usize::from(doorbell::disarm(self.region.atomic(WRITER_SLEEPS)))
    }

    fn message(&self, _: Bell) -> bool {
        true
    }
}

impl Outgoing {
    /// A block of the heap; waits for room.
    pub(super) fn wait_for_block(&self, length: usize, limit: &Deadline) -> Result<Block, SendEnd> {
        if let Some(block) = self.heap.allocate(length) {
            return Ok(block);
        }
        // A receiver that is busy frees one block after the other. To be woken for each would cost both sides more
        // than the copy: a moment later there is room for several. A bell is asked for only after that.
        let nap = Duration::from_nanos(length as u64 / 2).min(NAP_MAX);
        std::thread::sleep(limit.left().map_or(nap, |left| nap.min(left)));
        Ok(self.back.wait(self, limit, || self.heap.allocate(length))?)
    }

    /// Whether the receiver has left entries for a while: it may be slow, or dead.
    pub(super) fn is_suspicious(&self) -> bool {
        let mut entries = lock(&self.entries);
        // In this order: the look fetches a cache line that the receiver writes for each message, and it then has to fetch it back.
        entries.pulse.is_due() && entries.producer.is_backed_up().unwrap_or(true)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.region.atomic(DONE).store(1, Ordering::Release);
    }
}

const NAP_MAX: Duration = Duration::from_millis(1);

/// Why a message was not sent.
#[derive(Debug)]
pub(crate) enum SendEnd {
    Timeout,
    Disconnected,
    Encode(EncodeError),
    Io(io::Error),
}

impl From<WaitEnd<Elapsed, Failure>> for SendEnd {
    fn from(end: WaitEnd<Elapsed, Failure>) -> Self {
        match end {
            WaitEnd::Timeout(Elapsed) => SendEnd::Timeout,
            WaitEnd::Failed(failure) => failure.into(),
        }
    }
}

impl SendEnd {
    pub(crate) fn with<T>(self, message: T) -> SendTimeoutError<T> {
        match self {
            SendEnd::Timeout => SendTimeoutError::Timeout(message),
            SendEnd::Disconnected => SendError::Disconnected(message).into(),
            SendEnd::Encode(error) => SendError::Encode(message, error).into(),
            SendEnd::Io(error) => SendError::Io(message, error).into(),
        }
    }
}

/// What is to be sent, as it stands in the ring.
pub(super) struct Entry<'a> {
    pub(super) mark: Mark,
    pub(super) body: Body<'a>,
}

pub(super) enum Body<'a> {
    Value(&'a [u8]),
    /// Taken once it is sent, as the next.
    Large(Option<(Block, usize)>),
    Parcel(Option<Envelope>),
}

thread_local! {
    /// Messages are encoded here, so that a small one costs no allocation.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl From<Failure> for SendEnd {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone => SendEnd::Disconnected,
            failure => SendEnd::Io(failure.into_io()),
        }
    }
}

impl SenderShared {
    pub(super) fn ring(&self, limit: &Deadline) -> Result<Arc<Outgoing>, SendEnd> {
        let mut ring = lock(&self.ring);
        if let Some(ring) = &*ring {
            return Ok(ring.clone());
        }
        let region = layout::region().map_err(SendEnd::Io)?;
        let (back, bells) = ipc::channel().map_err(SendEnd::Io)?;
        let (parcels, parcels_there) = ipc::channel().map_err(SendEnd::Io)?;
        let joining = Joining {
            region: region.share().map_err(SendEnd::Io)?,
            back,
            parcels: parcels_there,
        };
        wire::send_within(&lock(&self.outward), Inward::Join(joining), limit)?;
        let outgoing = Arc::new(Outgoing {
            heap: Arc::new(Heap::new(region.clone())),
            back: SharedReceiver::new(bells),
            parcels: Mutex::new(parcels),
            entries: Mutex::new(Entries {
                producer: ring::Producer::new(region.clone(), 0),
                parcels: 0,
                pulse: wire::Pulse::new(),
            }),
            region,
        });
        *ring = Some(outgoing.clone());
        Ok(outgoing)
    }

    /// Encodes a message, and sends it.
    fn send<V: ?Sized + Serialize>(
        &self,
        mark: Mark,
        value: &V,
        limit: &Deadline,
    ) -> Result<(), SendEnd> {
        let ring = self.ring(limit)?;
        let mut bytes = SCRATCH.with(Cell::take);
        bytes.clear();
        let mut message = Message::new(&ring, limit);
        let outcome = match wire::encode_spilling(value, &mut bytes, ring::ENTRY_MAX, &mut message)
        {
            Err(error) => Err(SendEnd::Encode(error)),
            Ok((spilled, mut along)) => {
                // Handles are under way from here on, whatever becomes of the message.
                let announce = !along.is_empty();
                let sent = SenderShared::body(&bytes, spilled, along.take_handles(), message)
                    .and_then(|body| self.send_entry(&ring, Entry { mark, body }, limit));
                if announce {
                    hub::announce();
                }
                along.restore_unless_sent(sent)
            }
        };
        if matches!(outcome, Err(SendEnd::Encode(_))) {
            hub::announce();
        }
        SCRATCH.with(|scratch| scratch.set(bytes));
        outcome
    }

    pub(super) fn body<'b>(
        bytes: &'b [u8],
        spilled: usize,
        handles: Vec<WireHandle>,
        message: Message<'_>,
    ) -> Result<Body<'b>, SendEnd> {
        if spilled == 0 && handles.is_empty() {
            return Ok(Body::Value(bytes));
        }
        let packet = if spilled == 0 {
            let bytes = bytes.to_vec();
            Envelope::new(EncodedValue { bytes, handles }).map_err(SendEnd::Io)?
        } else {
            match message.finish(handles)? {
                Finished::Block(block, length) => return Ok(Body::Large(Some((block, length)))),
                Finished::Parcel(packet) => packet,
            }
        };
        Ok(Body::Parcel(Some(
            packet
                .with_inline_limit(PARCEL_INLINE)
                .map_err(SendEnd::Io)?,
        )))
    }

    fn send_entry(
        &self,
        ring: &Outgoing,
        mut entry: Entry<'_>,
        limit: &Deadline,
    ) -> Result<(), SendEnd> {
        if ring.is_suspicious() && ring.back.check(ring) {
            return Err(SendEnd::Disconnected);
        }
        if let Some(sent) = self.attempt(ring, &mut entry) {
            return sent;
        }
        ring.back
            .wait(ring, limit, || self.attempt(ring, &mut entry))?
    }

    pub(super) fn attempt(
        &self,
        ring: &Outgoing,
        entry: &mut Entry<'_>,
    ) -> Option<Result<(), SendEnd>> {
        if ring.back.is_gone() {
            return Some(Err(SendEnd::Disconnected));
        }
        match ring.push(entry) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(end) => return Some(Err(end)),
        }
        if claim(ring.region.atomic(READER_SLEEPS)) {
            if let Err(failure) = wire::ring(&lock(&self.outward), Inward::Bell) {
                ring.back.set_gone();
                return Some(Err(failure.into()));
            }
        }
        Some(Ok(()))
    }
}

impl Outgoing {
    /// Writes the entry, if there is room for it now.
    fn push(&self, entry: &mut Entry<'_>) -> Result<bool, SendEnd> {
        // One lock around a parcel and its entry, so that both come in one order.
        let mut entries = lock(&self.entries);
        let mark = entry.mark;
        let pushed = match &mut entry.body {
            Body::Value(bytes) => entries.producer.push(tag(VALUE, mark), bytes),
            Body::Large(message) => {
                let (block, length) = message.take().expect("it is pushed once");
                let pushed = entries.producer.push(
                    tag(LARGE, mark),
                    &layout::large_entry(block.slot, block.offset(), length),
                );
                match pushed {
                    Ok(true) => block.hand_over(),
                    _ => *message = Some((block, length)),
                }
                pushed
            }
            Body::Parcel(packet) => {
                let taken = self.region.atomic(PARCELS_TAKEN).load(Ordering::SeqCst);
                if entries.parcels.saturating_sub(taken) >= PARCELS_MAX {
                    return Ok(false);
                }
                match entries.producer.has_room(0) {
                    Ok(true) => {
                        let packet = packet.take().expect("it is pushed once");
                        wire::send(&lock(&self.parcels), packet)?;
                        entries.parcels += 1;
                        entries.producer.push(tag(PARCEL, mark), &[])
                    }
                    other => other,
                }
            }
        };
        pushed.map_err(|ring::Corrupt| SendEnd::Disconnected)
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message; waits while the receiver's buffer (128 KiB; of messages over 32 KiB, 8 or 129 MiB) is full.
    ///
    /// "Sent" means that the receiver gets it even if this process dies; not that it has been received.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the receiver is gone, or the message does not encode; it comes back with the error.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.send_within(message, &Deadline::never())
            .map_err(|end| match end {
                SendTimeoutError::Failed(error) => error,
                SendTimeoutError::Timeout(message) => SendError::Disconnected(message),
            })
    }

    /// As [`send`](Sender::send), but waits at most this long.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`], or as [`send`](Sender::send).
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_within(message, &Deadline::after(timeout))
    }

    pub(crate) fn send_within(
        &self,
        message: T,
        limit: &Deadline,
    ) -> Result<(), SendTimeoutError<T>> {
        self.shared
            .send(Mark::default(), &message, limit)
            .map_err(|end| end.with(message))
    }
}

impl<T> Sender<T> {
    /// Sends a message of any type, which its mark tells the receiver.
    pub(crate) fn send_marked<V: ?Sized + Serialize>(
        &self,
        mark: Mark,
        message: &V,
        limit: &Deadline,
    ) -> Result<(), SendEnd> {
        self.shared.send(mark, message, limit)
    }
}

impl Sender<Bytes> {
    /// Sends a copy of these bytes, as [`send`](Sender::send) sends [`Bytes`]: they are copied once, to where the receiver
    /// copies them from.
    ///
    /// # Errors
    ///
    /// As [`send`](Sender::send), without the message.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.shared
            .send(Mark::default(), &Borrowed(bytes), &Deadline::never())
            .map_err(|end| match end.with(()) {
                SendTimeoutError::Failed(error) => error,
                SendTimeoutError::Timeout(()) => SendError::Disconnected(()),
            })
    }

    /// As [`send_bytes`](Sender::send_bytes), but waits at most this long.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Sender::send_timeout), without the message.
    pub fn send_bytes_timeout(
        &self,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<()>> {
        let limit = Deadline::after(timeout);
        self.shared
            .send(Mark::default(), &Borrowed(bytes), &limit)
            .map_err(|end| end.with(()))
    }
}

impl<T> Sender<T> {
    /// The same end, for those who know that its messages are of another type than is written here.
    pub(crate) fn retype<U>(self) -> Sender<U> {
        Sender {
            shared: self.shared,
            message: PhantomData,
        }
    }

    /// The same end with a ring of its own: its messages are of another [source](super::source::Arrived::source) than this one's.
    pub(crate) fn separate(&self) -> Sender<T> {
        Sender::new(lock(&self.shared.outward).clone())
    }

    pub(super) fn new(outward: IpcSender<Inward>) -> Sender<T> {
        Sender {
            shared: Arc::new(SenderShared {
                outward: Mutex::new(outward),
                ring: Mutex::new(None),
            }),
            message: PhantomData,
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender {
            shared: self.shared.clone(),
            message: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("message", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outward = lock(&self.shared.outward).clone();
        Token::new::<T>(WireHandle::Sender(outward.to_opaque()))
            .map_err(wire::explain::<S::Error>)?
            .serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Token::deserialize(deserializer)?
            .claim::<T>()
            .map_err(wire::explain_de::<D::Error>)?
        {
            WireHandle::Sender(outward) => Ok(Sender::new(outward.to())),
            _ => Err(wire::explain_de("a sender came with another thing")),
        }
    }
}
