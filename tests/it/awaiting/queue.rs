//! Items: got and put by tasks, in the owner's process and in others.

use std::collections::HashSet;
use std::time::Duration;

use offspring::queue::{GetError, PutError, QueueJoinError};
use offspring::{JoinableQueue, Queue, Receiver, Sender, channel};

use super::{LONG, moment, on_tokio, rounds};
use crate::support::Random;

#[offspring::worker]
fn double(numbers: Queue<u64>, doubled: Queue<u64>) {
    futures_executor::block_on(async {
        while let Ok(n) = numbers.get_async().await {
            doubled.put_async(2 * n).await.expect("the test gets");
        }
    });
}

async fn put_all(numbers: &Queue<u64>, upto: u64) {
    for n in 0..upto {
        numbers.put_async(n).await.unwrap();
    }
    numbers.close().unwrap();
}

async fn sum_of(queue: &Queue<u64>) -> u64 {
    let mut sum = 0;
    loop {
        match queue.get_async().await {
            Ok(n) => sum += n,
            Err(GetError::Abandoned) => return sum,
            Err(error) => panic!("{error}"),
        }
    }
}

#[offspring::test(timeout = "60s")]
fn two_processes_of_tasks_pass_items_on_through_short_queues() {
    let (numbers, doubled) = (Queue::bounded(2).unwrap(), Queue::bounded(3).unwrap());
    let process = double::spawn(numbers.clone(), doubled.clone()).unwrap();
    let ((), sum) = on_tokio(async { tokio::join!(put_all(&numbers, 2000), sum_of(&doubled)) });
    assert_eq!(sum, 1999 * 2000);
    process.join().unwrap();
}

/// With pauses of all lengths, so that items come before, while and after they are awaited.
#[offspring::worker]
fn stutter(numbers: Queue<u64>, upto: u64) {
    for n in 0..upto {
        numbers.put(n).expect("the test gets");
        std::thread::sleep(Duration::from_micros((n * 37) % 400));
    }
}

/// Gets with futures that are mostly dropped: how many were.
async fn get_with_timeouts(numbers: &Queue<u64>, upto: u64) -> u64 {
    let (mut next, mut dropped) = (0, 0);
    while next < upto {
        tokio::select! {
            item = numbers.get_async() => {
                assert_eq!(item.unwrap(), next, "an item was lost with a future that was dropped");
                next += 1;
            }
            () = moment(next) => dropped += 1,
        }
    }
    dropped
}

#[offspring::worker]
fn get_all(numbers: Queue<u64>, upto: u64) -> u64 {
    on_tokio(get_with_timeouts(&numbers, upto))
}

#[offspring::test(timeout = "600s")]
fn futures_that_are_dropped_lose_no_item() {
    for capacity in [1, 1000] {
        let numbers = Queue::bounded(capacity).unwrap();
        let putting = stutter::spawn(numbers.clone(), rounds()).unwrap();
        let here = on_tokio(get_with_timeouts(&numbers, rounds()));
        putting.join().unwrap();
        let putting = stutter::spawn(numbers.clone(), rounds()).unwrap();
        let there = get_all::spawn(numbers, rounds()).unwrap().join().unwrap();
        putting.join().unwrap();
        assert!(
            here.min(there) > rounds() / 10,
            "only {here} and {there} were dropped: this tests nothing"
        );
    }
}

/// Puts with futures that are often dropped: those that were put.
async fn put_with_timeouts(numbers: &Queue<u64>, upto: u64) -> Vec<u64> {
    let mut put = Vec::new();
    for n in 0..upto {
        tokio::select! {
            biased;
            outcome = numbers.put_async(n) => {
                outcome.unwrap();
                put.push(n);
            }
            () = moment(n) => {}
        }
    }
    put
}

#[offspring::worker]
fn put_some(numbers: Queue<u64>, upto: u64) -> Vec<u64> {
    on_tokio(put_with_timeouts(&numbers, upto))
}

#[offspring::worker]
fn get_slowly(numbers: Queue<u64>) -> Vec<u64> {
    numbers.iter().inspect(|n| std::thread::sleep(Duration::from_micros(n % 700))).collect()
}

#[offspring::test(timeout = "600s")]
fn a_future_that_is_dropped_has_put_nothing() {
    let numbers = Queue::bounded(2).unwrap();
    let getting = get_slowly::spawn(numbers.clone()).unwrap();
    let put = on_tokio(put_with_timeouts(&numbers, rounds()));
    numbers.close().unwrap();
    assert_eq!(getting.join().unwrap(), put);
    assert!(put.len() < rounds() as usize, "none was dropped: this tests nothing");

    let numbers = Queue::bounded(2).unwrap();
    let putting = put_some::spawn(numbers.clone(), rounds()).unwrap();
    let got = get_slowly(numbers);
    let put = putting.join().unwrap();
    assert_eq!(got, put);
    assert!(put.len() < rounds() as usize, "none was dropped: this tests nothing");
}

#[offspring::worker]
fn put_one_and_wait(numbers: Queue<u64>) {
    numbers.put(1).expect("the test gets");
    loop {
        std::thread::park();
    }
}

#[offspring::worker]
fn get_until_the_end(numbers: Queue<u64>) -> String {
    let end = async {
        loop {
            if let Err(error) = numbers.get_async().await {
                return error;
            }
        }
    };
    format!("{:?}", on_tokio(end))
}

#[offspring::test(timeout = "60s")]
fn tasks_that_get_end_when_those_who_put_are_killed() {
    let numbers = Queue::unbounded().unwrap();
    let producer = put_one_and_wait::spawn(numbers.clone()).unwrap();
    assert_eq!(numbers.get().unwrap(), 1);
    let consumers = [(); 2].map(|()| get_until_the_end::spawn(numbers.clone()).unwrap());
    let (end, ()) = on_tokio(async {
        tokio::join!(numbers.get_async(), async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            producer.kill();
        })
    });
    assert!(matches!(end, Err(GetError::Abandoned)), "{end:?}");
    drop(numbers);
    for consumer in consumers {
        let end = consumer.join().unwrap();
        assert!(end.starts_with("Abandoned"), "{end}");
    }
}

#[offspring::worker]
fn own(to: Sender<(Queue<u64>, JoinableQueue<u64>)>) {
    let queues = (Queue::bounded(1).unwrap(), JoinableQueue::unbounded().unwrap());
    queues.1.put(1).expect("it is ours");
    to.send(queues.clone()).expect("the test receives");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "60s")]
fn tasks_end_when_the_owner_is_killed() {
    let (to, queues) = channel().unwrap();
    let process = own::spawn(to).unwrap();
    let (numbers, jobs) = queues.recv().unwrap();
    on_tokio(async {
        numbers.put_async(1).await.unwrap();
        let job = jobs.get_async().await.unwrap();
        let (put, got, joined, ()) =
            tokio::join!(numbers.put_async(2), jobs.get_async(), jobs.join_async(), async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                process.kill();
            });
        assert!(matches!(put, Err(PutError::Disconnected(2))), "{put:?}");
        assert!(matches!(got, Err(GetError::Disconnected)), "{got:?}");
        assert!(matches!(joined, Err(QueueJoinError::Disconnected)), "{joined:?}");
        drop(job);
    });
}

#[offspring::test(timeout = "60s")]
fn a_queue_without_a_taker_gives_the_item_back() {
    let numbers = Queue::bounded(1).unwrap();
    let process = put_one_and_wait::spawn(numbers.clone()).unwrap();
    on_tokio(async {
        crate::support::eventually("it has put", || numbers.len().unwrap() == 1);
        let (put, ()) = tokio::join!(numbers.put_async(7), async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            process.kill();
        });
        assert!(matches!(put, Err(PutError::Abandoned(7))), "{put:?}");
    });
}

/// Several tasks do jobs, now and then slowly.
#[offspring::worker]
fn consume(jobs: JoinableQueue<u64>, done: Sender<u64>, seed: u64) {
    let work = async |mut random: Random| {
        while let Ok(job) = jobs.get_async().await {
            if random.below(16) == 0 {
                tokio::time::sleep(Duration::from_millis(random.below(4))).await;
            }
            done.send_async(*job).await.expect("the test receives");
            job.task_done();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let random = |n: u64| Random::new(seed + 2 * n);
        tokio::join!(work(random(1)), work(random(2)), work(random(3)), work(random(4)))
    });
}

fn collect(done: &Receiver<u64>, count: u64) {
    let mut seen = HashSet::new();
    while (seen.len() as u64) < count {
        seen.insert(done.recv_timeout(LONG).expect("none is lost"));
    }
}

#[offspring::test(timeout = "300s")]
fn jobs_of_processes_that_are_killed_while_their_tasks_wait_go_to_others() {
    let kills = crate::support::storm_kills() / 2;
    let count = kills * 100;
    let mut random = Random::of_storm();
    let jobs = JoinableQueue::builder().max_deliveries(1000).capacity(50).build().unwrap();
    let (sender, done) = channel().unwrap();
    let start = |random: &mut Random| {
        consume::spawn(jobs.clone(), sender.clone(), random.below(1 << 60)).unwrap()
    };
    let mut consumers = [start(&mut random), start(&mut random), start(&mut random)];
    std::thread::scope(|scope| {
        let collected = scope.spawn(|| collect(&done, count));
        let put = scope.spawn(|| {
            futures_executor::block_on(async {
                for n in 0..count {
                    jobs.put_async(n).await.unwrap();
                }
            });
        });
        for _ in 0..kills {
            random.sleep(20_000);
            let victim = &mut consumers[random.below(3) as usize];
            victim.kill();
            *victim = start(&mut random);
        }
        put.join().unwrap();
        collected.join().unwrap();
    });
    on_tokio(jobs.join_async()).unwrap();
    assert!(jobs.dead_letters().unwrap().is_empty());
    jobs.close().unwrap();
    consumers.iter().for_each(|consumer| consumer.join().unwrap());
}

/// Each task with a queue of its own: no thread a wait.
#[offspring::worker]
fn many_tasks(queues: Receiver<Queue<u64>>) -> u64 {
    let queues: Vec<_> = queues.iter().collect();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    on_tokio(async {
        let all = async {
            let mut sum = 0;
            let tasks: Vec<_> = queues
                .iter()
                .cloned()
                .map(|queue| {
                    tokio::spawn(async move {
                        queue.get_async().await.unwrap() + queue.get_async().await.unwrap()
                    })
                })
                .collect();
            for task in tasks {
                sum += task.await.unwrap();
            }
            sum
        };
        let (sum, most) = tokio::join!(all, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            threads()
        });
        // This one, the watch, and those of the hub and the process itself.
        assert!(most < 10, "{most} threads");
        sum
    })
}

#[offspring::test(timeout = "60s")]
fn a_hundred_tasks_wait_at_as_many_queues_without_threads() {
    let queues: Vec<_> = (0..100).map(|_| Queue::unbounded().unwrap()).collect();
    let (carry, carried) = channel().unwrap();
    let process = many_tasks::spawn(carried).unwrap();
    queues.iter().for_each(|queue| carry.send(queue.clone()).unwrap());
    drop(carry);
    std::thread::sleep(Duration::from_millis(200));
    for n in [1, 1000] {
        queues.iter().for_each(|queue| queue.put(n).unwrap());
    }
    assert_eq!(process.join().unwrap(), 100 * 1001);
}

#[test]
fn futures_can_go_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (numbers, jobs) =
        (Queue::<u64>::unbounded().unwrap(), JoinableQueue::<u64>::unbounded().unwrap());
    let (sender, receiver) = channel::<u64>().unwrap();
    is_send(&numbers.get_async());
    is_send(&numbers.put_async(1));
    is_send(&jobs.get_async());
    is_send(&jobs.join_async());
    is_send(&sender.send_async(1));
    is_send(&receiver.recv_async());
}
