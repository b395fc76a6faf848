//! Who gets what, in which order.

use offspring::Queue;
use offspring::queue::TryGetError;

use super::{collect, produce};

#[offspring::test(timeout = "20s")]
fn items_of_one_producer_come_in_order() {
    let queue = Queue::unbounded().unwrap();
    let producer = produce::spawn(queue.clone(), 0..10_000).unwrap();
    assert!(queue.iter().eq(0..10_000));
    producer.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn items_put_in_the_owner_are_got_elsewhere() {
    let queue = Queue::bounded(16).unwrap();
    let consumer = collect::spawn(queue.clone()).unwrap();
    for n in 0..10_000 {
        queue.put(n).unwrap();
    }
    queue.close().unwrap();
    assert!(consumer.join().unwrap().into_iter().eq(0..10_000));
}

#[offspring::test(timeout = "20s")]
fn two_other_processes_talk_through_the_owner() {
    let queue = Queue::bounded(64).unwrap();
    let consumer = collect::spawn(queue.clone()).unwrap();
    let producer = produce::spawn(queue.clone(), 0..20_000).unwrap();
    producer.join().unwrap();
    queue.close().unwrap();
    assert!(consumer.join().unwrap().into_iter().eq(0..20_000));
}

#[offspring::test(timeout = "30s")]
fn many_producers_and_consumers_share_the_items() {
    let queue = Queue::bounded(8).unwrap();
    let consumers: Vec<_> = (0..3).map(|_| collect::spawn(queue.clone()).unwrap()).collect();
    let producers: Vec<_> =
        (0..3).map(|p| produce::spawn(queue.clone(), p * 1000..(p + 1) * 1000).unwrap()).collect();
    for producer in producers {
        producer.join().unwrap();
    }
    queue.close().unwrap();
    let mut all = Vec::new();
    for consumer in consumers {
        all.extend(consumer.join().unwrap());
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..3000));
}

#[offspring::worker]
fn try_get_until(queue: Queue<u64>, last: u64) -> usize {
    let mut spins = 0;
    loop {
        match queue.try_get() {
            Ok(n) if n == last => return spins,
            Ok(_) | Err(TryGetError::Empty) => spins += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[offspring::test(timeout = "20s")]
fn try_get_finds_what_was_put_before() {
    let queue = Queue::unbounded().unwrap();
    queue.put(9).unwrap();
    assert_eq!(try_get_until::spawn(queue, 9).unwrap().join().unwrap(), 0);
}

#[offspring::test(timeout = "30s")]
fn threads_of_one_process_share_a_handle() {
    let queue = Queue::bounded(4).unwrap();
    let consumer = collect_with_threads::spawn(queue.clone(), 4).unwrap();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let queue = &queue;
            scope.spawn(move || (t * 500..(t + 1) * 500).for_each(|n| queue.put(n).unwrap()));
        }
    });
    queue.close().unwrap();
    let mut got = consumer.join().unwrap();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..2000));
}

#[offspring::worker]
fn collect_with_threads(queue: Queue<u64>, threads: usize) -> Vec<u64> {
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| queue.iter().collect::<Vec<_>>())).collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
