//! The process of a pool: performs what comes down its lane, until it is told to end.

use serde::{Deserialize, Serialize};

use crate::lane::Back;
use crate::process::{self, Mishap, Performed, ProcessWorker, Registration, Worker};

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
            let performed = match (process::find_number(given.kind), given.parcel) {
                (None, _) => Performed::Mishap(Mishap::BadValue(format!("no worker has the number {}", given.kind))),
                (Some(perform), None) => perform(&value, Vec::new(), &mut output),
                (Some(perform), Some(parcel)) => parcel.open(|bytes, handles| perform(bytes, handles, &mut output)),
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
