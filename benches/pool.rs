//! The same work done by offspring's pool, Python's Pool and ProcessPoolExecutor, and procspawn's
//! pool.
//!
//! `cargo bench --bench pool [-- ROUNDS ROW]`: the systems take turns for several rounds (default
//! 5). The table shows the medians. Noise of the machine affects all columns alike, so do not
//! compare figures of different runs. Without `python3`, its columns are empty. Python's Pool has
//! no figure for a killed worker: its task never ends.

mod figures;

use std::process::Command;
use std::time::{Duration, Instant};

use offspring::Pool;

const MAPPED: u64 = 3_000_000;
const SUBMITTED: u64 = 200_000;
const FEW: u64 = 3_000;
const BUSY_TASKS: u64 = 200;
const BUSY: Duration = Duration::from_millis(5);
const WORKERS: usize = 2;
const FLAT: u64 = 10_000_000;

#[offspring::worker]
fn increment(n: u64) -> u64 {
    n + 1
}

#[offspring::worker]
fn busy(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {}
}

#[offspring::worker]
fn sleep() {
    std::thread::sleep(Duration::from_secs(100));
}

/// Returns millions per second.
fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64() / 1e6
}

fn of_ideal(since: Instant) -> f64 {
    BUSY.as_secs_f64() * BUSY_TASKS as f64 / WORKERS as f64 / since.elapsed().as_secs_f64()
}

fn pool() -> Pool {
    let pool = Pool::new(WORKERS).expect("a pool");
    assert_eq!(pool.map(0..1000, increment::new).filter(Result::is_ok).count(), 1000);
    pool
}

fn map() -> f64 {
    let pool = pool();
    let since = Instant::now();
    let sum: u64 =
        pool.map(0..MAPPED, increment::new).map(|output| output.expect("an output")).sum();
    let rate = rate(MAPPED, since);
    assert_eq!(sum, MAPPED * (MAPPED + 1) / 2);
    rate
}

fn submit() -> f64 {
    let pool = pool();
    let since = Instant::now();
    let tasks: Vec<_> =
        (0..SUBMITTED).map(|n| pool.submit(increment::new(n)).expect("a task")).collect();
    tasks.into_iter().for_each(|task| assert!(task.join().is_ok()));
    rate(SUBMITTED, since)
}

fn busy_tasks() -> f64 {
    let pool = pool();
    let since = Instant::now();
    pool.map(0..BUSY_TASKS, |_| busy::new(BUSY)).for_each(|output| output.expect("it ends"));
    of_ideal(since)
}

/// Returns milliseconds from the kill to the error.
fn killed() -> f64 {
    let pool = pool();
    let task = pool.submit(sleep::new()).expect("a task");
    let pid = loop {
        if let Some(pid) = task.pid() {
            break pid.to_string();
        }
        std::thread::yield_now();
    };
    std::thread::sleep(Duration::from_millis(20));
    // The built-in `kill` of the shell, so that no program start is measured.
    let mut shell = Command::new("sh");
    let start = shell.arg("-c").arg(format!("kill -9 {pid} && exec sleep 1")).spawn();
    let mut shell = start.expect("a shell");
    let since = loop {
        let before = Instant::now();
        if std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
        {
            break before;
        }
    };
    assert!(task.join().is_err());
    let time = since.elapsed().as_secs_f64() * 1e3;
    let _ = shell.kill();
    let _ = shell.wait();
    time
}

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Returns by how many megabytes the peak memory of this process grows in a map over ten million
/// inputs.
fn flat() -> f64 {
    let pool = pool();
    pool.map(0..FLAT / 20, increment::new).for_each(drop);
    let before = memory();
    pool.map(0..FLAT, increment::new).for_each(|output| assert!(output.is_ok()));
    (memory() - before) as f64 / 1024.0
}

mod other {
    use super::{BUSY, BUSY_TASKS, FEW, Instant, WORKERS, of_ideal, rate};

    fn pool() -> procspawn::Pool {
        let pool = procspawn::Pool::new(WORKERS).expect("a pool");
        for n in 0..100u64 {
            let task = procspawn::spawn!(in pool, (n) || n + 1);
            assert_eq!(task.join().expect("an output"), n + 1);
        }
        pool
    }

    pub(super) fn submit() -> f64 {
        let pool = pool();
        let since = Instant::now();
        // Each waiting task costs descriptors there.
        for _ in 0..FEW / 100 {
            let tasks: Vec<_> =
                (0..100).map(|n: u64| procspawn::spawn!(in pool, (n) || n + 1)).collect();
            tasks.into_iter().for_each(|task| assert!(task.join().is_ok()));
        }
        rate(FEW, since)
    }

    pub(super) fn busy_tasks() -> f64 {
        let pool = pool();
        let since = Instant::now();
        let tasks: Vec<_> = (0..BUSY_TASKS)
            .map(|_| {
                procspawn::spawn!(in pool, (BUSY => time) || {
                    let start = Instant::now();
                    while start.elapsed() < time {}
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().expect("it ends"));
        of_ideal(since)
    }
}

type Measure = Box<dyn Fn() -> Option<f64>>;

struct Row {
    name: &'static str,
    columns: [Option<Measure>; 4],
}

fn rows() -> Vec<Row> {
    let ours =
        |measure: fn() -> f64| -> Option<Measure> { Some(Box::new(move || Some(measure()))) };
    let theirs = |system: &'static str, what: &'static str| -> Option<Measure> {
        Some(Box::new(move || figures::python("pool.py", &[system, what])))
    };
    let row = |name, columns| Row { name, columns };
    vec![
        row(
            "map of trivial tasks, M/s",
            [ours(map), theirs("pool", "map"), theirs("executor", "map"), None],
        ),
        row(
            "submitted one by one, M/s",
            [
                ours(submit),
                theirs("pool", "submit"),
                theirs("executor", "submit"),
                ours(other::submit),
            ],
        ),
        row(
            "200 tasks of 5 ms, of ideal",
            [
                ours(busy_tasks),
                theirs("pool", "busy"),
                theirs("executor", "busy"),
                ours(other::busy_tasks),
            ],
        ),
        row("kill -9 to the error, ms", [ours(killed), None, theirs("executor", "kill"), None]),
        row("peak growth, 10 M inputs, MB", [ours(flat), None, None, None]),
    ]
}

#[offspring::main]
fn main() {
    // SAFETY: the spawned functions are part of this program, and at the same offset in each
    // process.
    unsafe { procspawn::assert_spawn_is_safe() };
    procspawn::init();
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let only = std::env::args()
        .skip(1)
        .find(|argument| argument.parse::<u32>().is_err() && !argument.starts_with('-'));
    let mut rows = rows();
    rows.retain(|row| only.as_ref().is_none_or(|only| row.name.contains(only.as_str())));
    let mut samples: Vec<[Vec<f64>; 4]> = rows.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds {
        for (row, samples) in rows.iter().zip(&mut samples) {
            for (measure, samples) in row.columns.iter().zip(samples) {
                samples.extend(measure.as_ref().and_then(|measure| measure()));
            }
        }
    }
    println!(
        "{:32}{:>12}{:>12}{:>12}{:>12}{:>10}",
        "", "offspring", "Pool", "Executor", "procspawn", "to Pool"
    );
    for (row, samples) in rows.iter().zip(samples) {
        let medians = samples.map(figures::median);
        let figures: String = medians
            .iter()
            .map(|figure| figure.map_or_else(|| format!("{:>12}", ""), |f| format!("{f:>12.4}")))
            .collect();
        let times = medians[0]
            .zip(medians[1])
            .map_or_else(String::new, |(ours, pool)| format!("{:>9.1}x", ours / pool));
        println!("{:32}{figures}{times}", row.name);
    }
}
