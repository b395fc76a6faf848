//! Errors of channels and pipes.

use std::io;

use thiserror::Error;

use super::{DecodeError, EncodeError, is_starved};

/// Why a message was not sent. It comes back: see [`SendError::into_inner`].
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel()?;
/// drop(receiver);
/// assert_eq!(sender.send(7).unwrap_err().into_inner(), 7);
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The other end is gone.
    #[error("sending to a receiver that is gone")]
    Disconnected(T),
    /// The message does not encode.
    #[error("sending a message that does not encode")]
    Encode(T, #[source] EncodeError),
    /// The end was moved to another process.
    #[error("sending through an end that was moved to another process")]
    Moved(T),
    /// The system refused.
    #[error("could not send the message")]
    Io(T, #[source] io::Error),
}

impl<T> SendError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Disconnected(message)
            | SendError::Encode(message, _)
            | SendError::Moved(message)
            | SendError::Io(message, _) => message,
        }
    }
}

/// Why `send_timeout` did not send a message.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel()?;
/// drop(receiver);
/// let error = sender.send_timeout(7, std::time::Duration::from_secs(1)).unwrap_err();
/// assert!(!error.is_timeout()); // nobody is there, so it does not wait
/// assert_eq!(error.into_inner(), 7);
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// There was no room in time.
    #[error("timed out sending to a receiver that does not keep up")]
    Timeout(T),
    /// It cannot be sent at all.
    #[error(transparent)]
    Failed(#[from] SendError<T>),
}

impl<T> SendTimeoutError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::Timeout(message) => message,
            SendTimeoutError::Failed(error) => error.into_inner(),
        }
    }

    /// Whether there was no room in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, SendTimeoutError::Timeout(_))
    }
}

/// Why no message was received.
///
/// ```
/// use offspring::RecvError;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel::<u32>()?;
/// drop(sender);
/// assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Every other end is gone, and all that was sent has been received.
    #[error("receiving from senders that are gone")]
    Disconnected,
    /// A message came that is none of the expected type. It is taken; the next one is not touched.
    #[error("receiving a message that does not decode")]
    Decode(#[source] DecodeError),
    /// The end was moved to another process.
    #[error("receiving through an end that was moved to another process")]
    Moved,
    /// The system refused.
    #[error("could not receive a message")]
    Io(#[source] io::Error),
}

impl RecvError {
    /// Whether the message is still there: this process has no descriptors left for what comes with it.
    pub(crate) fn is_starved(&self) -> bool {
        matches!(self, RecvError::Io(error) if is_starved(error))
    }
}

/// Why `try_recv` gave no message.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (_sender, receiver) = offspring::channel::<u32>()?;
/// assert!(receiver.try_recv().unwrap_err().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None is there now.
    #[error("receiving, but no message is there")]
    Empty,
    /// None will come, or this one was bad.
    #[error(transparent)]
    Failed(#[from] RecvError),
}

impl TryRecvError {
    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, TryRecvError::Empty)
    }
}

/// Why `recv_timeout` gave no message.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (_sender, receiver) = offspring::channel::<u32>()?;
/// assert!(receiver.recv_timeout(std::time::Duration::from_millis(1)).unwrap_err().is_timeout());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// None came in time.
    #[error("timed out receiving a message")]
    Timeout,
    /// None will come, or this one was bad.
    #[error(transparent)]
    Failed(#[from] RecvError),
}

impl RecvTimeoutError {
    /// Whether none came in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, RecvTimeoutError::Timeout)
    }
}

debug_without_item! {
    SendError { Disconnected, Encode + cause, Moved, Io + cause }
}

debug_without_item_around! {
    SendTimeoutError { Timeout }
}
