use offspring::{ProcessWorker, Worker};

#[derive(Worker)]
struct Idle;

impl ProcessWorker for Idle {
    type Output = ();
    fn run(self) {}
}

fn main() {}
