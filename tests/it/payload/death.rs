//! Senders and receivers that are stopped or killed at any byte of a message.

use std::time::{Duration, Instant};

use offspring::channel::{Bytes, RecvError};
use offspring::{Sender, channel};

use super::pattern;
use crate::support::{eventually, open_fds, signal, suspend};

const SIZE: usize = 300_000;
/// Longer than any timeout here, even on a busy machine.
const LONG: Duration = Duration::from_secs(10);

#[offspring::worker]
fn send_for_ever(sender: Sender<Bytes>) {
    for n in 0.. {
        if sender.send_bytes(&pattern(SIZE + n as usize % 7, n)).is_err() {
            return;
        }
    }
}

fn check(bytes: &Bytes, n: u64) {
    assert!(bytes[..] == pattern(SIZE + n as usize % 7, n)[..], "message {n} is torn");
}

#[offspring::test(timeout = "120s")]
fn a_sender_killed_at_any_byte_leaves_whole_messages_and_then_the_end() {
    for round in 0..15u64 {
        let (sender, receiver) = channel().unwrap();
        let process = send_for_ever::spawn(sender).unwrap();
        for n in 0..round {
            check(&receiver.recv().unwrap(), n);
        }
        // Somewhere in the middle of a message that is being written.
        let until = Instant::now() + Duration::from_micros(round * 37 % 400);
        while Instant::now() < until {}
        process.kill();
        let mut next = round;
        let end = loop {
            match receiver.recv() {
                Ok(bytes) => check(&bytes, next),
                Err(end) => break end,
            }
            next += 1;
        };
        assert!(matches!(end, RecvError::Disconnected), "{end:?}");
    }
}

#[offspring::test(timeout = "60s")]
fn a_stopped_sender_holds_up_neither_timeouts_nor_other_senders() {
    let (sender, receiver) = channel().unwrap();
    let process = send_for_ever::spawn(sender.clone()).unwrap();
    let mut next = 0;
    for round in 0..5u8 {
        check(&receiver.recv().unwrap(), next);
        next += 1;
        suspend(process.pid());
        let timeout = Duration::from_millis(40);
        loop {
            let before = Instant::now();
            match receiver.recv_timeout(timeout) {
                Ok(bytes) => check(&bytes, next),
                Err(end) => {
                    assert!(end.is_timeout(), "{end:?}");
                    let took = before.elapsed();
                    // A busy machine adds some; a stopped sender would add all of the test's time.
                    assert!(took >= timeout && took < LONG, "{took:?}");
                    break;
                }
            }
            next += 1;
        }
        sender.send_bytes(&[round]).unwrap();
        assert_eq!(receiver.recv_bytes().unwrap(), [round]);
        signal(process.pid(), "CONT");
    }
    process.kill();
}

#[offspring::worker]
fn receive_one_and_park(receiver: offspring::Receiver<Bytes>, told: offspring::Sender<u8>) {
    receiver.recv().expect("the test sends");
    told.send(1).expect("the test receives");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "60s")]
fn a_stopped_receiver_holds_up_no_timeout_and_its_death_is_noticed() {
    let (sender, receiver) = channel().unwrap();
    let (told, hears) = channel().unwrap();
    let process = receive_one_and_park::spawn(receiver, told).unwrap();
    let message = pattern(40 << 20, 1);
    sender.send_bytes(&message).unwrap();
    hears.recv().unwrap();
    suspend(process.pid());
    let timeout = Duration::from_millis(100);
    let took = loop {
        let before = Instant::now();
        if let Err(error) = sender.send_bytes_timeout(&message, timeout) {
            assert!(error.is_timeout());
            break before.elapsed();
        }
    };
    assert!(took >= timeout && took < LONG, "{took:?}");
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| sender.send_bytes(&message));
        process.kill();
        assert!(blocked.join().unwrap().is_err());
    });
}

#[offspring::worker]
fn send_once_and_park(sender: Sender<Bytes>) {
    sender.send_bytes(&pattern(SIZE, 0)).expect("the test receives");
    loop {
        std::thread::park();
    }
}

#[offspring::worker]
fn outlive_senders() {
    let (sender, receiver) = channel().unwrap();
    let round = || {
        let process = send_once_and_park::spawn(sender.clone()).unwrap();
        check(&receiver.recv().unwrap(), 0);
        process.kill();
        let _ = process.join();
    };
    round();
    let before = open_fds();
    (0..10).for_each(|_| round());
    // The last one is noticed by the next that joins, or by a receiver that waits.
    eventually("the rings of killed senders are gone", || {
        let _ = receiver.recv_timeout(Duration::from_millis(300));
        open_fds() <= before
    });
}

#[offspring::test(timeout = "60s")]
fn rings_of_killed_senders_are_given_up() {
    outlive_senders::spawn().unwrap().join().unwrap();
}
