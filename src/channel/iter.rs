//! Iterators over the messages of a receiver.

use std::iter::FusedIterator;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;

use super::Receiver;
use crate::diagnostics;
use crate::error::{DecodeError, RecvError, TryRecvError};
use crate::ipc::wire::Retry;

impl<T: DeserializeOwned> Receiver<T> {
    /// Returns an iterator over messages that blocks for each, and ends when every sender is gone.
    ///
    /// A message that does not decode is skipped and logged; without a logger, standard error gets
    /// the record. While this process has no descriptors left for a message's handles, the iterator
    /// logs that, waits, and tries again. Use [`recv`](Receiver::recv) to handle these errors.
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = offspring::channel()?;
    /// (1..=3).try_for_each(|n| sender.send(n))?;
    /// drop(sender);
    /// assert_eq!(receiver.iter().sum::<u32>(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> ReceiverIter<'_, T> {
        ReceiverIter { receiver: self, has_ended: false }
    }

    /// Returns an iterator over the messages that have arrived. It never blocks, and ends when none
    /// is left.
    ///
    /// A message that does not decode is skipped and logged; without a logger, standard error gets the
    /// record.
    ///
    /// ```
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = offspring::channel()?;
    /// assert_eq!(receiver.try_iter().next(), None);
    /// (1..=3).try_for_each(|n| sender.send(n))?;
    /// assert_eq!(receiver.try_iter().collect::<Vec<u32>>(), [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_iter(&self) -> ReceiverTryIter<'_, T> {
        ReceiverTryIter { receiver: self }
    }
}

/// Returns the next message; `None` if no more will come.
fn next<T: DeserializeOwned>(receiver: &Receiver<T>) -> Option<T> {
    let mut retry = Retry::default();
    loop {
        match receiver.recv() {
            Ok(message) => return Some(message),
            Err(RecvError::Decode(error)) => {
                skipped(&error);
            }
            Err(error @ RecvError::Io(_)) => retry.pause(&error),
            Err(RecvError::Disconnected | RecvError::Moved) => return None,
        }
    }
}

/// Reports a message that a loop has skipped.
fn skipped(error: &DecodeError) {
    static SKIPPED: AtomicU64 = AtomicU64::new(0);
    let nth = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let text =
        format_args!("a message was skipped (number {nth}): {error}; `recv` returns the error");
    diagnostics::loss("offspring::channel", nth, text);
}

/// A blocking iterator over the messages of a [`Receiver`], from [`Receiver::iter`]. Dropping it
/// leaves the other messages in the channel.
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
    /// An iterator that has ended stays ended, even if the receiver moves back.
    has_ended: bool,
}

impl<T: DeserializeOwned> Iterator for ReceiverIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.has_ended {
            return None;
        }
        let message = next(self.receiver);
        self.has_ended = message.is_none();
        message
    }
}

impl<T: DeserializeOwned> FusedIterator for ReceiverIter<'_, T> {}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = ReceiverIter<'a, T>;

    fn into_iter(self) -> ReceiverIter<'a, T> {
        self.iter()
    }
}

/// An iterator over the messages that have arrived at a [`Receiver`], from [`Receiver::try_iter`].
/// Dropping it leaves the other messages in the channel. After `None` it may return messages again.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel()?;
/// let mut arrived = receiver.try_iter();
/// assert_eq!(arrived.next(), None);
/// sender.send(7)?;
/// assert_eq!(arrived.next(), Some(7));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReceiverTryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for ReceiverTryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Decode(error)) => {
                    skipped(&error);
                }
                Err(_) => return None,
            }
        }
    }
}

/// A blocking iterator that owns its [`Receiver`], from `for message in receiver`. Dropping it
/// drops the receiver.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel()?;
/// let doubled = std::thread::spawn(|| receiver.into_iter().map(|n: u32| n * 2).sum::<u32>());
/// (1..=3).try_for_each(|n| sender.send(n))?;
/// drop(sender);
/// assert_eq!(doubled.join().unwrap(), 12);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReceiverIntoIter<T> {
    receiver: Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for ReceiverIntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        next(&self.receiver)
    }
}

impl<T: DeserializeOwned> FusedIterator for ReceiverIntoIter<T> {}

impl<T: DeserializeOwned> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = ReceiverIntoIter<T>;

    fn into_iter(self) -> ReceiverIntoIter<T> {
        ReceiverIntoIter { receiver: self }
    }
}
