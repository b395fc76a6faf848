//! Awaiting, on two executors.

mod cancel;
mod channel;
mod process;

use std::future::Future;
use std::time::Duration;

/// Nothing that is awaited here takes so long.
const LONG: Duration = Duration::from_secs(20);

/// Runs it on one thread of tokio, with a deadline.
fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("it ends in time") })
}

/// Waits for nothing that ever comes.
#[offspring::worker]
fn sleeper() {
    loop {
        std::thread::park();
    }
}
