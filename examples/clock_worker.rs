//! Runs a value in a process of its own. In Python: a subclass of `Process` that overrides `run`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use offspring::{ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Clock {
    ticks: u32,
    interval: Duration,
}

impl ProcessWorker for Clock {
    type Output = u32;

    fn run(self) -> u32 {
        for tick in 1..=self.ticks {
            println!("tick {tick}");
            thread::sleep(self.interval);
        }
        self.ticks
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    println!("starting the clock");
    let clock = Clock { ticks: 3, interval: Duration::from_millis(200) };
    let process = clock.spawn()?;
    let ticks = process.join()?;
    println!("the clock ticked {ticks} times");
    Ok(())
}
