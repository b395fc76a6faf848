//! Awaiting a queue (feature `async`).
//!
//! A future does what a waiting thread does, one step in each poll. It counts as a waiting thread,
//! and takes or puts its item in the poll that completes it. So a future that is dropped has taken
//! nothing and put nothing. After that it no longer counts, and an item that the owner sent for it
//! is recalled, or goes to the next thread or future that waits in this process.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{GetError, PutError, QueueJoinError};
use crate::ipc::deadline::WaitEnd;
use crate::ipc::hub;
use crate::queue::client::driver::Polled;
use crate::queue::delivery::Delivery;
use crate::queue::handle::{Got, Handle, encode};
use crate::queue::item::{NewItem, Taken};
use crate::queue::joinable::JoinableQueue;
use crate::queue::outcome::{PutFailure, QueueFailure, QueueJoined};
use crate::queue::queue::Queue;

impl Handle {
    async fn get_async<T: DeserializeOwned>(&self) -> Result<Got<T>, GetError> {
        let taken = self.take_async().await?;
        self.decode(taken).map_err(GetError::Decode)
    }

    async fn take_async(&self) -> Result<Taken, QueueFailure> {
        match self {
            Handle::Own(own) => own.owner().get_async().await,
            Handle::Remote(remote) => remote.attached_async().await?.get_async().await,
        }
    }

    /// Takes an item if one has arrived, without asking the owner. `None` may also mean the end.
    #[cfg(feature = "stream")]
    pub(in crate::queue) fn get_now<T: DeserializeOwned>(
        &self,
    ) -> Option<Result<Got<T>, GetError>> {
        let taken = match self {
            Handle::Own(own) => own.owner().take_now()?,
            Handle::Remote(remote) => remote.used()?.take()?,
        };
        let decoded = taken.map(|taken| self.decode(taken).map_err(GetError::Decode));
        Some(decoded.unwrap_or_else(|failure| Err(failure.into())))
    }

    pub(in crate::queue) async fn put_async<T: Serialize + DeserializeOwned>(
        &self,
        item: T,
    ) -> Result<(), PutError<T>> {
        // Encoded once, before the first wait, because the item may hold things that can be moved
        // only once.
        let mut bytes = Vec::new();
        let put = match encode(&item, &mut bytes) {
            Ok((None, _)) => self.put_encoded(NewItem::Bytes(&bytes)).await,
            Ok((Some(envelope), along)) => {
                // Handles in the item are on their way now, or no process will receive them.
                hub::announce();
                along.restore_unless_sent(self.put_encoded(NewItem::Parcel(envelope)).await)
            }
            Err(failure) => Err(failure),
        };
        put.map_err(|failure| failure.with(item))
    }

    async fn put_encoded(&self, item: NewItem<'_>) -> Result<(), PutFailure> {
        match self {
            Handle::Own(own) => own.owner().put_async(item).await?,
            Handle::Remote(remote) => remote.attached_async().await?.put_async(item).await?,
        }
        Ok(())
    }

    async fn join_async(&self) -> Result<QueueJoined, QueueFailure> {
        match self {
            Handle::Own(own) => own.owner().join_async().await,
            Handle::Remote(remote) => {
                let joined = remote.attached_async().await?.join(&Polled).await;
                joined.map_err(WaitEnd::into_failed)
            }
        }
    }
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// Like [`get`](Queue::get), but does not block the thread. Needs the feature `async`, and
    /// works with every executor.
    ///
    /// Dropping the future loses no item: it takes one only when it completes.
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Queue::get).
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

    /// Like [`put`](Queue::put), but does not block the thread. Needs the feature `async`, and
    /// works with every executor.
    ///
    /// If the future is dropped before it completes, nothing is put, and the item is dropped.
    ///
    /// # Errors
    ///
    /// The errors of [`put`](Queue::put).
    pub async fn put_async(&self, item: T) -> Result<(), PutError<T>> {
        self.handle.put_async(item).await
    }
}

impl<T: Serialize + DeserializeOwned> JoinableQueue<T> {
    /// Like [`get`](JoinableQueue::get), but does not block the thread. Needs the feature `async`,
    /// and works with every executor.
    ///
    /// Dropping the future loses no item: it takes one only when it completes.
    ///
    /// # Errors
    ///
    /// The errors of [`get`](JoinableQueue::get).
    pub async fn get_async(&self) -> Result<Delivery<T>, GetError> {
        Ok(self.receive(self.handle.get_async().await?))
    }

    /// Like [`put`](JoinableQueue::put), but does not block the thread. Needs the feature `async`,
    /// and works with every executor.
    ///
    /// If the future is dropped before it completes, nothing is put, and the item is dropped.
    ///
    /// # Errors
    ///
    /// The errors of [`put`](JoinableQueue::put).
    pub async fn put_async(&self, item: T) -> Result<(), PutError<T>> {
        self.handle.put_async(item).await
    }

    /// Like [`join`](JoinableQueue::join), but does not block the thread. Needs the feature
    /// `async`, and works with every executor.
    ///
    /// # Errors
    ///
    /// The errors of [`join`](JoinableQueue::join).
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
    pub async fn join_async(&self) -> Result<QueueJoined, QueueJoinError> {
        Ok(self.handle.join_async().await?)
    }
}
