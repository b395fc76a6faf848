//! A process that loses its session with the owner of a lock, or is refused something by it, loses
//! nothing that it holds: only its end does that.

use std::time::Duration;

use offspring::sync::{Event, LockError, Mutex, Semaphore, TryLockError};
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{HandleError, ProcessBuilder, Queue, Receiver, channel};

use super::is_contended;
use crate::support::{close_descriptors, eventually, open_fds, signal, suspend};

const LONG: Duration = Duration::from_secs(20);

#[derive(serde::Serialize, serde::Deserialize)]
struct Held {
    lock: Mutex<u64>,
    permits: Semaphore,
    held: Event,
    go_on: Event,
    released: Event,
}

#[offspring::worker]
fn lose_the_session(held: Held) {
    let mut guard = held.lock.lock().unwrap();
    let permit = held.permits.acquire().unwrap();
    // Attached, before there is no way to do that.
    assert!(!held.released.is_set() && !held.go_on.is_set());
    held.go_on.wait_timeout(Duration::ZERO).unwrap_err();
    close_descriptors();
    held.held.set();
    held.go_on.wait_timeout(LONG).unwrap();
    *guard += 1;
    drop(guard);
    drop(permit);
    held.released.set();
    std::thread::sleep(LONG);
}

#[offspring::test(timeout = "60s")]
fn a_process_that_lost_its_session_keeps_its_locks_and_releases_them_itself() {
    let (lock, permits) = (Mutex::new(7).unwrap(), Semaphore::new(1).unwrap());
    let events: [Event; 3] = std::array::from_fn(|_| Event::new().unwrap());
    let [held, go_on, released] = events.clone();
    let all = Held { lock: lock.clone(), permits: permits.clone(), held, go_on, released };
    let child = lose_the_session::spawn(all).unwrap();
    let [held, go_on, released] = events;
    held.wait_timeout(LONG).unwrap();
    // The hub has had its turn after the end of that session: a new one has been served.
    look::spawn(lock.clone()).unwrap().join().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| *lock.lock().expect("it is not poisoned"));
        eventually("the thread waits", || is_contended(&lock));
        assert_eq!(permits.available(), 0);
        assert!(!waiter.is_finished());
        go_on.set();
        assert_eq!(waiter.join().unwrap(), 8);
    });
    released.wait_timeout(LONG).unwrap();
    drop(permits.acquire_timeout(LONG).unwrap());
    child.kill();
    child.join().unwrap_err();
}

#[offspring::worker]
fn look(lock: Mutex<u64>) {
    lock.try_lock().unwrap_err();
}

#[offspring::worker]
fn lose_the_session_and_die(lock: Mutex<u64>, held: Event) {
    let _guard = lock.lock().unwrap();
    held.wait_timeout(Duration::ZERO).unwrap_err();
    close_descriptors();
    held.set();
    std::thread::sleep(LONG);
}

#[offspring::test(timeout = "60s")]
fn what_a_process_without_session_holds_is_released_when_it_ends() {
    let (lock, held) = (Mutex::new(0).unwrap(), Event::new().unwrap());
    let child = lose_the_session_and_die::spawn(lock.clone(), held.clone()).unwrap();
    held.wait_timeout(LONG).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| match lock.lock() {
            Err(LockError::Poisoned(poison)) => poison.holder_died(),
            _ => panic!("it is poisoned"),
        });
        eventually("the thread waits", || is_contended(&lock));
        child.kill();
        assert!(waiter.join().unwrap());
    });
    child.join().unwrap_err();
}

/// More locks than one process may attach, which is 4096.
const MANY: usize = 4160;

#[offspring::worker]
fn hold_many(first: Mutex<u64>, more: Queue<Vec<Mutex<u64>>>, held: Event, go_on: Event) -> String {
    let mut guard = first.lock().unwrap();
    let mut kept = Vec::new();
    while kept.len() < MANY {
        kept.extend(more.get().unwrap());
    }
    let refused = kept.iter().filter_map(|lock| lock.lock().err()).collect::<Vec<_>>();
    let last = format!("{:?}", refused.last());
    // The queue and the two events are attached too.
    assert!((64..=68).contains(&refused.len()), "{} {last}", refused.len());
    assert!(
        refused.iter().all(|error| matches!(error, LockError::Handle(HandleError::Refused(_))))
    );
    held.set();
    go_on.wait_timeout(LONG).unwrap();
    *guard += 1;
    last
}

#[offspring::test(timeout = "120s")]
fn a_process_with_too_many_locks_is_refused_one_and_keeps_the_others() {
    let Some(builder) = with_descriptors(10_000) else {
        return;
    };
    let (first, queue) = (Mutex::new(0).unwrap(), Queue::unbounded().unwrap());
    let (held, go_on) = (Event::new().unwrap(), Event::new().unwrap());
    let worker = hold_many::new(first.clone(), queue.clone(), held.clone(), go_on.clone());
    let child = builder.spawn(worker).unwrap();
    let mut locks = Vec::new();
    for _ in 0..MANY / 16 {
        let some: Vec<_> = (0..16).map(|_| Mutex::new(0u64).unwrap()).collect();
        queue.put(some.clone()).unwrap();
        locks.extend(some);
    }
    held.wait_timeout(LONG).unwrap();
    assert!(first.try_lock().is_err(), "the child holds it");
    // Those that it has, and those that it has not, work on.
    drop((locks[0].lock().unwrap(), locks[MANY - 1].lock().unwrap()));
    go_on.set();
    let refused = child.join().unwrap();
    assert!(refused.contains("4096 objects"), "{refused}");
    assert_eq!(*first.lock().expect("it is not poisoned"), 1);
}

/// A builder for children that may have this many descriptors; `None` if the system forbids that.
/// This process may have them, too.
fn with_descriptors(count: u64) -> Option<ProcessBuilder> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads and writes one struct.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_cur.max(count);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    (raised == 0).then(|| ProcessBuilder::new().rlimit(Resource::OpenFiles, count, count))
}

/// Makes locks and sends them on their way, and keeps no handle; then holds still.
#[offspring::worker]
fn make(count: usize, guarded: Mutex<u64>, all: offspring::Sender<Vec<Mutex<u64>>>) {
    drop(guarded);
    for _ in 0..count / 16 {
        all.send((0..16).map(|n| Mutex::new(n).unwrap()).collect()).unwrap();
    }
    std::thread::sleep(LONG);
}

/// Receives all locks of a process that is stopped.
fn receive(
    count: usize,
) -> (offspring::Process<()>, Vec<Vec<Mutex<u64>>>, Receiver<Vec<Mutex<u64>>>) {
    let (sender, receiver) = channel().unwrap();
    let own = Mutex::new(0).unwrap();
    let child = make::spawn(count, own, sender).unwrap();
    let mut all = vec![receiver.recv_timeout(LONG).unwrap()];
    // Attached.
    drop(all[0][0].lock().unwrap());
    while all.len() < count / 16 {
        all.push(receiver.recv_timeout(LONG).unwrap());
    }
    suspend(child.pid());
    (child, all, receiver)
}

#[offspring::test(timeout = "60s")]
fn a_stopped_owner_holds_up_neither_drop_nor_decode_nor_send_of_a_handle() {
    let (child, mut all, _receiver) = receive(320);
    let kept = all.swap_remove(0);
    // A handle that is sent on requests a reference from the owner. A handle that is dropped
    // notifies the owner.
    let (sender, receiver) = channel().unwrap();
    for _ in 0..64 {
        sender.send(kept[0].clone()).unwrap();
        drop(receiver.recv().unwrap());
    }
    drop(all);
    signal(child.pid(), "CONT");
    *kept[1].lock().unwrap() += 1;
    *kept[0].lock().unwrap() += 1;
    // A new object of the same owner is attached after all of these messages.
    drop(kept);
    child.kill();
    child.join().unwrap_err();
}

#[offspring::worker]
fn burst(locks: Receiver<Vec<Mutex<u64>>>, there: Event, guarded: Mutex<u64>, queue: Queue<u64>) {
    let guard = guarded.lock().unwrap();
    there.wait_timeout(LONG).unwrap();
    let parent = std::os::unix::process::parent_id();
    suspend(parent);
    // The attachments of the locks, the ends of the attachments, and the ends of the references
    // have all arrived when the owner continues.
    for _ in 0..8 {
        drop(locks.recv().unwrap());
    }
    signal(parent, "CONT");
    queue.put(1).unwrap();
    assert_eq!(queue.len().unwrap(), 1);
    drop(guard);
}

/// The owner of the burst, in a process of its own: stopping it stops nothing else.
#[offspring::worker]
fn own_burst() {
    for _ in 0..5 {
        let (sender, receiver) = channel().unwrap();
        let (there, guarded) = (Event::new().unwrap(), Mutex::new(0).unwrap());
        let queue = Queue::unbounded().unwrap();
        let (event, lock) = (there.clone(), guarded.clone());
        let child = burst::spawn(receiver, event, lock, queue.clone()).unwrap();
        for _ in 0..8 {
            let some: Vec<_> = (0..16).map(|_| Mutex::new(0u64).unwrap()).collect();
            sender.send(some).unwrap();
        }
        there.set();
        child.join().unwrap();
        assert_eq!(queue.try_get().unwrap(), 1);
        assert_eq!(*guarded.lock().expect("it is not poisoned"), 0);
    }
}

#[offspring::test(timeout = "60s")]
fn handles_that_are_dropped_at_once_cost_no_session() {
    own_burst::spawn().unwrap().join().unwrap();
}

#[offspring::worker]
fn make_one() -> Mutex<u64> {
    Mutex::new(0).unwrap()
}

#[offspring::test(timeout = "60s")]
fn a_handle_that_arrives_after_its_owner_has_ended_says_so() {
    let lock = make_one::spawn().unwrap().join().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::Disconnected)));
    assert!(matches!(lock.try_lock(), Err(TryLockError::Disconnected)));
}

#[offspring::worker]
fn panic_with(lock: Mutex<u64>) {
    drop(lock.lock().unwrap());
    panic!("on purpose, with a lock of {lock:?}");
}

#[offspring::worker]
fn use_once(lock: Mutex<u64>) {
    *lock.lock().unwrap() += 1;
}

/// A pool in a process of its own, whose descriptors are counted.
#[offspring::worker]
fn count_after_panics() {
    let pool = offspring::Pool::new(1).unwrap();
    let lock = Mutex::new(0).unwrap();
    pool.run(use_once::new(lock.clone())).unwrap();
    let before = open_fds();
    for _ in 0..12 {
        pool.run(panic_with::new(Mutex::new(0).unwrap())).unwrap_err();
    }
    // A handle arrives in the worker, which has outlived its panics.
    pool.run(use_once::new(lock)).unwrap();
    eventually("the locks of all panics are gone", || open_fds() <= before + 3);
}

#[offspring::test(timeout = "60s")]
fn handles_that_are_dropped_by_panics_do_not_add_up() {
    count_after_panics::spawn().unwrap().join().unwrap();
}

#[offspring::worker]
fn hold_once(queue: Queue<u64>) {
    drop(queue);
}

#[offspring::test(timeout = "60s")]
fn a_handle_that_a_lock_refuses_to_store_is_not_on_its_way() {
    let queue = Queue::unbounded().unwrap();
    hold_once::spawn(queue.clone()).unwrap().join().unwrap();
    assert!(Mutex::encoded(queue.clone()).is_err());
    assert!(matches!(queue.get(), Err(offspring::queue::GetError::Abandoned)));
}
