//! What must work in a sandbox. The workers here end at the first call that it forbids, so they
//! also show that this crate and std make none.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::Mutex as StdMutex;
use std::time::{Duration, Instant};

use offspring::process::Sandbox;
use offspring::shared::{AtomicU64, SharedBytes, SharedSlice};
use offspring::supervisor::ChildSpec;
use offspring::sync::{Barrier, Condvar, Event, Mutex, RwLock, Semaphore};
use offspring::unix::SharedFd;
use offspring::{
    ActorBuilder, Connection, ExitReason, JoinableQueue, Pool, ProcessBuilder, Queue, Receiver,
    Selector, Sender, Supervisor,
};
use serde::{Deserialize, Serialize};

use super::{Outcome, caged_in, outcome};

fn deadly() -> Sandbox {
    Sandbox::fields_only().kill_on_violation()
}

/// A message that takes a heap, or a parcel.
const LARGE: usize = 3 << 20;

#[derive(Serialize, Deserialize)]
struct Channels {
    numbers: Queue<u64>,
    jobs: JoinableQueue<String>,
    large: Sender<Vec<u8>>,
    orders: Receiver<Sender<u64>>,
    both: Connection<String, String>,
}

#[offspring::worker]
fn use_channels(channels: Channels) -> usize {
    let Channels { numbers, jobs, large, orders, both } = channels;
    let sum: u64 = numbers.iter().take(100).sum();
    assert_eq!(sum, 4950);
    numbers.put(sum).unwrap();
    let job = jobs.get().unwrap();
    jobs.put(job.repeat(2)).unwrap();
    job.task_done();
    // A channel that arrives later.
    let answer = orders.recv().unwrap();
    answer.send(7).unwrap();
    large.send(vec![9; LARGE]).unwrap();
    let text = both.recv().unwrap();
    both.send(text).unwrap();
    // A timeout, and a queue of its own.
    assert!(orders.recv_timeout(Duration::from_millis(20)).is_err());
    let own = Queue::bounded(4).unwrap();
    own.put(3).unwrap();
    large.send(vec![own.get().unwrap(); 5]).unwrap();
    vec![0_u8; LARGE].len()
}

#[offspring::test(timeout = "60s")]
fn queues_and_channels() {
    let (numbers, jobs) = (Queue::unbounded().unwrap(), JoinableQueue::bounded(4).unwrap());
    let (large, large_out) = offspring::channel().unwrap();
    let (orders, orders_out) = offspring::channel().unwrap();
    let (both, other) = offspring::pipe().unwrap();
    let channels =
        Channels { numbers: numbers.clone(), jobs: jobs.clone(), large, orders: orders_out, both };
    let worker = caged_in(deadly()).spawn(use_channels::new(channels)).unwrap();
    (0..100).for_each(|number| numbers.put(number).unwrap());
    jobs.put("ab".to_owned()).unwrap();
    let (answer, answered) = offspring::channel().unwrap();
    orders.send(answer).unwrap();
    assert_eq!(answered.recv().unwrap(), 7);
    assert_eq!(large_out.recv().unwrap(), vec![9; LARGE]);
    other.send("text".to_owned()).unwrap();
    assert_eq!(other.recv().unwrap(), "text");
    assert_eq!(large_out.recv().unwrap(), vec![3; 5]);
    assert_eq!(worker.join().unwrap(), LARGE);
    assert_eq!(numbers.get().unwrap(), 4950);
    assert_eq!(*jobs.get().unwrap(), "abab");
}

#[derive(Serialize, Deserialize)]
struct Shared {
    balance: Mutex<u64>,
    changed: Condvar,
    table: RwLock<[u64]>,
    permits: Semaphore,
    go: Event,
    line: Barrier,
    cells: SharedSlice<u32>,
    bytes: SharedBytes,
    count: AtomicU64,
}

#[offspring::worker]
fn use_shared(shared: Shared) -> u64 {
    shared.go.wait().unwrap();
    let mut balance = shared.balance.lock().unwrap();
    while *balance < 5 {
        balance = shared.changed.wait(balance).unwrap();
    }
    *balance += 1;
    drop(balance);
    shared.table.write().unwrap()[1] = 8;
    let permit = shared.permits.acquire().unwrap();
    shared.cells.set(0, u32::from(shared.bytes[2]));
    drop(permit);
    shared.count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    shared.line.wait().unwrap();
    // Objects of its own.
    let own = Mutex::new(1).unwrap();
    let copy = SharedBytes::copy_from(&vec![4; 1 << 20]).unwrap();
    *own.lock().unwrap() + u64::from(copy[0]) + shared.table.read().unwrap()[1]
}

#[offspring::test(timeout = "60s")]
fn locks_and_shared_memory() {
    let balance = Mutex::new(0).unwrap();
    let (changed, go) = (Condvar::new().unwrap(), Event::new().unwrap());
    let (table, line) = (RwLock::from_slice(&[1, 2]).unwrap(), Barrier::new(2).unwrap());
    let cells = SharedSlice::from_slice(&[0_u32]).unwrap();
    let count = AtomicU64::new(0).unwrap();
    let shared = Shared {
        balance: balance.clone(),
        changed: changed.clone(),
        table,
        permits: Semaphore::new(1).unwrap(),
        go: go.clone(),
        line: line.clone(),
        cells: cells.clone(),
        bytes: SharedBytes::copy_from(&[1, 2, 3]).unwrap(),
        count: count.clone(),
    };
    let worker = caged_in(deadly()).spawn(use_shared::new(shared)).unwrap();
    go.set();
    for _ in 0..5 {
        *balance.lock().unwrap() += 1;
        changed.notify_all();
    }
    line.wait().unwrap();
    assert_eq!(worker.join().unwrap(), 1 + 4 + 8);
    assert_eq!((*balance.lock().unwrap(), cells.get(0)), (6, Some(3)));
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// What std and the C library need: threads, time, random numbers, memory, signals, stdio.
#[offspring::worker]
fn use_std(file: SharedFd) -> String {
    let map: HashMap<u32, u32> = (0..1000).map(|number| (number, number)).collect();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            std::thread::Builder::new().name(format!("t{number}")).spawn(move || {
                std::thread::sleep(Duration::from_millis(1));
                vec![number; 1 << 20].len()
            })
        })
        .collect();
    let all: usize = threads.into_iter().map(|thread| thread.unwrap().join().unwrap()).sum();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    File::from(writer).write_all(b"x").unwrap();
    File::from(reader).read_exact(&mut [0]).unwrap();
    let caught = std::panic::catch_unwind(|| panic!("caught"));
    assert!(caught.is_err() && map.len() == 1000 && all == 4 << 20);
    let _ = (Instant::now(), std::time::SystemTime::now());
    eprintln!("to stderr");
    println!("to stdout");
    // SAFETY: handles a signal that it sends to itself.
    unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::raise(libc::SIGUSR1);
        assert!(libc::time(std::ptr::null_mut()) > 0);
    }
    // Libraries ask for the size of a page and the like: `PR_GET_AUXV`, which is new in Linux 6.4.
    let mut told = [0_u8; 4096];
    // SAFETY: the kernel writes at most as many bytes as there are.
    let length = unsafe { libc::prctl(0x4155_5856, told.as_mut_ptr(), told.len(), 0, 0) };
    assert!(length > 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL));
    let mut file = File::from(file.into_fd());
    let length = file.metadata().unwrap().len();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    file.write_all(b" and more").unwrap();
    format!("{text} {length}")
}

#[offspring::test(timeout = "60s")]
fn the_standard_library() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"text").unwrap();
    file.rewind().unwrap();
    let shared = SharedFd::new(file.try_clone().unwrap());
    let worker = caged_in(deadly()).spawn(use_std::new(shared)).unwrap();
    assert_eq!(worker.join().unwrap(), "text 4");
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "text and more");
}

#[offspring::worker]
fn wait_for_stop() -> bool {
    offspring::current().wait_stopping();
    offspring::current().is_stopping()
}

#[offspring::test(timeout = "60s")]
fn requests_to_stop_and_selectors() {
    let worker = caged_in(deadly()).spawn(wait_for_stop::new()).unwrap();
    assert_eq!(worker.stop(Duration::from_secs(20)), ExitReason::Returned);
    let (numbers, out) = (Queue::unbounded().unwrap(), offspring::channel().unwrap());
    let worker = caged_in(deadly()).spawn(select::new(numbers.clone(), out.1)).unwrap();
    out.0.send(1).unwrap();
    numbers.put(2).unwrap();
    assert_eq!(worker.join().unwrap(), 3);
}

#[offspring::worker]
fn select(numbers: Queue<u64>, channel: Receiver<u64>) -> u64 {
    let (mut sum, mut taken) = (0, 0);
    let selector = Selector::new();
    selector.add(&numbers).unwrap();
    selector.add(&channel).unwrap();
    while taken < 2 {
        selector.ready().unwrap();
        for next in [numbers.try_get().ok(), channel.try_recv().ok()].into_iter().flatten() {
            (sum, taken) = (sum + next, taken + 1);
        }
    }
    sum
}

/// Starts one that waits, tells its pid, and waits as well.
#[offspring::worker]
fn be_parent(pids: Sender<u32>) {
    let child = caged_in(deadly()).spawn(wait_for_stop::new()).unwrap();
    pids.send(child.pid()).unwrap();
    offspring::current().wait_stopping();
}

#[offspring::test(timeout = "60s")]
fn it_ends_with_its_parent() {
    let (pids, pid) = offspring::channel().unwrap();
    let parent = ProcessBuilder::new().spawn(be_parent::new(pids)).unwrap();
    let pid = pid.recv().unwrap();
    assert!(crate::support::is_running(pid));
    parent.kill();
    crate::support::eventually("it ends", || !crate::support::is_running(pid));
}

#[inline(never)]
#[offspring::worker]
fn panic_in_it() {
    panic!("from inside");
}

#[offspring::test(timeout = "60s")]
fn a_panic_is_reported_with_its_backtrace() {
    for sandbox in [deadly(), Sandbox::fields_only()] {
        let builder = caged_in(sandbox).env("RUST_BACKTRACE", "1");
        let error = builder.spawn(panic_in_it::new()).unwrap().join().unwrap_err();
        let Some(ExitReason::Panicked(report)) = error.reason() else { panic!("{error}") };
        assert_eq!(report.message, "from inside");
        let backtrace = report.backtrace.as_deref().unwrap();
        assert!(backtrace.contains("panic_in_it"), "{backtrace}");
        let error = caged_in(deadly()).env_remove("RUST_BACKTRACE").spawn(panic_in_it::new());
        assert!(matches!(
            error.unwrap().join().unwrap_err().reason(),
            Some(ExitReason::Panicked(_))
        ));
    }
}

static LINES: StdMutex<Vec<String>> = StdMutex::new(Vec::new());

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

#[offspring::worker]
fn log_something() {
    log::warn!("a record from inside");
}

/// Has a logger, so it is a process of its own.
#[offspring::worker]
fn log_of_a_child() -> Vec<String> {
    log::set_logger(&Keep).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    caged_in(deadly()).spawn(log_something::new()).unwrap().join().unwrap();
    LINES.lock().unwrap().clone()
}

#[offspring::test(timeout = "60s")]
fn records_reach_the_logger_of_the_parent() {
    let lines = ProcessBuilder::new().spawn(log_of_a_child::new()).unwrap().join().unwrap();
    assert!(lines.iter().any(|line| line == "a record from inside"), "{lines:?}");
}

#[offspring::worker]
pub(super) fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[offspring::worker]
fn try_to_open() -> Outcome {
    outcome(File::open("/etc/passwd"))
}

#[offspring::worker]
fn crash() {
    std::process::abort();
}

#[offspring::test(timeout = "60s")]
fn pools_and_their_replacements() {
    let pool = Pool::builder()
        .workers(2)
        .process(|_, builder| builder.sandbox(Sandbox::fields_only()))
        .build()
        .unwrap();
    assert_eq!(pool.map(0..100, |n| add::new(n, 1)).map(Result::unwrap).sum::<u32>(), 5050);
    let large = pool.run(repeat::new(vec![3; LARGE])).unwrap();
    assert_eq!(large.len(), 2 * LARGE);
    let error = pool.run(crash::new()).unwrap_err();
    assert!(error.to_string().contains("SIGABRT"), "{error}");
    for _ in 0..4 {
        assert_eq!(pool.run(try_to_open::new()).unwrap(), Err(libc::EPERM));
    }
    pool.shutdown(Duration::from_secs(20)).unwrap();
}

#[offspring::worker]
fn repeat(bytes: Vec<u8>) -> Vec<u8> {
    bytes.repeat(2)
}

struct Counter {
    value: u64,
}

#[offspring::actor]
impl Counter {
    fn start(value: u64) -> Self {
        Counter { value }
    }

    pub fn add(&mut self, n: u64) -> u64 {
        self.value = self.value.checked_add(n).expect("an overflow");
        self.value
    }

    #[cast]
    pub fn add_later(&mut self, n: u64) {
        self.value += n;
    }

    pub fn can_open(&self) -> bool {
        File::open("/etc/passwd").is_ok()
    }
}

#[offspring::worker]
fn call(counter: CounterHandle) -> u64 {
    counter.add_later(1).unwrap();
    counter.add(1).unwrap()
}

#[offspring::test(timeout = "60s")]
fn actors_and_supervised_children() {
    let caged = |builder: ProcessBuilder| builder.sandbox(Sandbox::fields_only());
    let owner = ActorBuilder::new().process(caged).spawn::<Counter>((1,)).unwrap();
    let counter = CounterHandle::from((*owner).clone());
    assert_eq!(counter.add(2).unwrap(), 3);
    counter.add_later(3).unwrap();
    assert!(!counter.can_open().unwrap());
    // Called from a worker in a sandbox, too.
    let caller = caged_in(deadly()).spawn(call::new(counter.clone())).unwrap();
    assert_eq!(caller.join().unwrap(), 8);

    let spec = ChildSpec::actor::<Counter>("counter", (10,)).process(caged);
    let supervisor = Supervisor::builder().child(spec).start().unwrap();
    let counter = CounterHandle::from(supervisor.actor::<Counter>("counter").unwrap());
    assert!(!counter.can_open().unwrap());
    assert!(counter.add(u64::MAX).is_err());
    assert_eq!(counter.add(1).unwrap(), 11);
    assert!(!counter.can_open().unwrap(), "the next incarnation");
    supervisor.stop();
}
