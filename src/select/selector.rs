//! `Selector`: a set of sources to wait for.
//!
//! Each source wakes the selector through a waker of its own, which puts the source's key into a
//! queue. A wait checks the queued sources until one is ready. Two rules keep it from missing one:
//!
//! - A source that is not queued was not ready when it was last checked, and that check left its
//!   waker. So whatever makes it ready also queues it.
//! - A source that was ready is queued again, after the others: readiness is a state, and the
//!   caller may leave something in it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::error::WaitError;
use crate::failpoints;
use crate::ipc::deadline::{Deadline, Forever, TimeLimit};
use crate::ipc::reactor::{EventSource, WakerSlot};
use crate::ipc::waitable::Waitable;
use crate::sys::threads::{AtomicBool, Condvar, Mutex};
use crate::sys::{self, lock};

/// Waits for many sources at once, of any [`Waitable`] types.
///
/// Dropping it only ends the waiting. A selector does not keep its sources alive: a source that is
/// dropped, or moved to another process, counts as ready until it is [`remove`](Selector::remove)d.
///
/// [`ready`](Selector::ready) returns the key of a source that is ready, and takes nothing from it.
/// Readiness is a state: a source that is still ready is returned again, after the others had their
/// turn. So remove a source when it has ended. Sources can be added and removed at any time, even
/// while another thread waits.
///
/// It does not poll: idle sources cost nothing, and the cost of a wait grows only with the number
/// of sources that have changed. Only a [`sync::Event`](crate::sync::Event) takes a thread, one for
/// each handle that was ever added. If several threads wait on one selector, two of them may get
/// the same key.
///
/// ```
/// use offspring::channel::TryRecvError;
/// use offspring::{Selector, Sender, channel};
///
/// #[offspring::worker]
/// fn count(numbers: Sender<u32>, upto: u32) {
///     for n in 1..=upto {
///         numbers.send(n).expect("the main program reads");
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let selector = Selector::new();
///     let mut receivers = std::collections::HashMap::new();
///     for upto in [10, 20, 30] {
///         let (sender, receiver) = channel()?;
///         count::spawn(sender, upto)?;
///         receivers.insert(selector.add(&receiver)?, receiver);
///     }
///     let mut sum = 0;
///     while let Some(key) = selector.ready() {
///         match receivers[&key].try_recv() {
///             Ok(n) => sum += n,
///             Err(TryRecvError::Empty) => {}
///             Err(_) => selector.remove(key), // its process is done
///         }
///     }
///     assert_eq!(sum, 55 + 210 + 465);
///     Ok(())
/// }
/// ```
pub struct Selector {
    shared: Arc<SelectorShared>,
}

#[derive(Default)]
struct SelectorShared {
    state: Mutex<SelectorState>,
    changed: Condvar,
}

#[derive(Default)]
struct SelectorState {
    sources: BTreeMap<usize, Arc<Registered>>,
    /// Keys of sources to check, each at most once. No thread sleeps while this is not empty.
    queue: VecDeque<usize>,
    next_key: usize,
}

/// A source that was added.
struct Registered {
    key: usize,
    /// `None` if it is always ready.
    source: Option<Weak<dyn EventSource>>,
    slot: Option<WakerSlot>,
    waker: Waker,
    /// Whether its key is in the queue. Changes only under the state's lock.
    is_queued: AtomicBool,
}

/// Queues one source of a selector.
struct SourceWaker {
    shared: Weak<SelectorShared>,
    key: usize,
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut state = lock(&shared.state);
        if let Some(source) = state.sources.get(&self.key).cloned() {
            shared.enqueue(&mut state, &source);
        }
    }
}

impl SelectorShared {
    fn enqueue(&self, state: &mut SelectorState, source: &Registered) {
        if !source.is_queued.swap(true, Ordering::Relaxed) {
            state.queue.push_back(source.key);
            self.changed.notify_one();
        }
    }
}

impl Registered {
    /// The caller must hold no lock, because this takes the locks of the source.
    fn is_ready(&self) -> bool {
        let source = self.source.as_ref().and_then(Weak::upgrade);
        source.is_none_or(|source| {
            source.is_ready(self.slot.as_ref().map(|slot| (slot, &self.waker)))
        })
    }
}

impl Selector {
    /// Creates an empty selector.
    #[must_use]
    pub fn new() -> Selector {
        Selector { shared: Arc::default() }
    }

    /// Adds a source, and returns its key. A selector never returns the same key twice.
    ///
    /// # Errors
    ///
    /// [`WaitError::Io`] if the system has no descriptor or memory to watch the source.
    pub fn add(&self, source: &(impl Waitable + ?Sized)) -> Result<usize, WaitError> {
        let source = source.wait_source().into_inner();
        let slot =
            source.as_ref().map(|source| source.register()).transpose().map_err(WaitError::Io)?;
        let mut state = lock(&self.shared.state);
        let key = state.next_key;
        state.next_key += 1;
        let waker = SourceWaker { shared: Arc::downgrade(&self.shared), key };
        let registered = Arc::new(Registered {
            key,
            source: source.as_ref().map(Arc::downgrade),
            slot,
            waker: Arc::new(waker).into(),
            is_queued: AtomicBool::new(false),
        });
        state.sources.insert(key, registered.clone());
        // It may be ready already, and no check has left its waker yet.
        self.shared.enqueue(&mut state, &registered);
        Ok(key)
    }

    /// Removes a source. Does nothing if the key is unknown.
    pub fn remove(&self, key: usize) {
        let mut state = lock(&self.shared.state);
        let removed = state.sources.remove(&key);
        if state.sources.is_empty() {
            // A wait without sources returns, so wake the waiting threads.
            self.shared.changed.notify_all();
        }
        drop(state);
        drop(removed);
    }

    /// Blocks until a source is ready, and returns its key. Returns `None` if there are no sources.
    pub fn ready(&self) -> Option<usize> {
        self.ready_within(&Forever)
    }

    /// Returns the key of a source that is ready now, if there is one. Never blocks. If no queued
    /// source is ready, it checks every source.
    pub fn try_ready(&self) -> Option<usize> {
        self.ready_within(&Deadline::now())
    }

    /// Like [`ready`](Selector::ready), but blocks for at most `timeout`. Returns `None` if no
    /// source was ready in time.
    pub fn ready_timeout(&self, timeout: Duration) -> Option<usize> {
        self.ready_within(&Deadline::after(timeout))
    }

    /// Returns the number of sources.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared.state).sources.len()
    }

    /// Returns whether there are no sources.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn ready_within(&self, limit: &impl TimeLimit) -> Option<usize> {
        loop {
            if let Some(key) = self.check_queued() {
                return Some(key);
            }
            let state = lock(&self.shared.state);
            if state.sources.is_empty() {
                return None;
            }
            if !state.queue.is_empty() {
                continue;
            }
            if limit.check().is_err() {
                drop(state);
                return self.check_all();
            }
            drop(sys::wait(&self.shared.changed, state, limit.deadline()));
        }
    }

    /// Checks the queued sources until one is ready.
    fn check_queued(&self) -> Option<usize> {
        // Bounded, so that a source that is woken again and again does not hold the caller beyond
        // its deadline.
        for _ in 0..=self.len() {
            let mut state = lock(&self.shared.state);
            let key = state.queue.pop_front()?;
            let Some(source) = state.sources.get(&key).cloned() else {
                continue;
            };
            // Cleared before the check: a wake-up during the check queues the source again.
            if !failpoints::is_mutated("selector.late") {
                source.is_queued.store(false, Ordering::Relaxed);
            }
            drop(state);
            if self.check(&source) {
                return Some(key);
            }
        }
        None
    }

    /// Checks every source: one may be ready even though its waker has not run yet.
    fn check_all(&self) -> Option<usize> {
        let sources: Vec<_> = lock(&self.shared.state).sources.values().cloned().collect();
        sources.iter().find(|source| self.check(source)).map(|source| source.key)
    }

    /// Returns whether a source is ready, and queues it again if so. `false` if it was removed
    /// meanwhile.
    fn check(&self, source: &Registered) -> bool {
        let is_ready = source.is_ready();
        if failpoints::is_mutated("selector.late") {
            source.is_queued.store(false, Ordering::Relaxed);
        }
        if !is_ready {
            return false;
        }
        let mut state = lock(&self.shared.state);
        let is_here = state.sources.contains_key(&source.key);
        if is_here {
            self.shared.enqueue(&mut state, source);
        }
        is_here
    }
}

impl Default for Selector {
    fn default() -> Selector {
        Selector::new()
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("sources", &self.len()).finish_non_exhaustive()
    }
}
