//! Two-way connections: two channels, crossed.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Bytes, Receiver, Sender, channel};
use crate::error::{
    CreateError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError,
    TrySendError,
};
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::ipc::wire;
use crate::sys::lock;

/// Creates a two-way connection: the first end sends `A` and receives `B`, the second sends `B` and
/// receives `A`.
///
/// # Errors
///
/// [`CreateError::Io`] if the system refuses a channel.
///
/// ```
/// use offspring::{Connection, ProcessWorker, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Upper {
///     connection: Connection<String, String>,
/// }
///
/// impl ProcessWorker for Upper {
///     type Output = ();
///     fn run(self) {
///         while let Ok(text) = self.connection.recv() {
///             self.connection.send(text.to_uppercase()).expect("the main program reads");
///         }
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (ours, theirs) = offspring::pipe()?;
///     let process = Upper { connection: theirs }.spawn()?;
///     ours.send("hello".to_owned())?;
///     assert_eq!(ours.recv()?, "HELLO");
///     drop(ours);
///     process.join()?;
///     Ok(())
/// }
/// ```
pub fn pipe<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), CreateError>
where
    A: Serialize + DeserializeOwned,
    B: Serialize + DeserializeOwned,
{
    let (to_second, from_first) = channel()?;
    let (to_first, from_second) = channel()?;
    Ok((Connection::new(to_second, from_second), Connection::new(to_first, from_first)))
}

/// One end of a [`pipe`]: sends `A` and receives `B`.
///
/// Dropping it disconnects the other end, which still receives what was sent before and then
/// returns [`RecvError::Disconnected`].
///
/// An end cannot be cloned. Sending it to another process moves it there, and every call on this
/// one then returns `Moved`. If sending fails, the end stays, and keeps working. One thread may
/// send while another receives.
///
/// ```
/// use offspring::Connection;
///
/// #[offspring::worker]
/// fn count(words: Connection<usize, String>) {
///     while let Ok(word) = words.recv() {
///         words.send(word.len()).unwrap();
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (here, there) = offspring::pipe::<String, usize>()?;
///     let child = count::spawn(there)?;
///     here.send("seven".to_owned())?;
///     assert_eq!(here.recv()?, 5);
///     drop(here); // ends the child's loop
///     child.join()?;
///     Ok(())
/// }
/// ```
pub struct Connection<A, B> {
    /// The sender of `A`; `None` after it has moved. The message type is erased, because the
    /// closure that puts the sender back must be `'static`, and `A` may not be.
    sender: Arc<Mutex<Option<Sender<()>>>>,
    receiver: Receiver<B>,
    sends: PhantomData<fn(A)>,
}

impl<A: Serialize + DeserializeOwned, B> Connection<A, B> {
    /// Sends a message; blocks while the buffer is full. See [`Sender::send`].
    ///
    /// # Errors
    ///
    /// [`SendError`] if the other end is gone, or the message does not encode. The error returns
    /// the message.
    pub fn send(&self, message: A) -> Result<(), SendError<A>> {
        match self.sender() {
            Some(sender) => sender.send(message),
            None => Err(SendError::Moved(message)),
        }
    }

    /// Sends a message if there is room now. Never blocks. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if the buffer is full; otherwise like [`send`](Connection::send). The
    /// error returns the message.
    pub fn try_send(&self, message: A) -> Result<(), TrySendError<A>> {
        match self.sender() {
            Some(sender) => sender.try_send(message),
            None => Err(TrySendError::Moved(message)),
        }
    }

    /// Like [`send`](Connection::send), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`] if there was no room in time; otherwise like
    /// [`send`](Connection::send).
    pub fn send_timeout(&self, message: A, timeout: Duration) -> Result<(), SendTimeoutError<A>> {
        match self.sender() {
            Some(sender) => sender.send_timeout(message, timeout),
            None => Err(SendTimeoutError::Moved(message)),
        }
    }

    /// Like [`send`](Connection::send), but the task waits, not its thread. Needs the `async`
    /// feature, and works with every executor.
    ///
    /// A future that is dropped before it is ready has sent nothing, and drops the message.
    ///
    /// # Errors
    ///
    /// Like [`send`](Connection::send).
    #[cfg(feature = "async")]
    pub async fn send_async(&self, message: A) -> Result<(), SendError<A>> {
        match self.sender() {
            Some(sender) => sender.send_async(message).await,
            None => Err(SendError::Moved(message)),
        }
    }
}

impl<A, B: DeserializeOwned> Connection<A, B> {
    /// Receives the next message; blocks until there is one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] if the other end is gone and everything was received,
    /// [`RecvError::Decode`] if the message does not decode (it is taken), [`RecvError::Moved`] if
    /// this end was moved to another process.
    pub fn recv(&self) -> Result<B, RecvError> {
        self.receiver.recv()
    }

    /// Receives a message if one has arrived. Never blocks.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if no message has arrived; otherwise like
    /// [`recv`](Connection::recv).
    pub fn try_recv(&self) -> Result<B, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Like [`recv`](Connection::recv), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if no message arrived in time; otherwise like
    /// [`recv`](Connection::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<B, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Like [`recv`](Connection::recv), but the task waits, not its thread. Needs the `async`
    /// feature, and works with every executor.
    ///
    /// Dropping the future loses no message: it takes one only when it completes.
    ///
    /// # Errors
    ///
    /// Like [`recv`](Connection::recv).
    #[cfg(feature = "async")]
    pub async fn recv_async(&self) -> Result<B, RecvError> {
        self.receiver.recv_async().await
    }
}

impl<B> Connection<Bytes, B> {
    /// Sends a copy of `bytes`; see [`Sender::send_bytes`].
    ///
    /// # Errors
    ///
    /// Like [`send`](Connection::send), without the message.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.sender().ok_or(SendError::Moved(()))?.send_bytes(bytes)
    }

    /// Like [`send_bytes`](Connection::send_bytes), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Like [`send_timeout`](Connection::send_timeout), without the message.
    pub fn send_bytes_timeout(
        &self,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<()>> {
        self.sender().ok_or(SendTimeoutError::Moved(()))?.send_bytes_timeout(bytes, timeout)
    }
}

impl<A> Connection<A, Bytes> {
    /// Receives the next message as plain bytes; see [`Receiver::recv_bytes`].
    ///
    /// # Errors
    ///
    /// Like [`recv`](Connection::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes()
    }

    /// Receives the next message into `buffer`; see [`Receiver::recv_bytes_into`].
    ///
    /// # Errors
    ///
    /// Like [`recv`](Connection::recv). The buffer is empty after an error.
    pub fn recv_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into(buffer)
    }

    /// Like [`recv_bytes_into`](Connection::recv_bytes_into), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Like [`recv_timeout`](Connection::recv_timeout). The buffer is empty after an error.
    pub fn recv_bytes_into_timeout(
        &self,
        buffer: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.receiver.recv_bytes_into_timeout(buffer, timeout)
    }
}

impl<A, B> Connection<A, B> {
    fn new(sender: Sender<A>, receiver: Receiver<B>) -> Connection<A, B> {
        Connection {
            sender: Arc::new(Mutex::new(Some(sender.cast()))),
            receiver,
            sends: PhantomData,
        }
    }

    fn sender(&self) -> Option<Sender<A>> {
        lock(&self.sender).clone().map(Sender::cast)
    }

    /// Blocks for at most `timeout` until [`recv`](Connection::recv) would return at once, with a
    /// message or an error. Returns whether it would. Takes no message.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`] if this end was moved to another process.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll(timeout)
    }
}

impl<A, B> Waitable for Connection<A, B> {
    fn wait_source(&self) -> WaitSource {
        self.receiver.wait_source()
    }
}

impl<A, B> fmt::Debug for Connection<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("sends", &std::any::type_name::<A>())
            .field("receives", &std::any::type_name::<B>())
            .finish_non_exhaustive()
    }
}

impl<A, B> Serialize for Connection<A, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Taken, not cloned: as long as a sender stays here, the other end does not notice that
        // this end is gone.
        let Some(moved) = lock(&self.sender).take() else {
            return Err(wire::explain("the connection was already moved to another process"));
        };
        let (back, stays) = (self.sender.clone(), moved.clone());
        let stay = move || *lock(&back) = Some(stays);
        match (moved.cast::<A>(), &self.receiver).serialize(serializer) {
            Ok(serialized) => {
                wire::on_unsent(stay);
                Ok(serialized)
            }
            Err(error) => {
                stay();
                Err(error)
            }
        }
    }
}

impl<'de, A, B> Deserialize<'de> for Connection<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (sender, receiver) = Deserialize::deserialize(deserializer)?;
        Ok(Connection::new(sender, receiver))
    }
}
