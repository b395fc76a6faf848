//! Waiting without a thread: the wakers of each source, and the one thread that waits for sockets.
//!
//! Each source that tasks and selectors can wait for has a [`WakerSet`]. A waiter registers there
//! once ([`WakerSlot`]), and leaves a [`Waker`] in its slot at each check that finds the source not
//! ready. A waker is woken once; its owner then checks again. Code that changes the source takes
//! all wakers out under the set's lock, and wakes them after it has released the lock.
//!
//! A change made by another process arrives here as a packet on a socket. The sockets of all
//! receivers that something waits for are in the epoll set of one service thread, the *reactor*,
//! which the first such registration starts. It reads no messages. It only wakes, and the owners of
//! the wakers take the messages on their own threads. A socket is in the epoll set from the first
//! slot to the last, and is armed only after a check that finds nothing. So a receiver with a
//! leading thread, or one that nothing waits for, costs nothing.
//!
//! No wake-up is lost, because a waker is set before the last check ([`WakerSlot::set`]), and
//! changes are published before the wakers are taken.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
#[cfg(feature = "async")]
use std::task::Poll;
use std::task::Waker;

use crate::diagnostics;
use crate::failpoints;
use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire;
use crate::sys::threads::{AtomicU64, AtomicUsize, Mutex};
use crate::sys::{self, Poller, RawSocket, Service, lock};

/// The wakers of one source. `default()` is for a source that only this process changes.
#[derive(Debug, Default)]
pub(crate) struct WakerSet {
    slots: Mutex<SlotTable>,
    /// How many slots hold a waker, so that frequent changes need no lock. Changes only under the
    /// lock of `slots`.
    awaited: AtomicUsize,
    /// The socket of the receiver that this set belongs to.
    socket: Option<RawSocket>,
}

#[derive(Debug, Default)]
struct SlotTable {
    next: u64,
    wakers: BTreeMap<u64, Option<Waker>>,
    registration: Option<SocketRegistration>,
    closed: bool,
}

/// The socket's entry in the reactor.
#[derive(Debug)]
struct SocketRegistration {
    key: u64,
    armed: bool,
}

impl WakerSet {
    /// Makes the set of a receiver with this socket. The receiver calls [`close`](WakerSet::close)
    /// before it closes the socket.
    pub(crate) fn of(socket: Option<RawSocket>) -> Arc<WakerSet> {
        Arc::new(WakerSet {
            slots: Mutex::new(SlotTable::default()),
            awaited: AtomicUsize::new(0),
            socket,
        })
    }

    /// Returns a new, empty slot.
    pub(crate) fn register(self: &Arc<WakerSet>) -> io::Result<WakerSlot> {
        let mut slots = lock(&self.slots);
        if let (Some(socket), None, false) = (self.socket, &slots.registration, slots.closed) {
            slots.registration = Some(SocketRegistration {
                key: Reactor::start()?.register(socket, self)?,
                armed: false,
            });
        }
        let number = slots.next;
        slots.next += 1;
        slots.wakers.insert(number, None);
        Ok(WakerSlot { set: self.clone(), number, _kept: None })
    }

    /// Returns whether any slot holds a waker.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) > 0
    }

    /// Wakes all wakers. The caller must hold no lock, because a waker may run an executor's code.
    pub(crate) fn wake(&self) {
        if self.is_awaited() {
            let wakers = self.take_wakers(&mut lock(&self.slots));
            wake_all(wakers);
        }
    }

    /// Wakes the `count` wakers whose slots were registered first, like [`wake`](WakerSet::wake).
    #[cfg(feature = "async")]
    pub(crate) fn wake_first(&self, count: u64) {
        if !self.is_awaited() {
            return;
        }
        let mut slots = lock(&self.slots);
        let set = slots.wakers.values_mut().filter(|slot| slot.is_some());
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let wakers: Vec<_> = set.take(count).filter_map(Option::take).collect();
        self.awaited.fetch_sub(wakers.len(), Ordering::SeqCst);
        drop(slots);
        wake_all(wakers);
    }

    fn take_wakers(&self, slots: &mut SlotTable) -> Vec<Waker> {
        if failpoints::is_mutated("wakers.wake-locked") {
            slots.wakers.values().flatten().for_each(Waker::wake_by_ref);
        }
        self.awaited.store(0, Ordering::SeqCst);
        slots.wakers.values_mut().filter_map(Option::take).collect()
    }

    /// Called by the reactor.
    fn socket_is_ready(&self) {
        let wakers = {
            let mut slots = lock(&self.slots);
            // The poller reports an armed socket once.
            if let Some(registration) = &mut slots.registration {
                registration.armed = failpoints::is_mutated("reactor.stays-armed");
            }
            self.take_wakers(&mut slots)
        };
        wake_all(wakers);
    }

    /// Has the reactor wake all wakers at the next packet, or at the end of the channel, once.
    pub(crate) fn arm(&self) {
        let mut slots = lock(&self.slots);
        if let (Some(socket), Some(registration)) = (self.socket, &mut slots.registration) {
            if !std::mem::replace(&mut registration.armed, true) {
                if let Some(reactor) = REACTOR.get() {
                    reactor.poller.arm(socket, registration.key);
                }
            }
        }
    }

    /// Returns whether the receiver has a packet, or is at its end.
    pub(crate) fn has_packet(&self) -> bool {
        self.socket.is_some_and(sys::has_packet)
    }

    /// Ends the set: the reactor forgets the socket, and all wakers are woken, so that their owners
    /// notice the end.
    pub(crate) fn close(&self) {
        let mut slots = lock(&self.slots);
        slots.closed = true;
        self.deregister(&mut slots);
        let wakers = self.take_wakers(&mut slots);
        drop(slots);
        wake_all(wakers);
    }

    fn deregister(&self, slots: &mut SlotTable) {
        let (socket, registration) = (self.socket, slots.registration.take());
        if let (Some(socket), Some(registration), Some(reactor)) =
            (socket, registration, REACTOR.get())
        {
            reactor.deregister(socket, registration.key);
        }
    }
}

/// Wakes all of them. The caller must hold no lock.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        // A bug in one executor must not keep the others from being woken.
        if let Err(error) = wire::catch_panic("waker", || waker.wake()) {
            diagnostics::error("offspring::reactor", format_args!("{error}"));
        }
    }
}

/// A place for one waker in a [`WakerSet`]. Dropping the slot drops its waker. After the last slot,
/// the reactor forgets the socket.
#[derive(Debug)]
pub(crate) struct WakerSlot {
    set: Arc<WakerSet>,
    number: u64,
    _kept: Option<Box<dyn Held>>,
}

/// Something that a slot keeps alive.
pub(crate) trait Held: std::fmt::Debug + Send + Sync {}

impl WakerSlot {
    /// Returns the same slot, which drops `held` when it is dropped.
    pub(crate) fn with(mut self, held: impl Held + 'static) -> WakerSlot {
        self._kept = Some(Box::new(held));
        self
    }

    /// Has `waker` woken by the next change. The caller must check once more afterwards: a change
    /// that came before this call wakes nothing. The caller must hold no lock, because cloning and
    /// dropping a waker run an executor's code.
    pub(crate) fn set(&self, waker: &Waker) {
        let is_set = match lock(&self.set.slots).wakers.get(&self.number) {
            Some(Some(before)) => before.will_wake(waker),
            Some(None) => false,
            None => return,
        };
        if is_set {
            return;
        }
        let waker = waker.clone();
        let mut slots = lock(&self.set.slots);
        let replaced = slots.wakers.insert(self.number, Some(waker)).flatten();
        if replaced.is_none() {
            self.set.awaited.fetch_add(1, Ordering::SeqCst);
        }
        if failpoints::is_mutated("wakers.drop-locked") {
            drop(replaced);
            return;
        }
        drop(slots);
        drop(replaced);
    }
}

impl Drop for WakerSlot {
    fn drop(&mut self) {
        let mut slots = lock(&self.set.slots);
        if failpoints::is_mutated("wakers.left-behind") {
            return;
        }
        let waker = slots.wakers.remove(&self.number).flatten();
        if waker.is_some() {
            self.set.awaited.fetch_sub(1, Ordering::SeqCst);
        }
        if slots.wakers.is_empty() {
            self.set.deregister(&mut slots);
        }
        drop(slots);
        drop(waker);
    }
}

/// Awaits what `poll` returns.
///
/// Calls `poll` without an [`Interest`] first, and registers a slot only if that call finds
/// nothing, because most sources are ready already.
#[cfg(feature = "async")]
pub(crate) async fn until<R>(
    register: impl Fn() -> io::Result<WakerSlot>,
    mut poll: impl FnMut(Interest<'_>) -> Poll<R>,
) -> io::Result<R> {
    let mut slot = None;
    std::future::poll_fn(|context| {
        if slot.is_none() {
            if let Poll::Ready(result) = poll(None) {
                return Poll::Ready(Ok(result));
            }
            slot = Some(register()?);
        }
        poll(slot.as_ref().map(|slot| (slot, context.waker()))).map(Ok)
    })
    .await
}

/// Lets other tasks run. For a task that was woken, and then lost the race to another task.
#[cfg(feature = "async")]
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Something that a selector can wait for.
pub(crate) trait EventSource: Send + Sync {
    fn register(&self) -> io::Result<WakerSlot>;

    /// Returns whether an operation on it would return at once. If not, the waker of `interest` is
    /// woken when that may have changed.
    fn is_ready(&self, interest: Interest<'_>) -> bool;
}

/// The slot in which a check that finds nothing leaves a waker, and that waker. `None` only checks.
pub(crate) type Interest<'a> = Option<(&'a WakerSlot, &'a Waker)>;

/// Checks. If that finds nothing, sets the waker and checks once more. So the second check sees a
/// change, or the change finds the waker. The waker's own code runs between the two locks, not
/// under one.
pub(crate) fn check_and_set(interest: Interest<'_>, mut check: impl FnMut() -> bool) -> bool {
    check()
        || interest.is_some_and(|(slot, waker)| {
            slot.set(waker);
            !failpoints::is_mutated("wakers.checked-once") && check()
        })
}

/// The thread that waits for the sockets of all receivers that something in this process waits for.
struct Reactor {
    poller: Poller,
    next_key: AtomicU64,
    registered: WeakMap<u64, WakerSet>,
}

static REACTOR: Service<Reactor> = Service::new("offspring-reactor");

impl Reactor {
    fn start() -> io::Result<&'static Reactor> {
        REACTOR.start(|| {
            let reactor = Reactor {
                poller: Poller::new()?,
                next_key: AtomicU64::new(0),
                registered: WeakMap::new(),
            };
            Ok((reactor, Reactor::run))
        })
    }

    fn run(&self) {
        loop {
            for key in self.poller.wait(None) {
                if let Some(wakers) = self.registered.get(&key) {
                    wakers.socket_is_ready();
                }
            }
        }
    }

    /// Adds a socket, disarmed, and returns its key.
    fn register(&self, socket: RawSocket, wakers: &Arc<WakerSet>) -> io::Result<u64> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.poller.add_disarmed(socket, key)?;
        self.registered.insert(key, Arc::downgrade(wakers));
        Ok(key)
    }

    fn deregister(&self, socket: RawSocket, key: u64) {
        self.poller.remove(socket);
        self.registered.remove(&key);
    }
}

/// Waits until an operation on `source` would return at once.
#[cfg(feature = "async")]
pub(crate) async fn ready(source: &dyn EventSource) -> io::Result<()> {
    let poll = |interest: Interest<'_>| {
        if source.is_ready(interest) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    };
    until(|| source.register(), poll).await
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a bug in an executor");
        }
    }

    #[test]
    fn each_waker_is_woken_once_and_none_of_a_seat_that_was_given_up() {
        let waiters = Arc::<WakerSet>::default();
        let (stays, leaves, silent) =
            (waiters.register().unwrap(), waiters.register().unwrap(), waiters.register().unwrap());
        let counts: [Arc<Count>; 2] = Default::default();
        stays.set(&counts[0].clone().into());
        stays.set(&counts[0].clone().into());
        leaves.set(&counts[1].clone().into());
        drop(leaves);
        waiters.wake();
        waiters.wake();
        assert_eq!(counts.each_ref().map(|count| count.0.load(Ordering::SeqCst)), [1, 0]);
        // Wakers that are no longer needed have been dropped.
        assert_eq!(counts.each_ref().map(Arc::strong_count), [1, 1]);
        drop((stays, silent));
    }

    #[cfg(feature = "async")]
    #[test]
    fn those_that_wait_longest_are_woken_first_and_keep_their_place() {
        let waiters = Arc::<WakerSet>::default();
        let slots = [(); 3].map(|()| waiters.register().unwrap());
        let counts: [Arc<Count>; 3] = Default::default();
        // The order in which wakers are set does not matter.
        for n in [2, 0, 1] {
            slots[n].set(&counts[n].clone().into());
        }
        let woken = || counts.each_ref().map(|count| count.0.load(Ordering::SeqCst));
        waiters.wake_first(1);
        assert_eq!(woken(), [1, 0, 0]);
        waiters.wake_first(1);
        assert_eq!(woken(), [1, 1, 0]);
        slots[0].set(&counts[0].clone().into());
        waiters.wake_first(1);
        assert_eq!(woken(), [2, 1, 0]);
        waiters.wake_first(5);
        assert_eq!(woken(), [2, 1, 1]);
        assert!(!waiters.is_awaited());
    }

    #[test]
    fn a_waker_that_panics_does_not_keep_the_news_from_the_others() {
        let waiters = Arc::<WakerSet>::default();
        let (first, second) = (waiters.register().unwrap(), waiters.register().unwrap());
        let count = Arc::new(Count::default());
        first.set(&Arc::new(Panics).into());
        second.set(&count.clone().into());
        waiters.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
