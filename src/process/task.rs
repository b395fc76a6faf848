//! Performing a registered worker as a task, in a process that continues afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, EncodeError, PanicReport, printable};
use crate::ipc::hub;
use crate::ipc::wire::{self, Envelope, Shape, SideData};
use crate::process::child::panic_hook;

/// How a task ended.
#[derive(Debug)]
pub(crate) enum TaskOutcome {
    /// Its output was appended to the buffer. The side data belongs to it.
    Returned(SideData),
    /// Boxed to keep the common case small.
    Failed(Box<TaskFailure>),
}

impl TaskOutcome {
    #[cold]
    pub(crate) fn failed(failure: TaskFailure) -> TaskOutcome {
        TaskOutcome::Failed(Box::new(failure))
    }
}

/// Why a task has no output, although its process continues.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TaskFailure {
    /// The worker's value does not decode.
    BadValue(#[serde(deserialize_with = "printable::deserialize_text")] String),
    Panicked(PanicReport),
    /// The output does not encode.
    BadOutput(#[serde(deserialize_with = "printable::deserialize_text")] String),
}

/// An encoded worker, or an encoded output, as it was received.
#[derive(Debug)]
pub(crate) enum TaskInput<'a> {
    Bytes(&'a [u8]),
    Parcel(Envelope),
}

impl TaskInput<'_> {
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        match self {
            TaskInput::Bytes(bytes) => wire::decode(bytes, Vec::new()),
            TaskInput::Parcel(envelope) => envelope.decode(),
        }
    }
}

/// Decodes a worker, runs it, and appends its output to the buffer.
pub(crate) type Perform = fn(TaskInput<'_>, &mut Vec<u8>) -> TaskOutcome;

/// The body of a [`Perform`].
pub(super) fn perform<W: DeserializeOwned, T: Serialize + DeserializeOwned>(
    value: TaskInput<'_>,
    output: &mut Vec<u8>,
    run: fn(W) -> T,
) -> TaskOutcome {
    let worker = match value.decode::<W>() {
        Ok(worker) => worker,
        Err(error) => return bad_value(&error),
    };
    // A closure that is called once, without the box that an erased `FnOnce` needs.
    let mut worker = Some(worker);
    outcome_of(&mut || match worker.take() {
        // Encoding happens in here because it drops the output, which may panic.
        Some(worker) => wire::encode_into(&run(worker), Shape::of::<T>(), output),
        None => Ok(SideData::default()),
    })
}

#[cold]
fn bad_value(error: &DecodeError) -> TaskOutcome {
    TaskOutcome::failed(TaskFailure::BadValue(error.to_string()))
}

fn outcome_of(run: &mut dyn FnMut() -> Result<SideData, EncodeError>) -> TaskOutcome {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(side_data)) => {
            if !side_data.is_empty() {
                hub::announce();
            }
            TaskOutcome::Returned(side_data)
        }
        Ok(Err(error)) => TaskOutcome::failed(TaskFailure::BadOutput(error.to_string())),
        Err(panic) => TaskOutcome::failed(TaskFailure::Panicked(panic_hook::caught_panic(
            wire::text_of(panic),
        ))),
    }
}
