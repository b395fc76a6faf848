//! Ends of channels and pipes as items: they exist once, and whoever gets one has it.

use std::time::Duration;

use offspring::channel::RecvError;
use offspring::queue::{DeadCause, DeadLetterError};
use offspring::{Connection, JoinableQueue, Queue, Receiver, Sender};
use serde::{Deserialize, Serialize};

use crate::support::is_running;

/// Doubles what comes over the connections that it gets, each until its end.
#[offspring::worker]
fn double(connections: Queue<Connection<u64, u64>>) {
    for connection in &connections {
        while let Ok(number) = connection.recv() {
            connection.send(2 * number).expect("the client waits");
        }
    }
}

#[offspring::test(timeout = "20s")]
fn connections_arrive_usable_with_what_was_sent_before() {
    let connections = Queue::unbounded().unwrap();
    let server = double::spawn(connections.clone()).unwrap();
    for round in 0..50 {
        let (near, far) = offspring::pipe().unwrap();
        near.send(round).unwrap();
        connections.put(far).unwrap();
        near.send(round + 1).unwrap();
        assert_eq!((near.recv().unwrap(), near.recv().unwrap()), (2 * round, 2 * round + 2));
    }
    connections.close().unwrap();
    server.join().unwrap();
}

#[offspring::worker]
fn hang_up(connections: Queue<(Vec<u8>, Connection<u8, u8>)>) {
    for (padding, connection) in &connections {
        connection.send(padding[0]).expect("the client waits");
    }
}

#[offspring::test(timeout = "20s")]
fn the_other_end_sees_the_end_as_soon_as_the_consumer_drops_it() {
    let connections = Queue::unbounded().unwrap();
    let consumer = hang_up::spawn(connections.clone()).unwrap();
    for round in 0..20 {
        let (near, far) = offspring::pipe().unwrap();
        connections.put((vec![round; 1 + 3000 * usize::from(round)], far)).unwrap();
        assert_eq!(near.recv().unwrap(), round);
        assert!(matches!(near.recv(), Err(RecvError::Disconnected)));
    }
    drop(connections);
    consumer.join().unwrap();
}

#[offspring::worker]
fn send_all(senders: Queue<Receiver<u64>>, sums: Sender<u64>) {
    for receiver in &senders {
        sums.send(receiver.iter().sum()).expect("the main program waits");
    }
}

#[offspring::test(timeout = "20s")]
fn a_receiver_put_by_its_owner_hears_all_senders() {
    let receivers = Queue::bounded(2).unwrap();
    let (sums, all) = offspring::channel().unwrap();
    let consumer = send_all::spawn(receivers.clone(), sums).unwrap();
    for round in 1..=20u64 {
        let (sender, receiver) = offspring::channel().unwrap();
        let other = sender.clone();
        sender.send(round).unwrap();
        receivers.put(receiver).unwrap();
        std::thread::spawn(move || (1..=100).try_for_each(|n| other.send(n)));
        drop(sender);
        assert_eq!(all.recv().unwrap(), round + 5050);
    }
    receivers.close().unwrap();
    consumer.join().unwrap();
}

#[offspring::worker]
fn answer_once(connections: JoinableQueue<(String, Connection<u64, u64>)>) {
    let delivery = connections.get().expect("there is one");
    let number = delivery.1.recv().expect("the client sends");
    delivery.1.send(number + 1).expect("the client waits");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "30s")]
fn a_connection_ends_with_the_consumer_that_is_killed_and_the_rest_of_the_item_is_a_dead_letter() {
    for _ in 0..5 {
        let connections = JoinableQueue::unbounded().unwrap();
        let (near, far) = offspring::pipe().unwrap();
        connections.put(("for you".to_owned(), far)).unwrap();
        let consumer = answer_once::spawn(connections.clone()).unwrap();
        near.send(7).unwrap();
        assert_eq!(near.recv().unwrap(), 8);
        consumer.kill();
        assert!(matches!(near.recv(), Err(RecvError::Disconnected)));
        let _ = consumer.join();
        connections.join().unwrap();
        let letters = connections.dead_letters().unwrap();
        assert!(matches!(letters[0].cause(), DeadCause::MovedOut));
        assert!(letters[0].bytes().windows(7).any(|bytes| bytes == b"for you"));
        let error = letters[0].decode().unwrap_err();
        assert!(error.to_string().contains("receiving end went"), "{error}");
        let outcomes = letters.into_iter().map(|letter| letter.redeliver());
        assert!(outcomes.eq([Err(DeadLetterError::MovedOut)]));
        assert_eq!(connections.dead_letters().unwrap().len(), 1);
    }
}

#[offspring::test(timeout = "20s")]
fn a_delivered_connection_is_in_one_place_only() {
    let connections = JoinableQueue::unbounded().unwrap();
    let (near, far) = offspring::pipe::<u8, u8>().unwrap();
    connections.put(far).unwrap();
    let far = connections.get().unwrap();
    near.send(1).unwrap();
    assert_eq!(far.recv().unwrap(), 1);
    // Before anybody says whether it is done.
    let far = far.into_inner();
    drop(far);
    assert!(matches!(near.recv(), Err(RecvError::Disconnected)));
    connections.task_done().unwrap();

    // A sender is many, and comes again.
    let senders = JoinableQueue::unbounded().unwrap();
    let (sender, receiver) = offspring::channel::<u8>().unwrap();
    senders.put(sender).unwrap();
    drop(senders.get().unwrap());
    let sender = senders.get().unwrap();
    assert_eq!(sender.attempt(), 2);
    sender.send(2).unwrap();
    sender.task_done();
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [2]);
}

#[offspring::worker]
fn sit_on_it(connections: Queue<Connection<u64, u64>>, started: Sender<u32>) {
    let first = connections.get().expect("there is one");
    started.send(std::process::id()).expect("the main program waits");
    let _ = first.recv();
    // With a look ahead it may have been sent the next one, which it never takes.
    std::thread::park();
}

#[offspring::test(timeout = "30s")]
fn a_connection_that_a_stopped_consumer_has_not_taken_goes_to_another() {
    let connections = Queue::unbounded().unwrap();
    let (started, pid) = offspring::channel().unwrap();
    let consumer = sit_on_it::spawn(connections.clone(), started).unwrap();
    let mut near = Vec::new();
    for number in 0..8 {
        let (here, there) = offspring::pipe().unwrap();
        here.send(number).unwrap();
        connections.put(there).unwrap();
        near.push(here);
    }
    let pid = pid.recv().unwrap();
    assert!(is_running(pid));
    let mut answered = Vec::new();
    for _ in 1..8 {
        let there = connections.get_timeout(Duration::from_secs(10)).unwrap();
        let number: u64 = there.recv().unwrap();
        there.send(number).unwrap();
        assert_eq!(near[number as usize].recv().unwrap(), number);
        answered.push(number);
    }
    // What lay ahead of the other consumer comes later than what did not.
    answered.sort_unstable();
    assert!(answered.into_iter().eq(1..8));
    consumer.kill();
    let _ = consumer.join();
    assert!(matches!(near[0].recv(), Err(RecvError::Disconnected)));
}

#[offspring::test(timeout = "20s")]
fn what_is_not_put_comes_back_whole_however_it_was_put() {
    let queue = JoinableQueue::bounded(1).unwrap();
    let (filler, _) = offspring::pipe::<u8, u8>().unwrap();
    queue.put((0, filler)).unwrap();
    let (near, far) = offspring::pipe::<u8, u8>().unwrap();
    far.send(1).unwrap();
    let item = queue.try_put((1u8, near)).unwrap_err().into_inner();
    let item = queue.put_timeout(item, Duration::from_millis(5)).unwrap_err().into_inner();
    let item = queue
        .put_all_timeout([item], Duration::from_millis(5))
        .unwrap_err()
        .into_rest()
        .next()
        .unwrap();
    queue.close().unwrap();
    let item = queue.put(item).unwrap_err().into_inner();
    let item = futures_executor::block_on(queue.put_async(item)).unwrap_err().into_inner();
    let (number, near) = item;
    assert_eq!(near.recv().unwrap(), number);
    near.send(number + 1).unwrap();
    assert_eq!(far.recv().unwrap(), 2);
}

#[derive(Debug)]
struct Sick;

impl Serialize for Sick {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

impl<'de> Deserialize<'de> for Sick {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Sick)
    }
}

#[offspring::test(timeout = "20s")]
fn what_does_not_encode_comes_back_whole_also_from_channels() {
    let queue = Queue::unbounded().unwrap();
    let (near, far) = offspring::pipe::<u8, u8>().unwrap();
    let item = queue.put((near, Sick)).unwrap_err().into_inner();
    let (carrier, carried) = offspring::channel().unwrap();
    let item = carrier.send(item).unwrap_err().into_inner();
    far.send(3).unwrap();
    assert_eq!(item.0.recv().unwrap(), 3);

    // A receiver that is gone takes nothing away either.
    let (nobody, gone) = offspring::channel().unwrap();
    drop(gone);
    let near = nobody.send(item.0).unwrap_err().into_inner();
    let near = futures_executor::block_on(nobody.send_async(near)).unwrap_err().into_inner();
    near.send(4).unwrap();
    assert_eq!(far.recv().unwrap(), 4);
    drop(carried);
}
