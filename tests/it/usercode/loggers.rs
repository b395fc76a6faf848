//! Loggers that panic, block, or use this crate.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::LevelFilter;
use offspring::pool::PoolEvent;
use offspring::{Pool, Queue};
use serde::{Deserialize, Serialize};

use super::{double, program};
use crate::support::eventually;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Habit {
    Panics,
    /// Panics with a value whose destructor panics.
    PanicsTwice,
    Blocks,
    /// Looks at the pool that it hears of, and puts the record into a queue that has no room.
    UsesTheCrate,
}

struct Logger(Habit);

static HEARD: AtomicUsize = AtomicUsize::new(0);
static POOL: OnceLock<Pool> = OnceLock::new();
static RECORDS: OnceLock<Queue<String>> = OnceLock::new();

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the destructor");
    }
}

impl log::Log for Logger {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        HEARD.fetch_add(1, Ordering::SeqCst);
        match self.0 {
            Habit::Panics => panic!("the logger"),
            Habit::PanicsTwice => std::panic::panic_any(Bomb),
            Habit::Blocks => loop {
                std::thread::park();
            },
            Habit::UsesTheCrate => {
                if let Some(pool) = POOL.get() {
                    assert_eq!(pool.stats().workers.len(), 1);
                }
                RECORDS.get().unwrap().put(record.args().to_string()).unwrap();
            }
        }
    }

    fn flush(&self) {}
}

#[offspring::worker]
fn start_unless(mark: PathBuf) -> Result<(), String> {
    if mark.exists() { Err("the mark is there".to_owned()) } else { Ok(()) }
}

#[offspring::worker]
fn chatter() {
    for n in 0..20 {
        log::warn!("{n}");
    }
}

/// Has the threads of a pool and of the log records of children call the logger, and checks whether
/// they still work.
#[offspring::worker]
fn with_logger(habit: Habit, directory: PathBuf) {
    let records = Queue::bounded(1).unwrap();
    RECORDS.set(records.clone()).unwrap();
    log::set_boxed_logger(Box::new(Logger(habit))).unwrap();
    log::set_max_level(LevelFilter::Info);
    let mark = directory.join("mark");
    let builder = Pool::builder().workers(1).restart_limit(1_000_000);
    let builder = builder.restart_backoff(Duration::from_millis(1));
    let pool = builder.initializer(start_unless::new(mark.clone())).build().unwrap();
    let pool = POOL.get_or_init(|| pool);
    assert_eq!(pool.run(double::new(4)).unwrap(), 8);
    fail_some_starts(pool, &mark);
    assert_eq!(pool.run(double::new(5)).unwrap(), 10);
    eventually("the logger was called", || HEARD.load(Ordering::SeqCst) > 0);
    // A join waits for a logger that makes no progress for one second.
    chatter::spawn().unwrap().join().unwrap();
    let queue = Queue::unbounded().unwrap();
    queue.put(7).unwrap();
    assert_eq!(take_one::spawn(queue).unwrap().join().unwrap(), 7);
    if matches!(habit, Habit::UsesTheCrate) {
        assert!(records.get().unwrap().contains("tries again"));
    }
}

/// Kills the worker, and lets the start of the next one fail a few times.
fn fail_some_starts(pool: &Pool, mark: &Path) {
    let events = pool.events();
    std::fs::write(mark, "").unwrap();
    crate::supervisor::kill(pool.pids()[0]);
    let failed = events.filter(|event| matches!(event, PoolEvent::StartFailed { .. }));
    assert_eq!(failed.take(3).count(), 3);
    std::fs::remove_file(mark).unwrap();
}

#[offspring::worker]
fn take_one(queue: Queue<u32>) -> u32 {
    queue.get().unwrap()
}

#[offspring::test(timeout = "60s")]
fn a_logger_that_panics_ends_no_thread() {
    for habit in [Habit::Panics, Habit::PanicsTwice] {
        let directory = tempfile::tempdir().unwrap();
        let program = program().spawn(with_logger::new(habit, directory.path().into())).unwrap();
        program.join().unwrap();
    }
}

#[offspring::test(timeout = "60s")]
fn a_logger_that_blocks_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let worker = with_logger::new(Habit::Blocks, directory.path().into());
    program().spawn(worker).unwrap().join().unwrap();
}

#[offspring::test(timeout = "60s")]
fn a_logger_may_use_the_crate() {
    let directory = tempfile::tempdir().unwrap();
    let worker = with_logger::new(Habit::UsesTheCrate, directory.path().into());
    program().spawn(worker).unwrap().join().unwrap();
}

/// A logger that remembers what it heard.
struct Remembers;

static TEXTS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

impl log::Log for Remembers {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        TEXTS.lock().unwrap().push(format!("{} {}", record.target(), record.args()));
    }

    fn flush(&self) {
        let texts = TEXTS.lock().unwrap();
        println!("{}", texts.join("\n"));
    }
}

extern "C" fn print_at_exit() {
    log::logger().flush();
}

/// Ends right after a record was made.
#[offspring::worker]
fn end_after_a_record(directory: PathBuf) {
    // SAFETY: a plain function. Hooks run in the reverse order of their registration, so this one
    // is the last.
    unsafe { libc::atexit(print_at_exit) };
    log::set_boxed_logger(Box::new(Remembers)).unwrap();
    log::set_max_level(LevelFilter::Info);
    let mark = directory.join("mark");
    let builder = Pool::builder().workers(1).restart_backoff(Duration::from_millis(1));
    let pool = builder.initializer(start_unless::new(mark.clone())).build().unwrap();
    fail_some_starts(&pool, &mark);
}

#[offspring::test(timeout = "60s")]
fn the_end_of_a_program_waits_for_its_last_records() {
    let directory = tempfile::tempdir().unwrap();
    let builder = program().stdout(offspring::Stdio::piped());
    let mut process = builder.spawn(end_after_a_record::new(directory.path().into())).unwrap();
    let output = process.join_with_output();
    output.result.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.lines().filter(|line| line.starts_with("offspring::pool")).count();
    assert!(records >= 3, "{text}");
}
