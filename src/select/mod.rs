//! Waiting until one of several sources is ready: processes, receivers, connections, queues, ..
//!
//! [`wait_any`] waits once for a few sources. A [`Selector`] waits again and again, for any number.
//! [`as_completed`] joins processes in the order in which they end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::ipc::deadline::{Deadline, Forever, TimeLimit};
use crate::ipc::waitable::WaitSource;
use crate::queue::{Consumer, JoinableConsumer, JoinableQueue, Queue};

mod completed;
mod selector;

pub use completed::{AsCompleted, as_completed};
pub use selector::Selector;

pub use crate::error::WaitError;
pub use crate::ipc::waitable::Waitable;

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

impl<T> Waitable for Consumer<T> {
    fn wait_source(&self) -> WaitSource {
        self.target().into()
    }
}

impl<T> Waitable for JoinableConsumer<T> {
    fn wait_source(&self) -> WaitSource {
        self.target().into()
    }
}

/// Blocks until one of the sources is ready, and returns its index. If several are ready,
/// successive calls return each in turn.
///
/// Each call registers all sources anew. For repeated waits, or many sources, use a [`Selector`],
/// which registers each source once.
///
/// # Errors
///
/// [`WaitError::Nothing`] if `sources` is empty, [`WaitError::Io`] if the system has no descriptor
/// or memory to watch one.
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
    let index = wait_within(sources, &Forever)?;
    Ok(index.expect("a wait without a deadline does not time out"))
}

/// Like [`wait_any`], but blocks for at most `timeout`. Returns `None` if no source was ready in
/// time.
///
/// # Errors
///
/// Like [`wait_any`].
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
    wait_within(sources, &Deadline::after(timeout))
}

fn wait_within(
    sources: &[&dyn Waitable],
    limit: &impl TimeLimit,
) -> Result<Option<usize>, WaitError> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    if sources.is_empty() {
        return Err(WaitError::Nothing);
    }
    let first = TURN.fetch_add(1, Ordering::Relaxed) % sources.len();
    let in_turn = || (first..sources.len()).chain(0..first);
    let is_ready = |index: &usize| {
        let source = sources[*index].wait_source().into_inner();
        source.is_none_or(|source| source.is_ready(None))
    };
    // Check before registering anything: usually one is ready already.
    if let Some(index) = in_turn().find(is_ready) {
        return Ok(Some(index));
    }
    let selector = Selector::new();
    let keys = in_turn().map(|index| Ok((selector.add(sources[index])?, index)));
    let keys: Vec<(usize, usize)> = keys.collect::<Result<_, WaitError>>()?;
    let ready = selector.ready_within(limit);
    Ok(ready.and_then(|ready| keys.iter().find(|(key, _)| *key == ready)).map(|&(_, index)| index))
}
