//! Queues between real processes.

mod batch;
mod bounds;
mod dead;
mod ends;
mod endure;
mod fairness;
mod handles;
mod joinable;
mod one_way;
mod order;
mod receiving;
mod starved;
mod stopped;
mod values;

use std::time::Duration;

use offspring::{JoinableQueue, Queue};

const SHORT: Duration = Duration::from_millis(50);

#[offspring::worker]
fn produce(queue: Queue<u64>, numbers: std::ops::Range<u64>) {
    for n in numbers {
        queue.put(n).expect("somebody reads");
    }
}

#[offspring::worker]
fn collect(queue: Queue<u64>) -> Vec<u64> {
    queue.iter().collect()
}

#[offspring::worker]
fn consume(jobs: JoinableQueue<u64>, done: Queue<u64>) -> u64 {
    let mut count = 0;
    for job in &jobs {
        done.put(*job).expect("somebody reads");
        job.task_done();
        count += 1;
    }
    count
}
