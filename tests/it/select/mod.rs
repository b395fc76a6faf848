//! Waiting for the first of many sources.

mod any;
mod crowd;
mod idle;
mod jobs;
mod many;
mod queues;
mod storm;

use std::time::Duration;

use offspring::Receiver;
use offspring::Sender;

/// Short for a test, but long enough for a thread to fall asleep.
const SHORT: Duration = Duration::from_millis(50);
/// Longer than any wait of these tests should take.
const LONG: Duration = Duration::from_secs(20);

/// Runs until it is killed.
#[offspring::worker]
fn sleeper() {
    loop {
        std::thread::park();
    }
}

/// Forwards every number.
#[offspring::worker]
fn relay(from: Receiver<u64>, to: Sender<u64>) {
    for n in &from {
        to.send(n).expect("the test receives");
    }
}

/// A random number.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Shuffles `things`.
fn shuffle<T>(things: &mut [T]) {
    for end in (1..things.len()).rev() {
        things.swap(end, (random() % (end as u64 + 1)) as usize);
    }
}
