//! Streams and sinks of channels, queues, maps and events.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt, TryStreamExt};
use offspring::actor::DownReason;
use offspring::channel::{RecvError, SendError};
use offspring::pool::{PoolEvent, TaskError};
use offspring::queue::{Consumer, GetError, JoinableConsumer, Producer, PutError};
use offspring::supervisor::{ChildSpec, SupervisorEvent};
use offspring::{JoinableQueue, Pool, Queue, Receiver, Sender, Supervisor, channel};
use serde::{Deserialize, Serialize};

use super::{moment, on_tokio, rounds, sleeper};

/// With pauses of all lengths, so that values come before, while and after they are awaited.
fn with_pauses(numbers: Range<u64>, mut give: impl FnMut(u64)) {
    for n in numbers {
        give(n);
        std::thread::sleep(Duration::from_micros((n * 37) % 400));
    }
}

#[offspring::worker]
fn send_some(numbers: Sender<u64>, upto: u64) {
    with_pauses(0..upto, |n| numbers.send(n).expect("the test receives"));
}

#[offspring::worker]
fn put_some(numbers: Producer<u64>, upto: u64) {
    with_pauses(0..upto, |n| numbers.put(n).expect("the test gets"));
}

/// Takes with calls of `next` whose futures are mostly dropped, and returns how many were.
async fn take_with_drops<E: std::fmt::Debug>(
    mut stream: impl Stream<Item = Result<u64, E>> + Unpin,
    upto: u64,
) -> u64 {
    let (mut next, mut dropped) = (0, 0);
    loop {
        tokio::select! {
            item = stream.next() => match item {
                Some(item) => {
                    assert_eq!(item.unwrap(), next, "something was lost with a future that was dropped");
                    next += 1;
                }
                None => break,
            },
            () = moment(next) => dropped += 1,
        }
    }
    assert_eq!(next, upto);
    dropped
}

#[offspring::test(timeout = "600s")]
fn a_call_of_next_that_is_dropped_loses_no_message() {
    let (sender, mut receiver) = channel().unwrap();
    let sending = send_some::spawn(sender, rounds()).unwrap();
    let dropped = on_tokio(take_with_drops(receiver.stream(), rounds()));
    assert!(dropped > rounds() / 10, "only {dropped} were dropped: this tests nothing");
    sending.join().unwrap();
    let (sender, another) = channel().unwrap();
    receiver = another;
    let sending = send_some::spawn(sender, rounds()).unwrap();
    // On a task, which cannot borrow.
    on_tokio(async {
        let stream = receiver.into_stream();
        tokio::spawn(take_with_drops(stream, rounds())).await.unwrap();
    });
    sending.join().unwrap();
}

#[offspring::worker]
fn take_items(numbers: Consumer<u64>, upto: u64) -> u64 {
    on_tokio(take_with_drops(numbers.stream(), upto))
}

#[offspring::test(timeout = "600s")]
fn a_call_of_next_that_is_dropped_loses_no_item_here_and_elsewhere() {
    for capacity in [1, 1000] {
        let (producer, consumer) = Queue::bounded(capacity).unwrap().split();
        let putting = put_some::spawn(producer, rounds()).unwrap();
        let here = on_tokio(take_with_drops(consumer.stream(), rounds()));
        putting.join().unwrap();
        let (producer, consumer) = Queue::bounded(capacity).unwrap().split();
        let taking = take_items::spawn(consumer, rounds()).unwrap();
        let putting = put_some::spawn(producer, rounds()).unwrap();
        let there = taking.join().unwrap();
        putting.join().unwrap();
        assert!(
            here.min(there) > rounds() / 10,
            "only {here} and {there} were dropped: this tests nothing"
        );
    }
}

#[offspring::worker]
fn take_jobs(jobs: JoinableConsumer<u64>, upto: u64) {
    let jobs = jobs.stream().map_ok(|job| {
        let (number, attempt) = (*job, job.attempt());
        job.task_done();
        assert_eq!(attempt, 1, "job {number} was taken by nobody");
        number
    });
    on_tokio(take_with_drops(jobs, upto));
}

#[offspring::test(timeout = "600s")]
fn jobs_of_a_stream_are_delivered_once() {
    let (jobs, consumer) = JoinableQueue::bounded(4).unwrap().split();
    let process = take_jobs::spawn(consumer, rounds()).unwrap();
    with_pauses(0..rounds(), |n| jobs.put(n).unwrap());
    assert_eq!(jobs.join().unwrap().dead_letters(), 0);
    jobs.close().unwrap();
    process.join().unwrap();
}

/// Sends with futures that are often dropped, and returns what was certainly sent.
async fn send_with_drops<E: std::fmt::Debug>(
    mut sink: impl Sink<u64, Error = E> + Unpin,
    upto: u64,
) -> BTreeSet<u64> {
    let mut sent = BTreeSet::new();
    for n in 0..upto {
        tokio::select! {
            biased;
            outcome = sink.send(n) => {
                outcome.unwrap();
                sent.insert(n);
            }
            () = moment(n) => {}
        }
    }
    sink.close().await.unwrap();
    sent
}

/// In order, none twice, and all that was certainly sent.
fn check_sent(received: &[u64], sent: &BTreeSet<u64>) {
    assert!(received.is_sorted_by(|before, after| before < after), "{received:?}");
    let received = received.iter().copied().collect();
    assert!(sent.is_subset(&received), "lost: {:?}", sent - &received);
}

#[offspring::worker]
fn receive_slowly(numbers: Receiver<u64>) -> Vec<u64> {
    numbers.iter().inspect(|n| std::thread::sleep(Duration::from_micros(n % 700))).collect()
}

#[offspring::worker]
fn get_slowly(numbers: Consumer<u64>) -> Vec<u64> {
    numbers.iter().inspect(|n| std::thread::sleep(Duration::from_micros(n % 700))).collect()
}

#[offspring::worker]
fn put_into_sink(numbers: Producer<u64>, upto: u64) -> BTreeSet<u64> {
    on_tokio(send_with_drops(numbers.sink(), upto))
}

#[offspring::test(timeout = "600s")]
fn a_sink_whose_calls_are_dropped_sends_what_it_has_accepted_once_and_in_order() {
    let (sender, receiver) = channel().unwrap();
    let process = receive_slowly::spawn(receiver).unwrap();
    let sink = sender.sink();
    drop(sender);
    let sent = on_tokio(send_with_drops(sink, rounds()));
    check_sent(&process.join().unwrap(), &sent);

    let (producer, consumer) = Queue::bounded(2).unwrap().split();
    let getting = get_slowly::spawn(consumer).unwrap();
    let sent = on_tokio(send_with_drops(producer.sink(), rounds()));
    drop(producer);
    let got = getting.join().unwrap();
    check_sent(&got, &sent);
    assert!((sent.len() as u64) < rounds(), "none was dropped: this tests nothing");

    let (producer, consumer) = Queue::bounded(2).unwrap().split();
    let putting = put_into_sink::spawn(producer, rounds()).unwrap();
    let got: Vec<u64> = consumer.iter().collect();
    check_sent(&got, &putting.join().unwrap());
}

#[offspring::test(timeout = "60s")]
fn a_sink_holds_one_item_more_than_the_queue_and_drops_it() {
    let queue = Queue::bounded(3).unwrap();
    let mut sink = queue.sink();
    let context = &mut Context::from_waker(Waker::noop());
    for n in 0..4 {
        assert!(sink.poll_ready_unpin(context).is_ready());
        sink.start_send_unpin(n).unwrap();
    }
    assert!(
        sink.poll_ready_unpin(context).is_pending() && sink.poll_flush_unpin(context).is_pending()
    );
    let early = catch_unwind(AssertUnwindSafe(|| sink.start_send_unpin(4)));
    assert!(early.is_err(), "it was not ready");
    assert_eq!(queue.get().unwrap(), 0);
    assert!(sink.poll_ready_unpin(context).is_ready());
    sink.start_send_unpin(5).unwrap();
    drop(sink);
    queue.close().unwrap();
    assert_eq!(queue.iter().collect::<Vec<u64>>(), [1, 2, 3]);

    let mut sink = queue.sink();
    let refused = sink.send(9).now_or_never().unwrap();
    assert!(matches!(refused, Err(PutError::Closed(9))), "{refused:?}");
    sink.close().now_or_never().unwrap().unwrap();
    let late = sink.send(9).now_or_never().unwrap();
    assert!(matches!(late, Err(PutError::Closed(9))), "{late:?}");
}

#[offspring::test(timeout = "60s")]
fn a_sink_that_is_closed_drops_its_sender_and_one_without_receiver_gives_the_message_back() {
    let (sender, receiver) = channel::<u64>().unwrap();
    let mut sink = sender.sink();
    drop(sender);
    on_tokio(async {
        sink.send(1).await.unwrap();
        sink.close().await.unwrap();
        let received: Vec<_> = receiver.stream().collect().await;
        assert!(matches!(received[..], [Ok(1)]), "{received:?}");
        let late = sink.send(2).await;
        assert!(matches!(late, Err(SendError::Disconnected(2))), "{late:?}");
    });
    // On a task of its own, with a message that is not `Sync`.
    let (sender, cells) = channel::<Cell<u64>>().unwrap();
    on_tokio(async {
        let sending = tokio::spawn(async move { sender.sink().send(Cell::new(4)).await });
        assert!(sending.await.unwrap().is_ok());
    });
    assert_eq!(cells.recv().unwrap().get(), 4);
    let (sender, receiver) = channel::<u64>().unwrap();
    drop(receiver);
    let refused = on_tokio(sender.sink().send(3));
    assert!(matches!(refused, Err(SendError::Disconnected(3))), "{refused:?}");
}

/// Does not decode if it is 13.
#[derive(Debug, PartialEq)]
struct Picky(u64);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Picky, D::Error> {
        match u64::deserialize(deserializer)? {
            13 => Err(serde::de::Error::custom("an unlucky number")),
            number => Ok(Picky(number)),
        }
    }
}

#[offspring::test(timeout = "60s")]
fn what_does_not_decode_is_an_error_and_the_stream_continues_to_its_end() {
    let (sender, receiver) = channel().unwrap();
    let queue = Queue::unbounded().unwrap();
    for n in [1, 13, 2] {
        sender.send(Picky(n)).unwrap();
        queue.put(Picky(n)).unwrap();
    }
    drop(sender);
    queue.close().unwrap();
    on_tokio(async {
        let received: Vec<_> = receiver.stream().collect().await;
        assert!(
            matches!(received[..], [Ok(Picky(1)), Err(RecvError::Decode(_)), Ok(Picky(2))]),
            "{received:?}"
        );
        let got: Vec<_> = queue.stream().collect().await;
        assert!(
            matches!(got[..], [Ok(Picky(1)), Err(GetError::Decode(_)), Ok(Picky(2))]),
            "{got:?}"
        );
    });
}

#[offspring::worker]
fn own_a_queue(to: Sender<Queue<u64>>) {
    // This process keeps a handle: without it, the queue would be abandoned before the owner dies.
    let queue = Queue::unbounded().unwrap();
    queue.put(1).unwrap();
    to.send(queue.clone()).unwrap();
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "60s")]
fn the_death_of_the_owner_is_the_last_thing_that_a_stream_returns() {
    let (sender, receiver) = channel().unwrap();
    let owner = own_a_queue::spawn(sender).unwrap();
    let mut stream = receiver.recv().unwrap().stream();
    on_tokio(async {
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        let (last, ()) = tokio::join!(stream.next(), async {
            // Polled after the other future, which waits by now.
            owner.kill();
        });
        assert!(matches!(last, Some(Err(GetError::Disconnected))), "{last:?}");
        assert!(stream.next().await.is_none());
    });
}

#[offspring::worker]
fn square(n: u64) -> u64 {
    std::thread::sleep(Duration::from_micros((n * 37) % 400));
    assert!(n % 100 != 99, "{n} is too much");
    n * n
}

#[offspring::test(timeout = "600s")]
fn a_call_of_next_that_is_dropped_loses_no_output_of_a_map() {
    let pool = Pool::new(2).unwrap();
    on_tokio(async {
        // Endless, and so is the window's work.
        let mut squares = pool.map(0.., square::new).window(20).into_stream();
        let (mut next, mut dropped) = (0, 0);
        while next < rounds() {
            tokio::select! {
                output = squares.next() => {
                    match output.unwrap() {
                        Ok(square) => assert_eq!(square, next * next),
                        Err(error) => assert!(next % 100 == 99 && matches!(error, TaskError::Panicked { .. }), "{next} {error}"),
                    }
                    next += 1;
                }
                () = moment(next) => dropped += 1,
            }
        }
        assert!(dropped > rounds() / 100, "only {dropped} were dropped: this tests nothing");
        squares.cancel();
        let unordered = pool.map_unordered(0..50, square::new).into_stream();
        assert_eq!(unordered.size_hint(), (50, Some(50)));
        let outputs: BTreeSet<u64> = unordered.try_collect().await.unwrap();
        assert_eq!(outputs, (0..50).map(|n| n * n).collect());
    });
}

#[offspring::test(timeout = "60s")]
fn the_end_of_the_pool_ends_a_map_and_a_panic_of_the_inputs_comes_out() {
    let pool = Pool::new(1).unwrap();
    let mut sleepers = pool.map(0..3, |_| sleeper::new()).into_stream();
    on_tokio(async {
        let (first, ()) = tokio::join!(sleepers.next(), async {
            // Polled after the other future, which waits by now.
            pool.kill();
        });
        assert!(matches!(first, Some(Err(TaskError::Stopped { .. }))), "{first:?}");
        assert_eq!(sleepers.count().await, 2);
    });
    let pool = Pool::new(1).unwrap();
    let inputs = (0..5).inspect(|n| assert!(*n < 3, "no more inputs"));
    let mut squares = pool.map(inputs, square::new).into_stream();
    on_tokio(async {
        for n in 0..3 {
            assert_eq!(squares.next().await.unwrap().unwrap(), n * n);
        }
        let panic = AssertUnwindSafe(squares.next()).catch_unwind().await;
        assert!(panic.is_err());
        assert!(squares.next().await.is_none());
    });
}

#[offspring::worker]
fn crash() {
    std::process::abort();
}

#[offspring::test(timeout = "60s")]
fn events_of_pools_and_supervisors_are_streams_that_end_with_them() {
    let pool = Pool::new(1).unwrap();
    let mut events = pool.events().into_stream();
    let mut polled = Box::pin(events.next());
    assert!(polled.as_mut().now_or_never().is_none());
    drop(polled);
    let died = on_tokio(async {
        let (died, first) = tokio::join!(pool.submit(crash::new()).unwrap(), events.next());
        assert!(matches!(first, Some(PoolEvent::WorkerEnded { .. })), "{first:?}");
        died
    });
    assert!(matches!(died, Err(TaskError::Died { .. })), "{died:?}");
    drop(pool);
    let rest: Vec<PoolEvent> = on_tokio(events.collect());
    assert!(rest.iter().any(|event| matches!(event, PoolEvent::TaskFailed { .. })), "{rest:?}");

    let supervisor = Supervisor::builder().start().unwrap();
    let events = supervisor.events().into_stream();
    supervisor.start_child(ChildSpec::worker_with("sleeper", |_| sleeper::new())).unwrap();
    on_tokio(async {
        let stop = tokio::task::spawn_blocking(move || supervisor.stop());
        let told: Vec<SupervisorEvent> = events.collect().await;
        stop.await.unwrap();
        assert!(
            matches!(told[..], [SupervisorEvent::Started { .. }, SupervisorEvent::Stopped { .. }]),
            "{told:?}"
        );
    });
}

struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start(value: u64) -> Self {
        Counter(value)
    }

    pub fn add(&mut self, n: u64) -> u64 {
        self.0 = self.0.checked_add(n).expect("there is room");
        self.0
    }
}

#[offspring::worker]
fn watch(counter: CounterHandle, watches: Sender<()>) -> bool {
    let monitor = counter.monitor().unwrap();
    on_tokio(async {
        let early = tokio::time::timeout(Duration::from_millis(20), monitor.wait_async()).await;
        assert!(early.is_err(), "{early:?}");
        watches.send(()).unwrap();
        matches!(monitor.wait_async().await.reason, DownReason::Died(_))
    })
}

#[offspring::test(timeout = "60s")]
fn the_end_of_an_actor_is_awaited_here_and_elsewhere() {
    let counter = Counter::spawn(u64::MAX).unwrap();
    let (watches, watched) = channel().unwrap();
    let watching = watch::spawn(counter.clone(), watches).unwrap();
    watched.recv().unwrap();
    let monitor = counter.monitor().unwrap();
    let down = on_tokio(async {
        let (down, ()) = tokio::join!(monitor.wait_async(), async {
            let _ = counter.add_async(1).await;
        });
        down
    });
    assert!(matches!(down.reason, DownReason::Died(_)), "{down:?}");
    assert!(watching.join().unwrap());
}
