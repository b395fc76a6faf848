//! Permits.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use offspring::shared::AtomicI64;
use offspring::sync::{ReleaseError, Semaphore, TimeoutError, TryError};

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
        assert!(matches!(
            semaphore.acquire_timeout(timeout),
            Err(TimeoutError::Timeout)
        ));
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
    assert!(Semaphore::new(0).is_err());
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
    let children: Vec<_> = (0..3)
        .map(|_| crowd::spawn(semaphore.clone(), inside.clone(), 5000).unwrap())
        .collect();
    let here = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| crowd(semaphore.clone(), inside.clone(), 5000)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .max()
    });
    let there = children
        .into_iter()
        .map(|child| child.join().unwrap())
        .max();
    assert!(here.max(there) <= Some(2), "{here:?} {there:?}");
    assert_eq!(
        (semaphore.available(), inside.load(Ordering::SeqCst)),
        (2, 0)
    );
}

#[offspring::worker]
fn take_for_another(semaphore: Semaphore) {
    semaphore.acquire().unwrap().forget();
}

#[offspring::test(timeout = "60s")]
fn one_process_takes_and_another_releases() {
    let semaphore = Semaphore::new(1).unwrap();
    take_for_another::spawn(semaphore.clone())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(semaphore.available(), 0);
    semaphore.release().unwrap();
    assert_eq!(semaphore.available(), 1);
}
