//! One-way channels: many senders, one receiver, no hub between.
//!
//! Each process that sends has a byte ring of its own to the receiver, so what was sent survives the
//! sender's death. The receiver's end of one ipc-channel is where all of them ring, join with a new ring, and
//! hand over parcels (values with handles, or too large for a ring). The way back is one ipc-channel for
//! each ring, for a sender that waits for room.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, IpcSharedMemory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError};
use crate::hub;
use crate::line::{Line, Side, WaitEnd};
use crate::region::Region;
use crate::ring::{self, RING_BYTES};
use crate::sys;
use crate::wire::{self, Failure, Packet, WireHandle};

/// To a receiver.
#[derive(Debug, Serialize, Deserialize)]
enum Inward {
    /// A process sends from now on through this ring.
    Join {
        source: u64,
        region: IpcSharedMemory,
        back: IpcSender<Bell>,
    },
    /// The next entry of this ring that says so means this.
    Parcel {
        source: u64,
        packet: Packet,
    },
    Bell,
}

/// Back to a sender: there is room.
#[derive(Debug, Serialize, Deserialize)]
struct Bell;

const LINE: usize = 128;
/// Receiver: it sleeps.
const READER_SLEEPS: usize = RING_BYTES;
/// Sender: it waits for room.
const WRITER_SLEEPS: usize = RING_BYTES + LINE;
/// Sender: it is done; nothing follows.
const DONE: usize = RING_BYTES + 2 * LINE;
/// Receiver: so many parcels were taken.
const PARCELS_TAKEN: usize = RING_BYTES + 3 * LINE;
const REGION_BYTES: usize = RING_BYTES + 4 * LINE;

const VALUE: u32 = 0;
const PARCEL: u32 = 1;

/// Parcels of one sender that the receiver has not taken.
const PARCELS_MAX: u64 = 8;
/// Longer bodies of parcels travel as shared memory, so that many parcels fit the socket's buffer.
const PARCEL_INLINE: usize = 1 << 10;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the side that this word belongs to sleeps and nobody has rung yet.
fn claim(word: &AtomicU64) -> bool {
    fence(Ordering::SeqCst);
    word.load(Ordering::Relaxed) == 1 && word.swap(0, Ordering::Relaxed) == 1
}

/// Makes a one-way channel: any number of senders, in any processes, and one receiver.
///
/// # Errors
///
/// [`CreateError::Io`] if the system gives no channel.
///
/// ```
/// use offspring::{ProcessWorker, Sender, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Count {
///     upto: u32,
///     numbers: Sender<u32>,
/// }
///
/// impl ProcessWorker for Count {
///     type Output = ();
///     fn run(self) {
///         for n in 1..=self.upto {
///             self.numbers.send(n).expect("the main program reads");
///         }
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (numbers, received) = offspring::channel()?;
///     let process = Count { upto: 3, numbers }.spawn()?;
///     assert_eq!(received.iter().collect::<Vec<u32>>(), [1, 2, 3]);
///     process.join()?;
///     Ok(())
/// }
/// ```
pub fn channel<T: Serialize + DeserializeOwned>() -> Result<(Sender<T>, Receiver<T>), CreateError> {
    let (outward, inward) = ipc::channel().map_err(CreateError::io("make a channel"))?;
    Ok((Sender::new(outward), Receiver::new(inward)))
}

/// The sending end of a [`channel`]. Clones share it; sent to another process, it stays usable here too.
///
/// Dropping it changes nothing for what was sent. When every sender is gone and all is received, the
/// receiver reports [`RecvError::Disconnected`].
pub struct Sender<T> {
    shared: Arc<SenderShared>,
    message: PhantomData<fn(T)>,
}

#[derive(Debug)]
struct SenderShared {
    outward: Mutex<IpcSender<Inward>>,
    /// Made by the first `send`.
    ring: Mutex<Option<Arc<Outgoing>>>,
}

/// This process's ring to the receiver.
#[derive(Debug)]
struct Outgoing {
    source: u64,
    region: Arc<Region>,
    back: Line<Bell>,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    producer: ring::Producer,
    parcels: u64,
    pulse: wire::Pulse,
}

impl Side<Bell> for Outgoing {
    fn arm(&self) {
        self.region.atomic(WRITER_SLEEPS).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn disarm(&self) -> usize {
        usize::from(self.region.atomic(WRITER_SLEEPS).swap(0, Ordering::Relaxed) == 0)
    }

    fn message(&self, _: Bell) -> bool {
        true
    }
}

impl Outgoing {
    /// Whether the receiver has left entries for a while: it may be slow, or dead.
    fn is_suspicious(&self) -> bool {
        let mut entries = lock(&self.entries);
        entries.producer.is_backed_up().unwrap_or(true) && entries.pulse.is_due()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.region.atomic(DONE).store(1, Ordering::Release);
    }
}

enum SendEnd {
    Timeout,
    Disconnected,
    Io(io::Error),
}

impl From<Failure> for SendEnd {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Disconnected => SendEnd::Disconnected,
            Failure::Timeout => SendEnd::Timeout,
            Failure::Io(error) => SendEnd::Io(error),
        }
    }
}

impl SenderShared {
    fn tell(&self, message: Inward) -> Result<(), Failure> {
        wire::send(&lock(&self.outward), message)
    }

    fn ring(&self) -> Result<Arc<Outgoing>, SendEnd> {
        let mut ring = lock(&self.ring);
        if let Some(ring) = &*ring {
            return Ok(ring.clone());
        }
        let region = Arc::new(Region::new(REGION_BYTES).map_err(SendEnd::Io)?);
        let source = u64::from_le_bytes(sys::random().map_err(SendEnd::Io)?);
        let (back, bells) = ipc::channel().map_err(SendEnd::Io)?;
        self.tell(Inward::Join {
            source,
            region: region.share().map_err(SendEnd::Io)?,
            back,
        })?;
        let outgoing = Arc::new(Outgoing {
            source,
            back: Line::new(bells),
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

    fn send(&self, bytes: &[u8], mut packet: Option<Packet>, deadline: Option<Instant>) -> Result<(), SendEnd> {
        let ring = self.ring()?;
        if ring.is_suspicious() && ring.back.check(&*ring) {
            return Err(SendEnd::Disconnected);
        }
        ring.back
            .wait(&*ring, deadline, || self.attempt(&ring, bytes, &mut packet))
            .unwrap_or_else(|end| {
                Err(match end {
                    WaitEnd::Timeout => SendEnd::Timeout,
                    WaitEnd::Gone => SendEnd::Disconnected,
                })
            })
    }

    fn attempt(&self, ring: &Outgoing, bytes: &[u8], packet: &mut Option<Packet>) -> Option<Result<(), SendEnd>> {
        if ring.back.is_gone() {
            return Some(Err(SendEnd::Disconnected));
        }
        let mut entries = lock(&ring.entries);
        let pushed = if packet.is_none() {
            entries.producer.push(VALUE, bytes)
        } else {
            let taken = ring.region.atomic(PARCELS_TAKEN).load(Ordering::SeqCst);
            if entries.parcels.saturating_sub(taken) >= PARCELS_MAX {
                return None;
            }
            match entries.producer.has_room(0) {
                // Under one lock, so that parcels and their entries come in one order.
                Ok(true) => {
                    let packet = packet.take().expect("checked above");
                    if let Err(failure) = self.tell(Inward::Parcel { source: ring.source, packet }) {
                        return Some(Err(failure.into()));
                    }
                    entries.parcels += 1;
                    entries.producer.push(PARCEL, &[])
                }
                other => other,
            }
        };
        drop(entries);
        match pushed {
            Ok(true) => {}
            Ok(false) => return None,
            Err(ring::Corrupt) => return Some(Err(SendEnd::Disconnected)),
        }
        if claim(ring.region.atomic(READER_SLEEPS)) {
            if let Err(failure) = self.tell(Inward::Bell) {
                ring.back.set_gone();
                return Some(Err(failure.into()));
            }
        }
        Some(Ok(()))
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message; waits while the receiver's buffer (128 KiB, or 8 large messages) is full.
    ///
    /// "Sent" means that the receiver gets it even if this process dies; not that it has been received.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the receiver is gone, or the message does not encode; it comes back with the error.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.send_until(message, None).map_err(|end| match end {
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
        // A deadline that the clock cannot express is none.
        self.send_until(message, Instant::now().checked_add(timeout))
    }

    fn send_until(&self, message: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let encoded = match wire::encode(&message) {
            Ok(encoded) => encoded,
            Err(error) => return Err(SendError::Encode(message, error).into()),
        };
        let announce = !encoded.handles.is_empty();
        let sent = if announce || encoded.bytes.len() > ring::ENTRY_MAX {
            Packet::new(encoded)
                .and_then(|packet| packet.with_inline_limit(PARCEL_INLINE))
                .map_err(SendEnd::Io)
                .and_then(|packet| self.shared.send(&[], Some(packet), deadline))
        } else {
            self.shared.send(&encoded.bytes, None, deadline)
        };
        if announce {
            hub::announce();
        }
        sent.map_err(|end| match end {
            SendEnd::Timeout => SendTimeoutError::Timeout(message),
            SendEnd::Disconnected => SendError::Disconnected(message).into(),
            SendEnd::Io(error) => SendError::Io(message, error).into(),
        })
    }
}

impl<T> Sender<T> {
    fn new(outward: IpcSender<Inward>) -> Sender<T> {
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
        f.debug_struct("Sender").field("message", &std::any::type_name::<T>()).finish_non_exhaustive()
    }
}

/// An end as it is written into a value.
#[derive(Serialize, Deserialize)]
struct Token {
    fingerprint: u64,
    index: u32,
}

impl Token {
    fn new<T>(handle: WireHandle) -> Result<Token, &'static str> {
        Ok(Token {
            fingerprint: wire::fingerprint(std::any::type_name::<T>()),
            index: wire::note(handle)?,
        })
    }

    fn claim<T>(self) -> Result<WireHandle, &'static str> {
        if self.fingerprint == wire::fingerprint(std::any::type_name::<T>()) {
            wire::claim(self.index)
        } else {
            Err("the end is of a channel of another type")
        }
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
        match Token::deserialize(deserializer)?.claim::<T>().map_err(wire::explain_de::<D::Error>)? {
            WireHandle::Sender(outward) => Ok(Sender::new(outward.to())),
            _ => Err(wire::explain_de("a sender came with another thing")),
        }
    }
}

/// The receiving end of a [`channel`]. It exists once: sent to another process, it is moved, and this
/// one reports [`RecvError::Moved`].
///
/// Dropping it tells the senders, whose next `send` reports [`SendError::Disconnected`]; what was sent
/// and not received is lost.
pub struct Receiver<T> {
    shared: Mutex<Option<Arc<ReceiverShared>>>,
    message: PhantomData<fn() -> T>,
}

#[derive(Debug)]
struct ReceiverShared {
    line: Line<Inward>,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    all: Vec<Source>,
    /// Whose turn it is.
    turn: usize,
    /// Parcels that came ahead of their entries.
    parcels: HashMap<u64, VecDeque<Packet>>,
    buffer: Vec<u8>,
}

/// The ring of one process that sends.
#[derive(Debug)]
struct Source {
    number: u64,
    region: Arc<Region>,
    back: IpcSender<Bell>,
    entries: ring::Consumer,
    corrupt: bool,
}

enum Arrived {
    Bytes(Vec<u8>),
    Parcel(Packet),
}

impl Sources {
    fn join(&mut self, number: u64, region: IpcSharedMemory, back: IpcSender<Bell>) {
        let region = Arc::new(Region::adopt(region));
        if region.len() < REGION_BYTES {
            return;
        }
        // Armed like the others, so that `disarm` counts it right.
        region.atomic(READER_SLEEPS).store(1, Ordering::SeqCst);
        self.all.push(Source {
            number,
            entries: ring::Consumer::new(region.clone(), 0),
            region,
            back,
            corrupt: false,
        });
    }

    /// The next message of any source, in turn.
    fn next(&mut self) -> Option<Arrived> {
        self.all.retain(|source| {
            let keep = !source.is_finished();
            if !keep {
                self.parcels.remove(&source.number);
            }
            keep
        });
        for _ in 0..self.all.len() {
            self.turn = (self.turn + 1) % self.all.len();
            let source = &mut self.all[self.turn];
            let parcels = self.parcels.entry(source.number).or_default();
            // A parcel was sent before its entry was written: if it is not here yet, it is about to be read.
            let here = !parcels.is_empty();
            match source.entries.pop_if(&mut self.buffer, |tag, _| here || tag != PARCEL) {
                Ok(Some(VALUE)) => {
                    source.tell_room();
                    return Some(Arrived::Bytes(self.buffer.clone()));
                }
                Ok(Some(PARCEL)) => {
                    source.region.atomic(PARCELS_TAKEN).fetch_add(1, Ordering::SeqCst);
                    source.tell_room();
                    return parcels.pop_front().map(Arrived::Parcel);
                }
                Ok(None) => {}
                Ok(Some(_)) | Err(ring::Corrupt) => {
                    log::error!(target: "offspring::channel", "a sender wrote what no sender writes; it is not heard any more");
                    source.corrupt = true;
                }
            }
        }
        None
    }

    fn has_next(&self) -> bool {
        self.all.iter().any(|source| !source.entries.is_empty())
    }
}

impl Source {
    fn tell_room(&self) {
        if claim(self.region.atomic(WRITER_SLEEPS)) {
            // A sender that is gone waits for nothing.
            let _ = wire::send(&self.back, Bell);
        }
    }

    /// Nothing will come from it any more.
    fn is_finished(&self) -> bool {
        self.corrupt || (self.region.atomic(DONE).load(Ordering::Acquire) == 1 && self.entries.is_empty())
    }
}

impl ReceiverShared {
    /// The next message, and what came with it.
    fn wait(&self, deadline: Option<Instant>) -> Result<Arrived, WaitEnd> {
        self.line.wait(self, deadline, || lock(&self.sources).next())
    }
}

impl Side<Inward> for ReceiverShared {
    fn arm(&self) {
        for source in &lock(&self.sources).all {
            source.region.atomic(READER_SLEEPS).store(1, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    fn disarm(&self) -> usize {
        lock(&self.sources)
            .all
            .iter()
            .filter(|source| source.region.atomic(READER_SLEEPS).swap(0, Ordering::Relaxed) == 0)
            .count()
    }

    fn message(&self, message: Inward) -> bool {
        let mut sources = lock(&self.sources);
        match message {
            Inward::Bell => return true,
            Inward::Parcel { source, packet } => sources.parcels.entry(source).or_default().push_back(packet),
            Inward::Join { source, region, back } => sources.join(source, region, back),
        }
        false
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message; waits until there is one. The messages of one sending process come in
    /// their order.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] when every sender is gone and all was received; a message that does
    /// not decode (it is taken); or an end that was moved away.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|end| match end {
            RecvTimeoutError::Failed(error) => error,
            RecvTimeoutError::Timeout => RecvError::Disconnected,
        })
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`], or as [`recv`](Receiver::recv).
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        // Even without waiting it reads what senders said: a new one may have joined.
        self.recv_until(Some(Instant::now())).map_err(|end| match end {
            RecvTimeoutError::Timeout => TryRecvError::Empty,
            RecvTimeoutError::Failed(error) => TryRecvError::Failed(error),
        })
    }

    /// Receives the next message; waits at most this long.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`], or as [`recv`](Receiver::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        // A deadline that the clock cannot express is none.
        self.recv_until(Instant::now().checked_add(timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let shared = self.shared()?;
        match shared.wait(deadline) {
            Ok(Arrived::Bytes(bytes)) => wire::decode(&bytes, Vec::new()),
            Ok(Arrived::Parcel(packet)) => packet.decode(),
            Err(WaitEnd::Timeout) => return Err(RecvTimeoutError::Timeout),
            Err(WaitEnd::Gone) => return Err(RecvError::Disconnected.into()),
        }
        .map_err(|error| RecvError::Decode(error).into())
    }

    /// Messages until every sender is gone. One that does not decode is logged and passed over: use
    /// [`recv`](Receiver::recv) to see it.
    pub fn iter(&self) -> ReceiverIter<'_, T> {
        ReceiverIter { receiver: self }
    }
}

impl<T> Receiver<T> {
    fn new(inward: IpcReceiver<Inward>) -> Receiver<T> {
        Receiver {
            shared: Mutex::new(Some(Arc::new(ReceiverShared {
                line: Line::new(inward),
                sources: Mutex::new(Sources::default()),
            }))),
            message: PhantomData,
        }
    }

    fn shared(&self) -> Result<Arc<ReceiverShared>, RecvError> {
        lock(&self.shared).clone().ok_or(RecvError::Moved)
    }

    /// Whether `recv` would return at once, with a message or with the end; waits at most this long for
    /// that. Takes nothing.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`] if the end was moved away.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let shared = self.shared()?;
        let deadline = Instant::now().checked_add(timeout);
        let there = shared.line.wait(&*shared, deadline, || lock(&shared.sources).has_next().then_some(()));
        Ok(there != Err(WaitEnd::Timeout))
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("message", &std::any::type_name::<T>()).finish_non_exhaustive()
    }
}

/// A receiving end as it is written into a value: its rings go with it.
#[derive(Serialize, Deserialize)]
struct ReceiverToken {
    rings: Vec<RingToken>,
    end: Token,
}

#[derive(Serialize, Deserialize)]
struct RingToken {
    source: u64,
    region: u32,
    back: u32,
}

impl ReceiverShared {
    /// Notes the rings of a receiver that goes to another process.
    fn note_rings(&self) -> Result<Vec<RingToken>, &'static str> {
        let sources = lock(&self.sources);
        if sources.parcels.values().any(|parcels| !parcels.is_empty()) {
            return Err("a receiver that has a large message half received cannot be moved: receive it first");
        }
        let rings = sources.all.iter().map(|source| {
            let region = source.region.share().map_err(|_| "no shared memory for the receiver's rings")?;
            Ok(RingToken {
                source: source.number,
                region: wire::note(WireHandle::Memory(region))?,
                back: wire::note(WireHandle::Sender(source.back.clone().to_opaque()))?,
            })
        });
        rings.collect()
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut slot = lock(&self.shared);
        let shared = slot.take().ok_or_else(|| wire::explain::<S::Error>("the receiver was moved to another process before"))?;
        let shared = match Arc::try_unwrap(shared) {
            Ok(shared) => shared,
            Err(shared) => {
                *slot = Some(shared);
                return Err(wire::explain("a receiver that another thread uses cannot be moved to another process"));
            }
        };
        let rings = match shared.note_rings().and_then(|rings| wire::may_note().map(|()| rings)) {
            Ok(rings) => rings,
            Err(message) => {
                *slot = Some(Arc::new(shared));
                return Err(wire::explain(message));
            }
        };
        let end = Token::new::<T>(WireHandle::Receiver(shared.line.into_inner().to_opaque())).map_err(wire::explain::<S::Error>)?;
        ReceiverToken { rings, end }.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = ReceiverToken::deserialize(deserializer)?;
        let mut rings = Vec::new();
        for ring in token.rings {
            let region = wire::claim(ring.region).map_err(wire::explain_de::<D::Error>)?;
            let back = wire::claim(ring.back).map_err(wire::explain_de::<D::Error>)?;
            let (WireHandle::Memory(region), WireHandle::Sender(back)) = (region, back) else {
                return Err(wire::explain_de("a receiver's ring came with another thing"));
            };
            rings.push((ring.source, region, back.to()));
        }
        let WireHandle::Receiver(inward) = token.end.claim::<T>().map_err(wire::explain_de::<D::Error>)? else {
            return Err(wire::explain_de("a receiver came with another thing"));
        };
        let receiver = Receiver::new(inward.to());
        if let Ok(shared) = receiver.shared() {
            for (source, region, back) in rings {
                lock(&shared.sources).join(source, region, back);
            }
        }
        Ok(receiver)
    }
}

/// The messages of a [`Receiver`], from [`Receiver::iter`]. Dropping it leaves the rest to be received.
#[derive(Debug)]
pub struct ReceiverIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for ReceiverIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            match self.receiver.recv() {
                Ok(message) => return Some(message),
                Err(RecvError::Decode(error)) => log::error!(target: "offspring::channel", "a message was passed over: {error}"),
                Err(_) => return None,
            }
        }
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = ReceiverIter<'a, T>;

    fn into_iter(self) -> ReceiverIter<'a, T> {
        self.iter()
    }
}
