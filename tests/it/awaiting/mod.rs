//! Awaiting, on three executors.

mod cancel;
mod channel;
mod pool;
mod process;
mod queue;
mod send;
mod stream;

use std::future::Future;
use std::time::Duration;

/// Longer than any wait of these tests should take.
const LONG: Duration = Duration::from_secs(20);

/// Runs it on one thread of tokio, with a deadline.
fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("it ends in time") })
}

/// Runs until it is killed.
#[offspring::worker]
fn sleeper() {
    loop {
        std::thread::park();
    }
}

/// How many futures are polled, and sometimes dropped: `OFFSPRING_RACE_ROUNDS` in hundreds (default
/// 10).
fn rounds() -> u64 {
    std::env::var("OFFSPRING_RACE_ROUNDS")
        .map_or(10, |rounds| rounds.parse().expect("OFFSPRING_RACE_ROUNDS is a number"))
        * 100
}

/// The runtime's clock knows only milliseconds, in which many messages come: every other moment is
/// a few turns.
async fn moment(n: u64) {
    if n % 2 == 0 {
        tokio::time::sleep(Duration::from_micros(n % 500)).await;
    } else {
        for _ in 0..n % 20 {
            tokio::task::yield_now().await;
        }
    }
}
