//! Waiting for many things at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::channel::Connection;
use crate::channel::Receiver;
use crate::error::WaitError;
use crate::ipc::reactor::EventSource;
use crate::process::Process;
use crate::queue::{JoinableQueue, Queue};

mod completed;
mod selector;

pub use completed::{AsCompleted, as_completed};
pub use selector::Selector;

/// What [`wait_any`] and [`Selector`] wait for. It is *ready* when the call that is named here would not block:
///
/// | | ready when | then call |
/// | --- | --- | --- |
/// | [`Process`] | it has ended | [`join`](Process::join) |
/// | [`Receiver`] | a message is here, or every sender is gone | [`try_recv`](Receiver::try_recv) |
/// | [`Connection`] | a message is here, or the other end is gone | [`try_recv`](Connection::try_recv) |
/// | [`Queue`], [`JoinableQueue`] | an item is here, or none will come any more | [`try_get`](Queue::try_get) |
///
/// Ready is a state, not an event: it lasts until what is there was taken, and an end lasts for ever. When several
/// threads take from one source, another may be faster; so use the `try_` forms. One that was moved to another
/// process is ready, since it will say so at once. A queue keeps no item for who waits like this: between being ready
/// and `try_get` the item may go to another.
///
/// Implemented for these types, and for references to them. Other crates cannot implement it.
///
/// ```
/// use offspring::Waitable;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, numbers) = offspring::channel::<u32>()?;
/// let (_here, words) = offspring::pipe::<String, String>()?;
/// let sources: [&dyn Waitable; 2] = [&words, &numbers];
/// sender.send(7)?;
/// assert_eq!(offspring::wait_any(&sources)?, 1);
/// # Ok(())
/// # }
/// ```
pub trait Waitable: sealed::Waitable {}

mod sealed {
    use super::Watched;

    pub trait Waitable {
        fn watched(&self) -> Watched;
    }
}

/// A source, or `None` for what can say at once that it is none: it was moved away, or its owner is gone.
pub struct Watched(Option<Arc<dyn EventSource>>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl<T> Waitable for Process<T> {}
impl<T> sealed::Waitable for Process<T> {
    fn watched(&self) -> Watched {
        Watched(Some(self.target()))
    }
}

impl<T> Waitable for Receiver<T> {}
impl<T> sealed::Waitable for Receiver<T> {
    fn watched(&self) -> Watched {
        Watched(self.target())
    }
}

impl<A, B> Waitable for Connection<A, B> {}
impl<A, B> sealed::Waitable for Connection<A, B> {
    fn watched(&self) -> Watched {
        Watched(self.target())
    }
}

impl<T> Waitable for Queue<T> {}
impl<T> sealed::Waitable for Queue<T> {
    fn watched(&self) -> Watched {
        Watched(self.target())
    }
}

impl<T> Waitable for JoinableQueue<T> {}
impl<T> sealed::Waitable for JoinableQueue<T> {
    fn watched(&self) -> Watched {
        Watched(self.target())
    }
}

impl<W: Waitable + ?Sized> Waitable for &W {}
impl<W: Waitable + ?Sized> sealed::Waitable for &W {
    fn watched(&self) -> Watched {
        (**self).watched()
    }
}

impl<W: Waitable + ?Sized> Waitable for Arc<W> {}
impl<W: Waitable + ?Sized> sealed::Waitable for Arc<W> {
    fn watched(&self) -> Watched {
        (**self).watched()
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
            .watched()
            .0
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
