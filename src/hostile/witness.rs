//! Honest workers, which must not notice anything.

use std::time::Duration;

use crate::channel::{Receiver, Sender, channel};
use crate::process::Process;
use crate::queue::Queue;
use crate::sync::Mutex;
use crate::{ProcessBuilder, ProcessWorker};

/// How long the honest workers may take. It takes a second only on an overloaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two honest workers: an item goes from the victim to the first, from there to the second, and
/// back. Each counts it under a lock.
pub(super) struct Witness {
    first: Process<()>,
    second: Process<()>,
    items: Queue<u64>,
    answers: Queue<u64>,
    count: Mutex<u64>,
    rounds: u64,
}

fn count(counter: &Mutex<u64>) {
    *counter.lock_timeout(PATIENCE).expect("the witnesses' lock is free soon") += 1;
}

#[crate::worker(crate = crate)]
fn pass_on(items: Queue<u64>, to: Sender<u64>, counter: Mutex<u64>) {
    while let Ok(item) = items.get() {
        count(&counter);
        to.send(item + 1).unwrap();
    }
}

#[crate::worker(crate = crate)]
fn answer(from: Receiver<u64>, answers: Queue<u64>, counter: Mutex<u64>) {
    while let Ok(item) = from.recv() {
        count(&counter);
        answers.put(item + 1).unwrap();
    }
}

#[crate::worker(crate = crate)]
fn double(number: u64) -> u64 {
    number * 2
}

impl Witness {
    pub(super) fn new() -> Witness {
        let (items, answers) = (Queue::bounded(4).unwrap(), Queue::unbounded().unwrap());
        let counter = Mutex::new(0).unwrap();
        let (to, from) = channel().unwrap();
        let named = |name| ProcessBuilder::new().name(name);
        let first = pass_on::new(items.clone(), to, counter.clone());
        let first = named("first witness").spawn(first).unwrap();
        let second = answer::new(from, answers.clone(), counter.clone());
        let second = named("second witness").spawn(second).unwrap();
        Witness { first, second, items, answers, count: counter, rounds: 0 }
    }

    /// Returns what goes wrong between the honest workers.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let round = self.rounds;
        self.rounds += 1;
        self.items.put_timeout(round, PATIENCE).map_err(|error| format!("an item: {error:?}"))?;
        let answer = self.answers.get_timeout(PATIENCE);
        let answer = answer.map_err(|error| format!("an answer: {error:?}"))?;
        let count = self.count.lock_timeout(PATIENCE).map_err(|error| format!("{error:?}"))?;
        let expected = (round + 2, 2 * self.rounds);
        if (answer, *count) != expected {
            return Err(format!("answer and count: {:?}, not {expected:?}", (answer, *count)));
        }
        Ok(())
    }

    /// Returns what goes wrong with a new worker.
    pub(super) fn check_start(&self) -> Result<(), String> {
        let doubled = double::new(self.rounds).spawn().map_err(|error| format!("{error:?}"))?;
        let doubled = doubled.join_timeout(PATIENCE).map_err(|error| format!("{error:?}"))?;
        if doubled == self.rounds * 2 { Ok(()) } else { Err(format!("doubled: {doubled}")) }
    }

    pub(super) fn end(self) -> Result<(), String> {
        self.items.close().map_err(|error| format!("to close: {error:?}"))?;
        for process in [self.first, self.second] {
            process.join_timeout(PATIENCE).map_err(|error| format!("a witness: {error:?}"))?;
        }
        Ok(())
    }
}
