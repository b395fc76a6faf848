//! The same contract on both backends: a worker in a separate process, and on a thread of this one.

use std::time::{Duration, Instant};

use offspring::pool::{PoolBuilder, TaskError};
use offspring::process::{Backend, JoinTimeoutError};
use offspring::{
    ExitReason, JoinError, JoinableQueue, Pool, Process, ProcessBuilder, ProcessWorker, Queue,
    SpawnError,
};
use serde::{Deserialize, Deserializer, Serialize};

const BACKENDS: [Backend; 2] = [Backend::Process, Backend::Inline];

/// The builder of a child of each kind.
fn each(test: impl Fn(&dyn Fn() -> ProcessBuilder, Backend)) {
    for backend in BACKENDS {
        test(&|| ProcessBuilder::new().backend(backend), backend);
        offspring::testing::assert_no_children();
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Facts {
    name: String,
    daemon: bool,
    depth: u32,
    parent: Option<(String, u32)>,
    pid: u32,
    thread: Option<String>,
}

#[offspring::worker]
fn facts() -> Facts {
    let current = offspring::current();
    Facts {
        name: current.name().to_owned(),
        daemon: current.is_daemon(),
        depth: current.depth(),
        parent: offspring::parent().map(|parent| (parent.name().to_owned(), parent.pid())),
        pid: current.pid(),
        thread: std::thread::current().name().map(str::to_owned),
    }
}

#[offspring::test(timeout = "30s")]
fn a_worker_knows_who_it_is() {
    each(|builder, backend| {
        let child = builder().name("bob").daemon(true).spawn(facts::new()).unwrap();
        assert_eq!((child.name(), child.is_daemon(), child.backend()), ("bob", true, backend));
        let facts = child.join().unwrap();
        assert_eq!((facts.name.as_str(), facts.daemon, facts.depth), ("bob", true, 1));
        assert_eq!(
            facts.parent,
            Some((offspring::current().name().to_owned(), std::process::id()))
        );
        assert_eq!(facts.pid, child.pid());
        assert_eq!(facts.pid == std::process::id(), backend == Backend::Inline);
        if backend == Backend::Inline {
            assert_eq!(facts.thread.as_deref(), Some("bob"));
        }
    });
    assert_eq!(offspring::current().name(), "main", "no worker runs on this thread");
}

#[offspring::worker]
fn wait_for(items: Queue<u32>) -> u32 {
    items.iter().sum()
}

#[offspring::test(timeout = "30s")]
fn joins_wait_and_give_the_output_again_and_again() {
    each(|builder, _| {
        let items = Queue::unbounded().unwrap();
        let child = builder().spawn(wait_for::new(items.clone())).unwrap();
        assert!(child.is_alive() && child.exit_reason().is_none());
        assert!(offspring::active_children().iter().any(|one| one.name() == child.name()));
        let began = Instant::now();
        let error = child.join_timeout(Duration::from_millis(50)).unwrap_err();
        assert!(
            matches!(error, JoinTimeoutError::Timeout { .. })
                && began.elapsed() >= Duration::from_millis(50)
        );
        (1..=4).for_each(|n| items.put(n).unwrap());
        items.close().unwrap();
        assert_eq!((child.join().unwrap(), child.join().unwrap()), (10, 10));
        assert!(!child.is_alive());
        assert_eq!(child.exit_reason(), Some(ExitReason::Returned));
        assert!(!offspring::active_children().iter().any(|one| one.name() == child.name()));
    });
}

#[offspring::worker]
fn fail(caught_before: bool) {
    if caught_before {
        let _ = std::panic::catch_unwind(|| panic!("caught"));
    }
    panic!("the reason");
}

#[offspring::test(timeout = "30s")]
fn a_panic_is_told_with_message_and_place() {
    each(|builder, _| {
        for caught_before in [false, true] {
            let child = builder().name("unlucky").spawn(fail::new(caught_before)).unwrap();
            let error = child.join().unwrap_err();
            let Some(ExitReason::Panicked(report)) = error.reason() else { panic!("{error}") };
            assert_eq!(report.message, "the reason");
            assert!(report.location.as_ref().unwrap().contains("inline.rs"), "{report}");
            assert_eq!(child.exit_reason().unwrap().code(), Some(101));
        }
    });
}

/// Does not encode, or does not decode.
#[derive(offspring::Worker)]
struct Stubborn(bool);

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 {
            return Err(serde::ser::Error::custom("stays here"));
        }
        serializer.serialize_bool(self.0)
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Stubborn, D::Error> {
        Err(serde::de::Error::custom("stays bytes"))
    }
}

impl ProcessWorker for Stubborn {
    type Output = ();
    fn run(self) {}
}

#[offspring::worker]
fn give_stubborn() -> Stubborn {
    Stubborn(true)
}

#[offspring::test(timeout = "30s")]
fn what_does_not_cross_is_found() {
    each(|builder, _| {
        let encode = builder().spawn(Stubborn(true)).unwrap_err();
        assert!(matches!(encode, SpawnError::Encode(_)), "{encode:?}");
        let decode = builder().spawn(Stubborn(false)).unwrap_err();
        assert!(
            matches!(&decode, SpawnError::Decode { message, .. } if message.contains("stays bytes")),
            "{decode:?}"
        );
        let output = builder().spawn(give_stubborn::new()).unwrap().join();
        assert!(matches!(output, Err(JoinError::Output { .. })));
    });
}

#[offspring::worker]
fn until_stopped() -> bool {
    let early = offspring::current().wait_stopping_timeout(Duration::from_millis(20));
    offspring::current().wait_stopping();
    !early && offspring::current().is_stopping()
}

#[offspring::test(timeout = "30s")]
fn a_worker_can_be_asked_to_stop() {
    each(|builder, _| {
        let child = builder().spawn(until_stopped::new()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        child.request_stop(Duration::MAX);
        assert!(child.join().unwrap());
    });
    assert!(!offspring::current().is_stopping());
}

#[offspring::worker]
fn work(jobs: JoinableQueue<u64>, results: Queue<u64>) {
    for job in &jobs {
        results.put(*job * 2).unwrap();
        job.task_done();
    }
}

#[offspring::test(timeout = "30s")]
fn queues_go_to_workers_of_both_kinds() {
    each(|builder, _| {
        let (jobs, results) = (JoinableQueue::bounded(4).unwrap(), Queue::unbounded().unwrap());
        let workers: Vec<Process<()>> = (0..3)
            .map(|_| builder().spawn(work::new(jobs.clone(), results.clone())).unwrap())
            .collect();
        (0..100).for_each(|n| jobs.put(n).unwrap());
        jobs.join().unwrap();
        jobs.close().unwrap();
        workers.iter().for_each(|worker| worker.join().unwrap());
        let mut all: Vec<u64> = (0..100).map(|_| results.get().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).map(|n| n * 2).collect::<Vec<_>>());
    });
}

#[offspring::worker]
fn give(length: usize) -> Vec<u8> {
    vec![7; length]
}

#[offspring::test(timeout = "30s")]
fn outputs_of_every_size_arrive() {
    each(|builder, _| {
        for length in [0, 1, 60_000, 3_000_000] {
            assert_eq!(
                builder().spawn(give::new(length)).unwrap().join().unwrap(),
                vec![7; length]
            );
        }
    });
}

#[offspring::test(timeout = "30s")]
fn a_thread_cannot_be_ended() {
    let items = Queue::unbounded().unwrap();
    let child =
        ProcessBuilder::new().backend(Backend::Inline).spawn(wait_for::new(items.clone())).unwrap();
    child.kill();
    child.terminate();
    child.kill_tree();
    child.request_stop(Duration::from_millis(1));
    assert!(child.join_timeout(Duration::from_millis(100)).unwrap_err().is_timeout());
    items.close().unwrap();
    assert_eq!(child.join().unwrap(), 0);
    assert_eq!(child.exit_reason(), Some(ExitReason::Returned));
}

/// The backend of its child, whose builder sets none.
#[offspring::worker]
fn backend_of_environment() -> Result<bool, String> {
    let child = ProcessBuilder::new().spawn(facts::new()).map_err(|error| error.to_string())?;
    Ok(child.join().unwrap().pid == std::process::id())
}

#[offspring::test(timeout = "30s")]
fn the_environment_chooses_for_a_program() {
    let chosen = |value: &str| {
        let builder =
            ProcessBuilder::new().backend(Backend::Process).env("OFFSPRING_BACKEND", value);
        builder.spawn(backend_of_environment::new()).unwrap().join().unwrap()
    };
    assert_eq!(chosen("inline"), Ok(true));
    assert_eq!((chosen("process"), chosen("")), (Ok(false), Ok(false)));
    let error = chosen("thread").unwrap_err();
    assert!(error.contains("OFFSPRING_BACKEND") && error.contains("`inline`"), "{error}");
}

#[offspring::worker]
fn sleep_for_ever() {
    std::thread::sleep(Duration::from_secs(1000));
}

#[offspring::worker]
fn end_with_a_thread(daemon: bool) -> u32 {
    let items = Queue::unbounded().unwrap();
    let inline = || ProcessBuilder::new().backend(Backend::Inline).daemon(daemon);
    if daemon {
        drop(inline().spawn(sleep_for_ever::new()).unwrap());
    } else {
        drop(inline().spawn(wait_and_print::new(items.clone())).unwrap());
        items.put(5).unwrap();
    }
    6
}

#[offspring::worker]
fn wait_and_print(items: Queue<u32>) {
    std::thread::sleep(Duration::from_millis(100));
    println!("{}", items.get().unwrap());
}

#[offspring::test(timeout = "30s")]
fn the_end_waits_for_threads_that_are_no_daemons() {
    for (daemon, printed) in [(true, ""), (false, "5\n")] {
        let builder = ProcessBuilder::new().stdout(offspring::Stdio::piped());
        let output = builder.spawn(end_with_a_thread::new(daemon)).unwrap().join_with_output();
        assert_eq!(output.result.unwrap(), 6);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed);
    }
}

#[offspring::test(timeout = "30s")]
#[should_panic(expected = "this test leaves processes behind: `left`")]
fn a_child_that_is_left_behind_fails_the_test() {
    let _left = ProcessBuilder::new().name("left").spawn(sleep_for_ever::new()).unwrap();
    offspring::testing::assert_no_children();
}

/// What a pool is built on, and what it has to do with this process.
fn pools(test: impl Fn(PoolBuilder, Backend)) {
    each(|_, backend| {
        let builder = Pool::builder().process(move |_, process| process.backend(backend));
        test(builder.workers(2).name("pool"), backend);
    });
}

#[offspring::worker]
fn slot_of(n: u64) -> (u64, u32, Option<usize>) {
    (n, std::process::id(), offspring::current().slot())
}

#[offspring::worker]
fn fails_at_three(n: u64) -> u64 {
    assert_ne!(n, 3, "three");
    n
}

#[offspring::worker]
fn waits_for_event(event: offspring::sync::Event) {
    event.wait().unwrap();
}

#[offspring::test(timeout = "60s")]
fn a_pool_runs_its_tasks_on_both() {
    pools(|builder, backend| {
        let pool = builder.max_tasks_per_worker(10).build().unwrap();
        let results: Vec<_> = pool.map(0..100, slot_of::new).map(Result::unwrap).collect();
        assert!(results.iter().map(|result| result.0).eq(0..100));
        for (_, pid, slot) in results {
            assert_eq!(pid == std::process::id(), backend == Backend::Inline);
            assert!(matches!(slot, Some(0 | 1)), "{slot:?}");
        }
        let results: Vec<_> = pool.map(0..6, fails_at_three::new).collect();
        let failed = results[3].as_ref().unwrap_err();
        assert!(matches!(failed, TaskError::Panicked { .. }), "{failed}");
        assert!(failed.to_string().contains("three"), "{failed}");
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
        pool.shutdown(Duration::from_secs(30)).unwrap();
    });
}

#[offspring::worker]
fn initialize(fail: bool) -> Result<(), String> {
    if fail { Err("no licence".to_owned()) } else { Ok(()) }
}

#[offspring::test(timeout = "60s")]
fn an_initializer_that_fails_ends_the_pool_on_both() {
    pools(|builder, _| {
        let error = builder.initializer(initialize::new(true)).build().unwrap_err();
        assert!(error.to_string().contains("no licence"), "{error}");
    });
}

#[offspring::test(timeout = "60s")]
fn a_pool_of_threads_ignores_limits_and_ends_with_the_task_that_runs() {
    let pool = Pool::builder()
        .process(|_, process| process.backend(Backend::Inline))
        .workers(1)
        .task_timeout(Duration::from_nanos(1))
        .max_memory_per_worker(1)
        .initializer(initialize::new(false))
        .initializer_timeout(Duration::from_nanos(1))
        .build()
        .unwrap();
    let (first, second) =
        (offspring::sync::Event::new().unwrap(), offspring::sync::Event::new().unwrap());
    let runs = pool.submit(waits_for_event::new(first.clone())).unwrap();
    let follows = pool.submit(waits_for_event::new(second)).unwrap();
    while pool.stats().running == 0 {
        std::thread::yield_now();
    }
    runs.cancel(); // it runs, so it ends by itself
    std::thread::scope(|scope| {
        let end = scope.spawn(|| pool.kill());
        assert!(matches!(follows.join(), Err(TaskError::Stopped { .. })));
        assert!(!end.is_finished() && !runs.is_finished());
        first.set();
    });
    runs.join().unwrap();
}

/// A pool in a program whose workers are threads.
#[offspring::worker]
fn backend_of_a_pool() -> bool {
    let pool = Pool::new(1).unwrap();
    pool.run(slot_of::new(1)).unwrap().1 == std::process::id()
}

#[offspring::test(timeout = "30s")]
fn the_environment_chooses_the_backend_of_pools() {
    for backend in ["process", "inline"] {
        let builder = ProcessBuilder::new().env("OFFSPRING_BACKEND", backend);
        let child = builder.backend(Backend::Process).spawn(backend_of_a_pool::new());
        assert_eq!(child.unwrap().join().unwrap(), backend == "inline");
    }
}
