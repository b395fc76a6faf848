//! Items that count until they are done.

use std::time::Duration;

use offspring::queue::{QueueJoinError, QueueJoinTimeoutError, TaskDoneError};
use offspring::sync::Event;
use offspring::{JoinableQueue, Queue};

use super::{SHORT, consume};
use crate::support::{close_descriptors, eventually};

#[offspring::test(timeout = "20s")]
fn join_waits_until_every_item_is_done() {
    let (jobs, done) = (JoinableQueue::bounded(4).unwrap(), Queue::unbounded().unwrap());
    let consumers: Vec<_> =
        (0..4).map(|_| consume::spawn(jobs.clone(), done.clone()).unwrap()).collect();
    for n in 0..10 {
        jobs.put(n).unwrap();
    }
    jobs.join().unwrap();
    // All ten were done before the join was over.
    assert_eq!(done.len().unwrap(), 10);
    jobs.close().unwrap();
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
    // Before the item is finished, so before the other process can have joined.
    joined.put(0).unwrap();
    job.task_done();
    assert_eq!([joined.get().unwrap(), joined.get().unwrap()], [0, 1]);
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
    jobs.close().unwrap();
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
            eventually("the victim has the first job", || jobs.len().unwrap() == 1);
            victim.kill();
        }
        assert!(victim.join().is_err());
        eventually("its job is back", || jobs.len().unwrap() == 2);
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
    eventually("the victim has the job", || jobs.is_empty().unwrap());
    std::thread::scope(|scope| {
        let joined = scope.spawn(|| jobs.join());
        assert!(!joined.is_finished());
        victim.kill();
        assert!(matches!(joined.join().unwrap(), Err(QueueJoinError::Abandoned { unfinished: 1 })));
    });
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
        jobs.close().unwrap();
        crawler.join().unwrap();
    }
}

#[offspring::worker]
fn lose_the_session_with_a_job(jobs: JoinableQueue<u64>, held: Event) {
    let _job = jobs.get().unwrap();
    // Attached, before there is no way to do that.
    held.wait_timeout(Duration::ZERO).unwrap_err();
    close_descriptors();
    held.set();
    std::thread::sleep(Duration::from_secs(20));
}

#[offspring::worker]
fn find_nothing(jobs: JoinableQueue<u64>) {
    assert!(jobs.try_get().unwrap_err().is_empty());
}

#[offspring::test(timeout = "60s")]
fn a_job_of_a_process_that_lost_its_session_remains_its_own_until_that_ends() {
    let (jobs, held) = (JoinableQueue::unbounded().unwrap(), Event::new().unwrap());
    jobs.put(7).unwrap();
    let child = lose_the_session_with_a_job::spawn(jobs.clone(), held.clone()).unwrap();
    held.wait_timeout(Duration::from_secs(20)).unwrap();
    // The hub has had its turn after the end of that session: another one has been served.
    find_nothing::spawn(jobs.clone()).unwrap().join().unwrap();
    assert!(jobs.join_timeout(SHORT).unwrap_err().is_timeout());
    child.kill();
    let job = jobs.get().unwrap();
    assert_eq!((*job, job.attempt()), (7, 2));
    job.task_done();
    jobs.join().unwrap();
    child.join().unwrap_err();
}
