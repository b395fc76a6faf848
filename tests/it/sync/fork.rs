//! Forks that the host program makes: in a fork, handles return an error, and what the fork drops
//! does not affect the original.

use offspring::sync::{Mutex, RwLock, Semaphore};
use offspring::{Pool, Queue};

/// Returns whether every call fails in a fork, with an error that names the fork as the cause.
fn errors(
    own: (&Mutex<u64>, &RwLock<u64>, &Pool, &Queue<u64>),
    others: (&Mutex<u64>, &Semaphore, &Queue<u64>),
) -> bool {
    let says_so = |error: &dyn std::error::Error| error.to_string().contains("is a fork");
    own.0.lock().is_err_and(|error| says_so(&error))
        && own.1.read().is_err_and(|error| says_so(&error))
        && own.1.try_write().is_err_and(|error| says_so(&error))
        && own.2.submit(nothing::new()).is_err()
        && own.3.get().is_err_and(|error| says_so(&error))
        && own.3.put(1).is_err_and(|error| says_so(&error))
        && others.0.lock().is_err_and(|error| says_so(&error))
        && others.0.try_lock().is_err_and(|error| says_so(&error))
        && others.1.acquire().is_err_and(|error| says_so(&error))
        && others.2.get().is_err_and(|error| says_so(&error))
        && others.2.put(1).is_err_and(|error| says_so(&error))
        && others.2.len().is_err_and(|error| says_so(&error))
}

#[offspring::worker]
fn nothing() {}

#[offspring::worker]
fn fork(lock: Mutex<u64>, permits: Semaphore, queue: Queue<u64>) {
    let own = (Mutex::new(0).unwrap(), Queue::unbounded().unwrap());
    let (numbers, pool) = (RwLock::new(0).unwrap(), Pool::new(1).unwrap());
    *lock.lock().unwrap() += 1;
    drop(permits.acquire().unwrap());
    *numbers.write().unwrap() += 1;
    pool.run(nothing::new()).unwrap();
    queue.put(1).unwrap();
    *own.0.lock().unwrap() += 1;
    own.1.put(1).unwrap();
    let (sender, receiver) = offspring::channel().unwrap();
    sender.send(1).unwrap();
    // SAFETY: the child makes calls of this crate only, which return at once, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above. The alarm ends it if a call does not return.
        unsafe { libc::alarm(20) };
        let all = errors((&own.0, &numbers, &pool, &own.1), (&lock, &permits, &queue))
            && sender.send(2).is_err()
            && receiver.recv().is_err();
        drop((own, numbers, pool, lock, permits, queue, sender, receiver));
        // SAFETY: as above.
        unsafe { libc::_exit(if all { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: a child of this process that nothing else waits for.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "it ended well");
    // The original's handles were not detached.
    *lock.lock().unwrap() += 1;
    drop(permits.acquire().unwrap());
    assert_eq!(*numbers.read().unwrap(), 1);
    pool.run(nothing::new()).unwrap();
    queue.put(2).unwrap();
    assert_eq!(own.1.get().unwrap(), 1);
    *own.0.lock().unwrap() += 1;
    sender.send(3).unwrap();
    assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (1, 3));
}

#[offspring::test(timeout = "60s")]
fn in_a_fork_every_call_is_an_error_and_the_original_works_on() {
    let (lock, permits) = (Mutex::new(0).unwrap(), Semaphore::new(1).unwrap());
    let queue = Queue::unbounded().unwrap();
    fork::spawn(lock.clone(), permits.clone(), queue.clone()).unwrap().join().unwrap();
    assert_eq!(*lock.lock().expect("it is not poisoned"), 2);
    assert_eq!(permits.available(), 1);
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (1, 2));
}
