//! Destructors, and the `Display` of errors.

use std::fmt;

use log::LevelFilter;
use offspring::pool::TaskError;
use offspring::process::Backend;
use offspring::{ExitReason, JoinError, Pool, ProcessBuilder, Queue, Sender, channel};
use serde::{Deserialize, Serialize};

use super::{double, program};

/// Panics when it is dropped.
#[derive(Serialize, Deserialize, Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the bomb");
    }
}

#[offspring::worker]
fn return_a_bomb() -> Bomb {
    Bomb
}

#[offspring::worker]
fn panic_with_a_bomb() {
    std::panic::panic_any(Bomb);
}

fn assert_panicked<T: fmt::Debug>(joined: Result<T, JoinError>) {
    let error = joined.unwrap_err();
    assert!(matches!(error.reason(), Some(ExitReason::Panicked(_))), "{error:?}");
}

#[offspring::test(timeout = "30s")]
fn an_output_whose_destructor_panics_is_a_panic_of_its_worker() {
    for backend in [Backend::Process, Backend::Inline] {
        let builder = || ProcessBuilder::new().backend(backend);
        assert_panicked(builder().spawn(return_a_bomb::new()).unwrap().join());
        assert_panicked(builder().spawn(panic_with_a_bomb::new()).unwrap().join());
    }
    let pool = Pool::new(1).unwrap();
    let panicked = pool.run(return_a_bomb::new());
    assert!(matches!(panicked, Err(TaskError::Panicked { .. })), "{panicked:?}");
    let panicked = pool.run(panic_with_a_bomb::new());
    assert!(matches!(panicked, Err(TaskError::Panicked { .. })), "{panicked:?}");
    assert_eq!(pool.run(double::new(4)).unwrap(), 8);
}

/// An error that cannot be shown.
#[derive(Serialize, Deserialize, Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("the display");
    }
}

#[offspring::worker]
fn fail_unspeakably() -> Result<(), Unspeakable> {
    Err(Unspeakable)
}

#[offspring::test(timeout = "30s")]
fn an_initializer_whose_error_cannot_be_shown_is_an_error() {
    let error =
        Pool::builder().workers(2).initializer(fail_unspeakably::new()).build().unwrap_err();
    assert!(error.to_string().contains("the display"), "{error}");
}

/// Uses the crate when its thread ends.
struct Last {
    sender: Option<Sender<String>>,
    queue: Option<Queue<String>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        log::info!("the last record");
        if let Some(sender) = &self.sender {
            sender.send("the last message".to_owned()).unwrap();
        }
        if let Some(queue) = &self.queue {
            queue.put("the last item".to_owned()).unwrap();
        }
    }
}

thread_local! {
    static LAST: std::cell::RefCell<Last> = const { std::cell::RefCell::new(Last { sender: None, queue: None }) };
}

/// Thread-locals are destroyed in the reverse order of their first use: `LAST` is the last one.
#[offspring::worker]
fn end_threads(sender: Sender<String>, queue: Queue<String>) {
    std::thread::spawn(move || {
        LAST.with_borrow_mut(|last| {
            (last.sender, last.queue) = (Some(sender.clone()), Some(queue.clone()))
        });
        log::info!("the first record");
        sender.send("the first message".to_owned()).unwrap();
        queue.put("the first item".to_owned()).unwrap();
    })
    .join()
    .unwrap();
}

struct Counts;

static RECORDS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

impl log::Log for Counts {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        RECORDS.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[offspring::worker]
fn parent_of_ending_threads() {
    log::set_logger(&Counts).unwrap();
    log::set_max_level(LevelFilter::Info);
    let (sender, messages) = channel().unwrap();
    let items = Queue::unbounded().unwrap();
    end_threads::spawn(sender, items.clone()).unwrap().join().unwrap();
    assert_eq!(messages.iter().collect::<Vec<_>>(), ["the first message", "the last message"]);
    assert_eq!(items.get().unwrap(), "the first item");
    assert_eq!(items.get().unwrap(), "the last item");
    assert_eq!(*RECORDS.lock().unwrap(), ["the first record", "the last record"]);
}

#[offspring::test(timeout = "30s")]
fn a_destructor_of_a_thread_local_may_log_send_and_put() {
    program().spawn(parent_of_ending_threads::new()).unwrap().join().unwrap();
}
