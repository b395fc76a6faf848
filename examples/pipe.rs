//! A connection that both ends send and receive on.

use offspring::{Connection, ProcessWorker, Worker, pipe};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Child {
    connection: Connection<String, String>,
}

impl ProcessWorker for Child {
    type Output = ();

    fn run(self) {
        self.connection.send("hello from the child".to_owned()).expect("the parent listens");
        let answer = self.connection.recv().expect("the parent answers");
        println!("child received: {answer}");
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (ours, theirs) = pipe()?;
    let process = Child { connection: theirs }.spawn()?;
    println!("parent received: {}", ours.recv()?);
    ours.send("hello from the parent".to_owned())?;
    process.join()?;
    Ok(())
}
