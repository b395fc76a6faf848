//! A registered worker as a task: performed in a process that goes on afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, PanicReport};
use crate::ipc::hub;
use crate::ipc::wire::{self, Envelope, SideData};
use crate::process::child::serve;
use crate::process::registry::ProcessWorker;

pub(crate) use crate::process::child::serve::catch_panics;

/// What came of a task.
#[derive(Debug)]
pub(crate) enum Performed {
    /// Its output was encoded behind what the buffer held; this goes with it.
    Returned(SideData),
    /// Boxed, since nearly all tasks return, and what they return is to be small.
    Mishap(Box<Mishap>),
}

impl Performed {
    #[cold]
    pub(crate) fn mishap(mishap: Mishap) -> Performed {
        Performed::Mishap(Box::new(mishap))
    }
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

/// A value as it arrived.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    Parcel(Envelope),
}

impl Value<'_> {
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        match self {
            Value::Bytes(bytes) => wire::decode(bytes, Vec::new()),
            Value::Parcel(packet) => packet.decode(),
        }
    }
}

/// Rebuilds a worker, runs it, and encodes its output.
pub(crate) type Perform = fn(Value<'_>, &mut Vec<u8>) -> Performed;

pub(crate) fn perform<W: ProcessWorker>(value: Value<'_>, output: &mut Vec<u8>) -> Performed {
    let worker = match value.decode::<W>() {
        Ok(worker) => worker,
        Err(error) => return Performed::mishap(Mishap::BadValue(error.to_string())),
    };
    // What is dropped on the way out is the task's too: so the encoding is inside.
    let run = || wire::encode_into(&worker.run(), output);
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(along)) => {
            if !along.is_empty() {
                hub::announce();
            }
            Performed::Returned(along)
        }
        Ok(Err(error)) => Performed::mishap(Mishap::BadOutput(error.to_string())),
        Err(panic) => Performed::mishap(Mishap::Panicked(serve::caught_panic(wire::panic_text(
            &*panic,
        )))),
    }
}
