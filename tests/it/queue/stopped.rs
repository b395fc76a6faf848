//! Processes that are suspended in the middle of anything: no other process waits for them past its
//! deadline.

use std::time::{Duration, Instant};

use offspring::queue::{TryGetError, TryPutError};
use offspring::{Delivery, HandleError, JoinableQueue, Process, Queue};
use serde::{Deserialize, Serialize};

use super::{collect, produce};
use crate::support::{eventually, signal, suspend};

/// Stops a process, and kills it in the end.
struct Stopped<T: serde::de::DeserializeOwned>(Process<T>);

impl<T: serde::de::DeserializeOwned> Stopped<T> {
    fn new(process: Process<T>) -> Stopped<T> {
        let stopped = Stopped(process);
        stopped.stop();
        stopped
    }

    fn stop(&self) {
        suspend(self.0.pid());
    }

    fn resume(&self) {
        signal(self.0.pid(), "CONT");
    }
}

impl<T: serde::de::DeserializeOwned> Drop for Stopped<T> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// What a busy machine may add. A wait for a process that is stopped would not end at all.
const SLACK: Duration = Duration::from_secs(10);

/// That it took its time, and not much more.
fn takes<R>(time: Duration, call: impl FnOnce() -> R) -> R {
    let before = Instant::now();
    let result = call();
    let took = before.elapsed();
    assert!(took >= time, "only {took:?}");
    assert!(took < time + SLACK, "{took:?}");
    result
}

const TIME: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
struct Handles {
    small: Queue<u64>,
    large: Queue<Vec<u8>>,
    jobs: JoinableQueue<u64>,
    fresh: Queue<u64>,
}

#[offspring::worker]
fn own(handles: Queue<Handles>) {
    let all = Handles {
        small: Queue::bounded(3).unwrap(),
        large: Queue::unbounded().unwrap(),
        jobs: JoinableQueue::unbounded().unwrap(),
        fresh: Queue::unbounded().unwrap(),
    };
    // A process that might put, so that no queue is abandoned.
    let _kept = (all.small.clone(), all.jobs.clone(), all.fresh.clone());
    handles.put(all).expect("the test reads");
    loop {
        std::thread::park();
    }
}

fn stopped_owner(attach: bool) -> (Stopped<()>, Handles) {
    let handles = Queue::unbounded().unwrap();
    let owner = own::spawn(handles.clone()).unwrap();
    let all = handles.get().unwrap();
    if attach {
        assert!(all.small.is_empty().unwrap() && all.large.is_empty().unwrap());
        assert!(all.jobs.is_empty().unwrap());
    }
    (Stopped::new(owner), all)
}

#[offspring::test(timeout = "60s")]
fn every_timeout_holds_while_the_owner_is_stopped() {
    let (_owner, all) = stopped_owner(true);
    takes(TIME, || assert!(all.small.get_timeout(TIME).unwrap_err().is_timeout()));
    takes(TIME, || assert!(all.jobs.get_timeout(TIME).unwrap_err().is_timeout()));
    all.jobs.put(1).unwrap();
    takes(TIME, || assert!(all.jobs.join_timeout(TIME).unwrap_err().is_timeout()));
    // What it gets without asking is what it was granted before; then it is full.
    let error = (0..).find_map(|n| {
        let before = Instant::now();
        all.small.put_timeout(n, TIME).err().map(|error| (before.elapsed(), error))
    });
    let (took, error) = error.unwrap();
    assert!(error.is_timeout() && took < TIME + SLACK, "{took:?}");
    // Rings that are full, and channels that are.
    for size in [1000, 30_000, 32_760, 50_000, 1 << 20] {
        let error = (0..100_000).find_map(|_| {
            let before = Instant::now();
            let outcome = all.large.put_timeout(vec![1; size], TIME);
            assert!(before.elapsed() < TIME + SLACK, "{size}: {:?}", before.elapsed());
            outcome.err()
        });
        assert!(error.expect("it gets full").is_timeout());
        takes(TIME, || assert!(all.large.get_timeout(TIME).unwrap_err().is_timeout()));
    }
}

/// A call that asks the owner ends with the error that names it. A busy machine may need longer
/// than the second that the call waits, but not for ever.
fn unanswered<R>(owner: u32, call: impl FnOnce() -> Result<R, HandleError>) {
    let before = Instant::now();
    match call() {
        Err(HandleError::Unresponsive { pid }) => assert_eq!(pid, owner),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the owner answers"),
    }
    assert!(before.elapsed() >= Duration::from_secs(1));
}

fn refused_put(put: Result<(), TryPutError<u64>>) -> Result<(), HandleError> {
    match put.unwrap_err() {
        TryPutError::Handle(7, error) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn refused_get<T>(got: Result<T, TryGetError>) -> Result<(), HandleError> {
    match got.err().expect("there is no item") {
        TryGetError::Handle(error) => Err(error),
        other => panic!("{other}"),
    }
}

#[offspring::test(timeout = "120s")]
fn what_asks_the_owner_does_not_wait_for_one_that_is_stopped() {
    let (owner, all) = stopped_owner(true);
    let pid = owner.0.pid();
    // What it was granted before it takes; the next one has to ask.
    let mut put = Vec::new();
    let error = loop {
        match all.small.try_put(7) {
            Ok(()) => put.push(7),
            Err(error) => break error,
        }
    };
    assert!(put.len() <= 3, "{error}");
    unanswered(pid, || refused_put(all.small.try_put(7)));
    unanswered(pid, || refused_get(all.large.try_get()));
    unanswered(pid, || refused_get(all.jobs.try_get()));
    unanswered(pid, || refused_get(all.jobs.try_get_many(5)));
    unanswered(pid, || all.large.len());
    unanswered(pid, || all.small.is_empty());
    unanswered(pid, || all.small.is_full());
    unanswered(pid, || all.jobs.is_closed());
    unanswered(pid, || all.jobs.close());
    unanswered(pid, || all.large.close_and_discard());
    // One that this process has not used before has to be accepted first.
    unanswered(pid, || refused_get(all.fresh.try_get()));
    unanswered(pid, || all.fresh.len());
    assert_eq!((all.small.capacity(), all.fresh.capacity()), (Some(3), None));
    owner.resume();
    // All that was not refused is there once, and nothing else; what was asked for is done.
    eventually("it answers", || all.small.len().is_ok());
    for item in put {
        assert_eq!(all.small.get().unwrap(), item);
    }
    let end = all.small.try_get().unwrap_err();
    assert!(end.is_empty(), "{end:?}");
    for n in 0..3 {
        all.small.try_put(n).unwrap();
    }
    assert!(all.small.try_put(3).unwrap_err().is_full());
    assert!((0..3).all(|n| all.small.get().unwrap() == n));
    assert!(all.jobs.is_closed().unwrap() && all.large.is_closed().unwrap());
    assert!(!all.fresh.is_closed().unwrap());
    all.fresh.put(1).unwrap();
    assert_eq!(all.fresh.try_get().unwrap(), 1);
}

#[offspring::test(timeout = "120s")]
fn items_put_while_the_owner_is_stopped_are_neither_lost_nor_doubled() {
    let (owner, all) = stopped_owner(true);
    // Until the ring is full, then one more, which is refused.
    let mut put = 0;
    let refused = loop {
        match all.fresh.try_put(put) {
            Ok(()) => put += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, TryPutError::Handle(_, HandleError::Unresponsive { .. })));
    assert_eq!(refused.into_inner(), put);
    owner.resume();
    let got: Vec<u64> = (0..put).map(|_| all.fresh.get().unwrap()).collect();
    assert!(got.into_iter().eq(0..put));
    assert!(all.fresh.try_get().unwrap_err().is_empty());
}

/// The owner of a queue is stopped, and this process has `count` deliveries of that queue.
fn stopped_owner_of_deliveries(count: u64) -> (Stopped<()>, Handles, Vec<Delivery<u64>>) {
    let (owner, all) = stopped_owner(true);
    owner.resume();
    all.jobs.put_all(0..count).unwrap();
    let mut held = Vec::new();
    while held.len() < count as usize {
        held.extend(all.jobs.get_many(100).unwrap());
    }
    owner.stop();
    (owner, all, held)
}

#[offspring::test(timeout = "120s")]
fn deliveries_end_without_waiting_for_an_owner_that_is_stopped() {
    const HELD: u64 = 1000;
    let (owner, all, held) = stopped_owner_of_deliveries(HELD);
    // Items fill the ring as far as they may, and what is left is for these.
    let full = (HELD..).find_map(|n| all.jobs.put_timeout(n, TIME).err());
    let full = full.unwrap();
    assert!(full.is_timeout(), "{full}");
    let put = full.into_inner();
    let before = Instant::now();
    for (n, job) in held.into_iter().enumerate() {
        if n % 2 == 0 {
            job.task_done();
        } else {
            drop(job);
        }
    }
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    owner.resume();
    // Half of them come again, and all that was put.
    let mut seen = vec![0; put as usize];
    for _ in 0..HELD / 2 + (put - HELD) {
        let job = all.jobs.get().unwrap();
        seen[*job as usize] += 1;
        job.task_done();
    }
    all.jobs.join().unwrap();
    for (n, times) in seen.into_iter().enumerate() {
        let expected = u64::from(n as u64 >= HELD) + u64::from((n as u64) < HELD && n % 2 == 1);
        assert_eq!(times, expected, "{n}");
    }
}

#[offspring::test(timeout = "120s")]
fn dropped_deliveries_never_wait_for_an_owner_that_is_stopped() {
    // More than the ring has room for.
    const HELD: u64 = 20_000;
    let (owner, all, held) = stopped_owner_of_deliveries(HELD);
    // The owner reads nothing before this has ended.
    drop(held);
    owner.resume();
    let mut seen = vec![0; HELD as usize];
    for _ in 0..HELD {
        let job = all.jobs.get().unwrap();
        assert_eq!(job.attempt(), 2);
        seen[*job as usize] += 1;
        job.task_done();
    }
    all.jobs.join().unwrap();
    assert!(seen.into_iter().all(|times| times == 1));
}

#[offspring::test(timeout = "60s")]
fn a_thread_that_attaches_holds_up_no_other_threads_deadline() {
    let (owner, all) = stopped_owner(false);
    let queue = &all.fresh;
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| queue.get_timeout(Duration::from_secs(20)));
        std::thread::sleep(Duration::from_millis(20));
        takes(TIME, || assert!(queue.get_timeout(TIME).unwrap_err().is_timeout()));
        takes(TIME, || assert!(queue.clone().put_timeout(1, TIME).unwrap_err().is_timeout()));
        assert!(!patient.is_finished());
        owner.resume();
        queue.put(5).unwrap();
        assert_eq!(patient.join().unwrap().unwrap(), 5);
    });
}

#[offspring::worker]
fn put_one(queue: Queue<u64>) {
    queue.put(5).expect("its owner lives");
}

#[offspring::test(timeout = "60s")]
fn a_handle_that_was_never_used_goes_on_while_its_owner_is_stopped() {
    let (owner, all) = stopped_owner(false);
    let handles = Queue::unbounded().unwrap();
    takes(Duration::ZERO, || handles.put_timeout(all.fresh.clone(), TIME).unwrap());
    let child = takes(Duration::ZERO, || put_one::spawn(all.fresh).unwrap());
    owner.resume();
    // All that is left is what went on.
    assert_eq!(handles.get().unwrap().get_timeout(Duration::from_secs(10)).unwrap(), 5);
    child.join().unwrap();
}

#[offspring::test(timeout = "30s")]
fn an_item_handed_to_a_consumer_that_is_stopped_goes_to_another() {
    let queue = Queue::unbounded().unwrap();
    let consumers: Vec<_> = (0..2).map(|_| collect::spawn(queue.clone()).unwrap()).collect();
    let mut consumers = consumers.into_iter();
    for n in 0..100 {
        queue.put(n).unwrap();
    }
    eventually("both wait for more", || queue.is_empty().unwrap());
    let stopped = Stopped::new(consumers.next().unwrap());
    for n in 100..110 {
        queue.put(n).unwrap();
        // In the end the owner's thread waits for none of them, and none waits in vain.
        let before = Instant::now();
        eventually("the other has taken it", || queue.is_empty().unwrap());
        assert!(before.elapsed() < SLACK);
    }
    queue.close().unwrap();
    let others = consumers.next().unwrap().join().unwrap();
    assert!(others.ends_with(&(100..110).collect::<Vec<_>>()), "{others:?}");
    stopped.resume();
    let first = stopped.0.join_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(first.len() + others.len(), 110);
}

#[offspring::test(timeout = "30s")]
fn room_granted_to_a_producer_that_is_stopped_goes_to_another() {
    let queue = Queue::bounded(1).unwrap();
    let producer = produce::spawn(queue.clone(), 0..1000).unwrap();
    assert_eq!(queue.get().unwrap(), 0);
    // It waits for room nearly all of the time, and so it is stopped while it waits.
    let stopped = Stopped::new(producer);
    std::thread::sleep(Duration::from_millis(30));
    let mut got = Vec::new();
    for n in 10_000..10_020 {
        while let Ok(item) = queue.try_get() {
            got.push(item);
        }
        queue.put_timeout(n, Duration::from_secs(5)).expect("the room is not kept");
    }
    stopped.resume();
    queue.get_timeout(Duration::from_secs(5)).unwrap();
}

#[offspring::worker]
fn drink(queue: Queue<Vec<u8>>) -> usize {
    queue.iter().count()
}

#[offspring::test(timeout = "120s")]
fn a_flood_at_a_stopped_consumer_blocks_nobody() {
    for (size, count) in [(1, 50_000), (2000, 5_000), (40_000, 500)] {
        let queue = Queue::unbounded().unwrap();
        let stopped = drink::spawn(queue.clone()).unwrap();
        let other = drink::spawn(queue.clone()).unwrap();
        for _ in 0..100 {
            queue.put(vec![0; size]).unwrap();
        }
        eventually("both wait for more", || queue.is_empty().unwrap());
        let stopped = Stopped::new(stopped);
        // A put that waited for the stopped consumer, or an item that stayed with it, would hold
        // this up until the test's own deadline.
        for _ in 0..count {
            queue.put(vec![0; size]).unwrap();
        }
        while !queue.is_empty().unwrap() {
            std::thread::sleep(Duration::from_millis(2));
        }
        queue.close().unwrap();
        stopped.resume();
        let all = stopped.0.join().unwrap() + other.join().unwrap();
        assert_eq!(all, 100 + count, "{size}");
    }
}

#[offspring::worker]
fn flood(queue: Queue<u64>) {
    for n in 0.. {
        if queue.put(n).is_err() {
            return;
        }
    }
}

#[offspring::test(timeout = "30s")]
fn a_producer_that_never_pauses_holds_up_none_of_the_owners_calls() {
    let queue = Queue::unbounded().unwrap();
    let producers: Vec<_> = (0..2).map(|_| flood::spawn(queue.clone()).unwrap()).collect();
    for n in 0..50 {
        let before = Instant::now();
        assert!(!queue.is_closed().unwrap());
        // A producer may be off its processor, so that there is nothing just now.
        if n % 2 == 0 {
            queue.get().unwrap();
        } else if let Err(error) = queue.try_get() {
            assert!(matches!(error, TryGetError::Empty), "{error}");
        }
        assert!(before.elapsed() < SLACK, "{:?}", before.elapsed());
    }
    queue.close_and_discard().unwrap();
    for producer in producers {
        producer.join().unwrap();
    }
}
