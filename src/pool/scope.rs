//! Tasks that end before a block does.

use std::sync::{Arc, Mutex};

use crate::error::{SubmitError, TaskError};
use crate::pool::batch::Sink;
use crate::pool::handle::{Pool, TaskOptions};
use crate::pool::shared::When;
use crate::pool::task::{One, Task};
use crate::process::ProcessWorker;
use crate::sys::lock;

/// Where [`Pool::scope`] lets its body submit tasks. Dropping it, as a panic of the body does, cancels those that have
/// not ended.
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
    tasks: Mutex<Vec<Arc<One>>>,
}

impl<'p> Scope<'p> {
    pub(super) fn new(pool: &'p Pool) -> Scope<'p> {
        Scope {
            pool,
            tasks: Mutex::new(Vec::new()),
        }
    }

    /// Submits a task that ends before the scope does.
    ///
    /// # Errors
    ///
    /// As [`Pool::submit`].
    pub fn submit<W: ProcessWorker>(&self, worker: W) -> Result<Task<W::Output>, SubmitError<W>> {
        let sink = Arc::new(One::default());
        let task = self
            .pool
            .submit_to(worker, TaskOptions::new(), sink.clone(), When::Room)?;
        lock(&self.tasks).push(sink);
        Ok(task)
    }

    /// Waits for all; the first error that nobody has seen.
    pub(super) fn finish(self) -> Option<TaskError> {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        // All are waited for, also behind one that failed.
        let errors: Vec<TaskError> = tasks.iter().filter_map(|task| task.wait_error()).collect();
        errors.into_iter().next()
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        for task in std::mem::take(&mut *lock(&self.tasks)) {
            task.cancel();
            let sink: Arc<dyn Sink> = task;
            self.pool.shared.withdraw(&sink, true);
        }
    }
}
