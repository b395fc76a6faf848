//! `Selector`: a set of things to wait for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::error::WaitError;
use crate::ipc::reactor::{EventSource, WakerSlot};
use crate::ipc::waitable::Waitable;
use crate::sys::{self, lock};

/// Waits for many things at once: processes that end, receivers, connections and queues that have something, in any
/// mixture.
///
/// Dropping it ends the waiting and nothing else. It keeps nothing alive: a source that is dropped, or moved to
/// another process, while it is here counts as ready until it is [`remove`](Selector::remove)d.
///
/// [`ready`](Selector::ready) says which one is ready, and takes nothing from it. Ready is a state ([`Waitable`]): a
/// source that still is ready is told again, after the others had their turn. So remove what is at its end.
/// Sources can be added and removed at any time, also by one thread while another waits.
///
/// There is no thread a source, and no polling: thousands of idle sources cost nothing, and a wait costs as much as
/// there are sources that changed. When several threads wait at one selector, two of them may be told of one source.
///
/// ```
/// use offspring::{Selector, Sender, TryRecvError, channel};
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
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<usize, Arc<Entry>>,
    /// To be looked at, each once: those that were woken, those that were ready, and new ones. All others were not
    /// ready when last looked at, and wake us. Nobody sleeps while one is here.
    queue: VecDeque<usize>,
    next: usize,
}

struct Entry {
    key: usize,
    /// `None`: was moved away before it came here.
    source: Option<Weak<dyn EventSource>>,
    waiter: Option<WakerSlot>,
    waker: Waker,
    /// Whether it is in the queue; changed under the state's lock.
    queued: AtomicBool,
}

/// Wakes a selector for one of its entries.
struct Bell {
    shared: Weak<Shared>,
    key: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut state = lock(&shared.state);
        if let Some(entry) = state.entries.get(&self.key).cloned() {
            shared.enqueue(&mut state, &entry);
        }
    }
}

impl Shared {
    fn enqueue(&self, state: &mut State, entry: &Entry) {
        if !entry.queued.swap(true, Ordering::Relaxed) {
            state.queue.push_back(entry.key);
            self.changed.notify_one();
        }
    }
}

impl Entry {
    /// Called under no lock.
    fn is_ready(&self) -> bool {
        let source = self.source.as_ref().and_then(Weak::upgrade);
        source.is_none_or(|source| {
            source.is_ready(self.waiter.as_ref().map(|waiter| (waiter, &self.waker)))
        })
    }
}

impl Selector {
    /// An empty selector.
    #[must_use]
    pub fn new() -> Selector {
        Selector {
            shared: Arc::default(),
        }
    }

    /// Waits for this one too, from now on: its key, which this selector has never given before.
    ///
    /// # Errors
    ///
    /// [`WaitError::Io`] if the system does not let a channel be watched: no descriptor or no memory is left.
    pub fn add(&self, source: &(impl Waitable + ?Sized)) -> Result<usize, WaitError> {
        let source = source.wait_source().into_inner();
        let waiter = source
            .as_ref()
            .map(|source| source.register())
            .transpose()
            .map_err(WaitError::Io)?;
        let mut state = lock(&self.shared.state);
        let key = state.next;
        state.next += 1;
        let bell = Bell {
            shared: Arc::downgrade(&self.shared),
            key,
        };
        let entry = Arc::new(Entry {
            key,
            source: source.as_ref().map(Arc::downgrade),
            waiter,
            waker: Arc::new(bell).into(),
            queued: AtomicBool::new(false),
        });
        state.entries.insert(key, entry.clone());
        self.shared.enqueue(&mut state, &entry);
        Ok(key)
    }

    /// Waits for this one no more. Does nothing for a key that is not here.
    pub fn remove(&self, key: usize) {
        let mut state = lock(&self.shared.state);
        let removed = state.entries.remove(&key);
        if state.entries.is_empty() {
            // A wait for nothing ends.
            self.shared.changed.notify_all();
        }
        drop(state);
        drop(removed);
    }

    /// Waits until a source is ready, and gives its key; `None` if there is no source.
    pub fn ready(&self) -> Option<usize> {
        self.ready_until(None)
    }

    /// The key of a source that is ready now, if there is one. It looks at every source.
    pub fn try_ready(&self) -> Option<usize> {
        self.ready_until(Some(Instant::now()))
    }

    /// As [`ready`](Selector::ready), but waits at most this long; `None` if none is ready then.
    pub fn ready_timeout(&self, timeout: Duration) -> Option<usize> {
        // A deadline that the clock cannot express is none.
        self.ready_until(Instant::now().checked_add(timeout))
    }

    /// How many sources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared.state).entries.len()
    }

    /// Whether there is no source.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn ready_until(&self, deadline: Option<Instant>) -> Option<usize> {
        loop {
            if let Some(key) = self.queued() {
                return Some(key);
            }
            let state = lock(&self.shared.state);
            if state.entries.is_empty() {
                return None;
            }
            if !state.queue.is_empty() {
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                drop(state);
                return self.any();
            }
            drop(sys::wait(&self.shared.changed, state, deadline));
        }
    }

    /// Looks at those in the queue until one is ready.
    fn queued(&self) -> Option<usize> {
        // One that is woken again and again must not keep this from looking at the clock.
        for _ in 0..=self.len() {
            let mut state = lock(&self.shared.state);
            let key = state.queue.pop_front()?;
            let Some(entry) = state.entries.get(&key).cloned() else {
                continue;
            };
            entry.queued.store(false, Ordering::Relaxed);
            drop(state);
            if self.look(&entry) {
                return Some(key);
            }
        }
        None
    }

    /// Looks at all: one may have become ready, and its waker still be on its way.
    fn any(&self) -> Option<usize> {
        let entries: Vec<_> = lock(&self.shared.state).entries.values().cloned().collect();
        entries
            .iter()
            .find(|entry| self.look(entry))
            .map(|entry| entry.key)
    }

    /// Whether it is ready; then it will be looked at again.
    fn look(&self, entry: &Entry) -> bool {
        if !entry.is_ready() {
            return false;
        }
        let mut state = lock(&self.shared.state);
        let here = state.entries.contains_key(&entry.key);
        if here {
            self.shared.enqueue(&mut state, entry);
        }
        here
    }
}

impl Default for Selector {
    fn default() -> Selector {
        Selector::new()
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector")
            .field("sources", &self.len())
            .finish_non_exhaustive()
    }
}
