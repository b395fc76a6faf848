//! Waiting for many things at once.

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

/// Too short to matter, long enough to sleep.
const SHORT: Duration = Duration::from_millis(50);
/// Nothing that is waited for here takes so long.
const LONG: Duration = Duration::from_secs(20);

/// Waits for nothing that ever comes.
#[offspring::worker]
fn sleeper() {
    loop {
        std::thread::park();
    }
}

/// Sends each number that it is given.
#[offspring::worker]
fn relay(from: Receiver<u64>, to: Sender<u64>) {
    for n in &from {
        to.send(n).expect("the test receives");
    }
}

/// A number that nobody can foresee.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Puts things in an order that nobody can foresee.
fn shuffle<T>(things: &mut [T]) {
    for end in (1..things.len()).rev() {
        things.swap(end, (random() % (end as u64 + 1)) as usize);
    }
}
