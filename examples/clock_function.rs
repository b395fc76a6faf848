//! Runs a function in a process of its own. The same in Python:
//!
//! ```python
//! import time
//! from multiprocessing import Process
//!
//! def clock(interval):
//!     for n in range(1, 6):
//!         print("Run >>>", n)
//!         time.sleep(interval)
//!     print("Ending!")
//!
//! if __name__ == "__main__":
//!     process = Process(target=clock, args=(0.1,))
//!     process.start()
//!     process.join()
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

#[offspring::worker]
fn clock(interval: Duration) {
    for n in 1..=5 {
        println!("Run >>> {n}");
        thread::sleep(interval);
    }
    println!("Ending!");
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let process = clock::spawn(Duration::from_millis(100))?;
    process.join()?;
    Ok(())
}
