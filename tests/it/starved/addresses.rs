//! Processes without addresses for what they receive: the call says so, and nothing is lost.

use std::error::Error;
use std::time::Duration;

use offspring::shared::SharedBytes;
use offspring::sync::Event;
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{JoinableQueue, Pool, ProcessBuilder, Queue, Receiver, Sender, channel};
use serde::{Deserialize, Serialize};

use super::shortage::leave_addresses;

const LONG: Duration = Duration::from_secs(20);
/// Less than a sender's ring takes, and more than an error does.
const LITTLE: u64 = 120 << 10;

fn text(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", text(cause)))
}

/// Calls `receive` without addresses, and again when there are some.
fn receive<T, E: Error + 'static>(mut receive: impl FnMut() -> Result<T, E>) -> T {
    let shortage = leave_addresses(LITTLE);
    let short = receive().map(drop);
    shortage.end();
    let error = short.expect_err("there are no addresses for it");
    assert!(text(&error).contains("Cannot allocate memory"), "{}", text(&error));
    receive().unwrap()
}

#[offspring::worker]
fn send_on(go: Event, to: Sender<u32>) {
    go.wait().unwrap();
    to.send(7).unwrap();
    to.send(8).unwrap();
}

#[offspring::worker]
fn receive_two(from: Receiver<u32>) -> [u32; 2] {
    [from.recv().unwrap(), from.recv().unwrap()]
}

/// The first message of a sender, whose ring this process cannot map.
#[offspring::worker]
fn hear_a_new_sender(move_on: bool) {
    let (go, (sender, receiver)) = (Event::new().unwrap(), channel().unwrap());
    let child = send_on::spawn(go.clone(), sender).unwrap();
    go.set();
    // It has sent both, and its end is known.
    child.join().unwrap();
    if move_on {
        let shortage = leave_addresses(LITTLE);
        receiver.recv_timeout(LONG).unwrap_err();
        shortage.end();
        assert_eq!(receive_two::spawn(receiver).unwrap().join().unwrap(), [7, 8]);
    } else {
        assert_eq!(receive(|| receiver.recv_timeout(LONG)), 7);
        assert_eq!(receiver.recv().unwrap(), 8);
        receiver.recv().unwrap_err();
    }
}

#[offspring::test(timeout = "60s")]
fn a_sender_that_cannot_be_mapped_is_heard_later() {
    for move_on in [false, true] {
        hear_a_new_sender::spawn(move_on).unwrap().join().unwrap();
    }
}

/// A sender that cannot be mapped keeps nothing from the others, nor they from it.
#[offspring::worker]
fn hear_others_meanwhile() {
    let (sender, receiver) = channel().unwrap();
    sender.send(1).unwrap();
    assert_eq!(receiver.recv().unwrap(), 1);
    let go = Event::new().unwrap();
    let child = send_on::spawn(go.clone(), sender.clone()).unwrap();
    go.set();
    child.join().unwrap();
    sender.send(2).unwrap();
    let shortage = leave_addresses(LITTLE);
    let heard = (0..10).find_map(|_| receiver.recv().ok());
    assert_eq!(heard, Some(2));
    receiver.recv().unwrap_err();
    shortage.end();
    // One that is never without a message.
    let others = (0..5000).find_map(|_| {
        sender.send(3).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        Some(receiver.recv().unwrap()).filter(|&heard| heard != 3)
    });
    assert_eq!(others, Some(7));
}

#[offspring::test(timeout = "60s")]
fn a_sender_that_cannot_be_mapped_and_others_do_not_wait_for_each_other() {
    hear_others_meanwhile::spawn().unwrap().join().unwrap();
}

/// Long, with a handle: it travels in memory of its own.
#[derive(Serialize, Deserialize)]
struct Long {
    bytes: Vec<u8>,
    handle: Option<Sender<u32>>,
}

impl Long {
    fn new() -> Long {
        let (handle, _) = channel().unwrap();
        Long { bytes: vec![7; 200_000], handle: Some(handle) }
    }

    fn is_whole(&self) -> bool {
        self.bytes == vec![7; 200_000] && self.handle.is_some()
    }
}

#[offspring::worker]
fn receive_long(from: Receiver<Long>) {
    assert!(from.recv().unwrap().is_whole());
    assert!(receive(|| from.recv_timeout(LONG)).is_whole());
}

#[offspring::worker]
fn get_long(from: Queue<Long>) {
    assert!(from.get().unwrap().is_whole());
    assert!(receive(|| from.get_timeout(LONG)).is_whole());
}

#[offspring::worker]
fn take_long(from: JoinableQueue<Long>) {
    from.get().unwrap().task_done();
    let job = receive(|| from.get_timeout(LONG));
    assert!(job.is_whole());
    assert_eq!(job.attempt(), 1);
    job.task_done();
}

#[offspring::worker]
fn get_own_long() {
    let (queue, jobs) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
    queue.put(Long::new()).unwrap();
    jobs.put(Long::new()).unwrap();
    assert!(receive(|| queue.get_timeout(LONG)).is_whole());
    let job = receive(|| jobs.get_timeout(LONG));
    assert!(job.is_whole());
    assert_eq!(job.attempt(), 1);
    job.task_done();
    jobs.join().unwrap();
    assert!(jobs.dead_letters().unwrap().is_empty());
}

#[offspring::test(timeout = "60s")]
fn a_long_value_that_cannot_be_mapped_stays_where_it_is() {
    let (sender, receiver) = channel().unwrap();
    let child = receive_long::spawn(receiver).unwrap();
    (0..2).for_each(|_| sender.send(Long::new()).unwrap());
    child.join().unwrap();

    let queue = Queue::unbounded().unwrap();
    (0..2).for_each(|_| queue.put(Long::new()).unwrap());
    get_long::spawn(queue).unwrap().join().unwrap();

    let jobs = JoinableQueue::unbounded().unwrap();
    (0..2).for_each(|_| jobs.put(Long::new()).unwrap());
    take_long::spawn(jobs.clone()).unwrap().join().unwrap();
    jobs.join().unwrap();

    get_own_long::spawn().unwrap().join().unwrap();
}

fn shared() -> SharedBytes {
    SharedBytes::copy_from(&[7; 200_000]).unwrap()
}

#[offspring::worker]
fn receive_shared(from: Receiver<SharedBytes>, items: Queue<SharedBytes>) {
    assert_eq!(from.recv().unwrap(), items.get().unwrap());
    assert_eq!(receive(|| from.recv_timeout(LONG)).len(), 200_000);
    assert_eq!(receive(|| items.get_timeout(LONG)).len(), 200_000);
}

#[offspring::test(timeout = "60s")]
fn shared_memory_that_cannot_be_mapped_stays_where_it_is() {
    let ((sender, receiver), items) = (channel().unwrap(), Queue::unbounded().unwrap());
    let child = receive_shared::spawn(receiver, items.clone()).unwrap();
    for _ in 0..2 {
        sender.send(shared()).unwrap();
        items.put(shared()).unwrap();
    }
    child.join().unwrap();
}

#[offspring::worker]
fn send_long(to: Sender<Vec<u8>>, n: u8, until: Event) {
    to.send(vec![n; 40_000]).unwrap();
    until.wait().unwrap();
}

#[offspring::worker]
fn double(n: u64) -> u64 {
    n * 2
}

/// The length of this process's mappings of senders' memory.
fn mapped() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = maps.lines().filter(|line| line.contains("ipc-channel-shared-memory"));
    let length = |line: &str| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(to)? - number(from)?)
    };
    memory.filter_map(length).sum()
}

/// Hears many senders, all of which live, with few addresses.
#[offspring::worker]
fn hear_many(count: u8) -> Vec<u8> {
    let ((sender, receiver), until) = (channel().unwrap(), Event::new().unwrap());
    let start = |n| send_long::spawn(sender.clone(), n, until.clone()).unwrap();
    let children: Vec<_> = (0..count).map(start).collect();
    let mut heard: Vec<u8> = (0..count).map(|_| receiver.recv().unwrap()[0]).collect();
    let each = mapped() / usize::from(count);
    assert!(each < 2 << 20, "each sender takes {each} bytes of addresses");
    until.set();
    children.into_iter().for_each(|child| child.join().unwrap());
    heard.sort_unstable();
    heard
}

/// A pool with as many workers.
#[offspring::worker]
fn use_many(count: usize) -> u64 {
    let pool = Pool::new(count).unwrap();
    let tasks: Vec<_> =
        (0..10 * count as u64).map(|n| pool.submit(double::new(n)).unwrap()).collect();
    tasks.into_iter().map(|task| task.join().unwrap()).sum()
}

#[offspring::test(timeout = "300s")]
fn sixty_workers_come_up_send_and_are_joined_with_few_addresses() {
    for addresses in [1 << 30, 4 << 30] {
        // By default, glibc reserves 64 MiB of addresses for each of the first 16 threads.
        let builder = || {
            let builder = ProcessBuilder::new().env("MALLOC_ARENA_MAX", "2");
            builder.rlimit(Resource::AddressSpace, addresses, addresses)
        };
        let hearer = ProcessBuilder::new().rlimit(Resource::AddressSpace, addresses, addresses);
        let heard = hearer.spawn(hear_many::new(60)).unwrap().join().unwrap();
        assert_eq!(heard, (0..60).collect::<Vec<u8>>());
        let sum = builder().spawn(use_many::new(60)).unwrap().join().unwrap();
        assert_eq!(sum, (0..600).map(|n| n * 2).sum::<u64>());
    }
}
