//! A bound is a bound, and a timeout a timeout.

use std::time::{Duration, Instant};

use offspring::Queue;
use offspring::queue::{PutTimeoutError, TryGetError, TryPutError};

use super::{SHORT, collect, produce};
use crate::support::{eventually, wait_asleep};

#[offspring::test(timeout = "20s")]
fn a_full_queue_refuses_and_then_takes() {
    let queue = Queue::bounded(2).unwrap();
    assert_eq!(queue.capacity(), Some(2));
    queue.put(1).unwrap();
    assert!(!queue.is_full().unwrap());
    queue.put(2).unwrap();
    assert!(queue.is_full().unwrap());
    assert_eq!(queue.len().unwrap(), 2);
    assert!(matches!(queue.try_put(3), Err(TryPutError::Full(3))));
    let before = Instant::now();
    assert!(matches!(queue.put_timeout(3, SHORT), Err(PutTimeoutError::Timeout(3))));
    assert!(before.elapsed() >= SHORT);
    assert_eq!(queue.get().unwrap(), 1);
    queue.try_put(3).unwrap();
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (2, 3));
    assert!(matches!(queue.try_get(), Err(TryGetError::Empty)));
    assert!(queue.is_empty().unwrap());
}

#[offspring::worker]
fn probe_bounds(queue: Queue<u64>) -> (bool, bool, bool, bool, usize, Option<usize>) {
    let put = queue.try_put(1).is_ok() && queue.try_put(2).is_ok();
    let full = matches!(queue.try_put(3), Err(TryPutError::Full(3)));
    let timeout = matches!(queue.put_timeout(3, SHORT), Err(PutTimeoutError::Timeout(3)));
    let length = queue.len().unwrap();
    let got = queue.try_get().ok() == Some(1)
        && queue.get().ok() == Some(2)
        && matches!(queue.try_get(), Err(TryGetError::Empty));
    (put, full, timeout, got, length, queue.capacity())
}

#[offspring::test(timeout = "20s")]
fn bounds_are_exact_in_another_process() {
    let queue = Queue::bounded(2).unwrap();
    let process = probe_bounds::spawn(queue.clone()).unwrap();
    assert_eq!(process.join().unwrap(), (true, true, true, true, 2, Some(2)));
    // Room that was granted to a process that is gone is room again.
    queue.try_put(1).unwrap();
    queue.try_put(2).unwrap();
    assert!(queue.is_full().unwrap());
}

#[offspring::test(timeout = "20s")]
fn a_blocked_put_goes_on_when_another_process_takes() {
    let queue = Queue::bounded(1).unwrap();
    let consumer = collect::spawn(queue.clone()).unwrap();
    for n in 0..500 {
        queue.put(n).unwrap();
    }
    queue.close().unwrap();
    assert_eq!(consumer.join().unwrap().len(), 500);
}

#[offspring::test(timeout = "20s")]
fn zero_capacity_is_refused() {
    let error = Queue::<u8>::bounded(0).unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
}

#[offspring::test(timeout = "20s")]
fn timeouts_that_no_clock_holds_are_no_timeout() {
    let queue = Queue::unbounded().unwrap();
    queue.put_timeout(1, Duration::MAX).unwrap();
    assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 1);
    assert!(queue.get_timeout(Duration::from_nanos(1)).unwrap_err().is_timeout());
    assert!(queue.get_timeout(Duration::ZERO).unwrap_err().is_timeout());
}

#[offspring::worker]
fn put_one(queue: Queue<u64>, told: Queue<u64>) {
    queue.put(1).expect("it is open");
    told.put(1).expect("the owner reads");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "20s")]
fn room_that_a_producer_left_unused_goes_to_the_next() {
    let (queue, told) = (Queue::bounded(10).unwrap(), Queue::unbounded().unwrap());
    let other = put_one::spawn(queue.clone(), told.clone()).unwrap();
    told.get().unwrap();
    for n in 0..9 {
        queue.put_timeout(n, Duration::from_secs(5)).expect("nine places are free");
    }
    assert!(queue.is_full().unwrap());
    assert!(queue.try_put(9).unwrap_err().is_full());
    other.kill();
}

#[offspring::test(timeout = "120s")]
fn a_bound_holds_over_all_buffers_together() {
    let queue = Queue::bounded(8).unwrap();
    let producers: Vec<_> = (0..3)
        .map(|p| produce::spawn(queue.clone(), p * 10_000..(p + 1) * 10_000).unwrap())
        .collect();
    let consumers: Vec<_> = (0..2).map(|_| sip::spawn(queue.clone()).unwrap()).collect();
    let mut got = 0;
    // Whatever is asked meanwhile, and whoever gets: no more than eight are anywhere.
    while got < 1000 {
        let length = queue.len().unwrap();
        assert!(length <= 8, "{length} items");
        got += usize::from(queue.try_get().is_ok());
    }
    // Nobody takes any more: then it is full, and to the last place.
    for consumer in consumers {
        consumer.kill();
        let _ = consumer.join();
    }
    eventually("it is full", || queue.is_full().unwrap());
    // Each producer has put what it can, and waits.
    producers.iter().for_each(|producer| wait_asleep(producer.pid()));
    assert_eq!(queue.len().unwrap(), 8);
    assert!(queue.try_put(0).unwrap_err().is_full());
    queue.close_and_discard().unwrap();
    for producer in producers {
        assert!(producer.join().is_err(), "it panics where it finds the queue closed");
    }
}

#[offspring::worker]
fn sip(queue: Queue<u64>) {
    for _ in &queue {
        std::thread::sleep(Duration::from_micros(300));
    }
}
