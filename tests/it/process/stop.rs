//! Stopping a process: the worker reacts, or signals follow after the grace.
//!
//! No test has an upper bound of its own on how long something takes: where a wait must be short,
//! the alternative is longer than the deadline of the test.

use std::time::{Duration, Instant};

use offspring::process::KillCause;
use offspring::queue::GetTimeoutError;
use offspring::{ExitReason, JoinableQueue, Process, ProcessBuilder, Queue, Stdio};

use super::stage::{FOREVER, Lines, sleeper};
use crate::support::suspend;

/// Longer than any test lasts.
const PATIENT: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

fn reason_of<T: serde::de::DeserializeOwned + std::fmt::Debug>(child: &Process<T>) -> ExitReason {
    child.join().unwrap_err().reason().unwrap().clone()
}

const fn stopped_by(signal: i32) -> ExitReason {
    ExitReason::Killed { cause: KillCause::Stop, signal }
}

/// Works until it is asked to stop. Returns whether it was asked before it began, and its rounds.
#[offspring::worker]
fn work_in_rounds() -> (bool, u64) {
    let before = offspring::current().is_stopping();
    println!("ready");
    let mut rounds = 0;
    loop {
        rounds += 1;
        if offspring::current().is_stopping() {
            return (before, rounds);
        }
        std::thread::yield_now();
    }
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_looks_returns_what_it_has() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(work_in_rounds::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.request_stop(PATIENT);
    let (before, rounds) = child.join().unwrap();
    assert!(!before && rounds > 0);
    assert_eq!(child.exit_reason(), Some(ExitReason::Returned));
    // Too late, and harmless.
    child.request_stop(Duration::ZERO);
    assert_eq!(child.exit_reason(), Some(ExitReason::Returned));
}

/// Waits in each way that there is. Returns what a wait said before and after it was asked.
#[offspring::worker]
fn wait_in_every_way() -> (bool, bool) {
    let early = offspring::current().wait_stopping_timeout(Duration::from_millis(1));
    println!("ready");
    std::thread::scope(|scope| {
        scope.spawn(|| offspring::current().wait_stopping());
        scope.spawn(|| assert!(offspring::current().wait_stopping_timeout(Duration::MAX)));
    });
    let late = offspring::current().wait_stopping_timeout(Duration::ZERO);
    (early, late)
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_waits_is_woken() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(wait_in_every_way::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.request_stop(PATIENT);
    assert_eq!(child.join().unwrap(), (false, true));
}

#[offspring::test(timeout = "20s")]
fn after_the_grace_comes_sigterm() {
    let child = sleeper::spawn().unwrap();
    let began = Instant::now();
    child.request_stop(SHORT);
    assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    assert_eq!(
        child.exit_reason().unwrap().to_string(),
        "was ended by this program with SIGTERM (`stop`, after its grace)"
    );
}

/// With this grace a call that waited would outlast the test.
#[offspring::test(timeout = "20s")]
fn a_request_to_stop_does_not_wait() {
    let child = sleeper::spawn().unwrap();
    child.request_stop(PATIENT);
    assert!(child.is_alive());
    child.kill();
}

#[offspring::test(timeout = "20s")]
fn stop_waits_for_the_end_and_returns_its_reason() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(work_in_rounds::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    assert_eq!(child.stop(PATIENT), ExitReason::Returned);
    assert!(!child.is_alive() && child.join().is_ok());
    // It has ended: there is nothing to wait for.
    assert_eq!(child.stop(Duration::MAX), ExitReason::Returned);

    let child = sleeper::spawn().unwrap();
    assert_eq!(child.stop(SHORT), stopped_by(libc::SIGTERM));
    assert!(!child.is_alive());
}

#[offspring::worker]
fn ignore_sigterm() {
    // SAFETY: no handler is involved.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    println!("ready");
    std::thread::sleep(FOREVER);
}

#[offspring::test(timeout = "20s")]
fn after_another_grace_comes_sigkill() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(ignore_sigterm::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    let began = Instant::now();
    child.request_stop(SHORT);
    assert_eq!(reason_of(&child), stopped_by(libc::SIGKILL));
    assert_eq!(child.exit_reason().unwrap().code(), Some(-libc::SIGKILL));
    assert!(began.elapsed() >= 2 * SHORT, "{:?}", began.elapsed());
}

#[offspring::test(timeout = "20s")]
fn a_process_that_is_suspended_is_stopped_too() {
    let child = sleeper::spawn().unwrap();
    suspend(child.pid());
    child.request_stop(SHORT);
    assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
}

/// One after the other they would outlast the test.
#[offspring::test(timeout = "30s")]
fn many_stop_in_the_time_of_one() {
    let children: Vec<_> = (0..20).map(|_| sleeper::spawn().unwrap()).collect();
    let grace = Duration::from_secs(3);
    children.iter().for_each(|child| child.request_stop(grace));
    children.iter().for_each(|child| assert_eq!(reason_of(child), stopped_by(libc::SIGTERM)));
}

/// The other grace is longer than the test.
#[offspring::test(timeout = "20s")]
fn the_sooner_end_of_two_graces_counts() {
    for graces in
        [[Duration::MAX, SHORT], [PATIENT, SHORT], [SHORT, PATIENT], [SHORT, Duration::MAX]]
    {
        let child = sleeper::spawn().unwrap();
        graces.iter().for_each(|grace| child.request_stop(*grace));
        assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
    }
}

#[offspring::test(timeout = "20s")]
fn without_an_end_of_the_grace_a_process_is_only_asked() {
    let child = sleeper::spawn().unwrap();
    child.request_stop(Duration::MAX);
    assert!(child.join_timeout(SHORT).unwrap_err().is_timeout());
    child.terminate();
    // The reason names what ended it, not what was asked before.
    let cause = KillCause::Terminate;
    assert_eq!(reason_of(&child), ExitReason::Killed { cause, signal: libc::SIGTERM });
}

#[offspring::test(timeout = "20s")]
fn no_grace_at_all_is_the_end() {
    let child = sleeper::spawn().unwrap();
    child.request_stop(Duration::ZERO);
    assert!(matches!(reason_of(&child), ExitReason::Killed { cause: KillCause::Stop, .. }));
}

#[offspring::worker]
fn take_one(jobs: JoinableQueue<u32>) {
    let _job = jobs.get().unwrap();
    println!("took");
    // There is no second one.
    let _ = jobs.get();
}

/// A blocked call is not interrupted; the items of its process go to others.
#[offspring::test(timeout = "20s")]
fn a_worker_that_waits_for_an_item_ends_after_the_grace_and_its_items_stay() {
    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put(7).unwrap();
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(take_one::new(jobs.clone())).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("took"));
    assert!(matches!(jobs.get_timeout(SHORT), Err(GetTimeoutError::Timeout)));
    child.request_stop(SHORT);
    assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
    assert_eq!(*jobs.get().unwrap(), 7);
}

#[offspring::test(timeout = "20s")]
fn nobody_asks_the_program_itself() {
    let current = offspring::current();
    assert!(!current.is_stopping() && !current.wait_stopping_timeout(Duration::from_millis(10)));
}

/// Ends, with a child that has to be stopped against its will.
#[offspring::worker]
fn end_while_a_child_stops() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(ignore_sigterm::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.request_stop(SHORT);
}

#[offspring::test(timeout = "20s")]
fn a_stop_goes_on_while_the_parent_waits_at_its_end() {
    // Its child ignores all but SIGKILL.
    let parent = end_while_a_child_stops::spawn().unwrap();
    parent.join().unwrap();
}

/// Answers each question with whether it was asked to stop.
#[offspring::worker]
fn answer_whether_asked(questions: Queue<()>, answers: Queue<bool>) {
    while questions.get().is_ok() {
        answers.put(offspring::current().is_stopping()).unwrap();
    }
}

/// The request arrives before anything that the parent sends after it in any other way.
#[offspring::test(timeout = "30s")]
fn who_hears_of_an_order_sees_it() {
    for _ in 0..20 {
        let (questions, answers) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
        let child = answer_whether_asked::spawn(questions.clone(), answers.clone()).unwrap();
        let ask = || {
            questions.put(()).unwrap();
            answers.get_timeout(Duration::from_secs(5)).unwrap()
        };
        assert_eq!([ask(), ask()], [false; 2]);
        child.request_stop(Duration::MAX);
        assert_eq!([ask(), ask()], [true; 2]);
        child.kill();
    }
}
