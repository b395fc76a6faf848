use offspring::ProcessWorker;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Idle;

impl ProcessWorker for Idle {
    type Output = ();
    fn run(self) {}
}

fn main() {}
