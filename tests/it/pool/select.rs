//! Waiting for the first of many tasks, and for events, with a selector.

use std::collections::HashMap;
use std::time::Duration;

use offspring::pool::PoolEvent;
use offspring::{Pool, Selector, Waitable, wait_any, wait_any_timeout};

use crate::support::eventually;

#[offspring::worker]
fn wait_for(path: std::path::PathBuf) -> u64 {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    7
}

#[offspring::worker]
fn square(n: u64) -> u64 {
    n * n
}

#[offspring::test(timeout = "60s")]
fn a_selector_returns_tasks_as_they_end() {
    let pool = Pool::new(3).unwrap();
    let selector = Selector::new();
    let mut tasks = HashMap::new();
    for n in 0..300 {
        let task = pool.submit(square::new(n)).unwrap();
        tasks.insert(selector.add(&task).unwrap(), (n, task));
    }
    while !tasks.is_empty() {
        let key = selector.ready().unwrap();
        selector.remove(key);
        let (n, task) = tasks.remove(&key).unwrap();
        assert!(task.is_finished());
        assert_eq!(task.join().unwrap(), n * n);
    }
}

#[offspring::test(timeout = "60s")]
fn the_first_of_two_tasks_wakes_a_selector() {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::new(2).unwrap();
    let [slow, fast] = ["slow", "fast"]
        .map(|name| pool.submit(wait_for::new(directory.path().join(name))).unwrap());
    let sources: [&dyn Waitable; 2] = [&slow, &fast];
    assert_eq!(wait_any_timeout(&sources, Duration::from_millis(1)).unwrap(), None);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_any(&[&slow, &fast]).unwrap());
        eventually("both run", || slow.pid().is_some() && fast.pid().is_some());
        std::fs::write(directory.path().join("fast"), "").unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
    assert_eq!(fast.join().unwrap(), 7);
    // Readiness lasts, even after the result was taken.
    slow.cancel();
    assert_eq!(wait_any(&[&slow]).unwrap(), 0);
    assert!(slow.join_timeout(Duration::ZERO).unwrap_err().is_cancelled());
    assert_eq!(wait_any(&[&slow]).unwrap(), 0);
}

#[offspring::test(timeout = "60s")]
fn an_event_and_the_end_of_a_pool_wake_a_selector() {
    let pool = Pool::new(1).unwrap();
    let events = pool.events();
    let moment = Duration::from_millis(1);
    assert_eq!(wait_any_timeout(&[&events], moment).unwrap(), None);
    let selector = Selector::new();
    let key = selector.add(&events).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| pool.kill());
        let mut seen = Vec::new();
        loop {
            assert_eq!(selector.ready(), Some(key));
            match events.try_next() {
                Some(event) => seen.push(event),
                None => break,
            }
        }
        assert!(matches!(seen[..], [PoolEvent::WorkerEnded { .. }]), "{seen:?}");
    });
    assert_eq!(selector.ready(), Some(key));
}
