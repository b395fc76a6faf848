//! Tasks that end before a block does.

use std::sync::{Arc, Mutex};

use crate::error::{SubmitError, TaskError};
use crate::pool::batch::Sink;
use crate::pool::handle::{Pool, TaskOptions};
use crate::pool::task::{Task, TaskCell};
use crate::process::ProcessWorker;
use crate::sys::lock;

/// Submits tasks that end before [`Pool::scope`] returns. If the body panics, the scope is dropped,
/// which cancels the tasks that have not ended.
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
///     let pool = Pool::new(2)?;
///     let (mut a, mut b) = (0, 0);
///     pool.scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
///         let (one, two) = (scope.submit(square::new(3))?, scope.submit(square::new(4))?);
///         (a, b) = (one.join()?, two.join()?);
///         Ok(())
///     })??;
///     assert_eq!(a + b, 25);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Scope<'p> {
    pool: &'p Pool,
    tasks: Mutex<Vec<Arc<TaskCell>>>,
}

impl Pool {
    /// Calls `body` with a [`Scope`], and blocks until all tasks that were submitted through it
    /// have ended. Unlike the threads of [`std::thread::scope`], the tasks cannot borrow from the
    /// caller: their values are copied to another process.
    ///
    /// The wait is bounded only by the time limits of the tasks. If `body` panics, its tasks are
    /// cancelled.
    ///
    /// # Errors
    ///
    /// The first error, in the order of submission, of a task that `body` has not joined.
    ///
    /// ```
    /// #[offspring::worker]
    /// fn step(n: u64) -> u64 {
    ///     n + 1
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = offspring::Pool::new(2)?;
    ///     let first = pool.scope(|scope| {
    ///         let first = scope.submit(step::new(1));
    ///         let _not_joined = scope.submit(step::new(2));
    ///         first
    ///     })?;
    ///     assert_eq!(first?.join()?, 2); // both have ended
    ///     Ok(())
    /// }
    /// ```
    pub fn scope<'p, R>(&'p self, body: impl FnOnce(&Scope<'p>) -> R) -> Result<R, TaskError> {
        let scope = Scope { pool: self, tasks: Mutex::new(Vec::new()) };
        let result = body(&scope);
        scope.finish().map_or(Ok(result), Err)
    }
}

impl Scope<'_> {
    /// Submits a task that ends before the scope does. Like [`Pool::submit`], it blocks only if the
    /// pool has a bound and is full.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::submit`].
    pub fn submit<W: ProcessWorker>(&self, worker: W) -> Result<Task<W::Output>, SubmitError<W>> {
        let cell = Arc::new(TaskCell::default());
        let options = TaskOptions::new();
        let task = self.pool.submit_to(worker, options, cell.clone())?;
        lock(&self.tasks).push(cell);
        Ok(task)
    }

    /// Waits for all tasks. Returns the first error that no caller has seen.
    fn finish(self) -> Option<TaskError> {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        // Collected, so that the tasks after a failed one are waited for as well.
        let errors: Vec<TaskError> = tasks.iter().filter_map(|task| task.wait_error()).collect();
        errors.into_iter().next()
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        for task in std::mem::take(&mut *lock(&self.tasks)) {
            task.cancel();
            let sink: Arc<dyn Sink> = task;
            self.pool.shared.cancel(&sink, true);
        }
    }
}
