//! Measuring, the same way for all systems.

use std::time::Instant;

use offspring::Process;
use serde::Serialize;
use serde::de::DeserializeOwned;

const ROUND_TRIPS: u64 = 20_000;

pub(crate) fn join<T: Serialize + DeserializeOwned>(process: &Process<T>) -> T {
    process.join().expect("a process of the benchmark returns")
}

/// Returns millions per second.
pub(crate) fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64() / 1e6
}

/// Returns microseconds per item.
pub(crate) fn each(count: u64, since: Instant) -> f64 {
    since.elapsed().as_secs_f64() / count as f64 * 1e6
}

/// Returns microseconds per round trip, after one to warm up.
pub(crate) fn round_trips(mut turn: impl FnMut(u64)) -> f64 {
    turn(0);
    let since = Instant::now();
    (0..ROUND_TRIPS).for_each(turn);
    each(ROUND_TRIPS, since)
}
