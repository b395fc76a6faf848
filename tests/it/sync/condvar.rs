//! Waiting for changes.

use std::time::{Duration, Instant};

use offspring::sync::{Condvar, Mutex};

use crate::support::eventually;

const LONG: Duration = Duration::from_secs(20);

fn waiting(condvar: &Condvar) -> usize {
    let text = format!("{condvar:?}");
    let digits = text.split("waiting: ").nth(1).unwrap();
    digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[offspring::worker]
fn wait(woken: Mutex<u32>, condvar: Condvar) {
    let guard = woken.lock().unwrap();
    let mut guard = condvar.wait(guard).unwrap();
    *guard += 1;
}

#[offspring::test(timeout = "60s")]
fn each_notification_wakes_that_many_and_no_more() {
    let (woken, condvar) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    // First, waits that time out.
    for timeout in [Duration::ZERO, Duration::from_millis(10)] {
        let start = Instant::now();
        let (guard, result) = condvar.wait_timeout(woken.lock().unwrap(), timeout).unwrap();
        assert!(result.timed_out() && start.elapsed() >= timeout);
        drop(guard);
    }
    assert_eq!((condvar.notify_one(), condvar.notify_all()), (0, 0));
    let children = [(); 3].map(|()| wait::spawn(woken.clone(), condvar.clone()).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| wait(woken.clone(), condvar.clone()));
        }
        eventually("all wait", || waiting(&condvar) == 6);
        for (count, sum) in [(1, 1), (2, 3), (0, 3)] {
            assert_eq!(condvar.notify_n(count), count);
            eventually("they are awake", || *woken.lock().unwrap() == sum);
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!((*woken.lock().unwrap(), waiting(&condvar)), (sum, 6 - sum as usize));
        }
        assert_eq!(condvar.notify_all(), 3);
    });
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(*woken.lock().unwrap(), 6);
    assert_eq!((condvar.notify_all(), waiting(&condvar)), (0, 0));
}

#[offspring::worker]
fn produce(stock: Mutex<u32>, changed: Condvar, count: u32) {
    for _ in 0..count {
        *stock.lock().unwrap() += 1;
        changed.notify_one();
    }
}

#[offspring::test(timeout = "60s")]
fn producers_and_consumers_lose_no_signal() {
    let (stock, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let children = [(); 2].map(|()| produce::spawn(stock.clone(), changed.clone(), 2000).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let guard = stock.lock().unwrap();
                    let (mut guard, result) =
                        changed.wait_timeout_while(guard, LONG, |stock| *stock == 0).unwrap();
                    assert!(!result.timed_out(), "a signal was lost");
                    *guard -= 1;
                }
            });
        }
    });
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(*stock.lock().unwrap(), 0);
}

#[offspring::test(timeout = "60s")]
fn the_notification_of_a_killed_waiter_is_the_nexts() {
    let (woken, condvar) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    for _ in 0..5 {
        *woken.lock().unwrap() = 0;
        let child = wait::spawn(woken.clone(), condvar.clone()).unwrap();
        eventually("the child waits", || waiting(&condvar) == 1);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let guard = woken.lock().unwrap();
                let (_guard, result) = condvar.wait_timeout(guard, LONG).unwrap();
                result
            });
            eventually("both wait", || waiting(&condvar) == 2);
            let guard = woken.lock().unwrap();
            // It goes to the child, which cannot act on it, since the mutex is held, and then dies.
            assert_eq!(condvar.notify_one(), 1);
            child.kill();
            drop(guard);
            let _ = child.join();
            if *woken.lock().unwrap() == 1 {
                // The child was faster than its death.
                condvar.notify_one();
            }
            assert!(!thread.join().unwrap().timed_out());
        });
        woken.clear_poison();
    }
    assert_eq!(waiting(&condvar), 0);
}
