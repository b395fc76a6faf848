//! The cost of waiting while nothing happens, and what it leaves behind.

use std::fs;
use std::time::Duration;

use offspring::{ProcessBuilder, Selector, channel, wait_any_timeout};

use super::{SHORT, sleeper};
use crate::support::{eventually, open_fds};

/// Sockets and processes that this process watches.
fn watched() -> usize {
    let entries = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("tfd:")).count()).sum()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// How often threads of this process have gone to sleep, all together.
fn sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let counts = texts.filter_map(|text| {
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    counts.sum()
}

#[offspring::worker]
fn leaves_nothing() {
    let pairs: Vec<_> = (0..50).map(|_| channel::<u64>().unwrap()).collect();
    let process = ProcessBuilder::new().daemon(true).spawn(sleeper::new()).unwrap();
    // A receiver takes in what is new of a sender with its first message.
    for (sender, receiver) in &pairs {
        sender.send(0).unwrap();
        assert_eq!(receiver.recv().unwrap(), 0);
        sender.send(1).unwrap();
    }
    // The first one starts the thread that watches.
    assert_eq!(wait_any_timeout(&[&process], Duration::ZERO).unwrap(), None);
    let selector = Selector::new();
    selector.add(&pairs[0].1).unwrap();
    drop(selector);
    let before = (watched(), open_fds(), threads());
    for round in 0..3 {
        let selector = Selector::new();
        selector.add(&process).unwrap();
        let keys: Vec<_> =
            pairs.iter().map(|(_, receiver)| selector.add(receiver).unwrap()).collect();
        assert!(selector.ready().is_some());
        pairs.iter().for_each(|(_, receiver)| assert_eq!(receiver.try_recv().unwrap(), round + 1));
        assert_eq!(selector.ready_timeout(SHORT), None);
        assert_eq!(watched(), before.0 + 50);
        assert_eq!(threads(), before.2);
        keys[..20].iter().for_each(|&key| selector.remove(key));
        assert_eq!(watched(), before.0 + 30);
        // Two selectors may wait for the same.
        let other = Selector::new();
        other.add(&pairs[30].1).unwrap();
        drop(selector);
        assert_eq!(watched(), before.0 + 1);
        drop(other);
        let sources: Vec<&dyn offspring::Waitable> =
            pairs.iter().map(|(_, receiver)| receiver as _).collect();
        assert_eq!(wait_any_timeout(&sources, SHORT).unwrap(), None);
        assert_eq!((watched(), open_fds(), threads()), before);
        pairs.iter().for_each(|(sender, _)| sender.send(round + 2).unwrap());
    }
}

#[offspring::test(timeout = "30s")]
fn a_selector_that_is_dropped_leaves_nothing_behind() {
    leaves_nothing::spawn().unwrap().join().unwrap();
}

#[offspring::worker]
fn sleeps_while_idle() {
    let pairs: Vec<_> = (0..100).map(|_| channel::<u64>().unwrap()).collect();
    pairs.iter().for_each(|(sender, _)| sender.send(1).unwrap());
    let process = ProcessBuilder::new().daemon(true).spawn(sleeper::new()).unwrap();
    let selector = Selector::new();
    selector.add(&process).unwrap();
    for (_, receiver) in &pairs {
        selector.add(receiver).unwrap();
        assert_eq!(receiver.recv().unwrap(), 1);
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| selector.ready());
        // The first look takes a moment; then nothing moves.
        eventually("all sleep", || {
            let before = sleeps();
            std::thread::sleep(Duration::from_millis(300));
            // This thread itself slept once.
            sleeps() - before <= 1
        });
        assert!(!waiting.is_finished());
        process.kill();
        assert_eq!(waiting.join().unwrap(), Some(0));
    });
}

#[offspring::test(timeout = "30s")]
fn nothing_runs_while_nothing_happens() {
    sleeps_while_idle::spawn().unwrap().join().unwrap();
}
