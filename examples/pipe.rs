//! A two-way connection between two processes. The same in Python:
//!
//! ```python
//! from multiprocessing import Pipe, Process
//!
//! def adder(ours, theirs):
//!     theirs.close()
//!     while True:
//!         try:
//!             a, b = ours.recv()
//!         except EOFError:
//!             break
//!         ours.send(a + b)
//!     print("Adder done")
//!
//! if __name__ == "__main__":
//!     theirs, ours = Pipe()
//!     process = Process(target=adder, args=(theirs, ours))
//!     process.start()
//!     theirs.close()
//!     for pair in [(3, 4), (20, 22)]:
//!         ours.send(pair)
//!         print(ours.recv())
//!     ours.close()
//!     process.join()
//! ```

use std::error::Error;

use offspring::{Connection, pipe};

/// Receives pairs and sends their sums, until the main program drops its end.
#[offspring::worker]
fn adder(ours: Connection<i64, (i64, i64)>) {
    while let Ok((a, b)) = ours.recv() {
        ours.send(a + b).expect("the main program waits for the sum");
    }
    println!("Adder done");
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let (theirs, ours) = pipe()?;
    let process = adder::spawn(theirs)?;
    for pair in [(3, 4), (20, 22)] {
        ours.send(pair)?;
        println!("{}", ours.recv()?);
    }
    drop(ours);
    process.join()?;
    Ok(())
}
