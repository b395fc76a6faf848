//! Awaiting the end of a process.

use serde::de::DeserializeOwned;

use crate::error::JoinError;
use crate::ipc::reactor::ready;
use crate::process::Process;

impl<T: DeserializeOwned> Process<T> {
    /// As [`join`](Process::join), for tasks: needs the feature `async`, and works with every executor.
    ///
    /// Dropping the future leaves the process as it is; it can be joined again.
    ///
    /// # Errors
    ///
    /// As [`join`](Process::join).
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
        ready(&*self.target())
            .await
            .expect("a process has no channel to be watched");
        self.join()
    }
}
