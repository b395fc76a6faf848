//! Locks and shared memory, compared with Python's.
//!
//! `cargo bench --bench sync [-- ROUNDS]`: the two take turns for several rounds (default 5). The
//! table shows the medians, and the ratio of ours to Python's. Without `python3`, its column is
//! empty. The last column compares what is free with a bare futex lock, which is one atomic operation
//! to take and one to release.

mod figures;

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use figures::{median, own_median};
use offspring::shared::{AtomicU32, AtomicU64, SharedSlice};
use offspring::sync::{Event, Mutex, RwLock, Semaphore};
use offspring::{Process, Queue};
use serde::{Deserialize, Serialize};

const PAIRS: u64 = 20_000_000;
const INCREMENTS: u64 = 5_000_000;
const GIB: usize = 1 << 30;

/// The handles that another process holds during a measurement.
#[derive(Clone, Serialize, Deserialize)]
enum Held {
    Mutex(Mutex<u64>),
    Semaphore(Semaphore),
    RwLock(RwLock<u64>),
}

#[offspring::worker]
fn keep(held: Held, end: Event) {
    let _ = end.wait();
    drop(held);
}

fn million_a_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64() / 1e6
}

/// Times `work` while another process holds a handle, too.
fn shared(held: Held, work: impl Fn()) -> f64 {
    let end = Event::new().unwrap();
    let child = keep::spawn(held, end.clone()).unwrap();
    let start = Instant::now();
    (0..PAIRS).for_each(|_| work());
    let elapsed = start.elapsed();
    end.set();
    child.join().unwrap();
    million_a_second(PAIRS, elapsed)
}

fn bare() -> f64 {
    let word = AtomicU32::new(0).unwrap();
    let start = Instant::now();
    (0..PAIRS).for_each(|_| {
        let word = black_box(&word);
        assert!(word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok());
        assert_eq!(word.swap(0, Ordering::Release), 1);
    });
    million_a_second(PAIRS, start.elapsed())
}

fn mutex() -> f64 {
    let mutex = Mutex::new(0).unwrap();
    shared(Held::Mutex(mutex.clone()), || *black_box(&mutex).lock().unwrap() += 1)
}

fn semaphore() -> f64 {
    let semaphore = Semaphore::new(1).unwrap();
    shared(Held::Semaphore(semaphore.clone()), || drop(black_box(&semaphore).acquire().unwrap()))
}

fn rwlock() -> f64 {
    let lock = RwLock::new(0).unwrap();
    shared(Held::RwLock(lock.clone()), || {
        black_box(*black_box(&lock).read().unwrap());
    })
}

fn written() -> f64 {
    let lock = RwLock::new(0).unwrap();
    shared(Held::RwLock(lock.clone()), || *black_box(&lock).write().unwrap() += 1)
}

#[offspring::worker]
fn increment(value: Mutex<u64>, ready: Semaphore, start: Event) {
    ready.acquire().unwrap().forget();
    start.wait().unwrap();
    (0..INCREMENTS).for_each(|_| *value.lock().unwrap() += 1);
}

#[offspring::worker]
fn add(value: AtomicU64, ready: Semaphore, start: Event) {
    ready.acquire().unwrap().forget();
    start.wait().unwrap();
    (0..INCREMENTS).for_each(|_| {
        value.fetch_add(1, Ordering::Relaxed);
    });
}

/// Two processes increment one counter.
fn together(spawn: impl Fn(Semaphore, Event) -> Process<()>) -> f64 {
    let (ready, start) = (Semaphore::new(2).unwrap(), Event::new().unwrap());
    let children = [(); 2].map(|()| spawn(ready.clone(), start.clone()));
    while ready.available() > 0 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    start.set();
    children.into_iter().for_each(|child| child.join().unwrap());
    million_a_second(2 * INCREMENTS, began.elapsed())
}

fn counter() -> f64 {
    let value = Mutex::new(0).unwrap();
    let figure = together(|ready, start| increment::spawn(value.clone(), ready, start).unwrap());
    assert_eq!(*value.lock().unwrap(), 2 * INCREMENTS);
    figure
}

fn atomic() -> f64 {
    let value = AtomicU64::new(0).unwrap();
    let figure = together(|ready, start| add::spawn(value.clone(), ready, start).unwrap());
    assert_eq!(value.load(Ordering::Relaxed), 2 * INCREMENTS);
    figure
}

#[offspring::worker]
fn look(memories: Queue<SharedSlice<u8>>, answers: Queue<u8>) {
    for memory in &memories {
        answers.put(memory.get(0).unwrap() + memory.get(GIB - 1).unwrap()).unwrap();
    }
}

/// Returns the shared memory of the whole system, in MiB.
fn shared_memory() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Shmem:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap_or(0) >> 10
}

/// Measures from sending a gibibyte to the reply of a child that reads its first and last byte.
fn share() -> f64 {
    let (memories, answers) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let child = look::spawn(memories.clone(), answers.clone()).unwrap();
    let before = shared_memory();
    let memory = SharedSlice::<u8>::zeroed(GIB).unwrap();
    memory.set(0, 3);
    memory.set(GIB - 1, 4);
    let made = shared_memory();
    let began = Instant::now();
    memories.put(memory.clone()).unwrap();
    assert_eq!(answers.get().unwrap(), 7);
    let elapsed = began.elapsed();
    println!(
        "1 GiB: memory grew by {} MiB when it was made, by {} MiB when it was shared",
        made - before,
        shared_memory() - made
    );
    memories.close().unwrap();
    child.join().unwrap();
    elapsed.as_secs_f64() * 1e3
}

/// Name, unit, our measurement, the argument of the Python script.
type Row = (&'static str, &'static str, fn() -> f64, &'static str);

const ROWS: &[Row] = &[
    ("bare futex lock, free", "M pairs/s", bare, "lock"),
    ("mutex, free: lock and unlock", "M pairs/s", mutex, "lock"),
    ("semaphore, free: acquire and release", "M pairs/s", semaphore, "semaphore"),
    ("read-write lock, free: read and unlock", "M pairs/s", rwlock, "lock"),
    ("read-write lock, free: write and unlock", "M pairs/s", written, "lock"),
    ("counter under a mutex, 2 processes", "M/s", counter, "counter"),
    ("atomic counter, 2 processes", "M/s", atomic, "counter"),
    ("1 GiB to a child", "ms", share, "share"),
];

#[offspring::main]
fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let mut figures = vec![(Vec::new(), Vec::new()); ROWS.len()];
    for _ in 0..rounds {
        for ((_, _, work, word), (ours, theirs)) in ROWS.iter().zip(&mut figures) {
            ours.push(work());
            theirs.extend(figures::python("sync.py", &[word]));
        }
    }
    println!("{:<40} {:>12} {:>12} {:>8} {:>8}", "", "offspring", "Python", "times", "of bare");
    let mut bare = None;
    for ((name, unit, _, _), (ours, theirs)) in ROWS.iter().zip(figures) {
        let (ours, theirs) = (own_median(ours), median(theirs).unwrap_or(f64::NAN));
        let times = if *unit == "ms" { theirs / ours } else { ours / theirs };
        let of_bare = if *unit == "M pairs/s" {
            format!("{:.2}", ours / *bare.get_or_insert(ours))
        } else {
            String::new()
        };
        println!("{name:<40} {ours:>12.3} {theirs:>12.3} {times:>8.1} {of_bare:>8}  {unit}");
    }
}
