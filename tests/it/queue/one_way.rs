//! One-way handles: a queue ends when the last process that could go on has died.

use std::collections::BTreeSet;

use offspring::queue::{
    Consumer, GetError, JoinableConsumer, JoinableControl, JoinableProducer, Producer, PutError,
    QueueJoinError, TryGetError, TryPutError,
};
use offspring::{JoinableQueue, ProcessBuilder, Queue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SHORT;

#[offspring::worker]
fn panic_at_the_third(jobs: JoinableConsumer<u64>) {
    for (index, job) in jobs.iter().enumerate() {
        assert!(index < 2, "the third job is too much");
        job.task_done();
    }
}

/// The program that everybody writes first: the main program produces, one child consumes.
fn first_program(jobs: JoinableQueue<u64>) {
    let (jobs, consumer) = jobs.split();
    let consumer =
        ProcessBuilder::new().daemon(true).spawn(panic_at_the_third::new(consumer)).unwrap();
    let mut put = 0;
    let error = (0..1_000_000).find_map(|n| {
        let error = jobs.put(n).err();
        put += usize::from(error.is_none());
        error
    });
    let error = error.expect("nobody takes them");
    assert!(matches!(error, PutError::Abandoned(_)), "{error:?}");
    assert_eq!(error.into_inner(), put as u64);
    match jobs.join() {
        // The third job has come back, and is unfinished with the rest.
        Err(QueueJoinError::Abandoned { unfinished, .. }) => assert_eq!(unfinished, put - 2),
        other => panic!("{other:?}"),
    }
    assert!(consumer.join().is_err());
    // It stays like that.
    assert!(matches!(jobs.try_put(1), Err(TryPutError::Abandoned(1))));
    assert!(matches!(jobs.put(1), Err(PutError::Abandoned(1))));
    assert_eq!(jobs.put_all([1, 2]).unwrap_err().into_rest().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(jobs.len().unwrap(), put - 2);
}

#[offspring::test(timeout = "60s")]
fn the_main_program_ends_when_its_only_consumer_panics() {
    first_program(JoinableQueue::bounded(8).unwrap());
}

#[offspring::test(timeout = "60s")]
fn a_queue_without_a_bound_refuses_what_nobody_can_take() {
    first_program(JoinableQueue::unbounded().unwrap());
}

#[offspring::worker]
fn produce_until_an_error(jobs: JoinableProducer<u64>) -> (u64, String) {
    let mut put = 0;
    loop {
        match jobs.put(put) {
            Ok(()) => put += 1,
            Err(error) => return (put, format!("{error:?}")),
        }
    }
}

#[offspring::worker]
fn consume(jobs: JoinableConsumer<u64>) -> u64 {
    let mut count = 0;
    for job in &jobs {
        job.task_done();
        count += 1;
    }
    count
}

/// Never finishes the first job that it takes.
#[offspring::worker]
fn consume_all_but_one(jobs: JoinableConsumer<u64>, told: Producer<()>) {
    let first = jobs.get().unwrap();
    told.put(()).unwrap();
    jobs.iter().for_each(|job| job.task_done());
    drop(first);
}

#[offspring::test(timeout = "60s")]
fn three_consumers_die_and_everybody_is_told() {
    let jobs = JoinableQueue::bounded(16).unwrap();
    let control = jobs.control();
    let producers: Vec<_> =
        (0..2).map(|_| produce_until_an_error::spawn(jobs.producer()).unwrap()).collect();
    let (told, tells) = Queue::unbounded().unwrap().split();
    let consumer = || consume_all_but_one::spawn(jobs.consumer(), told.clone()).unwrap();
    let consumers: Vec<_> = (0..3).map(|_| consumer()).collect();
    drop(jobs);
    (0..3).for_each(|_| tells.get().unwrap());
    for consumer in &consumers[..2] {
        consumer.kill();
        consumer.join().unwrap_err();
    }
    // One is left: the producers go on.
    for producer in &producers {
        assert!(producer.join_timeout(SHORT).unwrap_err().is_timeout());
    }
    consumers[2].kill();
    for producer in &producers {
        let (_, error) = producer.join().unwrap();
        assert!(error.starts_with("Abandoned ("), "{error}");
    }
    // The job of the last consumer has come back.
    let left = control.len().unwrap();
    assert!(left > 0);
    match control.join() {
        Err(QueueJoinError::Abandoned { unfinished, .. }) => assert_eq!(unfinished, left),
        other => panic!("{other:?}"),
    }
}

#[offspring::worker]
fn produce_and_hang(jobs: JoinableProducer<u64>, told: Producer<()>) {
    jobs.put_all(0..10).unwrap();
    told.put(()).unwrap();
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "60s")]
fn consumers_end_when_the_only_producer_dies() {
    let jobs = JoinableQueue::bounded(4).unwrap();
    let control = jobs.control();
    let (told, tells) = Queue::unbounded().unwrap().split();
    let producer = produce_and_hang::spawn(jobs.producer(), told).unwrap();
    let consumers = [0, 1].map(|_| consume::spawn(jobs.consumer()).unwrap());
    drop(jobs);
    tells.get().unwrap();
    control.join().unwrap();
    assert!(consumers[0].join_timeout(SHORT).unwrap_err().is_timeout());
    producer.kill();
    let counts = consumers.map(|consumer| consumer.join().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 10);
    assert_eq!(control.join().unwrap().dead_letters(), 0);
}

#[offspring::test(timeout = "60s")]
fn within_one_process_the_counts_are_exact() {
    let (producer, consumer) = Queue::bounded(3).unwrap().split();
    producer.put(1).unwrap();
    let second = producer.clone();
    drop(producer);
    assert!(matches!(consumer.try_get(), Ok(1)));
    assert!(matches!(consumer.try_get(), Err(TryGetError::Empty)));
    second.put(2).unwrap();
    drop(second);
    assert_eq!(consumer.get().unwrap(), 2);
    assert!(matches!(consumer.get(), Err(GetError::Abandoned)));
    assert!(matches!(consumer.try_get(), Err(TryGetError::Abandoned)));

    let (producer, consumer) = Queue::unbounded().unwrap().split();
    let second = consumer.clone();
    drop(consumer);
    producer.put(1).unwrap();
    drop(second);
    assert!(matches!(producer.put(2), Err(PutError::Abandoned(2))));
    // Nobody can take it, and it is there.
    assert_eq!(producer.len().unwrap(), 1);
}

#[offspring::test(timeout = "60s")]
fn a_thread_that_waits_is_told_when_the_last_handle_goes() {
    let (producer, consumer) = Queue::bounded(1).unwrap().split();
    producer.put(1).unwrap();
    std::thread::scope(|scope| {
        let blocked = crate::support::spawn_asleep(scope, || producer.put(2));
        drop(consumer);
        assert!(matches!(blocked.join().unwrap(), Err(PutError::Abandoned(2))));
    });
    let (producer, consumer) = Queue::<u64>::unbounded().unwrap().split();
    std::thread::scope(|scope| {
        let blocked = crate::support::spawn_asleep(scope, || consumer.get());
        drop(producer);
        assert!(matches!(blocked.join().unwrap(), Err(GetError::Abandoned)));
    });
    let (jobs, consumer) = JoinableQueue::unbounded().unwrap().split();
    jobs.put(1).unwrap();
    std::thread::scope(|scope| {
        let blocked = crate::support::spawn_asleep(scope, || jobs.join());
        let delivery = consumer.get().unwrap();
        drop(consumer);
        // The delivery may still be finished.
        assert!(jobs.join_timeout(SHORT).unwrap_err().is_timeout());
        drop(delivery);
        let joined = blocked.join().unwrap();
        assert!(matches!(joined, Err(QueueJoinError::Abandoned { unfinished: 1, .. })));
    });
}

#[offspring::test(timeout = "60s")]
fn what_is_awaited_is_told_as_well() {
    let (jobs, consumer) = JoinableQueue::bounded(1).unwrap().split();
    pollster::block_on(async {
        jobs.put_async(1).await.unwrap();
        consumer.get_async().await.unwrap().task_done();
        jobs.join_async().await.unwrap();
        jobs.put_async(2).await.unwrap();
    });
    std::thread::scope(|scope| {
        let put = crate::support::spawn_asleep(scope, || pollster::block_on(jobs.put_async(3)));
        let join = crate::support::spawn_asleep(scope, || pollster::block_on(jobs.join_async()));
        drop(consumer);
        assert!(matches!(put.join().unwrap(), Err(PutError::Abandoned(3))));
        let joined = join.join().unwrap();
        assert!(matches!(joined, Err(QueueJoinError::Abandoned { unfinished: 1, .. })));
    });
    let (producer, consumer) = Queue::<u64>::unbounded().unwrap().split();
    std::thread::scope(|scope| {
        let get = crate::support::spawn_asleep(scope, || pollster::block_on(consumer.get_async()));
        drop(producer);
        assert!(matches!(get.join().unwrap(), Err(GetError::Abandoned)));
    });
}

#[offspring::test(timeout = "60s")]
fn a_handle_on_its_way_counts() {
    let (producer, consumer) = Queue::bounded(1).unwrap().split();
    let (sender, receiver) = offspring::channel().unwrap();
    producer.put(1).unwrap();
    sender.send(consumer).unwrap();
    assert!(producer.put_timeout(2, SHORT).unwrap_err().is_timeout());
    let consumer: Consumer<u64> = receiver.recv().unwrap();
    assert_eq!(consumer.get().unwrap(), 1);
    sender.send(consumer).unwrap();
    producer.put(2).unwrap();
    drop((sender, receiver));
    // It was lost on its way.
    let error = loop {
        match producer.put_timeout(3, SHORT) {
            Err(error) if error.is_timeout() => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(error.is_end());

    let (producer, consumer) = Queue::<u64>::unbounded().unwrap().split();
    let (sender, receiver) = offspring::channel().unwrap();
    sender.send(producer).unwrap();
    assert!(matches!(consumer.try_get(), Err(TryGetError::Empty)));
    drop((sender, receiver));
    assert!(matches!(consumer.get(), Err(GetError::Abandoned)));
}

/// Narrows the handle that it received, before its first use or after it, and sends both ends on.
#[offspring::worker]
fn narrow(queue: Queue<u64>, used: bool) -> (Producer<u64>, Consumer<u64>) {
    if used {
        assert_eq!(queue.len().unwrap(), 0);
    }
    let (producer, consumer) = queue.split();
    producer.put(1).unwrap();
    assert_eq!(consumer.get().unwrap(), 1);
    producer.put(2).unwrap();
    (producer, consumer)
}

#[offspring::test(timeout = "60s")]
fn a_process_narrows_what_it_received() {
    for used in [false, true] {
        let queue = Queue::unbounded().unwrap();
        let process = narrow::spawn(queue.clone(), used).unwrap();
        drop(queue);
        let (producer, consumer) = process.join().unwrap();
        drop(process);
        producer.put(3).unwrap();
        // Items of two producers have no order.
        let got = BTreeSet::from([consumer.get().unwrap(), consumer.get().unwrap()]);
        assert_eq!(got, BTreeSet::from([2, 3]));
        drop(producer);
        let end = consumer.get();
        assert!(matches!(end, Err(GetError::Abandoned)), "{end:?}");
    }
}

#[offspring::worker]
fn relay(from: Consumer<u64>, to: Producer<u64>) -> String {
    for n in &from {
        if let Err(error) = to.put(n) {
            return format!("{error:?}");
        }
    }
    "the end".to_owned()
}

#[offspring::test(timeout = "60s")]
fn a_pipeline_falls_from_its_end_to_its_beginning() {
    let (source, first) = Queue::bounded(4).unwrap().split();
    let (middle, second) = Queue::bounded(4).unwrap().split();
    let (last, sink) = Queue::bounded(4).unwrap().split();
    let relays = [relay::spawn(first, middle).unwrap(), relay::spawn(second, last).unwrap()];
    source.put(1).unwrap();
    assert_eq!(sink.get().unwrap(), 1);
    drop(sink);
    let error = (2..).find_map(|n| source.put(n).err()).unwrap();
    assert!(matches!(error, PutError::Abandoned(_)));
    for relay in relays {
        assert!(relay.join().unwrap().starts_with("Abandoned ("));
    }
}

#[offspring::test(timeout = "60s")]
fn a_pipeline_ends_from_its_beginning_to_its_end() {
    let (source, first) = Queue::bounded(4).unwrap().split();
    let (middle, second) = Queue::bounded(4).unwrap().split();
    let (last, sink) = Queue::bounded(4).unwrap().split();
    let relays = [relay::spawn(first, middle).unwrap(), relay::spawn(second, last).unwrap()];
    std::thread::scope(|scope| {
        scope.spawn(move || source.put_all(1..=100).unwrap());
        assert!(sink.iter().eq(1..=100));
    });
    for relay in relays {
        assert_eq!(relay.join().unwrap(), "the end");
    }
}

#[offspring::test(timeout = "60s")]
fn dead_letters_are_read_without_a_consumer() {
    let jobs = JoinableQueue::builder().max_deliveries(1).build().unwrap();
    let control: JoinableControl<u64> = jobs.control();
    let (jobs, consumer) = jobs.split();
    jobs.put_all([7, 8]).unwrap();
    drop(consumer.get().unwrap());
    drop(consumer);
    let joined = control.join();
    assert!(matches!(joined, Err(QueueJoinError::Abandoned { unfinished: 1, .. })));
    for letters in [control.dead_letters().unwrap(), jobs.dead_letters().unwrap()] {
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].decode().unwrap(), 7);
    }
    assert_eq!(control.close_and_discard().unwrap(), 1);
    assert_eq!(control.join().unwrap().dead_letters(), 1);
}

#[offspring::test(timeout = "60s")]
fn a_selector_waits_for_a_consumer() {
    let (producer, consumer) = Queue::unbounded().unwrap().split();
    let (jobs, workers) = JoinableQueue::unbounded().unwrap().split();
    assert_eq!(offspring::wait_any_timeout(&[&consumer, &workers], SHORT).unwrap(), None);
    producer.put(1).unwrap();
    assert_eq!(offspring::wait_any(&[&consumer, &workers]).unwrap(), 0);
    assert_eq!(consumer.get().unwrap(), 1);
    drop(producer);
    // Its end is an event as well.
    assert_eq!(offspring::wait_any(&[&consumer]).unwrap(), 0);
    jobs.put(2).unwrap();
    assert_eq!(offspring::wait_any(&[&workers]).unwrap(), 0);
    workers.get().unwrap().task_done();
    assert_eq!(jobs.join().unwrap().dead_letters(), 0);
}

#[offspring::worker]
fn wait_for_the_end(from: Consumer<u64>, asleep: Producer<()>) -> usize {
    asleep.put(()).unwrap();
    offspring::wait_any(&[&from]).unwrap();
    assert!(matches!(from.get(), Err(GetError::Abandoned)));
    from.len().unwrap()
}

#[offspring::test(timeout = "60s")]
fn a_selector_elsewhere_is_told_of_the_last_producer() {
    let (producer, consumer) = Queue::unbounded().unwrap().split();
    let (asleep, sleeps) = Queue::unbounded().unwrap().split();
    let process = wait_for_the_end::spawn(consumer, asleep).unwrap();
    sleeps.get().unwrap();
    drop(producer);
    assert_eq!(process.join().unwrap(), 0);
}

/// Sends a producer's handle, and receives it as a consumer's.
enum Crossed {
    Sent(Producer<u64>),
    Received,
}

impl Serialize for Crossed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Crossed::Sent(producer) => producer.serialize(serializer),
            Crossed::Received => Err(serde::ser::Error::custom("it was received")),
        }
    }
}

impl<'de> Deserialize<'de> for Crossed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Consumer::<u64>::deserialize(deserializer).map(|_| Crossed::Received)
    }
}

/// Sends a consumer's handle, and receives it as one that also puts.
enum Widened {
    Sent(Consumer<u64>),
    Received,
}

impl Serialize for Widened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Widened::Sent(consumer) => consumer.serialize(serializer),
            Widened::Received => Err(serde::ser::Error::custom("it was received")),
        }
    }
}

impl<'de> Deserialize<'de> for Widened {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::<u64>::deserialize(deserializer).map(|_| Widened::Received)
    }
}

#[offspring::worker]
fn receive_crossed(_crossed: Crossed) {}

#[offspring::worker]
fn receive_widened(_widened: Widened) {}

#[offspring::test(timeout = "60s")]
fn a_handle_does_not_arrive_as_one_that_does_more() {
    let (producer, consumer) = Queue::<u64>::unbounded().unwrap().split();
    let crossed = receive_crossed::spawn(Crossed::Sent(producer)).unwrap_err();
    let widened = receive_widened::spawn(Widened::Sent(consumer)).unwrap_err();
    for error in [crossed, widened] {
        let text = format!("{error:?}");
        assert!(text.contains("the handle is of another type"), "{text}");
    }
}

#[offspring::test(timeout = "60s")]
fn clones_travel_and_are_shown() {
    let (producer, consumer) = Queue::<u64>::bounded(2).unwrap().split();
    assert!(format!("{producer:?}").starts_with("Producer"));
    assert!(format!("{consumer:?}").starts_with("Consumer"));
    assert_eq!((producer.capacity(), consumer.capacity()), (Some(2), Some(2)));
    producer.put(1).unwrap();
    assert!(!consumer.is_empty().unwrap() && !producer.is_full().unwrap());
    producer.close().unwrap();
    assert!(consumer.is_closed().unwrap());
    assert_eq!(consumer.into_iter().collect::<Vec<_>>(), [1]);
}
