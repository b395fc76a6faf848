//! The workloads, with offspring.

use std::time::Instant;

use offspring::channel::Bytes;
use offspring::{Connection, JoinableQueue, ProcessBuilder, Queue};

use crate::figures::{OWN, memory as memory_of, open_descriptors};
use crate::measure::{each, join, rate, round_trips};

/// The number of workers over which descriptors and memory are averaged.
const WORKERS: usize = 8;
const JOBS: u64 = 400_000;
const SPAWNS: u64 = 100;

#[offspring::worker]
fn produce(queue: Queue<u64>, start: Queue<()>, count: u64) {
    let _ = start.get();
    (0..count).for_each(|n| queue.put(n).expect("the owner lives"));
}

#[offspring::worker]
fn consume(queue: Queue<u64>, count: u64) -> u64 {
    (0..count).map(|_| queue.get().expect("there are enough")).sum()
}

#[offspring::worker]
fn produce_jobs(jobs: JoinableQueue<u64>, start: Queue<()>, count: u64) {
    let _ = start.get();
    (0..count).for_each(|n| jobs.put(n).expect("the owner lives"));
}

#[offspring::worker]
fn work(jobs: JoinableQueue<u64>) {
    for job in &jobs {
        job.task_done();
    }
}

#[offspring::worker]
fn echo_queues(there: Queue<u64>, back: Queue<u64>) {
    for n in &there {
        back.put(n).expect("the owner lives");
    }
}

#[offspring::worker]
fn echo_pipe(connection: Connection<u64, u64>) {
    while let Ok(n) = connection.recv() {
        connection.send(n).expect("the parent listens");
    }
}

#[offspring::worker]
fn swallow(connection: Connection<u64, Vec<u8>>, count: u64) {
    let bytes: usize = (0..count).map(|_| connection.recv().expect("there are enough").len()).sum();
    connection.send(bytes as u64).expect("the parent listens");
}

#[offspring::worker]
fn swallow_bytes(connection: Connection<u64, Bytes>, count: u64) {
    let mut buffer = Vec::new();
    let bytes: usize = (0..count)
        .map(|_| connection.recv_bytes_into(&mut buffer).expect("there are enough"))
        .sum();
    connection.send(bytes as u64).expect("the parent listens");
}

#[offspring::worker]
fn swallow_items(queue: Queue<Vec<u8>>, done: Queue<u64>, count: u64) {
    let bytes: usize = (0..count).map(|_| queue.get().expect("there are enough").len()).sum();
    done.put(bytes as u64).expect("the parent listens");
}

#[offspring::worker]
fn value() -> u64 {
    7
}

pub(crate) fn queue(queue: Queue<u64>, count: u64) -> f64 {
    let start = Queue::unbounded().unwrap();
    let consumer = consume::spawn(queue.clone(), count).unwrap();
    let producer = produce::spawn(queue.clone(), start.clone(), count).unwrap();
    let since = Instant::now();
    start.put(()).unwrap();
    assert_eq!(join(&consumer), count * (count - 1) / 2);
    let rate = rate(count, since);
    join(&producer);
    rate
}

pub(crate) fn jobs() -> f64 {
    let (jobs, start) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let workers: Vec<_> = (0..4)
        .map(|_| ProcessBuilder::new().daemon(true).spawn(work::new(jobs.clone())).unwrap())
        .collect();
    let producers: Vec<_> = (0..4)
        .map(|_| produce_jobs::spawn(jobs.clone(), start.clone(), JOBS / 4).unwrap())
        .collect();
    let since = Instant::now();
    (0..4).for_each(|_| start.put(()).unwrap());
    producers.iter().for_each(join);
    jobs.join().unwrap();
    let rate = rate(JOBS, since);
    jobs.close().unwrap();
    workers.iter().for_each(join);
    rate
}

pub(crate) fn queue_pair() -> f64 {
    let (there, back) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let process = echo_queues::spawn(there.clone(), back.clone()).unwrap();
    let each = round_trips(|n| {
        there.put(n).unwrap();
        assert_eq!(back.get().unwrap(), n);
    });
    there.close().unwrap();
    join(&process);
    each
}

pub(crate) fn pipe() -> f64 {
    let (ours, theirs) = offspring::pipe().unwrap();
    let process = echo_pipe::spawn(theirs).unwrap();
    let each = round_trips(|n| {
        ours.send(n).unwrap();
        assert_eq!(ours.recv().unwrap(), n);
    });
    drop(ours);
    join(&process);
    each
}

pub(crate) fn values(size: usize, count: u64) -> f64 {
    let (ours, theirs) = offspring::pipe::<Vec<u8>, u64>().unwrap();
    let process = swallow::spawn(theirs, count).unwrap();
    // `send` consumes its message, so create all of them before the clock starts.
    let payloads: Vec<_> = (0..count).map(|_| vec![7u8; size]).collect();
    let since = Instant::now();
    payloads.into_iter().for_each(|payload| ours.send(payload).unwrap());
    assert_eq!(ours.recv().unwrap(), size as u64 * count);
    let rate = rate(size as u64 * count, since) / 1e3;
    join(&process);
    rate
}

pub(crate) fn bytes(size: usize, count: u64) -> f64 {
    let (ours, theirs) = offspring::pipe::<Bytes, u64>().unwrap();
    let process = swallow_bytes::spawn(theirs, count).unwrap();
    let payload = vec![7u8; size];
    let since = Instant::now();
    (0..count).for_each(|_| ours.send_bytes(&payload).unwrap());
    assert_eq!(ours.recv().unwrap(), size as u64 * count);
    let rate = rate(size as u64 * count, since) / 1e3;
    join(&process);
    rate
}

pub(crate) fn items(size: usize, count: u64) -> f64 {
    let (queue, done) = (Queue::bounded(8).unwrap(), Queue::unbounded().unwrap());
    let process = swallow_items::spawn(queue.clone(), done.clone(), count).unwrap();
    let payloads: Vec<_> = (0..count).map(|_| vec![7u8; size]).collect();
    let since = Instant::now();
    payloads.into_iter().for_each(|payload| queue.put(payload).unwrap());
    assert_eq!(done.get().unwrap(), size as u64 * count);
    let rate = rate(size as u64 * count, since) / 1e3;
    join(&process);
    rate
}

pub(crate) fn spawns() -> f64 {
    let since = Instant::now();
    (0..SPAWNS).for_each(|_| assert_eq!(join(&value::spawn().unwrap()), 7));
    each(SPAWNS, since) / 1e3
}

/// Starts workers that wait for an item, and measures something about them.
fn waiting(measure: impl FnOnce(&[u32]) -> f64) -> f64 {
    let queue = Queue::unbounded().unwrap();
    let workers: Vec<_> = (0..WORKERS).map(|_| consume::spawn(queue.clone(), 1).unwrap()).collect();
    let pids: Vec<u32> = workers.iter().map(offspring::Process::pid).collect();
    let figure = measure(&pids);
    (0..WORKERS).for_each(|_| queue.put(1).unwrap());
    workers.iter().for_each(|worker| assert_eq!(join(worker), 1));
    figure
}

/// Returns the private memory of one worker, in MiB.
pub(crate) fn memory() -> f64 {
    waiting(|pids| {
        pids.iter().map(|&pid| memory_of(pid, OWN)).sum::<f64>() / WORKERS as f64 / 1024.0
    })
}

/// Returns the descriptors that the main program holds for each worker with a queue.
pub(crate) fn descriptors() -> f64 {
    // Start one first: one-time costs do not count.
    waiting(|_| 0.0);
    let before = open_descriptors();
    waiting(|_| (open_descriptors() - before) as f64 / WORKERS as f64)
}
