//! Many readers or one writer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use offspring::shared::AtomicI64;
use offspring::sync::{Encoded, Event, LockError, RwLock, Semaphore, TryLockError};

const LONG: Duration = Duration::from_secs(20);

#[offspring::worker]
fn read(lock: RwLock<u64>, inside: Semaphore, release: Event) -> u64 {
    let guard = lock.read().unwrap();
    inside.acquire().unwrap().forget();
    release.wait_timeout(LONG).unwrap();
    *guard
}

#[offspring::test(timeout = "60s")]
fn readers_are_together_and_a_writer_is_alone() {
    let (lock, inside, release) =
        (RwLock::new(5).unwrap(), Semaphore::new(2).unwrap(), Event::new().unwrap());
    let readers =
        [(); 2].map(|()| read::spawn(lock.clone(), inside.clone(), release.clone()).unwrap());
    while inside.available() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(*lock.try_read().unwrap(), 5);
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    assert!(lock.write_timeout(Duration::from_millis(20)).unwrap_err().is_timeout());
    // The writer that gave up keeps no reader out.
    assert_eq!(*lock.read_timeout(Duration::from_millis(20)).unwrap(), 5);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| *lock.write().unwrap() = 6);
        // A writer that waits goes before new readers.
        while lock.try_read().is_ok() {
            std::thread::yield_now();
        }
        release.set();
        writer.join().unwrap();
    });
    for reader in readers {
        assert_eq!(reader.join().unwrap(), 5);
    }
    let guard = lock.write().unwrap();
    assert!(matches!(lock.try_read(), Err(TryLockError::Deadlock)));
    drop(guard);
    assert_eq!(*lock.read().unwrap(), 6);
}

#[offspring::worker]
fn mix(lock: RwLock<[u64; 2]>, readers: AtomicI64, rounds: u64) {
    for n in 0..rounds {
        if n % 4 == 0 {
            let mut pair = lock.write().unwrap();
            assert_eq!(readers.load(Ordering::SeqCst), 0, "somebody reads what is written");
            pair[0] += 1;
            pair[1] += 1;
        } else {
            let pair = lock.read().unwrap();
            readers.fetch_add(1, Ordering::SeqCst);
            assert_eq!(pair[0], pair[1]);
            readers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[offspring::test(timeout = "60s")]
fn readers_never_see_half_of_a_write() {
    let (lock, readers) = (RwLock::new([0; 2]).unwrap(), AtomicI64::new(0).unwrap());
    let children = [(); 2].map(|()| mix::spawn(lock.clone(), readers.clone(), 4000).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| mix(lock.clone(), readers.clone(), 4000));
        }
    });
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(*lock.read().unwrap(), [4000; 2]);
}

#[offspring::worker]
fn hold(lock: RwLock<Vec<String>, Encoded>, held: Event, write: bool) {
    if write {
        let mut guard = lock.write().unwrap();
        guard.push("half".to_owned());
        held.set();
        std::thread::sleep(LONG);
    } else {
        let _guard = lock.read().unwrap();
        held.set();
        std::thread::sleep(LONG);
    }
}

#[offspring::test(timeout = "60s")]
fn a_dead_reader_lets_writers_in_and_a_dead_writer_poisons() {
    let (lock, held) = (RwLock::encoded(vec!["one".to_owned()]).unwrap(), Event::new().unwrap());
    let reader = hold::spawn(lock.clone(), held.clone(), false).unwrap();
    held.wait_timeout(LONG).unwrap();
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    reader.kill();
    lock.write_timeout(LONG).unwrap().push("two".to_owned());
    reader.join().unwrap_err();

    held.clear();
    let writer = hold::spawn(lock.clone(), held.clone(), true).unwrap();
    held.wait_timeout(LONG).unwrap();
    assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    writer.kill();
    let Err(LockError::Poisoned(poison)) = lock.read() else { panic!("it is poisoned") };
    assert!(poison.holder_died());
    // What it had written was its own copy.
    assert_eq!(*poison.into_inner(), ["one", "two"]);
    lock.clear_poison();
    assert_eq!(lock.read().unwrap().len(), 2);
    writer.join().unwrap_err();
}
