//! One thread that takes a lock again at once, and one that has to sleep for it.

use std::sync::Barrier;

use super::*;
use crate::ipc::deadline::Forever;
use crate::sync::watched::WatchedThread;

#[test]
fn a_lock_is_kept_for_a_sleeper_when_its_turn_has_come() {
    const ROUNDS: usize = 10;
    let (word, kept_at) = (AtomicU32::new(0), AtomicU32::new(0));
    let (runs, sleeps) = (holder(2, 1), holder(3, 1));
    let taken_again = (0..ROUNDS).filter(|_| {
        let (watched, end) = (WatchedThread::default(), Barrier::new(2));
        lock(&word, runs, &Forever).expect("nothing ends it");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                watched.begin();
                lock(&word, sleeps, &Forever).expect("nothing ends it");
                end.wait();
                unlock(&word, sleeps);
            });
            while !has_waiters(&word) {
                std::thread::yield_now();
            }
            watched.wait_until_it_sleeps();
            kept_at.store((monotonic_us() as u32).wrapping_sub(1_000_000), Ordering::Relaxed);
            unlock_fairly(&word, runs, Turns(&kept_at));
            let again = try_lock(&word, runs);
            if again {
                unlock(&word, runs);
            }
            end.wait();
            again
        })
    });
    // A waiter that wakes to check just then does not sleep, so not every round counts.
    let taken_again = taken_again.count();
    assert!(taken_again < ROUNDS / 2, "taken again in {taken_again} of {ROUNDS} rounds");
    assert_eq!(word.load(Ordering::Relaxed) & HOLDER, 0);
}

#[test]
fn a_lock_is_not_kept_if_no_thread_sleeps() {
    let word = AtomicU32::new(holder(2, 1) | WAITERS);
    let kept_at = AtomicU32::new((monotonic_us() as u32).wrapping_sub(1_000_000));
    // The thread that set the bit has given up, so the lock is free at once.
    assert!(unlock_fairly(&word, holder(2, 1), Turns(&kept_at)));
    assert_eq!(word.load(Ordering::Relaxed), 0);
    assert!(try_lock(&word, holder(2, 1)));
}

#[test]
fn a_repair_frees_a_lock_that_is_kept_and_passes_it_to_nobody() {
    let word = AtomicU32::new(KEPT | WAITERS);
    assert!(!try_lock(&word, holder(2, 1)));
    assert!(!repair(&word, 9, HUB, || panic!("the dead process did not hold it")));
    assert_eq!(word.load(Ordering::Relaxed), 0);
}
