//! How an operation on a queue ends, above all if it does not do what it was called for.
//!
//! A wait ends with a [`WaitEnd`]: the time is over, or the queue failed the call with a
//! [`QueueFailure`]. Each public form of the operation turns that into its own error.

use std::io;
use std::time::Duration;

use crate::diagnostics;
use crate::error::{EncodeError, GetError, HandleError, PutError, QueueJoinError};
use crate::ipc::deadline::{Elapsed, WaitEnd};
use crate::ipc::hub;
use crate::ipc::wire::{Failure, Retry};

/// The longest wait for the answer of an owner in another process. It applies to calls that do not
/// block in the owner's own process: `try_put`, `try_get`, `try_get_many`, `len`, `is_empty`,
/// `is_full`, `is_closed`, `close` and `close_and_discard`; and to an actor's address, which asks
/// the actor's host through a queue. An owner that is running answers in microseconds.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How many items of a queue were given up, returned by
/// [`JoinableQueue::join`](crate::JoinableQueue::join).
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::builder().max_deliveries(1).build()?;
/// jobs.put_all(1..=2)?;
/// drop(jobs.get()?); // not finished, and not delivered again
/// jobs.get()?.task_done();
/// assert_eq!(jobs.join()?.dead_letters(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueJoined {
    pub(in crate::queue) dead_letters: usize,
}

impl QueueJoined {
    /// Returns the number of items that had become [dead letters](crate::JoinableQueue::dead_letters), and
    /// were neither redelivered nor discarded, when the queue had no unfinished items.
    #[must_use]
    pub fn dead_letters(self) -> usize {
        self.dead_letters
    }
}

/// Why a queue cannot do what it was asked for, now or ever.
#[derive(Debug)]
pub(in crate::queue) enum QueueFailure {
    Closed,
    /// No process is left that could put, or take. Holds the number of remaining items.
    Abandoned(usize),
    /// The owner has ended, or violates the protocol.
    Gone,
    Handle(HandleError),
}

impl QueueFailure {
    pub(in crate::queue) fn io(act: &'static str, message: impl ToString) -> QueueFailure {
        let message = message.to_string();
        QueueFailure::Handle(HandleError::Io { act, message })
    }

    /// The system refused a resource that a waiting task needs.
    #[cfg(feature = "async")]
    pub(in crate::queue) fn unregistered(error: io::Error) -> QueueFailure {
        QueueFailure::io("wait for the queue", error)
    }
}

impl From<Failure> for QueueFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone => QueueFailure::Gone,
            failure => QueueFailure::io("reach the queue's owner", failure.into_io()),
        }
    }
}

impl From<io::Error> for QueueFailure {
    fn from(error: io::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Returns the error of a call that waited only for the answer of the owner, which is process
/// `pid`.
pub(in crate::queue) fn or_unresponsive(
    end: WaitEnd<Elapsed, QueueFailure>,
    pid: u32,
) -> QueueFailure {
    match end {
        WaitEnd::Timeout(Elapsed) => QueueFailure::Handle(HandleError::Unresponsive { pid }),
        WaitEnd::Failed(failure) => failure,
    }
}

/// Why an item was not put.
#[derive(Debug)]
pub(in crate::queue) enum PutFailure {
    Encode(EncodeError),
    Queue(QueueFailure),
}

impl From<QueueFailure> for PutFailure {
    fn from(failure: QueueFailure) -> Self {
        PutFailure::Queue(failure)
    }
}

impl PutFailure {
    /// Makes the public error, which returns the item.
    #[cold]
    pub(in crate::queue) fn with<T>(self, item: T) -> PutError<T> {
        match self {
            PutFailure::Encode(error) => {
                // No process will receive the handles in it that were encoded before the error.
                hub::announce();
                PutError::Encode(item, error)
            }
            PutFailure::Queue(QueueFailure::Closed) => PutError::Closed(item),
            PutFailure::Queue(QueueFailure::Abandoned(_)) => PutError::Abandoned(item),
            PutFailure::Queue(QueueFailure::Gone) => PutError::Disconnected(item),
            PutFailure::Queue(QueueFailure::Handle(error)) => PutError::Handle(item, error),
        }
    }
}

/// Adds the item to the end of a put that could time out: the public error returns it.
#[cold]
pub(in crate::queue) fn with_item<T>(
    end: WaitEnd<Elapsed, PutFailure>,
    item: T,
) -> WaitEnd<T, PutError<T>> {
    match end {
        WaitEnd::Timeout(Elapsed) => WaitEnd::Timeout(item),
        WaitEnd::Failed(failure) => WaitEnd::Failed(failure.with(item)),
    }
}

impl From<QueueFailure> for GetError {
    fn from(failure: QueueFailure) -> Self {
        match failure {
            QueueFailure::Closed => GetError::Closed,
            QueueFailure::Abandoned(_) => GetError::Abandoned,
            QueueFailure::Gone => GetError::Disconnected,
            QueueFailure::Handle(error) => GetError::Handle(error),
        }
    }
}

impl From<QueueFailure> for QueueJoinError {
    fn from(failure: QueueFailure) -> Self {
        match failure {
            QueueFailure::Abandoned(unfinished) => QueueJoinError::Abandoned { unfinished },
            QueueFailure::Closed | QueueFailure::Gone => QueueJoinError::Disconnected,
            QueueFailure::Handle(error) => QueueJoinError::Handle(error),
        }
    }
}

/// For questions about the queue itself, which a closed or abandoned queue answers as well.
impl From<QueueFailure> for HandleError {
    fn from(failure: QueueFailure) -> Self {
        match failure {
            QueueFailure::Handle(error) => error,
            QueueFailure::Closed | QueueFailure::Abandoned(_) | QueueFailure::Gone => {
                HandleError::Disconnected
            }
        }
    }
}

/// Returns the next item of an iterator, which has no errors: it ends with the queue, and skips
/// items that do not decode. Those are dead letters, which the owner of the queue reports.
pub(in crate::queue) fn until_end<T>(mut get: impl FnMut() -> Result<T, GetError>) -> Option<T> {
    let mut retry = Retry::default();
    loop {
        match get() {
            Ok(got) => return Some(got),
            Err(GetError::Decode(error)) => {
                diagnostics::error("offspring::queue", format_args!("skipped an item: {error}"));
            }
            Err(error @ GetError::Handle(HandleError::Io { .. })) => retry.pause(&error),
            Err(GetError::Handle(error)) if !error.is_end() => {
                let text = format_args!("a loop over a queue ended before the queue: {error}");
                diagnostics::loss("offspring::queue", 1, text);
                return None;
            }
            Err(_) => return None,
        }
    }
}
