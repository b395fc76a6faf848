//! A queue from the main program to a daemon. The same in Python:
//!
//! ```python
//! from multiprocessing import JoinableQueue, Process
//!
//! def consumer(jobs):
//!     while True:
//!         item = jobs.get()
//!         print("consumed", item)
//!         jobs.task_done()
//!
//! def producer(items, jobs):
//!     for item in items:
//!         print("produced", item)
//!         jobs.put(item)
//!
//! if __name__ == "__main__":
//!     jobs = JoinableQueue()
//!     process = Process(target=consumer, args=(jobs,), daemon=True)
//!     process.start()
//!     producer([1, 2, 3, 4], jobs)
//!     jobs.join()
//! ```

use std::error::Error;

use offspring::queue::{JoinableConsumer, JoinableProducer, PutError};
use offspring::{JoinableQueue, ProcessBuilder};

#[offspring::worker]
fn consumer(jobs: JoinableConsumer<u64>) {
    for job in &jobs {
        println!("consumed {}", *job);
        job.task_done();
    }
}

fn producer(items: [u64; 4], jobs: &JoinableProducer<u64>) -> Result<(), PutError<u64>> {
    for item in items {
        println!("produced {item}");
        jobs.put(item)?;
    }
    Ok(())
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let (jobs, taken) = JoinableQueue::unbounded()?.split();
    let _process = ProcessBuilder::new().daemon(true).spawn(consumer::new(taken))?;
    producer([1, 2, 3, 4], &jobs)?;
    jobs.join()?;
    Ok(())
}
