//! Starts, ends and signals at once, many times: `OFFSPRING_RACE_ROUNDS` is the number of rounds
//! (default: 10).

use std::fs;
use std::time::Duration;

use offspring::process::KillCause;
use offspring::{ExitReason, Process, ProcessBuilder};

use super::stage::{Census, answer, sleeper};
use crate::support::eventually;

fn rounds() -> u32 {
    std::env::var("OFFSPRING_RACE_ROUNDS")
        .map_or(10, |rounds| rounds.parse().expect("OFFSPRING_RACE_ROUNDS is a number"))
}

/// One life of one child. What it returns must hold whatever other threads do.
fn live(kind: u32) {
    match kind % 6 {
        0 => assert_eq!(answer::spawn().unwrap().join().unwrap(), 42),
        1 => {
            let child = sleeper::spawn().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| child.kill());
                scope.spawn(|| child.terminate());
                let reason = child.join().unwrap_err().reason().cloned();
                assert!(matches!(reason, Some(ExitReason::Killed { .. })), "{reason:?}");
            });
        }
        2 => drop(answer::spawn().unwrap()),
        3 => {
            let child = sleeper::spawn().unwrap();
            child.kill();
            drop(child);
        }
        4 => {
            // It ends by itself, or is ended: either may be first, but nothing else is possible.
            let child = answer::spawn().unwrap();
            child.terminate();
            let joined = child.join();
            match child.exit_reason().unwrap() {
                ExitReason::Returned => assert_eq!(joined.unwrap(), 42),
                ExitReason::Killed { cause: KillCause::Terminate, .. } => drop(joined.unwrap_err()),
                other => panic!("{other:?}"),
            }
        }
        _ => {
            let child = answer::spawn().unwrap();
            while child.join_timeout(Duration::from_micros(200)).is_err() {
                assert!(child.is_alive() || child.exit_reason().is_some());
            }
            assert!(!child.is_alive());
        }
    }
}

/// Gives what is different after many lives on many threads.
#[offspring::worker]
fn live_on_threads(threads: u32, rounds: u32) -> (Census, Census) {
    answer::spawn().unwrap().join().unwrap();
    let before = Census::take();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (0..rounds).for_each(|round| live(thread + round)));
        }
    });
    eventually("all are reaped", || {
        offspring::active_children().is_empty() && Census::take() == before
    });
    (before, Census::take())
}

#[offspring::test(timeout = "600s")]
fn lives_on_many_threads_do_not_disturb_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let stage = ProcessBuilder::new()
        .env("TMPDIR", directory.path())
        .spawn(live_on_threads::new(8, rounds()));
    let (before, after) = stage.unwrap().join().unwrap();
    assert_eq!(after, before);
}

/// Starts children as fast as it can, and children of children.
#[offspring::worker]
fn multiply(deep: bool) {
    loop {
        let children: Vec<Process<()>> = (0..3)
            .map(|n| {
                if deep && n == 0 { multiply::spawn(false) } else { sleeper::spawn() }.unwrap()
            })
            .collect();
        children.iter().for_each(Process::kill);
    }
}

/// Returns whether a process runs with this in its environment.
fn anybody_has(mark: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut environments =
        processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments.any(|environment| {
        environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
    })
}

#[offspring::test(timeout = "600s")]
fn a_parent_killed_at_any_instant_leaves_nobody_behind() {
    for round in 0..2 * rounds() {
        let mark = format!("{}-{round}", std::process::id());
        let directory = tempfile::tempdir().unwrap();
        let builder =
            ProcessBuilder::new().env("OFFSPRING_TEST_MARK", &mark).env("TMPDIR", directory.path());
        let stage = builder.spawn(multiply::new(true)).unwrap();
        // Another instant of a start each time, which takes some milliseconds.
        std::thread::sleep(Duration::from_micros(700) * (round % 40));
        stage.kill();
        stage.join().unwrap_err();
        eventually("the whole family is gone", || {
            !anybody_has(&format!("OFFSPRING_TEST_MARK={mark}"))
        });
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            0,
            "directories of starts are left"
        );
    }
}
