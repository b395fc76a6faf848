//! At its end, the program waits for its children, but stops daemons: `cargo run --example daemon`
//! prints "Ending!" last, and `cargo run --example daemon -- --daemon` never. The same in Python:
//!
//! ```python
//! import sys, time
//! from multiprocessing import Event, Process
//!
//! def work(started):
//!     print("Starting!")
//!     started.set()
//!     time.sleep(2)
//!     print("Ending!")
//!
//! if __name__ == "__main__":
//!     started = Event()
//!     daemon = "--daemon" in sys.argv
//!     process = Process(target=work, args=(started,), daemon=daemon)
//!     process.start()
//!     started.wait()
//!     print("ENDING!")
//! ```

use std::env;
use std::error::Error;
use std::thread;
use std::time::Duration;

use offspring::ProcessBuilder;
use offspring::sync::Event;

#[offspring::worker]
fn work(started: Event) {
    println!("Starting!");
    started.set();
    thread::sleep(Duration::from_secs(2));
    println!("Ending!");
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let started = Event::new()?;
    let daemon = env::args().any(|argument| argument == "--daemon");
    let _process = ProcessBuilder::new().daemon(daemon).spawn(work::new(started.clone()))?;
    started.wait()?;
    println!("ENDING!");
    Ok(())
}
