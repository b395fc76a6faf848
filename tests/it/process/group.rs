//! Groups of processes: the first failure ends the others, and no process outlives its group.

use std::collections::BTreeSet;
use std::time::Duration;

use offspring::process::{KillCause, Member};
use offspring::queue::{Consumer, JoinableConsumer, Producer, PutError};
use offspring::{
    ExitReason, JoinError, JoinableQueue, ProcessBuilder, ProcessGroup, Queue, SpawnError,
};

use crate::support::{Random, is_running, open_fds, signal};

/// For those that do not react to a request, and so are ended by a signal.
const SHORT: Duration = Duration::from_millis(50);
/// For those that react, however slow the machine is.
const LONG: Duration = Duration::from_secs(1000);

/// Waits until it is asked to stop.
#[offspring::worker]
fn rest() -> String {
    offspring::current().wait_stopping();
    "rested".to_owned()
}

/// Does not react to a request.
#[offspring::worker]
fn hang() {
    loop {
        std::thread::park();
    }
}

/// Ends in this way once it is told to.
#[offspring::worker]
fn end(how: String, when: Consumer<()>) -> Result<u64, String> {
    when.get().expect("it is told");
    match how.as_str() {
        "return" => Ok(7),
        "err" => Err("no more".to_owned()),
        "panic" => panic!("no more"),
        "exit" => std::process::exit(3),
        "exit 0" => std::process::exit(0),
        _ => std::process::abort(),
    }
}

struct Told {
    tell: Producer<()>,
    member: Member<Result<u64, String>>,
}

fn spawn_end(group: &ProcessGroup, how: &str) -> Told {
    let (tell, when) = Queue::unbounded().unwrap().split();
    let builder = ProcessBuilder::new().name(how);
    let member = group.spawn_with(builder, end::new(how.to_owned(), when)).unwrap();
    Told { tell, member }
}

#[offspring::test(timeout = "60s")]
fn the_first_failure_stops_the_others_and_is_named() {
    for how in ["err", "panic", "exit", "exit 0", "abort"] {
        let group = ProcessGroup::new().grace(LONG);
        let rests = [(); 2].map(|()| group.spawn(rest::new()).unwrap());
        let returns = spawn_end(&group, "return");
        let fails = spawn_end(&group, how);
        returns.tell.put(()).unwrap();
        assert_eq!(returns.member.join().unwrap().unwrap(), 7);
        fails.tell.put(()).unwrap();

        let error = group.join().unwrap_err();
        let first = error.first();
        assert_eq!((first.name(), first.pid()), (how, fails.member.pid()));
        assert_eq!(first.reason(), &fails.member.exit_reason().unwrap());
        assert_eq!(first.has_returned_err(), how == "err");
        assert_eq!(first.reason().is_success(), how == "err");
        // The one that had returned was not stopped.
        let others: BTreeSet<u32> = error.others().iter().map(|other| other.pid()).collect();
        assert_eq!(others, rests.iter().map(|rest| rest.pid()).collect());
        assert!(error.others().iter().all(|other| other.reason().is_success()));
        let text = error.to_string();
        assert!(text.starts_with(&format!("process `{how}`")), "{text}");
        assert!(text.contains("so its group was stopped: process `rest"), "{text}");
        assert_eq!(format!("{error:?}"), text);

        // The outputs can be taken now.
        assert!(rests.iter().all(|rest| rest.join().unwrap() == "rested"));
        if how == "err" {
            assert_eq!(fails.member.join().unwrap().unwrap_err(), "no more");
        }
        // It stays like that, and starts nothing more.
        assert_eq!(group.join().unwrap_err().to_string(), text);
        assert!(group.is_empty());
        assert!(matches!(group.spawn(rest::new()), Err(SpawnError::GroupEnding)));
    }
}

#[offspring::test(timeout = "60s")]
fn what_does_not_stop_gets_a_signal() {
    let group = ProcessGroup::new().grace(SHORT);
    let hangs = group.spawn(hang::new()).unwrap();
    let fails = spawn_end(&group, "err");
    fails.tell.put(()).unwrap();
    let error = group.join().unwrap_err();
    assert_eq!(error.first().pid(), fails.member.pid());
    let [other] = error.others() else { panic!("{error}") };
    assert_eq!(other.pid(), hangs.pid());
    assert!(is_stopped(other.reason()), "{error}");
    assert!(matches!(hangs.join(), Err(JoinError::Ended { .. })));
}

/// SIGTERM comes first, but on a slow machine SIGKILL may follow before the process ends.
fn is_stopped(reason: &ExitReason) -> bool {
    matches!(reason, ExitReason::Killed { cause: KillCause::Stop, .. })
}

#[offspring::test(timeout = "60s")]
fn a_signal_from_outside_is_a_failure_and_one_of_this_program_is_none() {
    let group = ProcessGroup::new().grace(LONG);
    let [one, two, three] = [(); 3].map(|()| group.spawn(rest::new()).unwrap());
    one.kill();
    assert!(one.join().is_err());
    assert!(two.stop(LONG).is_success());
    // Neither ends the others.
    assert!(three.join_timeout(SHORT).unwrap_err().is_timeout());
    assert_eq!(group.len(), 1);
    let four = group.spawn(rest::new()).unwrap();
    signal(three.pid(), "KILL");
    let error = group.join().unwrap_err();
    assert_eq!(error.first().reason().code(), Some(-9));
    assert_eq!(error.first().pid(), three.pid());
    assert_eq!(error.others().len(), 1);
    assert_eq!(four.join().unwrap(), "rested");
}

#[offspring::test(timeout = "60s")]
fn all_outputs_are_there_after_the_join() {
    let group = ProcessGroup::new();
    let told: Vec<_> = (0..3).map(|_| spawn_end(&group, "return")).collect();
    assert_eq!(group.len(), 3);
    std::thread::scope(|scope| {
        let joins: Vec<_> = (0..2).map(|_| scope.spawn(|| group.join())).collect();
        for told in &told {
            told.tell.put(()).unwrap();
        }
        joins.into_iter().for_each(|join| join.join().unwrap().unwrap());
    });
    assert!(told.iter().all(|told| told.member.join().unwrap() == Ok(7)));
    // An ended group may go on.
    let again = spawn_end(&group, "return");
    again.tell.put(()).unwrap();
    group.join().unwrap();
    assert_eq!(again.member.join().unwrap(), Ok(7));
    ProcessGroup::new().join().unwrap();
}

#[offspring::worker]
fn ignore_everything(ready: Producer<u32>) {
    // SAFETY: `SIG_IGN` is a valid handler.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    ready.put(std::process::id()).unwrap();
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "60s")]
fn dropping_the_group_ends_all_its_processes() {
    let group = ProcessGroup::new().grace(LONG);
    let rests = group.spawn(rest::new()).unwrap();
    drop(group);
    assert_eq!(rests.exit_reason(), Some(ExitReason::Returned));

    let (ready, pids) = Queue::unbounded().unwrap().split();
    let group = ProcessGroup::new().grace(SHORT);
    let hangs = group.spawn(hang::new()).unwrap();
    group.spawn(ignore_everything::new(ready)).unwrap();
    let stubborn = pids.get().unwrap();
    drop(group);
    assert!(is_stopped(&hangs.exit_reason().unwrap()));
    for pid in [rests.pid(), hangs.pid(), stubborn] {
        assert!(!is_running(pid));
    }
}

#[offspring::test(timeout = "60s")]
fn a_panic_that_passes_the_group_ends_it_too() {
    let pid = std::sync::Mutex::new(0);
    let panic = std::panic::catch_unwind(|| {
        let group = ProcessGroup::new().grace(SHORT);
        *pid.lock().unwrap() = group.spawn(hang::new()).unwrap().pid();
        std::panic::resume_unwind(Box::new("no more"));
    });
    panic.unwrap_err();
    assert!(!is_running(*pid.lock().unwrap()));
}

#[offspring::test(timeout = "60s")]
fn stop_and_kill_are_no_failures() {
    let group = ProcessGroup::new();
    let hangs = group.spawn(hang::new()).unwrap();
    group.stop(SHORT).unwrap();
    assert!(is_stopped(&hangs.exit_reason().unwrap()));
    assert!(matches!(group.spawn(rest::new()), Err(SpawnError::GroupEnding)));

    let group = ProcessGroup::new();
    let hangs = group.spawn(hang::new()).unwrap();
    group.kill();
    group.join().unwrap();
    assert_eq!(hangs.exit_reason().unwrap().code(), Some(-9));

    // One that fails while it is stopped has failed.
    let group = ProcessGroup::new();
    group.spawn(fail_at_stop::new()).unwrap();
    assert_eq!(group.stop(LONG).unwrap_err().first().reason().code(), Some(101));
}

#[offspring::worker]
fn fail_at_stop() {
    offspring::current().wait_stopping();
    panic!("no more");
}

#[offspring::test(timeout = "60s")]
fn a_start_that_fails_leaves_the_group_as_it_is() {
    let group = ProcessGroup::new();
    let rests = group.spawn(rest::new()).unwrap();
    let nowhere = ProcessBuilder::new().current_dir("/there/is/no/such/place");
    assert!(group.spawn_with(nowhere, rest::new()).is_err());
    let detached = ProcessBuilder::new().detached(true);
    let error = group.spawn_with(detached, rest::new()).unwrap_err();
    assert!(error.to_string().contains("no process outlives its group"), "{error}");
    assert_eq!(group.len(), 1);
    assert!(rests.is_alive());
}

/// Ends without dropping its group.
#[offspring::worker]
fn leave(how: String, pids: Producer<u32>) {
    let group = ProcessGroup::new().grace(SHORT);
    pids.put(group.spawn(rest::new()).unwrap().pid()).unwrap();
    pids.put(group.spawn(hang::new()).unwrap().pid()).unwrap();
    if how == "kill" {
        signal(std::process::id(), "KILL");
    }
    if how == "leak" {
        std::mem::forget(group);
        return;
    }
    std::process::exit(3);
}

#[offspring::test(timeout = "60s")]
fn a_program_that_ends_takes_its_groups_with_it() {
    for how in ["exit", "leak", "kill"] {
        let (pids, found) = Queue::unbounded().unwrap().split();
        let process = leave::spawn(how.to_owned(), pids).unwrap();
        let found: Vec<u32> = found.iter().collect();
        assert_eq!(found.len(), 2, "{how}");
        let _ = process.join();
        crate::support::eventually("its processes have ended", || {
            !found.iter().any(|&pid| is_running(pid))
        });
    }
}

#[offspring::test(timeout = "60s")]
fn a_selector_and_a_task_wait_for_a_group() {
    let group = ProcessGroup::new();
    let told = spawn_end(&group, "return");
    assert_eq!(offspring::wait_any_timeout(&[&group, &told.member], SHORT).unwrap(), None);
    told.tell.put(()).unwrap();
    assert_eq!(offspring::wait_any(&[&group]).unwrap(), 0);
    pollster::block_on(group.join_async()).unwrap();

    let told = spawn_end(&group, "panic");
    std::thread::scope(|scope| {
        let join = scope.spawn(|| pollster::block_on(group.join_async()));
        told.tell.put(()).unwrap();
        let error = join.join().unwrap().unwrap_err();
        assert_eq!(error.first().pid(), told.member.pid());
    });
}

#[offspring::worker]
fn consume(jobs: JoinableConsumer<u64>) {
    for job in &jobs {
        assert_ne!(*job, 20, "job 20 is too much");
        job.task_done();
    }
}

/// The main program puts and nothing else, and learns of the failure.
#[offspring::test(timeout = "60s")]
fn a_pipeline_ends_with_its_first_consumer_that_dies() {
    let group = ProcessGroup::new().grace(SHORT);
    let (jobs, consumer) = JoinableQueue::bounded(4).unwrap().split();
    for _ in 0..3 {
        group.spawn(consume::new(consumer.clone())).unwrap();
    }
    drop(consumer);
    let error = (0..1_000_000).find_map(|n| jobs.put(n).err()).expect("the consumers are stopped");
    assert!(matches!(error, PutError::Abandoned(_)));
    let error = group.join().unwrap_err();
    let ExitReason::Panicked(report) = error.first().reason() else { panic!("{error}") };
    assert!(report.message.contains("too much"), "{error}");
    assert_eq!(error.others().len(), 2);
}

/// The number of descriptors after each of some rounds, in a process of its own.
#[offspring::worker]
fn count_descriptors() -> Vec<usize> {
    let round = |_| {
        let group = ProcessGroup::new().grace(SHORT);
        for _ in 0..3 {
            group.spawn(rest::new()).unwrap();
        }
        group.stop(LONG).unwrap();
        open_fds()
    };
    (0..4).map(round).collect()
}

#[offspring::test(timeout = "60s")]
fn a_group_leaves_no_descriptor() {
    let counts = count_descriptors::spawn().unwrap().join().unwrap();
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

/// How the processes end, and when, is random: the error is one of those that failed.
#[offspring::test(timeout = "120s")]
fn whatever_happens_the_error_names_one_that_failed() {
    let mut random = Random::of_storm();
    for round in 0..12 {
        let group = ProcessGroup::new().grace(SHORT);
        let mut members = Vec::new();
        for _ in 0..1 + random.below(4) {
            let how =
                ["return", "return", "err", "panic", "exit", "kill"][random.below(6) as usize];
            members.push((how, spawn_end(&group, how)));
        }
        for (how, told) in &members {
            random.sleep(2000);
            // It may have been stopped because another has failed.
            let _ = told.tell.put(());
            if *how == "kill" {
                // Not by this library, so it counts as a failure, as does its own end.
                let pid = told.member.pid();
                let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
        }
        let joined = group.join();
        assert!(members.iter().all(|(_, told)| !told.member.is_alive()));
        let failed = |told: &Told| match told.member.exit_reason().unwrap() {
            ExitReason::Returned => told.member.join().unwrap().is_err(),
            ExitReason::Killed { .. } => false,
            _ => true,
        };
        match joined {
            Ok(()) => assert!(!members.iter().any(|(_, told)| failed(told)), "round {round}"),
            Err(error) => {
                let first =
                    members.iter().find(|(_, told)| told.member.pid() == error.first().pid());
                assert!(failed(&first.unwrap().1), "round {round}: {error}");
            }
        }
    }
}
