//! The receiving end: one bell for all, a ring for each process that sends.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Bell, DONE, Inward, PARCEL, PARCELS_TAKEN, READER_SLEEPS, REGION_BYTES, Token, VALUE, WRITER_SLEEPS};
use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::line::{Line, Side, WaitEnd, claim};
use crate::region::Region;
use crate::ring;
use crate::sys::lock;
use crate::watch::{Seat, Target, Waiter};
use crate::wire::{self, Packet, WireHandle};

/// The receiving end of a [`channel`](crate::channel()). It exists once: sent to another process, it is moved, and this
/// one reports [`RecvError::Moved`].
///
/// Dropping it tells the senders, whose next `send` reports [`SendError::Disconnected`](crate::SendError::Disconnected); what was sent
/// and not received is lost.
pub struct Receiver<T> {
    shared: Mutex<Option<Arc<ReceiverShared>>>,
    message: PhantomData<fn() -> T>,
}

#[derive(Debug)]
pub(super) struct ReceiverShared {
    line: Line<Inward>,
    pub(super) sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) all: Vec<Source>,
    /// Whose turn it is.
    turn: usize,
    /// Parcels that came ahead of their entries.
    parcels: HashMap<u64, VecDeque<Packet>>,
    buffer: Vec<u8>,
}

/// The ring of one process that sends.
#[derive(Debug)]
pub(super) struct Source {
    number: u64,
    pub(super) region: Arc<Region>,
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
            let _ = wire::ring(&self.back, Bell);
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

impl Target for ReceiverShared {
    fn sit(&self) -> io::Result<Waiter> {
        self.line.sit()
    }

    fn is_ready(&self, seat: Seat<'_>) -> bool {
        let has_next = || lock(&self.sources).has_next().then_some(());
        self.line.poll(self, seat, has_next).is_ready()
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
    pub(super) fn new(inward: IpcReceiver<Inward>) -> Receiver<T> {
        Receiver {
            shared: Mutex::new(Some(Arc::new(ReceiverShared {
                line: Line::new(inward),
                sources: Mutex::new(Sources::default()),
            }))),
            message: PhantomData,
        }
    }

    pub(super) fn shared(&self) -> Result<Arc<ReceiverShared>, RecvError> {
        lock(&self.shared).clone().ok_or(RecvError::Moved)
    }

    /// For a selector; `None` if it was moved away.
    pub(crate) fn target(&self) -> Option<Arc<dyn Target>> {
        self.shared().ok().map(|shared| shared as Arc<dyn Target>)
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
        let there = shared
            .line
            .wait(&*shared, deadline, || lock(&shared.sources).has_next().then_some(()));
        Ok(there != Err(WaitEnd::Timeout))
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("message", &std::any::type_name::<T>())
            .finish_non_exhaustive()
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
        let shared = slot
            .take()
            .ok_or_else(|| wire::explain::<S::Error>("the receiver was moved to another process before"))?;
        let shared = match Arc::try_unwrap(shared) {
            Ok(shared) => shared,
            Err(shared) => {
                *slot = Some(shared);
                return Err(wire::explain(
                    "a receiver that another thread uses cannot be moved to another process",
                ));
            }
        };
        let rings = match shared.note_rings().and_then(|rings| wire::may_note().map(|()| rings)) {
            Ok(rings) => rings,
            Err(message) => {
                *slot = Some(Arc::new(shared));
                return Err(wire::explain(message));
            }
        };
        shared.line.disarm(&shared);
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
