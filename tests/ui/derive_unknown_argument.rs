use offspring::{ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
#[offspring(rename = "idle")]
struct Idle;

impl ProcessWorker for Idle {
    type Output = ();
    fn run(self) {}
}

fn main() {}
