//! Workers in a library. The program that uses them does not name their modules.

use offspring::{JoinableQueue, ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
pub struct Adder {
    pub numbers: JoinableQueue<u64>,
}

impl ProcessWorker for Adder {
    type Output = u64;

    fn run(self) -> u64 {
        let take = |number: offspring::Delivery<u64>| {
            let value = *number;
            number.task_done();
            value
        };
        self.numbers.iter().map(take).sum()
    }
}

#[offspring::worker]
pub fn double(n: u64) -> u64 {
    2 * n
}

#[derive(Serialize, Deserialize, Worker)]
pub struct Longest<T> {
    pub of: Vec<T>,
}

impl<T> ProcessWorker for Longest<T>
where
    T: AsRef<str> + Serialize + serde::de::DeserializeOwned + 'static,
{
    type Output = usize;

    fn run(self) -> usize {
        self.of.iter().map(|text| text.as_ref().len()).max().unwrap_or(0)
    }
}

offspring::register!(Longest<String>);

/// Spawns a child from a child.
#[offspring::worker]
pub fn quadruple(n: u64) -> u64 {
    let doubled = double::spawn(n).expect("the child starts").join();
    double(doubled.expect("the child returns"))
}
