//! What the one-way handles have in common: `Producer`, `Consumer` and `Control`, and those of
//! `JoinableQueue`. Each holds a queue whose handle has only that role.

/// Implements for one handle what all of them can do: be cloned, shown and sent, and return how
/// full the queue is.
macro_rules! one_way {
    ($handle:ident, $queue:ident, $joinable:literal, $role:expr) => {
        impl<T> $handle<T> {
            #[doc = concat!("Like [`", stringify!($queue), "::is_closed`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer.
            pub fn is_closed(&self) -> Result<bool, HandleError> {
                self.queue.is_closed()
            }

            #[doc = concat!("Like [`", stringify!($queue), "::len`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer, and
            /// [`HandleError::Disconnected`] if it has ended.
            pub fn len(&self) -> Result<usize, HandleError> {
                self.queue.len()
            }

            /// Returns whether [`len`](Self::len) is 0.
            ///
            /// # Errors
            ///
            /// The errors of [`len`](Self::len).
            pub fn is_empty(&self) -> Result<bool, HandleError> {
                self.queue.is_empty()
            }

            #[doc = concat!("Like [`", stringify!($queue), "::is_full`].")]
            ///
            /// # Errors
            ///
            /// The errors of [`len`](Self::len).
            pub fn is_full(&self) -> Result<bool, HandleError> {
                self.queue.is_full()
            }

            /// Returns the maximum number of untaken items, or `None` if the queue is unbounded.
            #[must_use]
            pub fn capacity(&self) -> Option<usize> {
                self.queue.capacity()
            }
        }

        impl<T> Clone for $handle<T> {
            fn clone(&self) -> $handle<T> {
                $handle { queue: self.queue.clone() }
            }
        }

        impl<T> fmt::Debug for $handle<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.queue.handle.fmt::<T>(stringify!($handle), f)
            }
        }

        impl<T> Serialize for $handle<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.queue.serialize(serializer)
            }
        }

        impl<'de, T> Deserialize<'de> for $handle<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let handle = Handle::deserialize::<T, D>($joinable, $role, deserializer)?;
                Ok($handle { queue: $queue::from_handle(handle) })
            }
        }
    };
}

/// Implements what producers and controls can do: close the queue, and read its dead letters.
macro_rules! closing {
    ($handle:ident, $queue:ident) => {
        impl<T> $handle<T> {
            #[doc = concat!("Closes the queue for all processes, like [`", stringify!($queue), "::close`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer within a second: it
            /// closes the queue when it runs again.
            pub fn close(&self) -> Result<(), HandleError> {
                self.queue.close()
            }

            /// Closes the queue for all processes, drops the items that no consumer has taken, and
            #[doc = concat!("returns how many those were, like [`", stringify!($queue), "::close_and_discard`].")]
            ///
            /// # Errors
            ///
            /// [`HandleError::Unresponsive`] if the owner does not answer within a second, and
            /// [`HandleError::Disconnected`] if it has ended.
            pub fn close_and_discard(&self) -> Result<usize, HandleError> {
                self.queue.close_and_discard()
            }

            /// Returns the [dead letters](DeadLetter) of the queue, oldest first, in the process
            /// that made it.
            ///
            /// # Errors
            ///
            /// [`DeadLetterError::NotOwner`] in any other process.
            pub fn dead_letters(&self) -> Result<Vec<DeadLetter<T>>, DeadLetterError> {
                self.queue.dead_letters()
            }
        }
    };
}

/// Implements what producers and controls of a `JoinableQueue` can do: join it.
macro_rules! joining {
    ($handle:ident) => {
        impl<T> $handle<T> {
            /// Blocks until every item that was put before this call is finished or a dead letter,
            /// like [`JoinableQueue::join`].
            ///
            /// # Errors
            ///
            /// - [`QueueJoinError::Abandoned`] if items are unfinished, and no consumer is left and
            ///   none on its way;
            /// - [`QueueJoinError::Disconnected`] if the owner process has ended.
            pub fn join(&self) -> Result<QueueJoined, QueueJoinError> {
                self.queue.join()
            }

            /// Like [`join`](Self::join), but blocks for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`QueueJoinTimeoutError::Timeout`], and the errors of [`join`](Self::join).
            pub fn join_timeout(
                &self,
                timeout: Duration,
            ) -> Result<QueueJoined, QueueJoinTimeoutError> {
                self.queue.join_timeout(timeout)
            }
        }

        #[cfg(feature = "async")]
        impl<T: Serialize + DeserializeOwned> $handle<T> {
            /// Like [`join`](Self::join), but does not block the thread. Needs the feature `async`,
            /// and works with every executor.
            ///
            /// # Errors
            ///
            /// The errors of [`join`](Self::join).
            pub async fn join_async(&self) -> Result<QueueJoined, QueueJoinError> {
                self.queue.join_async().await
            }
        }
    };
}

pub(super) use {closing, joining, one_way};
