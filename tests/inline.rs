//! The same contract on both backends: a worker in a separate process, and on a thread of this one.

use std::time::{Duration, Instant};

use offspring::process::{Backend, JoinTimeoutError};
use offspring::{
    ExitReason, JoinError, JoinableQueue, Process, ProcessBuilder, ProcessWorker, Queue, SpawnError,
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

/// The error of a pool in a program whose workers are threads.
#[offspring::worker]
fn build_pool() -> Result<usize, String> {
    offspring::Pool::new(1).map(|pool| pool.workers()).map_err(|error| error.to_string())
}

#[offspring::test(timeout = "30s")]
fn a_pool_has_no_inline_workers_and_says_so() {
    let build = |backend| {
        ProcessBuilder::new()
            .env("OFFSPRING_BACKEND", backend)
            .backend(Backend::Process)
            .spawn(build_pool::new())
    };
    assert_eq!(build("process").unwrap().join().unwrap(), Ok(1));
    let error = build("inline").unwrap().join().unwrap().unwrap_err();
    assert!(error.contains("OFFSPRING_BACKEND") && error.contains("cannot be killed"), "{error}");
}
