//! The derive accepts structs and enums, even generic ones.
#![deny(warnings)]

use offspring::{ProcessWorker, Worker};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
#[offspring(name = "task", crate = "::offspring")]
enum Task {
    Wait(u64),
    Stop,
}

impl ProcessWorker for Task {
    type Output = u64;
    fn run(self) -> u64 {
        match self {
            Task::Wait(seconds) => seconds,
            Task::Stop => 0,
        }
    }
}

#[derive(Serialize, Deserialize, Worker)]
struct Smooth<T: Clone, const N: usize = 1>
where
    T: Default,
{
    sample: T,
}

impl<T, const N: usize> ProcessWorker for Smooth<T, N>
where
    T: Clone + Default + Serialize + DeserializeOwned + 'static,
{
    type Output = (T, usize);
    fn run(self) -> (T, usize) {
        (self.sample, N)
    }
}

offspring::register!(Smooth<f32>);
offspring::register!(Smooth<u8, 3>);

#[test]
fn derived_types_have_names_and_run() {
    assert_eq!(Task::worker_name(), "task");
    assert_eq!(Task::Wait(1).run() + Task::Stop.run(), 1);
    assert_eq!(Smooth::<u8, 3> { sample: 2 }.run(), (2, 3));
    assert_ne!(Smooth::<f32>::worker_name(), Smooth::<u8, 3>::worker_name());
}
