use offspring::Worker;
use serde::Serialize;

#[derive(Serialize, Worker)]
struct Greet<'a> {
    name: &'a str,
}

fn main() {
    let _ = Greet { name: "x" };
}
