//! Flags to wait for.

use std::time::{Duration, Instant};

use offspring::sync::{Event, Semaphore, SyncError, TimeoutError};
use offspring::{Selector, channel, wait_any_timeout};

use crate::support::eventually;

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
    let children: Vec<_> =
        (0..3).map(|_| wait::spawn(event.clone(), ready.clone()).unwrap()).collect();
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

#[offspring::worker]
fn set_each_time(event: Event, again: Event, rounds: u32) {
    for _ in 0..rounds {
        again.wait_timeout(LONG).unwrap();
        again.clear();
        event.set();
    }
}

#[offspring::test(timeout = "60s")]
fn a_selector_waits_for_events_of_its_own_and_of_other_processes() {
    let (event, again) = (Event::new().unwrap(), Event::new().unwrap());
    let (sender, receiver) = channel::<u32>().unwrap();
    let child = set_each_time::spawn(event.clone(), again.clone(), 200).unwrap();
    let selector = Selector::new();
    let (flag, number) = (selector.add(&event).unwrap(), selector.add(&receiver).unwrap());
    assert_eq!(selector.try_ready(), None);
    assert_eq!(selector.ready_timeout(Duration::from_millis(5)), None);
    for _ in 0..200 {
        again.set();
        assert_eq!(selector.ready_timeout(LONG), Some(flag));
        assert_eq!(selector.try_ready(), Some(flag), "it stays ready");
        event.clear();
        assert_eq!(selector.try_ready(), None);
    }
    sender.send(1).unwrap();
    assert_eq!(selector.ready_timeout(LONG), Some(number));
    child.join().unwrap();
}

#[offspring::worker]
fn wait_for_any(event: Event, other: Event, ready: Semaphore) -> usize {
    ready.acquire().unwrap().forget();
    wait_any_timeout(&[&event, &other], LONG).unwrap().unwrap()
}

#[offspring::test(timeout = "60s")]
fn a_selector_of_another_process_sees_an_event() {
    let (event, other) = (Event::new().unwrap(), Event::new().unwrap());
    let ready = Semaphore::new(1).unwrap();
    let child = wait_for_any::spawn(event.clone(), other.clone(), ready.clone()).unwrap();
    eventually("it is there", || ready.available() == 0);
    other.set();
    assert_eq!(child.join().unwrap(), 1);
}

/// A selector does not keep an event alive. One that is gone counts as ready, like every other
/// source.
#[test]
fn an_event_that_is_dropped_wakes_its_selector_and_no_one_else() {
    let event = Event::new().unwrap();
    // Made before the event has a watch, so it does not share it.
    let other = event.clone();
    let selector = Selector::new();
    let key = selector.add(&event).unwrap();
    assert_eq!(selector.try_ready(), None);
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| other.wait_timeout(LONG));
        let ready = scope.spawn(|| selector.ready_timeout(LONG));
        drop(event);
        assert_eq!(ready.join().unwrap(), Some(key));
        assert!(!wait.is_finished(), "the flag is not set");
        other.set();
        wait.join().unwrap().unwrap();
    });
}

#[offspring::worker]
fn make() -> Event {
    Event::new().unwrap()
}

/// Its owner was gone before this process could have a session with it, so that nothing marks the
/// word.
#[offspring::test(timeout = "60s")]
fn an_event_that_arrives_after_its_owner_ended_is_disconnected() {
    let event = make::spawn().unwrap().join().unwrap();
    assert!(matches!(event.wait(), Err(SyncError::Disconnected)));
    let timed = event.wait_timeout(LONG);
    assert!(matches!(timed, Err(TimeoutError::Disconnected)), "{timed:?}");
    let selector = Selector::new();
    let key = selector.add(&event).unwrap();
    // Ready, again and again: a wait would return at once.
    for _ in 0..3 {
        assert_eq!(selector.ready_timeout(LONG), Some(key));
    }
}
