//! The end of a pool that other threads still use.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use offspring::pool::{PoolError, PoolEvent, SubmitError, TaskError};
use offspring::{Pool, Sender, channel};

use super::{eventually_sleeps, thread_id};
use crate::support::{eventually, is_running, suspend};

#[offspring::worker]
fn add_one(n: u64) -> u64 {
    n + 1
}

#[offspring::worker]
fn sleep_long() {
    std::thread::sleep(Duration::from_secs(1000));
}

const GRACE: Duration = Duration::from_secs(30);

#[offspring::test(timeout = "60s")]
fn a_shared_pool_shuts_down_while_others_submit() {
    let pool = Arc::new(Pool::new(2).unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let submitting: Vec<_> = (0..4)
        .map(|_| {
            let (pool, accepted) = (pool.clone(), accepted.clone());
            std::thread::spawn(move || {
                for n in 0.. {
                    match pool.submit(add_one::new(n)) {
                        Ok(task) => assert_eq!(task.join().unwrap(), n + 1),
                        Err(SubmitError::Closed(_)) => return,
                        Err(error) => panic!("{error}"),
                    }
                    accepted.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    eventually("all submit", || accepted.load(Ordering::SeqCst) > 100);
    pool.shutdown(GRACE).unwrap();
    assert!(pool.pids().is_empty());
    for thread in submitting {
        thread.join().unwrap();
    }
    // It is over for every call, and calls that end it do nothing.
    pool.shutdown(Duration::ZERO).unwrap();
    pool.kill();
    let error = pool.submit(add_one::new(1)).unwrap_err();
    assert!(error.is_end());
    assert_eq!(error.into_inner().n, 1);
    let output = pool.map([1], add_one::new).next().unwrap();
    assert!(matches!(output, Err(TaskError::Stopped { .. })));
    assert!(matches!(pool.resize(3), Err(PoolError::Closed)));
    assert!(pool.events().next().is_none());
}

#[offspring::test(timeout = "60s")]
fn a_kill_ends_the_shutdown_of_another_thread_and_a_blocked_submit() {
    let builder = Pool::builder().workers(1).max_unfinished(1);
    let pool = Arc::new(builder.build().unwrap());
    let task = pool.submit(sleep_long::new()).unwrap();
    let (started, starting) = std::sync::mpsc::channel();
    let submitting = {
        let (pool, started) = (pool.clone(), started.clone());
        std::thread::spawn(move || {
            started.send(thread_id()).unwrap();
            pool.submit(sleep_long::new()).unwrap_err().is_end()
        })
    };
    eventually_sleeps(starting.recv().unwrap());
    let stopping = {
        let pool = pool.clone();
        std::thread::spawn(move || {
            started.send(thread_id()).unwrap();
            pool.shutdown(Duration::from_secs(1000))
        })
    };
    // The shutdown closes the pool, although its own wait continues.
    assert!(submitting.join().unwrap());
    eventually_sleeps(starting.recv().unwrap());
    pool.kill();
    assert!(matches!(task.join(), Err(TaskError::Stopped { .. })));
    stopping.join().unwrap().unwrap();
}

#[offspring::test(timeout = "60s")]
fn for_each_runs_all_and_ends_at_the_first_error() {
    #[offspring::worker]
    fn write(path: std::path::PathBuf) {
        std::fs::write(&path, "").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |n: u32| directory.path().join(n.to_string());
    let count = || std::fs::read_dir(directory.path()).unwrap().count();
    let pool = Pool::new(2).unwrap();
    pool.for_each(0..500, |n| write::new(path(n))).unwrap();
    assert_eq!(count(), 500);
    let endless = (500..).map(|n| if n == 600 { directory.path().to_owned() } else { path(n) });
    let error = pool.for_each(endless, write::new).unwrap_err();
    assert!(matches!(error, TaskError::Panicked { .. }), "{error}");
}

#[offspring::test(timeout = "60s")]
fn events_are_in_order_and_end_with_the_pool() {
    let pool = Pool::new(1).unwrap();
    let events = pool.events();
    assert!(events.try_next().is_none());
    let task = pool.submit(sleep_long::new()).unwrap();
    eventually("it runs", || task.pid().is_some());
    pool.kill();
    assert!(task.join().is_err());
    let seen: Vec<_> = events.collect();
    assert!(
        matches!(seen[..], [PoolEvent::WorkerEnded { .. }, PoolEvent::TaskFailed { .. }]),
        "{seen:?}"
    );
}

/// No task of its ring begins, so a time limit cannot be exceeded; and yet they do not wait for it.
#[offspring::test(timeout = "60s")]
fn tasks_with_a_time_limit_do_not_wait_for_a_worker_that_is_suspended_while_idle() {
    let pool = Pool::builder().workers(2).task_timeout(Duration::from_secs(2)).build().unwrap();
    // Tasks go to the first worker if both are idle.
    let suspended = pool.pids()[0];
    suspend(suspended);
    let tasks: Vec<_> = (0..3).map(|n| pool.submit(add_one::new(n)).unwrap()).collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.join().unwrap(), n as u64 + 1);
    }
    pool.kill();
}

#[offspring::worker]
fn run_a_program(pid: Sender<u32>) {
    let mut program = Command::new("sleep").arg("1000").spawn().unwrap();
    pid.send(program.id()).unwrap();
    program.wait().unwrap();
}

#[offspring::test(timeout = "60s")]
fn the_programs_of_a_task_end_with_it() {
    let (sender, pids) = channel().unwrap();
    let ends = |how: &str, pool: &Pool, end: &dyn Fn(&Pool)| {
        let task = pool.submit(run_a_program::new(sender.clone())).unwrap();
        let program = pids.recv().unwrap();
        end(pool);
        if how == "cancel" {
            task.cancel();
        }
        assert!(task.join().is_err(), "{how}");
        eventually(how, || !is_running(program));
    };
    let limited = Pool::builder().workers(1).task_timeout(Duration::from_millis(200));
    ends("time limit", &limited.build().unwrap(), &|_| ());
    let pool = Pool::new(1).unwrap();
    ends("cancel", &pool, &|_| ());
    ends("kill", &pool, &Pool::kill);
}
