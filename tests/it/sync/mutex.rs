//! Mutual exclusion, poisoning, values in place and encoded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use offspring::Queue;
use offspring::sync::{Encoded, Event, LockError, LockTimeoutError, Mutex, TryLockError};

use super::is_contended;
use crate::support::{eventually, open_fds};

const LONG: Duration = Duration::from_secs(20);

#[offspring::worker]
fn count(total: Mutex<[u64; 2]>, rounds: u64) {
    for _ in 0..rounds {
        let mut total = total.lock().unwrap();
        assert_eq!(total[0], total[1], "somebody else is here");
        total[0] += 1;
        total[1] += 1;
    }
}

#[offspring::test(timeout = "60s")]
fn processes_and_threads_exclude_each_other() {
    let total = Mutex::new([0; 2]).unwrap();
    let children: Vec<_> = (0..3).map(|_| count::spawn(total.clone(), 20_000).unwrap()).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| count(total.clone(), 20_000));
        }
    });
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(*total.lock().unwrap(), [100_000; 2]);
    assert!(!total.is_locked());
}

#[offspring::worker]
fn hold(lock: Mutex<u64>, held: Event, release: Event) -> bool {
    let mut guard = lock.lock().unwrap();
    *guard += 1;
    held.set();
    release.wait_timeout(LONG).is_ok()
}

#[offspring::test(timeout = "60s")]
fn try_and_timeout_see_a_lock_of_another_process() {
    let (lock, held, release) =
        (Mutex::new(1).unwrap(), Event::new().unwrap(), Event::new().unwrap());
    let child = hold::spawn(lock.clone(), held.clone(), release.clone()).unwrap();
    held.wait_timeout(LONG).unwrap();
    assert!(lock.is_locked());
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(30)] {
        let start = Instant::now();
        let error = lock.lock_timeout(timeout).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + Duration::from_secs(2));
    }
    release.set();
    assert_eq!(*lock.lock_timeout(Duration::MAX).unwrap(), 2);
    assert!(child.join().unwrap());
    assert_eq!(*lock.try_lock().unwrap(), 2);
}

#[test]
fn a_thread_does_not_wait_for_itself() {
    let lock = Mutex::new(1).unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    assert!(matches!(lock.clone().lock_timeout(LONG), Err(LockTimeoutError::Deadlock)));
    // Another thread does wait.
    let other = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                lock.lock_timeout(Duration::from_millis(20)).is_err_and(|error| error.is_timeout())
            })
            .join()
    });
    assert!(other.unwrap());
    drop(guard);
    assert_eq!(*lock.lock().unwrap(), 1);
}

#[offspring::worker]
fn panic_with(lock: Mutex<u64>) {
    let mut guard = lock.lock().unwrap();
    *guard = 7;
    panic!("in the middle");
}

#[offspring::test(timeout = "60s")]
fn a_panic_poisons_until_somebody_clears_it() {
    let lock = Mutex::new(1).unwrap();
    panic_with::spawn(lock.clone()).unwrap().join().unwrap_err();
    let Err(LockError::Poisoned(poison)) = lock.lock() else { panic!("it is poisoned") };
    assert!(!poison.holder_died());
    assert_eq!(**poison.get_ref(), 7);
    drop(poison);
    assert!(lock.is_poisoned());
    assert!(matches!(lock.try_lock(), Err(TryLockError::Poisoned(_))));
    *lock.lock().unwrap_err().into_guard().unwrap() = 2;
    lock.clear_poison();
    assert_eq!(*lock.lock().unwrap(), 2);
}

#[offspring::worker]
fn insert(words: Mutex<BTreeMap<String, Vec<u32>>, Encoded>, name: String) {
    for n in 0..100 {
        words.lock().unwrap().entry(name.clone()).or_default().push(n);
    }
}

#[offspring::test(timeout = "60s")]
fn an_encoded_value_is_everybodys() {
    let words = Mutex::encoded(BTreeMap::new()).unwrap();
    let children = ["a", "b"].map(|name| insert::spawn(words.clone(), name.to_owned()).unwrap());
    insert(words.clone(), "c".to_owned());
    for child in children {
        child.join().unwrap();
    }
    let words = words.lock().unwrap();
    assert_eq!(words.len(), 3);
    assert!(words.values().all(|numbers| numbers.iter().copied().eq(0..100)));
}

#[test]
fn an_encoded_value_that_grows_too_large_keeps_the_old_one() {
    let text = Mutex::encoded_within("short".to_owned(), 100).unwrap();
    let mut guard = text.lock().unwrap();
    *guard = "x".repeat(200);
    let error = guard.commit().unwrap_err();
    assert!(error.to_string().contains("capacity of 100 bytes"), "{error}");
    "fits".clone_into(&mut guard);
    guard.commit().unwrap();
    drop(guard);
    assert_eq!(*text.lock().unwrap(), "fits");
    text.lock().unwrap().push_str(&"x".repeat(200));
    assert_eq!(*text.lock().unwrap_err().into_guard().unwrap(), "fits");
    // Handles would be lost in there.
    let queue = Queue::<u64>::unbounded().unwrap();
    Mutex::encoded(queue).unwrap_err();
}

#[offspring::worker]
fn fill(numbers: Mutex<[u32]>, value: u32) {
    numbers.lock().unwrap().fill(value);
}

#[offspring::test(timeout = "60s")]
fn a_slice_lies_in_place() {
    let numbers = Mutex::<[u32]>::zeroed(1000).unwrap();
    fill::spawn(numbers.clone(), 7).unwrap().join().unwrap();
    assert_eq!(*numbers.lock().unwrap(), [7; 1000]);
    assert!(Mutex::<[u64]>::zeroed(usize::MAX).is_err());
    assert_eq!(Mutex::from_slice(&[1, 2, 3]).unwrap().lock().unwrap().len(), 3);
    assert!(Mutex::<[u8]>::zeroed(0).unwrap().lock().unwrap().is_empty());
}

#[offspring::worker]
fn pass_on(there: Queue<Mutex<u64>>, back: Queue<Mutex<u64>>) {
    for lock in &there {
        *lock.lock().unwrap() += 1;
        let child = grandchild::spawn(lock.clone()).unwrap();
        child.join().unwrap();
        back.put(lock).unwrap();
    }
}

#[offspring::worker]
fn grandchild(lock: Mutex<u64>) {
    *lock.lock().unwrap() += 1;
}

#[offspring::test(timeout = "60s")]
fn handles_travel_in_items_on_and_home_and_leave_nothing_behind() {
    send_around::spawn().unwrap().join().unwrap();
}

/// In a process where no other test opens anything.
#[offspring::worker]
fn send_around() {
    let (there, back) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let child = pass_on::spawn(there.clone(), back.clone()).unwrap();
    let round = || {
        let lock = Mutex::new(40).unwrap();
        there.put(lock.clone()).unwrap();
        let home = back.get().unwrap();
        assert_eq!(*home.lock().unwrap(), 42);
        *home.lock().unwrap() = 1;
        assert_eq!(*lock.lock().unwrap(), 1);
    };
    round();
    round();
    let before = open_fds();
    (0..10).for_each(|_| round());
    eventually("no descriptor is left open", || open_fds() <= before);
    there.close().unwrap();
    child.join().unwrap();
}

#[offspring::worker]
fn make() -> Mutex<u64> {
    Mutex::new(1).unwrap()
}

#[offspring::worker]
fn make_and_stay(out: Queue<Mutex<u64>>, end: Event) {
    out.put(Mutex::new(1).unwrap()).unwrap();
    end.wait_timeout(LONG).unwrap();
}

#[offspring::test(timeout = "60s")]
fn a_lock_ends_with_the_process_that_made_it() {
    let lock = make::spawn().unwrap().join().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::Disconnected)));

    let (out, end) = (Queue::unbounded().unwrap(), Event::new().unwrap());
    let owner = make_and_stay::spawn(out.clone(), end.clone()).unwrap();
    let lock = out.get().unwrap();
    let guard = lock.lock().unwrap();
    std::thread::scope(|scope| {
        // A thread that waits without a limit wakes up.
        let waiter = scope.spawn(|| matches!(lock.lock(), Err(LockError::Disconnected)));
        eventually("it waits", || is_contended(&lock));
        owner.kill();
        assert!(waiter.join().unwrap());
    });
    drop(guard);
    assert!(matches!(lock.try_lock(), Err(TryLockError::Disconnected)));
    owner.join().unwrap_err();
}
