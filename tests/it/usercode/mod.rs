//! Code of the program that this crate calls: loggers, wakers, destructors, `Display`. It may
//! panic, block or call back, and harms nothing but itself.

mod drops;
mod loggers;
mod wakers;

use offspring::ProcessBuilder;
use offspring::process::LogTarget;

#[offspring::worker]
fn double(n: u64) -> u64 {
    n * 2
}

/// Starts a program of its own: without a logger, so that it can install one.
fn program() -> ProcessBuilder {
    ProcessBuilder::new().logs(LogTarget::Off)
}
