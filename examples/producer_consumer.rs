//! A queue from the main program to a daemon. In Python: `JoinableQueue`, with `task_done` and
//! `join`.

use std::error::Error;

use offspring::{JoinableQueue, ProcessBuilder, ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Consumer {
    jobs: JoinableQueue<u64>,
}

impl ProcessWorker for Consumer {
    type Output = ();

    fn run(self) {
        for job in &self.jobs {
            println!("consumed {}", *job);
            job.task_done();
        }
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    // The bound keeps the producer from getting far ahead of the consumer.
    let jobs = JoinableQueue::bounded(2)?;
    let _consumer = ProcessBuilder::new().daemon(true).spawn(Consumer { jobs: jobs.clone() })?;
    for n in 1..=5 {
        jobs.put(n)?;
    }
    jobs.join()?;
    println!("all jobs are done");
    Ok(())
}
