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

/// How often each thread of these processes went to sleep, without the thread that asks.
fn sleeps(pids: &[u32]) -> BTreeMap<String, u64> {
    // SAFETY: no pointers are involved.
    let own = unsafe { libc::gettid() }.to_string();
    let tasks = pids
        .iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).unwrap());
    tasks
        .map(|task| task.unwrap().path())
        .filter(|task| !task.ends_with(&own))
        .filter_map(|task| {
            let status = fs::read_to_string(task.join("status")).ok()?;
            let count = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            let name = fs::read_to_string(task.join("comm")).ok()?;
            Some((
                format!("{} {}", task.display(), name.trim()),
                count.trim().parse().unwrap(),
            ))
        })
        .collect()
}

/// Children of several kinds, queues, a pool, an actor, and a thread that waits for each thing that can be waited for. Gives those
/// threads that woke up within a second.
#[offspring::worker]
fn wait_for_everything() -> Vec<String> {
    let (jobs, items): (JoinableQueue<u32>, Queue<u32>) = (
        JoinableQueue::bounded(4).unwrap(),
        Queue::unbounded().unwrap(),
    );
    let children = [
        sleeper::spawn().unwrap(),
        ProcessBuilder::new()
            .stdout(Stdio::prefixed())
            .spawn(sleeper::new())
            .unwrap(),
        wait_for_items::spawn(jobs.clone(), items.clone()).unwrap(),
    ];
    let joined = ProcessBuilder::new()
        .daemon(true)
        .spawn(sleeper::new())
        .unwrap();
    let (_, receiver) = offspring::channel::<u32>().unwrap();
    std::thread::spawn(move || joined.join());
    std::thread::spawn(move || receiver.recv());
    let own = Queue::<u32>::unbounded().unwrap();
    std::thread::spawn(move || own.get());
    let waiting = jobs.clone();
    jobs.put(1).unwrap();
    std::thread::spawn(move || waiting.join());
    // Both were busy a moment ago.
    let pool = Pool::builder().workers(2).spares(1).build().unwrap();
    assert!(
        pool.map(0..2000, double::new)
            .all(|doubled| doubled.is_ok())
    );
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
    let before = sleeps(&pids);
    std::thread::sleep(Duration::from_secs(1));
    let after = sleeps(&pids);
    children.iter().for_each(Process::kill);
    drop((pool, counter));
    after
        .into_iter()
        .filter(|(task, count)| before.get(task) != Some(count))
        .map(|(task, _)| task)
        .collect()
}

#[offspring::test(timeout = "30s")]
fn nobody_wakes_up_while_nothing_happens() {
    assert_eq!(
        wait_for_everything::spawn().unwrap().join().unwrap(),
        Vec::<String>::new()
    );
}

#[offspring::worker]
fn nap() {
    std::thread::sleep(Duration::from_millis(30));
}

/// How often the reaper woke up while children were joined.
#[offspring::worker]
fn join_many(count: u64) -> u64 {
    nap::spawn().unwrap().join().unwrap();
    let reaper = || -> u64 {
        let all = sleeps(&[std::process::id()]);
        all.iter()
            .find(|(thread, _)| thread.ends_with("offspring-reape"))
            .map_or(0, |(_, count)| *count)
    };
    let before = reaper();
    assert!(before > 0);
    (0..count).for_each(|_| nap::spawn().unwrap().join().unwrap());
    reaper() - before
}

#[offspring::test(timeout = "60s")]
fn an_end_wakes_the_thread_that_joins_and_no_other() {
    let count = 20;
    let woken = join_many::spawn(count).unwrap().join().unwrap();
    // Where the machine is busy, a child may have ended before it was joined.
    assert!(woken < count / 2, "{woken} times for {count} joins");
}
