//! When a source is ready, and which one is returned.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use offspring::channel::{RecvError, TryRecvError};
use offspring::select::WaitError;
use offspring::{Connection, Receiver, Selector, channel, pipe, wait_any, wait_any_timeout};
use serde::{Deserialize, Serialize};

use super::{LONG, SHORT, relay, sleeper};
use crate::support::spawn_asleep;

#[offspring::test(timeout = "30s")]
fn a_process_and_a_receiver_are_waited_for_together() {
    let (orders, from) = channel().unwrap();
    let (to, receiver) = channel().unwrap();
    let process = relay::spawn(from, to).unwrap();
    let other = sleeper::spawn().unwrap();
    assert_eq!(wait_any_timeout(&[&process, &receiver, &other], SHORT).unwrap(), None);
    orders.send(1).unwrap();
    assert_eq!(wait_any(&[&process, &receiver, &other]).unwrap(), 1);
    // It lasts until it is taken.
    assert_eq!(wait_any(&[&receiver, &other]).unwrap(), 0);
    assert_eq!(receiver.try_recv().unwrap(), 1);
    assert_eq!(wait_any_timeout(&[&process, &receiver, &other], SHORT).unwrap(), None);
    other.kill();
    assert_eq!(wait_any(&[&process, &receiver, &other]).unwrap(), 2);
    // The process and its channel have both ended: each is returned in turn.
    drop(orders);
    process.join().unwrap();
    let ready: Vec<usize> = (0..3).map(|_| wait_any(&[&process, &receiver]).unwrap()).collect();
    assert!(ready.contains(&0) && ready.contains(&1), "{ready:?}");
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
}

#[offspring::test(timeout = "20s")]
fn nothing_to_wait_for_is_an_error_and_not_a_hang() {
    assert!(matches!(wait_any(&[]), Err(WaitError::Nothing)));
    assert!(matches!(wait_any_timeout(&[], LONG), Err(WaitError::Nothing)));
    let selector = Selector::new();
    assert_eq!(
        (selector.ready(), selector.try_ready(), selector.ready_timeout(LONG)),
        (None, None, None)
    );
    assert!(selector.is_empty());
}

#[offspring::test(timeout = "20s")]
fn timeouts_of_every_length_hold() {
    let (sender, receiver) = channel::<u8>().unwrap();
    let selector = Selector::new();
    let key = selector.add(&receiver).unwrap();
    for timeout in [Duration::ZERO, Duration::from_nanos(1), SHORT] {
        let before = Instant::now();
        assert_eq!(wait_any_timeout(&[&receiver], timeout).unwrap(), None);
        assert_eq!(selector.ready_timeout(timeout), None);
        assert!(before.elapsed() >= 2 * timeout);
    }
    assert_eq!(selector.try_ready(), None);
    sender.send(1).unwrap();
    // A message that was sent before is found without a wait.
    assert_eq!(selector.try_ready(), Some(key));
    assert_eq!(wait_any_timeout(&[&receiver], Duration::ZERO).unwrap(), Some(0));
    assert_eq!(wait_any_timeout(&[&receiver], Duration::MAX).unwrap(), Some(0));
    assert_eq!(selector.ready_timeout(Duration::MAX), Some(key));
    receiver.recv().unwrap();
    assert_eq!(selector.try_ready(), None);
    drop(sender);
    assert_eq!(selector.try_ready(), Some(key), "the end is seen at once too");
}

#[offspring::test(timeout = "20s")]
fn every_ready_source_gets_its_turn() {
    let pairs: Vec<_> = (0..5).map(|_| channel::<u64>().unwrap()).collect();
    for (sender, _) in &pairs {
        (0..100).for_each(|n| sender.send(n).unwrap());
    }
    let selector = Selector::new();
    let first = selector.add(&pairs[0].1).unwrap();
    let keys: Vec<_> =
        pairs[1..].iter().map(|(_, receiver)| selector.add(receiver).unwrap()).collect();
    let told: Vec<_> = (0..20).map(|_| selector.ready().unwrap()).collect();
    for key in keys.into_iter().chain([first]) {
        assert_eq!(told.iter().filter(|&&other| other == key).count(), 4, "{told:?}");
    }
    let sources: Vec<&dyn offspring::Waitable> =
        pairs.iter().map(|(_, receiver)| receiver as _).collect();
    let mut told: Vec<_> = (0..5).map(|_| wait_any(&sources).unwrap()).collect();
    told.sort();
    told.dedup();
    assert!(told.len() > 1, "one starves the others: {told:?}");
}

#[offspring::test(timeout = "20s")]
fn sources_come_and_go_while_a_thread_waits() {
    let selector = Arc::new(Selector::new());
    let (_idle, never) = channel::<u64>().unwrap();
    let idle = selector.add(&never).unwrap();
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::spawn({
        let selector = selector.clone();
        move || {
            while let Some(key) = selector.ready() {
                tell.send(key).unwrap();
                selector.remove(key);
            }
        }
    });
    assert!(told.recv_timeout(SHORT).is_err());
    for n in 0..20 {
        let (sender, receiver) = channel::<u64>().unwrap();
        if n % 2 == 0 {
            sender.send(n).unwrap();
        }
        let key = selector.add(&receiver).unwrap();
        if n % 2 == 1 {
            sender.send(n).unwrap();
        }
        assert_eq!(told.recv_timeout(LONG), Ok(key));
        assert_eq!(receiver.try_recv().unwrap(), n);
    }
    let process = sleeper::spawn().unwrap();
    let key = selector.add(&process).unwrap();
    assert!(told.recv_timeout(SHORT).is_err());
    process.kill();
    assert_eq!(told.recv_timeout(LONG), Ok(key));
    // Without the last source there is nothing to wait for.
    selector.remove(idle);
    waiting.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_receiver_that_is_moved_or_dropped_is_ready_and_wakes() {
    let selector = Selector::new();
    let (orders, from) = channel::<u64>().unwrap();
    let (to, dropped) = channel::<u64>().unwrap();
    let (moved_key, dropped_key) = (selector.add(&from).unwrap(), selector.add(&dropped).unwrap());
    assert_eq!(selector.ready_timeout(SHORT), None);
    std::thread::scope(|scope| {
        let waiting = spawn_asleep(scope, || selector.ready());
        drop(dropped);
        assert_eq!(waiting.join().unwrap(), Some(dropped_key));
    });
    assert!(to.send(1).is_err(), "the selector must not keep it open");
    selector.remove(dropped_key);

    let (to, receiver) = channel().unwrap();
    let process = relay::spawn(from, to).unwrap();
    assert_eq!(selector.ready(), Some(moved_key));
    selector.remove(moved_key);
    // The sleep flags that the selector left behind do not disturb the new process.
    for n in 0..100 {
        orders.send(n).unwrap();
        assert_eq!(receiver.recv().unwrap(), n);
    }
    drop(orders);
    process.join().unwrap();
}

/// A receiver that the sender still shares while it is sent. A hand-written `Serialize` makes that
/// possible.
struct Shared(Arc<Receiver<u64>>);

impl Serialize for Shared {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Receiver::deserialize(deserializer).map(|receiver| Shared(Arc::new(receiver)))
    }
}

#[offspring::test(timeout = "20s")]
fn what_was_moved_before_is_ready() {
    let (_sender, receiver) = channel::<u64>().unwrap();
    let (carry, _carried) = channel().unwrap();
    let receiver = Arc::new(receiver);
    carry.send(Shared(receiver.clone())).unwrap();
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Moved)));
    assert_eq!(wait_any(&[&*receiver]).unwrap(), 0);
    let selector = Selector::new();
    assert_eq!(Some(selector.add(&*receiver).unwrap()), selector.ready());
}

#[offspring::test(timeout = "20s")]
fn what_is_watched_and_could_not_be_sent_is_watched_on() {
    let (sender, receiver) = channel::<u64>().unwrap();
    let (carry, carried) = channel().unwrap();
    drop(carried);
    let selector = Selector::new();
    let key = selector.add(&receiver).unwrap();
    assert_eq!(selector.ready_timeout(SHORT), None);
    let mut item = receiver;
    for n in 0..100 {
        item = carry.send(item).unwrap_err().into_inner();
        assert_eq!(selector.ready_timeout(Duration::from_millis(1)), None);
        sender.send(n).unwrap();
        assert_eq!(selector.ready(), Some(key));
        assert_eq!(item.recv().unwrap(), n);
    }
}

#[offspring::worker]
fn answer(connection: Connection<u64, u64>) {
    while let Ok(n) = connection.recv() {
        connection.send(n + 1).expect("the test receives");
    }
}

#[offspring::test(timeout = "30s")]
fn connections_are_served_by_one_thread() {
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..4).map(|_| pipe().unwrap()).unzip();
    let processes: Vec<_> = theirs.into_iter().map(|end| answer::spawn(end).unwrap()).collect();
    let selector = Selector::new();
    let keys: Vec<_> = ours.iter().map(|end| selector.add(end).unwrap()).collect();
    ours.iter().for_each(|end| end.send(0).unwrap());
    let mut last = [0; 4];
    while last != [100; 4] {
        let key = selector.ready_timeout(LONG).expect("an answer comes");
        let at = keys.iter().position(|&other| other == key).unwrap();
        while let Ok(n) = ours[at].try_recv() {
            assert_eq!(n, last[at] + 1);
            last[at] = n;
            if n < 100 {
                ours[at].send(n).unwrap();
            }
        }
    }
    drop(ours);
    for process in processes {
        process.join().unwrap();
    }
}

#[offspring::test(timeout = "30s")]
fn a_thread_that_receives_and_a_selector_share_a_receiver() {
    let (orders, from) = channel().unwrap();
    let (to, receiver) = channel().unwrap();
    let process = relay::spawn(from, to).unwrap();
    let selector = Selector::new();
    selector.add(&receiver).unwrap();
    let total = 20_000;
    let taken: u64 = std::thread::scope(|scope| {
        let blocking = scope.spawn(|| receiver.iter().count() as u64);
        let selecting = scope.spawn(|| {
            let mut taken = 0;
            loop {
                selector.ready();
                match receiver.try_recv() {
                    Ok(_) => taken += 1,
                    Err(TryRecvError::Empty) => {}
                    Err(_) => return taken,
                }
            }
        });
        for n in 0..total {
            orders.send(n).unwrap();
            if n % 1000 == 0 {
                // Let both fall asleep.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        drop(orders);
        blocking.join().unwrap() + selecting.join().unwrap()
    });
    assert_eq!(taken, total);
    process.join().unwrap();
}
