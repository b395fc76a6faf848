//! Awaiting room for a message (feature `async`).

use std::sync::Arc;
use std::task::Poll;

use serde::Serialize;

use super::layout::Mark;
use super::sender::{Entry, Outgoing, SendEnd, Sender, SenderShared};
use super::spill::Message;
use crate::error::{SendError, SendTimeoutError};
use crate::ipc::deadline::Deadline;
use crate::ipc::hub;
use crate::ipc::reactor;
use crate::ipc::ring;
use crate::ipc::wire::{self, SideData};

impl<T: Serialize> Sender<T> {
    /// As [`send`](Sender::send), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// A future that is dropped before it is done has sent nothing, and drops the message. Of messages that one task
    /// sends after the other the order is kept.
    ///
    /// # Errors
    ///
    /// As [`send`](Sender::send).
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
    pub async fn send_async(&self, message: T) -> Result<(), SendError<T>> {
        let mut bytes = Vec::new();
        let sent = match self.shared.ring_async().await {
            Err(end) => Err(end),
            Ok(ring) => match encode(&ring, &message, &mut bytes) {
                Err(end) => Err(end),
                Ok((entry, along)) => {
                    along.restore_unless_sent(self.shared.send_entry_async(&ring, entry).await)
                }
            },
        };
        sent.map_err(|end| match end.with(message) {
            SendTimeoutError::Failed(error) => error,
            SendTimeoutError::Timeout(message) => SendError::Disconnected(message),
        })
    }
}

/// Once, before the first wait: a message may hold what can be moved only once. It finds room without waiting.
fn encode<'b, T: Serialize>(
    ring: &Arc<Outgoing>,
    message: &T,
    bytes: &'b mut Vec<u8>,
) -> Result<(Entry<'b>, SideData), SendEnd> {
    let mut place = Message::at_once(ring);
    let encoded =
        wire::encode_spilling(message, bytes, ring::ENTRY_MAX, &mut place).map_err(SendEnd::Encode);
    // Handles are under way from here on, whatever becomes of the message.
    hub::announce();
    let (spilled, mut along) = encoded?;
    match SenderShared::body(bytes, spilled, along.take_handles(), place) {
        Ok(body) => Ok((
            Entry {
                mark: Mark::default(),
                body,
            },
            along,
        )),
        Err(end) => along.restore_unless_sent(Err(end)),
    }
}

impl SenderShared {
    /// This process's ring. Making one says so to the receiver, which may have been told much that it has not heard yet;
    /// that is looked at again when other tasks had their turn.
    async fn ring_async(&self) -> Result<Arc<Outgoing>, SendEnd> {
        loop {
            match self.ring(&Deadline::now()) {
                Err(SendEnd::Timeout) => reactor::yield_now().await,
                outcome => return outcome,
            }
        }
    }

    async fn send_entry_async(&self, ring: &Outgoing, mut entry: Entry<'_>) -> Result<(), SendEnd> {
        if ring.is_suspicious() && ring.back.check(ring) {
            return Err(SendEnd::Disconnected);
        }
        let look = |seat: reactor::Interest<'_>| match ring
            .back
            .poll(ring, seat, || self.attempt(ring, &mut entry))
        {
            Poll::Ready(outcome) => Poll::Ready(outcome.unwrap_or_else(|end| Err(end.into()))),
            Poll::Pending => Poll::Pending,
        };
        reactor::until(|| ring.back.register(), look)
            .await
            .map_err(SendEnd::Io)?
    }
}
