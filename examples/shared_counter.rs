//! Processes increment a shared counter, and one dies while it holds the lock. In Python: `Value`
//! with its lock, which would hang here.

use std::error::Error;

use offspring::sync::{LockError, Mutex};
use offspring::{ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Counter {
    total: Mutex<u64>,
    dies: bool,
}

impl ProcessWorker for Counter {
    type Output = ();

    fn run(self) {
        for n in 0..10_000 {
            let mut total = self.total.lock().expect("no process died with the lock");
            *total += 1;
            if self.dies && n == 9_999 {
                std::process::abort(); // while it holds the lock
            }
        }
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let total = Mutex::new(0)?;
    let spawn = |dies| Counter { total: total.clone(), dies }.spawn();
    let counters = [spawn(false)?, spawn(false)?, spawn(false)?];
    for counter in counters {
        counter.join()?;
    }
    println!("three processes counted to {}", *total.lock().map_err(|error| error.to_string())?);

    let victim = spawn(true)?;
    assert!(victim.join().is_err());
    match total.lock() {
        Err(LockError::Poisoned(poison)) if poison.holder_died() => {
            println!(
                "it died with the lock, which is poisoned now; the value may be half changed: {}",
                **poison.get_ref()
            );
        }
        _ => println!("it died without the lock"),
    }
    Ok(())
}
