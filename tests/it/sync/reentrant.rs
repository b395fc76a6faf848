//! Locking again what one holds.

use std::time::{Duration, Instant};

use offspring::sync::{Event, LockError, ReentrantMutex, TryLockError};
use offspring::{Sender, channel, wait_any};

use crate::support::{signal, suspend};

const LONG: Duration = Duration::from_secs(20);

#[offspring::worker]
fn hold_twice(lock: ReentrantMutex<u64>, held: Event, release: Event) {
    let outer = lock.lock().unwrap();
    let inner = lock.lock().unwrap();
    inner.set(outer.get() + 1);
    drop(outer);
    held.set();
    let _ = release.wait_timeout(LONG);
    drop(inner);
}

#[offspring::test(timeout = "60s")]
fn it_is_free_when_all_guards_are_dropped() {
    let lock = ReentrantMutex::new(1).unwrap();
    let guards = [lock.lock().unwrap(), lock.try_lock().unwrap(), lock.lock_timeout(LONG).unwrap()];
    let from_another_thread =
        || std::thread::scope(|scope| scope.spawn(|| lock.try_lock().is_ok()).join().unwrap());
    for guard in guards {
        assert!(!from_another_thread());
        assert_eq!(guard.update(|value| value + 1), guard.get());
        drop(guard);
    }
    assert!(from_another_thread());
    assert_eq!(lock.lock().unwrap().get(), 4);

    let (held, release) = (Event::new().unwrap(), Event::new().unwrap());
    for kill in [false, true] {
        held.clear();
        let child = hold_twice::spawn(lock.clone(), held.clone(), release.clone()).unwrap();
        held.wait_timeout(LONG).unwrap();
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(lock.lock_timeout(Duration::from_millis(10)).unwrap_err().is_timeout());
        if kill {
            child.kill();
            assert!(
                matches!(lock.lock(), Err(LockError::Poisoned(poison)) if poison.holder_died())
            );
            child.join().unwrap_err();
        } else {
            release.set();
            assert_eq!(lock.lock().unwrap().get(), 5);
            child.join().unwrap();
            release.clear();
        }
    }
    lock.clear_poison();
    assert_eq!(lock.lock().unwrap().get(), 6);
    assert!(!lock.is_locked());
}

#[offspring::worker]
fn own(to: Sender<ReentrantMutex<u64>>) {
    to.send(ReentrantMutex::new(7).unwrap()).expect("the test receives");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "60s")]
fn a_timeout_holds_on_first_use_while_the_owner_is_stopped() {
    let (to, locks) = channel().unwrap();
    let owner = own::spawn(to).unwrap();
    // It is here, and not decoded: this process uses it for the first time after its owner was
    // stopped.
    wait_any(&[&locks]).unwrap();
    suspend(owner.pid());
    let lock = locks.recv().unwrap();
    let start = Instant::now();
    assert!(lock.lock_timeout(Duration::from_millis(50)).unwrap_err().is_timeout());
    assert!(start.elapsed() < Duration::from_secs(10));
    signal(owner.pid(), "CONT");
    assert_eq!(lock.try_lock().unwrap().get(), 7);
    assert_eq!(lock.lock_timeout(LONG).unwrap().get(), 7);
    owner.kill();
}
