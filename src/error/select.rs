//! The error of waiting for several sources.

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
#[derive(Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The list of sources is empty, so the wait would never end. [`Selector::add`] never returns
    /// this.
    ///
    /// [`Selector::add`]: crate::Selector::add
    #[error("cannot wait: the list of sources is empty")]
    Nothing,
    /// The system refused a descriptor, a thread or the memory that it takes to watch a source.
    #[error("could not watch a source: {0}")]
    Io(io::Error),
}

debug_with_text! { WaitError { Nothing, Io } }
