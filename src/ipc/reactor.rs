//! Waiting without a thread: who wants to be told of a thing, and the one thread that tells of lines.
//!
//! What can be waited for has [`WakerSet`]. One who waits takes a seat there ([`WakerSlot`]), and leaves a
//! [`Waker`] on it each time that he has looked in vain; he is woken once, and looks again. Whoever changes the
//! thing wakes all that left one, under no lock.
//!
//! A line changes by what another process does: all that this one gets of it is a packet on a socket. So the
//! sockets of lines that somebody waits for are watched by one service thread, started by the first such wait.
//! It reads nothing and looks at nothing: it wakes. A socket is watched from the first seat to the last, and
//! armed only after a look in vain, so a line that is told, or that nobody waits for, costs nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
#[cfg(feature = "async")]
use std::task::Poll;
use std::task::Waker;

use crate::ipc::weak_map::WeakMap;
use crate::ipc::wire;
use crate::sys::{self, Poller, RawSocket, Service, lock};

/// Those who want to be told of one thing. By default, of something that this process itself changes.
#[derive(Debug, Default)]
pub(crate) struct WakerSet {
    list: Mutex<List>,
    /// So many seats have a waker on them, for those who change things often. Changed under the list's lock.
    awaited: AtomicUsize,
    /// Of the line that this is about.
    socket: Option<RawSocket>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    seats: BTreeMap<u64, Option<Waker>>,
    watched: Option<Watched>,
    closed: bool,
}

/// How the service knows the socket.
#[derive(Debug)]
struct Watched {
    key: u64,
    armed: bool,
}

impl WakerSet {
    /// Of a line with this socket; it calls [`close`](WakerSet::close) before it closes that.
    pub(crate) fn of(socket: Option<RawSocket>) -> Arc<WakerSet> {
        Arc::new(WakerSet {
            list: Mutex::new(List::default()),
            awaited: AtomicUsize::new(0),
            socket,
        })
    }

    /// Takes a seat.
    pub(crate) fn register(self: &Arc<WakerSet>) -> io::Result<WakerSlot> {
        let mut list = lock(&self.list);
        if let (Some(socket), None, false) = (self.socket, &list.watched, list.closed) {
            list.watched = Some(Watched {
                key: Reactor::start()?.register(socket, self)?,
                armed: false,
            });
        }
        let seat = list.next;
        list.next += 1;
        list.seats.insert(seat, None);
        Ok(WakerSlot {
            waiters: self.clone(),
            seat,
            _with: None,
        })
    }

    /// Whether somebody left a waker.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) > 0
    }

    /// Wakes all that left a waker. The caller holds no lock: what it runs may be an executor's.
    pub(crate) fn wake(&self) {
        if self.is_awaited() {
            let wakers = self.wakers(&mut lock(&self.list));
            wake_all(wakers);
        }
    }

    fn wakers(&self, list: &mut List) -> Vec<Waker> {
        self.awaited.store(0, Ordering::SeqCst);
        list.seats.values_mut().filter_map(Option::take).collect()
    }

    /// The line's socket has something to read.
    fn socket_is_ready(&self) {
        let wakers = {
            let mut list = lock(&self.list);
            if let Some(watched) = &mut list.watched {
                watched.armed = false;
            }
            self.wakers(&mut list)
        };
        wake_all(wakers);
    }

    /// From now on, until it has happened once, a packet or the end of the line wakes.
    pub(crate) fn arm(&self) {
        let mut list = lock(&self.list);
        if let (Some(socket), Some(watched)) = (self.socket, &mut list.watched) {
            if !std::mem::replace(&mut watched.armed, true) {
                REACTOR.wait().poller.arm(socket, watched.key);
            }
        }
    }

    /// Whether the line has something to hear.
    pub(crate) fn is_rung(&self) -> bool {
        self.socket.is_some_and(sys::has_packet)
    }

    /// The thing is no more. Wakes, so that each finds out.
    pub(crate) fn close(&self) {
        let mut list = lock(&self.list);
        list.closed = true;
        self.unwatch(&mut list);
        let wakers = self.wakers(&mut list);
        drop(list);
        wake_all(wakers);
    }

    fn unwatch(&self, list: &mut List) {
        if let (Some(socket), Some(watched)) = (self.socket, list.watched.take()) {
            REACTOR.wait().deregister(socket, watched.key);
        }
    }
}

/// Wakes all; the caller holds no lock.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        // A mistake in one executor must not keep the news from the others.
        if let Err(error) = wire::catch_panic("waker", || waker.wake()) {
            log::error!(target: "offspring::reactor", "{error}");
        }
    }
}

/// A seat among the [`WakerSet`] of one thing. Dropping it gives the seat up, and with the last one the watch.
#[derive(Debug)]
pub(crate) struct WakerSlot {
    waiters: Arc<WakerSet>,
    seat: u64,
    _with: Option<Box<dyn Held>>,
}

/// What lasts as long as a seat.
pub(crate) trait Held: std::fmt::Debug + Send + Sync {}

impl WakerSlot {
    /// The same seat, which ends what it holds when it is given up.
    pub(crate) fn with(mut self, held: impl Held + 'static) -> WakerSlot {
        self._with = Some(Box::new(held));
        self
    }

    /// Has this waker woken by the next change. Who calls it looks afterwards, once more.
    pub(crate) fn set(&self, waker: &Waker) {
        let mut list = lock(&self.waiters.list);
        let Some(seat) = list.seats.get_mut(&self.seat) else {
            return;
        };
        let before = match seat {
            Some(before) if before.will_wake(waker) => None,
            Some(_) => seat.replace(waker.clone()),
            None => {
                self.waiters.awaited.fetch_add(1, Ordering::SeqCst);
                seat.replace(waker.clone())
            }
        };
        drop(list);
        // A waker's end is an executor's code too.
        drop(before);
    }
}

impl Drop for WakerSlot {
    fn drop(&mut self) {
        let mut list = lock(&self.waiters.list);
        let waker = list.seats.remove(&self.seat).flatten();
        if waker.is_some() {
            self.waiters.awaited.fetch_sub(1, Ordering::SeqCst);
        }
        if list.seats.is_empty() {
            self.waiters.unwatch(&mut list);
        }
        drop(list);
        drop(waker);
    }
}

/// Awaits what `look` gives. It is called with a seat once it has given nothing without one: most waits are over before
/// they begin.
#[cfg(feature = "async")]
pub(crate) async fn until<R>(
    sit: impl Fn() -> io::Result<WakerSlot>,
    mut look: impl FnMut(Interest<'_>) -> Poll<R>,
) -> io::Result<R> {
    let mut waiter = None;
    std::future::poll_fn(|context| {
        if waiter.is_none() {
            if let Poll::Ready(result) = look(None) {
                return Poll::Ready(Ok(result));
            }
            waiter = Some(sit()?);
        }
        look(waiter.as_ref().map(|waiter| (waiter, context.waker()))).map(Ok)
    })
    .await
}

/// Lets other tasks run. For one that was told, and then found that another was faster.
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

/// Something that a selector waits for.
pub(crate) trait EventSource: Send + Sync {
    fn register(&self) -> io::Result<WakerSlot>;

    /// Whether an operation on it would end at once. If not, the waker on the seat is woken when that may change.
    fn is_ready(&self, seat: Interest<'_>) -> bool;
}

/// Where a look in vain leaves a waker; `None` just looks.
pub(crate) type Interest<'a> = Option<(&'a WakerSlot, &'a Waker)>;

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

    /// Adds a socket, not armed, and returns its key.
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

/// Waits until an operation on it would end at once.
#[cfg(feature = "async")]
pub(crate) async fn ready(target: &dyn EventSource) -> io::Result<()> {
    let look = |seat: Interest<'_>| {
        if target.is_ready(seat) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    };
    until(|| target.register(), look).await
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
            panic!("an executor's mistake");
        }
    }

    #[test]
    fn each_waker_is_woken_once_and_none_of_a_seat_that_was_given_up() {
        let waiters = Arc::<WakerSet>::default();
        let (stays, leaves, silent) = (
            waiters.register().unwrap(),
            waiters.register().unwrap(),
            waiters.register().unwrap(),
        );
        let counts: [Arc<Count>; 2] = Default::default();
        stays.set(&counts[0].clone().into());
        stays.set(&counts[0].clone().into());
        leaves.set(&counts[1].clone().into());
        drop(leaves);
        waiters.wake();
        waiters.wake();
        assert_eq!(
            counts
                .each_ref()
                .map(|count| count.0.load(Ordering::SeqCst)),
            [1, 0]
        );
        // Nobody holds a waker that is not needed any more.
        assert_eq!(counts.each_ref().map(Arc::strong_count), [1, 1]);
        drop((stays, silent));
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
