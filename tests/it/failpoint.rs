//! Processes that end at each step of the protocol, one after the other. A test of the tests checks
//! that they fail with known bugs made on purpose. All of this needs the feature `failpoints`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use offspring::__private::{MUTATIONS, POINTS};
use offspring::queue::{JoinableConsumer, JoinableProducer, PutError, QueueJoinError};
use offspring::{JoinableQueue, ProcessBuilder, Queue};
use serde::{Deserialize, Serialize};

use crate::storm::queue::{self as storm, Item, Storm};

fn armed(point: &str, hit: u32) -> ProcessBuilder {
    ProcessBuilder::new().env("OFFSPRING_FAILPOINT", format!("{point}:{hit}"))
}

/// Runs a producer and a consumer that both end at this point, beside two that live. Returns
/// whether any of them reached it.
fn one_point(point: &str, hit: u32) -> bool {
    let (queue, jobs) = (Queue::bounded(16).unwrap(), JoinableQueue::bounded(16).unwrap());
    let (mut plain, mut joinable) = (Storm::new(), Storm::new());
    let mut victims = Vec::new();
    for (index, doomed) in [true, false].into_iter().enumerate() {
        let builder = || {
            if doomed { armed(point, hit) } else { ProcessBuilder::new() }
        };
        let number = index as u64;
        let producer = plain.start(true, |history| {
            builder().spawn(storm::put::new(queue.clone(), history, number)).unwrap()
        });
        let consumer = plain.start(false, |history| {
            builder().spawn(storm::get::new(queue.clone(), history)).unwrap()
        });
        let job_producer = joinable.start(true, |history| {
            builder().spawn(storm::put_jobs::new(jobs.clone(), history, number)).unwrap()
        });
        let worker = joinable.start(false, |history| {
            builder().spawn(storm::work::new(jobs.clone(), history)).unwrap()
        });
        if doomed {
            victims =
                [(true, producer), (true, consumer), (false, job_producer), (false, worker)].into();
        } else {
            plain.running.extend([producer, consumer]);
            joinable.running.extend([job_producer, worker]);
        }
    }
    let deadline = Instant::now() + Duration::from_millis(400);
    while Instant::now() < deadline && victims.iter().any(|(_, party)| party.process.is_alive()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let reached = victims.iter().any(|(_, party)| !party.process.is_alive());
    for (is_plain, party) in victims {
        let storm = if is_plain { &mut plain } else { &mut joinable };
        storm.kill(party);
    }
    // Those that live go on, all four of them.
    let put =
        |storm: &Storm| storm::fates(&storm.histories).values().filter(|fate| fate.put).count();
    let before = (put(&plain), put(&joinable));
    crate::support::eventually("both kinds of queue go on", || {
        let now = (put(&plain), put(&joinable));
        now.0 > before.0 && now.1 > before.1
    });
    plain.stop_producers();
    joinable.stop_producers();
    plain.check_queue(&queue);
    joinable.check_jobs(&jobs);
    reached
}

#[offspring::worker]
fn take_some(jobs: JoinableConsumer<u64>) {
    jobs.iter().take(200).for_each(|job| job.task_done());
    panic!("these are enough");
}

#[offspring::worker]
fn put_some(jobs: JoinableProducer<u64>) {
    (0..200).for_each(|n| jobs.put(n).expect("a consumer lives"));
    panic!("these are enough");
}

#[offspring::test(timeout = "600s")]
fn the_only_consumer_may_end_at_every_step() {
    for point in POINTS[0] {
        let (jobs, consumer) = JoinableQueue::bounded(16).unwrap().split();
        let process = armed(point, 1).spawn(take_some::new(consumer)).unwrap();
        let mut put = 0;
        let error = loop {
            match jobs.put(put) {
                Ok(()) => put += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, PutError::Abandoned(_)), "{point}: {error:?}");
        match jobs.join() {
            Err(QueueJoinError::Abandoned { unfinished, .. }) => {
                assert!(unfinished as u64 <= put, "{point}");
            }
            joined => assert!(joined.is_ok() && jobs.is_empty().unwrap(), "{point}: {joined:?}"),
        }
        process.join().unwrap_err();
    }
}

#[offspring::test(timeout = "600s")]
fn the_only_producer_may_end_at_every_step() {
    for point in POINTS[0] {
        let (producer, jobs) = JoinableQueue::bounded(16).unwrap().split();
        let process = armed(point, 1).spawn(put_some::new(producer)).unwrap();
        let taken: Vec<u64> = jobs
            .iter()
            .map(|job| {
                let number = *job;
                job.task_done();
                number
            })
            .collect();
        assert!(taken.iter().copied().eq(0..taken.len() as u64), "{point}: {taken:?}");
        process.join().unwrap_err();
    }
}

#[offspring::test(timeout = "600s")]
fn a_client_may_end_at_every_step() {
    for point in POINTS[0] {
        for hit in [1, 2, 30] {
            let reached = one_point(point, hit);
            println!("{point}:{hit} {}", if reached { "" } else { "was not reached" });
            assert!(reached || hit > 1, "nobody comes to {point}");
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Handles {
    queue: Queue<Item>,
    jobs: JoinableQueue<u64>,
}

#[offspring::worker]
fn own(handles: offspring::Sender<Handles>) {
    let (queue, jobs) = (Queue::bounded(16).unwrap(), JoinableQueue::bounded(16).unwrap());
    let mine = Handles { queue: queue.clone(), jobs: jobs.clone() };
    handles.send(mine).expect("the test reads");
    // Half of the items go to the owner's own threads.
    std::thread::scope(|scope| {
        scope.spawn(|| queue.iter().count());
        scope.spawn(|| jobs.iter().for_each(offspring::Delivery::task_done));
    });
    loop {
        std::thread::park();
    }
}

#[offspring::worker]
fn use_until_it_ends(handles: Handles, put: bool) {
    std::thread::scope(|scope| {
        scope.spawn(|| match put {
            true => while handles.queue.put(Item::new(0)).is_ok() {},
            false => while handles.queue.get().is_ok() {},
        });
        scope.spawn(|| match put {
            true => while handles.jobs.put(1).is_ok() {},
            false => handles.jobs.iter().for_each(offspring::Delivery::task_done),
        });
    });
}

#[offspring::test(timeout = "600s")]
fn an_owner_may_end_at_every_step_and_everybody_is_told() {
    for point in POINTS[1] {
        for hit in [1, 2, 30] {
            let (handles, received) = offspring::channel().unwrap();
            let owner = armed(point, hit).spawn(own::new(handles)).unwrap();
            let Handles { queue, jobs } = received.recv().unwrap();
            let user = |put| {
                let (queue, jobs) = (queue.clone(), jobs.clone());
                // With its owner gone early, the handle cannot even be sent.
                ProcessBuilder::new()
                    .spawn(use_until_it_ends::new(Handles { queue, jobs }, put))
                    .ok()
            };
            let mut users = vec![user(true), user(false), user(true)];
            // Others come and go meanwhile.
            let deadline = Instant::now() + Duration::from_millis(500);
            while owner.is_alive() && Instant::now() < deadline {
                users.push(user(false));
                if let Some(Some(first)) = users.first() {
                    first.kill();
                }
                users.remove(0);
                std::thread::sleep(Duration::from_millis(10));
            }
            let reached = !owner.is_alive();
            owner.kill();
            println!("{point}:{hit} {}", if reached { "" } else { "was not reached" });
            assert!(reached || hit > 1, "the owner does not come to {point}");
            let _ = owner.join();
            for user in users.into_iter().flatten() {
                let ended = user.join_timeout(Duration::from_secs(10));
                assert!(
                    !matches!(ended, Err(ref error) if error.is_timeout()),
                    "{point}: a call did not end"
                );
            }
            assert!(queue.is_closed().unwrap());
            assert!(queue.put(Item::new(1)).is_err() && jobs.join().is_err());
        }
    }
}

/// The tests that are to find a mutation, as this binary runs them.
fn tests_find(mutation: &str) -> Option<String> {
    for test in ["storm::queue::", "failpoint::a_client", "queue::stopped::", "queue::bounds::"] {
        let mut tests = Command::new(std::env::current_exe().unwrap())
            .args([test, "--test-threads=2"])
            .env("OFFSPRING_MUTATION", mutation)
            .env("OFFSPRING_STORM_KILLS", "150")
            .env_remove("OFFSPRING_CHILD")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match tests.try_wait().unwrap() {
                Some(status) if status.success() => break,
                Some(_) => return Some(format!("{test} fails")),
                None if Instant::now() > deadline => {
                    let _ = tests.kill();
                    let _ = tests.wait();
                    return Some(format!("{test} hangs"));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    None
}

#[offspring::test(timeout = "3600s")]
#[ignore = "takes some minutes, and must not run beside other tests"]
fn every_mutation_is_found() {
    assert_eq!(tests_find("none"), None, "without a mutation they pass");
    let mut missed: Vec<&str> = Vec::new();
    // The window of this one is a few instructions: the race and the model of the ring's own tests
    // find it.
    for mutation in MUTATIONS.iter().filter(|&&mutation| mutation != "ring.recall-unseen") {
        let found = tests_find(mutation);
        println!("{mutation}: {}", found.as_deref().unwrap_or("not found"));
        missed.extend(found.is_none().then_some(*mutation));
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
