//! A producer in the main program, a consumer in a daemon process, a bounded queue between them.

use offspring::{Builder, JoinableQueue, ProcessWorker, Worker};
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
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let jobs = JoinableQueue::bounded(2)?;
    let _consumer = Builder::new().daemon(true).spawn(Consumer { jobs: jobs.clone() })?;
    for n in 1..=5 {
        jobs.put(n)?;
    }
    println!("producer: all jobs are in the queue");
    jobs.join()?;
    println!("producer: all jobs are done");
    Ok(())
}
