//! A function in a process of its own.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[offspring::worker]
fn clock(ticks: u32, interval: Duration) -> u32 {
    for tick in 1..=ticks {
        println!("tick {tick}");
        std::thread::sleep(interval);
    }
    ticks
}

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let process = clock::spawn(3, SECOND / 10)?;
    println!("{process:?}");
    let ticks = process.join()?;
    println!("the clock ticked {ticks} times");
    Ok(())
}
