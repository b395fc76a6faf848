//! The error of waiting for many sources.

use std::io;

use thiserror::Error;

/// The error returned by [`wait_any`](crate::wait_any) and [`Selector::add`](crate::Selector::add).
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert!(matches!(offspring::wait_any(&[]), Err(offspring::select::WaitError::Nothing)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There are no sources, so the wait would never end.
    #[error("waiting without a source")]
    Nothing,
    /// The system has no descriptor or memory to watch a source.
    #[error("could not watch a source")]
    Io(#[source] io::Error),
}
