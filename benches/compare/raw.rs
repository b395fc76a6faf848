//! The workloads with ipc-channel, one message per item. Starts use procspawn, which is itself
//! based on ipc-channel.

use std::time::Instant;

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcReceiver, IpcSender};

use crate::measure::{each, join, rate, round_trips};

const ITEMS: u64 = 100_000;
const SPAWNS: u64 = 100;

#[offspring::worker]
fn consume(receiver: IpcReceiver<u64>, done: IpcSender<u64>, count: u64) {
    let sum = (0..count).map(|_| receiver.recv().expect("there are enough")).sum();
    done.send(sum).expect("the parent listens");
}

#[offspring::worker]
fn echo(there: IpcReceiver<u64>, back: IpcSender<u64>) {
    while let Ok(n) = there.recv() {
        back.send(n).expect("the parent listens");
    }
}

#[offspring::worker]
fn swallow(receiver: IpcBytesReceiver, done: IpcSender<u64>, count: u64) {
    let bytes: usize = (0..count).map(|_| receiver.recv().expect("there are enough").len()).sum();
    done.send(bytes as u64).expect("the parent listens");
}

pub(crate) fn queue() -> f64 {
    let (sender, receiver) = ipc::channel().unwrap();
    let (done, finished) = ipc::channel().unwrap();
    let process = consume::spawn(receiver, done, ITEMS).unwrap();
    let since = Instant::now();
    (0..ITEMS).for_each(|n| sender.send(n).unwrap());
    finished.recv().unwrap();
    let rate = rate(ITEMS, since);
    join(&process);
    rate
}

pub(crate) fn pipe() -> f64 {
    let (there, theirs) = ipc::channel().unwrap();
    let (back, ours) = ipc::channel().unwrap();
    let process = echo::spawn(theirs, back).unwrap();
    let each = round_trips(|n| {
        there.send(n).unwrap();
        assert_eq!(ours.recv().unwrap(), n);
    });
    drop(there);
    join(&process);
    each
}

pub(crate) fn payload(size: usize, count: u64) -> f64 {
    let (sender, receiver) = ipc::bytes_channel().unwrap();
    let (done, finished) = ipc::channel().unwrap();
    let process = swallow::spawn(receiver, done, count).unwrap();
    let payload = vec![7u8; size];
    let since = Instant::now();
    (0..count).for_each(|_| sender.send(&payload).unwrap());
    finished.recv().unwrap();
    let rate = rate(size as u64 * count, since) / 1e3;
    join(&process);
    rate
}

pub(crate) fn procspawn_spawns() -> f64 {
    let since = Instant::now();
    (0..SPAWNS).for_each(|_| assert_eq!(procspawn::spawn((), |()| 7u64).join().unwrap(), 7));
    each(SPAWNS, since) / 1e3
}
