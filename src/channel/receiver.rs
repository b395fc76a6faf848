//! The receiving end.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::Bytes;
use super::inbound::{InboundRing, RawMessage, UnmappedRing};
use super::inbox::ReceiverInbox;
#[cfg(feature = "tracing")]
use super::rings::Backlog;
use super::{EndToken, NewSender, ToReceiver};
use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::ipc::deadline::{Deadline, Elapsed, Forever, TimeLimit, WaitEnd, Waited};
#[cfg(feature = "async")]
use crate::ipc::reactor;
use crate::ipc::reactor::EventSource;
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::ipc::wire::{self, CheckedReceiver, Failure, WireHandle};
use crate::sys::{self, lock};

/// The receiving end of a [`channel`](crate::channel()).
///
/// Dropping it disconnects the senders: their next `send` returns
/// [`SendError::Disconnected`](super::SendError::Disconnected). Messages that were not received are
/// lost.
///
/// A channel has only one receiver. Sending it to another process moves it there, and every call
/// on this one then returns [`RecvError::Moved`]. If sending fails, the receiver stays, and keeps
/// working.
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
///     let child = sum::spawn(receiver)?; // moves there
///     for n in 1..=4 {
///         sender.send(n)?;
///     }
///     drop(sender);
///     assert_eq!(child.join()?, 10);
///     Ok(())
/// }
/// ```
pub struct Receiver<T> {
    /// `None` after the receiver has moved.
    inbox: Arc<Mutex<Option<Arc<ReceiverInbox>>>>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message; blocks until there is one.
    ///
    /// The messages of one sending process arrive in the order in which it sent them.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] if every sender is gone and everything was received,
    /// [`RecvError::Decode`] if the message does not decode (it is taken), [`RecvError::Moved`] if
    /// this end was moved to another process.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_raw(&Forever).map_err(WaitEnd::into_failed)?.decode()
    }

    /// Receives a message if one has arrived. Never blocks.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if no message has arrived; otherwise like [`recv`](Receiver::recv).
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        Ok(self.recv_raw(&Deadline::now())?.decode()?)
    }

    /// Like [`recv`](Receiver::recv), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if no message arrived in time; otherwise like
    /// [`recv`](Receiver::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        Ok(self.recv_raw(&Deadline::after(timeout))?.decode()?)
    }

    /// Like [`recv`](Receiver::recv), but the task waits, not its thread. Needs the `async`
    /// feature, and works with every executor.
    ///
    /// Dropping the future loses no message: it takes one only when it completes.
    ///
    /// # Errors
    ///
    /// Like [`recv`](Receiver::recv).
    ///
    /// ```
    /// use offspring::channel::RecvError;
    /// use offspring::{Sender, channel};
    ///
    /// #[offspring::worker]
    /// fn count(numbers: Sender<u32>) {
    ///     (1..=3).for_each(|n| numbers.send(n).expect("the main program reads"));
    /// }
    ///
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let (numbers, receiver) = channel()?;
    ///     let process = count::spawn(numbers)?;
    ///     for n in 1..=3 {
    ///         assert_eq!(receiver.recv_async().await?, n);
    ///     }
    ///     assert!(matches!(receiver.recv_async().await, Err(RecvError::Disconnected)));
    ///     process.join_async().await?;
    ///     Ok(())
    /// }
    /// ```
    #[cfg(feature = "async")]
    pub async fn recv_async(&self) -> Result<T, RecvError> {
        loop {
            let source = self.event_source().ok_or(RecvError::Moved)?;
            reactor::ready(&*source).await.map_err(RecvError::Io)?;
            match self.recv_raw(&Deadline::now()) {
                Ok(message) => return message.decode(),
                Err(WaitEnd::Failed(error)) => return Err(error),
                // Another task or thread took the message first.
                Err(WaitEnd::Timeout(Elapsed)) => reactor::yield_now().await,
            }
        }
    }
}

impl Receiver<Bytes> {
    /// Receives the next message as plain bytes; see [`recv`](Receiver::recv).
    ///
    /// # Errors
    ///
    /// Like [`recv`](Receiver::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv().map(Bytes::into)
    }

    /// Receives the next message into `buffer`, replacing its contents, and returns its length in
    /// bytes. Reusing one buffer saves an allocation for each message.
    ///
    /// # Errors
    ///
    /// Like [`recv`](Receiver::recv). The buffer is empty after an error.
    pub fn recv_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_bytes_within(buffer, &Forever).map_err(WaitEnd::into_failed)
    }

    /// Like [`recv_bytes_into`](Receiver::recv_bytes_into), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Like [`recv_timeout`](Receiver::recv_timeout). The buffer is empty after an error.
    pub fn recv_bytes_into_timeout(
        &self,
        buffer: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        Ok(self.recv_bytes_within(buffer, &Deadline::after(timeout))?)
    }

    fn recv_bytes_within<L: TimeLimit>(
        &self,
        buffer: &mut Vec<u8>,
        limit: &L,
    ) -> Waited<usize, RecvError, L> {
        buffer.clear();
        let received = self.recv_raw(limit)?.bytes_into(buffer);
        Ok(received.inspect_err(|_| buffer.clear())?)
    }
}

impl<T> Receiver<T> {
    pub(super) fn new(bells: CheckedReceiver<ToReceiver>) -> Receiver<T> {
        Receiver {
            inbox: Arc::new(Mutex::new(Some(Arc::new(ReceiverInbox::new(bells))))),
            message: PhantomData,
        }
    }

    /// Takes the next message without decoding it.
    pub(crate) fn recv_raw<L: TimeLimit>(&self, limit: &L) -> Waited<RawMessage, RecvError, L> {
        let inbox = {
            let slot = lock(&self.inbox);
            let inbox = slot.as_ref().ok_or(RecvError::Moved)?;
            // Usually there is a message, and nothing else is needed.
            if let Some(message) = inbox.next_now() {
                return Ok(message);
            }
            inbox.clone()
        };
        inbox.next(limit).map_err(|end| {
            end.map(|failure| match failure {
                Failure::Gone => RecvError::Disconnected,
                failure => RecvError::Io(failure.into_io()),
            })
        })
    }

    /// Returns the [numbers](RawMessage::ring) of the rings that may have more messages, in
    /// ascending order.
    pub(crate) fn rings(&self) -> Vec<u64> {
        let numbers = |inbox: Arc<ReceiverInbox>| {
            let mut numbers: Vec<u64> = lock(&inbox.rings).all().map(|ring| ring.number).collect();
            numbers.sort_unstable();
            numbers
        };
        self.inbox().map_or_else(|_| Vec::new(), numbers)
    }

    /// Returns what has been sent by now and is not received.
    #[cfg(feature = "tracing")]
    pub(crate) fn backlog(&self) -> Backlog {
        self.inbox().map_or_else(|_| Backlog::default(), |inbox| inbox.backlog())
    }

    /// Returns whether all of it was received since.
    #[cfg(feature = "tracing")]
    pub(crate) fn has_received(&self, backlog: &Backlog) -> bool {
        self.inbox().is_ok_and(|inbox| lock(&inbox.rings).has_passed(backlog))
    }

    /// Like `recv`, but calls `when_empty` before it waits.
    pub(crate) fn recv_or_wait(&self, when_empty: impl FnOnce()) -> Result<T, RecvError>
    where
        T: DeserializeOwned,
    {
        match self.recv_raw(&Deadline::now()) {
            Ok(message) => message.decode(),
            Err(WaitEnd::Failed(error)) => Err(error),
            Err(WaitEnd::Timeout(_)) => {
                when_empty();
                self.recv()
            }
        }
    }

    pub(super) fn inbox(&self) -> Result<Arc<ReceiverInbox>, RecvError> {
        sys::not_in_fork().map_err(RecvError::Io)?;
        lock(&self.inbox).clone().ok_or(RecvError::Moved)
    }

    /// Returns `None` if this end was moved away.
    pub(crate) fn event_source(&self) -> Option<Arc<dyn EventSource>> {
        self.inbox().ok().map(|inbox| inbox as Arc<dyn EventSource>)
    }

    /// Blocks for at most `timeout` until [`recv`](Receiver::recv) would return at once, with a
    /// message or an error. Returns whether it would. Takes no message.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`] if this end was moved to another process.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let ready = self.inbox()?.wait(&Deadline::after(timeout));
        Ok(!matches!(ready, Err(WaitEnd::Timeout(Elapsed))))
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

/// A receiver inside an encoded value. Its rings travel with it, so nothing that was sent is lost.
#[derive(Serialize, Deserialize)]
struct ReceiverToken {
    rings: Vec<RingToken>,
    end: EndToken,
}

/// Indices of the handles that travel beside the value.
#[derive(Serialize, Deserialize)]
struct RingToken {
    region: u32,
    room_bell: u32,
    parcels: u32,
    touched: u64,
}

impl RingToken {
    const HANDLES: usize = 3;

    fn claim(self) -> Result<UnmappedRing, &'static str> {
        let handles =
            (wire::claim(self.region)?, wire::claim(self.room_bell)?, wire::claim(self.parcels)?);
        let (
            WireHandle::Ring(region),
            WireHandle::Sender(room_bell),
            WireHandle::Receiver(parcels),
        ) = handles
        else {
            return Err("a receiver's ring arrived with a handle of another kind");
        };
        let sender = NewSender { region, room_bell: room_bell.to(), parcels: parcels.to() };
        let touched = usize::try_from(self.touched).unwrap_or(usize::MAX);
        Ok(UnmappedRing { sender, touched })
    }
}

impl ReceiverToken {
    /// Claims the handles, and returns the receiver that has arrived.
    fn try_claiming<T>(self) -> Result<Receiver<T>, &'static str> {
        for ring in self.rings {
            let claimed = [ring.region, ring.room_bell, ring.parcels].map(wire::claim);
            claimed.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        self.end.claim::<T>()?;
        Ok(Receiver { inbox: Arc::default(), message: PhantomData })
    }
}

impl ReceiverInbox {
    fn may_move(&self) -> Result<(), &'static str> {
        wire::may_move()?;
        let mut rings = lock(&self.rings);
        rings.check_all();
        if rings.all().any(InboundRing::has_early_parcels) {
            return Err(
                "a receiver with a partly received large message cannot be moved: receive that message first",
            );
        }
        wire::may_note_all(rings.len() * RingToken::HANDLES + 1)
    }

    /// Adds its handles to the value that is being encoded. Nothing may be received until the
    /// value is sent, or [`stay`](ReceiverInbox::stay) is called.
    fn begin_move<T>(self: &Arc<ReceiverInbox>) -> Result<ReceiverToken, String> {
        let token = if self.leave() {
            self.may_move().map_err(str::to_owned).and_then(|()| self.note::<T>())
        } else {
            Err("a receiver that another thread is using cannot be moved to another process"
                .to_owned())
        };
        token.inspect_err(|_| self.stay())
    }

    fn note<T>(&self) -> Result<ReceiverToken, String> {
        let explain =
            |error: io::Error| format!("could not share the receiver's channels: {error}");
        let mut rings = Vec::new();
        for ring in lock(&self.rings).share() {
            let UnmappedRing { sender, touched } = ring.map_err(explain)?;
            rings.push(RingToken {
                region: wire::note(WireHandle::Ring(sender.region))?,
                room_bell: wire::note(WireHandle::Sender(sender.room_bell.to()))?,
                parcels: wire::note(WireHandle::Receiver(sender.parcels.to()))?,
                touched: touched as u64,
            });
        }
        let bells = self.share_bells().map_err(explain)?;
        let end = EndToken::new::<T>(WireHandle::Receiver(bells))?;
        Ok(ReceiverToken { rings, end })
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut slot = lock(&self.inbox);
        let inbox = slot.as_ref().ok_or_else(|| {
            wire::explain::<S::Error>("the receiver was already moved to another process")
        })?;
        let token =
            inbox.begin_move::<T>().map_err(|message| wire::explain::<S::Error>(&message))?;
        let (back, inbox) = (self.inbox.clone(), slot.take());
        wire::on_unsent(move || {
            if let Some(inbox) = &inbox {
                inbox.stay();
            }
            *lock(&back) = inbox;
        });
        token.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = ReceiverToken::deserialize(deserializer)?;
        if wire::is_trial() {
            return token.try_claiming::<T>().map_err(wire::explain_de::<D::Error>);
        }
        let rings: Result<Vec<_>, _> = token.rings.into_iter().map(RingToken::claim).collect();
        let rings = rings.map_err(wire::explain_de::<D::Error>)?;
        let WireHandle::Receiver(bells) =
            token.end.claim::<T>().map_err(wire::explain_de::<D::Error>)?
        else {
            return Err(wire::explain_de("a receiver arrived with a handle of another kind"));
        };
        let receiver = Receiver::new(bells.to());
        if let Ok(inbox) = receiver.inbox() {
            let mut all = lock(&inbox.rings);
            rings.into_iter().for_each(|ring| all.map(ring));
        }
        Ok(receiver)
    }
}
