//! The receiving end: one bell for all, a ring for each process that sends.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_channel::ipc::IpcReceiver;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::Bytes;
use super::layout::READER_SLEEPS;
use super::source::{Arrived, Body, IDLE, Source};
use super::{Inward, Joining, Token};
use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::ipc::deadline::{Deadline, Elapsed, WaitEnd};
use crate::ipc::doorbell;
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::reactor::{EventSource, Interest, WakerSlot};
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::ipc::wire::{self, Failure, Retry, WireHandle};
use crate::sys::lock;

/// The receiving end of a [`channel`](crate::channel()). It exists once: sent to another process, it is moved, and this
/// one reports [`RecvError::Moved`]. What could not be sent or put comes back with the error, and receives on.
///
/// Dropping it tells the senders, whose next `send` reports [`SendError::Disconnected`](crate::SendError::Disconnected); what was sent
/// and not received is lost.
///
/// ```
/// #[offspring::worker]
/// fn sum(numbers: offspring::Receiver<u32>) -> u32 {
///     numbers.iter().sum() // until every sender is gone
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (sender, receiver) = offspring::channel()?;
///     assert!(receiver.try_recv().is_err_and(|error| error.is_empty()));
///     let child = sum::spawn(receiver)?; // moved there
///     for n in 1..=4 {
///         sender.send(n)?;
///     }
///     drop(sender);
///     assert_eq!(child.join()?, 10);
///     Ok(())
/// }
/// ```
pub struct Receiver<T> {
    shared: Arc<Mutex<Option<Arc<ReceiverShared>>>>,
    message: PhantomData<fn() -> T>,
}

#[derive(Debug)]
pub(super) struct ReceiverShared {
    line: SharedReceiver<Inward>,
    pub(super) sources: Mutex<Sources>,
    /// Whether there may be idle memory to give back, or a sender's end to look for: nearly always not.
    chores: AtomicBool,
    /// It is under way to another process, and may come back: a selector that watches it must not hear it out.
    leaves: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Sources {
    pub(super) all: Vec<Source>,
    /// There were so many.
    count: u64,
    /// Whose turn it is.
    turn: usize,
    /// When the ends of senders were last looked for.
    looked: Instant,
}

impl Sources {
    fn new() -> Sources {
        Sources {
            all: Vec::new(),
            count: 0,
            turn: 0,
            looked: Instant::now(),
        }
    }

    fn join(&mut self, source: Option<Source>) {
        // However many come and go, what is held is of those that live.
        self.look_for_ends();
        source.into_iter().for_each(|source| self.add(source));
    }

    fn add(&mut self, mut source: Source) {
        source.number = self.count;
        self.count += 1;
        self.all.push(source);
    }

    /// A sender that is killed does not say that it is done.
    fn look_for_ends(&mut self) {
        self.looked = Instant::now();
        self.all.iter_mut().for_each(Source::look_for_end);
        self.all.retain(|source| !source.is_finished());
    }

    /// The next message of any source, in turn.
    fn next(&mut self) -> Option<Arrived> {
        self.all.retain(|source| !source.is_finished());
        for _ in 0..self.all.len() {
            self.turn = (self.turn + 1) % self.all.len();
            if let Some(arrived) = self.all[self.turn].next() {
                return Some(arrived);
            }
        }
        None
    }

    fn has_next(&self) -> bool {
        self.all.iter().any(Source::has_next)
    }

    /// Gives back memory that was idle for long, and looks for senders that are gone; when there will be more to do.
    fn do_chores(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) >= IDLE {
            self.look_for_ends();
        }
        self.all.iter_mut().for_each(|source| source.give_back(now));
        self.all.iter().filter_map(Source::idle_at).min()
    }
}

impl ReceiverShared {
    /// The next message.
    fn wait(&self, deadline: Option<Instant>) -> Result<Arrived, WaitEnd<Elapsed, Failure>> {
        loop {
            let chores = self
                .chores
                .load(Ordering::Relaxed)
                .then(|| lock(&self.sources).do_chores())
                .flatten();
            self.chores.store(chores.is_some(), Ordering::Relaxed);
            let until = deadline.into_iter().chain(chores).min();
            let arrived = self
                .line
                .wait(self, &Deadline::from(until), || lock(&self.sources).next());
            match arrived {
                Err(WaitEnd::Timeout(_)) if until != deadline => {}
                _ => {
                    if arrived
                        .as_ref()
                        .is_ok_and(|arrived| matches!(arrived.body, Body::Large(_)))
                    {
                        self.chores.store(true, Ordering::Relaxed);
                    }
                    return arrived;
                }
            }
        }
    }
}

impl SleepFlag<Inward> for ReceiverShared {
    fn arm(&self) {
        for source in &lock(&self.sources).all {
            doorbell::arm(source.link.region.atomic(READER_SLEEPS));
        }
    }

    fn disarm(&self) -> usize {
        lock(&self.sources)
            .all
            .iter()
            .filter(|source| doorbell::disarm(source.link.region.atomic(READER_SLEEPS)))
            .count()
    }

    fn message(&self, message: Inward) -> bool {
        let mut sources = lock(&self.sources);
        match message {
            Inward::Bell => return true,
            Inward::Join(joining) => sources.join(Source::new(joining)),
        }
        false
    }
}

impl EventSource for ReceiverShared {
    fn register(&self) -> io::Result<WakerSlot> {
        self.line.register()
    }

    fn is_ready(&self, seat: Interest<'_>) -> bool {
        fence(Ordering::SeqCst);
        if self.leaves.load(Ordering::SeqCst) {
            if let Some((waiter, waker)) = seat {
                waiter.set(waker);
            }
            // It stays, or it is gone: either wakes.
            if self.leaves.load(Ordering::SeqCst) {
                return false;
            }
        }
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
        self.recv_until(Some(Instant::now()))
            .map_err(|end| match end {
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

    pub(crate) fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        Ok(self.take(deadline)?.decode()?)
    }

    /// Messages until every sender is gone. One that does not decode is logged and passed over, and while this process has no
    /// descriptors left for what comes, that is logged and waited for: use [`recv`](Receiver::recv) to see it.
    pub fn iter(&self) -> ReceiverIter<'_, T> {
        ReceiverIter { receiver: self }
    }
}

impl Receiver<Bytes> {
    /// Receives the next message as plain bytes; see [`recv`](Receiver::recv).
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv().map(Bytes::into)
    }

    /// Receives the next message into `buffer`, in place of what it holds; how many bytes they are. One that is used
    /// again and again saves the memory of each message.
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv); `buffer` is empty then.
    pub fn recv_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_bytes_until(buffer, None)
            .map_err(|end| match end {
                RecvTimeoutError::Failed(error) => error,
                RecvTimeoutError::Timeout => RecvError::Disconnected,
            })
    }

    /// As [`recv_bytes_into`](Receiver::recv_bytes_into); waits at most this long.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Receiver::recv_timeout); `buffer` is empty then.
    pub fn recv_bytes_into_timeout(
        &self,
        buffer: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        // A deadline that the clock cannot express is none.
        self.recv_bytes_until(buffer, Instant::now().checked_add(timeout))
    }

    fn recv_bytes_until(
        &self,
        buffer: &mut Vec<u8>,
        deadline: Option<Instant>,
    ) -> Result<usize, RecvTimeoutError> {
        buffer.clear();
        let received = self
            .take(deadline)?
            .bytes_into(buffer)
            .inspect_err(|_| buffer.clear());
        Ok(received?)
    }
}

impl<T> Receiver<T> {
    /// The next message, not decoded.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Result<Arrived, RecvTimeoutError> {
        self.shared()?.wait(deadline).map_err(|end| match end {
            WaitEnd::Timeout(Elapsed) => RecvTimeoutError::Timeout,
            WaitEnd::Failed(Failure::Gone) => RecvError::Disconnected.into(),
            WaitEnd::Failed(failure) => RecvError::Io(failure.into_io()).into(),
        })
    }

    pub(super) fn new(inward: IpcReceiver<Inward>) -> Receiver<T> {
        Receiver {
            shared: Arc::new(Mutex::new(Some(Arc::new(ReceiverShared {
                line: SharedReceiver::new(inward),
                sources: Mutex::new(Sources::new()),
                chores: AtomicBool::new(false),
                leaves: AtomicBool::new(false),
            })))),
            message: PhantomData,
        }
    }

    /// Those from which more may come, [by their numbers](Arrived::source); in ascending order.
    pub(crate) fn sources(&self) -> Vec<u64> {
        self.shared().map_or_else(
            |_| Vec::new(),
            |shared| {
                lock(&shared.sources)
                    .all
                    .iter()
                    .map(|source| source.number)
                    .collect()
            },
        )
    }

    pub(super) fn shared(&self) -> Result<Arc<ReceiverShared>, RecvError> {
        lock(&self.shared).clone().ok_or(RecvError::Moved)
    }

    /// `None` if this end was moved away.
    pub(crate) fn event_source(&self) -> Option<Arc<dyn EventSource>> {
        self.shared()
            .ok()
            .map(|shared| shared as Arc<dyn EventSource>)
    }

    /// Whether `recv` would return at once, with a message or with the end; waits at most this long for
    /// that. Takes nothing.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`] if the end was moved away.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let shared = self.shared()?;
        let there = shared.line.wait(&*shared, &Deadline::after(timeout), || {
            lock(&shared.sources).has_next().then_some(())
        });
        Ok(!matches!(there, Err(WaitEnd::Timeout(_))))
    }
}

impl<T> Waitable for Receiver<T> {
    fn wait_source(&self) -> WaitSource {
        self.event_source().into()
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
    region: u32,
    back: u32,
    parcels: u32,
    touched: u64,
}

/// What a source shares needs so many handles.
const HANDLES: usize = 3;

impl ReceiverShared {
    /// Whether its rings can go to another process with it.
    fn may_move(&self) -> Result<(), &'static str> {
        wire::may_move()?;
        let mut sources = lock(&self.sources);
        sources.look_for_ends();
        if sources.all.iter().any(Source::has_early_parcels) {
            return Err(
                "a receiver that has a large message half received cannot be moved: receive it first",
            );
        }
        wire::may_note_all(sources.all.len() * HANDLES + 1)
    }

    /// What goes to another process, while nobody hears this one.
    fn leave<T>(self: &Arc<Self>) -> Result<ReceiverToken, String> {
        // First this, then the count: a selector takes its share, then looks.
        self.leaves.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let token = if Arc::strong_count(self) > 1 {
            Err("a receiver that another thread uses cannot be moved to another process".to_owned())
        } else {
            self.may_move()
                .map_err(str::to_owned)
                .and_then(|()| self.note::<T>())
        };
        token.inspect_err(|_| self.stay())
    }

    /// It did not go.
    fn stay(&self) {
        self.leaves.store(false, Ordering::SeqCst);
        self.line.wake();
    }

    /// Notes the rings, and the receiving end itself.
    fn note<T>(&self) -> Result<ReceiverToken, String> {
        self.line.disarm(self);
        let text = |error: io::Error| format!("could not share what a receiver has: {error}");
        let mut rings = Vec::new();
        for source in &lock(&self.sources).all {
            let (region, back, parcels, touched) = source.share().map_err(text)?;
            rings.push(RingToken {
                region: wire::note(WireHandle::Memory(region))?,
                back: wire::note(WireHandle::Sender(back.to_opaque()))?,
                parcels: wire::note(WireHandle::Receiver(parcels))?,
                touched: touched as u64,
            });
        }
        let end = Token::new::<T>(WireHandle::Receiver(self.line.share().map_err(text)?))?;
        Ok(ReceiverToken { rings, end })
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut slot = lock(&self.shared);
        let shared = slot.as_ref().ok_or_else(|| {
            wire::explain::<S::Error>("the receiver was moved to another process before")
        })?;
        let token = shared
            .leave::<T>()
            .map_err(|message| wire::explain::<S::Error>(&message))?;
        let (back, shared) = (self.shared.clone(), slot.take());
        wire::on_unsent(move || {
            if let Some(shared) = &shared {
                shared.stay();
            }
            *lock(&back) = shared;
        });
        token.serialize(serializer)
    }
}

impl RingToken {
    fn claim(self) -> Result<Option<Source>, &'static str> {
        let handles = (
            wire::claim(self.region)?,
            wire::claim(self.back)?,
            wire::claim(self.parcels)?,
        );
        let (WireHandle::Memory(region), WireHandle::Sender(back), WireHandle::Receiver(parcels)) =
            handles
        else {
            return Err("a receiver's ring came with another thing");
        };
        let joining = Joining {
            region,
            back: back.to(),
            parcels: parcels.to(),
        };
        Ok(Source::moved(
            joining,
            usize::try_from(self.touched).unwrap_or(usize::MAX),
        ))
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = ReceiverToken::deserialize(deserializer)?;
        let sources: Result<Vec<_>, _> = token.rings.into_iter().map(RingToken::claim).collect();
        let sources = sources.map_err(wire::explain_de::<D::Error>)?;
        let WireHandle::Receiver(inward) = token
            .end
            .claim::<T>()
            .map_err(wire::explain_de::<D::Error>)?
        else {
            return Err(wire::explain_de("a receiver came with another thing"));
        };
        let receiver = Receiver::new(inward.to());
        if let Ok(shared) = receiver.shared() {
            let mut all = lock(&shared.sources);
            sources
                .into_iter()
                .flatten()
                .for_each(|source| all.add(source));
        }
        Ok(receiver)
    }
}

/// The messages of a [`Receiver`], from [`Receiver::iter`]. Dropping it leaves the rest to be received.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel()?;
/// (1..=3).try_for_each(|n| sender.send(n))?;
/// assert_eq!(receiver.iter().take(2).collect::<Vec<u32>>(), [1, 2]);
/// assert_eq!(receiver.recv()?, 3); // the rest is still there
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReceiverIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for ReceiverIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let mut retry = Retry::default();
        loop {
            match self.receiver.recv() {
                Ok(message) => return Some(message),
                Err(RecvError::Decode(error)) => {
                    log::error!(target: "offspring::channel", "a message was passed over: {error}")
                }
                Err(error @ RecvError::Io(_)) => retry.pause(&error),
                Err(RecvError::Disconnected | RecvError::Moved) => return None,
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
