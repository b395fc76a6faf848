//! Many items in one call.

use std::time::{Duration, Instant};

use offspring::queue::{GetError, PutTimeoutError, TryGetError};
use offspring::{JoinableQueue, Queue};

use super::{SHORT, collect, produce};

#[offspring::worker]
fn put_batches(queue: Queue<u64>, numbers: std::ops::Range<u64>) {
    queue.put_all(numbers).expect("somebody reads");
}

#[offspring::worker]
fn get_batches(queue: Queue<u64>, max: usize) -> Vec<u64> {
    queue
        .batches(max)
        .inspect(|batch| assert!((1..=max).contains(&batch.len())))
        .flatten()
        .collect()
}

#[offspring::test(timeout = "60s")]
fn batches_come_whole_and_in_order_wherever_they_are_put_and_got() {
    for capacity in [None, Some(1), Some(50)] {
        let queue = || {
            let builder = Queue::builder();
            capacity
                .map_or(builder, |capacity| Queue::builder().capacity(capacity))
                .build()
                .unwrap()
        };
        // With room for one item, each item is a hand-over between processes, which takes long on a
        // busy machine.
        let count = if capacity == Some(1) { 500 } else { 5000 };
        // From another process to the owner.
        let up = queue();
        let producer = put_batches::spawn(up.clone(), 0..count).unwrap();
        let got: Vec<u64> =
            up.batches(100).take_while(|batch| !batch.contains(&u64::MAX)).flatten().collect();
        assert!(got.into_iter().eq(0..count), "{capacity:?}");
        producer.join().unwrap();
        // From the owner to another, and between two others.
        for local in [true, false] {
            let down = queue();
            let consumer = get_batches::spawn(down.clone(), 30).unwrap();
            if local {
                down.put_all(0..count).unwrap();
            } else {
                put_batches::spawn(down.clone(), 0..count).unwrap().join().unwrap();
            }
            down.close().unwrap();
            assert!(consumer.join().unwrap().into_iter().eq(0..count), "{capacity:?} {local}");
        }
        // In one process.
        let own = queue();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                own.put_all(0..count).unwrap();
                own.close().unwrap();
            });
            assert!(own.batches(7).flatten().eq(0..count));
        });
    }
}

#[offspring::test(timeout = "20s")]
fn what_was_not_put_comes_back() {
    let queue = Queue::bounded(10).unwrap();
    let before = Instant::now();
    let error = queue.put_all_timeout(0..25, SHORT).unwrap_err();
    assert!(before.elapsed() >= SHORT);
    assert_eq!(error.put(), 10);
    assert!(error.cause().is_timeout());
    assert!(error.into_rest().eq(10..25));
    queue.close().unwrap();
    let error = queue.put_all(vec!["a", "b"].into_iter().map(|_| 1)).unwrap_err();
    assert!(matches!(error.cause(), PutTimeoutError::Closed(())));
    assert_eq!((error.put(), error.into_rest().count()), (0, 2));
    assert!(queue.iter().eq(0..10));
    let empty = Queue::<u8>::unbounded().unwrap();
    assert!(matches!(empty.try_get_many(10), Err(TryGetError::Empty)));
    assert!(empty.get_many_timeout(10, SHORT).unwrap_err().is_timeout());
    assert!(matches!(queue.get_many(5), Err(GetError::Closed)));
}

#[offspring::worker]
fn fill(queue: Queue<u64>) -> (usize, bool, Vec<u64>) {
    let (mut put, mut rest) = (0, (0..200).collect::<Vec<u64>>());
    // On a busy machine, the owner may not grant all of the room in time.
    loop {
        let error = queue.put_all_timeout(rest, SHORT).expect_err("it gets full");
        let timeout = error.cause().is_timeout();
        put += error.put();
        rest = error.into_rest().collect();
        if put >= 100 || !timeout {
            return (put, timeout, rest);
        }
    }
}

#[offspring::test(timeout = "20s")]
fn what_another_process_could_not_put_comes_back_there() {
    let queue = Queue::bounded(100).unwrap();
    let (put, timeout, rest) = fill::spawn(queue.clone()).unwrap().join().unwrap();
    assert_eq!((put, timeout), (100, true));
    assert!(rest.into_iter().eq(100..200));
    assert!(queue.is_full().unwrap());
    assert!(queue.get_many(1000).unwrap().into_iter().eq(0..100));
}

#[offspring::worker]
fn mixed(queue: Queue<(Vec<u8>, Option<Queue<u64>>)>, inner: Queue<u64>) {
    let item = |n: usize| match n % 10 {
        3 => (vec![n as u8; 40_000], None),
        7 => (vec![n as u8], Some(inner.clone())),
        _ => (vec![n as u8; n], None),
    };
    queue.put_all((0..100).map(item)).expect("somebody reads");
}

#[offspring::test(timeout = "20s")]
fn large_items_and_such_with_handles_keep_their_place_in_a_batch() {
    let (queue, inner) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let process = mixed::spawn(queue.clone(), inner.clone()).unwrap();
    let mut got = Vec::new();
    while got.len() < 100 {
        got.extend(queue.get_many(13).unwrap());
    }
    process.join().unwrap();
    for (n, (bytes, handle)) in got.into_iter().enumerate() {
        assert!(bytes.iter().all(|&byte| byte == n as u8), "{n}");
        assert_eq!(handle.is_some(), n % 10 == 7);
    }
}

#[offspring::worker]
fn work_in_batches(jobs: JoinableQueue<u64>, die: bool) -> usize {
    let mut done = 0;
    for batch in jobs.batches(16) {
        if die {
            std::process::abort();
        }
        done += batch.len();
        batch.into_iter().for_each(offspring::Delivery::task_done);
    }
    done
}

#[offspring::test(timeout = "30s")]
fn a_batch_of_a_consumer_that_dies_is_delivered_again() {
    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put_all(0..100).unwrap();
    let victim = work_in_batches::spawn(jobs.clone(), true).unwrap();
    assert!(victim.join().is_err());
    let worker = work_in_batches::spawn(jobs.clone(), false).unwrap();
    jobs.join_timeout(Duration::from_secs(10)).unwrap();
    jobs.close().unwrap();
    assert_eq!(worker.join().unwrap(), 100);
    assert!(jobs.dead_letters().unwrap().is_empty());
}

#[offspring::test(timeout = "30s")]
fn threads_share_a_queue_in_batches_and_one_by_one() {
    let queue = Queue::bounded(20).unwrap();
    let consumers =
        [get_batches::spawn(queue.clone(), 8).unwrap(), collect::spawn(queue.clone()).unwrap()];
    let producer = produce::spawn(queue.clone(), 0..1000).unwrap();
    std::thread::scope(|scope| {
        for t in 1..4 {
            let queue = &queue;
            scope.spawn(move || queue.put_all(t * 1000..(t + 1) * 1000).unwrap());
        }
    });
    producer.join().unwrap();
    queue.close().unwrap();
    let mut all: Vec<u64> =
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..4000));
}

fn rate(put: impl FnOnce(&Queue<u64>), get: impl FnOnce(&Queue<u64>), capacity: usize) -> f64 {
    let queue = Queue::bounded(capacity).unwrap();
    let before = Instant::now();
    put(&queue);
    get(&queue);
    ITEMS as f64 / before.elapsed().as_secs_f64() / 1e6
}

const ITEMS: u64 = 200_000;

#[offspring::test(timeout = "300s")]
#[ignore = "a measurement: run it in release, with --nocapture"]
fn batches_against_one_by_one() {
    for _ in 0..5 {
        let single = rate(
            |queue| drop(produce::spawn(queue.clone(), 0..ITEMS).unwrap()),
            |queue| (0..ITEMS).for_each(|n| assert_eq!(queue.get().unwrap(), n)),
            1024,
        );
        let mut next = 0;
        let batches = rate(
            |queue| drop(put_batches::spawn(queue.clone(), 0..ITEMS).unwrap()),
            |queue| {
                while next < ITEMS {
                    for n in queue.get_many(256).unwrap() {
                        assert_eq!(n, next);
                        next += 1;
                    }
                }
            },
            1024,
        );
        println!("M items/s: {single:.2} one by one, {batches:.2} in batches");
    }
}
