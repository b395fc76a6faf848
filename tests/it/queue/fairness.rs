//! A slow or stopped consumer keeps nothing from others.

use std::time::{Duration, Instant};

use offspring::{JoinableQueue, Queue};

use super::consume;
use crate::support::eventually;

#[offspring::worker]
fn hoard(jobs: JoinableQueue<u64>, told: Queue<u64>) {
    // Fast at first, so that many items lie ahead of it; then busy for ever with one.
    for _ in 0..2000 {
        jobs.get().expect("there are enough").task_done();
    }
    let _job = jobs.get().expect("there are enough");
    told.put(1).expect("somebody reads");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "30s")]
fn a_busy_consumer_does_not_keep_items_from_others() {
    let (jobs, told) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let busy = hoard::spawn(jobs.clone(), told.clone()).unwrap();
    for n in 0..5000 {
        jobs.put(n).unwrap();
    }
    told.get().unwrap();
    for _ in 0..2999 {
        jobs.get_timeout(Duration::from_secs(5))
            .expect("it does not stay with the busy one")
            .task_done();
    }
    // All that is left is the item that the busy one has.
    assert!(jobs.try_get().unwrap_err().is_empty());
    assert!(jobs.join_timeout(Duration::ZERO).unwrap_err().is_timeout());
    busy.kill();
    jobs.get().unwrap().task_done();
    jobs.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_consumer_that_is_stopped_does_not_stop_the_others() {
    let (jobs, done) = (JoinableQueue::bounded(4).unwrap(), Queue::unbounded().unwrap());
    let stopped = consume::spawn(jobs.clone(), done.clone()).unwrap();
    let _busy = consume::spawn(jobs.clone(), done.clone()).unwrap();
    jobs.put(0).unwrap();
    jobs.join().unwrap();
    std::process::Command::new("kill")
        .args(["-STOP", &stopped.pid().to_string()])
        .status()
        .unwrap();
    for n in 1..100 {
        jobs.put_timeout(n, Duration::from_secs(5)).expect("the other consumer goes on");
    }
    stopped.kill();
    jobs.join().unwrap();
    assert!(done.len().unwrap() >= 100);
}

#[offspring::worker]
fn work_at_a_pace(jobs: JoinableQueue<u64>, ready: Queue<u64>, pause: Duration) -> u64 {
    ready.put(0).expect("somebody reads");
    let mut done = 0;
    for job in &jobs {
        std::thread::sleep(pause);
        job.task_done();
        done += 1;
    }
    done
}

#[offspring::test(timeout = "60s")]
fn a_slow_consumer_holds_one_item_and_a_fast_one_the_rest() {
    const PAUSE: Duration = Duration::from_millis(30);
    let (jobs, ready) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let slow = work_at_a_pace::spawn(jobs.clone(), ready.clone(), PAUSE).unwrap();
    let fast = work_at_a_pace::spawn(jobs.clone(), ready.clone(), Duration::ZERO).unwrap();
    for _ in 0..2 {
        ready.get().unwrap();
    }
    let before = Instant::now();
    for round in 0..20 {
        jobs.put_all(0..200).unwrap();
        // No untaken item stays with the slow consumer: while it works on its item, the fast one
        // finishes the rest.
        eventually("all are taken", || jobs.is_empty().unwrap());
        if round % 5 == 4 {
            jobs.join().unwrap();
        }
    }
    jobs.join().unwrap();
    let most = before.elapsed().as_millis() / PAUSE.as_millis() + 2;
    jobs.close().unwrap();
    let (slow, fast) = (slow.join().unwrap(), fast.join().unwrap());
    assert_eq!(slow + fast, 4000);
    assert!(u128::from(slow) <= most, "{slow} items at {PAUSE:?} each, of at most {most}");
}

#[offspring::worker]
fn take_until_closed(items: Queue<u64>, ready: Queue<u64>) -> u64 {
    ready.put(0).expect("somebody reads");
    items.iter().count() as u64
}

#[offspring::test(timeout = "60s")]
fn consumers_that_wait_are_served_in_turn() {
    const CONSUMERS: u64 = 12;
    let (items, ready) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let spawn = |_| take_until_closed::spawn(items.clone(), ready.clone()).unwrap();
    let consumers: Vec<_> = (0..CONSUMERS).map(spawn).collect();
    assert!((0..CONSUMERS).all(|_| ready.get().is_ok()));
    // One item at a time, after the last one was taken: each goes to the consumer that waits for
    // longest.
    for n in 0..CONSUMERS * 100 {
        items.put(n).unwrap();
        eventually("it is taken", || items.is_empty().unwrap());
    }
    items.close().unwrap();
    for consumer in consumers {
        let taken = consumer.join().unwrap();
        assert!(taken >= 33, "{taken} items of 100 is less than a third of its share");
    }
}
