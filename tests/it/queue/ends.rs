//! How a queue ends: closed, abandoned, or with its owner.

use std::collections::BTreeSet;

use offspring::queue::{GetError, PutError, TryGetError};
use offspring::{JoinableQueue, Queue};
use serde::{Deserialize, Serialize};

use super::{SHORT, collect, produce};
use crate::support::eventually;

#[offspring::test(timeout = "20s")]
fn the_queue_ends_when_nobody_is_left_who_could_put() {
    let results = Queue::unbounded().unwrap();
    let workers: Vec<_> =
        (0..3).map(|p| produce::spawn(results.clone(), p * 10..(p + 1) * 10).unwrap()).collect();
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
    // Empty, and not abandoned: the holder may put more.
    assert!(matches!(queue.try_get(), Err(TryGetError::Empty)));
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
    queue.close().unwrap();
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
    assert!(producer.join().unwrap().contains("no consumer is left"));
}

#[offspring::worker]
fn end_while_a_child_waits(how: String) {
    let queue = Queue::<u64>::unbounded().unwrap();
    let child = collect::spawn(queue.clone()).unwrap();
    queue.put(1).unwrap();
    eventually("the child waits for the next item", || queue.is_empty().unwrap());
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
        let code = process.exit_reason().unwrap().code();
        assert_eq!(code, Some(if how == "exit" { 3 } else { 0 }), "{how}");
    }
}

#[offspring::test(timeout = "20s")]
fn closing_gives_the_rest_and_then_ends() {
    let queue = Queue::unbounded().unwrap();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert!(!queue.is_closed().unwrap());
    queue.close().unwrap();
    queue.close().unwrap();
    assert!(queue.is_closed().unwrap());
    let error = queue.put(3).unwrap_err();
    assert!(matches!(error, PutError::Closed(3)));
    assert_eq!(error.into_inner(), 3);
    assert_eq!(queue.get().unwrap(), 1);
    assert_eq!(queue.try_get().unwrap(), 2);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(matches!(queue.try_get(), Err(TryGetError::Closed)));
}

#[offspring::worker]
fn close_it(queue: Queue<u64>) -> bool {
    queue.put(1).expect("it is open");
    queue.close().unwrap();
    matches!(queue.put(2), Err(PutError::Closed(2))) && queue.is_closed().unwrap()
}

#[offspring::test(timeout = "20s")]
fn another_process_closes_it_for_all_behind_its_own_items() {
    let queue = Queue::unbounded().unwrap();
    assert!(close_it::spawn(queue.clone()).unwrap().join().unwrap());
    assert!(matches!(queue.put(3), Err(PutError::Closed(3))));
    assert!(queue.iter().eq([1]));
}

#[offspring::worker]
fn use_of_the_parents(
    queue: Queue<u64>,
    jobs: JoinableQueue<u64>,
    report: offspring::Sender<String>,
) {
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
    handles.put(Handles { queue: queue.clone(), jobs: jobs.clone() }).expect("the test reads");
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
    let report = reports.recv().unwrap();
    assert_eq!(report.matches("Disconnected (cannot ").count(), 3, "{report}");
    user.join().unwrap();
    assert!(matches!(queue.get(), Err(GetError::Disconnected)));
    assert!(queue.is_closed().unwrap());
    assert!(queue.len().unwrap_err().is_end());
}
