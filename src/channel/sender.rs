//! The sending end.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::{BorrowedBytes, Bytes};
use super::layout::Mark;
use super::outbound::{SendFailure, SenderShared};
use super::{EndToken, ToReceiver};
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::wire::{self, CheckedSender, Shape, WireHandle};
use crate::sys;

/// The sending end of a [`channel`](crate::channel()).
///
/// Dropping a sender does not affect what was sent. When every sender is gone and everything is
/// received, the receiver returns [`RecvError::Disconnected`](super::RecvError::Disconnected).
///
/// Clones share one buffer. A sender that is sent to another process stays usable here, and the
/// process that receives it gets a buffer of its own.
///
/// ```
/// #[offspring::worker]
/// fn report(to: offspring::Sender<u32>, n: u32) {
///     to.send(n).unwrap();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (sender, receiver) = offspring::channel()?;
///     let children = [1, 2].map(|n| report::spawn(sender.clone(), n));
///     drop(sender); // the children have clones of their own
///     let mut reported: Vec<u32> = receiver.iter().collect();
///     reported.sort_unstable();
///     assert_eq!(reported, [1, 2]);
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

/// Turns an outcome into the error of a call with a deadline.
fn timed<T>(
    end: WaitEnd<<Deadline as TimeLimit>::Elapsed, SendFailure>,
    message: T,
) -> SendTimeoutError<T> {
    match end {
        WaitEnd::Timeout(_) => SendTimeoutError::Timeout(message),
        WaitEnd::Failed(failure) => failure.with(message).into(),
    }
}

impl<T: Serialize + DeserializeOwned> Sender<T> {
    /// Sends a message; blocks while the buffer is full.
    ///
    /// Each sending process has a buffer of 128 KiB. Messages of more than 32 KiB go into a second
    /// buffer of 129 MiB (less if the system does not grant that much address space), which holds
    /// up to 8 of them. In addition, up to 8 messages that hold handles, or are longer than half of
    /// the second buffer, can be under way.
    ///
    /// After `Ok` the receiver gets the message even if this process dies. `Ok` does not mean that
    /// the message has been received.
    ///
    /// # Errors
    ///
    /// [`SendError`] if the receiver is gone, or the message does not encode. The error returns the
    /// message.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.shared
            .send(Mark::default(), (&message, Shape::of::<T>()), &Forever)
            .map_err(|end| end.into_failed().with(message))
    }

    /// Sends a message if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if the buffer is full; otherwise like [`send`](Sender::send). The
    /// error returns the message.
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = offspring::channel()?;
    /// let mut sent = 0;
    /// while sender.try_send(vec![0u8; 1000]).is_ok() {
    ///     sent += 1;
    /// }
    /// receiver.recv()?; // makes room
    /// sender.try_send(vec![0; 1000])?;
    /// assert_eq!(receiver.try_iter().count(), sent);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        match self.shared.try_send(Mark::default(), (&message, Shape::of::<T>())) {
            Ok(()) => Ok(()),
            Err(WaitEnd::Timeout(_)) => Err(TrySendError::Full(message)),
            Err(WaitEnd::Failed(failure)) => Err(failure.with(message).into()),
        }
    }

    /// Like [`send`](Sender::send), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`] if there was no room in time; otherwise like
    /// [`send`](Sender::send).
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_within(message, &Deadline::after(timeout))
    }

    pub(crate) fn send_within(
        &self,
        message: T,
        limit: &Deadline,
    ) -> Result<(), SendTimeoutError<T>> {
        let sent = self.shared.send(Mark::default(), (&message, Shape::of::<T>()), limit);
        sent.map_err(|end| timed(end, message))
    }

    /// Like [`send`](Sender::send), but the task waits, not its thread. Needs the `async` feature,
    /// and works with every executor.
    ///
    /// If the future is dropped before it is ready, nothing is sent, and the message is dropped.
    /// Messages that one task sends in sequence arrive in that order.
    ///
    /// # Errors
    ///
    /// Like [`send`](Sender::send).
    ///
    /// ```
    /// use offspring::{Receiver, channel};
    ///
    /// #[offspring::worker]
    /// fn sum(numbers: Receiver<u64>) -> u64 {
    ///     numbers.iter().sum()
    /// }
    ///
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let (sender, numbers) = channel()?;
    ///     let process = sum::spawn(numbers)?;
    ///     for n in 1..=100 {
    ///         sender.send_async(n).await?;
    ///     }
    ///     drop(sender);
    ///     assert_eq!(process.join_async().await?, 5050);
    ///     Ok(())
    /// }
    /// ```
    #[cfg(feature = "async")]
    pub async fn send_async(&self, message: T) -> Result<(), SendError<T>> {
        self.shared.send_async(message, Shape::of::<T>()).await
    }
}

impl Sender<Bytes> {
    /// Like [`send`](Sender::send) of [`Bytes`], but copies `bytes` directly into the shared
    /// buffer.
    ///
    /// # Errors
    ///
    /// Like [`send`](Sender::send), without the message.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.shared
            .send(Mark::default(), (&BorrowedBytes(bytes), Shape::Own), &Forever)
            .map_err(|end| end.into_failed().with(()))
    }

    /// Like [`send_bytes`](Sender::send_bytes), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Like [`send_timeout`](Sender::send_timeout), without the message.
    pub fn send_bytes_timeout(
        &self,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<()>> {
        let limit = Deadline::after(timeout);
        self.shared
            .send(Mark::default(), (&BorrowedBytes(bytes), Shape::Own), &limit)
            .map_err(|end| timed(end, ()))
    }
}

impl<T> Sender<T> {
    /// Sends a message of any type. Its mark identifies the type to the receiver; it is encoded in
    /// the form that the receiver's type requires.
    pub(crate) fn send_marked<V: ?Sized + Serialize, L: TimeLimit>(
        &self,
        mark: Mark,
        message: (&V, Shape),
        limit: &L,
    ) -> Waited<(), SendFailure, L> {
        self.shared.send(mark, message, limit)
    }

    /// Makes everything that the first send would make, so that a later send needs nothing from the
    /// system.
    pub(crate) fn prepare(&self, limit: &Deadline) -> Result<(), SendTimeoutError<()>> {
        self.shared.ring(limit).map(drop).map_err(|end| timed(end, ()))
    }

    /// Returns whether the receiver is gone, without sending anything.
    pub(crate) fn is_unheard(&self) -> bool {
        sys::is_at_end(self.shared.to_receiver().as_fd())
    }

    /// The same end, for a caller that knows that its messages are of another type.
    pub(crate) fn cast<U>(self) -> Sender<U> {
        Sender { shared: self.shared, message: PhantomData }
    }

    /// The same end with a ring of its own, so that the receiver can distinguish its messages [by
    /// their ring](super::RawMessage::ring).
    pub(crate) fn separate(&self) -> Sender<T> {
        Sender::new(self.shared.to_receiver())
    }

    pub(super) fn new(to_receiver: CheckedSender<ToReceiver>) -> Sender<T> {
        Sender { shared: Arc::new(SenderShared::new(to_receiver)), message: PhantomData }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { shared: self.shared.clone(), message: PhantomData }
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
        EndToken::new::<T>(WireHandle::Sender(self.shared.to_receiver().to()))
            .map_err(wire::explain::<S::Error>)?
            .serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match EndToken::deserialize(deserializer)?
            .claim::<T>()
            .map_err(wire::explain_de::<D::Error>)?
        {
            WireHandle::Sender(to_receiver) => Ok(Sender::new(to_receiver.to())),
            _ => Err(wire::explain_de("a sender arrived with a handle of another kind")),
        }
    }
}
