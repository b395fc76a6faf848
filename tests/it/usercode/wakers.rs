//! Wakers whose `clone` and `drop` call into the crate, and wakers that are new at each poll.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use offspring::{Pool, Queue, Receiver, channel};

use super::double;

/// The callback that the waker runs whenever it is cloned, dropped or woken.
type Calls = dyn Fn() + Send + Sync;

struct CallsBack {
    calls: Arc<Calls>,
    count: Arc<AtomicUsize>,
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, |_| (), drop_waker);

fn raw(calls: Arc<CallsBack>) -> RawWaker {
    RawWaker::new(Arc::into_raw(calls).cast(), &VTABLE)
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: `raw` made the pointer of an `Arc`, which this call leaves to its waker.
    let own = ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<CallsBack>()) });
    own.count.fetch_add(1, Ordering::SeqCst);
    (own.calls)();
    raw(Arc::clone(&own))
}

unsafe fn wake(data: *const ()) {
    // SAFETY: as in `drop_waker`.
    unsafe { drop_waker(data) };
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: `raw` made the pointer of an `Arc`, and its waker ends here.
    let own = unsafe { Arc::from_raw(data.cast::<CallsBack>()) };
    (own.calls)();
}

/// Polls twice with wakers that call `calls`: the second one replaces the first.
fn poll_twice<F: Future>(future: F, calls: impl Fn() + Send + Sync + 'static) {
    let (mut future, calls): (_, Arc<Calls>) = (pin!(future), Arc::new(calls));
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let calls = Arc::new(CallsBack { calls: calls.clone(), count: count.clone() });
        // SAFETY: the functions of the table keep the contract of a `RawWaker`.
        let waker = unsafe { Waker::from_raw(raw(calls)) };
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(count.load(Ordering::SeqCst) >= 2, "the wakers were cloned");
}

#[offspring::worker]
fn wait_for(go: Receiver<()>) -> u64 {
    let _ = go.recv();
    1
}

#[offspring::test(timeout = "30s")]
fn a_waker_may_call_back_into_what_it_waits_for() {
    let pool = Arc::new(Pool::new(1).unwrap());
    let (go, wait) = channel().unwrap();
    let task = Arc::new(pool.submit(wait_for::new(wait)).unwrap());
    let calls = (pool.clone(), task.clone());
    poll_twice(task.join_async(), move || {
        assert!(!calls.1.is_finished());
        assert_eq!(calls.0.workers(), 1);
    });
    drop(go);
    eventually_ready(&pool);

    let (go, wait) = channel::<()>().unwrap();
    let process = Arc::new(wait_for::spawn(wait).unwrap());
    let calls = process.clone();
    poll_twice(process.join_async(), move || assert!(calls.is_alive()));
    drop(go);
    process.join().unwrap();

    let queue = Queue::<u32>::bounded(1).unwrap();
    let calls = queue.clone();
    poll_twice(queue.get_async(), move || assert_eq!(calls.len().unwrap(), 0));
    queue.put(1).unwrap();
    let calls = queue.clone();
    poll_twice(queue.put_async(2), move || assert_eq!(calls.len().unwrap(), 1));

    let (sender, receiver) = channel::<u32>().unwrap();
    let receiver = Arc::new(receiver);
    let calls = receiver.clone();
    poll_twice(receiver.recv_async(), move || assert!(calls.try_recv().is_err()));
    drop(sender);
}

/// Returns when the pool has nothing to do.
fn eventually_ready(pool: &Pool) {
    assert_eq!(pool.run(double::new(4)).unwrap(), 8);
}

struct Counted;

impl Wake for Counted {
    fn wake(self: Arc<Self>) {}
}

#[offspring::test(timeout = "30s")]
fn wakers_of_earlier_polls_do_not_pile_up() {
    let pool = Pool::new(1).unwrap();
    let (go, wait) = channel::<()>().unwrap();
    let task = pool.submit(wait_for::new(wait)).unwrap();
    let mut future = pin!(task.join_async());
    let wakers: Vec<_> = (0..1000).map(|_| Arc::new(Counted)).collect();
    for waker in &wakers {
        let waker = Waker::from(waker.clone());
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let kept = wakers.iter().filter(|waker| Arc::strong_count(waker) > 1).count();
    assert_eq!(kept, 1);
    drop(go);
    let waker = Waker::noop();
    crate::support::eventually("it has ended", || {
        matches!(future.as_mut().poll(&mut Context::from_waker(waker)), Poll::Ready(Ok(1)))
    });
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("the waker");
    }
}

#[offspring::worker]
fn put_and_send(queue: Queue<u32>, sender: offspring::Sender<u32>, go: Receiver<()>) {
    let _ = go.recv();
    queue.put(1).unwrap();
    sender.send(2).unwrap();
}

/// Polls with a waker that panics when it is woken.
fn poll_to_panic<F: Future>(future: &mut std::pin::Pin<&mut F>) -> bool {
    let waker = Waker::from(Arc::new(Panics));
    future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
}

#[offspring::test(timeout = "30s")]
fn a_waker_that_panics_harms_nobody_else() {
    let (queue, other) = (Queue::<u32>::unbounded().unwrap(), Queue::<u32>::unbounded().unwrap());
    let (sender, receiver) = channel::<u32>().unwrap();
    let (go, wait) = channel::<()>().unwrap();
    let process = put_and_send::spawn(queue.clone(), sender, wait).unwrap();
    let pool = Pool::new(1).unwrap();
    let (run, held) = channel::<()>().unwrap();
    let task = pool.submit(wait_for::new(held)).unwrap();
    let (mut got, mut heard) = (pin!(queue.get_async()), pin!(receiver.recv_async()));
    let (mut own, mut joined) = (pin!(other.get_async()), pin!(process.join_async()));
    let mut ended = pin!(task.join_async());
    assert!(poll_to_panic(&mut got) && poll_to_panic(&mut heard) && poll_to_panic(&mut own));
    assert!(poll_to_panic(&mut joined) && poll_to_panic(&mut ended));
    // The put is done, whatever the waker does.
    other.put(3).unwrap();
    drop((go, run));
    // The threads that woke them go on.
    assert_eq!(pollster::block_on(own).unwrap(), 3);
    assert_eq!(pollster::block_on(got).unwrap(), 1);
    assert_eq!(pollster::block_on(heard).unwrap(), 2);
    pollster::block_on(joined).unwrap();
    assert_eq!(pollster::block_on(ended).unwrap(), 1);
    assert_eq!(pool.run(double::new(4)).unwrap(), 8);
}
