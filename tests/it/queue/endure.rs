//! Queues that are used for long, by many threads, or with little to live on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{JoinableQueue, ProcessBuilder, Queue};

use super::{collect, produce};

#[offspring::worker]
fn flood(queue: Queue<Vec<u8>>) {
    for n in 0u32.. {
        // Some go as parcels.
        let size = if n % 100 == 0 { 50_000 } else { n as usize % 200 };
        if queue.put(vec![n as u8; size]).is_err() {
            return;
        }
    }
}

#[offspring::worker]
fn trickle(queue: Queue<Vec<u8>>) {
    for _ in &queue {
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Pages in use, of this process and of others.
fn resident(pids: &[u32]) -> Vec<usize> {
    let pages = |pid: &u32| {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    };
    pids.iter().map(pages).collect()
}

/// Owns a queue whose producer is far faster than its consumer, and looks at everybody's memory.
#[offspring::worker]
fn watch_memory(seconds: u64) -> Result<(), String> {
    let queue = Queue::bounded(100).unwrap();
    let producer = flood::spawn(queue.clone()).unwrap();
    let consumer = trickle::spawn(queue.clone()).unwrap();
    let pids = [std::process::id(), producer.pid(), consumer.pid()];
    let third = Duration::from_secs(seconds) / 3;
    std::thread::sleep(third);
    let early = resident(&pids);
    std::thread::sleep(third * 2);
    let late = resident(&pids);
    queue.close_and_discard().unwrap();
    producer.join().unwrap();
    consumer.join().unwrap();
    // A hundred items of 50 kB are 1200 pages.
    let grown = early.iter().zip(&late).any(|(early, late)| *late > early + 2000);
    if grown { Err(format!("pages: {early:?}, later {late:?}")) } else { Ok(()) }
}

#[offspring::test(timeout = "600s")]
fn memory_stays_flat_while_a_producer_outruns_its_consumer() {
    let seconds =
        std::env::var("OFFSPRING_SOAK_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    watch_memory::spawn(seconds).unwrap().join().unwrap().unwrap();
}

#[offspring::worker]
fn talk_to_itself(queue: Queue<u64>, jobs: JoinableQueue<u64>, threads: u64) -> BTreeSet<u64> {
    const EACH: u64 = 300;
    std::thread::scope(|scope| {
        let getters: Vec<_> = (0..threads)
            .map(|t| {
                let (queue, jobs) = (&queue, &jobs);
                scope.spawn(move || {
                    let numbers: Vec<u64> = match t % 2 {
                        0 => queue.iter().collect(),
                        _ => queue.batches(5).flatten().collect(),
                    };
                    for n in &numbers {
                        jobs.put(*n).unwrap();
                        jobs.get().unwrap().task_done();
                    }
                    numbers
                })
            })
            .collect();
        let putters: Vec<_> = (0..threads)
            .map(|t| {
                let queue = &queue;
                scope.spawn(move || (t * EACH..(t + 1) * EACH).for_each(|n| queue.put(n).unwrap()))
            })
            .collect();
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        queue.close().unwrap();
        let all = getters.into_iter().flat_map(|getter| getter.join().unwrap()).collect();
        jobs.join().unwrap();
        all
    })
}

#[offspring::test(timeout = "60s")]
fn threads_of_one_process_put_and_get_through_another() {
    let queues = || (Queue::bounded(10).unwrap(), JoinableQueue::bounded(20).unwrap());
    // Kept here: somebody who might put or get, as long as only the threads over there do.
    let kept = queues();
    let there = talk_to_itself::spawn(kept.0.clone(), kept.1.clone(), 4).unwrap();
    let (queue, jobs) = queues();
    let here = talk_to_itself(queue, jobs, 4);
    assert!(here.into_iter().eq(0..1200));
    assert!(there.join().unwrap().into_iter().eq(0..1200));
}

#[offspring::worker]
fn answer(requests: Queue<(u64, Queue<u64>)>) {
    for (number, reply) in &requests {
        // One who asked and died is not waited for.
        let _ = reply.put(number + 1);
    }
}

/// What a program with few rights does: consumers that die, large items, handles in items.
#[offspring::worker]
fn live_on_little() {
    let queue = Queue::bounded(20).unwrap();
    let consumers: Vec<_> = (0..3).map(|_| collect::spawn(queue.clone()).unwrap()).collect();
    let mut producers: Vec<_> =
        (0..3).map(|p| produce::spawn(queue.clone(), p * 1000..(p + 1) * 1000).unwrap()).collect();
    for _ in 0..10 {
        let victim = produce::spawn(queue.clone(), 0..u64::MAX).unwrap();
        queue.put_timeout(7, Duration::from_secs(20)).unwrap();
        victim.kill();
        let _ = victim.join();
    }
    producers.drain(..).for_each(|producer| producer.join().unwrap());
    queue.close().unwrap();
    assert!(
        consumers.into_iter().map(|consumer| consumer.join().unwrap().len()).sum::<usize>() >= 3010
    );

    let large = Queue::bounded(4).unwrap();
    let producer = flood::spawn(large.clone()).unwrap();
    for _ in 0..500 {
        large.get().unwrap();
    }
    large.close_and_discard().unwrap();
    producer.join().unwrap();

    let requests = Queue::unbounded().unwrap();
    let _servers: Vec<_> = (0..2)
        .map(|_| ProcessBuilder::new().daemon(true).spawn(answer::new(requests.clone())).unwrap())
        .collect();
    for number in 0..300 {
        let reply = Queue::bounded(1).unwrap();
        requests.put((number, reply.clone())).unwrap();
        assert_eq!(reply.get_timeout(Duration::from_secs(20)).unwrap(), number + 1);
    }
    requests.close().unwrap();
}

#[offspring::test(timeout = "120s")]
fn a_process_with_few_rights_and_low_limits_has_queues_too() {
    let mut builder = ProcessBuilder::new().rlimit(Resource::OpenFiles, 100, 100).rlimit(
        Resource::LockedMemory,
        0,
        0,
    );
    if is_root() {
        // Nobody: limits on what is under way are for those who are not root.
        builder = builder.uid(65534).gid(65534);
    }
    let before = Instant::now();
    builder.spawn(live_on_little::new()).unwrap().join().unwrap();
    println!("took {:?}", before.elapsed());
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t0")
}
