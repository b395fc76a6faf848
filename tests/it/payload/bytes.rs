//! Messages of every size and kind arrive whole, and their memory is returned.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use offspring::channel::{Bytes, RecvError, RecvTimeoutError, SendError};
use offspring::queue::PutError;
use offspring::{Connection, Queue, Receiver, channel, pipe};
use serde::{Deserialize, Serialize};

use super::{echo_bytes, pattern};

#[offspring::test(timeout = "60s")]
fn bytes_of_every_size_go_into_a_buffer_that_is_used_again() {
    let (ours, theirs) = pipe().unwrap();
    let process = echo_bytes::spawn(theirs).unwrap();
    let mut buffer = b"old".to_vec();
    // 70 MiB are too long for the heap.
    for size in
        [0, 1, 32_000, 32_765, 32_768, 32_769, 100_000, 9 << 20, 7, 130 << 20, 64 << 20, 100_000]
    {
        let sent = pattern(size, size as u64);
        ours.send_bytes(&sent).unwrap();
        assert_eq!(ours.recv_bytes_into(&mut buffer).unwrap(), size);
        assert!(buffer == sent, "{size} bytes came back changed");
    }
    ours.send(Bytes::from(vec![1, 2])).unwrap();
    assert_eq!(ours.recv_bytes().unwrap(), [1, 2]);
    let end = ours.recv_bytes_into_timeout(&mut buffer, Duration::from_millis(20));
    assert!(end.is_err_and(|end| end.is_timeout()) && buffer.is_empty());
    drop(ours);
    process.join().unwrap();
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    image: Vec<u8>,
    rows: Vec<Vec<f64>>,
    single: Vec<f32>,
    numbers: Vec<u32>,
    text: String,
    boxed: Box<[u8]>,
    deque: VecDeque<u8>,
    some: Option<Vec<u8>>,
}

fn everything(size: usize) -> Everything {
    Everything {
        image: pattern(size, 1),
        rows: (0..3).map(|n| (0..size / 8).map(|m| (n * m) as f64 / 3.0).collect()).collect(),
        single: (0..size / 4).map(|n| n as f32 / 7.0).collect(),
        numbers: (0..size as u32 / 4).map(|n| n.wrapping_mul(2_654_435_761)).collect(),
        text: "é".repeat(size / 2),
        boxed: pattern(size, 2).into(),
        deque: pattern(size, 3).into(),
        some: Some(pattern(size, 4)),
    }
}

#[offspring::worker]
fn echo_everything(there: Queue<Everything>, back: Connection<Everything, ()>) {
    for value in &there {
        back.send(value).expect("the test receives");
    }
}

#[offspring::test(timeout = "60s")]
fn values_of_all_kinds_come_back_from_queues_and_pipes() {
    let there = Queue::unbounded().unwrap();
    let (back, theirs) = pipe().unwrap();
    let process = echo_everything::spawn(there.clone(), theirs).unwrap();
    for size in [0, 1, 1000, 5000, 40_000, 400_000] {
        there.put(everything(size)).unwrap();
        assert!(back.recv().unwrap() == everything(size), "changed at {size}");
    }
    there.close().unwrap();
    process.join().unwrap();
}

/// Pages of shared memory that this process has in use, in KiB.
fn shared_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[offspring::worker]
fn use_memory() {
    let (sender, receiver) = channel::<Vec<u8>>().unwrap();
    let before = shared_memory();
    for _ in 0..3 {
        sender.send(vec![1; 40 << 20]).unwrap();
        receiver.recv().unwrap();
        // The same pages each time, mapped by both ends.
        let used = (shared_memory() - before) / 2;
        assert!((40 << 10..60 << 10).contains(&used), "{used} KiB");
    }
    let end = receiver.recv_timeout(Duration::from_millis(1500));
    assert!(matches!(end, Err(RecvTimeoutError::Timeout)));
    let left = shared_memory().saturating_sub(before);
    assert!(left < 1 << 10, "{left} KiB stayed");
    sender.send(vec![2; 5 << 20]).unwrap();
    assert_eq!(receiver.recv().unwrap(), vec![2; 5 << 20]);
}

#[offspring::test(timeout = "60s")]
fn memory_is_used_again_and_goes_back_when_it_is_idle() {
    use_memory::spawn().unwrap().join().unwrap();
}

#[offspring::worker]
fn send_too_much(queue: Queue<Vec<u8>>, sender: offspring::Sender<Bytes>) {
    offspring::set_message_limit(1 << 20);
    let error = queue.put(vec![1; 2 << 20]).unwrap_err();
    assert!(error.to_string().contains("failed to encode"), "{error}");
    assert!(matches!(&error, PutError::Encode(_, why) if why.to_string().contains("1048576")));
    assert_eq!(error.into_inner().len(), 2 << 20);
    assert!(matches!(sender.send_bytes(&vec![1; 1 << 20]), Err(SendError::Encode((), _))));
    assert!(matches!(sender.send_bytes(&[1; 100_000]), Ok(())));
    queue.put(vec![1; 100_000]).unwrap();
}

#[offspring::test(timeout = "30s")]
fn what_is_over_the_limit_comes_back_to_the_sender() {
    let queue = Queue::unbounded().unwrap();
    let (sender, receiver) = channel::<Bytes>().unwrap();
    send_too_much::spawn(queue.clone(), sender).unwrap().join().unwrap();
    assert_eq!(queue.get().unwrap().len(), 100_000);
    assert_eq!(receiver.recv().unwrap().len(), 100_000);
}

#[offspring::worker]
fn receive_too_much(receiver: Receiver<Vec<u8>>) {
    offspring::set_message_limit(1 << 20);
    for _ in 0..2 {
        let error = receiver.recv().unwrap_err();
        assert!(
            matches!(&error, RecvError::Decode(why) if why.to_string().contains("1048576")),
            "{error:?}"
        );
    }
    assert_eq!(receiver.recv().unwrap(), [7]);
}

#[offspring::test(timeout = "30s")]
fn what_is_over_the_receivers_limit_is_an_error_of_that_message_only() {
    let (sender, receiver) = channel().unwrap();
    sender.send(vec![1; 2 << 20]).unwrap();
    sender.send(vec![1; 70 << 20]).unwrap();
    sender.send(vec![7]).unwrap();
    receive_too_much::spawn(receiver).unwrap().join().unwrap();
}

#[offspring::test(timeout = "30s")]
fn a_full_heap_makes_senders_wait_and_no_longer_than_they_want() {
    let (sender, receiver) = channel::<Bytes>().unwrap();
    let message = pattern(1 << 20, 5);
    let mut sent = 0;
    let timeout = Duration::from_millis(50);
    loop {
        let before = Instant::now();
        match sender.send_bytes_timeout(&message, timeout) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert!(error.is_timeout() && before.elapsed() >= timeout);
                break;
            }
        }
    }
    assert_eq!(sent, 8);
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| sender.send_bytes(&message));
        for _ in 0..9 {
            assert!(receiver.recv().unwrap()[..] == message[..]);
        }
        blocked.join().unwrap().unwrap();
    });
    assert!(sender.send_bytes_timeout(&message, timeout).is_ok());
}
