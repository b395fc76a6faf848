//! At its end, the program waits for its children, but stops daemons. In Python:
//! `Process(target=work, daemon=True)`.
//!
//! `cargo run --example daemon` prints "Ending!" last; `cargo run --example daemon -- --daemon`
//! never prints it.

use std::env;
use std::error::Error;
use std::thread;
use std::time::Duration;

use offspring::ProcessBuilder;

#[offspring::worker]
fn work() {
    println!("Starting!");
    thread::sleep(Duration::from_secs(1));
    println!("Ending!");
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let daemon = env::args().any(|argument| argument == "--daemon");
    let _process = ProcessBuilder::new().daemon(daemon).spawn(work::new())?;
    // Give the child time to print its first line.
    thread::sleep(Duration::from_millis(300));
    println!("the main program ends");
    Ok(())
}
