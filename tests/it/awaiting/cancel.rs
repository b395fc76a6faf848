//! Futures that are dropped.

use std::fs;
use std::time::Duration;

use offspring::{Process, Receiver, Sender, channel};

use super::{moment, rounds, sleeper};

/// With pauses of all lengths, so that messages come before, while and after they are awaited.
#[offspring::worker]
fn stutter(numbers: Sender<u64>, upto: u64) {
    for n in 0..upto {
        numbers.send(n).expect("the test receives");
        std::thread::sleep(Duration::from_micros((n * 37) % 400));
    }
}

/// Sockets and processes that this process watches.
fn watched() -> usize {
    let entries = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("tfd:")).count()).sum()
}

async fn receive_with_timeouts(
    receiver: &Receiver<u64>,
    other: &Receiver<u64>,
    process: &Process<()>,
    upto: u64,
) -> u64 {
    let (mut next, mut dropped) = (0, 0);
    while next < upto {
        tokio::select! {
            message = receiver.recv_async() => {
                assert_eq!(message.unwrap(), next, "a message was lost with a future that was dropped");
                next += 1;
            }
            message = other.recv_async() => panic!("nobody sends: {message:?}"),
            joined = process.join_async() => panic!("it runs: {joined:?}"),
            () = moment(next) => dropped += 1,
        }
    }
    dropped
}

#[offspring::worker]
fn storm(upto: u64) -> u64 {
    let (sender, receiver) = channel().unwrap();
    let (_silent, other) = channel().unwrap();
    let sleeper = offspring::ProcessBuilder::new().daemon(true).spawn(sleeper::new()).unwrap();
    let sending = stutter::spawn(sender, upto).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // The first wait starts the thread that watches, which watches something of its own.
    runtime.block_on(async {
        let waited = tokio::time::timeout(Duration::from_millis(1), other.recv_async());
        assert!(waited.await.is_err(), "nobody sends");
    });
    let before = watched();
    let dropped = runtime.block_on(receive_with_timeouts(&receiver, &other, &sleeper, upto));
    sending.join().unwrap();
    // The process that sent is not watched any more.
    assert!(watched() < before, "a future that was dropped left something behind");
    assert!(receiver.recv().is_err());
    dropped
}

#[offspring::test(timeout = "600s")]
fn futures_that_are_dropped_lose_nothing_and_leave_nothing() {
    let dropped = storm::spawn(rounds()).unwrap().join().unwrap();
    assert!(dropped > rounds() / 10, "only {dropped} were dropped: this tests nothing");
}
