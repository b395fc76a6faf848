//! Queues between real processes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use offspring::{
    GetError, GetTimeoutError, JoinableQueue, PutError, PutTimeoutError, Queue, QueueJoinError, QueueJoinTimeoutError, TaskDoneError,
    TryGetError, TryPutError,
};
use serde::{Deserialize, Serialize};

use crate::support::eventually;

const SHORT: Duration = Duration::from_millis(50);

#[offspring::worker]
fn produce(queue: Queue<u64>, numbers: std::ops::Range<u64>) {
    for n in numbers {
        queue.put(n).expect("somebody reads");
    }
}

#[offspring::worker]
fn collect(queue: Queue<u64>) -> Vec<u64> {
    queue.iter().collect()
}

#[offspring::worker]
fn consume(jobs: JoinableQueue<u64>, done: Queue<u64>) -> u64 {
    let mut count = 0;
    for job in &jobs {
        done.put(*job).expect("somebody reads");
        job.task_done();
        count += 1;
    }
    count
}

#[offspring::test(timeout = "20s")]
fn items_of_one_producer_come_in_order() {
    let queue = Queue::unbounded().unwrap();
    let producer = produce::spawn(queue.clone(), 0..10_000).unwrap();
    assert!(queue.iter().eq(0..10_000));
    producer.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn items_put_in_the_owner_are_got_elsewhere() {
    let queue = Queue::bounded(16).unwrap();
    let consumer = collect::spawn(queue.clone()).unwrap();
    for n in 0..10_000 {
        queue.put(n).unwrap();
    }
    queue.close();
    assert!(consumer.join().unwrap().into_iter().eq(0..10_000));
}

#[offspring::test(timeout = "20s")]
fn two_other_processes_talk_through_the_owner() {
    let queue = Queue::bounded(64).unwrap();
    let consumer = collect::spawn(queue.clone()).unwrap();
    let producer = produce::spawn(queue.clone(), 0..20_000).unwrap();
    producer.join().unwrap();
    queue.close();
    assert!(consumer.join().unwrap().into_iter().eq(0..20_000));
}

#[offspring::test(timeout = "30s")]
fn many_producers_and_consumers_share_the_items() {
    let queue = Queue::bounded(8).unwrap();
    let consumers: Vec<_> = (0..3).map(|_| collect::spawn(queue.clone()).unwrap()).collect();
    let producers: Vec<_> = (0..3)
        .map(|p| produce::spawn(queue.clone(), p * 1000..(p + 1) * 1000).unwrap())
        .collect();
    for producer in producers {
        producer.join().unwrap();
    }
    queue.close();
    let mut all = Vec::new();
    for consumer in consumers {
        all.extend(consumer.join().unwrap());
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..3000));
}

#[offspring::test(timeout = "20s")]
fn the_queue_ends_when_nobody_is_left_who_could_put() {
    let results = Queue::unbounded().unwrap();
    let workers: Vec<_> = (0..3)
        .map(|p| produce::spawn(results.clone(), p * 10..(p + 1) * 10).unwrap())
        .collect();
    // This handle is still here, but it only waits.
    let got: BTreeSet<u64> = results.iter().collect();
    assert!(got.into_iter().eq(0..30));
    for worker in workers {
        worker.join().unwrap();
    }
}

#[offspring::test(timeout = "20s")]
fn the_queue_ends_for_consumers_when_the_owner_drops_it() {
    let queue = Queue::unbounded().unwrap();
    let consumer = collect::spawn(queue.clone()).unwrap();
    queue.put(1).unwrap();
    drop(queue);
    assert_eq!(consumer.join().unwrap(), [1]);
}

#[offspring::worker]
fn hold(queue: Queue<u64>, ready: Queue<u64>) {
    queue.put(7).expect("it is open");
    ready.put(0).expect("somebody reads");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "20s")]
fn a_producer_that_lives_keeps_the_queue_open_and_its_death_ends_it() {
    let (queue, ready) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let holder = hold::spawn(queue.clone(), ready.clone()).unwrap();
    ready.get().unwrap();
    assert_eq!(queue.get().unwrap(), 7);
    assert!(matches!(queue.get_timeout(SHORT), Err(GetTimeoutError::Timeout)));
    holder.kill();
    assert!(matches!(queue.get(), Err(GetError::Abandoned)));
    // That was said of this moment only: with a new producer it goes on.
    let producer = produce::spawn(queue.clone(), 5..6).unwrap();
    assert_eq!(queue.get().unwrap(), 5);
    producer.join().unwrap();
}

#[offspring::worker]
fn take_one_and_hang(queue: Queue<u64>) {
    assert_eq!(queue.get().unwrap(), 0);
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "20s")]
fn a_put_into_a_full_queue_is_told_when_the_last_consumer_is_gone() {
    let queue = Queue::bounded(1).unwrap();
    let consumer = take_one_and_hang::spawn(queue.clone()).unwrap();
    queue.put(0).unwrap();
    queue.put(1).unwrap();
    assert!(queue.put_timeout(2, SHORT).unwrap_err().is_timeout());
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| queue.put(2));
        consumer.kill();
        let error = blocked.join().unwrap().unwrap_err();
        assert!(matches!(error, PutError::Abandoned(2)), "{error:?}");
    });
    // It goes on with a new consumer.
    let collector = collect::spawn(queue.clone()).unwrap();
    queue.put(2).unwrap();
    queue.close();
    assert_eq!(collector.join().unwrap(), [1, 2]);
}

#[offspring::worker]
fn fill_up(queue: Queue<u64>) -> String {
    (0..).find_map(|n| queue.put(n).err()).expect("it gets full").to_string()
}

#[offspring::test(timeout = "20s")]
fn a_producer_elsewhere_is_told_when_everybody_else_is_gone() {
    let queue = Queue::bounded(3).unwrap();
    let producer = fill_up::spawn(queue.clone()).unwrap();
    assert_eq!(queue.get().unwrap(), 0);
    assert!(producer.join_timeout(SHORT).unwrap_err().is_timeout());
    drop(queue);
    assert!(producer.join().unwrap().contains("nobody is left"));
}

#[offspring::worker]
fn end_while_a_child_waits(how: String) {
    let queue = Queue::<u64>::unbounded().unwrap();
    let child = collect::spawn(queue.clone()).unwrap();
    queue.put(1).unwrap();
    eventually("the child waits for the next item", || queue.is_empty());
    match how.as_str() {
        "exit" => std::process::exit(3),
        "leak" => std::mem::forget(queue),
        _ => drop(queue),
    }
    drop(child);
}

#[offspring::test(timeout = "20s")]
fn a_program_that_ends_does_not_wait_for_who_waits_for_it() {
    for how in ["return", "leak", "exit"] {
        let process = end_while_a_child_waits::spawn(how.to_owned()).unwrap();
        let _ = process.join();
        let code = process.exit_status().unwrap().code();
        assert_eq!(code, Some(if how == "exit" { 3 } else { 0 }), "{how}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_full_queue_refuses_and_then_takes() {
    let queue = Queue::bounded(2).unwrap();
    assert_eq!(queue.capacity(), Some(2));
    queue.put(1).unwrap();
    assert!(!queue.is_full());
    queue.put(2).unwrap();
    assert!(queue.is_full());
    assert_eq!(queue.len(), 2);
    assert!(matches!(queue.try_put(3), Err(TryPutError::Full(3))));
    let before = Instant::now();
    assert!(matches!(queue.put_timeout(3, SHORT), Err(PutTimeoutError::Timeout(3))));
    assert!(before.elapsed() >= SHORT);
    assert_eq!(queue.get().unwrap(), 1);
    queue.try_put(3).unwrap();
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (2, 3));
    assert!(matches!(queue.try_get(), Err(TryGetError::Empty)));
    assert!(queue.is_empty());
}

#[offspring::worker]
fn probe_bounds(queue: Queue<u64>) -> (bool, bool, bool, bool, usize, Option<usize>) {
    let put = queue.try_put(1).is_ok() && queue.try_put(2).is_ok();
    let full = matches!(queue.try_put(3), Err(TryPutError::Full(3)));
    let timeout = matches!(queue.put_timeout(3, SHORT), Err(PutTimeoutError::Timeout(3)));
    let length = queue.len();
    let got = queue.try_get().ok() == Some(1) && queue.get().ok() == Some(2) && matches!(queue.try_get(), Err(TryGetError::Empty));
    (put, full, timeout, got, length, queue.capacity())
}

#[offspring::test(timeout = "20s")]
fn bounds_are_exact_in_another_process() {
    let queue = Queue::bounded(2).unwrap();
    let process = probe_bounds::spawn(queue.clone()).unwrap();
    assert_eq!(process.join().unwrap(), (true, true, true, true, 2, Some(2)));
    // Room that was granted to a process that is gone is room again.
    queue.try_put(1).unwrap();
    queue.try_put(2).unwrap();
    assert!(queue.is_full());
}

#[offspring::test(timeout = "20s")]
fn a_blocked_put_goes_on_when_another_process_takes() {
    let queue = Queue::bounded(1).unwrap();
    let consumer = collect::spawn(queue.clone()).unwrap();
    for n in 0..500 {
        queue.put(n).unwrap();
    }
    queue.close();
    assert_eq!(consumer.join().unwrap().len(), 500);
}

#[offspring::test(timeout = "20s")]
fn closing_gives_the_rest_and_then_ends() {
    let queue = Queue::unbounded().unwrap();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert!(!queue.is_closed());
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    let error = queue.put(3).unwrap_err();
    assert!(matches!(error, PutError::Closed(3)));
    assert_eq!(error.into_inner(), 3);
    assert_eq!(queue.get().unwrap(), 1);
    assert_eq!(queue.try_get().unwrap(), 2);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(matches!(queue.try_get(), Err(TryGetError::Failed(GetError::Closed))));
}

#[offspring::worker]
fn close_it(queue: Queue<u64>) -> bool {
    queue.put(1).expect("it is open");
    queue.close();
    matches!(queue.put(2), Err(PutError::Closed(2))) && queue.is_closed()
}

#[offspring::test(timeout = "20s")]
fn another_process_closes_it_for_all_behind_its_own_items() {
    let queue = Queue::unbounded().unwrap();
    assert!(close_it::spawn(queue.clone()).unwrap().join().unwrap());
    assert!(matches!(queue.put(3), Err(PutError::Closed(3))));
    assert!(queue.iter().eq([1]));
}

#[offspring::worker]
fn try_get_until(queue: Queue<u64>, last: u64) -> usize {
    let mut spins = 0;
    loop {
        match queue.try_get() {
            Ok(n) if n == last => return spins,
            Ok(_) | Err(TryGetError::Empty) => spins += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[offspring::test(timeout = "20s")]
fn try_get_finds_what_was_put_before() {
    let queue = Queue::unbounded().unwrap();
    queue.put(9).unwrap();
    assert_eq!(try_get_until::spawn(queue, 9).unwrap().join().unwrap(), 0);
}

#[offspring::test(timeout = "20s")]
fn zero_capacity_is_refused() {
    let error = Queue::<u8>::bounded(0).unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
}

#[offspring::test(timeout = "20s")]
fn timeouts_that_no_clock_holds_are_no_timeout() {
    let queue = Queue::unbounded().unwrap();
    queue.put_timeout(1, Duration::MAX).unwrap();
    assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 1);
    assert!(queue.get_timeout(Duration::from_nanos(1)).unwrap_err().is_timeout());
    assert!(queue.get_timeout(Duration::ZERO).unwrap_err().is_timeout());
}

#[offspring::test(timeout = "20s")]
fn join_waits_until_every_item_is_done() {
    let (jobs, done) = (JoinableQueue::bounded(4).unwrap(), Queue::unbounded().unwrap());
    let consumers: Vec<_> = (0..4).map(|_| consume::spawn(jobs.clone(), done.clone()).unwrap()).collect();
    for n in 0..10 {
        jobs.put(n).unwrap();
    }
    jobs.join().unwrap();
    // All ten were done before the join was over.
    assert_eq!(done.len(), 10);
    jobs.close();
    let counts: u64 = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
    assert_eq!(counts, 10);
}

#[offspring::test(timeout = "20s")]
fn join_of_an_unused_queue_returns_at_once() {
    JoinableQueue::<u8>::unbounded().unwrap().join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn join_times_out_while_an_item_is_unfinished() {
    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put(1).unwrap();
    assert!(matches!(jobs.join_timeout(SHORT), Err(QueueJoinTimeoutError::Timeout)));
    let job = jobs.get().unwrap();
    assert!(jobs.join_timeout(SHORT).unwrap_err().is_timeout());
    job.task_done();
    jobs.join_timeout(Duration::ZERO).unwrap();
}

#[offspring::worker]
fn join_elsewhere(jobs: JoinableQueue<u64>, joined: Queue<u64>) {
    jobs.put(5).expect("it is open");
    jobs.join().expect("the owner works it off");
    joined.put(1).expect("somebody reads");
}

#[offspring::test(timeout = "20s")]
fn another_process_joins() {
    let (jobs, joined) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let process = join_elsewhere::spawn(jobs.clone(), joined.clone()).unwrap();
    let job = jobs.get().unwrap();
    assert!(joined.get_timeout(SHORT).unwrap_err().is_timeout());
    job.task_done();
    joined.get().unwrap();
    process.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn task_done_too_often_is_an_error_and_changes_nothing() {
    let jobs = JoinableQueue::unbounded().unwrap();
    assert_eq!(jobs.task_done(), Err(TaskDoneError::TooMany));
    jobs.put(1).unwrap();
    jobs.put(2).unwrap();
    assert_eq!(jobs.task_done(), Err(TaskDoneError::TooMany));
    assert_eq!(jobs.get().unwrap().into_inner(), 1);
    jobs.task_done().unwrap();
    assert_eq!(jobs.task_done(), Err(TaskDoneError::TooMany));
    assert!(jobs.join_timeout(SHORT).unwrap_err().is_timeout());
    assert_eq!(jobs.get().unwrap().into_inner(), 2);
    jobs.task_done().unwrap();
    jobs.join().unwrap();
}

#[offspring::worker]
fn python_style(jobs: JoinableQueue<u64>) -> (u64, bool) {
    let mut sum = 0;
    while let Ok(job) = jobs.get() {
        sum += job.into_inner();
        jobs.task_done().expect("one was taken");
    }
    (sum, jobs.task_done() == Err(TaskDoneError::TooMany))
}

#[offspring::test(timeout = "20s")]
fn task_done_works_as_in_python_in_another_process() {
    let jobs = JoinableQueue::unbounded().unwrap();
    let process = python_style::spawn(jobs.clone()).unwrap();
    for n in 1..=100 {
        jobs.put(n).unwrap();
    }
    jobs.join().unwrap();
    jobs.close();
    assert_eq!(process.join().unwrap(), (5050, true));
}

#[offspring::test(timeout = "20s")]
fn a_dropped_delivery_is_the_next_item_again() {
    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put("a".to_owned()).unwrap();
    jobs.put("b".to_owned()).unwrap();
    let first = jobs.get().unwrap();
    assert_eq!((first.as_str(), first.attempt()), ("a", 1));
    drop(first);
    let again = jobs.get().unwrap();
    assert_eq!((again.as_str(), again.attempt()), ("a", 2));
    again.task_done();
    jobs.get().unwrap().task_done();
    jobs.join().unwrap();
}

#[offspring::worker]
fn die_with_a_job(jobs: JoinableQueue<u64>, how: String) {
    let job = jobs.get().expect("there is one");
    match how.as_str() {
        "panic" => panic!("with job {}", *job),
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        _ => loop {
            std::thread::park();
        },
    }
}

#[offspring::test(timeout = "20s")]
fn the_job_of_a_consumer_that_dies_is_delivered_again() {
    for how in ["panic", "exit", "abort", "kill"] {
        let jobs = JoinableQueue::unbounded().unwrap();
        jobs.put(1).unwrap();
        jobs.put(2).unwrap();
        let victim = die_with_a_job::spawn(jobs.clone(), how.to_owned()).unwrap();
        if how == "kill" {
            eventually("the victim has the first job", || jobs.len() == 1);
            victim.kill();
        }
        assert!(victim.join().is_err());
        eventually("its job is back", || jobs.len() == 2);
        let job = jobs.get().unwrap();
        assert_eq!((*job, job.attempt()), (1, 2), "{how}");
        job.task_done();
        jobs.get().unwrap().task_done();
        jobs.join().unwrap();
    }
}

#[offspring::test(timeout = "20s")]
fn join_is_told_when_the_last_consumer_is_gone() {
    let jobs = JoinableQueue::unbounded().unwrap();
    let victim = die_with_a_job::spawn(jobs.clone(), "kill".to_owned()).unwrap();
    jobs.put(1).unwrap();
    eventually("the victim has the job", || jobs.is_empty());
    std::thread::scope(|scope| {
        let joined = scope.spawn(|| jobs.join());
        assert!(!joined.is_finished());
        victim.kill();
        assert!(matches!(joined.join().unwrap(), Err(QueueJoinError::Abandoned { unfinished: 1 })));
    });
}

#[offspring::worker]
fn use_of_the_parents(queue: Queue<u64>, jobs: JoinableQueue<u64>, report: offspring::Sender<String>) {
    queue.put(1).expect("the owner lives");
    let owner_gone = queue.get().unwrap_err();
    let put = loop {
        match queue.put(2) {
            Ok(()) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    let join = jobs.join().unwrap_err();
    report.send(format!("{owner_gone:?} {put:?} {join:?}")).expect("the test reads");
}

#[derive(Serialize, Deserialize)]
struct Handles {
    queue: Queue<u64>,
    jobs: JoinableQueue<u64>,
}

#[offspring::worker]
fn own(handles: Queue<Handles>, told: Queue<u64>) {
    let (queue, jobs) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
    jobs.put(1).unwrap();
    handles
        .put(Handles {
            queue: queue.clone(),
            jobs: jobs.clone(),
        })
        .expect("the test reads");
    told.put(queue.get().unwrap()).expect("the test reads");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "20s")]
fn when_the_owner_dies_every_handle_says_so() {
    let (handles, told) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let owner = own::spawn(handles.clone(), told.clone()).unwrap();
    let Handles { queue, jobs } = handles.get().unwrap();
    let (report, reports) = offspring::channel().unwrap();
    let user = use_of_the_parents::spawn(queue.clone(), jobs.clone(), report).unwrap();
    // The owner has got the item that the user put first, so the user waits in `get`.
    assert_eq!(told.get().unwrap(), 1);
    owner.kill();
    assert_eq!(reports.recv().unwrap(), "Disconnected Disconnected(\"..\") Disconnected");
    user.join().unwrap();
    assert!(matches!(queue.get(), Err(GetError::Disconnected)));
    assert!(queue.is_closed());
}

#[derive(Serialize, Deserialize)]
struct Request {
    number: u64,
    reply: Queue<u64>,
}

#[offspring::worker]
fn serve(requests: Queue<Request>) {
    for request in &requests {
        request.reply.put(request.number * 2).expect("the client waits");
    }
}

#[offspring::test(timeout = "20s")]
fn handles_travel_inside_items() {
    let requests = Queue::unbounded().unwrap();
    let server = serve::spawn(requests.clone()).unwrap();
    let reply = Queue::unbounded().unwrap();
    for number in 0..200 {
        requests
            .put(Request {
                number,
                reply: reply.clone(),
            })
            .unwrap();
        assert_eq!(reply.get().unwrap(), number * 2);
    }
    requests.close();
    server.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_handle_that_comes_home_is_the_queue_itself() {
    let (queues, inner) = (Queue::unbounded().unwrap(), Queue::<u64>::unbounded().unwrap());
    queues.put(inner.clone()).unwrap();
    let home = queues.get().unwrap();
    home.put(4).unwrap();
    assert_eq!(inner.get().unwrap(), 4);
}

#[offspring::worker]
fn forward(queue: Queue<u64>, depth: u32) {
    queue.put(u64::from(depth)).expect("somebody reads");
    if depth > 0 {
        forward::spawn(queue, depth - 1).unwrap().join().unwrap();
    }
}

#[offspring::test(timeout = "20s")]
fn a_child_hands_the_queue_on_to_its_own_child() {
    let queue = Queue::unbounded().unwrap();
    forward::spawn(queue.clone(), 3).unwrap().join().unwrap();
    assert!(queue.iter().eq([3, 2, 1, 0]));
}

#[offspring::worker]
fn sizes(queue: Queue<Vec<u8>>, sizes: Vec<usize>) {
    for size in sizes {
        queue.put(vec![size as u8; size]).expect("somebody reads");
    }
}

#[offspring::worker]
fn measure(queue: Queue<Vec<u8>>) -> Vec<usize> {
    queue
        .iter()
        .map(|bytes| {
            assert!(bytes.iter().all(|&byte| byte == bytes.len() as u8));
            bytes.len()
        })
        .collect()
}

#[offspring::test(timeout = "30s")]
fn items_of_every_size_cross_in_order() {
    let lengths = vec![
        0,
        1,
        7,
        8,
        100,
        32_700,
        32_750,
        32_760,
        32_768,
        40_000,
        1 << 20,
        3,
        20 << 20,
        5,
        70_000,
        0,
    ];
    let queue = Queue::unbounded().unwrap();
    let consumer = measure::spawn(queue.clone()).unwrap();
    let producer = sizes::spawn(queue.clone(), lengths.clone()).unwrap();
    producer.join().unwrap();
    queue.close();
    assert_eq!(consumer.join().unwrap(), lengths);
}

#[offspring::test(timeout = "30s")]
fn more_large_items_than_may_be_under_way_at_once() {
    let queue = Queue::bounded(100).unwrap();
    let consumer = measure::spawn(queue.clone()).unwrap();
    for _ in 0..200 {
        queue.put(vec![64; 200_000]).unwrap();
    }
    queue.close();
    assert_eq!(consumer.join().unwrap().len(), 200);
}

#[derive(Debug, PartialEq)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 {
            return Err(serde::ser::Error::custom("13 does not encode"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        if number == 14 {
            panic!("14 does not decode");
        }
        Ok(Picky(number))
    }
}

#[offspring::test(timeout = "20s")]
fn an_item_that_does_not_encode_comes_back() {
    let queue = Queue::bounded(1).unwrap();
    let error = queue.put(Picky(13)).unwrap_err();
    assert!(matches!(error, PutError::Encode(Picky(13), _)));
    queue.put(Picky(1)).unwrap();
    assert_eq!(queue.get().unwrap(), Picky(1));
}

#[offspring::worker]
fn take_picky(queue: Queue<Picky>) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match queue.get() {
            Ok(Picky(number)) => seen.push(number.to_string()),
            Err(GetError::Decode(_)) => seen.push("bad".to_owned()),
            Err(_) => return seen,
        }
    }
}

#[offspring::test(timeout = "20s")]
fn an_item_that_does_not_decode_is_one_error_only() {
    let queue = Queue::unbounded().unwrap();
    let consumer = take_picky::spawn(queue.clone()).unwrap();
    for number in [1, 14, 2] {
        queue.put(Picky(number)).unwrap();
    }
    queue.close();
    assert_eq!(consumer.join().unwrap(), ["1", "bad", "2"]);
}

#[offspring::test(timeout = "20s")]
fn receiving_ends_are_refused_as_items() {
    let queue = Queue::unbounded().unwrap();
    let (_sender, receiver) = offspring::channel::<u8>().unwrap();
    let error = queue.put(receiver).unwrap_err();
    let PutError::Encode(_, cause) = error else { panic!("{error:?}") };
    assert!(cause.to_string().contains("exists once"), "{cause}");
}

#[offspring::test(timeout = "30s")]
fn threads_of_one_process_share_a_handle() {
    let queue = Queue::bounded(4).unwrap();
    let consumer = collect_with_threads::spawn(queue.clone(), 4).unwrap();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let queue = &queue;
            scope.spawn(move || (t * 500..(t + 1) * 500).for_each(|n| queue.put(n).unwrap()));
        }
    });
    queue.close();
    let mut got = consumer.join().unwrap();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..2000));
}

#[offspring::worker]
fn collect_with_threads(queue: Queue<u64>, threads: usize) -> Vec<u64> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| queue.iter().collect::<Vec<_>>())).collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[offspring::worker]
fn hoard(jobs: JoinableQueue<u64>, told: Queue<u64>) {
    // Fast at first, so that many items lie ahead of it; then busy for ever with one.
    for _ in 0..2000 {
        jobs.get().expect("there are enough").task_done();
    }
    let _job = jobs.get().expect("there are enough");
    told.put(1).expect("somebody reads");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "30s")]
fn a_busy_consumer_does_not_keep_items_from_others() {
    let (jobs, told) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let busy = hoard::spawn(jobs.clone(), told.clone()).unwrap();
    for n in 0..5000 {
        jobs.put(n).unwrap();
    }
    told.get().unwrap();
    for _ in 0..2999 {
        jobs.get_timeout(Duration::from_secs(5))
            .expect("it does not stay with the busy one")
            .task_done();
    }
    assert!(jobs.get_timeout(SHORT).unwrap_err().is_timeout());
    busy.kill();
    jobs.get().unwrap().task_done();
    jobs.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_consumer_that_is_stopped_does_not_stop_the_others() {
    let (jobs, done) = (JoinableQueue::bounded(4).unwrap(), Queue::unbounded().unwrap());
    let stopped = consume::spawn(jobs.clone(), done.clone()).unwrap();
    let _busy = consume::spawn(jobs.clone(), done.clone()).unwrap();
    jobs.put(0).unwrap();
    jobs.join().unwrap();
    std::process::Command::new("kill")
        .args(["-STOP", &stopped.pid().to_string()])
        .status()
        .unwrap();
    for n in 1..100 {
        jobs.put_timeout(n, Duration::from_secs(5)).expect("the other consumer goes on");
    }
    stopped.kill();
    jobs.join().unwrap();
    assert!(done.len() >= 100);
}

#[offspring::test(timeout = "20s")]
fn a_handle_of_another_item_type_is_refused() {
    // What a program cannot write: the token of one type read as another's.
    #[derive(Serialize)]
    struct Outer<'a>(&'a Queue<u64>);
    #[derive(Deserialize, Debug)]
    struct Wrong(#[allow(dead_code)] Queue<String>);
    impl Serialize for Wrong {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
    let numbers = Queue::<u64>::unbounded().unwrap();
    let (tx, rx) = offspring::channel::<Lie>().unwrap();
    struct Lie(Option<Queue<u64>>, Option<Wrong>);
    impl Serialize for Lie {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            Outer(self.0.as_ref().unwrap()).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Lie {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Wrong::deserialize(deserializer).map(|wrong| Lie(None, Some(wrong)))
        }
    }
    tx.send(Lie(Some(numbers), None)).unwrap();
    let error = rx.recv().map(|lie| lie.1).unwrap_err();
    let offspring::RecvError::Decode(cause) = error else {
        panic!("{error:?}")
    };
    assert!(cause.to_string().contains("another type"), "{cause}");
}

#[offspring::test(timeout = "20s")]
fn a_queue_is_debug() {
    let queue = Queue::<u64>::unbounded().unwrap();
    let text = format!("{queue:?}");
    assert!(text.contains("u64") && text.contains("owner: true"), "{text}");
}

#[offspring::worker]
fn crawl(jobs: JoinableQueue<u64>) {
    for job in &jobs {
        if *job > 0 {
            jobs.put(*job - 1).expect("it is open");
        }
        job.task_done();
    }
}

#[offspring::test(timeout = "30s")]
fn consumers_that_put_new_jobs_are_waited_for() {
    for _ in 0..20 {
        let jobs = JoinableQueue::bounded(100).unwrap();
        let crawler = crawl::spawn(jobs.clone()).unwrap();
        jobs.put(50).unwrap();
        jobs.join().unwrap();
        jobs.close();
        crawler.join().unwrap();
    }
}

#[offspring::worker]
fn put_one(queue: Queue<u64>, told: Queue<u64>) {
    queue.put(1).expect("it is open");
    told.put(1).expect("the owner reads");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "20s")]
fn room_that_a_producer_left_unused_goes_to_the_next() {
    let (queue, told) = (Queue::bounded(10).unwrap(), Queue::unbounded().unwrap());
    let other = put_one::spawn(queue.clone(), told.clone()).unwrap();
    told.get().unwrap();
    for n in 0..9 {
        queue.put_timeout(n, Duration::from_secs(5)).expect("nine places are free");
    }
    assert!(queue.is_full());
    assert!(queue.try_put(9).unwrap_err().is_full());
    other.kill();
}
