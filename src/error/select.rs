//! Errors of waiting for many things.

use std::io;

use thiserror::Error;

/// Many things could not be waited for together.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert!(matches!(offspring::wait_any(&[]), Err(offspring::WaitError::Nothing)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There is nothing to wait for: it would take for ever.
    #[error("there is nothing to wait for")]
    Nothing,
    /// The system does not let one of them be watched: no descriptor or no memory is left.
    #[error("could not watch a channel")]
    Io(#[source] io::Error),
}
