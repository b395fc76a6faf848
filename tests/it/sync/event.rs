//! Flags to wait for.

use std::time::{Duration, Instant};

use offspring::sync::{Event, Semaphore, TimeoutError};

const LONG: Duration = Duration::from_secs(20);

#[offspring::worker]
fn set(event: Event) {
    event.set();
}

#[offspring::worker]
fn wait(event: Event, ready: Semaphore) -> bool {
    ready.acquire().unwrap().forget();
    event.wait_timeout(LONG).is_ok()
}

#[offspring::test(timeout = "60s")]
fn everybody_who_waits_goes_on() {
    let (event, ready) = (Event::new().unwrap(), Semaphore::new(3).unwrap());
    let children: Vec<_> = (0..3)
        .map(|_| wait::spawn(event.clone(), ready.clone()).unwrap())
        .collect();
    while ready.available() > 0 {
        std::thread::yield_now();
    }
    let start = Instant::now();
    let error = event.wait_timeout(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, TimeoutError::Timeout) && start.elapsed() >= Duration::from_millis(20));
    set::spawn(event.clone()).unwrap().join().unwrap();
    event.wait().unwrap();
    assert!(event.is_set());
    for child in children {
        assert!(child.join().unwrap());
    }
    event.clear();
    assert!(!event.is_set());
    event.wait_timeout(Duration::ZERO).unwrap_err();
    event.set();
    event.wait_timeout(Duration::ZERO).unwrap();
}

#[offspring::worker]
fn answer(ask: Event, answer: Event, rounds: u32) {
    for _ in 0..rounds {
        ask.wait_timeout(LONG).unwrap();
        ask.clear();
        answer.set();
    }
}

#[offspring::test(timeout = "60s")]
fn ping_pong_loses_no_signal() {
    let (ask, answered) = (Event::new().unwrap(), Event::new().unwrap());
    let child = answer::spawn(ask.clone(), answered.clone(), 1000).unwrap();
    for _ in 0..1000 {
        ask.set();
        answered.wait_timeout(LONG).unwrap();
        answered.clear();
    }
    child.join().unwrap();
}

#[test]
fn a_flag_that_is_cleared_at_once_was_seen() {
    let event = Event::new().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..200 {
            let waiter = scope.spawn(|| event.wait_timeout(LONG));
            while !waiter.is_finished() {
                event.set();
                event.clear();
            }
            waiter.join().unwrap().unwrap();
        }
    });
}
