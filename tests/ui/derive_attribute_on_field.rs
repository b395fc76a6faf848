use offspring::{ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Idle {
    #[offspring(name = "seconds")]
    seconds: u64,
}

impl ProcessWorker for Idle {
    type Output = u64;
    fn run(self) -> u64 {
        self.seconds
    }
}

fn main() {}
