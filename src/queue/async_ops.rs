//! Awaiting a queue (feature `async`).
//!
//! A future does what a thread does that waits, in as many steps as it is polled: it is counted where a thread would
//! be, so all others treat it as one, and it takes or puts in the call that ends it. So a future that is dropped has
//! taken nothing and put nothing; its count goes with it. What the owner sent for it meanwhile is recalled, or
//! goes to the next who waits here.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{GetError, HandleError, OrElapsed, PutError, QueueJoinError};
use crate::ipc::hub;
use crate::ipc::ring;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{self, Envelope, ShmBuffer, SideData};
use crate::queue::client::attachment::{RemoteEnd, Taken};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::delivery::Delivery;
use crate::queue::handle::{Got, Handle, envelope_of};
use crate::queue::joinable::JoinableQueue;
use crate::queue::outcome::Refused;
use crate::queue::owner::state::Payload;
use crate::queue::queue::Queue;

pub(in crate::queue) fn unwatched(error: io::Error) -> RemoteEnd {
    RemoteEnd::Handle(HandleError::Io {
        act: "wait for the queue",
        message: error.to_string(),
    })
}

impl Handle {
    async fn get_async<T: DeserializeOwned>(&self) -> Result<Got<T>, GetError> {
        let taken = self.take_async().await;
        let taken = taken.map_err(|end| OrElapsed::from(end).without_deadline())?;
        self.decode(taken).map_err(GetError::Decode)
    }

    async fn take_async(&self) -> Result<Taken, RemoteEnd> {
        match self {
            Handle::Local(local) => local.shared().take_async().await,
            Handle::Remote(remote) => remote.attached_async().await?.take_async().await,
        }
    }

    async fn put_async<T: Serialize>(&self, item: T) -> Result<(), PutError<T>> {
        let mut bytes = Vec::new();
        let put = match encode(&item, &mut bytes) {
            Ok((packet, along)) => along.restore_unless_sent(
                self.put_encoded_async(&bytes, packet)
                    .await
                    .map_err(Refused::End),
            ),
            Err(refused) => Err(refused),
        };
        put.map_err(|refused| refused.with(item).without_deadline())
    }

    async fn put_encoded_async(
        &self,
        bytes: &[u8],
        packet: Option<Envelope>,
    ) -> Result<(), RemoteEnd> {
        match self {
            Handle::Local(local) => local.shared().put_async(payload(bytes, packet)).await,
            Handle::Remote(remote) => {
                remote
                    .attached_async()
                    .await?
                    .put_async(Outgoing::item(bytes, packet))
                    .await
            }
        }
    }

    async fn join_async(&self) -> Result<(), QueueJoinError> {
        let outcome = match self {
            Handle::Local(local) => local.shared().join_async().await,
            Handle::Remote(remote) => match remote.attached_async().await {
                Ok(attached) => attached.join_async().await,
                Err(end) => Err(end),
            },
        };
        outcome.map_err(|end| OrElapsed::from(end).without_deadline())
    }
}

fn payload(bytes: &[u8], packet: Option<Envelope>) -> Payload {
    packet.map_or_else(
        || Payload::Bytes(SmallBytes::new(bytes)),
        |packet| Payload::Parcel(Box::new(packet)),
    )
}

/// Once, before the first wait: an item may hold what can be moved only once.
fn encode<T: Serialize>(
    item: &T,
    bytes: &mut Vec<u8>,
) -> Result<(Option<Envelope>, SideData), Refused> {
    let mut memory = ShmBuffer::default();
    let (spilled, mut along) = wire::encode_spilling(item, bytes, ring::ENTRY_MAX, &mut memory)
        .map_err(Refused::Encode)?;
    if spilled == 0 && along.is_empty() {
        return Ok((None, along));
    }
    let packet = envelope_of(bytes, (spilled > 0).then_some(memory), along.take_handles());
    // Handles in it are under way, or, if it was refused, to nobody.
    hub::announce();
    match packet {
        Ok(packet) => Ok((Some(packet), along)),
        Err(refused) => along.restore_unless_sent(Err(refused)),
    }
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// As [`get`](Queue::get), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// Dropping the future loses no item: it takes one only when it is done.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get).
    ///
    /// ```
    /// use offspring::Queue;
    /// use offspring::queue::GetError;
    ///
    /// #[offspring::worker]
    /// fn double(numbers: Queue<u64>, doubled: Queue<u64>) {
    ///     numbers.iter().for_each(|n| doubled.put(2 * n).expect("the main program gets"));
    /// }
    ///
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let (numbers, doubled) = (Queue::bounded(4)?, Queue::bounded(4)?);
    ///     let process = double::spawn(numbers.clone(), doubled.clone())?;
    ///     let (put, sum) = tokio::join!(
    ///         async {
    ///             for n in 1..=100 {
    ///                 numbers.put_async(n).await?;
    ///             }
    ///             numbers.close()?;
    ///             Ok::<_, Box<dyn std::error::Error>>(())
    ///         },
    ///         async {
    ///             let mut sum = 0;
    ///             while let Ok(n) = doubled.get_async().await {
    ///                 sum += n;
    ///             }
    ///             sum
    ///         },
    ///     );
    ///     put?;
    ///     assert_eq!(sum, 100 * 101);
    ///     assert!(matches!(doubled.get_async().await, Err(GetError::Abandoned)));
    ///     process.join_async().await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn get_async(&self) -> Result<T, GetError> {
        Ok(self.handle.get_async().await?.value)
    }

    /// As [`put`](Queue::put), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// A future that is dropped before it is done has put nothing, and drops the item.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put).
    pub async fn put_async(&self, item: T) -> Result<(), PutError<T>> {
        self.handle.put_async(item).await
    }
}

impl<T: Serialize + DeserializeOwned> JoinableQueue<T> {
    /// As [`get`](JoinableQueue::get), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// Dropping the future loses no item: it takes one only when it is done.
    ///
    /// # Errors
    ///
    /// As [`get`](JoinableQueue::get).
    pub async fn get_async(&self) -> Result<Delivery<T>, GetError> {
        Ok(self.receive(self.handle.get_async().await?))
    }

    /// As [`put`](JoinableQueue::put), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// A future that is dropped before it is done has put nothing, and drops the item.
    ///
    /// # Errors
    ///
    /// As [`put`](JoinableQueue::put).
    pub async fn put_async(&self, item: T) -> Result<(), PutError<T>> {
        self.handle.put_async(item).await
    }

    /// As [`join`](JoinableQueue::join), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// # Errors
    ///
    /// As [`join`](JoinableQueue::join).
    ///
    /// ```
    /// use offspring::JoinableQueue;
    ///
    /// #[offspring::worker]
    /// fn consume(jobs: JoinableQueue<u32>) {
    ///     jobs.iter().for_each(|job| job.task_done());
    /// }
    ///
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let jobs = JoinableQueue::bounded(4)?;
    ///     let consumer = consume::spawn(jobs.clone())?;
    ///     for n in 0..100 {
    ///         jobs.put_async(n).await?;
    ///     }
    ///     jobs.join_async().await?;
    ///     jobs.close()?;
    ///     consumer.join_async().await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn join_async(&self) -> Result<(), QueueJoinError> {
        self.handle.join_async().await
    }
}
