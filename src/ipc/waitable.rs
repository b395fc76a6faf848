//! The trait of everything that a `Selector` can wait for.
//!
//! It is below the types that implement it, so that each module implements it for its own types.

use std::fmt;
use std::sync::Arc;

use crate::ipc::reactor::EventSource;

/// Something that [`wait_any`](crate::wait_any) and a [`Selector`](crate::Selector) can wait for.
///
/// A source is *ready* when the call in the last column would not block:
///
/// | | ready when | then call |
/// | --- | --- | --- |
/// | [`Process`](crate::Process) | it has ended | [`join`](crate::Process::join) |
/// | [`ProcessGroup`](crate::ProcessGroup) | all its processes have ended | [`join`](crate::ProcessGroup::join) |
/// | [`Receiver`](crate::Receiver) | a message has arrived, or every sender is gone | [`try_recv`](crate::Receiver::try_recv) |
/// | [`Connection`](crate::Connection) | a message has arrived, or the other end is gone | [`try_recv`](crate::Connection::try_recv) |
/// | [`Queue`](crate::Queue), [`JoinableQueue`](crate::JoinableQueue), their [`Consumer`](crate::queue::Consumer)s | an item is available, or none will come any more | [`try_get`](crate::Queue::try_get) |
/// | [`Task`](crate::Task) | the task has ended | [`join`](crate::Task::join) |
/// | actor [`Monitor`](crate::actor::Monitor) | the incarnation has ended | [`wait_timeout`](crate::actor::Monitor::wait_timeout) |
/// | [`sync::Event`](crate::sync::Event) | it is set, or its owner process has ended | [`is_set`](crate::sync::Event::is_set) |
/// | [`PoolEvents`](crate::pool::PoolEvents) | an event is in the buffer, or the pool has ended | [`try_next`](crate::pool::PoolEvents::try_next) |
/// | [`SupervisorEvents`](crate::supervisor::SupervisorEvents) | an event is in the buffer, or the supervisor has ended | [`try_next`](crate::supervisor::SupervisorEvents::try_next) |
///
/// Readiness is a state, not an event: it lasts until the message or item is taken, and the end of
/// a source lasts for ever. If several threads take from one source, another thread may be faster,
/// so use the `try_` forms. An end that was moved to another process is always ready, because every
/// call on it returns an error at once. A queue does not reserve an item for a waiting selector:
/// between readiness and `try_get`, another consumer may take the item.
///
/// This trait is implemented for these types, and for references and `Arc`s to them. It is sealed:
/// other crates cannot implement it.
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
pub trait Waitable {
    /// Seals the trait: other crates cannot name the type that it returns.
    #[doc(hidden)]
    fn wait_source(&self) -> WaitSource;
}

/// What a selector registers with for one [`Waitable`].
pub struct WaitSource(Option<Arc<dyn EventSource>>);

impl WaitSource {
    /// A selector holds the source weakly. Pass the `Arc` that lives in the waitable value, not a
    /// new one: a source that is gone counts as ready.
    pub(crate) fn new(source: Arc<dyn EventSource>) -> WaitSource {
        WaitSource(Some(source))
    }

    /// For a value whose calls always return at once, because it was moved away or its owner is
    /// gone.
    pub(crate) fn always_ready() -> WaitSource {
        WaitSource(None)
    }

    /// Returns `None` if it is always ready.
    pub(crate) fn into_inner(self) -> Option<Arc<dyn EventSource>> {
        self.0
    }
}

impl From<Option<Arc<dyn EventSource>>> for WaitSource {
    fn from(source: Option<Arc<dyn EventSource>>) -> WaitSource {
        source.map_or_else(WaitSource::always_ready, WaitSource::new)
    }
}

impl fmt::Debug for WaitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSource").finish_non_exhaustive()
    }
}

impl<W: Waitable + ?Sized> Waitable for &W {
    fn wait_source(&self) -> WaitSource {
        (**self).wait_source()
    }
}

impl<W: Waitable + ?Sized> Waitable for Arc<W> {
    fn wait_source(&self) -> WaitSource {
        (**self).wait_source()
    }
}
