//! A program that waits costs nothing: none of its threads wakes up.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use offspring::{JoinableQueue, Pool, Process, ProcessBuilder, Queue, Stdio};

use super::stage::{children_of, sleeper};
use crate::actor::{Counter, Message, Setup};
use crate::support::eventually;

#[offspring::worker]
fn double(n: u64) -> u64 {
    2 * n
}

#[offspring::worker]
fn wait_for_items(jobs: JoinableQueue<u32>, items: Queue<u32>) {
    std::thread::spawn(move || jobs.get());
    let _ = items.get();
}

/// How many times each thread of these processes went to sleep, without the calling thread.
fn sleeps(pids: &[u32]) -> BTreeMap<String, u64> {
    // SAFETY: no pointers are involved.
    let own = unsafe { libc::gettid() }.to_string();
    let tasks = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).unwrap());
    tasks
        .map(|task| task.unwrap().path())
        .filter(|task| !task.ends_with(&own))
        .filter_map(|task| {
            let status = fs::read_to_string(task.join("status")).ok()?;
            let count =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            let name = fs::read_to_string(task.join("comm")).ok()?;
            Some((format!("{} {}", task.display(), name.trim()), count.trim().parse().unwrap()))
        })
        .collect()
}

/// Starts children of several kinds, queues, a pool, an actor, and a thread for each thing that can
/// be waited for. Returns the threads that wake up every second.
///
/// One wake-up shows nothing: the system causes some of its own. A thread with a period wakes in
/// each of several seconds.
#[offspring::worker]
fn wait_for_everything() -> Vec<String> {
    let (jobs, items): (JoinableQueue<u32>, Queue<u32>) =
        (JoinableQueue::bounded(4).unwrap(), Queue::unbounded().unwrap());
    let children = [
        sleeper::spawn().unwrap(),
        ProcessBuilder::new().stdout(Stdio::prefixed()).spawn(sleeper::new()).unwrap(),
        wait_for_items::spawn(jobs.clone(), items.clone()).unwrap(),
    ];
    let joined = ProcessBuilder::new().daemon(true).spawn(sleeper::new()).unwrap();
    let (_, receiver) = offspring::channel::<u32>().unwrap();
    std::thread::spawn(move || joined.join());
    std::thread::spawn(move || receiver.recv());
    let own = Queue::<u32>::unbounded().unwrap();
    std::thread::spawn(move || own.get());
    let waiting = jobs.clone();
    jobs.put(1).unwrap();
    std::thread::spawn(move || waiting.join());
    // Both were busy a moment ago.
    let pool = Pool::builder().workers(2).spares(1).max_memory_per_worker(1 << 40).build().unwrap();
    assert!(pool.map(0..2000, double::new).all(|doubled| doubled.is_ok()));
    let counter = offspring::actor::spawn::<Counter>(Setup::default()).unwrap();
    (0..100).for_each(|n| drop(counter.call(Message::Add(n)).unwrap()));

    let mut pids = children_of(std::process::id());
    assert_eq!(pids.len(), 4 + 3 + 1);
    pids.push(std::process::id());
    eventually("all have gone to sleep", || {
        let before = sleeps(&pids);
        std::thread::sleep(Duration::from_millis(200));
        sleeps(&pids) == before
    });
    let mut before = sleeps(&pids);
    let mut woken: Vec<String> = before.keys().cloned().collect();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(1));
        let after = sleeps(&pids);
        woken.retain(|task| after.get(task) != before.get(task));
        before = after;
    }
    children.iter().for_each(Process::kill);
    drop((pool, counter));
    woken
}

#[offspring::test(timeout = "30s")]
fn nobody_wakes_up_while_nothing_happens() {
    assert_eq!(wait_for_everything::spawn().unwrap().join().unwrap(), Vec::<String>::new());
}

#[offspring::worker]
fn end_with_stdin() {
    std::io::read_to_string(std::io::stdin()).unwrap();
}

/// Joins a child that does not end before the calling thread sleeps in `join`.
fn join_asleep() {
    let mut child =
        ProcessBuilder::new().stdin(Stdio::piped()).spawn(end_with_stdin::new()).unwrap();
    let stdin = child.take_stdin();
    // SAFETY: no pointers are involved.
    let own = unsafe { libc::gettid() };
    let is_asleep = move || {
        let stat = fs::read_to_string(format!("/proc/self/task/{own}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('S')
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            eventually("the join sleeps", is_asleep);
            drop(stdin);
        });
        child.join().unwrap();
    });
}

/// How many times the reaper woke up while children were joined.
#[offspring::worker]
fn join_many(count: u64) -> u64 {
    join_asleep();
    let reaper = || -> u64 {
        let all = sleeps(&[std::process::id()]);
        all.iter()
            .find(|(thread, _)| thread.ends_with("offspring-reape"))
            .map_or(0, |(_, count)| *count)
    };
    let before = reaper();
    assert!(before > 0);
    (0..count).for_each(|_| join_asleep());
    reaper() - before
}

#[offspring::test(timeout = "60s")]
fn an_end_wakes_the_thread_that_joins_and_no_other() {
    let count = 20;
    let woken = join_many::spawn(count).unwrap().join().unwrap();
    assert!(woken <= count / 10, "{woken} times for {count} joins");
}
