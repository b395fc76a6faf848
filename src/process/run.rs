//! Running a worker, in a child process or on a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ipc::hub;
use crate::ipc::wire::{self, Envelope, Shape};
use crate::process::value::IncomingValue;

/// How `run` ended.
#[derive(Debug)]
pub(crate) enum RunOutcome {
    Returned(Envelope),
    /// It returned a value that does not encode, or that there is no memory for.
    Unsendable(String),
    Panicked(String),
}

/// Decodes the worker, calls `started`, and runs the worker. The error is the reason why it was not
/// decoded.
pub(crate) type RunWorker = fn(IncomingValue, &dyn Fn()) -> Result<RunOutcome, String>;

/// The body of a [`RunWorker`].
pub(super) fn run<W: DeserializeOwned, T: Serialize + DeserializeOwned>(
    value: IncomingValue,
    started: &dyn Fn(),
    run: fn(W) -> T,
) -> Result<RunOutcome, String> {
    let worker: W = value.decode()?;
    started();
    // The encoding is inside, too: it drops the output, and that may panic.
    let run = || wire::encode(&run(worker), Shape::of::<T>()).map(Envelope::new);
    Ok(match catch_unwind(AssertUnwindSafe(run)) {
        Err(panic) => RunOutcome::Panicked(wire::text_of(panic)),
        Ok(Ok(Ok(envelope))) => {
            hub::announce();
            RunOutcome::Returned(envelope)
        }
        Ok(Ok(Err(error))) => RunOutcome::Unsendable(format!("no memory to send it in: {error}")),
        Ok(Err(error)) => RunOutcome::Unsendable(error.to_string()),
    })
}
