use offspring::{ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
#[offspring(name = "")]
struct Idle;

impl ProcessWorker for Idle {
    type Output = ();
    fn run(self) {}
}

fn main() {}
