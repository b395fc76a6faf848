//! Destructors, and the `Display` of errors.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use log::LevelFilter;
use offspring::actor::DownReason;
use offspring::channel::RecvError;
use offspring::pool::TaskError;
use offspring::process::Backend;
use offspring::queue::GetError;
use offspring::sync::{Encoded, Mutex, RwLock};
use offspring::{
    ExitReason, JoinError, JoinableQueue, Pool, ProcessBuilder, Queue, Sender, channel,
};
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

/// Calls `act`, which drops a bomb at its end.
fn explodes<T>(act: impl FnOnce() -> T) {
    assert!(catch_unwind(AssertUnwindSafe(|| drop(act()))).is_err(), "there was no bomb");
}

/// Puts and gets bombs, from the owner's process or another one.
#[offspring::worker]
fn handle_bombs(queue: Queue<Bomb>, jobs: JoinableQueue<Bomb>, sender: Sender<Bomb>) {
    explodes(|| queue.put(Bomb));
    explodes(|| queue.try_put(Bomb));
    explodes(|| queue.put_all([Bomb]));
    assert_eq!(queue.len().unwrap(), 3);
    for _ in 0..3 {
        explodes(|| queue.get());
    }
    assert!(queue.is_empty().unwrap());
    // A delivery that explodes is not finished; one that was finished before is.
    explodes(|| jobs.put(Bomb));
    explodes(|| jobs.get());
    let job = jobs.get().unwrap();
    assert_eq!(job.attempt(), 2);
    explodes(|| job.task_done());
    jobs.join().unwrap();
    explodes(|| sender.send(Bomb));
    explodes(|| sender.try_send(Bomb));
}

#[offspring::test(timeout = "30s")]
fn items_whose_destructors_panic_are_put_and_taken() {
    for backend in [Backend::Inline, Backend::Process] {
        let (queue, jobs) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
        let (sender, receiver) = channel().unwrap();
        let worker = handle_bombs::new(queue.clone(), jobs.clone(), sender);
        ProcessBuilder::new().backend(backend).spawn(worker).unwrap().join().unwrap();
        explodes(|| receiver.recv());
        explodes(|| receiver.recv());
        receiver.recv().unwrap_err();
        explodes(|| queue.put(Bomb));
        explodes(|| queue.get());
    }
}

/// Cannot be decoded.
#[derive(Serialize, Debug)]
struct Undecodable;

impl<'de> Deserialize<'de> for Undecodable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("no value"))
    }
}

#[offspring::test(timeout = "30s")]
fn a_part_of_a_value_that_does_not_decode_may_panic_when_it_is_dropped() {
    let queue = Queue::unbounded().unwrap();
    explodes(|| queue.put((Bomb, Undecodable)));
    let error = queue.get().map(std::mem::forget).unwrap_err();
    assert!(matches!(error, GetError::Decode(_)), "{error:?}");
    let (sender, receiver) = channel().unwrap();
    explodes(|| sender.send((Bomb, Undecodable)));
    let error = receiver.recv().map(std::mem::forget).unwrap_err();
    assert!(matches!(error, RecvError::Decode(_)), "{error:?}");
    assert_eq!(queue.len().unwrap(), 0);
}

#[offspring::worker]
fn take_a_bomb(bomb: Bomb) {
    drop(bomb);
}

#[offspring::worker]
fn keep_a_bomb(bomb: Bomb) -> u64 {
    std::mem::forget(bomb);
    1
}

#[offspring::test(timeout = "30s")]
fn a_worker_whose_destructor_panics_is_started_and_submitted() {
    for backend in [Backend::Process, Backend::Inline] {
        // The caller's own value explodes when it has been sent. So there is no handle.
        explodes(|| ProcessBuilder::new().backend(backend).spawn(keep_a_bomb::new(Bomb)));
        explodes(|| ProcessBuilder::new().backend(backend).spawn(take_a_bomb::new(Bomb)));
    }
    let pool = Pool::builder().workers(1).max_unfinished(1).build().unwrap();
    explodes(|| pool.submit(keep_a_bomb::new(Bomb)));
    explodes(|| pool.run(take_a_bomb::new(Bomb)));
    explodes(|| pool.try_submit(take_a_bomb::new(Bomb)));
    for n in 0..3 {
        assert_eq!(pool.run(double::new(n)).unwrap(), 2 * n);
    }
    pool.shutdown(Duration::from_secs(10)).unwrap();
}

/// Panics when it is encoded, if it was told so.
#[derive(Deserialize, Debug, Default)]
struct Stubborn(bool);

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.0, "it is not to be encoded");
        self.0.serialize(serializer)
    }
}

#[offspring::worker]
fn panic_with_guards(mutex: Mutex<Stubborn, Encoded>, lock: RwLock<Stubborn, Encoded>) {
    let (mut value, mut other) = (mutex.lock().unwrap(), lock.write().unwrap());
    (value.0, other.0) = (true, true);
    panic!("with both guards");
}

#[offspring::test(timeout = "30s")]
fn guards_that_a_panic_drops_release_their_locks_though_the_value_panics_too() {
    let mutex = Mutex::encoded(Stubborn(false)).unwrap();
    let lock = RwLock::encoded(Stubborn(false)).unwrap();
    for backend in [Backend::Process, Backend::Inline] {
        let worker = panic_with_guards::new(mutex.clone(), lock.clone());
        let joined = ProcessBuilder::new().backend(backend).spawn(worker).unwrap().join();
        let error = joined.unwrap_err();
        let Some(ExitReason::Panicked(report)) = error.reason() else { panic!("{error:?}") };
        assert_eq!(report.message, "with both guards");
        // Free and poisoned, with the value from before.
        assert!(mutex.is_poisoned() && lock.is_poisoned());
        let value = mutex.lock().unwrap_err().into_guard().unwrap();
        let other = lock.write().unwrap_err().into_guard().unwrap();
        assert_eq!((value.0, other.0), (false, false));
        drop((value, other));
        mutex.clear_poison();
        lock.clear_poison();
    }
}

/// Panics when it is dropped, if it was told so.
#[derive(Serialize, Deserialize, Debug, Default)]
struct Armed(bool);

impl Drop for Armed {
    fn drop(&mut self) {
        assert!(!self.0, "it was armed");
    }
}

#[offspring::test(timeout = "30s")]
fn a_guard_whose_value_panics_releases_its_lock() {
    let mutex = Mutex::encoded(Armed(false)).unwrap();
    explodes(|| mutex.lock().unwrap().0 = true);
    // The value was written back, and each guard has a copy.
    (0..3).for_each(|_| explodes(|| mutex.lock().unwrap()));
    assert!(!mutex.is_poisoned());
    let mutex = Mutex::encoded(Stubborn(false)).unwrap();
    mutex.lock().unwrap().0 = true;
    assert!(mutex.is_poisoned(), "it could not be written back");
    assert!(!mutex.lock().unwrap_err().into_guard().unwrap().0);
}

/// An actor whose messages and replies panic when they are dropped.
struct Bomber;

#[offspring::actor]
impl Bomber {
    fn start() -> Self {
        Bomber
    }

    pub fn bomb(&mut self) -> Bomb {
        Bomb
    }

    pub fn defuse(&mut self, bomb: Bomb) -> u64 {
        std::mem::forget(bomb);
        1
    }
}

#[offspring::test(timeout = "30s")]
fn an_actor_whose_replies_panic_ends_and_says_so() {
    let bomber = offspring::actor::spawn::<Bomber>(()).unwrap().typed::<BomberHandle>();
    explodes(|| bomber.defuse(Bomb));
    std::mem::forget(bomber.bomb());
    let down = bomber.stop();
    assert!(matches!(&down, DownReason::Died(ExitReason::Panicked(_))), "{down:?}");
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
