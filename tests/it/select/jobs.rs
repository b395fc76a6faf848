//! Consumers that select, and are killed at random: no job is lost, and no wait hangs.
//! `OFFSPRING_RACE_ROUNDS` is the number of kills, in tens (default 3).

use std::collections::HashSet;
use std::time::Duration;

use offspring::{JoinableQueue, Process, Receiver, Selector, Sender, channel};

use super::{LONG, random};

const CONSUMERS: usize = 3;

fn kills() -> usize {
    std::env::var("OFFSPRING_RACE_ROUNDS")
        .map_or(3, |rounds| rounds.parse().expect("OFFSPRING_RACE_ROUNDS is a number"))
        * 10
}

/// Does jobs of either queue, with pauses in which it holds one, or one lies here untaken.
#[offspring::worker]
fn consume(jobs: [JoinableQueue<u64>; 2], done: Sender<u64>) {
    let selector = Selector::new();
    let keys = [selector.add(&jobs[0]).unwrap(), selector.add(&jobs[1]).unwrap()];
    while let Some(key) = selector.ready() {
        let from = keys.iter().position(|&other| other == key).unwrap();
        if random() % 16 == 0 {
            std::thread::sleep(Duration::from_micros(random() % 5000));
        }
        match jobs[from].try_get() {
            Ok(job) => {
                done.send(*job).expect("the test receives");
                if random() % 16 == 0 {
                    std::thread::sleep(Duration::from_micros(random() % 1000));
                }
                job.task_done();
            }
            Err(error) if error.is_empty() => {}
            Err(_) => selector.remove(key),
        }
    }
}

/// Counts each number until all were there.
fn collect(done: &Receiver<u64>, count: u64) -> u64 {
    let mut seen = HashSet::new();
    let mut again = 0;
    while (seen.len() as u64) < count {
        let n = done.recv_timeout(LONG).expect("none is lost");
        again += u64::from(!seen.insert(n));
    }
    again
}

#[offspring::test(timeout = "300s")]
fn of_consumers_that_select_and_are_killed_others_get_the_jobs() {
    let count = kills() as u64 * 200;
    // All of it may fall to those who die.
    let queue = || JoinableQueue::builder().max_deliveries(1000).capacity(100).build().unwrap();
    let jobs = [queue(), queue()];
    let (sender, done) = channel().unwrap();
    let start = || consume::spawn([jobs[0].clone(), jobs[1].clone()], sender.clone()).unwrap();
    let mut consumers: Vec<Process<()>> = (0..CONSUMERS).map(|_| start()).collect();
    std::thread::scope(|scope| {
        let collected = scope.spawn(|| collect(&done, count));
        let put = scope.spawn(|| (0..count).for_each(|n| jobs[n as usize % 2].put(n).unwrap()));
        for _ in 0..kills() {
            std::thread::sleep(Duration::from_micros(random() % 20_000));
            let victim = random() as usize % CONSUMERS;
            consumers[victim].kill();
            consumers[victim] = start();
        }
        put.join().unwrap();
        let again = collected.join().unwrap();
        assert!(again <= 2 * kills() as u64, "{again} were delivered again");
    });
    for queue in &jobs {
        queue.join_timeout(LONG).unwrap();
        assert!(queue.dead_letters().unwrap().is_empty());
        queue.close().unwrap();
    }
    consumers.iter().for_each(|consumer| consumer.join().unwrap());
}
