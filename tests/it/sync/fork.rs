//! Forks that the host program makes: in a fork, handles return an error, and what the fork drops
//! does not affect the original.

use std::thread;

use offspring::sync::{Encoded, Mutex, ReentrantMutex, RwLock, Semaphore};
use offspring::{JoinableQueue, Pool, Queue};
use serde::{Deserialize, Serialize};

/// Returns 0 in the fork. It must make only calls that return at once, because it has no other
/// thread, and end with [`end_fork`].
fn fork_here() -> libc::pid_t {
    // SAFETY: the child makes such calls of this crate only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above. The alarm ends it if a call does not return.
        unsafe { libc::alarm(20) };
    }
    child
}

fn end_fork(all_is_well: bool) -> ! {
    // SAFETY: no destructors and no exit hooks run.
    unsafe { libc::_exit(if all_is_well { 0 } else { 1 }) }
}

fn await_fork(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: a child of this process that nothing else waits for.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "it ended well");
}

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
    let child = fork_here();
    if child == 0 {
        let all = errors((&own.0, &numbers, &pool, &own.1), (&lock, &permits, &queue))
            && sender.send(2).is_err()
            && receiver.recv().is_err();
        drop((own, numbers, pool, lock, permits, queue, sender, receiver));
        end_fork(all);
    }
    await_fork(child);
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

/// One of each object that a thread can hold something of.
#[derive(Clone, Serialize, Deserialize)]
struct Held {
    mutex: Mutex<u64>,
    words: Mutex<Vec<String>, Encoded>,
    written: RwLock<u64>,
    read: RwLock<u64>,
    deep: ReentrantMutex<u64>,
    permits: Semaphore,
    jobs: JoinableQueue<u64>,
}

impl Held {
    fn new() -> Held {
        Held {
            mutex: Mutex::new(0).unwrap(),
            words: Mutex::encoded(Vec::new()).unwrap(),
            written: RwLock::new(0).unwrap(),
            read: RwLock::new(0).unwrap(),
            deep: ReentrantMutex::new(0).unwrap(),
            permits: Semaphore::new(1).unwrap(),
            jobs: JoinableQueue::unbounded().unwrap(),
        }
    }

    /// Holds everything, lets a fork drop its copies of the guards, and checks that this process
    /// holds everything still.
    fn hold_in_a_fork_as_well(&self) {
        self.jobs.put(7).unwrap();
        let mutex = self.mutex.lock().unwrap();
        let mut words = self.words.lock().unwrap();
        words.push("the original's".to_owned());
        let (written, read) = (self.written.write().unwrap(), self.read.read().unwrap());
        let (deep, permit) = (self.deep.lock().unwrap(), self.permits.acquire().unwrap());
        let job = self.jobs.get().unwrap();
        let child = fork_here();
        if child == 0 {
            drop((mutex, words, written, read, deep, permit, job));
            end_fork(true);
        }
        await_fork(child);
        thread::scope(|scope| {
            scope.spawn(|| {
                self.mutex.try_lock().unwrap_err();
                self.words.try_lock().unwrap_err();
                self.written.try_read().unwrap_err();
                self.read.try_write().unwrap_err();
                self.deep.try_lock().unwrap_err();
                self.permits.try_acquire().unwrap_err();
                self.jobs.try_get().unwrap_err();
            });
        });
        drop((mutex, words, written, read, deep, permit));
        assert_eq!(self.words.lock().unwrap().as_slice(), ["the original's"]);
        job.task_done();
        drop((self.mutex.lock().unwrap(), self.written.write().unwrap()));
        drop((self.read.write().unwrap(), self.deep.lock().unwrap()));
        assert_eq!(self.permits.available(), 1);
        self.jobs.join().unwrap();
    }
}

#[offspring::worker]
fn hold(others: Held) {
    others.hold_in_a_fork_as_well();
    Held::new().hold_in_a_fork_as_well();
}

#[offspring::test(timeout = "60s")]
fn what_a_fork_drops_stays_held_by_the_original() {
    let held = Held::new();
    hold::spawn(held.clone()).unwrap().join().unwrap();
    assert_eq!(held.words.lock().expect("it is not poisoned").as_slice(), ["the original's"]);
}
