//! Waiting for many things at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::WaitError;
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::process::Process;
use crate::queue::{JoinableQueue, Queue};

mod completed;
mod selector;

pub use completed::{AsCompleted, as_completed};
pub use selector::Selector;

impl<T> Waitable for Process<T> {
    fn wait_source(&self) -> WaitSource {
        WaitSource::new(self.target())
    }
}

impl<T> Waitable for Queue<T> {
    fn wait_source(&self) -> WaitSource {
        self.target().into()
    }
}

impl<T> Waitable for JoinableQueue<T> {
    fn wait_source(&self) -> WaitSource {
        self.target().into()
    }
}

/// Waits until one of these is ready, and gives its index. Of several that are ready, each gets its turn.
///
/// For one wait, or for a few sources; a [`Selector`] does not set up anew each time.
///
/// # Errors
///
/// [`WaitError::Nothing`] if there are none, [`WaitError::Io`] if the system does not let one be watched.
///
/// ```
/// use std::time::Duration;
///
/// #[offspring::worker]
/// fn sleep(time: Duration) {
///     std::thread::sleep(time);
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let long = sleep::spawn(Duration::from_secs(1000))?;
///     let short = sleep::spawn(Duration::from_millis(1))?;
///     let (_sender, receiver) = offspring::channel::<u32>()?;
///     assert_eq!(offspring::wait_any(&[&long, &short, &receiver])?, 1);
///     short.join()?;
///     long.kill();
///     Ok(())
/// }
/// ```
pub fn wait_any(sources: &[&dyn Waitable]) -> Result<usize, WaitError> {
    let index = wait_until(sources, None)?;
    Ok(index.expect("a wait without a deadline ended at its deadline"))
}

/// As [`wait_any`], but waits at most this long: `None` if none is ready then.
///
/// # Errors
///
/// As [`wait_any`].
///
/// ```
/// use std::time::Duration;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel()?;
/// let moment = Duration::from_millis(1);
/// assert_eq!(offspring::wait_any_timeout(&[&receiver], moment)?, None);
/// sender.send(7)?;
/// assert_eq!(offspring::wait_any_timeout(&[&receiver], moment)?, Some(0));
/// assert_eq!(receiver.try_recv()?, 7);
/// # Ok(())
/// # }
/// ```
pub fn wait_any_timeout(
    sources: &[&dyn Waitable],
    timeout: Duration,
) -> Result<Option<usize>, WaitError> {
    // A deadline that the clock cannot express is none.
    wait_until(sources, Instant::now().checked_add(timeout))
}

fn wait_until(
    sources: &[&dyn Waitable],
    deadline: Option<Instant>,
) -> Result<Option<usize>, WaitError> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    if sources.is_empty() {
        return Err(WaitError::Nothing);
    }
    let first = TURN.fetch_add(1, Ordering::Relaxed) % sources.len();
    let in_turn = || (first..sources.len()).chain(0..first);
    let look = |index: &usize| {
        sources[*index]
            .wait_source()
            .into_inner()
            .is_none_or(|source| source.is_ready(None))
    };
    if let Some(index) = in_turn().find(look) {
        return Ok(Some(index));
    }
    let selector = Selector::new();
    let keys = in_turn().map(|index| Ok((selector.add(sources[index])?, index)));
    let keys: Vec<(usize, usize)> = keys.collect::<Result<_, WaitError>>()?;
    let ready = selector.ready_until(deadline);
    Ok(ready
        .and_then(|ready| keys.iter().find(|(key, _)| *key == ready))
        .map(|&(_, index)| index))
}
