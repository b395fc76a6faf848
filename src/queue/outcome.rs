//! How operations on a queue end without what was asked for, and how long they may wait for it.

use std::time::{Duration, Instant};

use crate::error::{
    GetError, GetTimeoutError, HandleError, PutError, PutTimeoutError, QueueJoinError, TryGetError,
    TryPutError,
};
use crate::ipc::wire::Retry;
use crate::queue::client::attachment::RemoteEnd;
use crate::queue::owner::state::Over;

/// How long an operation may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Forever,
    /// Not for others; a queue of another process is still asked.
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
            // A deadline that the clock cannot express is none.
            Limit::Within(timeout) => Instant::now().checked_add(timeout),
            Limit::Until(deadline) => deadline,
        }
    }
}

/// Why an operation ended without what was asked for. Of the three forms each names the first in its own
/// word, or cannot meet it: a wait without a limit does not run out of time.
#[derive(Debug)]
pub(crate) enum PutEnd<T> {
    Full(T),
    Failed(PutError<T>),
}

impl<T> PutEnd<T> {
    pub(crate) fn of(item: T, end: RemoteEnd) -> PutEnd<T> {
        PutEnd::Failed(match end {
            RemoteEnd::Over(Over::Closed) => PutError::Closed(item),
            RemoteEnd::Over(Over::Abandoned(_)) => PutError::Abandoned(item),
            RemoteEnd::Over(_) => return PutEnd::Full(item),
            RemoteEnd::Gone => PutError::Disconnected(item),
            RemoteEnd::Handle(error) => PutError::Handle(item, error),
        })
    }

    /// The item, and the end without it.
    pub(crate) fn split(self) -> (T, PutEnd<()>) {
        match self {
            PutEnd::Full(item) => (item, PutEnd::Full(())),
            PutEnd::Failed(error) => {
                let (item, error) = error.split();
                (item, PutEnd::Failed(error))
            }
        }
    }
}

impl<T> From<PutEnd<T>> for PutError<T> {
    fn from(end: PutEnd<T>) -> Self {
        match end {
            PutEnd::Failed(error) => error,
            PutEnd::Full(item) => PutError::Disconnected(item),
        }
    }
}

impl<T> From<PutEnd<T>> for TryPutError<T> {
    fn from(end: PutEnd<T>) -> Self {
        match end {
            PutEnd::Failed(error) => error.into(),
            PutEnd::Full(item) => TryPutError::Full(item),
        }
    }
}

impl<T> From<PutEnd<T>> for PutTimeoutError<T> {
    fn from(end: PutEnd<T>) -> Self {
        match end {
            PutEnd::Failed(error) => error.into(),
            PutEnd::Full(item) => PutTimeoutError::Timeout(item),
        }
    }
}

#[derive(Debug)]
pub(crate) enum GetEnd {
    Empty,
    Failed(GetError),
}

/// What an iterator gives: it ends with the queue only, and cannot tell of other errors.
pub(super) fn until_the_end<T>(mut get: impl FnMut() -> Result<T, GetError>) -> Option<T> {
    let mut retry = Retry::default();
    loop {
        match get() {
            Ok(got) => return Some(got),
            Err(GetError::Decode(error)) => {
                log::error!(target: "offspring::queue", "an item was passed over: {error}")
            }
            Err(error @ GetError::Handle(HandleError::Io { .. })) => retry.pause(&error),
            Err(_) => return None,
        }
    }
}

impl From<RemoteEnd> for GetEnd {
    fn from(end: RemoteEnd) -> Self {
        GetEnd::Failed(match end {
            RemoteEnd::Over(Over::Timeout) => return GetEnd::Empty,
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

impl From<GetEnd> for GetError {
    fn from(end: GetEnd) -> Self {
        match end {
            GetEnd::Failed(error) => error,
            GetEnd::Empty => GetError::Disconnected,
        }
    }
}

impl From<GetEnd> for TryGetError {
    fn from(end: GetEnd) -> Self {
        match end {
            GetEnd::Failed(error) => error.into(),
            GetEnd::Empty => TryGetError::Empty,
        }
    }
}

impl From<GetEnd> for GetTimeoutError {
    fn from(end: GetEnd) -> Self {
        match end {
            GetEnd::Failed(error) => error.into(),
            GetEnd::Empty => GetTimeoutError::Timeout,
        }
    }
}

#[derive(Debug)]
pub(crate) enum JoinEnd {
    Timeout,
    Failed(QueueJoinError),
}

impl From<RemoteEnd> for JoinEnd {
    fn from(end: RemoteEnd) -> Self {
        JoinEnd::Failed(match end {
            RemoteEnd::Over(Over::Timeout) => return JoinEnd::Timeout,
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
