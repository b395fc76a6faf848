//! Time, memory, numbers of tasks; initializers; sizes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use offspring::pool::{
    PoolError, PoolEvent, SubmitError, TaskError, TaskOptions, TrySubmitError, set_worker_state,
    with_worker_state,
};
use offspring::{Pool, Queue, Receiver, channel};

use super::{eventually_sleeps, thread_id};

#[offspring::worker]
fn pid_of() -> u32 {
    std::process::id()
}

#[offspring::worker]
fn sleep_for(time: Duration) -> u64 {
    std::thread::sleep(time);
    1
}

const LONG: Duration = Duration::from_secs(1000);

#[offspring::test(timeout = "60s")]
fn a_task_over_its_time_is_ended_and_the_next_runs_elsewhere() {
    let pool = Pool::builder().workers(1).task_timeout(Duration::from_millis(150)).build().unwrap();
    let pid = pool.run(pid_of::new()).unwrap();
    let start = Instant::now();
    let long = pool.submit(sleep_for::new(LONG)).unwrap();
    let behind: Vec<_> = (0..5).map(|_| pool.submit(pid_of::new()).unwrap()).collect();
    let error = long.join().unwrap_err();
    assert!(error.is_time_limit(), "{error}");
    assert_eq!(error.pid(), Some(pid));
    assert!(start.elapsed() >= Duration::from_millis(150));
    for task in behind {
        assert_ne!(task.join().unwrap(), pid);
    }
    let patient = TaskOptions::new().task_timeout(Duration::from_secs(30));
    assert_eq!(
        pool.submit_with(sleep_for::new(Duration::from_millis(400)), patient)
            .unwrap()
            .join()
            .unwrap(),
        1
    );
}

#[offspring::test(timeout = "60s")]
fn many_tasks_that_are_in_time_outlast_the_limit() {
    let pool = Pool::builder().workers(1).task_timeout(Duration::from_secs(2)).build().unwrap();
    let outputs = pool.map(0..30, |_| sleep_for::new(Duration::from_millis(100)));
    assert_eq!(outputs.map(Result::unwrap).sum::<u64>(), 30);
}

#[offspring::test(timeout = "60s")]
fn cancelling_ends_waiting_and_running_tasks() {
    let pool = Pool::new(1).unwrap();
    let running = pool.submit(sleep_for::new(LONG)).unwrap();
    let waiting: Vec<_> = (0..20).map(|_| pool.submit(sleep_for::new(LONG)).unwrap()).collect();
    let last = pool.submit(pid_of::new()).unwrap();
    crate::support::eventually("it runs", || running.pid().is_some());
    let pid = running.pid().unwrap();
    waiting.iter().for_each(offspring::Task::cancel);
    assert!(waiting.into_iter().all(|task| task.join().unwrap_err().is_cancelled()));
    assert!(!running.is_finished());
    running.cancel();
    assert!(running.join().unwrap_err().is_cancelled());
    assert_ne!(last.join().unwrap(), pid);
    let done = pool.submit(pid_of::new()).unwrap();
    crate::support::eventually("it is done", || done.is_finished());
    done.cancel();
    assert!(done.join().is_ok());
}

#[offspring::test(timeout = "60s")]
fn workers_are_replaced_after_so_many_tasks() {
    let pool = Pool::builder().workers(1).max_tasks_per_worker(3).build().unwrap();
    let pids: Vec<u32> = pool.map(0..12, |_| pid_of::new()).map(Result::unwrap).collect();
    for three in pids.chunks(3) {
        assert!(three.iter().all(|&pid| pid == three[0]), "{pids:?}");
    }
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 4, "{pids:?}");
    let pool = Pool::builder().workers(2).max_tasks_per_worker(1).build().unwrap();
    let tasks: Vec<_> = (0..8).map(|_| pool.submit(pid_of::new()).unwrap()).collect();
    // Ended while its workers wear out: all tasks get done.
    drop(pool);
    assert_eq!(tasks.into_iter().map(|task| task.join().unwrap()).collect::<HashSet<_>>().len(), 8);
}

#[offspring::test(timeout = "60s")]
fn a_worker_that_has_grown_is_replaced() {
    #[offspring::worker]
    fn leak(bytes: usize) -> u32 {
        std::mem::forget(vec![1u8; bytes]);
        std::thread::sleep(Duration::from_millis(15));
        std::process::id()
    }
    let pool = Pool::builder().workers(1).max_memory_per_worker(150 << 20).build().unwrap();
    // On a busy machine, one that leaks may still run when its process is looked at.
    let pid_of = |output| match output {
        Ok(pid) | Err(TaskError::OverMemory { pid, .. }) => pid,
        Err(error) => panic!("{error}"),
    };
    let pids: HashSet<u32> = pool.map(0..12, |_| leak::new(40 << 20)).map(pid_of).collect();
    assert!((2..=5).contains(&pids.len()), "{pids:?}");
}

/// Uses more and more memory until it is ended.
#[offspring::worker]
fn hoard() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 4 << 20]);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[offspring::test(timeout = "60s")]
fn a_task_over_its_memory_is_ended_and_the_next_runs_elsewhere() {
    const LIMIT: u64 = 150 << 20;
    let pool = Pool::builder().workers(1).max_memory_per_worker(LIMIT).retries(3).build().unwrap();
    let pid = pool.run(pid_of::new()).unwrap();
    let over = pool.submit(hoard::new()).unwrap();
    let behind: Vec<_> = (0..5).map(|_| pool.submit(pid_of::new()).unwrap()).collect();
    match over.join().unwrap_err() {
        TaskError::OverMemory { used, limit, pid: ended, .. } => {
            assert!(used > LIMIT && limit == LIMIT && ended == pid, "{used} {limit} {ended}");
        }
        other => panic!("{other}"),
    }
    for task in behind {
        assert_ne!(task.join().unwrap(), pid);
    }
    // One with a handle in its value travels as a parcel.
    #[offspring::worker]
    fn hoard_with(_handle: offspring::Sender<u8>) {
        hoard::new().run()
    }
    use offspring::ProcessWorker as _;
    let (sender, _receiver) = channel().unwrap();
    let error = pool.run(hoard_with::new(sender)).unwrap_err();
    assert!(matches!(error, TaskError::OverMemory { .. }), "{error}");
    assert!(error.to_string().contains("bytes of memory, and 157286400 are allowed"), "{error}");
    let stats = pool.stats();
    assert_eq!((stats.done, stats.failed), (6, 2));
}

#[offspring::worker]
fn take(bytes: usize) -> Result<(), String> {
    std::mem::forget(vec![1_u8; bytes]);
    Ok(())
}

/// Nor is a process replaced that is as large before its first task.
#[offspring::test(timeout = "60s")]
fn a_task_is_not_blamed_for_memory_that_it_has_found() {
    let builder = Pool::builder().workers(1).max_memory_per_worker(100 << 20);
    let pool = builder.initializer(take::new(200 << 20)).build().unwrap();
    let first = pool.pids();
    // Long enough for several looks.
    for _ in 0..2 {
        assert_eq!(pool.run(sleep_for::new(Duration::from_millis(350))).unwrap(), 1);
    }
    assert_ne!(pool.pids(), first);
    let error = pool.run(hoard::new()).unwrap_err();
    let TaskError::OverMemory { used, .. } = error else { panic!("{error}") };
    assert!(used > 300 << 20, "{used}");
}

#[offspring::test(timeout = "60s")]
fn a_handle_that_is_told_to_cancels_its_task_when_it_is_dropped() {
    let pool = Pool::new(1).unwrap();
    let running = pool.submit(sleep_for::new(LONG)).unwrap().cancel_on_drop();
    let waiting = pool.submit(sleep_for::new(LONG)).unwrap().cancel_on_drop();
    crate::support::eventually("it runs", || running.pid().is_some());
    let pid = running.pid().unwrap();
    drop(waiting);
    assert!(!running.is_finished());
    drop(running);
    assert_ne!(pool.run(pid_of::new()).unwrap(), pid);
    // One that has ended, and one whose output was taken.
    let ended = pool.submit(pid_of::new()).unwrap().cancel_on_drop();
    crate::support::eventually("it has ended", || ended.is_finished());
    drop(ended);
    let pid = pool.submit(pid_of::new()).unwrap().cancel_on_drop().join().unwrap();
    assert_eq!(pool.run(pid_of::new()).unwrap(), pid);
    assert_eq!(pool.stats().failed, 2);
}

struct Greeting(String, u32);

#[offspring::worker]
fn prepare(greeting: String) -> Result<(), String> {
    if greeting.is_empty() {
        return Err("nothing to say".to_owned());
    }
    set_worker_state(Greeting(greeting, 0));
    Ok(())
}

#[offspring::worker]
fn greet(name: String) -> (String, u32) {
    with_worker_state(|greeting: &mut Greeting| {
        greeting.1 += 1;
        (format!("{} {name}", greeting.0), greeting.1)
    })
    .expect("the initializer has run")
}

#[offspring::test(timeout = "60s")]
fn an_initializer_prepares_each_worker() {
    let pool =
        Pool::builder().workers(1).initializer(prepare::new("hello".to_owned())).build().unwrap();
    assert_eq!(pool.run(greet::new("bob".to_owned())).unwrap(), ("hello bob".to_owned(), 1));
    assert_eq!(pool.run(greet::new("eve".to_owned())).unwrap(), ("hello eve".to_owned(), 2));
}

#[offspring::test(timeout = "60s")]
fn an_initializer_that_fails_ends_the_pool_once() {
    let named =
        || offspring::active_children().iter().any(|child| child.name().starts_with("failing"));
    let builder = Pool::builder().workers(3).name("failing");
    match builder.initializer(prepare::new(String::new())).build() {
        Err(PoolError::Initializer { message, worker, .. }) => {
            assert_eq!(message, "nothing to say");
            assert!(worker.starts_with("failing-"));
        }
        other => panic!("{other:?}"),
    }
    assert!(!named());
}

#[offspring::worker]
fn crash_if_there(mark: std::path::PathBuf) {
    if mark.exists() {
        let starts = std::fs::read_to_string(&mark).unwrap();
        std::fs::write(&mark, starts + "x").unwrap();
        std::process::abort();
    }
}

#[offspring::test(timeout = "60s")]
fn an_initializer_that_fails_later_ends_in_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let pool = Pool::builder()
        .workers(1)
        .initializer(crash_if_there::new(mark.clone()))
        .restart_limit(3)
        .restart_backoff(Duration::from_millis(1))
        .build()
        .unwrap();
    let pid = pool.run(pid_of::new()).unwrap();
    std::fs::write(&mark, "").unwrap();
    let running = pool.submit(sleep_for::new(LONG)).unwrap();
    let waiting = pool.submit(pid_of::new()).unwrap();
    crate::support::eventually("it runs", || running.pid() == Some(pid));
    running.cancel();
    assert!(running.join().unwrap_err().is_cancelled());
    match waiting.join() {
        Err(TaskError::Broken { cause, .. }) => {
            assert!(matches!(&*cause, PoolError::Initializer { .. }), "{cause}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_to_string(&mark).unwrap().len(), 4);
    assert!(matches!(pool.submit(pid_of::new()), Err(SubmitError::Broken(..))));
}

#[offspring::test(timeout = "60s")]
fn a_full_pool_makes_those_who_submit_wait() {
    let pool = Pool::builder().workers(2).max_unfinished(3).build().unwrap();
    let mut tasks: Vec<_> =
        (0..3).map(|_| pool.submit(sleep_for::new(Duration::from_secs(100))).unwrap()).collect();
    let refused = pool.try_submit(sleep_for::new(Duration::ZERO)).unwrap_err();
    assert!(matches!(refused, TrySubmitError::Full(_)), "{refused}");
    // A map is not held up.
    let mut map = pool.map(0..10, |_| sleep_for::new(Duration::ZERO));
    assert!(map.next_timeout(Duration::from_millis(10)).unwrap().unwrap_err().is_timeout());
    drop(map);
    std::thread::scope(|scope| {
        let (started, starting) = std::sync::mpsc::channel();
        let pool = &pool;
        let submitting = scope.spawn(move || {
            started.send(thread_id()).unwrap();
            pool.submit(sleep_for::new(Duration::ZERO)).unwrap()
        });
        eventually_sleeps(starting.recv().unwrap());
        assert!(!submitting.is_finished());
        tasks.pop().unwrap().cancel();
        let fourth = submitting.join().unwrap();
        tasks.pop().unwrap().cancel();
        fourth.join().unwrap();
    });
    tasks.pop().unwrap().cancel();
    // However many submit, there are never more.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let _runs = pool.submit(sleep_for::new(Duration::ZERO)).unwrap();
                    let stats = pool.stats();
                    assert!(stats.queued + stats.running <= 3, "{stats:?}");
                }
            });
        }
    });
}

/// Submits without an end to a pool that breaks meanwhile.
#[offspring::test(timeout = "60s")]
fn who_waits_to_submit_to_a_pool_that_gives_up_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let pool = Pool::builder()
        .workers(1)
        .max_unfinished(1)
        .initializer(crash_if_there::new(mark.clone()))
        .restart_limit(1)
        .restart_backoff(Duration::from_millis(1))
        .build()
        .unwrap();
    let first = pool.submit(sleep_for::new(Duration::from_secs(100))).unwrap();
    crate::support::eventually("it runs", || first.pid().is_some());
    std::fs::write(&mark, "").unwrap();
    std::thread::scope(|scope| {
        let (started, starting) = std::sync::mpsc::channel();
        let pool = &pool;
        let submitting = scope.spawn(move || {
            started.send(thread_id()).unwrap();
            loop {
                // One may be taken between the end of the first and the pool's.
                match pool.submit(sleep_for::new(Duration::ZERO)) {
                    Ok(_) => {}
                    Err(error) => return error,
                }
            }
        });
        eventually_sleeps(starting.recv().unwrap());
        first.cancel();
        let error = submitting.join().unwrap();
        assert!(matches!(error, SubmitError::Broken(..)), "{error}");
    });
}

#[offspring::test(timeout = "60s")]
fn next_of_a_map_waits_no_longer_than_it_is_told() {
    let pool = Pool::new(2).unwrap();
    let times = [300, 0, 300, 0].map(Duration::from_millis);
    let mut map = pool.map(times, sleep_for::new);
    let mut unordered = Vec::new();
    let mut waited = 0;
    while let Some(next) = map.next_timeout(Duration::from_millis(20)) {
        match next {
            Ok(output) => unordered.push(output),
            Err(error) => {
                assert!(error.is_timeout(), "{error}");
                waited += 1;
            }
        }
    }
    assert_eq!(unordered.len(), 4);
    assert!(waited > 3, "{waited}");
    assert!(map.next_timeout(Duration::MAX).is_none());
    let mut map = pool.map_unordered(times, sleep_for::new);
    map.next_timeout(Duration::from_millis(250)).unwrap().unwrap();
    assert_eq!(map.count(), 3);
}

#[offspring::test(timeout = "60s")]
fn senseless_options_are_refused() {
    assert!(matches!(Pool::new(0), Err(PoolError::InvalidOption { option: "workers", .. })));
    assert!(Pool::new(usize::MAX).is_err());
    assert!(Pool::builder().workers(1).name("").build().is_err());
    assert!(Pool::builder().workers(1).name("a\0b").build().is_err());
    assert!(Pool::builder().workers(1).max_tasks_per_worker(0).build().is_err());
    assert!(Pool::builder().workers(1).max_unfinished(0).build().is_err());
}

#[offspring::test(timeout = "60s")]
fn sizes_change_while_work_is_done() {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> =
        (0..400).map(|_| pool.submit(sleep_for::new(Duration::from_millis(2))).unwrap()).collect();
    for size in [6, 1, 4, 2, 5, 1, 3] {
        pool.resize(size).unwrap();
        assert_eq!(pool.workers(), size);
        std::thread::sleep(Duration::from_millis(15));
    }
    assert_eq!(tasks.into_iter().map(|task| task.join().unwrap()).sum::<u64>(), 400);
    crate::support::eventually("three are left", || pool.pids().len() == 3);
    assert!(pool.resize(0).is_err());
}

#[offspring::test(timeout = "60s")]
fn a_spare_takes_the_place_of_one_that_ends() {
    let pool = Pool::builder().workers(1).spares(1).build().unwrap();
    let spare = pool
        .stats()
        .workers
        .iter()
        .find(|worker| worker.is_spare)
        .and_then(|worker| worker.pid)
        .unwrap();
    let long = pool.submit(sleep_for::new(LONG)).unwrap();
    crate::support::eventually("it runs", || long.pid().is_some());
    assert_ne!(long.pid(), Some(spare));
    long.cancel();
    assert_eq!(pool.run(pid_of::new()).unwrap(), spare);
    crate::support::eventually("there is a new spare", || {
        pool.stats().workers.iter().any(|worker| worker.is_spare)
    });
}

#[offspring::test(timeout = "60s")]
fn large_values_and_handles_travel() {
    #[offspring::worker]
    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }
    #[offspring::worker]
    fn put(queue: Queue<u64>, n: u64) -> Queue<u64> {
        queue.put(n).unwrap();
        queue
    }
    let pool = Pool::new(2).unwrap();
    for size in [10, 30_000, 40_000, 1 << 20, 20 << 20] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let reversed = pool.run(reverse::new(bytes.clone())).unwrap();
        assert!(reversed.iter().rev().eq(&bytes));
    }
    let lengths = pool.map(0..100usize, |n| reverse::new(vec![n as u8; n * 1000]));
    for (n, bytes) in lengths.enumerate() {
        assert_eq!(bytes.unwrap(), vec![n as u8; n * 1000]);
    }
    let queue = Queue::unbounded().unwrap();
    let back: Vec<Queue<u64>> =
        pool.map(0..20, |n| put::new(queue.clone(), n)).map(Result::unwrap).collect();
    back[0].put(20).unwrap();
    let mut items: Vec<u64> = (0..21).map(|_| queue.get().unwrap()).collect();
    items.sort_unstable();
    assert_eq!(items, (0..21).collect::<Vec<_>>());
}

#[offspring::test(timeout = "60s")]
fn mixed_durations_starve_nobody() {
    let pool = Pool::new(2).unwrap();
    // By the measured cost of tiny tasks, many are put into one ring, after a long one.
    let tiny = |_| sleep_for::new(Duration::ZERO);
    assert_eq!(pool.map(0..20_000, tiny).map(Result::unwrap).sum::<u64>(), 20_000);
    let start = Instant::now();
    let long = pool.submit(sleep_for::new(Duration::from_secs(20))).unwrap();
    let tasks: Vec<_> =
        (0..2000).map(|_| pool.submit(sleep_for::new(Duration::ZERO)).unwrap()).collect();
    assert_eq!(tasks.into_iter().map(|task| task.join().unwrap()).sum::<u64>(), 2000);
    assert!(start.elapsed() < Duration::from_secs(10), "they waited behind the long one");
    long.cancel();
}

#[offspring::test(timeout = "60s")]
fn numbers_and_events_tell_what_happens() {
    let pool = Pool::new(2).unwrap();
    let events = pool.events();
    assert_eq!(pool.map(0..50, |_| sleep_for::new(Duration::from_millis(2))).count(), 50);
    let long = pool.submit(sleep_for::new(LONG)).unwrap();
    crate::support::eventually("it runs", || long.pid().is_some());
    let stats = pool.stats();
    assert_eq!(
        (stats.done, stats.failed, stats.queued, stats.running, stats.restarts),
        (50, 0, 0, 1, 0)
    );
    assert_eq!(stats.workers.len(), 2);
    assert!(
        stats.workers.iter().all(|worker| worker.memory > Some(100_000) && worker.pid.is_some())
    );
    assert!(
        stats
            .workers
            .iter()
            .any(|worker| worker.task.is_some_and(|task| task.contains("sleep_for")))
    );
    assert!(stats.workers.iter().all(|worker| worker.busy > 0.0 && worker.busy <= 1.0));
    long.cancel();
    assert!(long.join().is_err());
    crate::support::eventually("it is replaced", || pool.pids().len() == 2);
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.restarts), (1, 1));
    drop(pool);
    let told: Vec<PoolEvent> = events.collect();
    let has = |test: fn(&PoolEvent) -> bool| told.iter().any(test);
    assert!(has(|event| matches!(event, PoolEvent::WorkerEnded { .. })), "{told:?}");
    assert!(has(|event| matches!(event, PoolEvent::WorkerStarted { .. })), "{told:?}");
    assert!(
        has(|event| matches!(event, PoolEvent::TaskFailed { error } if error.is_cancelled())),
        "{told:?}"
    );
}

#[offspring::worker]
fn first_of(receiver: Receiver<u64>) -> u64 {
    receiver.recv().unwrap()
}

#[offspring::test(timeout = "60s")]
fn a_worker_that_is_refused_comes_back_whole() {
    let pool = Pool::builder().workers(1).max_unfinished(1).build().unwrap();
    let ((go, wait), (sender, receiver)) = (channel().unwrap(), channel().unwrap());
    let busy = pool.submit(first_of::new(wait)).unwrap();
    let Err(TrySubmitError::Full(refused)) = pool.try_submit(first_of::new(receiver)) else {
        panic!("the pool is full");
    };
    sender.send(5).unwrap();
    go.send(1).unwrap();
    assert_eq!(busy.join().unwrap(), 1);
    assert_eq!(pool.try_submit(refused).unwrap().join().unwrap(), 5);

    let (sender, receiver) = channel().unwrap();
    pool.kill();
    let Err(SubmitError::Closed(refused)) = pool.submit(first_of::new(receiver)) else {
        panic!("the pool is closed");
    };
    sender.send(6).unwrap();
    assert_eq!(refused.receiver.recv().unwrap(), 6);
}

/// `OFFSPRING_RACE_ROUNDS` is their number (default 30).
#[offspring::test(timeout = "600s")]
fn a_task_behind_one_that_is_cancelled_is_not_ended_in_its_place() {
    let rounds = std::env::var("OFFSPRING_RACE_ROUNDS")
        .map_or(30, |rounds| rounds.parse().expect("OFFSPRING_RACE_ROUNDS is a number"));
    let pool = Pool::builder().workers(2).build().unwrap();
    for round in 0..rounds {
        let (_go, wait) = channel::<u64>().unwrap();
        let cancelled = pool.submit(first_of::new(wait)).unwrap();
        crate::support::eventually("it runs", || cancelled.pid().is_some());
        let others: Vec<_> = (0..40).map(|_| pool.submit(pid_of::new()).unwrap()).collect();
        cancelled.cancel();
        // Those are fed while the process is killed.
        let late: Vec<_> = (0..40).map(|_| pool.submit(pid_of::new()).unwrap()).collect();
        for task in others.into_iter().chain(late) {
            task.join().unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        assert!(matches!(cancelled.join(), Err(TaskError::Cancelled { .. })));
    }
}

#[offspring::worker]
fn prepare_for(time: Duration) {
    std::thread::sleep(time);
}

#[offspring::test(timeout = "60s")]
fn an_initializer_that_does_not_end_is_an_error_of_the_pool() {
    let builder = Pool::builder().workers(2).initializer(prepare_for::new(LONG));
    let error = builder.initializer_timeout(Duration::from_millis(50)).build().unwrap_err();
    assert!(
        matches!(&error, PoolError::Initializer { message, .. } if message.contains("50ms")),
        "{error}"
    );
    offspring::testing::assert_no_children();
    let builder = Pool::builder().workers(2).initializer(prepare_for::new(Duration::ZERO));
    let pool = builder.initializer_timeout(LONG).build().unwrap();
    pool.run(pid_of::new()).unwrap();
}
