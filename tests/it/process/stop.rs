//! Asked to stop: by the worker itself, and by what comes after the grace.

use std::time::{Duration, Instant};

use offspring::queue::GetTimeoutError;
use offspring::{Builder, ExitReason, JoinableQueue, KillCause, Process, Queue, Stdio};

use super::signals::stop_process;
use super::stage::{FOREVER, Lines, sleeper};

/// Longer than any test lasts.
const PATIENT: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);
/// More than the system needs for anything here.
const SLACK: Duration = Duration::from_secs(3);

fn reason_of<T: serde::de::DeserializeOwned + std::fmt::Debug>(child: &Process<T>) -> ExitReason {
    child.join().unwrap_err().reason().unwrap().clone()
}

const fn stopped_by(signal: i32) -> ExitReason {
    ExitReason::Killed {
        cause: KillCause::Stop,
        signal,
    }
}

/// Works until it is asked to stop, and gives what it did.
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
    let mut child = Builder::new()
        .stdout(Stdio::piped())
        .spawn(work_in_rounds::new())
        .unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.stop(PATIENT);
    let (before, rounds) = child.join_timeout(SLACK).unwrap();
    assert!(!before && rounds > 0);
    assert_eq!(child.exit_status(), Some(ExitReason::Returned));
    // Too late, and harmless.
    child.stop(Duration::ZERO);
    assert_eq!(child.exit_status(), Some(ExitReason::Returned));
}

/// Waits in each way that there is, and gives what these said.
#[offspring::worker]
fn wait_in_every_way() -> (bool, bool, Duration) {
    let early = offspring::current().wait_stopping_timeout(Duration::from_millis(1));
    println!("ready");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| offspring::current().wait_stopping());
        scope.spawn(|| assert!(offspring::current().wait_stopping_timeout(Duration::MAX)));
    });
    let late = offspring::current().wait_stopping_timeout(Duration::ZERO);
    (early, late, began.elapsed())
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_waits_is_woken() {
    let mut child = Builder::new()
        .stdout(Stdio::piped())
        .spawn(wait_in_every_way::new())
        .unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.stop(PATIENT);
    let (early, late, waited) = child.join_timeout(SLACK).unwrap();
    assert!(!early && late && waited < SLACK, "{waited:?}");
}

#[offspring::test(timeout = "20s")]
fn after_the_grace_comes_sigterm() {
    let child = sleeper::spawn().unwrap();
    let began = Instant::now();
    child.stop(SHORT);
    assert!(began.elapsed() < SHORT, "stop does not wait");
    assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
    let took = began.elapsed();
    assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
    assert_eq!(
        child.exit_status().unwrap().to_string(),
        "ended by this program with SIGTERM (stop, after its grace)"
    );
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
    let mut child = Builder::new()
        .stdout(Stdio::piped())
        .spawn(ignore_sigterm::new())
        .unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    let began = Instant::now();
    child.stop(SHORT);
    assert_eq!(reason_of(&child), stopped_by(libc::SIGKILL));
    assert_eq!(child.exit_status().unwrap().code(), Some(-libc::SIGKILL));
    let took = began.elapsed();
    assert!(took >= 2 * SHORT && took < 2 * SHORT + SLACK, "{took:?}");
}

#[offspring::test(timeout = "20s")]
fn a_process_that_is_suspended_is_stopped_too() {
    let child = sleeper::spawn().unwrap();
    stop_process(child.pid());
    child.stop(SHORT);
    assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
}

#[offspring::test(timeout = "20s")]
fn many_stop_in_the_time_of_one() {
    let children: Vec<_> = (0..20).map(|_| sleeper::spawn().unwrap()).collect();
    let began = Instant::now();
    let grace = 5 * SHORT;
    children.iter().for_each(|child| child.stop(grace));
    children
        .iter()
        .for_each(|child| assert_eq!(reason_of(child), stopped_by(libc::SIGTERM)));
    assert!(began.elapsed() < grace + SLACK, "{:?}", began.elapsed());
}

#[offspring::test(timeout = "20s")]
fn the_sooner_end_of_two_graces_counts() {
    for graces in [
        [Duration::MAX, SHORT],
        [PATIENT, SHORT],
        [SHORT, PATIENT],
        [SHORT, Duration::MAX],
    ] {
        let child = sleeper::spawn().unwrap();
        let began = Instant::now();
        graces.iter().for_each(|grace| child.stop(*grace));
        assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
        assert!(began.elapsed() < SHORT + SLACK, "{graces:?}");
    }
}

#[offspring::test(timeout = "20s")]
fn without_an_end_of_the_grace_a_process_is_only_asked() {
    let child = sleeper::spawn().unwrap();
    child.stop(Duration::MAX);
    assert!(child.join_timeout(SHORT).unwrap_err().is_timeout());
    child.terminate();
    // Who really ended it is told.
    let cause = KillCause::Terminate;
    assert_eq!(
        reason_of(&child),
        ExitReason::Killed {
            cause,
            signal: libc::SIGTERM
        }
    );
}

#[offspring::test(timeout = "20s")]
fn no_grace_at_all_is_the_end() {
    let child = sleeper::spawn().unwrap();
    child.stop(Duration::ZERO);
    assert!(matches!(
        reason_of(&child),
        ExitReason::Killed {
            cause: KillCause::Stop,
            ..
        }
    ));
}

#[offspring::worker]
fn take_one(jobs: JoinableQueue<u32>) {
    let _job = jobs.get().unwrap();
    println!("took");
    // Nobody puts a second one.
    let _ = jobs.get();
}

/// What blocks is not woken; what it held goes to others.
#[offspring::test(timeout = "20s")]
fn a_worker_that_waits_for_an_item_ends_after_the_grace_and_its_items_stay() {
    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put(7).unwrap();
    let mut child = Builder::new()
        .stdout(Stdio::piped())
        .spawn(take_one::new(jobs.clone()))
        .unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("took"));
    assert!(matches!(
        jobs.get_timeout(SHORT),
        Err(GetTimeoutError::Timeout)
    ));
    child.stop(SHORT);
    assert_eq!(reason_of(&child), stopped_by(libc::SIGTERM));
    assert_eq!(*jobs.get_timeout(SLACK).unwrap(), 7);
}

#[offspring::test(timeout = "20s")]
fn nobody_asks_the_program_itself() {
    let current = offspring::current();
    assert!(!current.is_stopping() && !current.wait_stopping_timeout(Duration::from_millis(10)));
}

/// Ends, with a child that has to be stopped against its will.
#[offspring::worker]
fn end_while_a_child_stops() {
    let mut child = Builder::new()
        .stdout(Stdio::piped())
        .spawn(ignore_sigterm::new())
        .unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.stop(SHORT);
}

#[offspring::test(timeout = "20s")]
fn a_stop_goes_on_while_the_parent_waits_at_its_end() {
    let parent = end_while_a_child_stops::spawn().unwrap();
    let began = Instant::now();
    parent.join().unwrap();
    assert!(began.elapsed() < 2 * SHORT + SLACK, "{:?}", began.elapsed());
}

/// Whether it was asked to stop, each time that it hears something.
#[offspring::worker]
fn answer_whether_asked(questions: Queue<()>, answers: Queue<bool>) {
    while questions.get().is_ok() {
        answers.put(offspring::current().is_stopping()).unwrap();
    }
}

/// The order is there before anything that the parent says after it, on whatever way.
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
        child.stop(Duration::MAX);
        assert_eq!([ask(), ask()], [true; 2]);
        child.kill();
    }
}
