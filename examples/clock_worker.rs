//! Runs a value in a process of its own. The same in Python, with a class that overrides `run`:
//!
//! ```python
//! import time
//! from multiprocessing import Process
//!
//! class Clock(Process):
//!     def __init__(self, interval):
//!         super().__init__()
//!         self.interval = interval
//!
//!     def run(self):
//!         for n in range(1, 6):
//!             print("Run >>>", n)
//!             time.sleep(self.interval)
//!         print("Ending!")
//!
//! if __name__ == "__main__":
//!     process = Clock(0.1)
//!     process.start()
//!     process.join()
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use offspring::{ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Clock {
    interval: Duration,
}

impl ProcessWorker for Clock {
    type Output = ();

    fn run(self) {
        for n in 1..=5 {
            println!("Run >>> {n}");
            thread::sleep(self.interval);
        }
        println!("Ending!");
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let clock = Clock { interval: Duration::from_millis(100) };
    let process = clock.spawn()?;
    process.join()?;
    Ok(())
}
