//! The same work done by offspring, by raw ipc-channel and by Python's multiprocessing, side by side.
//!
//! `cargo bench --bench compare [-- ROUNDS [NAME]]`: the systems take turns, several rounds (default 5); only rows with NAME in their names, if there is one. The table gives
//! medians, and how many times Python's and raw ipc-channel's figure ours is. The machine's noise is in all columns
//! alike; figures of different runs do not compare. Without `python3` its column is empty.

mod figures;

use std::time::Instant;

use figures::{median, own_median};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcReceiver, IpcSender};
use offspring::{Builder, Bytes, Connection, JoinableQueue, Process, Queue};
use serde::Serialize;
use serde::de::DeserializeOwned;

const ITEMS: u64 = 2_000_000;
const BOUNDED_ITEMS: u64 = 300_000;
const JOBS: u64 = 200_000;
const ROUND_TRIPS: u64 = 20_000;
const SLOW_ITEMS: u64 = 100_000;
const SPAWNS: u64 = 200;

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

#[offspring::worker]
fn raw_consume(receiver: IpcReceiver<u64>, done: IpcSender<u64>, count: u64) {
    let sum = (0..count).map(|_| receiver.recv().expect("there are enough")).sum();
    done.send(sum).expect("the parent listens");
}

#[offspring::worker]
fn raw_echo(there: IpcReceiver<u64>, back: IpcSender<u64>) {
    while let Ok(n) = there.recv() {
        back.send(n).expect("the parent listens");
    }
}

#[offspring::worker]
fn raw_swallow(receiver: IpcBytesReceiver, done: IpcSender<u64>, count: u64) {
    let bytes: usize = (0..count).map(|_| receiver.recv().expect("there are enough").len()).sum();
    done.send(bytes as u64).expect("the parent listens");
}

fn join<T: Serialize + DeserializeOwned>(process: &Process<T>) -> T {
    process.join().expect("a process of the benchmark returns")
}

/// Millions a second.
fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64() / 1e6
}

/// Microseconds each.
fn each(count: u64, since: Instant) -> f64 {
    since.elapsed().as_secs_f64() / count as f64 * 1e6
}

/// Microseconds for each turn, after one to warm up.
fn round_trips(mut turn: impl FnMut(u64)) -> f64 {
    turn(0);
    let since = Instant::now();
    (0..ROUND_TRIPS).for_each(turn);
    each(ROUND_TRIPS, since)
}

fn queue(queue: Queue<u64>, count: u64) -> f64 {
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

fn jobs() -> f64 {
    let (jobs, start) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let workers: Vec<_> = (0..4)
        .map(|_| Builder::new().daemon(true).spawn(work::new(jobs.clone())).unwrap())
        .collect();
    let producers: Vec<_> = (0..4)
        .map(|_| produce_jobs::spawn(jobs.clone(), start.clone(), JOBS / 4).unwrap())
        .collect();
    let since = Instant::now();
    (0..4).for_each(|_| start.put(()).unwrap());
    producers.iter().for_each(join);
    jobs.join().unwrap();
    let rate = rate(JOBS, since);
    jobs.close();
    workers.iter().for_each(join);
    rate
}

fn queue_pair() -> f64 {
    let (there, back) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let process = echo_queues::spawn(there.clone(), back.clone()).unwrap();
    let each = round_trips(|n| {
        there.put(n).unwrap();
        assert_eq!(back.get().unwrap(), n);
    });
    there.close();
    join(&process);
    each
}

fn pipe() -> f64 {
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

fn payload(size: usize, count: u64) -> f64 {
    let (ours, theirs) = offspring::pipe::<Vec<u8>, u64>().unwrap();
    let process = swallow::spawn(theirs, count).unwrap();
    let payload = vec![7u8; size];
    let since = Instant::now();
    (0..count).for_each(|_| ours.send(payload.clone()).unwrap());
    assert_eq!(ours.recv().unwrap(), size as u64 * count);
    let rate = rate(size as u64 * count, since) / 1e3;
    join(&process);
    rate
}

fn payload_bytes(size: usize, count: u64) -> f64 {
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

fn payload_items(size: usize, count: u64) -> f64 {
    let (queue, done) = (Queue::bounded(8).unwrap(), Queue::unbounded().unwrap());
    let process = swallow_items::spawn(queue.clone(), done.clone(), count).unwrap();
    let payload = vec![7u8; size];
    let since = Instant::now();
    (0..count).for_each(|_| queue.put(payload.clone()).unwrap());
    assert_eq!(done.get().unwrap(), size as u64 * count);
    let rate = rate(size as u64 * count, since) / 1e3;
    join(&process);
    rate
}

fn spawns() -> f64 {
    let since = Instant::now();
    (0..SPAWNS).for_each(|_| assert_eq!(join(&value::spawn().unwrap()), 7));
    each(SPAWNS, since) / 1e3
}

fn raw_queue() -> f64 {
    let (sender, receiver) = ipc::channel().unwrap();
    let (done, finished) = ipc::channel().unwrap();
    let process = raw_consume::spawn(receiver, done, SLOW_ITEMS).unwrap();
    let since = Instant::now();
    (0..SLOW_ITEMS).for_each(|n| sender.send(n).unwrap());
    finished.recv().unwrap();
    let rate = rate(SLOW_ITEMS, since);
    join(&process);
    rate
}

fn raw_pipe() -> f64 {
    let (there, theirs) = ipc::channel().unwrap();
    let (back, ours) = ipc::channel().unwrap();
    let process = raw_echo::spawn(theirs, back).unwrap();
    let each = round_trips(|n| {
        there.send(n).unwrap();
        assert_eq!(ours.recv().unwrap(), n);
    });
    drop(there);
    join(&process);
    each
}

fn raw_payload(size: usize, count: u64) -> f64 {
    let (sender, receiver) = ipc::bytes_channel().unwrap();
    let (done, finished) = ipc::channel().unwrap();
    let process = raw_swallow::spawn(receiver, done, count).unwrap();
    let payload = vec![7u8; size];
    let since = Instant::now();
    (0..count).for_each(|_| sender.send(&payload).unwrap());
    finished.recv().unwrap();
    let rate = rate(size as u64 * count, since) / 1e3;
    join(&process);
    rate
}

struct Row {
    name: &'static str,
    unit: &'static str,
    /// Whether less is better.
    time: bool,
    ours: fn() -> f64,
    raw: Option<fn() -> f64>,
    python: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        name: "queue, 1 to 1",
        unit: "M items/s",
        time: false,
        ours: || queue(Queue::unbounded().unwrap(), ITEMS),
        raw: Some(raw_queue),
        python: "queue",
    },
    Row {
        name: "queue of 64, 1 to 1",
        unit: "M items/s",
        time: false,
        ours: || queue(Queue::bounded(64).unwrap(), BOUNDED_ITEMS),
        raw: None,
        python: "bounded",
    },
    Row {
        name: "joinable queue, 4 to 4",
        unit: "M items/s",
        time: false,
        ours: jobs,
        raw: None,
        python: "jobs",
    },
    Row {
        name: "round trip, queue pair",
        unit: "us",
        time: true,
        ours: queue_pair,
        raw: Some(raw_pipe),
        python: "queue_pair",
    },
    Row {
        name: "round trip, pipe",
        unit: "us",
        time: true,
        ours: pipe,
        raw: Some(raw_pipe),
        python: "pipe",
    },
    Row {
        name: "pipe, 1 MiB each",
        unit: "GB/s",
        time: false,
        ours: || payload(1 << 20, 500),
        raw: Some(|| raw_payload(1 << 20, 500)),
        python: "mib",
    },
    Row {
        name: "pipe, 64 MiB each",
        unit: "GB/s",
        time: false,
        ours: || payload(64 << 20, 8),
        raw: Some(|| raw_payload(64 << 20, 8)),
        python: "mib64",
    },
    Row {
        name: "bytes, 1 MiB each",
        unit: "GB/s",
        time: false,
        ours: || payload_bytes(1 << 20, 500),
        raw: Some(|| raw_payload(1 << 20, 500)),
        python: "mib",
    },
    Row {
        name: "bytes, 64 MiB each",
        unit: "GB/s",
        time: false,
        ours: || payload_bytes(64 << 20, 8),
        raw: Some(|| raw_payload(64 << 20, 8)),
        python: "mib64",
    },
    Row {
        name: "queue, 1 MiB items",
        unit: "GB/s",
        time: false,
        ours: || payload_items(1 << 20, 500),
        raw: None,
        python: "mib_items",
    },
    Row {
        name: "spawn, value, join",
        unit: "ms",
        time: true,
        ours: spawns,
        raw: None,
        python: "spawn",
    },
];

#[offspring::main]
fn main() {
    let rounds: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    println!(
        "{:<24} {:>9} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "", "", "offspring", "raw ipc", "Python", "x raw", "x Python"
    );
    let only: Option<String> = std::env::args().skip(1).find(|argument| argument.starts_with(char::is_alphabetic));
    for row in ROWS
        .iter()
        .filter(|row| only.as_ref().is_none_or(|only| row.name.contains(only.as_str())))
    {
        let (mut ours, mut raw, mut python_figures) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push((row.ours)());
            raw.extend(row.raw.map(|raw| raw()));
            python_figures.extend(figures::python("compare.py", &[row.python]));
        }
        let ours = own_median(ours);
        let times = |figure: f64| if row.time { figure / ours } else { ours / figure };
        let show = |figure: Option<f64>, digits: usize| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"));
        let (raw, python) = (median(raw), median(python_figures));
        println!(
            "{:<24} {:>9} {:>10} {:>10} {:>10} {:>9} {:>9}",
            row.name,
            row.unit,
            show(Some(ours), 3),
            show(raw, 3),
            show(python, 3),
            show(raw.map(times), 1),
            show(python.map(times), 1),
        );
    }
}
