use offspring::Worker;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Idle;

fn main() {}
