//! A slow or stopped consumer keeps nothing from others.

use std::time::Duration;

use offspring::{JoinableQueue, Queue};

use super::{SHORT, consume};

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
    assert!(jobs.get_timeout(SHORT).unwrap_err().is_timeout());
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
    assert!(done.len() >= 100);
}
