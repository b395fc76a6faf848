//! Hundreds of processes, a thousand receivers.

use std::collections::HashMap;
use std::process::Command;

use offspring::channel::TryRecvError;
use offspring::{ExitReason, Process, Receiver, Selector, Sender, as_completed, channel};

use super::{LONG, random, shuffle, sleeper};

pub(super) const PROCESSES: usize = 200;
pub(super) const RECEIVERS: usize = 1000;

pub(super) fn sleepers() -> Vec<Process<()>> {
    (0..PROCESSES).map(|_| sleeper::spawn().unwrap()).collect()
}

pub(super) fn kill(pids: &[u32]) {
    let killed = Command::new("kill").arg("-9").args(pids.iter().map(u32::to_string)).status();
    assert!(killed.unwrap().success());
}

fn kill_in_any_order(mut pids: Vec<u32>) {
    shuffle(&mut pids);
    pids.chunks(7).for_each(kill);
}

#[offspring::test(timeout = "120s")]
fn of_two_hundred_processes_that_are_killed_each_is_told_once() {
    let selector = Selector::new();
    let mut processes: HashMap<usize, _> =
        sleepers().into_iter().map(|process| (selector.add(&process).unwrap(), process)).collect();
    let pids = processes.values().map(Process::pid).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| kill_in_any_order(pids));
        while !processes.is_empty() {
            let key = selector.ready_timeout(LONG).expect("one more ends");
            let process = processes.remove(&key).expect("each is told once");
            assert!(!process.is_alive());
            let reason = process.join().unwrap_err().reason().cloned();
            assert!(matches!(reason, Some(ExitReason::Signaled { signal: 9, .. })), "{reason:?}");
            selector.remove(key);
        }
    });
    assert_eq!(selector.ready(), None);
}

#[offspring::test(timeout = "120s")]
fn processes_are_joined_in_the_order_of_their_end() {
    let processes = sleepers();
    let pids: Vec<u32> = processes.iter().map(Process::pid).collect();
    let joined = std::thread::scope(|scope| {
        scope.spawn(|| kill_in_any_order(pids.clone()));
        let joined = as_completed(processes).map(|(process, output)| {
            assert!(output.is_err());
            process.pid()
        });
        joined.collect::<Vec<_>>()
    });
    let (mut joined, mut pids) = (joined, pids);
    joined.sort();
    pids.sort();
    assert_eq!(joined, pids);
}

/// The usual limit of 1,024 descriptors is too low for a thousand channels.
pub(super) fn raise_the_limit_of_descriptors() {
    let pid = std::process::id().to_string();
    // Where it is high enough, or cannot be raised, the test itself says so.
    let _ = Command::new("prlimit").args(["--pid", &pid, "--nofile=16384:"]).status();
}

/// Gets a thousand senders, and sends each number that it is given on the sender with that index.
#[offspring::worker]
fn switchboard(senders: Receiver<Sender<u64>>, numbers: Receiver<u64>) {
    let senders: Vec<_> = senders.iter().collect();
    for n in &numbers {
        senders[n as usize % RECEIVERS].send(n).expect("the test receives");
    }
}

#[offspring::worker]
fn a_thousand_receivers() {
    raise_the_limit_of_descriptors();
    let (carry, senders) = channel().unwrap();
    let (orders, numbers) = channel().unwrap();
    let process = switchboard::spawn(senders, numbers).unwrap();
    let selector = Selector::new();
    let mut receivers = HashMap::new();
    for index in 0..RECEIVERS as u64 {
        let (sender, receiver) = channel().unwrap();
        carry.send(sender).unwrap();
        receivers.insert(selector.add(&receiver).unwrap(), (index, receiver));
    }
    drop(carry);
    let process_key = selector.add(&process).unwrap();
    for round in 0..30 {
        // A few at random, some of them more than once, and sometimes all.
        let count = if round % 10 == 9 { RECEIVERS as u64 } else { 1 + random() % 20 };
        let mut expected: Vec<u64> =
            (0..count).map(|n| random() % RECEIVERS as u64 + RECEIVERS as u64 * n).collect();
        let sent = expected.clone();
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| sent.iter().for_each(|&n| orders.send(n).unwrap()));
            while received.len() < expected.len() {
                let key = selector.ready_timeout(LONG).expect("a message comes");
                let (index, receiver) = &receivers[&key];
                match receiver.try_recv() {
                    Ok(n) => {
                        assert_eq!(n % RECEIVERS as u64, *index);
                        received.push(n);
                    }
                    Err(error) => assert!(matches!(error, TryRecvError::Empty), "{error}"),
                }
            }
        });
        received.sort();
        expected.sort();
        assert_eq!(received, expected);
    }
    assert_eq!(selector.try_ready(), None);
    // Its end is the end of every channel: each is returned once.
    process.kill();
    while let Some(key) = selector.ready() {
        if key == process_key {
            assert!(!process.is_alive());
        } else {
            let (_, receiver) = receivers.remove(&key).expect("each end is told once");
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Disconnected)));
        }
        selector.remove(key);
    }
    assert!(receivers.is_empty());
}

#[offspring::test(timeout = "120s")]
fn of_a_thousand_receivers_those_with_messages_are_told() {
    a_thousand_receivers::spawn().unwrap().join().unwrap();
}
