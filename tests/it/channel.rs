//! Channels and pipes between real processes.

use std::time::{Duration, Instant};

use offspring::channel::{RecvError, RecvTimeoutError, SendError, TryRecvError};
use offspring::{Connection, Receiver, Sender, channel, pipe};
use serde::{Deserialize, Serialize};

use crate::support::{eventually, open_fds};

const SHORT: Duration = Duration::from_millis(50);

#[offspring::worker]
fn count(numbers: Sender<u64>, range: std::ops::Range<u64>) {
    for n in range {
        numbers.send(n).expect("the test receives");
    }
}

#[offspring::worker]
fn sum(numbers: Receiver<u64>) -> u64 {
    numbers.iter().sum()
}

#[offspring::worker]
fn echo(connection: Connection<Vec<u8>, Vec<u8>>) -> u64 {
    let mut count = 0;
    while let Ok(message) = connection.recv() {
        connection.send(message).expect("the test receives");
        count += 1;
    }
    count
}

#[offspring::test(timeout = "20s")]
fn messages_come_in_order_and_then_the_end() {
    let (sender, receiver) = channel().unwrap();
    let process = count::spawn(sender, 0..20_000).unwrap();
    assert!(receiver.iter().eq(0..20_000));
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Disconnected)));
    process.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_receiver_moves_to_another_process() {
    let (sender, receiver) = channel().unwrap();
    sender.send(1).unwrap();
    let process = sum::spawn(receiver).unwrap();
    for n in 2..=10_000 {
        sender.send(n).unwrap();
    }
    drop(sender);
    assert_eq!(process.join().unwrap(), 10_000 * 10_001 / 2);
}

#[offspring::test(timeout = "20s")]
fn a_receiver_that_has_received_moves_with_what_is_left() {
    let (sender, receiver) = channel().unwrap();
    (1..=10).for_each(|n| sender.send(n).unwrap());
    assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 3);
    let process = sum::spawn(receiver).unwrap();
    sender.send(100).unwrap();
    drop(sender);
    assert_eq!(process.join().unwrap(), 55 - 3 + 100);
}

#[offspring::test(timeout = "20s")]
fn an_end_that_was_moved_says_so() {
    let (sender, receiver) = channel::<u64>().unwrap();
    let worker = sum::new(receiver);
    let again = offspring::ProcessBuilder::new();
    let (carry, carried) = channel().unwrap();
    carry.send(worker).unwrap();
    let worker: sum = carried.recv().unwrap();
    let process = again.spawn(worker).unwrap();
    drop(sender);
    assert_eq!(process.join().unwrap(), 0);

    let (_sender, receiver) = channel::<u64>().unwrap();
    let (carry, _carried) = channel().unwrap();
    let holder = Holder { receiver };
    // The message comes back with an error, because its receiver is gone; what it held is moved all
    // the same.
    carry.send(holder).unwrap();
}

#[derive(Serialize, Deserialize)]
struct Holder {
    receiver: Receiver<u64>,
}

#[offspring::test(timeout = "30s")]
fn senders_of_many_processes_share_one_receiver() {
    let (sender, receiver) = channel().unwrap();
    let processes: Vec<_> =
        (0..4).map(|p| count::spawn(sender.clone(), p * 1000..(p + 1) * 1000).unwrap()).collect();
    drop(sender);
    let mut last = [None; 4];
    let mut total = 0;
    for n in &receiver {
        let source = (n / 1000) as usize;
        assert!(last[source].is_none_or(|last| last < n), "the order of one sender was lost");
        last[source] = Some(n);
        total += 1;
    }
    assert_eq!(total, 4000);
    for process in processes {
        process.join().unwrap();
    }
}

#[offspring::test(timeout = "20s")]
fn what_was_sent_survives_the_death_of_the_sender() {
    let (sender, receiver) = channel().unwrap();
    let process = send_and_hang::spawn(sender).unwrap();
    // It is killed while it waits for nothing any more; all hundred were sent.
    eventually("all were sent", || receiver.poll(Duration::ZERO).unwrap());
    assert_eq!(receiver.recv().unwrap(), 0);
    assert_eq!(receiver.iter().take(99).count(), 99);
    process.kill();
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
}

#[offspring::worker]
fn send_and_hang(numbers: Sender<u64>) {
    (0..100).for_each(|n| numbers.send(n).expect("the test receives"));
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "20s")]
fn sending_to_a_receiver_that_is_gone_gives_the_message_back() {
    let (sender, receiver) = channel::<String>().unwrap();
    drop(receiver);
    let error = sender.send("back".to_owned()).unwrap_err();
    assert!(matches!(error, SendError::Disconnected(_)));
    assert_eq!(error.into_inner(), "back");
}

#[offspring::worker]
fn never_receive(receiver: Receiver<Vec<u8>>) {
    let _receiver = receiver;
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "20s")]
fn a_full_channel_times_out_and_wakes_when_the_receiver_dies() {
    let (sender, receiver) = channel().unwrap();
    let process = never_receive::spawn(receiver).unwrap();
    let mut sent = 0;
    let error = loop {
        let before = Instant::now();
        match sender.send_timeout(vec![0; 1000], SHORT) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert!(before.elapsed() >= SHORT);
                break error;
            }
        }
    };
    assert!(error.is_timeout() && sent > 100, "{error:?} after {sent}");
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| sender.send(vec![1; 1000]));
        process.kill();
        assert!(matches!(blocked.join().unwrap(), Err(SendError::Disconnected(_))));
    });
}

/// Starts to receive after an order.
#[offspring::worker]
fn receive_when_told(orders: Receiver<()>, messages: Receiver<Vec<u8>>) -> usize {
    orders.recv().expect("the test orders");
    messages.into_iter().map(|message| message.len()).sum()
}

#[offspring::test(timeout = "20s")]
fn try_send_never_blocks_and_gives_the_message_back() {
    // Messages of an entry each, and messages that are too long for one: the heap fills up, then
    // the parcels.
    for length in [1000, 3_000_000] {
        let (sender, receiver) = channel().unwrap();
        let (order, orders) = channel().unwrap();
        let process = receive_when_told::spawn(orders, receiver).unwrap();
        let mut sent = 0;
        let back = loop {
            match sender.try_send(vec![7; length]) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert!(error.is_full() && !error.is_end(), "{error:?}");
                    break error.into_inner();
                }
            }
        };
        assert_eq!(back.len(), length);
        assert!(sent >= 8, "{sent}");
        order.send(()).unwrap();
        // It has room again some time later.
        let mut back = Some(back);
        eventually("there is room", || {
            back = match back.take().map(|message| sender.try_send(message)) {
                Some(Err(error)) => Some(error.into_inner()),
                _ => None,
            };
            back.is_none()
        });
        drop(sender);
        assert_eq!(process.join().unwrap(), (sent + 1) * length);
    }
}

#[offspring::test(timeout = "20s")]
fn a_handle_that_try_send_gives_back_still_works() {
    let (sender, receiver) = channel::<(Receiver<u8>, Vec<u8>)>().unwrap();
    let mut parcels = Vec::new();
    let (kept, message) = loop {
        let (to, carried) = channel().unwrap();
        parcels.push(to);
        if let Err(error) = sender.try_send((carried, Vec::new())) {
            assert!(error.is_full(), "{error:?}");
            break (parcels.pop().unwrap(), error.into_inner());
        }
    };
    kept.send(9).unwrap();
    assert_eq!(message.0.recv().unwrap(), 9);
    drop(receiver);
    let error = sender.try_send(message).unwrap_err();
    assert!(error.is_end(), "{error:?}");
    kept.send(10).unwrap();
    assert_eq!(error.into_inner().0.recv().unwrap(), 10);
}

#[offspring::test(timeout = "20s")]
fn an_end_of_a_connection_can_try_to_send_until_it_moves() {
    let (ours, theirs) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
    ours.try_send(vec![1]).unwrap();
    assert_eq!(theirs.recv().unwrap(), [1]);
    let process = echo::spawn(theirs).unwrap();
    ours.try_send(vec![2]).unwrap();
    assert_eq!(ours.recv().unwrap(), [2]);
    drop(ours);
    assert_eq!(process.join().unwrap(), 1);
}

#[offspring::test(timeout = "20s")]
fn a_receiver_is_an_iterator_by_value_and_over_what_has_arrived() {
    let (sender, receiver) = channel().unwrap();
    assert_eq!(receiver.try_iter().next(), None);
    let process = count::spawn(sender.clone(), 0..10).unwrap();
    process.join().unwrap();
    // All that an ended process sent has arrived; this one may still send.
    assert!(receiver.try_iter().eq(0..10));
    sender.send(10).unwrap();
    drop(sender);
    let mut rest = receiver.into_iter();
    assert_eq!([rest.next(), rest.next(), rest.next()], [Some(10), None, None]);
}

#[offspring::test(timeout = "20s")]
fn receiving_times_out() {
    let (sender, receiver) = channel::<u8>().unwrap();
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    let before = Instant::now();
    assert!(matches!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout)));
    assert!(before.elapsed() >= SHORT);
    assert!(!receiver.poll(Duration::ZERO).unwrap());
    sender.send(5).unwrap();
    assert!(receiver.poll(Duration::MAX).unwrap());
    assert_eq!(receiver.try_recv().unwrap(), 5);
    drop(sender);
    // The end counts as something to receive.
    assert!(receiver.poll(Duration::MAX).unwrap());
}

#[offspring::test(timeout = "30s")]
fn a_pipe_carries_messages_of_every_size_both_ways() {
    let (ours, theirs) = pipe().unwrap();
    let process = echo::spawn(theirs).unwrap();
    let sizes = [0, 1, 100, 1024, 32_768, 32_769, 200_000, 64 << 20, 3];
    for size in sizes {
        let message = vec![size as u8; size];
        ours.send(message.clone()).unwrap();
        assert!(ours.recv().unwrap() == message, "{size} bytes came back changed");
    }
    drop(ours);
    assert_eq!(process.join().unwrap(), sizes.len() as u64);
}

#[offspring::test(timeout = "30s")]
fn many_large_messages_wait_for_their_receiver() {
    let (ours, theirs) = pipe().unwrap();
    let process = echo::spawn(theirs).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|n| ours.send(vec![n; 100_000]).unwrap()));
        for n in 0..100 {
            assert_eq!(ours.recv().unwrap(), vec![n; 100_000]);
        }
    });
    drop(ours);
    assert_eq!(process.join().unwrap(), 100);
}

#[offspring::test(timeout = "20s")]
fn a_pipe_ends_with_the_process_at_its_other_end() {
    let (ours, theirs) = pipe().unwrap();
    let process = echo::spawn(theirs).unwrap();
    ours.send(vec![1]).unwrap();
    assert_eq!(ours.recv().unwrap(), [1]);
    process.kill();
    assert!(matches!(ours.recv(), Err(RecvError::Disconnected)));
    eventually("sending is an error too", || ours.send(vec![2]).is_err());
}

#[offspring::worker]
fn serve_connections(incoming: Receiver<Connection<u64, u64>>) {
    for connection in &incoming {
        while let Ok(n) = connection.recv() {
            connection.send(n + 1).expect("the client waits");
        }
    }
}

#[offspring::test(timeout = "20s")]
fn connections_travel_over_channels() {
    let (sender, receiver) = channel().unwrap();
    let server = serve_connections::spawn(receiver).unwrap();
    for n in 0..20 {
        let (ours, theirs) = pipe().unwrap();
        sender.send(theirs).unwrap();
        ours.send(n).unwrap();
        assert_eq!(ours.recv().unwrap(), n + 1);
    }
    drop(sender);
    server.join().unwrap();
}

#[offspring::worker]
fn raw_handles(
    sender: ipc_channel::ipc::IpcSender<String>,
    receiver: ipc_channel::ipc::IpcReceiver<String>,
    queue: offspring::Queue<String>,
) {
    let text = receiver.recv().expect("the test sends");
    sender.send(format!("{text} there")).expect("the test receives");
    queue.put("and back".to_owned()).expect("the test reads");
}

#[offspring::test(timeout = "20s")]
fn raw_handles_of_ipc_channel_work_in_worker_fields() {
    let (to_child, in_child) = ipc_channel::ipc::channel().unwrap();
    let (to_us, ours) = ipc_channel::ipc::channel().unwrap();
    let queue = offspring::Queue::unbounded().unwrap();
    let process = raw_handles::spawn(to_us, in_child, queue.clone()).unwrap();
    to_child.send("here".to_owned()).unwrap();
    assert_eq!(ours.recv().unwrap(), "here there");
    assert_eq!(queue.get().unwrap(), "and back");
    process.join().unwrap();
}

#[offspring::worker]
fn descriptors_of_channels(rounds: u32) {
    let round = || {
        let (ours, theirs) = pipe().unwrap();
        let process = echo::spawn(theirs).unwrap();
        ours.send(vec![1; 50_000]).unwrap();
        ours.recv().unwrap();
        drop(ours);
        process.join().unwrap();
    };
    round();
    let before = open_fds();
    (0..rounds).for_each(|_| round());
    // The reaper lets go of a child just after `join` has returned.
    eventually("no descriptor is left", || open_fds() <= before);
}

#[offspring::test(timeout = "30s")]
fn channels_leave_no_descriptor_behind() {
    descriptors_of_channels::spawn(20).unwrap().join().unwrap();
}

#[offspring::worker]
fn descriptors_of_queues(rounds: u32) {
    let round = || {
        let queue = offspring::Queue::unbounded().unwrap();
        let jobs = offspring::JoinableQueue::unbounded().unwrap();
        let process = work_off::spawn(jobs.clone(), queue.clone()).unwrap();
        jobs.put(vec![1; 100_000]).unwrap();
        jobs.join().unwrap();
        jobs.close().unwrap();
        assert_eq!(queue.get().unwrap(), 100_000);
        process.join().unwrap();
        // Its session ends with it; the hub notices a moment later.
        eventually("the queue has no other user", || {
            queue.try_get().is_err_and(|error| !error.is_empty())
        });
    };
    round();
    let before = open_fds();
    (0..rounds).for_each(|_| round());
    // The reaper lets go of a child just after `join` has returned.
    eventually("no descriptor is left", || open_fds() <= before);
}

#[offspring::worker]
fn work_off(jobs: offspring::JoinableQueue<Vec<u8>>, sizes: offspring::Queue<usize>) {
    for job in &jobs {
        sizes.put(job.len()).expect("the owner reads");
        job.task_done();
    }
}

#[offspring::test(timeout = "30s")]
fn queues_leave_no_descriptor_behind() {
    descriptors_of_queues::spawn(20).unwrap().join().unwrap();
}
