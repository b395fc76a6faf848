//! Queues among what is waited for, in their owner's process and in others.

use std::time::Duration;

use offspring::queue::{GetError, TryGetError};
use offspring::{
    JoinableQueue, Queue, Receiver, Selector, Sender, channel, wait_any, wait_any_timeout,
};

use super::{LONG, SHORT, sleeper};
use crate::support::spawn_asleep;

/// Puts each number that it is given, and marks each job done that it gets back.
#[offspring::worker]
fn put(numbers: Receiver<u64>, queue: Queue<u64>) {
    for n in &numbers {
        queue.put(n).expect("the test gets");
    }
}

#[offspring::test(timeout = "30s")]
fn a_queue_of_this_process_is_ready_with_an_item_and_at_its_end() {
    let queue = Queue::unbounded().unwrap();
    let (orders, numbers) = channel().unwrap();
    let process = put::spawn(numbers, queue.clone()).unwrap();
    let selector = Selector::new();
    let key = selector.add(&queue).unwrap();
    assert_eq!(selector.ready_timeout(SHORT), None);
    for n in 0..100 {
        orders.send(n).unwrap();
        assert_eq!(selector.ready_timeout(LONG), Some(key));
        assert_eq!(queue.try_get().unwrap(), n);
        assert_eq!(selector.try_ready(), None);
    }
    queue.put(1).unwrap();
    assert_eq!(selector.try_ready(), Some(key));
    assert_eq!(wait_any(&[&process, &queue]).unwrap(), 1);
    queue.get().unwrap();
    // Everyone who could put is gone, except this one, which has put before: no end, until it is
    // closed.
    drop(orders);
    process.join().unwrap();
    assert_eq!(selector.ready_timeout(SHORT), None);
    queue.close().unwrap();
    assert_eq!(selector.ready(), Some(key));
    assert!(matches!(queue.try_get(), Err(TryGetError::Closed)));
}

#[offspring::test(timeout = "30s")]
fn a_queue_whose_producers_are_killed_is_at_its_end() {
    let queue = Queue::<u64>::unbounded().unwrap();
    let (orders, numbers) = channel().unwrap();
    let process = put::spawn(numbers, queue.clone()).unwrap();
    orders.send(1).unwrap();
    assert_eq!(queue.get().unwrap(), 1);
    std::thread::scope(|scope| {
        let waiting = spawn_asleep(scope, || wait_any(&[&queue]));
        process.kill();
        assert_eq!(waiting.join().unwrap().unwrap(), 0);
    });
    assert!(matches!(queue.try_get(), Err(TryGetError::Abandoned)));
}

/// Forwards what comes from two queues and a channel until the queues are closed; how many came
/// from each.
#[offspring::worker]
fn forward(
    plain: Queue<u64>,
    jobs: JoinableQueue<u64>,
    numbers: Receiver<u64>,
    to: Sender<u64>,
) -> [u64; 3] {
    let selector = Selector::new();
    let keys = [
        selector.add(&plain).unwrap(),
        selector.add(&jobs).unwrap(),
        selector.add(&numbers).unwrap(),
    ];
    let mut counts = [0; 3];
    while let Some(key) = selector.ready() {
        let from = keys.iter().position(|&other| other == key).unwrap();
        let (n, empty) = match from {
            0 => {
                plain.try_get().map_or_else(|error| (None, error.is_empty()), |n| (Some(n), false))
            }
            1 => jobs.try_get().map_or_else(
                |error| (None, error.is_empty()),
                |job| {
                    let n = *job;
                    job.task_done();
                    (Some(n), false)
                },
            ),
            _ => numbers
                .try_recv()
                .map_or_else(|error| (None, error.is_empty()), |n| (Some(n), false)),
        };
        match n {
            Some(n) => {
                counts[from] += 1;
                to.send(n).expect("the test receives");
            }
            None if empty => {}
            None => selector.remove(key),
        }
    }
    counts
}

#[offspring::test(timeout = "60s")]
fn queues_of_another_process_are_waited_for_with_a_channel() {
    let (plain, jobs) = (Queue::bounded(3).unwrap(), JoinableQueue::unbounded().unwrap());
    let (numbers, from) = channel().unwrap();
    let (to, forwarded) = channel().unwrap();
    let process = forward::spawn(plain.clone(), jobs.clone(), from, to).unwrap();
    // One at a time, each to one that sleeps.
    for n in 0..60 {
        match n % 3 {
            0 => plain.put(n).unwrap(),
            1 => jobs.put(n).unwrap(),
            _ => numbers.send(n).unwrap(),
        }
        assert_eq!(forwarded.recv().unwrap(), n);
    }
    // All at once.
    std::thread::scope(|scope| {
        scope.spawn(|| (0..1000).for_each(|n| plain.put(n).unwrap()));
        scope.spawn(|| (0..1000).for_each(|n| jobs.put(n).unwrap()));
        scope.spawn(|| (0..1000).for_each(|n| numbers.send(n).unwrap()));
        assert_eq!(forwarded.iter().take(3000).sum::<u64>(), 3 * 999 * 1000 / 2);
    });
    jobs.join().unwrap();
    plain.close().unwrap();
    jobs.close().unwrap();
    drop(numbers);
    assert_eq!(process.join().unwrap(), [1020; 3]);
}

#[offspring::worker]
fn owner(to: Sender<Queue<u64>>) {
    let queue = Queue::unbounded().unwrap();
    to.send(queue.clone()).expect("the test receives");
    queue.put(1).expect("it is ours");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "30s")]
fn a_queue_whose_owner_is_killed_is_ready() {
    let (to, queues) = channel().unwrap();
    let process = owner::spawn(to).unwrap();
    let queue = queues.recv().unwrap();
    let other = sleeper::spawn().unwrap();
    assert_eq!(wait_any(&[&other, &queue]).unwrap(), 1);
    assert_eq!(queue.try_get().unwrap(), 1);
    assert_eq!(wait_any_timeout(&[&other, &queue], SHORT).unwrap(), None);
    std::thread::scope(|scope| {
        let waiting = spawn_asleep(scope, || wait_any(&[&other, &queue]));
        process.kill();
        assert_eq!(waiting.join().unwrap().unwrap(), 1);
    });
    assert!(matches!(queue.try_get(), Err(TryGetError::Disconnected)));
    other.kill();
}

/// Selects once, and is then busy with other things.
#[offspring::worker]
fn dawdle(queue: Queue<u64>, ready: Sender<()>) {
    let selector = Selector::new();
    selector.add(&queue).unwrap();
    selector.ready();
    ready.send(()).expect("the test receives");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "30s")]
fn a_selector_that_is_busy_keeps_no_item_from_others() {
    let queue = Queue::unbounded().unwrap();
    let (ready, told) = channel().unwrap();
    let process = dawdle::spawn(queue.clone(), ready).unwrap();
    queue.put(1).unwrap();
    told.recv().unwrap();
    assert_eq!(queue.get_timeout(Duration::from_secs(10)).unwrap(), 1);
    queue.put(2).unwrap();
    let selector = Selector::new();
    let key = selector.add(&queue).unwrap();
    assert_eq!(selector.ready_timeout(LONG), Some(key));
    assert_eq!(queue.get().unwrap(), 2);
    process.kill();
}

#[offspring::test(timeout = "30s")]
fn a_queue_is_not_at_its_end_while_an_item_lies_with_a_busy_selector() {
    let queue = Queue::unbounded().unwrap();
    let (ready, told) = channel().unwrap();
    let process = dawdle::spawn(queue.clone(), ready).unwrap();
    queue.put(1).unwrap();
    told.recv().unwrap();
    queue.close().unwrap();
    assert_eq!(queue.get_timeout(Duration::from_secs(10)).unwrap(), 1);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    process.kill();
}

/// Selects for each item anew, until the queue is closed.
#[offspring::worker]
fn sum(queue: Queue<u64>) -> u64 {
    let selector = Selector::new();
    selector.add(&queue).unwrap();
    let mut sum = 0;
    while selector.ready().is_some() {
        match queue.try_get() {
            Ok(n) => sum += n,
            Err(error) if error.is_empty() => {}
            Err(_) => break,
        }
    }
    sum
}

#[offspring::test(timeout = "30s")]
fn a_selector_of_another_process_gets_all_that_was_put_before() {
    let queue = Queue::unbounded().unwrap();
    (0..2000).for_each(|n| queue.put(n).unwrap());
    queue.close().unwrap();
    let process = sum::spawn(queue).unwrap();
    assert_eq!(process.join().unwrap(), 1999 * 1000);
}
