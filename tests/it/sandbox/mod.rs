//! Sandboxed workers: real attempts to break out, and all that must work inside.

mod attempts;
mod escapes;
mod handles;
mod kernel;
mod openings;
mod violations;

use std::io;

use offspring::ProcessBuilder;
use offspring::process::Sandbox;

fn caged() -> ProcessBuilder {
    caged_in(Sandbox::fields_only())
}

fn caged_in(sandbox: Sandbox) -> ProcessBuilder {
    // With it, each start reads all debug information of the tests.
    ProcessBuilder::new().env_remove("RUST_BACKTRACE").sandbox(sandbox)
}

/// What a worker tells about an attempt: nothing if it succeeded, or the number of the error.
type Outcome = Result<(), i32>;

fn outcome<T>(result: io::Result<T>) -> Outcome {
    result.map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// The outcome of a system call that returns a number below zero on failure.
fn of_call(returned: libc::c_long) -> Outcome {
    if returned >= 0 { Ok(()) } else { outcome(Err::<(), _>(io::Error::last_os_error())) }
}
