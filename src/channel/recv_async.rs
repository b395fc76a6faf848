//! Awaiting messages.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::Receiver;
use crate::channel::pipe::Connection;
use crate::error::{RecvError, SendError, TryRecvError};
use crate::ipc::reactor::ready;
use crate::ipc::reactor::yield_now;

impl<T: DeserializeOwned> Receiver<T> {
    /// As [`recv`](Receiver::recv), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// Dropping the future loses no message: it takes one only when it is done.
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// use offspring::{RecvError, Sender, channel};
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
    pub async fn recv_async(&self) -> Result<T, RecvError> {
        loop {
            let source = self.event_source().ok_or(RecvError::Moved)?;
            ready(&*source).await.map_err(RecvError::Io)?;
            match self.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Failed(error)) => return Err(error),
                Err(TryRecvError::Empty) => yield_now().await,
            }
        }
    }
}

impl<A, B: DeserializeOwned> Connection<A, B> {
    /// As [`recv`](Connection::recv), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// Dropping the future loses no message: it takes one only when it is done.
    ///
    /// # Errors
    ///
    /// As [`recv`](Connection::recv).
    pub async fn recv_async(&self) -> Result<B, RecvError> {
        self.receiver().recv_async().await
    }
}

impl<A: Serialize, B> Connection<A, B> {
    /// As [`send`](Connection::send), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// A future that is dropped before it is done has sent nothing, and drops the message.
    ///
    /// # Errors
    ///
    /// As [`send`](Connection::send).
    pub async fn send_async(&self, message: A) -> Result<(), SendError<A>> {
        match self.sender() {
            Some(sender) => sender.send_async(message).await,
            None => Err(SendError::Moved(message)),
        }
    }
}
