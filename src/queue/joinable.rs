//! `JoinableQueue`: an item counts until its consumer says that it is done.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{
    CreateError, DeadLetterError, GetError, GetTimeoutError, PutAllError, PutError,
    PutTimeoutError, QueueJoinError, QueueJoinTimeoutError, TaskDoneError, TryGetError,
    TryPutError,
};
use crate::ipc::reactor::EventSource;
use crate::queue::builder::QueueBuilder;
use crate::queue::dead_letter::DeadLetter;
use crate::queue::delivery::Delivery;
use crate::queue::handle::{Got, Handle};
use crate::queue::outcome::{JoinEnd, Limit, until_the_end};

/// A queue whose items count until their consumer says that they are done: [`join`](JoinableQueue::join)
/// waits for that.
///
/// This is a handle, as [`Queue`](crate::Queue) is; dropping one changes nothing for the others. What is
/// got is a [`Delivery`]: until its [`task_done`](Delivery::task_done) the item is leased to this process,
/// and goes to another consumer if the delivery is dropped, its thread panics, or the process dies. So an
/// item is worked on at least once, and `join` never waits for a dead consumer.
///
/// An item that kills its consumers does not go round for ever: after
/// [`max_deliveries`](QueueBuilder::max_deliveries) (default 5) it is a [dead letter](JoinableQueue::dead_letters),
/// as is one that does not decode, and one that was not done and held a [`Receiver`](crate::Receiver) or
/// [`Connection`](crate::Connection): that exists once, and ended with whoever had it. Dead letters count as done for `join`: it waits for what consumers can still do.
///
/// (When a queue is closed,
/// threads of one process that share it may see the end while another of them still holds a delivery; if
/// that one gives it back, somebody has to `get` again.)
///
/// ```
/// use offspring::{JoinableQueue, ProcessWorker, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Consumer {
///     jobs: JoinableQueue<u64>,
/// }
///
/// impl ProcessWorker for Consumer {
///     type Output = ();
///     fn run(self) {
///         for job in &self.jobs {
///             println!("consumed {}", *job);
///             job.task_done();
///         }
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let jobs = JoinableQueue::bounded(8)?;
///     let _consumer = offspring::Builder::new().daemon(true).spawn(Consumer { jobs: jobs.clone() })?;
///     for n in 1..=4 {
///         jobs.put(n)?;
///     }
///     jobs.join()?;
///     Ok(())
/// }
/// ```
pub struct JoinableQueue<T> {
    pub(super) handle: Handle,
    item: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> JoinableQueue<T> {
    /// A queue without a limit, owned by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError`] if the system refuses what it needs.
    pub fn unbounded() -> Result<JoinableQueue<T>, CreateError> {
        JoinableQueue::builder().build()
    }

    /// A queue that holds at most `capacity` items that nobody has got, in all its buffers together, owned
    /// by this process.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`], or as [`unbounded`](JoinableQueue::unbounded).
    pub fn bounded(capacity: usize) -> Result<JoinableQueue<T>, CreateError> {
        JoinableQueue::builder().capacity(capacity).build()
    }

    /// A queue with options, owned by this process.
    pub fn builder() -> QueueBuilder<JoinableQueue<T>> {
        QueueBuilder::new()
    }

    pub(super) fn delivery(&self, got: Got<T>) -> Delivery<T> {
        Delivery::new(got.value, self.handle.clone(), got.lease, got.attempts)
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
    /// [`TryPutError::Full`], or as [`put`](JoinableQueue::put).
    pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
        self.handle.put(item, Limit::Now).map_err(TryPutError::from)
    }

    /// Puts an item; waits at most this long while the queue is full.
    ///
    /// # Errors
    ///
    /// [`PutTimeoutError::Timeout`], or as [`put`](JoinableQueue::put).
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
    /// [`PutAllError`], with what [`put`](JoinableQueue::put) said of an item; that one and all behind it come back, those
    /// before it are put.
    pub fn put_all<I: IntoIterator<Item = T>>(
        &self,
        items: I,
    ) -> Result<(), PutAllError<I::IntoIter>> {
        self.handle.put_all(items.into_iter(), Limit::Forever)
    }

    /// As [`put_all`](JoinableQueue::put_all), but waits at most this long in all.
    ///
    /// # Errors
    ///
    /// As [`put_all`](JoinableQueue::put_all), and with [`PutTimeoutError::Timeout`] as the cause if the queue stayed full.
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
    /// is kept as a dead letter ([`dead_letters`](JoinableQueue::dead_letters)) and counts as done.
    pub fn get(&self) -> Result<Delivery<T>, GetError> {
        Ok(self.delivery(self.handle.get(Limit::Forever)?))
    }

    /// Gets the first item if there is one. In another process than the owner's it waits for the owner's
    /// answer, so that an item whose `put` returned before is found.
    ///
    /// # Errors
    ///
    /// [`TryGetError::Empty`], or as [`get`](JoinableQueue::get).
    pub fn try_get(&self) -> Result<Delivery<T>, TryGetError> {
        Ok(self.delivery(self.handle.get(Limit::Now)?))
    }

    /// Gets the first item; waits at most this long while the queue is empty.
    ///
    /// # Errors
    ///
    /// [`GetTimeoutError::Timeout`], or as [`get`](JoinableQueue::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Delivery<T>, GetTimeoutError> {
        Ok(self.delivery(self.handle.get(Limit::Within(timeout))?))
    }

    /// Gets at most `max` items, and at least one: waits while the queue is empty, then takes what is there at once.
    /// Faster than one by one. A `max` of 0 counts as 1.
    ///
    /// # Errors
    ///
    /// As [`get`](JoinableQueue::get). An item that does not decode is the error only if no other came with it; else it
    /// is logged and passed over.
    pub fn get_many(&self, max: usize) -> Result<Vec<Delivery<T>>, GetError> {
        let got = self.handle.get_many(max, Limit::Forever)?;
        Ok(got.into_iter().map(|got| self.delivery(got)).collect())
    }

    /// As [`get_many`](JoinableQueue::get_many), if there is an item.
    ///
    /// # Errors
    ///
    /// [`TryGetError::Empty`], or as [`get_many`](JoinableQueue::get_many).
    pub fn try_get_many(&self, max: usize) -> Result<Vec<Delivery<T>>, TryGetError> {
        let got = self.handle.get_many(max, Limit::Now)?;
        Ok(got.into_iter().map(|got| self.delivery(got)).collect())
    }

    /// As [`get_many`](JoinableQueue::get_many), but waits at most this long for the first item.
    ///
    /// # Errors
    ///
    /// [`GetTimeoutError::Timeout`], or as [`get_many`](JoinableQueue::get_many).
    pub fn get_many_timeout(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<Delivery<T>>, GetTimeoutError> {
        let got = self.handle.get_many(max, Limit::Within(timeout))?;
        Ok(got.into_iter().map(|got| self.delivery(got)).collect())
    }

    /// Batches of at most `max` items until the end of the queue, as [`get_many`](JoinableQueue::get_many) gives them.
    pub fn batches(&self, max: usize) -> JoinableBatches<'_, T> {
        JoinableBatches { queue: self, max }
    }

    /// Deliveries until the end of the queue, as [`get`](JoinableQueue::get) gives them. The iterator also
    /// ends when the owner is gone. An item that does not decode is logged and passed over: it is a dead letter now.
    /// While this process has no descriptors left for what comes, that is logged and waited for.
    pub fn iter(&self) -> JoinableIter<'_, T> {
        JoinableIter { queue: self }
    }
}

impl<T> JoinableQueue<T> {
    pub(crate) fn from_handle(handle: Handle) -> JoinableQueue<T> {
        JoinableQueue {
            handle,
            item: PhantomData,
        }
    }

    /// The same queue, for those who know that its items are of another type than is written here.
    pub(crate) fn retype<U>(self) -> JoinableQueue<U> {
        JoinableQueue::from_handle(self.handle)
    }

    /// Waits until every item that was put before is done, or a dead letter. Returns at once if none is unfinished.
    ///
    /// # Errors
    ///
    /// [`QueueJoinError::Disconnected`] if the owner is gone; [`QueueJoinError::Abandoned`] if items are
    /// unfinished, other processes have held the queue, and none of them is left.
    pub fn join(&self) -> Result<(), QueueJoinError> {
        match self.handle.join(Limit::Forever) {
            Ok(()) => Ok(()),
            Err(JoinEnd::Failed(error)) => Err(error),
            Err(JoinEnd::Timeout) => Err(QueueJoinError::Disconnected),
        }
    }

    /// As [`join`](JoinableQueue::join), but waits at most this long.
    ///
    /// # Errors
    ///
    /// [`QueueJoinTimeoutError::Timeout`], or as [`join`](JoinableQueue::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), QueueJoinTimeoutError> {
        match self.handle.join(Limit::Within(timeout)) {
            Ok(()) => Ok(()),
            Err(JoinEnd::Failed(error)) => Err(error.into()),
            Err(JoinEnd::Timeout) => Err(QueueJoinTimeoutError::Timeout),
        }
    }

    /// Says that the work is done on the oldest item that this process took out of its delivery
    /// ([`Delivery::into_inner`]), as Python's `task_done` does. A [`Delivery`] has its own `task_done`,
    /// which cannot be called too often.
    ///
    /// # Errors
    ///
    /// [`TaskDoneError::TooMany`] if there is no such item; nothing is changed then.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        self.handle.task_done()
    }

    /// Ends the queue for all processes: puts fail from now on, gets give what is still in it, then
    /// [`GetError::Closed`]. Closing twice changes nothing. In another process than the owner's it waits for the owner's
    /// answer, as long as that lives: so no put succeeds after it.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Ends the queue for all processes and drops the items that nobody has got: how many that were. What is
    /// delivered and not done stays with its consumer; if it comes back, it is dropped too.
    pub fn close_now(&self) -> usize {
        self.handle.close_now()
    }

    /// The items that nobody gets any more, oldest first: those that did not decode, and those that were delivered
    /// [`max_deliveries`](QueueBuilder::max_deliveries) times and never done. Each can be read, redelivered or discarded.
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

    /// The most untaken items that it holds; `None` for no limit.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.handle.capacity()
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> JoinableQueue<T> {
        JoinableQueue {
            handle: self.handle.clone(),
            item: PhantomData,
        }
    }
}

impl<T> JoinableQueue<T> {
    /// For a selector; `None` if it cannot be reached, which `get` says at once.
    pub(crate) fn target(&self) -> Option<Arc<dyn EventSource>> {
        self.handle.target()
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt::<T>("JoinableQueue", f)
    }
}

impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize::<T, D>(true, deserializer)?;
        Ok(JoinableQueue {
            handle,
            item: PhantomData,
        })
    }
}

/// The deliveries of a [`JoinableQueue`], from [`JoinableQueue::iter`]. Dropping it leaves the rest in
/// the queue.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = JoinableQueue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close();
/// let mut seen = 0;
/// for job in &queue {
///     seen += *job;
///     job.task_done();
/// }
/// assert_eq!(seen, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JoinableIter<'a, T> {
    queue: &'a JoinableQueue<T>,
}

impl<T: Serialize + DeserializeOwned> Iterator for JoinableIter<'_, T> {
    type Item = Delivery<T>;

    fn next(&mut self) -> Option<Delivery<T>> {
        until_the_end(|| self.queue.get())
    }
}

impl<'a, T: Serialize + DeserializeOwned> IntoIterator for &'a JoinableQueue<T> {
    type Item = Delivery<T>;
    type IntoIter = JoinableIter<'a, T>;

    fn into_iter(self) -> JoinableIter<'a, T> {
        self.iter()
    }
}

/// Batches of a [`JoinableQueue`], from [`JoinableQueue::batches`]. Dropping it leaves the rest in the queue.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = JoinableQueue::unbounded()?;
/// queue.put_all(1..=10)?;
/// queue.close();
/// let mut total = 0;
/// for batch in queue.batches(4) {
///     let sum: u32 = batch.iter().map(|job| **job).sum();
///     batch.into_iter().for_each(offspring::Delivery::task_done);
///     total += sum;
/// }
/// assert_eq!(total, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JoinableBatches<'a, T> {
    queue: &'a JoinableQueue<T>,
    max: usize,
}

impl<T: Serialize + DeserializeOwned> Iterator for JoinableBatches<'_, T> {
    type Item = Vec<Delivery<T>>;

    fn next(&mut self) -> Option<Vec<Delivery<T>>> {
        until_the_end(|| self.queue.get_many(self.max))
    }
}
