//! A registered worker as a task: performed in a process that goes on afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::error::PanicReport;
use crate::hub;
use crate::process::child;
use crate::process::registry::ProcessWorker;
use crate::wire::{self, WireHandle};

pub(crate) use crate::process::child::catch_panics;

/// What came of a task.
#[derive(Debug)]
pub(crate) enum Performed {
    /// Its output was encoded behind what the buffer held; these handles go with it.
    Returned(Vec<WireHandle>),
    Mishap(Mishap),
}

/// How a task ended without an output, in a process that goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Mishap {
    /// The worker's value could not be rebuilt.
    BadValue(String),
    Panicked(PanicReport),
    /// The output does not encode.
    BadOutput(String),
}

/// Rebuilds a worker, runs it, and encodes its output.
pub(crate) type Perform = fn(&[u8], Vec<WireHandle>, &mut Vec<u8>) -> Performed;

pub(crate) fn perform<W: ProcessWorker>(value: &[u8], handles: Vec<WireHandle>, output: &mut Vec<u8>) -> Performed {
    let worker = match wire::decode::<W>(value, handles) {
        Ok(worker) => worker,
        Err(error) => return Performed::Mishap(Mishap::BadValue(error.to_string())),
    };
    // What is dropped on the way out is the task's too: so the encoding is inside.
    let run = || wire::encode_into(&worker.run(), output);
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(handles)) => {
            if !handles.is_empty() {
                hub::announce();
            }
            Performed::Returned(handles)
        }
        Ok(Err(error)) => Performed::Mishap(Mishap::BadOutput(error.to_string())),
        Err(panic) => Performed::Mishap(Mishap::Panicked(child::caught_panic(wire::panic_text(&*panic)))),
    }
}
