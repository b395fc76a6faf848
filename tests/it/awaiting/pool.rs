//! Tasks of a pool, awaited.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use offspring::pool::{SubmitError, TaskError, TaskOptions, TrySubmitError};
use offspring::shared::AtomicU64;
use offspring::{Pool, Receiver, channel};

use super::{moment, on_tokio, rounds};
use crate::support::eventually;

#[offspring::worker]
fn double(n: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(n % 3));
    2 * n
}

#[offspring::worker]
fn never() {
    loop {
        std::thread::park();
    }
}

#[offspring::worker]
fn crash() {
    std::process::abort();
}

#[offspring::test(timeout = "60s")]
fn hundreds_are_awaited_at_once() {
    let pool = Pool::new(2).unwrap();
    let sum = on_tokio(async {
        let tasks: Vec<_> = (0..300)
            .map(|n| tokio::spawn(pool.submit(double::new(n)).unwrap().into_future()))
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap().unwrap();
        }
        sum
    });
    assert_eq!(sum, 299 * 300);
}

#[offspring::test(timeout = "60s")]
fn another_executor_does_as_well() {
    let pool = Pool::new(2).unwrap();
    futures_executor::block_on(async {
        for n in 0..100 {
            assert_eq!(pool.submit(double::new(n)).unwrap().await.unwrap(), 2 * n);
        }
    });
}

#[offspring::test(timeout = "60s")]
fn a_future_that_is_dropped_ends_its_task_if_told_to() {
    let pool = Pool::new(1).unwrap();
    on_tokio(async {
        let task = pool.submit(never::new()).unwrap().cancel_on_drop();
        let late = tokio::time::timeout(Duration::from_millis(50), task).await;
        assert!(late.is_err());
        let task = pool.submit(never::new()).unwrap().cancel_on_drop();
        let request = tokio::spawn(task.into_future());
        eventually("it runs", || pool.stats().workers[0].task.is_some());
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert_eq!(pool.submit(double::new(4)).unwrap().await.unwrap(), 8);
    });
    assert_eq!(pool.stats().failed, 2);
}

#[offspring::test(timeout = "60s")]
fn one_that_ends_badly_says_so_to_who_awaits_it() {
    let pool = Pool::new(2).unwrap();
    on_tokio(async {
        let died = pool.submit(crash::new()).unwrap().await;
        assert!(matches!(died, Err(TaskError::Died { .. })), "{died:?}");
        let task = pool.submit(never::new()).unwrap();
        // A future that is dropped leaves the task.
        for _ in 0..3 {
            let early = tokio::time::timeout(Duration::from_millis(10), task.join_async()).await;
            assert!(early.is_err());
        }
        let (ended, also, ()) = tokio::join!(task.join_async(), task.join_async(), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            task.cancel();
        });
        let (first, second) = (ended.unwrap_err(), also.unwrap_err());
        assert!(matches!(first, TaskError::Cancelled { .. }), "{first:?}");
        assert!(matches!(second, TaskError::Taken { .. }), "{second:?}");
    });
}

#[offspring::test(timeout = "60s")]
fn the_end_of_the_pool_wakes_who_awaits() {
    let pool = Pool::new(1).unwrap();
    let tasks: Vec<_> = (0..3).map(|_| pool.submit(never::new()).unwrap()).collect();
    on_tokio(async {
        let awaiting: Vec<_> =
            tasks.into_iter().map(|task| tokio::spawn(task.into_future())).collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        pool.kill();
        for task in awaiting {
            let ended = task.await.unwrap();
            assert!(matches!(ended, Err(TaskError::Stopped { .. })), "{ended:?}");
        }
    });
}

#[offspring::worker]
fn first_of(receiver: Receiver<u64>) -> u64 {
    receiver.recv().unwrap()
}

#[offspring::worker]
fn count(counter: AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

/// A pool of one worker and room for one task, which ends when the sender sends.
fn full_pool() -> (Pool, offspring::Sender<u64>, offspring::Task<u64>) {
    let pool = Pool::builder().workers(1).max_unfinished(1).build().unwrap();
    // After this, what the start of the pool had to wake is woken.
    pool.run(double::new(1)).unwrap();
    let (go, wait) = channel().unwrap();
    let busy = pool.submit(first_of::new(wait)).unwrap();
    (pool, go, busy)
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[offspring::test(timeout = "60s")]
fn who_submits_to_a_full_pool_waits_and_its_thread_does_not() {
    let (pool, go, busy) = full_pool();
    on_tokio(async {
        let (submitted, refused) = tokio::join!(
            biased;
            pool.submit_async(double::new(7)),
            async {
                // The other future was polled before, and waits.
                let refused = pool.try_submit(double::new(8));
                go.send(1).unwrap();
                refused
            },
        );
        assert!(matches!(refused, Err(TrySubmitError::Full(_))), "{refused:?}");
        assert_eq!(submitted.unwrap().await.unwrap(), 14);
        assert_eq!(busy.await.unwrap(), 1);
        let patient = TaskOptions::new().task_timeout(Duration::from_millis(1));
        let late = pool.submit_with_async(never::new(), patient).await.unwrap().await;
        assert!(matches!(late, Err(TaskError::TimeLimit { .. })), "{late:?}");
    });
}

#[offspring::test(timeout = "60s")]
fn one_that_was_woken_and_is_dropped_passes_its_turn_on() {
    let (pool, go, _busy) = full_pool();
    let woken: [Arc<Woken>; 3] = Default::default();
    let wakers = woken.each_ref().map(|woken| Waker::from(woken.clone()));
    let mut waiting = [1, 2, 3].map(|n| Box::pin(pool.submit_async(double::new(n)))).map(Some);
    for (future, waker) in waiting.iter_mut().zip(&wakers) {
        let polled = future.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    go.send(1).unwrap();
    eventually("the first is woken", || woken[0].times() == 1);
    assert_eq!(woken.each_ref().map(|woken| woken.times()), [1, 0, 0]);
    // It is dropped, and the second is woken and dropped in turn.
    waiting[0] = None;
    assert_eq!(woken.each_ref().map(|woken| woken.times()), [1, 1, 0]);
    waiting[1] = None;
    assert_eq!(woken.each_ref().map(|woken| woken.times()), [1, 1, 1]);
    let mut last = waiting[2].take().unwrap();
    match last.as_mut().poll(&mut Context::from_waker(&wakers[2])) {
        Poll::Ready(Ok(task)) => assert_eq!(task.join().unwrap(), 6),
        other => panic!("{other:?}"),
    }
}

#[offspring::test(timeout = "60s")]
fn the_end_of_a_pool_wakes_who_waits_for_room_and_gives_the_value_back() {
    let (pool, _go, _busy) = full_pool();
    on_tokio(async {
        let (sender, receiver) = channel().unwrap();
        let (submitted, ()) = tokio::join!(biased; pool.submit_async(first_of::new(receiver)), async {
            pool.kill();
        });
        let Err(SubmitError::Closed(refused)) = submitted else { panic!("the pool is closed") };
        sender.send(6).unwrap();
        assert_eq!(refused.receiver.recv().unwrap(), 6);
    });
}

#[offspring::test(timeout = "600s")]
fn futures_that_wait_for_room_and_are_dropped_have_submitted_nothing() {
    let pool = Arc::new(Pool::builder().workers(2).max_unfinished(3).build().unwrap());
    let counter = AtomicU64::new(0).unwrap();
    let (submitted, dropped) = on_tokio(async {
        let submitters: Vec<_> = (0..10)
            .map(|submitter| {
                let (pool, counter) = (pool.clone(), counter.clone());
                tokio::spawn(async move {
                    let (mut submitted, mut dropped) = (0, 0);
                    for n in 0..rounds() / 10 {
                        tokio::select! {
                            task = pool.submit_async(count::new(counter.clone())) => {
                                submitted += 1;
                                // Awaited by every other one: a task may end without a handle.
                                if n % 2 == 0 {
                                    task.unwrap().await.unwrap();
                                }
                            }
                            () = moment(n + submitter) => dropped += 1,
                        }
                    }
                    (submitted, dropped)
                })
            })
            .collect();
        let mut sums = (0u64, 0u64);
        for submitter in submitters {
            let (submitted, dropped) = submitter.await.unwrap();
            sums = (sums.0 + submitted, sums.1 + dropped);
        }
        sums
    });
    pool.shutdown(super::LONG).unwrap();
    assert!(submitted > 0 && dropped > 0, "{submitted} {dropped}: this tests nothing");
    assert_eq!((counter.load(Ordering::SeqCst), pool.stats().done), (submitted, submitted));
}

#[offspring::test(timeout = "60s")]
fn a_task_is_kept_by_who_awaits_a_reference_to_it() {
    let pool = Pool::new(1).unwrap();
    let (go, wait) = channel().unwrap();
    let mut task = pool.submit(first_of::new(wait)).unwrap();
    on_tokio(async {
        for _ in 0..3 {
            let early = tokio::time::timeout(Duration::from_millis(5), &mut task).await;
            assert!(early.is_err(), "{early:?}");
        }
        let mut turns = 0;
        let output = loop {
            tokio::select! {
                output = &mut task => break output,
                () = tokio::time::sleep(Duration::from_millis(2)) => {
                    turns += 1;
                    if turns == 3 {
                        go.send(5).unwrap();
                    }
                }
            }
        };
        assert_eq!(output.unwrap(), 5);
        let again = (&mut task).await;
        assert!(matches!(again, Err(TaskError::Taken { .. })), "{again:?}");
        // Others can be awaited together with what takes futures only.
        let tasks = (0..10).map(|n| pool.submit(double::new(n)).unwrap());
        let mut all: Vec<_> = tasks.collect();
        let mut sum = 0;
        while !all.is_empty() {
            sum += std::future::poll_fn(|context| {
                let ended = all.iter_mut().enumerate().find_map(|(place, task)| {
                    match pin!(task).poll(context) {
                        Poll::Ready(output) => Some((place, output)),
                        Poll::Pending => None,
                    }
                });
                match ended {
                    Some((place, output)) => {
                        drop(all.swap_remove(place));
                        Poll::Ready(output.unwrap())
                    }
                    None => Poll::Pending,
                }
            })
            .await;
        }
        assert_eq!(sum, 90);
    });
}
