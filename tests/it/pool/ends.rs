//! How pools end: in order, at once, with the program, and while everything else happens.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use offspring::pool::{SubmitError, TaskError};
use offspring::{Pool, Sender, Task};

use crate::support::{Random, eventually, is_running};

#[offspring::worker]
fn sleep_for(time: Duration) -> u64 {
    std::thread::sleep(time);
    1
}

#[offspring::worker]
fn leave_mark(mark: PathBuf) {
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(mark, "done").unwrap();
}

const LONG: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(10);

#[offspring::test(timeout = "60s")]
fn a_dropped_pool_finishes_what_it_has() {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..40).map(|_| pool.submit(sleep_for::new(SHORT)).unwrap()).collect();
    let pids = pool.pids();
    drop(pool);
    assert!(tasks.iter().all(Task::is_finished));
    assert_eq!(tasks.into_iter().map(|task| task.join().unwrap()).sum::<u64>(), 40);
    assert!(pids.into_iter().all(|pid| !is_running(pid)));
}

#[offspring::test(timeout = "60s")]
fn a_shutdown_keeps_its_grace_and_says_what_it_dropped() {
    let pool = Pool::new(2).unwrap();
    let task = pool.submit(sleep_for::new(SHORT)).unwrap();
    pool.shutdown(Duration::from_secs(30)).unwrap();
    assert_eq!(task.join().unwrap(), 1);

    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..5).map(|_| pool.submit(sleep_for::new(LONG)).unwrap()).collect();
    let start = Instant::now();
    let error = pool.shutdown(Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.dropped, 5);
    assert!(start.elapsed() < Duration::from_secs(10));
    for task in tasks {
        assert!(matches!(task.join(), Err(TaskError::Stopped { .. })));
    }
}

#[offspring::test(timeout = "60s")]
fn ten_thousand_waiting_tasks_do_not_hold_up_a_kill() {
    let pool = Pool::new(3).unwrap();
    let tasks: Vec<_> = (0..10_000).map(|_| pool.submit(sleep_for::new(LONG)).unwrap()).collect();
    let start = Instant::now();
    pool.kill();
    assert!(start.elapsed() < Duration::from_secs(10));
    for task in tasks {
        assert!(matches!(task.join(), Err(TaskError::Stopped { .. })));
    }
}

#[offspring::test(timeout = "60s")]
fn a_worker_that_dies_during_a_shutdown_does_not_stop_it() {
    #[offspring::worker]
    fn abort_soon() {
        std::thread::sleep(Duration::from_millis(50));
        std::process::abort();
    }
    for max_tasks in [1, 1000] {
        let pool = Pool::builder().workers(2).max_tasks_per_worker(max_tasks).build().unwrap();
        let bad: Vec<_> = (0..3).map(|_| pool.submit(abort_soon::new()).unwrap()).collect();
        let good: Vec<_> = (0..20).map(|_| pool.submit(sleep_for::new(SHORT)).unwrap()).collect();
        pool.shutdown(Duration::from_secs(40)).unwrap();
        assert!(bad.into_iter().all(|task| matches!(task.join(), Err(TaskError::Died { .. }))));
        assert_eq!(good.into_iter().map(|task| task.join().unwrap()).sum::<u64>(), 20);
    }
}

#[offspring::worker]
fn forget_a_pool(directory: PathBuf, how: u32) {
    let pool = Pool::new(2).unwrap();
    for n in 0..10 {
        let _runs_on = pool.submit(leave_mark::new(directory.join(n.to_string()))).unwrap();
    }
    std::mem::forget(pool);
    if how == 1 {
        std::process::exit(0);
    }
}

#[offspring::test(timeout = "60s")]
fn a_program_that_ends_finishes_a_pool_that_it_forgot() {
    for how in [0, 1] {
        let directory = tempfile::tempdir().unwrap();
        let process = forget_a_pool::spawn(directory.path().to_owned(), how).unwrap();
        assert_eq!(process.join().is_ok(), how == 0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 10, "how {how}");
    }
}

#[offspring::worker]
fn pool_until_killed(pids: Sender<Vec<u32>>) {
    let pool = Pool::new(3).unwrap();
    let _runs = pool.submit(sleep_for::new(LONG)).unwrap();
    pids.send(pool.pids()).unwrap();
    std::thread::sleep(LONG);
}

#[offspring::test(timeout = "60s")]
fn workers_end_with_a_program_that_is_killed() {
    let (sender, receiver) = offspring::channel().unwrap();
    let process = pool_until_killed::spawn(sender).unwrap();
    let pids: Vec<u32> = receiver.recv().unwrap();
    assert_eq!(pids.len(), 3);
    process.kill();
    assert!(process.join().is_err());
    eventually("no worker is left", || pids.iter().all(|&pid| !is_running(pid)));
}

#[offspring::worker]
fn nested(depth: u32) -> u32 {
    let pool = Pool::new(2).unwrap();
    if depth == 0 {
        return pool.map(0..10, |_| sleep_for::new(Duration::ZERO)).map(Result::unwrap).sum::<u64>()
            as u32;
    }
    pool.map(0..2, |_| nested::new(depth - 1)).map(Result::unwrap).sum()
}

#[offspring::test(timeout = "60s")]
fn pools_inside_workers_work() {
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.run(nested::new(1)).unwrap(), 20);
}

#[offspring::test(timeout = "60s")]
fn a_panic_of_the_inputs_comes_behind_the_outputs_before_it() {
    let pool = Pool::new(2).unwrap();
    for bad in [0, 3, 7, 1000] {
        let inputs = (0..2000u64).inspect(|&n| assert!(n != bad, "a bad input"));
        let mut outputs = pool.map(inputs, |n| sleep_for::new(Duration::from_nanos(n)));
        let taken = AtomicUsize::new(0);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            for output in outputs.by_ref() {
                output.unwrap();
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }));
        assert!(panic.is_err());
        assert_eq!(taken.into_inner() as u64, bad);
        assert!(outputs.next().is_none());
        assert_eq!(pool.run(sleep_for::new(SHORT)).unwrap(), 1);
    }
}

#[offspring::test(timeout = "60s")]
fn a_map_takes_no_more_inputs_than_its_window_and_ends_when_it_is_dropped() {
    let pool = Pool::new(2).unwrap();
    let taken = AtomicUsize::new(0);
    let endless = std::iter::repeat_with(|| taken.fetch_add(1, Ordering::Relaxed));
    let mut outputs = pool.map(endless, |_| sleep_for::new(Duration::from_millis(1))).window(8);
    for _ in 0..20 {
        outputs.next().unwrap().unwrap();
    }
    assert!(taken.load(Ordering::Relaxed) <= 28, "{taken:?} inputs were taken for 20 outputs");
    drop(outputs);
    eventually("what was not begun is gone", || pool.stats().queued + pool.stats().running == 0);
    let mut slow = pool.map(0..100, |_| sleep_for::new(LONG)).window(50);
    assert_eq!(slow.size_hint(), (100, Some(100)));
    let short = pool.submit(sleep_for::new(SHORT)).unwrap();
    assert_eq!(short.join().unwrap(), 1);
    std::thread::scope(|scope| {
        let first = scope.spawn(move || {
            let first = slow.next();
            slow.cancel();
            first
        });
        eventually("two run", || {
            let workers = pool.stats().workers;
            workers.len() == 2 && workers.iter().all(|worker| worker.task.is_some())
        });
        let victim = pool.pids()[0];
        let _ = Command::new("kill").args(["-KILL", &victim.to_string()]).status();
        let victim = pool.pids().into_iter().find(|&pid| pid != victim);
        let _ = Command::new("kill").args(["-KILL", &victim.unwrap().to_string()]).status();
        assert!(first.join().unwrap().unwrap().is_err());
    });
    assert_eq!(pool.run(sleep_for::new(SHORT)).unwrap(), 1);
}

#[offspring::test(timeout = "60s")]
fn a_scope_waits_for_its_tasks() {
    #[offspring::worker]
    fn fail() {
        panic!("on purpose");
    }
    let pool = Pool::new(2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let result = pool.scope(|scope| {
        for n in 0..6 {
            let _not_joined =
                scope.submit(leave_mark::new(directory.path().join(n.to_string()))).unwrap();
        }
        "value"
    });
    assert_eq!(result.unwrap(), "value");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 6);
    let failed = pool.scope(|scope| drop(scope.submit(fail::new()).unwrap()));
    assert!(matches!(failed, Err(TaskError::Panicked { .. })));
    let start = Instant::now();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        pool.scope(|scope| {
            drop(scope.submit(sleep_for::new(LONG)).unwrap());
            panic!("of the body");
        })
    }));
    assert!(panic.is_err());
    assert_eq!(pool.map(0..4, |_| sleep_for::new(SHORT)).filter(Result::is_ok).count(), 4);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[offspring::test(timeout = "60s")]
fn ten_threads_use_one_pool() {
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..10u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..20 {
                    if thread % 3 == 0 {
                        assert_eq!(
                            pool.map(0..30, |_| sleep_for::new(Duration::ZERO))
                                .filter(Result::is_ok)
                                .count(),
                            30
                        );
                    } else {
                        let task = pool
                            .submit(sleep_for::new(Duration::from_micros(100 * round)))
                            .unwrap();
                        if thread % 3 == 1 {
                            task.cancel();
                        }
                        assert!(
                            task.join()
                                .map_or_else(|error| error.is_cancelled(), |output| output == 1)
                        );
                    }
                }
            });
        }
    });
}

/// Says in a file that it began and that it ended.
#[offspring::worker]
fn chronicle(file: PathBuf, id: u64, time: Duration, crash: bool) -> u64 {
    note(&file, "begin", id);
    std::thread::sleep(time);
    if crash {
        std::process::abort();
    }
    note(&file, "end", id);
    id
}

fn note(file: &Path, what: &str, id: u64) {
    let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
    file.write_all(format!("{what} {id}\n").as_bytes()).unwrap();
}

fn one_history(seed: u64) {
    let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chronicle");
    let pool = Pool::builder()
        .workers(1 + random.below(3) as usize)
        .max_tasks_per_worker(1 + random.below(6))
        .task_timeout(Duration::from_millis(100))
        .spares(random.below(2) as usize)
        .build()
        .unwrap();
    let mut tasks: Vec<(u64, Task<u64>)> = Vec::new();
    for id in 0..60 {
        let time = match random.below(20) {
            0 => LONG,
            1..=5 => Duration::from_millis(random.below(8)),
            _ => Duration::ZERO,
        };
        let crash = random.below(12) == 0;
        match pool.submit(chronicle::new(file.clone(), id, time, crash)) {
            Ok(task) => tasks.push((id, task)),
            Err(SubmitError::Broken(_, cause)) => panic!("seed {seed}: {cause}"),
            Err(error) => panic!("seed {seed}: {error}"),
        }
        match random.below(14) {
            0 => tasks[random.below(tasks.len() as u64) as usize].1.cancel(),
            1 => pool.resize(1 + random.below(3) as usize).unwrap(),
            2 => {
                let pids = pool.pids();
                if !pids.is_empty() {
                    let pid = pids[random.below(pids.len() as u64) as usize];
                    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                }
            }
            3 => std::thread::sleep(Duration::from_millis(random.below(5))),
            _ => {}
        }
    }
    match random.below(3) {
        0 => drop(pool),
        1 => pool.kill(),
        _ => drop(pool.shutdown(Duration::from_millis(random.below(300)))),
    }
    let outcomes: Vec<_> =
        tasks.into_iter().map(|(id, task)| (id, task.is_finished(), task.join())).collect();
    check(seed, &std::fs::read_to_string(&file).unwrap_or_default(), &outcomes);
}

fn check(seed: u64, chronicle: &str, outcomes: &[(u64, bool, Result<u64, TaskError>)]) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for line in chronicle.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    for (id, was_finished, outcome) in outcomes {
        let count = |what: &str| counts.get(&format!("{what} {id}")).copied().unwrap_or(0);
        let (begun, ended) = (count("begin"), count("end"));
        let case = format!("seed {seed}, task {id}: begun {begun}, ended {ended}, {outcome:?}");
        assert!(was_finished, "{case}: the pool was gone before it was told");
        assert!(begun <= 1 && ended <= begun, "{case}");
        match outcome {
            Ok(output) => assert!(output == id && ended == 1, "{case}"),
            // On a busy machine the time can be over before the task has written its first line.
            Err(
                TaskError::TimeLimit { .. }
                | TaskError::Died { .. }
                | TaskError::Cancelled { .. }
                | TaskError::Stopped { .. },
            ) => {}
            Err(_) => panic!("{case}"),
        }
    }
}

#[offspring::test(timeout = "110s")]
fn every_task_ends_once_whatever_meets() {
    let rounds = std::env::var("OFFSPRING_POOL_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(12);
    let since = Instant::now();
    for seed in 1..=rounds {
        one_history(seed);
        if since.elapsed() > Duration::from_secs(80) {
            break;
        }
    }
}
