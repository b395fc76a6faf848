//! What threads of one process share: parking, wakers, the reactor, event streams, the selector and
//! the fair mutex of actors. Nobody waits for what has come; a future that is dropped leaves no
//! waker; and no waker is cloned, woken or dropped under a lock.

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};

use serde::{Deserialize, Serialize};

use crate::explore::{self, Bounds, Found, Place, Threads, explore};
use crate::ipc::deadline::Forever;
use crate::ipc::doorbell;
use crate::ipc::event_stream::{EventPublisher, StreamEvent};
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::reactor::{self, EventSource, Interest, WakerSet, WakerSlot};
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::ipc::wire::{CheckedReceiver, Failure};
use crate::memory::Region;
use crate::select::selector::Selector;
use crate::sys::threads::AtomicUsize;
use crate::sys::{self, RawSocket};
use crate::{actor, breaks, few, holds};

/// The waker of a thread that runs a task. Whoever clones, wakes or drops it must hold no lock.
struct UserWaker {
    task: usize,
    /// One more reference for each waker.
    wakers: Arc<()>,
}

impl UserWaker {
    fn of(task: usize, wakers: &Arc<()>) -> Waker {
        raw(Arc::new(UserWaker { task, wakers: wakers.clone() }))
    }
}

fn raw(waker: Arc<UserWaker>) -> Waker {
    // SAFETY: the table's functions take the reference that `into_raw` has kept.
    unsafe { Waker::new(Arc::into_raw(waker).cast(), &TABLE) }
}

fn outside_of_locks(what: &str) {
    if !std::thread::panicking() {
        assert_eq!(explore::locks_held(), 0, "a waker was {what} under a lock");
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        outside_of_locks("cloned");
        // SAFETY: see `raw`; the reference remains with the waker that is cloned.
        let waker = ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<UserWaker>()) });
        let waker = UserWaker { task: waker.task, wakers: waker.wakers.clone() };
        RawWaker::new(Arc::into_raw(Arc::new(waker)).cast(), &TABLE)
    },
    |data| {
        // SAFETY: see `raw`.
        let waker = unsafe { Arc::from_raw(data.cast::<UserWaker>()) };
        wake(&waker);
    },
    |data| {
        // SAFETY: see `raw`; the reference remains with the waker.
        let waker = ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<UserWaker>()) });
        wake(&waker);
    },
    |data| {
        outside_of_locks("dropped");
        // SAFETY: see `raw`.
        drop(unsafe { Arc::from_raw(data.cast::<UserWaker>()) });
    },
);

fn wake(waker: &UserWaker) {
    outside_of_locks("woken");
    explore::act(|state, _| {
        state.shared.woken.insert(waker.task);
        state.unblock(Place::Task(waker.task));
    });
}

/// Sleeps until a waker of this thread is woken.
fn sleep() {
    let task = explore::me();
    explore::block_at(Place::Task(task), |state, _| state.shared.woken.remove(&task).then_some(()));
}

/// Polls until there is a result, each time with another waker, as a task that moves about.
fn run_task<R>(wakers: &Arc<()>, mut poll: impl FnMut(&Waker) -> Poll<R>) -> R {
    loop {
        if let Poll::Ready(result) = poll(&UserWaker::of(explore::me(), wakers)) {
            return result;
        }
        sleep();
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Bell;

const SOCKET: RawSocket = RawSocket(1);

/// A peer's count of items, and this side's sleep flag.
#[derive(Clone)]
struct Side(Arc<Region>);

impl Side {
    fn new() -> Side {
        Side(Arc::new(Region::new(24).unwrap()))
    }

    /// The peer puts an item.
    fn put(&self, number: u64) {
        self.0.atomic(8).store(number, Ordering::SeqCst);
        if doorbell::claim(self.0.atomic(0)) {
            sys::send(SOCKET);
        }
    }

    fn take(&self) -> Option<u64> {
        let taken = self.0.atomic(16);
        loop {
            let before = taken.load(Ordering::SeqCst);
            if before >= self.0.atomic(8).load(Ordering::SeqCst) {
                return None;
            }
            let order = Ordering::SeqCst;
            if taken.compare_exchange(before, before + 1, order, order).is_ok() {
                return Some(before + 1);
            }
        }
    }
}

impl SleepFlag<Bell> for Side {
    fn arm(&self) {
        doorbell::arm(self.0.atomic(0));
    }

    fn disarm(&self) -> usize {
        usize::from(doorbell::disarm(self.0.atomic(0)))
    }

    fn message(&self, _: Bell) -> bool {
        true
    }
}

type Shared = Arc<SharedReceiver<Bell>>;

fn receiver() -> Shared {
    Arc::new(SharedReceiver::new(CheckedReceiver(SOCKET, PhantomData)))
}

/// Who waits for an item.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Thread,
    Task,
    /// Polls once, and is dropped, whether it was woken or not.
    Dropped,
}

/// Waits for one item; `None` if the peer is gone.
fn await_item(who: Who, receiver: &Shared, side: &Side, wakers: &Arc<()>) -> Option<u64> {
    let result = match who {
        Who::Thread => {
            receiver.wait(side, &Forever, || side.take()).map_err(|end| end.into_failed())
        }
        Who::Task => {
            let slot = receiver.register().unwrap();
            run_task(wakers, |waker| receiver.poll(side, Some((&slot, waker)), || side.take()))
        }
        Who::Dropped => {
            let slot = receiver.register().unwrap();
            let waker = UserWaker::of(explore::me(), wakers);
            // It leaves what has come to the others.
            let polled: Poll<Result<u64, Failure>> =
                receiver.poll(side, Some((&slot, &waker)), || None);
            assert!(polled.is_pending() || receiver.is_gone());
            return None;
        }
    };
    match result {
        Ok(item) => Some(item),
        Err(Failure::Gone) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// A peer puts `items`, and ends if `ends`. Each of those that wait gets one, if there are so many.
fn wait_for_items(bounds: Bounds, waiting: [Who; 2], items: u64, ends: bool) -> Found {
    explore(bounds, move || {
        let (receiver, side, wakers) = (receiver(), Side::new(), Arc::new(()));
        let got = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut threads: Threads = Vec::new();
        for who in waiting {
            let (receiver, side) = (receiver.clone(), side.clone());
            let (wakers, got) = (wakers.clone(), got.clone());
            threads.push(Box::new(move || {
                let item = await_item(who, &receiver, &side, &wakers);
                drop(wakers);
                got.lock().unwrap().extend(item);
            }));
        }
        // Last, so that the others wait before it puts anything, without an interruption.
        let peer = side.clone();
        threads.push(Box::new(move || {
            (1..=items).for_each(|number| peer.put(number));
            if ends {
                sys::end(SOCKET);
            }
        }));
        let check = move |_| {
            let mut got = std::mem::take(&mut *got.lock().unwrap());
            got.sort_unstable();
            assert!(got.into_iter().eq(1..=items), "an item was lost");
            assert_eq!(Arc::strong_count(&wakers), 1, "a waker was left behind");
            drop(receiver);
        };
        (threads, Box::new(check))
    })
}

/// Something that this process itself changes.
struct Source {
    items: AtomicUsize,
    wakers: Arc<WakerSet>,
}

impl Source {
    fn new() -> Arc<Source> {
        Arc::new(Source { items: AtomicUsize::new(0), wakers: Arc::default() })
    }

    fn take(&self) -> bool {
        let order = Ordering::SeqCst;
        let before = self.items.load(order);
        before > 0 && self.items.compare_exchange(before, before - 1, order, order).is_ok()
    }

    fn put(&self) {
        self.items.fetch_add(1, Ordering::SeqCst);
        self.wakers.wake();
    }
}

impl EventSource for Source {
    fn register(&self) -> io::Result<WakerSlot> {
        self.wakers.register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        reactor::check_and_set(interest, || self.items.load(Ordering::SeqCst) > 0)
    }
}

struct Sourced(Arc<Source>);

impl Waitable for Sourced {
    fn wait_source(&self) -> WaitSource {
        WaitSource::new(self.0.clone())
    }
}

/// Two tasks wait for one change, while a third is dropped.
fn wait_for_change(bounds: Bounds) -> Found {
    explore(bounds, || {
        let (source, wakers) = (Source::new(), Arc::new(()));
        let mut threads: Threads = Vec::new();
        for stays in [true, true, false] {
            let (source, wakers) = (source.clone(), wakers.clone());
            threads.push(Box::new(move || {
                let slot = source.register().unwrap();
                if stays {
                    run_task(&wakers, |waker| match source.is_ready(Some((&slot, waker))) {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    });
                } else {
                    for _ in 0..2 {
                        source.is_ready(Some((&slot, &UserWaker::of(explore::me(), &wakers))));
                    }
                }
            }));
        }
        let put = source.clone();
        threads.push(Box::new(move || put.put()));
        let check = move |_| {
            assert_eq!(Arc::strong_count(&wakers), 1, "a waker was left behind");
            assert!(!source.wakers.is_awaited());
        };
        (threads, Box::new(check))
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Number(u64);

impl StreamEvent for Number {
    fn missed(_: u64) -> Number {
        unreachable!("the buffer is long")
    }
}

/// A thread and a task read a stream to its end; a third reader goes away.
fn read_events(bounds: Bounds) -> Found {
    explore(bounds, || {
        let (publisher, wakers) = (EventPublisher::default(), Arc::new(()));
        let [mut thread, task, gone] = [(); 3].map(|()| publisher.subscribe());
        let here = wakers.clone();
        let threads: Threads = vec![
            Box::new(move || assert!(thread.by_ref().eq([Number(1), Number(2)]))),
            Box::new(move || {
                let source = task.wait_source().into_inner().unwrap();
                let slot = source.register().unwrap();
                let mut events = Vec::new();
                run_task(&here, |waker| {
                    while source.is_ready(Some((&slot, waker))) {
                        match task.try_next() {
                            Some(event) => events.push(event),
                            None => return Poll::Ready(()),
                        }
                    }
                    Poll::Pending
                });
                assert_eq!(events, [Number(1), Number(2)]);
            }),
            Box::new(move || drop(gone)),
            Box::new(move || {
                publisher.publish(&Number(1));
                publisher.publish(&Number(2));
            }),
        ];
        let check = move |_| assert_eq!(Arc::strong_count(&wakers), 1, "a waker was left behind");
        (threads, Box::new(check))
    })
}

/// Two sources get items, and `waiting` threads take them through one selector. Whoever takes the
/// last item of a source removes it.
fn select_items(bounds: Bounds, waiting: usize, items: usize) -> Found {
    explore(bounds, move || {
        let sources = [Source::new(), Source::new()];
        let selector = Arc::new(Selector::new());
        let keys: Arc<Vec<usize>> = Arc::new(
            sources.iter().map(|source| selector.add(&Sourced(source.clone())).unwrap()).collect(),
        );
        let taken = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let mut threads: Threads = Vec::new();
        for _ in 0..waiting {
            let (selector, keys) = (selector.clone(), keys.clone());
            let (sources, taken) = (sources.clone(), taken.clone());
            threads.push(Box::new(move || {
                while let Some(key) = selector.ready() {
                    let at = keys.iter().position(|other| *other == key).expect("it was added");
                    // With several threads, another one may have been faster.
                    if sources[at].take() && taken[at].fetch_add(1, Ordering::SeqCst) + 1 == items {
                        selector.remove(key);
                    }
                }
            }));
        }
        for source in &sources {
            let source = source.clone();
            threads.push(Box::new(move || (0..items).for_each(|_| source.put())));
        }
        let check = move |_| {
            for (source, taken) in sources.iter().zip(&*taken) {
                assert_eq!(taken.load(Ordering::SeqCst), items);
                assert!(!source.wakers.is_awaited(), "a waker was left behind");
            }
            assert!(selector.is_empty());
        };
        (threads, Box::new(check))
    })
}

#[test]
fn whoever_waits_for_a_peer_is_woken() {
    use Who::{Dropped, Task, Thread};
    holds("two threads", wait_for_items(few(2), [Thread, Thread], 2, false));
    for (what, waiting, items, ends) in [
        ("a thread and a task", [Thread, Task], 2, false),
        ("two tasks", [Task, Task], 2, false),
        ("a thread beside a dropped future", [Thread, Dropped], 1, false),
        ("a task beside a dropped future", [Task, Dropped], 1, false),
        ("an end", [Thread, Task], 1, true),
    ] {
        holds(what, wait_for_items(few(1), waiting, items, ends));
    }
}

#[test]
fn whoever_waits_in_this_process_is_woken() {
    holds("a change", wait_for_change(few(1)));
    holds("events", read_events(few(1)));
    holds("a selector", select_items(few(1), 1, 2));
    holds("a selector of two threads", select_items(few(1), 2, 1));
    holds("a fair mutex", actor::take_turns(few(2)));
}

#[test]
fn what_is_wrong_among_threads_is_found() {
    use Who::{Dropped, Task, Thread};
    let with = |mutation| Bounds { mutation, ..few(2) };
    for (mutation, waiting) in [
        // A leader sleeps although something came before its flag was set.
        ("parking.unchecked", [Thread, Thread]),
        // It steps down, and tells no follower.
        ("parking.silent", [Thread, Thread]),
        // A task leaves its waker after it has found a leader, which may step down before.
        ("parking.late-waker", [Thread, Task]),
        // It does not check after the flag was set.
        ("parking.unchecked-waker", [Task, Task]),
        // The reactor forgets that it has to be asked again.
        ("reactor.stays-armed", [Task, Task]),
    ] {
        breaks(mutation, wait_for_items(with(mutation), waiting, 2, false));
    }
    let mutation = "wakers.left-behind";
    breaks(mutation, wait_for_items(with(mutation), [Thread, Dropped], 1, false));
    for mutation in
        ["wakers.checked-once", "wakers.wake-locked", "wakers.drop-locked", "wakers.left-behind"]
    {
        breaks(mutation, wait_for_change(with(mutation)));
    }
    breaks("events.late-end", read_events(with("events.late-end")));
    breaks("selector.late", select_items(with("selector.late"), 1, 2));
    breaks("fair.unlocked", actor::take_turns(with("fair.unlocked")));
}
