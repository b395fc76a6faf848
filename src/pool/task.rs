//! One submitted task, as its submitter sees it.

use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "async")]
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{TaskError, TaskTimeoutError};
use crate::ipc::reactor;
use crate::ipc::wire;
use crate::pool::batch::{Cancelled, Chunk, Left, Other, Outcomes, Sink};
use crate::pool::shared::Shared;
use crate::sys::{self, lock};

/// A task that was submitted to a [`Pool`](crate::Pool) and gives a `T`.
///
/// Dropping it changes nothing for the task: it runs, and its output is thrown away. [`cancel`](Task::cancel) ends it.
///
/// ```
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let task = pool.submit(square::new(12))?;
///     let other = pool.submit(square::new(3))?;
///     other.cancel(); // or it was faster
///     assert_eq!(task.join()?, 144);
///     Ok(())
/// }
/// ```
#[must_use = "dropping it leaves the task to run; `join` waits for its output"]
pub struct Task<T> {
    shared: Arc<Shared>,
    name: &'static str,
    sink: Arc<One>,
    output: PhantomData<fn() -> T>,
}

/// Where one task's outcome goes.
#[derive(Debug, Default)]
pub(super) struct One {
    outcome: Mutex<OneOutcome>,
    ended: Condvar,
    cancelled: Cancelled,
}

#[derive(Debug, Default)]
enum OneOutcome {
    #[default]
    Unknown,
    /// Not here, and somebody waits until it is, asleep or with a waker: waking nobody costs a system call too.
    Awaited(Vec<Waker>),
    Here(Chunk),
    Taken,
}

impl OneOutcome {
    fn is_open(&self) -> bool {
        matches!(self, OneOutcome::Unknown | OneOutcome::Awaited(_))
    }

    /// Somebody waits; gives the wakers of those who do not sleep. Called while it is open.
    fn awaited(&mut self) -> &mut Vec<Waker> {
        if !matches!(self, OneOutcome::Awaited(_)) {
            *self = OneOutcome::Awaited(Vec::new());
        }
        match self {
            OneOutcome::Awaited(wakers) => wakers,
            _ => unreachable!("it was set above"),
        }
    }
}

impl Sink for One {
    fn deliver(&self, chunk: Chunk) {
        let before = std::mem::replace(&mut *lock(&self.outcome), OneOutcome::Here(chunk));
        if let OneOutcome::Awaited(wakers) = before {
            self.ended.notify_all();
            reactor::wake_all(wakers);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

impl One {
    fn wait(&self, deadline: Option<Instant>) -> Option<MutexGuard<'_, OneOutcome>> {
        let mut outcome = lock(&self.outcome);
        while outcome.is_open() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            outcome.awaited();
            outcome = sys::wait(&self.ended, outcome, deadline);
        }
        Some(outcome)
    }

    /// Waits for its end, and gives the error that it ended with if nobody has taken that.
    pub(super) fn wait_error(&self) -> Option<TaskError> {
        match &*self.wait(None)? {
            OneOutcome::Here(chunk) => chunk.error().cloned(),
            OneOutcome::Unknown | OneOutcome::Awaited(_) | OneOutcome::Taken => None,
        }
    }

    pub(super) fn cancel(&self) {
        self.cancelled.set();
    }
}

impl<T: DeserializeOwned> Task<T> {
    /// Waits for the task's end, and gives its output.
    ///
    /// # Errors
    ///
    /// [`TaskError`] says why there is none. The other tasks of the pool are not touched by it.
    pub fn join(self) -> Result<T, TaskError> {
        match self.join_until(None) {
            Ok(output) => Ok(output),
            Err(TaskTimeoutError::Failed(error)) => Err(error),
            Err(TaskTimeoutError::Timeout { .. }) => {
                unreachable!("a wait without a deadline ended at its deadline")
            }
        }
    }

    /// Waits at most this long for the task's end. A task that has not ended is left as it is.
    ///
    /// # Errors
    ///
    /// [`TaskTimeoutError::Timeout`], or as [`join`](Task::join); [`TaskError::Taken`] after an earlier call took the
    /// output.
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, TaskTimeoutError> {
        self.join_until(Some(timeout))
    }

    fn join_until(&self, timeout: Option<Duration>) -> Result<T, TaskTimeoutError> {
        // A deadline that the clock cannot express is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let task = self.name;
        let Some(outcome) = self.sink.wait(deadline) else {
            let after = timeout.unwrap_or_default();
            return Err(TaskTimeoutError::Timeout { task, after });
        };
        Ok(self.take(outcome)?)
    }

    fn take(&self, mut outcome: MutexGuard<'_, OneOutcome>) -> Result<T, TaskError> {
        let task = self.name;
        let OneOutcome::Here(chunk) = std::mem::replace(&mut *outcome, OneOutcome::Taken) else {
            return Err(TaskError::Taken { task });
        };
        // Decoding runs code of the user.
        drop(outcome);
        let mut outcomes = chunk.into_outcomes();
        let left = outcomes.next().ok_or(TaskError::Taken { task })?;
        decode(task, left, &outcomes)
    }
}

#[cfg(feature = "async")]
impl<T: DeserializeOwned> Task<T> {
    /// As [`join`](Task::join), for async tasks: needs the feature `async`, and works with every executor. Awaiting the
    /// task itself does the same.
    ///
    /// Dropping the future changes nothing: the task runs on, and can be awaited again.
    ///
    /// # Errors
    ///
    /// As [`join`](Task::join); [`TaskError::Taken`] after an earlier call took the output.
    ///
    /// ```
    /// use offspring::Pool;
    ///
    /// #[offspring::worker]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::new(2)?;
    ///     let (three, four) = (pool.submit(square::new(3))?, pool.submit(square::new(4))?);
    ///     let (nine, sixteen) = tokio::join!(three, four.join_async());
    ///     assert_eq!(nine? + sixteen?, 25);
    ///     Ok(())
    /// }
    /// ```
    pub async fn join_async(&self) -> Result<T, TaskError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Result<T, TaskError>> {
        let mut outcome = lock(&self.sink.outcome);
        if !outcome.is_open() {
            return Poll::Ready(self.take(outcome));
        }
        let wakers = outcome.awaited();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The end of a [`Task`], from awaiting it; needs the feature `async`.
///
/// Dropping it is dropping the task: it runs, and its output is thrown away.
///
/// ```
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// async fn sum(pool: &Pool) -> Result<u64, Box<dyn std::error::Error>> {
///     let (three, four) = (pool.submit(square::new(3))?, pool.submit(square::new(4))?); // both run now
///     Ok(three.await? + four.await?)
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(2)?;
///     assert_eq!(pollster::block_on(sum(&pool))?, 25); // or any other executor
///     Ok(())
/// }
/// ```
#[cfg(feature = "async")]
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct TaskFuture<T>(Task<T>);

#[cfg(feature = "async")]
impl<T: DeserializeOwned> Future for TaskFuture<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context)
    }
}

#[cfg(feature = "async")]
impl<T: DeserializeOwned> IntoFuture for Task<T> {
    type Output = Result<T, TaskError>;
    type IntoFuture = TaskFuture<T>;

    fn into_future(self) -> TaskFuture<T> {
        TaskFuture(self)
    }
}

/// The output of one task.
pub(super) fn decode<T: DeserializeOwned>(
    task: &'static str,
    left: Left,
    outcomes: &Outcomes,
) -> Result<T, TaskError> {
    let decoded = match left {
        Left::Output(range) => wire::decode(outcomes.bytes(range), Vec::new()),
        Left::Other(other) => match *other {
            Other::Parcel(packet) => packet.decode(),
            Other::Failed(error) => return Err(error),
        },
    };
    decoded.map_err(|source| TaskError::Decode { task, source })
}

impl<T> Task<T> {
    pub(super) fn new(shared: Arc<Shared>, name: &'static str, sink: Arc<One>) -> Task<T> {
        Task {
            shared,
            name,
            sink,
            output: PhantomData,
        }
    }

    /// Whether it has ended: [`join`](Task::join) would not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !lock(&self.sink.outcome).is_open()
    }

    /// Ends the task: one that waits is not begun, one that runs is ended by killing its process, which is replaced.
    /// Then it ends with [`TaskError::Cancelled`]; if its output was on the way already, with that.
    pub fn cancel(&self) {
        if !self.is_finished() {
            self.sink.cancel();
            let sink: Arc<dyn Sink> = self.sink.clone();
            self.shared.withdraw(&sink, true);
        }
    }

    /// The pid of the process that it runs in; `None` while it waits, and when it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let is_its =
            |sink: &Arc<dyn Sink>| std::ptr::addr_eq(Arc::as_ptr(sink), Arc::as_ptr(&self.sink));
        self.shared.look(|state| {
            let mut slots = state.slots.iter();
            let slot = slots.find(|slot| {
                slot.running()
                    .is_some_and(|piece| is_its(&piece.batch.sink))
            })?;
            slot.worker.as_ref().map(|worker| worker.process.pid())
        })
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name)
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
