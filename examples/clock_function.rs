//! Runs a function in a process of its own. In Python: `Process(target=clock, args=(3, 0.2))`.

use std::error::Error;
use std::thread;
use std::time::Duration;

#[offspring::worker]
fn clock(ticks: u32, interval: Duration) -> u32 {
    for tick in 1..=ticks {
        println!("tick {tick}");
        thread::sleep(interval);
    }
    ticks
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    println!("starting the clock");
    let process = clock::spawn(3, Duration::from_millis(200))?;
    let ticks = process.join()?;
    println!("the clock ticked {ticks} times");
    Ok(())
}
