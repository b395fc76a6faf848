//! A two-way connection between two processes. In Python: `Pipe()`.

use std::error::Error;

use offspring::{Connection, ProcessWorker, Worker, pipe};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Adder {
    /// Receives pairs and sends their sums.
    connection: Connection<i64, (i64, i64)>,
}

impl ProcessWorker for Adder {
    type Output = ();

    fn run(self) {
        // The loop ends when the main program drops its end.
        while let Ok((a, b)) = self.connection.recv() {
            self.connection.send(a + b).expect("the main program is waiting for the sum");
        }
        println!("the adder is done");
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let (ours, theirs) = pipe()?;
    let process = Adder { connection: theirs }.spawn()?;
    for (a, b) in [(3, 4), (20, 22)] {
        ours.send((a, b))?;
        println!("{a} + {b} = {}", ours.recv()?);
    }
    drop(ours);
    process.join()?;
    Ok(())
}
