//! Awaiting the end of a process.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use crate::error::JoinError;
use crate::ipc::reactor::ready;
use crate::process::handle::Process;

impl<T: DeserializeOwned> Process<T> {
    /// Like [`join`](Process::join), but asynchronous, on any executor. Requires the feature
    /// `async`.
    ///
    /// `process.await` and `(&process).await` do the same. Dropping the future does not affect the
    /// process, which can be joined again.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`join`](Process::join).
    ///
    /// ```
    /// #[offspring::worker]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// #[offspring::main]
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let (three, four) = (square::spawn(3)?, square::spawn(4)?);
    ///     let (nine, sixteen) = tokio::join!(three.join_async(), four.join_async());
    ///     assert_eq!(nine? + sixteen?, 25);
    ///     Ok(())
    /// }
    /// ```
    pub async fn join_async(&self) -> Result<T, JoinError> {
        // Registering a waker cannot fail for a process: there is no channel to watch.
        ready(&*self.source()).await.expect("the end of a process is a state in this process");
        self.join()
    }
}

/// The future of a process's output, from awaiting a [`Process`](crate::Process) or a reference to
/// it. Requires the feature `async`.
///
/// It completes like [`join`](crate::Process::join). Dropping it leaves the process running, like
/// dropping a `Process`.
///
/// ```
/// use offspring::process::JoinFuture;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let process = square::spawn(3)?;
///     assert_eq!((&process).await?, 9); // it may be awaited again
///     let future: JoinFuture<'static, u64> = process.into_future();
///     assert_eq!(future.await?, 9);
///     Ok(())
/// }
/// ```
#[must_use = "it does nothing unless it is awaited"]
pub struct JoinFuture<'a, T>(Pin<Box<dyn Future<Output = Result<T, JoinError>> + Send + 'a>>);

impl<T> Future for JoinFuture<'_, T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for JoinFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinFuture").finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for Process<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = JoinFuture<'static, T>;

    fn into_future(self) -> JoinFuture<'static, T> {
        JoinFuture(Box::pin(async move { self.join_async().await }))
    }
}

impl<'a, T: DeserializeOwned> IntoFuture for &'a Process<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = JoinFuture<'a, T>;

    fn into_future(self) -> JoinFuture<'a, T> {
        JoinFuture(Box::pin(self.join_async()))
    }
}
