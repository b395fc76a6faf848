//! One submitted task, from its submitter's view.

use std::fmt;
use std::io;
use std::marker::PhantomData;
#[cfg(feature = "async")]
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{TaskError, TaskTimeoutError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit};
use crate::ipc::reactor::{self, EventSource, Interest, WakerSet, WakerSlot};
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::pool::batch::Sink;
use crate::pool::results::Results;
use crate::pool::shared::PoolShared;
use crate::sys::{self, lock};

/// A handle to a task that was submitted to a [`Pool`](crate::Pool) and returns a `T`.
///
/// Dropping the handle does not affect the task: it runs, and its output is discarded.
/// [`cancel`](Task::cancel) ends the task, and [`cancel_on_drop`](Task::cancel_on_drop) makes the drop
/// do so.
///
/// The output can be taken once. [`join`](Task::join) consumes the handle. After a
/// [`join_timeout`](Task::join_timeout) that returned the output or an error of the task, further
/// calls return `Taken`. A [`Selector`](crate::Selector) can wait for the first of many tasks.
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
///     other.cancel(); // unless it has ended already
///     assert_eq!(task.join()?, 144);
///     Ok(())
/// }
/// ```
#[must_use = "dropping it leaves the task to run; `join` waits for its output"]
pub struct Task<T> {
    shared: Arc<PoolShared>,
    name: &'static str,
    cell: Arc<TaskCell>,
    output: PhantomData<fn() -> T>,
    cancels_on_drop: bool,
    /// Where the task that awaits this handle leaves its waker.
    #[cfg(feature = "async")]
    slot: Option<WakerSlot>,
}

/// The sink of one task's result.
#[derive(Debug, Default)]
pub(super) struct TaskCell {
    state: Mutex<CellState>,
    ended: Condvar,
    is_cancelled: AtomicBool,
    /// Made by the first future or selector that waits for the task.
    wakers: OnceLock<Arc<WakerSet>>,
}

#[derive(Debug, Default)]
enum CellState {
    /// The task has not ended, and no thread is blocked until it does.
    #[default]
    Pending,
    /// Threads are blocked at the condition variable. Separate from `Pending`, because a
    /// notification costs a system call even if it wakes no thread.
    Awaited,
    Ended(Results),
    Taken,
}

impl CellState {
    fn is_pending(&self) -> bool {
        matches!(self, CellState::Pending | CellState::Awaited)
    }
}

impl Sink for TaskCell {
    fn deliver(&self, results: Results) {
        let before = std::mem::replace(&mut *lock(&self.state), CellState::Ended(results));
        if matches!(before, CellState::Awaited) {
            self.ended.notify_all();
        }
        if let Some(wakers) = self.wakers.get() {
            wakers.wake();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }
}

impl EventSource for TaskCell {
    fn register(&self) -> io::Result<WakerSlot> {
        self.wakers.get_or_init(Arc::default).register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        reactor::check_and_set(interest, || !lock(&self.state).is_pending())
    }
}

impl TaskCell {
    fn wait<L: TimeLimit>(&self, limit: &L) -> Result<MutexGuard<'_, CellState>, L::Elapsed> {
        let mut state = lock(&self.state);
        while state.is_pending() {
            limit.check()?;
            *state = CellState::Awaited;
            state = sys::wait(&self.ended, state, limit.deadline());
        }
        Ok(state)
    }

    /// Waits for the task's end, and returns its error unless a caller has taken that.
    pub(super) fn wait_error(&self) -> Option<TaskError> {
        let Ok(state) = self.wait(&Forever);
        match &*state {
            CellState::Ended(results) => results.first_error().cloned(),
            _ => None,
        }
    }

    /// Makes the schedule drop the task if it has not begun.
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
    }
}

impl<T: DeserializeOwned> Task<T> {
    /// Blocks until the task has ended, and returns its output.
    ///
    /// Without a [time limit](crate::PoolBuilder::task_timeout) of the task, the wait is unbounded;
    /// see [`join_timeout`](Task::join_timeout).
    ///
    /// # Errors
    ///
    /// Returns why the task has no output. Other tasks of the pool are not affected.
    pub fn join(self) -> Result<T, TaskError> {
        let Ok(state) = self.cell.wait(&Forever);
        self.take(state)
    }

    /// Like [`join`](Task::join), but blocks for at most `timeout`, and can be called again after
    /// that. The timeout does not affect the task.
    ///
    /// # Errors
    ///
    /// [`Timeout`](TaskTimeoutError::Timeout) if the task has not ended;
    /// [`Taken`](TaskTimeoutError::Taken) if an earlier call has returned its result; otherwise why
    /// the task has no output.
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, TaskTimeoutError> {
        match self.cell.wait(&Deadline::after(timeout)) {
            Ok(state) => Ok(self.take(state)?),
            Err(_) => Err(TaskTimeoutError::Timeout { task: self.name, after: timeout }),
        }
    }

    fn take(&self, mut state: MutexGuard<'_, CellState>) -> Result<T, TaskError> {
        let task = self.name;
        let CellState::Ended(mut results) = std::mem::replace(&mut *state, CellState::Taken) else {
            return Err(TaskError::Taken { task });
        };
        // Decoding runs user code.
        drop(state);
        results.next(task).ok_or(TaskError::Taken { task })?
    }
}

#[cfg(feature = "async")]
impl<T: DeserializeOwned> Task<T> {
    /// Like [`join`](Task::join), but for async code: needs the feature `async`, and works with
    /// every executor. Awaiting the handle, or a `&mut` reference to it, does the same.
    ///
    /// Dropping the future does not affect the task, which can be awaited again.
    ///
    /// # Errors
    ///
    /// Those of [`join`](Task::join); [`Taken`](TaskError::Taken) if an earlier call has returned
    /// the result.
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
        let mut slot = None;
        std::future::poll_fn(|context| self.poll_in(&mut slot, context)).await
    }

    /// `slot` belongs to one future; it is registered if the first poll finds nothing.
    fn poll_in(
        &self,
        slot: &mut Option<WakerSlot>,
        context: &Context<'_>,
    ) -> Poll<Result<T, TaskError>> {
        if !self.cell.is_ready(None) {
            let slot = slot.get_or_insert_with(|| {
                self.cell.register().expect("the end of a task is a state in this process")
            });
            if !self.cell.is_ready(Some((slot, context.waker()))) {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take(lock(&self.cell.state)))
    }
}

/// Completes like [`join`](Task::join); after that, with [`Taken`](TaskError::Taken). Needs the
/// feature `async`, and works with every executor.
///
/// `task.await` takes the handle. If that future is dropped, the task runs on without a handle or,
/// after [`cancel_on_drop`](Task::cancel_on_drop), is cancelled. To keep the handle, await a
/// reference: `(&mut task).await`, `tokio::time::timeout(limit, &mut task)`, or `&mut task` in a
/// `select!`.
#[cfg(feature = "async")]
impl<T: DeserializeOwned> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.get_mut();
        let mut slot = task.slot.take();
        let polled = task.poll_in(&mut slot, context);
        task.slot = slot;
        polled
    }
}

impl<T> Task<T> {
    pub(super) fn new(shared: Arc<PoolShared>, name: &'static str, cell: Arc<TaskCell>) -> Task<T> {
        Task {
            shared,
            name,
            cell,
            output: PhantomData,
            cancels_on_drop: false,
            #[cfg(feature = "async")]
            slot: None,
        }
    }

    /// Returns whether the task has ended, so that [`join`](Task::join) would not block.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !lock(&self.cell.state).is_pending()
    }

    /// Ends the task, and returns at once. If it has not begun, it never will. If it is running,
    /// its process is killed and replaced; on a [thread](crate::process::Backend::Inline), it
    /// continues.
    ///
    /// The task then ends with [`TaskError::Cancelled`], or with its output if that was already on
    /// its way.
    pub fn cancel(&self) {
        if !self.is_finished() {
            self.cell.cancel();
            let sink: Arc<dyn Sink> = self.cell.clone();
            self.shared.cancel(&sink, true);
        }
    }

    /// Makes the drop of the handle [`cancel`](Task::cancel) the task, unless it has ended. So a
    /// task whose result is no longer wanted does not keep a worker busy: the request of a client
    /// that has gone, or the other side of a `select!` that has returned.
    ///
    /// ```
    /// use offspring::Pool;
    ///
    /// #[offspring::worker]
    /// fn sleep() {
    ///     std::thread::sleep(std::time::Duration::from_secs(1000));
    /// }
    ///
    /// #[offspring::worker]
    /// fn one() -> u32 {
    ///     1
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::new(1)?;
    ///     let slow = pool.submit(sleep::new())?.cancel_on_drop();
    ///     drop(slow);
    ///     assert_eq!(pool.run(one::new())?, 1); // no need to wait for `sleep`
    ///     Ok(())
    /// }
    /// ```
    pub fn cancel_on_drop(mut self) -> Task<T> {
        self.cancels_on_drop = true;
        self
    }

    /// Returns the pid of the process that is running the task, or `None` if the task has not begun
    /// or has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let sink: Arc<dyn Sink> = self.cell.clone();
        self.shared.read(|state| state.pid_of(&sink))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if self.cancels_on_drop {
            self.cancel();
        }
    }
}

impl<T> Waitable for Task<T> {
    fn wait_source(&self) -> WaitSource {
        WaitSource::new(self.cell.clone())
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
