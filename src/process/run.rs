//! Running a worker, in a child process or on a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::EncodeError;
use crate::ipc::hub;
use crate::ipc::wire::{self, Envelope, Shape};
use crate::process::output_is_err::is_err;
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
pub(super) fn run<W: DeserializeOwned, T: Serialize + DeserializeOwned>(
    value: IncomingValue,
    started: &dyn Fn(),
    run: fn(W) -> T,
) -> Result<RunOutcome, String> {
    let worker: W = value.decode()?;
    started();
    // Encoding happens inside the closure because it drops the output, which may panic.
    let run = || {
        let output = run(worker);
        let is_err = is_err(&output);
        let encoded = wire::encode(&output, Shape::of::<T>())?;
        Ok::<_, EncodeError>(
            Envelope::new(encoded).map(|output| RunOutcome::Returned { output, is_err }),
        )
    };
    Ok(match catch_unwind(AssertUnwindSafe(run)) {
        Err(panic) => RunOutcome::Panicked(wire::text_of(panic)),
        Ok(Ok(Ok(returned))) => {
            hub::announce();
            returned
        }
        Ok(Ok(Err(error))) => {
            RunOutcome::Unsendable(format!("there is no memory to send it: {error}"))
        }
        Ok(Err(error)) => RunOutcome::Unsendable(error.to_string()),
    })
}
