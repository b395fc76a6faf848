//! How long an operation on a queue may wait, and how it ends without what it was called for.

use std::time::{Duration, Instant};

use crate::error::{EncodeError, GetError, HandleError, OrElapsed, PutError, QueueJoinError};
use crate::ipc::hub;
use crate::ipc::wire::Retry;
use crate::queue::client::attachment::RemoteEnd;
use crate::queue::owner::state::Over;

/// The longest wait for the answer of an owner in another process, for calls that do not block in
/// the owner's own: `try_put`, `try_get`, `try_get_many`, `len`, `is_empty`, `is_full`, `is_closed`,
/// `close` and `close_and_discard`. An owner that runs answers in microseconds.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long an operation may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Forever,
    /// Not for other users of the queue, but for the owner's answer: [`ANSWER_WITHIN`].
    Now,
    Within(Duration),
    Until(Option<Instant>),
}

impl Limit {
    #[inline]
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Forever => None,
            Limit::Now => Some(Instant::now()),
            // A deadline that the clock cannot express is never reached.
            Limit::Within(timeout) => Instant::now().checked_add(timeout),
            Limit::Until(deadline) => deadline,
        }
    }
}

/// Why an item was not put.
pub(crate) enum Refused {
    Encode(EncodeError),
    End(RemoteEnd),
}

impl Refused {
    /// The error that gives the item back.
    #[cold]
    pub(crate) fn with<T>(self, item: T) -> OrElapsed<PutError<T>, T> {
        OrElapsed::Error(match self {
            Refused::Encode(error) => {
                // Handles that were already encoded have no receiver now.
                hub::announce();
                PutError::Encode(item, error)
            }
            Refused::End(RemoteEnd::Over(Over::Closed)) => PutError::Closed(item),
            Refused::End(RemoteEnd::Over(Over::Abandoned(_))) => PutError::Abandoned(item),
            Refused::End(RemoteEnd::Over(_)) => return OrElapsed::Elapsed(item),
            Refused::End(RemoteEnd::Gone) => PutError::Disconnected(item),
            Refused::End(RemoteEnd::Handle(error)) => PutError::Handle(item, error),
        })
    }
}

impl From<RemoteEnd> for OrElapsed<GetError> {
    fn from(end: RemoteEnd) -> Self {
        OrElapsed::Error(match end {
            RemoteEnd::Over(Over::Timeout) => return OrElapsed::Elapsed(()),
            RemoteEnd::Over(Over::Closed) => GetError::Closed,
            RemoteEnd::Over(Over::Abandoned(_)) => GetError::Abandoned,
            RemoteEnd::Over(Over::NoMemory) => GetError::Handle(HandleError::Io {
                act: "map the item",
                message: "no memory or no descriptor is left".to_owned(),
            }),
            RemoteEnd::Gone => GetError::Disconnected,
            RemoteEnd::Handle(error) => GetError::Handle(error),
        })
    }
}

impl From<RemoteEnd> for OrElapsed<QueueJoinError> {
    fn from(end: RemoteEnd) -> Self {
        OrElapsed::Error(match end {
            RemoteEnd::Over(Over::Timeout) => return OrElapsed::Elapsed(()),
            RemoteEnd::Over(Over::Abandoned(unfinished)) => {
                QueueJoinError::Abandoned { unfinished }
            }
            RemoteEnd::Over(Over::Closed | Over::NoMemory) | RemoteEnd::Gone => {
                QueueJoinError::Disconnected
            }
            RemoteEnd::Handle(error) => QueueJoinError::Handle(error),
        })
    }
}

/// The next item of an iterator, which has no errors: it ends with the queue, and skips what does not
/// decode.
pub(super) fn until_end<T>(mut get: impl FnMut() -> Result<T, GetError>) -> Option<T> {
    let mut retry = Retry::default();
    loop {
        match get() {
            Ok(got) => return Some(got),
            Err(GetError::Decode(error)) => {
                log::error!(target: "offspring::queue", "skipped an item: {error}");
            }
            Err(error @ GetError::Handle(HandleError::Io { .. })) => retry.pause(&error),
            Err(_) => return None,
        }
    }
}
