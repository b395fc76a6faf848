//! The process of a pool: performs what comes down its lane, until it is told to end.

use serde::{Deserialize, Serialize};

use crate::lane::Back;
use crate::process::{self, Mishap, Performed, ProcessWorker, Registration, Value, Worker};

/// What runs in a pool's worker process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bench {
    pub(super) lane: Back,
}

impl Worker for Bench {
    fn worker_name() -> &'static str {
        "offspring::Pool"
    }
}

inventory::submit! { Registration::of::<Bench>(file!(), line!()) }

impl ProcessWorker for Bench {
    type Output = ();

    fn run(self) {
        let Some(mut lane) = self.lane.open() else { return };
        process::catch_panics();
        let (mut value, mut output) = (Vec::new(), Vec::new());
        while let Some(given) = lane.next(&mut value) {
            output.clear();
            let given_value = given.parcel.map_or(Value::Bytes(&value), Value::Parcel);
            let performed = match process::find_number(given.kind) {
                Some(perform) => perform(given_value, &mut output),
                None => Performed::Mishap(Mishap::BadValue(format!("no worker has the number {}", given.kind))),
            };
            match performed {
                Performed::Returned(handles) => lane.answer(&output, handles),
                Performed::Mishap(mishap) => lane.mishap(&mishap),
            }
            // One large value must not be held for ever.
            shrink(&mut value);
            shrink(&mut output);
        }
    }
}

const KEPT: usize = 1 << 20;

fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    }
}
