//! Permits.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use offspring::CreateError;
use offspring::shared::AtomicI64;
use offspring::sync::{ReleaseError, Semaphore, TimeoutError, TryError};

use crate::support::eventually;

#[test]
fn permits_come_and_go_and_are_bounded() {
    let semaphore = Semaphore::new(2).unwrap();
    assert_eq!((semaphore.available(), semaphore.permits()), (2, 2));
    let one = semaphore.acquire().unwrap();
    let two = semaphore.try_acquire().unwrap();
    assert_eq!(semaphore.available(), 0);
    assert!(matches!(semaphore.try_acquire(), Err(TryError::WouldBlock)));
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let start = Instant::now();
        assert!(matches!(semaphore.acquire_timeout(timeout), Err(TimeoutError::Timeout)));
        assert!(start.elapsed() >= timeout);
    }
    assert!(matches!(semaphore.release(), Err(ReleaseError::TooMany)));
    drop(one);
    assert_eq!(semaphore.available(), 1);
    two.forget();
    assert_eq!(semaphore.available(), 1);
    semaphore.release().unwrap();
    assert!(matches!(semaphore.release(), Err(ReleaseError::TooMany)));
    assert_eq!(semaphore.available(), 2);
    assert!(matches!(Semaphore::new(0), Err(CreateError::ZeroPermits)));
}

#[offspring::worker]
fn crowd(semaphore: Semaphore, inside: AtomicI64, rounds: u32) -> i64 {
    let mut most = 0;
    for _ in 0..rounds {
        let _permit = semaphore.acquire().unwrap();
        most = most.max(inside.fetch_add(1, Ordering::SeqCst) + 1);
        std::hint::spin_loop();
        inside.fetch_sub(1, Ordering::SeqCst);
    }
    most
}

#[offspring::test(timeout = "60s")]
fn never_more_are_inside_than_there_are_permits() {
    let (semaphore, inside) = (Semaphore::new(2).unwrap(), AtomicI64::new(0).unwrap());
    let children: Vec<_> =
        (0..3).map(|_| crowd::spawn(semaphore.clone(), inside.clone(), 5000).unwrap()).collect();
    let here = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| crowd(semaphore.clone(), inside.clone(), 5000)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max()
    });
    let there = children.into_iter().map(|child| child.join().unwrap()).max();
    assert!(here.max(there) <= Some(2), "{here:?} {there:?}");
    assert_eq!((semaphore.available(), inside.load(Ordering::SeqCst)), (2, 0));
}

#[offspring::worker]
fn take_for_another(semaphore: Semaphore) {
    semaphore.acquire().unwrap().forget();
}

#[offspring::test(timeout = "60s")]
fn one_process_takes_and_another_releases() {
    let semaphore = Semaphore::new(1).unwrap();
    take_for_another::spawn(semaphore.clone()).unwrap().join().unwrap();
    assert_eq!(semaphore.available(), 0);
    semaphore.release().unwrap();
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn several_permits_are_taken_together_or_not_at_all() {
    let semaphore = Semaphore::new(3).unwrap();
    let one = semaphore.acquire().unwrap();
    let error = semaphore.try_acquire_many(3).unwrap_err();
    assert!(error.is_would_block(), "{error}");
    let error = semaphore.acquire_many_timeout(3, Duration::from_millis(5)).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(semaphore.available(), 2, "it holds none while it waits");
    std::thread::scope(|scope| {
        let all = scope.spawn(|| semaphore.acquire_many(3).map(drop));
        eventually("it waits", || format!("{semaphore:?}").contains("waiting: 1"));
        drop(one);
        all.join().unwrap().unwrap();
    });
    semaphore.acquire_many(2).unwrap().forget();
    assert_eq!(semaphore.available(), 1);
    semaphore.release().unwrap();
    semaphore.release().unwrap();
    assert_eq!(semaphore.available(), 3);
    drop(semaphore.acquire_many(0).unwrap());
}

#[test]
#[should_panic(expected = "4 permits: the semaphore has only 3")]
fn more_permits_than_there_are_is_a_mistake() {
    drop(Semaphore::new(3).unwrap().acquire_many(4));
}

/// A return wakes one thread. If that is the one that needs two, the permit must not stay unused.
#[test]
fn a_thread_that_wants_several_keeps_no_wake_up_from_others() {
    let semaphore = Semaphore::new(2).unwrap();
    for _ in 0..50 {
        let (one, two) = (semaphore.acquire().unwrap(), semaphore.acquire().unwrap());
        std::thread::scope(|scope| {
            let many = scope.spawn(|| semaphore.acquire_many(2).map(drop));
            eventually("one waits", || format!("{semaphore:?}").contains("waiting: 1"));
            let single = scope.spawn(|| semaphore.acquire().map(drop));
            eventually("both wait", || format!("{semaphore:?}").contains("waiting: 2"));
            drop(one);
            single.join().unwrap().unwrap();
            drop(two);
            many.join().unwrap().unwrap();
        });
    }
}
