//! Running a worker, in a child process or on a thread.

use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::EncodeError;
use crate::ipc::hub;
use crate::ipc::wire::{self, EncodedValue, Envelope, Shape};
use crate::process::value::IncomingValue;

/// How `run` ended.
#[derive(Debug)]
pub(crate) enum RunOutcome {
    Returned {
        output: Envelope,
        /// It is the `Err` of a `Result`.
        is_err: bool,
    },
    /// It returned a value that does not encode, or that does not fit into memory.
    Unsendable(String),
    Panicked(String),
}

/// Decodes the worker, calls `started`, and runs the worker. The error says why it was not decoded.
pub(crate) type RunWorker = fn(IncomingValue, &dyn Fn()) -> Result<RunOutcome, String>;

/// The body of a [`RunWorker`].
pub(super) fn run<W: DeserializeOwned + 'static, T: Serialize + DeserializeOwned>(
    value: IncomingValue,
    started: &dyn Fn(),
    run: fn(W) -> T,
) -> Result<RunOutcome, String> {
    let worker: W = value.decode()?;
    started();
    // Encoding happens inside the closure because it drops the output, which may panic.
    let run = || wire::encode(&run(worker), Shape::of::<T>());
    Ok(outcome_of(Box::new(run), type_name::<T>()))
}

fn outcome_of(
    run: Box<dyn FnOnce() -> Result<EncodedValue, EncodeError> + '_>,
    output_type: &str,
) -> RunOutcome {
    let encoded = match catch_unwind(AssertUnwindSafe(run)) {
        Err(panic) => return RunOutcome::Panicked(wire::text_of(panic)),
        Ok(Err(error)) => return RunOutcome::Unsendable(error.to_string()),
        Ok(Ok(encoded)) => encoded,
    };
    // Another enum may have a variant that is called `Err`.
    let is_err = output_type.starts_with("core::result::Result<") && encoded.is_err();
    match Envelope::new(encoded) {
        Ok(output) => {
            hub::announce();
            RunOutcome::Returned { output, is_err }
        }
        Err(error) => RunOutcome::Unsendable(format!("there is no memory to send it: {error}")),
    }
}
