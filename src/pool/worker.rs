//! The process of a pool: performs what comes down its lane, until it is told to end.

use serde::{Deserialize, Serialize};

use crate::pool::link::Back;
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
        let Some(mut lane) = self.lane.open() else {
            return;
        };
        process::catch_panics();
        let mut output = Vec::new();
        while let Some(given) = lane.next() {
            output.clear();
            let value = given
                .parcel
                .map_or(Value::Bytes(given.bytes.as_slice()), Value::Parcel);
            let performed = match process::find_number(given.kind) {
                Some(perform) => perform(value, &mut output),
                None => Performed::mishap(Mishap::BadValue(format!(
                    "no worker has the number {}",
                    given.kind
                ))),
            };
            match performed {
                Performed::Returned(along) => lane.answer(&output, along),
                Performed::Mishap(mishap) => lane.mishap(&mishap),
            }
            // One large output must not be held for ever.
            if output.capacity() > KEPT {
                output = Vec::new();
            }
        }
    }
}

const KEPT: usize = 1 << 20;
