//! Errors of channels and pipes.

use std::io;

use super::{DecodeError, EncodeError, is_starved};

flat_errors! {
    /// The error returned by [`Sender::send`](crate::Sender::send). It returns the message: see
    /// [`into_inner`](Self::into_inner).
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = offspring::channel()?;
    /// drop(receiver);
    /// let error = sender.send(7).unwrap_err();
    /// assert!(error.is_end());
    /// assert_eq!(error.into_inner(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub enum SendError<T> {
        /// The receiver is gone: it was dropped, or its process has ended.
        #[error("cannot send: the receiver is gone")]
        Disconnected(message: T),
        /// The message does not encode.
        #[error("cannot send the message: {1}")]
        Encode(message: T, cause: EncodeError),
        /// This end was moved to another process.
        #[error("cannot send: this end was moved to another process")]
        Moved(message: T),
        /// The system refused a resource: memory or a descriptor.
        #[error("cannot send the message: {1}")]
        Io(message: T, cause: io::Error),
    }
    ends { Disconnected, Moved }

    /// The error returned by [`Sender::try_send`](crate::Sender::try_send). It returns the message:
    /// see [`into_inner`](Self::into_inner).
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, _receiver) = offspring::channel()?;
    /// let error = loop {
    ///     if let Err(error) = sender.try_send(vec![7u8; 1000]) {
    ///         break error;
    ///     }
    /// };
    /// assert!(error.is_full());
    /// assert_eq!(error.into_inner(), vec![7; 1000]);
    /// # Ok(())
    /// # }
    /// ```
    pub enum TrySendError<T> adds {
        /// The buffer has no room for the message now.
        #[error("cannot send: the buffer is full")]
        Full => is_full
    }

    /// The error returned by [`Sender::send_timeout`](crate::Sender::send_timeout). It returns the
    /// message: see [`into_inner`](Self::into_inner).
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = offspring::channel()?;
    /// drop(receiver);
    /// let error = sender.send_timeout(7, std::time::Duration::from_secs(1)).unwrap_err();
    /// assert!(!error.is_timeout()); // the receiver is gone, so it did not wait
    /// assert_eq!(error.into_inner(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub enum SendTimeoutError<T> adds {
        /// The buffer had no room for the message in time.
        #[error("timed out sending: the buffer stayed full")]
        Timeout => is_timeout
    }
}

flat_errors! {
    /// The error returned by [`Receiver::recv`](crate::Receiver::recv).
    ///
    /// ```
    /// use offspring::channel::RecvError;
    ///
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = offspring::channel::<u32>()?;
    /// drop(sender);
    /// let error = receiver.recv().unwrap_err();
    /// assert!(matches!(error, RecvError::Disconnected) && error.is_end());
    /// # Ok(())
    /// # }
    /// ```
    pub enum RecvError {
        /// Every sender is gone, and everything sent has been received.
        #[error("cannot receive: all senders are gone, and all messages were received")]
        Disconnected,
        /// The message does not decode. It has been taken from the channel; later messages are not
        /// affected.
        #[error("cannot receive the message: {0}")]
        Decode(cause: DecodeError),
        /// This end was moved to another process.
        #[error("cannot receive: this end was moved to another process")]
        Moved,
        /// The system refused a resource. If it refused a descriptor (`EMFILE`) or addresses
        /// (`ENOMEM`), the message stays in the channel and can be received later.
        #[error("cannot receive: {0}")]
        Io(cause: io::Error),
    }
    ends { Disconnected, Moved }

    /// The error returned by [`Receiver::try_recv`](crate::Receiver::try_recv).
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (_sender, receiver) = offspring::channel::<u32>()?;
    /// assert!(receiver.try_recv().unwrap_err().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub enum TryRecvError adds {
        /// No message has arrived.
        #[error("cannot receive: no message has arrived")]
        Empty => is_empty
    }

    /// The error returned by [`Receiver::recv_timeout`](crate::Receiver::recv_timeout).
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (_sender, receiver) = offspring::channel::<u32>()?;
    /// let error = receiver.recv_timeout(std::time::Duration::from_millis(1)).unwrap_err();
    /// assert!(error.is_timeout());
    /// # Ok(())
    /// # }
    /// ```
    pub enum RecvTimeoutError adds {
        /// No message arrived in time.
        #[error("timed out receiving: no message arrived")]
        Timeout => is_timeout
    }
}

impl RecvError {
    /// Whether the message is still in the channel because this process has no free descriptors,
    /// or no addresses.
    pub(crate) fn is_starved(&self) -> bool {
        matches!(self, RecvError::Io(error) if is_starved(error))
    }
}
