use offspring::{ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
#[offspring(name = "smooth")]
struct Smooth<T>(T);

impl ProcessWorker for Smooth<f32> {
    type Output = f32;
    fn run(self) -> f32 {
        self.0
    }
}

offspring::register!(Smooth<f32>);

fn main() {}
