//! `Queue`: an item is got once.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, DeadLetterError, GetError, GetTimeoutError, PutAllError, PutError,
    PutTimeoutError, TryGetError, TryPutError,
};
use crate::ipc::reactor::EventSource;
use crate::queue::builder::QueueBuilder;
use crate::queue::dead_letter::DeadLetter;
use crate::queue::handle::Handle;
use crate::queue::outcome::{Limit, until_the_end};

/// A first-in, first-out queue that any number of processes put into and get from.
///
/// This is a handle: cheap to clone, to be sent in worker fields, queue items and messages. Dropping one
/// changes nothing for the others. The queue lives in the process that made it: when that process ends,
/// every handle elsewhere reports `Disconnected`.
///
/// Each item is got once; one that does not decode is an error to that `get`, and kept as a
/// [dead letter](Queue::dead_letters). An item whose `put` returned is not lost when the process that put it dies, nor
/// when a process dies that it was sent to but that had not taken it. The order of the items of one
/// producer is kept.
///
/// A `get` ends with [`GetError::Closed`] when the queue is closed and drained, and with
/// [`GetError::Abandoned`] when it is empty and nobody is left who could put: other processes have held it,
/// and everyone who still does waits for an item and has never put one. A `put` into a full queue ends
/// with [`PutError::Abandoned`] when nobody is left who could take an item. All of that is what the queue
/// finds at that moment: with a new process it goes on.
///
/// ```
/// use offspring::{ProcessWorker, Queue, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Squares {
///     upto: u64,
///     results: Queue<u64>,
/// }
///
/// impl ProcessWorker for Squares {
///     type Output = ();
///     fn run(self) {
///         for n in 1..=self.upto {
///             self.results.put(n * n).expect("the main program reads");
///         }
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let results = Queue::unbounded()?;
///     let process = Squares { upto: 4, results: results.clone() }.spawn()?;
///     // Ends with its only producer.
///     assert_eq!(results.iter().collect::<Vec<u64>>(), [1, 4, 9, 16]);
///     process.join()?;
///     Ok(())
/// }
/// ```
pub struct Queue<T> {
    pub(super) handle: Handle,
    item: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// A queue without a limit, owned by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError`] if the system refuses what it needs.
    pub fn unbounded() -> Result<Queue<T>, CreateError> {
        Queue::builder().build()
    }

    /// A queue that holds at most `capacity` items, in all its buffers together, owned by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`], or as [`unbounded`](Queue::unbounded).
    pub fn bounded(capacity: usize) -> Result<Queue<T>, CreateError> {
        Queue::builder().capacity(capacity).build()
    }

    /// A queue with options, owned by this process.
    pub fn builder() -> QueueBuilder<Queue<T>> {
        QueueBuilder::new()
    }

    /// Puts an item at the end; waits while the queue is full. When it returns, the item is safe from the
    /// death of this process.
    ///
    /// # Errors
    ///
    /// [`PutError`]: closed, owner gone, full with nobody left to take an item, or the item does not encode; it
    /// comes back with the error.
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.handle
            .put(item, Limit::Forever)
            .map_err(PutError::from)
    }

    /// Puts an item if the queue is not full. In another process than the owner's it waits for the owner's
    /// answer, so that "full" is true.
    ///
    /// # Errors
    ///
    /// [`TryPutError::Full`], or as [`put`](Queue::put).
    pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
        self.handle.put(item, Limit::Now).map_err(TryPutError::from)
    }

    /// Puts an item; waits at most this long while the queue is full.
    ///
    /// # Errors
    ///
    /// [`PutTimeoutError::Timeout`], or as [`put`](Queue::put).
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutTimeoutError<T>> {
        self.handle
            .put(item, Limit::Within(timeout))
            .map_err(PutTimeoutError::from)
    }

    /// Puts all items of an iterator, in batches; waits while the queue is full. Faster than one by one. Up to 64
    /// items are pulled from the iterator before they are put, so one that itself waits is better put from item by item.
    ///
    /// # Errors
    ///
    /// [`PutAllError`], with what [`put`](Queue::put) said of an item; that one and all behind it come back, those
    /// before it are put.
    pub fn put_all<I: IntoIterator<Item = T>>(
        &self,
        items: I,
    ) -> Result<(), PutAllError<I::IntoIter>> {
        self.handle.put_all(items.into_iter(), Limit::Forever)
    }

    /// As [`put_all`](Queue::put_all), but waits at most this long in all.
    ///
    /// # Errors
    ///
    /// As [`put_all`](Queue::put_all), and with [`PutTimeoutError::Timeout`] as the cause if the queue stayed full.
    pub fn put_all_timeout<I: IntoIterator<Item = T>>(
        &self,
        items: I,
        timeout: Duration,
    ) -> Result<(), PutAllError<I::IntoIter>> {
        self.handle
            .put_all(items.into_iter(), Limit::Within(timeout))
    }

    /// Gets the first item; waits while the queue is empty.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] or [`GetError::Abandoned`] at the end of the queue; owner gone; or an item that does not decode, which
    /// is kept as a dead letter ([`dead_letters`](Queue::dead_letters)).
    pub fn get(&self) -> Result<T, GetError> {
        Ok(self.handle.get(Limit::Forever)?.value)
    }

    /// Gets the first item if there is one. In another process than the owner's it waits for the owner's
    /// answer, so that an item whose `put` returned before is found.
    ///
    /// # Errors
    ///
    /// [`TryGetError::Empty`], or as [`get`](Queue::get).
    pub fn try_get(&self) -> Result<T, TryGetError> {
        Ok(self.handle.get(Limit::Now)?.value)
    }

    /// Gets the first item; waits at most this long while the queue is empty.
    ///
    /// # Errors
    ///
    /// [`GetTimeoutError::Timeout`], or as [`get`](Queue::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetTimeoutError> {
        Ok(self.handle.get(Limit::Within(timeout))?.value)
    }

    /// Gets at most `max` items, and at least one: waits while the queue is empty, then takes what is there at once.
    /// Faster than one by one. A `max` of 0 counts as 1.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get). An item that does not decode is the error only if no other came with it; else it
    /// is logged and passed over.
    pub fn get_many(&self, max: usize) -> Result<Vec<T>, GetError> {
        let got = self.handle.get_many(max, Limit::Forever)?;
        Ok(got.into_iter().map(|got| got.value).collect())
    }

    /// As [`get_many`](Queue::get_many), if there is an item.
    ///
    /// # Errors
    ///
    /// [`TryGetError::Empty`], or as [`get_many`](Queue::get_many).
    pub fn try_get_many(&self, max: usize) -> Result<Vec<T>, TryGetError> {
        let got = self.handle.get_many(max, Limit::Now)?;
        Ok(got.into_iter().map(|got| got.value).collect())
    }

    /// As [`get_many`](Queue::get_many), but waits at most this long for the first item.
    ///
    /// # Errors
    ///
    /// [`GetTimeoutError::Timeout`], or as [`get_many`](Queue::get_many).
    pub fn get_many_timeout(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<T>, GetTimeoutError> {
        let got = self.handle.get_many(max, Limit::Within(timeout))?;
        Ok(got.into_iter().map(|got| got.value).collect())
    }

    /// Batches of at most `max` items until the end of the queue, as [`get_many`](Queue::get_many) gives them.
    pub fn batches(&self, max: usize) -> QueueBatches<'_, T> {
        QueueBatches { queue: self, max }
    }

    /// Items until the end of the queue, as [`get`](Queue::get) gives them. The iterator also ends when
    /// the owner is gone. An item that does not decode is logged and passed over: it is a dead letter now.
    /// While this process has no descriptors left for what comes, that is logged and waited for.
    pub fn iter(&self) -> QueueIter<'_, T> {
        QueueIter { queue: self }
    }
}

impl<T> Queue<T> {
    pub(crate) fn from_handle(handle: Handle) -> Queue<T> {
        Queue {
            handle,
            item: PhantomData,
        }
    }

    /// Ends the queue for all processes: puts fail from now on, gets give what is still in it, then
    /// [`GetError::Closed`]. Closing twice changes nothing. In another process than the owner's it waits for the owner's
    /// answer, as long as that lives: so no put succeeds after it.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Ends the queue for all processes and drops the items that nobody has got: how many that were.
    pub fn close_now(&self) -> usize {
        self.handle.close_now()
    }

    /// The items that nobody gets any more, oldest first: those that did not decode. Each can be
    /// read, redelivered or discarded.
    ///
    /// They are kept in the process that made the queue, and seen there only: a dead letter is for whoever is in
    /// charge of the queue, not for its consumers.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::NotOwner`] in any other process.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter<T>>, DeadLetterError> {
        self.handle.dead_letters()
    }

    /// Whether the queue was closed, or its owner is gone. In another process than the owner's it waits for the owner's
    /// answer, as `len` does.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// How many items were put and not taken, in all buffers; 0 if the owner is gone. In the owner's process it is
    /// exact; elsewhere it is what the owner answered, and may have changed on the way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.handle.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a `try_put` would find it full, if nobody takes an item meanwhile.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.capacity()
            .is_some_and(|capacity| self.len() >= capacity)
    }

    /// The most items that it holds; `None` for no limit.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.handle.capacity()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue {
            handle: self.handle.clone(),
            item: PhantomData,
        }
    }
}

impl<T> Queue<T> {
    /// For a selector; `None` if it cannot be reached, which `get` says at once.
    pub(crate) fn target(&self) -> Option<Arc<dyn EventSource>> {
        self.handle.target()
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt::<T>("Queue", f)
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize::<T, D>(false, deserializer)?;
        Ok(Queue {
            handle,
            item: PhantomData,
        })
    }
}

/// The items of a [`Queue`], from [`Queue::iter`]. Dropping it leaves the rest in the queue.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close();
/// let mut seen = 0;
/// for job in &queue {
///     seen += job;
/// }
/// assert_eq!(seen, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueueIter<'a, T> {
    queue: &'a Queue<T>,
}

impl<T: Serialize + DeserializeOwned> Iterator for QueueIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        until_the_end(|| self.queue.get())
    }
}

impl<'a, T: Serialize + DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = T;
    type IntoIter = QueueIter<'a, T>;

    fn into_iter(self) -> QueueIter<'a, T> {
        self.iter()
    }
}

/// Batches of a [`Queue`], from [`Queue::batches`]. Dropping it leaves the rest in the queue.
///
/// ```
/// use offspring::Queue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close();
/// let mut total = 0;
/// for batch in queue.batches(4) {
///     let sum: u32 = batch.into_iter().sum();
///     total += sum;
/// }
/// assert_eq!(total, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueueBatches<'a, T> {
    queue: &'a Queue<T>,
    max: usize,
}

impl<T: Serialize + DeserializeOwned> Iterator for QueueBatches<'_, T> {
    type Item = Vec<T>;

    fn next(&mut self) -> Option<Vec<T>> {
        until_the_end(|| self.queue.get_many(self.max))
    }
}
