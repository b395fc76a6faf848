//! The methods that `Queue` and `JoinableQueue` share.

/// Implements the methods and traits that both kinds of queue have. `$item` is what `get` returns.
/// The type's own `receive` makes one from a decoded item.
macro_rules! queue_methods {
    ($queue:ident, joinable: $joinable:literal, $item:ty, $iter:ident, $into_iter:ident, $batches:ident) => {
        impl<T: Serialize + DeserializeOwned> $queue<T> {
            /// Creates an unbounded queue, owned by this process.
            ///
            /// # Errors
            ///
            /// [`CreateError::Io`] if the system refuses a resource.
            pub fn unbounded() -> Result<$queue<T>, CreateError> {
                $queue::builder().build()
            }

            /// Creates a queue, owned by this process, that holds at most `capacity` items in all
            /// its buffers together. Items that a consumer has taken do not count.
            ///
            /// # Errors
            ///
            /// [`CreateError::ZeroCapacity`], and the errors of [`unbounded`](Self::unbounded).
            pub fn bounded(capacity: usize) -> Result<$queue<T>, CreateError> {
                $queue::builder().capacity(capacity).build()
            }

            /// Returns a builder for a queue with options.
            pub fn builder() -> QueueBuilder<$queue<T>> {
                QueueBuilder::new()
            }

            /// Puts an item at the end of the queue; blocks while the queue is full. An item whose
            /// `put` has returned survives the death of this process.
            ///
            /// # Errors
            ///
            /// Returns a [`PutError`], which holds the item, if the queue is closed, if its owner
            /// process has ended, if it is full and no process is left that could take an item, or
            /// if the item does not encode.
            pub fn put(&self, item: T) -> Result<(), PutError<T>> {
                let put = self.handle.put(&item, &Forever);
                put.map_err(|end| end.into_failed().with(item))
            }

            /// Puts an item at the end of the queue if the queue is not full.
            ///
            /// Outside the owner process, "full" is the owner's answer, for which the call waits at
            /// most a second. If no answer comes, the item has not been put and never will be.
            ///
            /// # Errors
            ///
            /// [`TryPutError::Full`]; [`TryPutError::Handle`] with [`HandleError::Unresponsive`] if
            /// the owner does not answer; and the errors of [`put`](Self::put).
            pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
                let put = self.handle.try_put(&item);
                put.map_err(|end| with_item(end, item).into())
            }

            /// Like [`put`](Self::put), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`PutTimeoutError::Timeout`], and the errors of [`put`](Self::put).
            pub fn put_timeout(
                &self,
                item: T,
                timeout: Duration,
            ) -> Result<(), PutTimeoutError<T>> {
                let put = self.handle.put(&item, &Deadline::after(timeout));
                put.map_err(|end| with_item(end, item).into())
            }

            /// Puts all items of an iterator, in batches; blocks while the queue is full. This is
            /// faster than one `put` per item.
            ///
            /// Up to 64 items are pulled from the iterator before they are put. If the iterator
            /// itself blocks, use [`put`](Self::put) instead.
            ///
            /// # Errors
            ///
            /// Returns a [`PutAllError`] with the cause. The items before the one that failed have
            /// been put; the error holds that one and the rest.
            pub fn put_all<I: IntoIterator<Item = T>>(
                &self,
                items: I,
            ) -> Result<(), PutAllError<I::IntoIter>> {
                self.handle.put_all(items.into_iter(), &Deadline::never())
            }

            /// Like [`put_all`](Self::put_all), but blocks for at most `timeout` in total.
            ///
            /// # Errors
            ///
            /// A [`PutAllError`], whose cause is [`PutTimeoutError::Timeout`] if the queue stayed
            /// full.
            pub fn put_all_timeout<I: IntoIterator<Item = T>>(
                &self,
                items: I,
                timeout: Duration,
            ) -> Result<(), PutAllError<I::IntoIter>> {
                self.handle.put_all(items.into_iter(), &Deadline::after(timeout))
            }

            /// Takes the first item; blocks while the queue is empty.
            ///
            /// # Errors
            ///
            /// [`GetError::Closed`] and [`GetError::Abandoned`] at the end of the queue;
            /// [`GetError::Disconnected`] if its owner process has ended; [`GetError::Decode`] for
            /// an item that does not decode, which becomes a [dead letter](Self::dead_letters).
            pub fn get(&self) -> Result<$item, GetError> {
                let got = self.handle.get(&Forever).map_err(WaitEnd::into_failed);
                got.map(|got| self.receive(got))
            }

            /// Takes the first item if the queue is not empty.
            ///
            /// Outside the owner process, "empty" is the owner's answer, so an item whose `put`
            /// returned before this call is found. The call waits at most a second for the answer.
            ///
            /// # Errors
            ///
            /// [`TryGetError::Empty`]; [`TryGetError::Handle`] with [`HandleError::Unresponsive`]
            /// if the owner does not answer; and the errors of [`get`](Self::get).
            pub fn try_get(&self) -> Result<$item, TryGetError> {
                Ok(self.receive(self.handle.try_get()?))
            }

            /// Like [`get`](Self::get), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`GetTimeoutError::Timeout`], and the errors of [`get`](Self::get).
            pub fn get_timeout(&self, timeout: Duration) -> Result<$item, GetTimeoutError> {
                Ok(self.receive(self.handle.get(&Deadline::after(timeout))?))
            }

            /// Takes at least one and at most `max` items: blocks while the queue is empty, then
            /// takes what is immediately available. This is faster than one `get` per item. A `max`
            /// of 0 counts as 1.
            ///
            /// # Errors
            ///
            /// The errors of [`get`](Self::get). An item that does not decode is an error only if
            /// no other item was taken with it; otherwise it is logged and skipped.
            pub fn get_many(&self, max: usize) -> Result<Vec<$item>, GetError> {
                let got = self.handle.get_many(max, &Forever);
                let got = got.map_err(WaitEnd::into_failed);
                got.map(|got| self.receive_all(got))
            }

            /// Like [`get_many`](Self::get_many), but does not block while the queue is empty.
            /// Outside the owner process, it waits for the owner's answer as
            /// [`try_get`](Self::try_get) does.
            ///
            /// # Errors
            ///
            /// [`TryGetError::Empty`], and the errors of [`get_many`](Self::get_many).
            pub fn try_get_many(&self, max: usize) -> Result<Vec<$item>, TryGetError> {
                Ok(self.receive_all(self.handle.try_get_many(max)?))
            }

            /// Like [`get_many`](Self::get_many), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`GetTimeoutError::Timeout`], and the errors of [`get_many`](Self::get_many).
            pub fn get_many_timeout(
                &self,
                max: usize,
                timeout: Duration,
            ) -> Result<Vec<$item>, GetTimeoutError> {
                Ok(self.receive_all(self.handle.get_many(max, &Deadline::after(timeout))?))
            }

            /// Returns an iterator over batches of at most `max` items, taken with
            /// [`get_many`](Self::get_many), that ends as [`iter`](Self::iter) does.
            pub fn batches(&self, max: usize) -> $batches<'_, T> {
                $batches { queue: self, max }
            }

            /// Returns an iterator that takes items with [`get`](Self::get) until the end of the
            /// queue, or until its owner process ends.
            ///
            /// An item that does not decode is skipped; it is a [dead letter](Self::dead_letters),
            /// which the owner process logs, or writes to standard error if it has no logger. If
            /// this process runs out of descriptors, that is logged and the iterator tries again.
            pub fn iter(&self) -> $iter<'_, T> {
                $iter { queue: self }
            }

            fn receive_all(&self, got: Vec<Got<T>>) -> Vec<$item> {
                got.into_iter().map(|got| self.receive(got)).collect()
            }
        }

        impl<T> $queue<T> {
            pub(in crate::queue) fn from_handle(handle: Handle) -> $queue<T> {
                $queue { handle, item: PhantomData }
            }

            /// Closes the queue for all processes: every later `put` fails, and `get` returns the
            /// remaining items, then [`GetError::Closed`]. Closing a closed queue does nothing.
            ///
            /// Outside the owner process, this waits at most a second for the owner's answer. Once
            /// it has returned `Ok`, no `put` succeeds anywhere.
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer: it closes the queue when
            /// it runs again. If the owner has ended, that is not an error, because its queue is
            /// closed.
            pub fn close(&self) -> Result<(), HandleError> {
                self.handle.close()
            }

            /// Closes the queue for all processes, drops the items that no consumer has taken, and
            /// returns how many it dropped. A delivery that comes back to the queue later is
            /// dropped as well.
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer within a second: it
            /// closes the queue and drops the items when it runs again.
            /// [`HandleError::Disconnected`] if it has ended.
            pub fn close_and_discard(&self) -> Result<usize, HandleError> {
                self.handle.close_and_discard()
            }

            /// Returns the [dead letters](DeadLetter) of the queue, oldest first. Each can be
            /// inspected, redelivered or discarded.
            ///
            /// They are kept in the owner process and can be listed only there: dead letters are
            /// for the program that is in charge of the queue, not for its consumers.
            ///
            /// # Errors
            ///
            /// [`DeadLetterError::NotOwner`] in any other process.
            pub fn dead_letters(&self) -> Result<Vec<DeadLetter<T>>, DeadLetterError> {
                self.handle.dead_letters()
            }

            /// Returns whether the queue was closed or its owner process has ended. Outside the
            /// owner process, this waits at most a second for the owner's answer.
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer.
            pub fn is_closed(&self) -> Result<bool, HandleError> {
                self.handle.is_closed()
            }

            /// Returns the number of items that were put and not taken, in all buffers.
            ///
            /// In the owner process, this is exact. Elsewhere it is the owner's answer, for which
            /// the call waits at most a second, and which may be outdated when it arrives.
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer, and
            /// [`HandleError::Disconnected`] if it has ended.
            pub fn len(&self) -> Result<usize, HandleError> {
                self.handle.len()
            }

            /// Returns whether [`len`](Self::len) is 0.
            ///
            /// # Errors
            ///
            /// The errors of [`len`](Self::len).
            pub fn is_empty(&self) -> Result<bool, HandleError> {
                self.len().map(|length| length == 0)
            }

            /// Returns whether a `try_put` would find the queue full. Always false for an unbounded
            /// queue.
            ///
            /// # Errors
            ///
            /// The errors of [`len`](Self::len).
            pub fn is_full(&self) -> Result<bool, HandleError> {
                match self.capacity() {
                    None => Ok(false),
                    Some(capacity) => self.len().map(|length| length >= capacity),
                }
            }

            /// Returns the maximum number of untaken items, or `None` if the queue is unbounded.
            #[must_use]
            pub fn capacity(&self) -> Option<usize> {
                self.handle.capacity()
            }

            /// Returns the event source of a selector, or `None` if the owner cannot be reached;
            /// `get` then returns at once with the error.
            pub(crate) fn target(&self) -> Option<Arc<dyn EventSource>> {
                self.handle.event_source()
            }
        }

        impl<T> Clone for $queue<T> {
            fn clone(&self) -> $queue<T> {
                $queue::from_handle(self.handle.clone())
            }
        }

        impl<T> fmt::Debug for $queue<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.handle.fmt::<T>(stringify!($queue), f)
            }
        }

        impl<T> Serialize for $queue<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.handle.serialize(serializer)
            }
        }

        impl<'de, T> Deserialize<'de> for $queue<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Handle::deserialize::<T, D>($joinable, Role::Both, deserializer)
                    .map($queue::from_handle)
            }
        }

        impl<T: Serialize + DeserializeOwned> Iterator for $iter<'_, T> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                until_end(|| self.queue.get())
            }
        }

        impl<T: Serialize + DeserializeOwned> Iterator for $into_iter<T> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                until_end(|| self.queue.get())
            }
        }

        impl<T: Serialize + DeserializeOwned> Iterator for $batches<'_, T> {
            type Item = Vec<$item>;

            fn next(&mut self) -> Option<Vec<$item>> {
                until_end(|| self.queue.get_many(self.max))
            }
        }

        impl<'a, T: Serialize + DeserializeOwned> IntoIterator for &'a $queue<T> {
            type Item = $item;
            type IntoIter = $iter<'a, T>;

            fn into_iter(self) -> $iter<'a, T> {
                self.iter()
            }
        }

        impl<T: Serialize + DeserializeOwned> IntoIterator for $queue<T> {
            type Item = $item;
            type IntoIter = $into_iter<T>;

            fn into_iter(self) -> $into_iter<T> {
                $into_iter { queue: self }
            }
        }
    };
}

pub(super) use queue_methods;
