//! Pools: workers are killed while they run tasks, start, or are idle.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use offspring::Pool;
use offspring::pool::{Task, TaskOptions, TaskTimeoutError};

use super::{History, LONG, read};
use crate::support::{Random, Victim, storm_kills};

/// How many unfinished tasks the pool is given.
const AT_ONCE: usize = 100;

/// Tasks take 1 to 256 us. Some have a payload that does not fit a ring entry.
fn payload(id: u64) -> Vec<u8> {
    let size = if id % 100 == 0 { 100_000 } else { id % 300 };
    vec![id as u8; size as usize]
}

#[offspring::worker]
fn work(history: PathBuf, id: u64, payload: Vec<u8>) -> (u64, Vec<u8>) {
    let mut history = History::open(&history);
    history.note(b'b', id);
    assert!(payload.iter().all(|&byte| byte == id as u8), "a task was torn");
    let end = Instant::now() + Duration::from_micros(1 << (id % 9));
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    history.note(b'e', id);
    (id, payload)
}

/// Waits until some tasks have ended since `ended` had, and returns how many have by now.
fn work_goes_on(pool: &Pool, ended: u64, random: &mut Random) -> u64 {
    let wanted = ended + random.below(100);
    let deadline = Instant::now() + LONG;
    loop {
        let stats = pool.stats();
        if stats.done + stats.failed >= wanted {
            return stats.done + stats.failed;
        }
        assert!(Instant::now() < deadline, "no task ends: {stats:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Kills and suspends workers of the pool.
fn strike(pool: &Pool, random: &mut Random) {
    let (mut kills, mut ended) = (0, 0);
    while kills < storm_kills() {
        // Workers would die faster than a busy machine starts them, and no task would end, if each
        // kill came after a time.
        if random.below(4) > 0 {
            ended = work_goes_on(pool, ended, random);
        }
        random.sleep(10_000);
        let pids = pool.pids();
        if pids.is_empty() {
            continue;
        }
        let pid = pids[random.below(pids.len() as u64) as usize];
        // The worker may have ended since the pids were read. If it is listed still, it was it that
        // was found.
        let Some(victim) = Victim::of(pid).filter(|_| pool.pids().contains(&pid)) else {
            continue;
        };
        if random.below(2) == 0 {
            victim.stop_for_a_while(random);
        } else {
            kills += u64::from(victim.kill());
        }
    }
}

/// What became of one task.
struct Outcome {
    retries: u32,
    returned: bool,
    /// How often it ended with its process.
    crashes: u32,
    begun: u32,
    ended: u32,
}

fn outcome(id: u64, retries: u32, task: &Task<(u64, Vec<u8>)>) -> Outcome {
    let (returned, crashes) = match task.join_timeout(LONG) {
        Ok(output) => {
            assert_eq!(output, (id, payload(id)), "the result of another task");
            (true, 0)
        }
        Err(TaskTimeoutError::Died { .. }) => (false, 1),
        Err(TaskTimeoutError::SetAside { crashes, .. }) => (false, crashes),
        Err(error) => panic!("task {id}: {error}"),
    };
    Outcome { retries, returned, crashes, begun: 0, ended: 0 }
}

#[offspring::test(timeout = "3600s")]
fn a_pool_ends_each_task_once_in_a_storm_of_kills() {
    let mut random = Random::of_storm();
    let directory = tempfile::tempdir().unwrap();
    let history = directory.path().join("tasks");
    let pool = Pool::builder()
        .workers(4)
        .spares(1)
        .max_tasks_per_worker(500)
        .restart_limit(u32::MAX)
        .restart_backoff(Duration::from_millis(1))
        .build()
        .unwrap();
    let is_over = AtomicBool::new(false);
    let mut outcomes = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            strike(&pool, &mut random);
            is_over.store(true, Ordering::SeqCst);
        });
        let mut tasks: VecDeque<(u64, u32, Task<_>)> = VecDeque::new();
        for id in 0.. {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            let retries = (id % 3) as u32;
            let worker = work::new(history.clone(), id, payload(id));
            let task = pool.submit_with(worker, TaskOptions::new().retries(retries)).unwrap();
            tasks.push_back((id, retries, task));
            if tasks.len() == AT_ONCE {
                let (id, retries, task) = tasks.pop_front().expect("there are some");
                outcomes.push(outcome(id, retries, &task));
            }
        }
        outcomes.extend(tasks.iter().map(|(id, retries, task)| outcome(*id, *retries, task)));
    });
    let stats = pool.stats();
    assert_eq!(stats.done + stats.failed, outcomes.len() as u64);
    pool.shutdown(LONG).unwrap();
    check(&mut outcomes, &read(&history));
}

fn check(outcomes: &mut [Outcome], history: &[(u8, u64)]) {
    for &(what, id) in history {
        let outcome = &mut outcomes[id as usize];
        match what {
            b'b' => outcome.begun += 1,
            _ => outcome.ended += 1,
        }
    }
    let (mut failed, mut crashes) = (0, 0);
    for (id, outcome) in outcomes.iter().enumerate() {
        let Outcome { retries, returned, begun, ended, .. } = *outcome;
        assert!(begun <= retries + 1, "task {id} was begun {begun} times with {retries} retries");
        assert!(!returned || ended >= 1, "task {id} has a result, and did not run");
        failed += u64::from(!returned);
        // A task that has returned was begun once more than its processes ended, if each of them
        // came so far as to record that.
        crashes += u64::from(if returned { begun - 1 } else { outcome.crashes });
        assert!(returned || outcome.crashes == retries + 1, "task {id} was not tried again");
    }
    println!(
        "{} kills, {} tasks, {failed} failed, {crashes} runs ended by a kill",
        storm_kills(),
        outcomes.len()
    );
    assert!(crashes <= storm_kills(), "{crashes} runs ended by {} kills", storm_kills());
}
