//! Two-way connections: two channels, crossed.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::channel::{Bytes, Receiver, Sender, channel};
use crate::error::{
    CreateError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError,
};
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::ipc::wire;
use crate::sys;

/// Makes a two-way connection: the first end sends `A` and receives `B`, the second the other way round.
///
/// # Errors
///
/// [`CreateError::Io`] if the system gives no channel.
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
    Ok((
        Connection::new(to_second, from_second),
        Connection::new(to_first, from_first),
    ))
}

/// One end of a [`pipe`]: sends `A`, receives `B`. It exists once: sent to another process, it is moved,
/// and this one reports `Moved`. What could not be sent or put comes back with the error, as it was.
///
/// Dropping it tells the other end, which receives what was sent before and then reports
/// [`RecvError::Disconnected`]. Sending and receiving from different threads at once is fine.
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
///     drop(here); // the child's `recv` says so
///     child.join()?;
///     Ok(())
/// }
/// ```
pub struct Connection<A, B> {
    /// Of messages `A`: without the type it can be put back by whoever does not know it.
    sender: Arc<Mutex<Option<Sender<()>>>>,
    receiver: Receiver<B>,
    sends: PhantomData<fn(A)>,
}

impl<A: Serialize, B> Connection<A, B> {
    /// Sends a message; waits while the other end's buffer (128 KiB; of messages over 32 KiB, 8 or 129 MiB) is full.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the other end is gone, or the message does not encode; it comes back with the error.
    pub fn send(&self, message: A) -> Result<(), SendError<A>> {
        match self.sender() {
            Some(sender) => sender.send(message),
            None => Err(SendError::Moved(message)),
        }
    }

    /// As [`send`](Connection::send), but waits at most this long.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`], or as [`send`](Connection::send).
    pub fn send_timeout(&self, message: A, timeout: Duration) -> Result<(), SendTimeoutError<A>> {
        match self.sender() {
            Some(sender) => sender.send_timeout(message, timeout),
            None => Err(SendError::Moved(message).into()),
        }
    }
}

impl<A, B: DeserializeOwned> Connection<A, B> {
    /// Receives the next message; waits until there is one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] when the other end is gone and all was received; a message that does
    /// not decode (it is taken); or an end that was moved away.
    pub fn recv(&self) -> Result<B, RecvError> {
        self.receiver.recv()
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`], or as [`recv`](Connection::recv).
    pub fn try_recv(&self) -> Result<B, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives the next message; waits at most this long.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`], or as [`recv`](Connection::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<B, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }
}

impl<B> Connection<Bytes, B> {
    /// Sends a copy of these bytes; see [`Sender::send_bytes`].
    ///
    /// # Errors
    ///
    /// As [`send`](Connection::send), without the message.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.sender().ok_or(SendError::Moved(()))?.send_bytes(bytes)
    }

    /// As [`send_bytes`](Connection::send_bytes), but waits at most this long.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Connection::send_timeout), without the message.
    pub fn send_bytes_timeout(
        &self,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<()>> {
        self.sender()
            .ok_or(SendError::Moved(()))?
            .send_bytes_timeout(bytes, timeout)
    }
}

impl<A> Connection<A, Bytes> {
    /// Receives the next message as plain bytes.
    ///
    /// # Errors
    ///
    /// As [`recv`](Connection::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes()
    }

    /// Receives the next message into `buffer`; see [`Receiver::recv_bytes_into`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Connection::recv); `buffer` is empty then.
    pub fn recv_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into(buffer)
    }

    /// As [`recv_bytes_into`](Connection::recv_bytes_into); waits at most this long.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Connection::recv_timeout); `buffer` is empty then.
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
            sender: Arc::new(Mutex::new(Some(sender.retype()))),
            receiver,
            sends: PhantomData,
        }
    }

    pub(crate) fn sender(&self) -> Option<Sender<A>> {
        sys::lock(&self.sender).clone().map(Sender::retype)
    }

    #[cfg(feature = "async")]
    pub(crate) fn receiver(&self) -> &Receiver<B> {
        &self.receiver
    }

    /// Whether `recv` would return at once, with a message or with the end; waits at most this long for
    /// that. Takes nothing.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`] if the end was moved away.
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
        // Taken, not shared: the other end must see the end of this connection where it goes.
        let Some(moved) = sys::lock(&self.sender).take() else {
            return Err(wire::explain(
                "the connection was moved to another process before",
            ));
        };
        let (back, stays) = (self.sender.clone(), moved.clone());
        let stay = move || *sys::lock(&back) = Some(stays);
        match (moved.retype::<A>(), &self.receiver).serialize(serializer) {
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
