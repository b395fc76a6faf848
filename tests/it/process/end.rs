//! How a process ended, as its parent sees it.

use std::time::{Duration, Instant};

use offspring::process::KillCause;
use offspring::{ExitReason, JoinError, Process, ProcessBuilder, Queue};
use serde::{Deserialize, Serialize};

use super::stage::{FOREVER, sleeper};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Way {
    Return,
    Exit(i32),
    ExitOfThread(i32),
    LibcExit(i32),
    ExitNow(i32),
    Panic,
    Abort,
    Signal(i32),
    BadAccess,
    StackOverflow,
    PanicInDropOfPanic,
    PanicInC,
    PanicOfThread,
    PanicPassedOn,
}

#[offspring::worker]
fn end(way: Way) {
    match way {
        Way::Return => {}
        Way::Exit(code) => std::process::exit(code),
        Way::ExitOfThread(code) => {
            std::thread::spawn(move || std::process::exit(code));
            std::thread::sleep(FOREVER);
        }
        // SAFETY: always allowed.
        Way::LibcExit(code) => unsafe { libc::exit(code) },
        // SAFETY: always allowed.
        Way::ExitNow(code) => unsafe { libc::_exit(code) },
        Way::Panic => panic!("all is lost: {}", 7),
        Way::Abort => std::process::abort(),
        Way::Signal(signal) => {
            // SAFETY: sends a signal to this process.
            unsafe { libc::raise(signal) };
            std::thread::sleep(FOREVER);
        }
        // SAFETY: none; it is what is tried here, and only this process has to bear it.
        Way::BadAccess => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
        Way::StackOverflow => overflow(0),
        Way::PanicInDropOfPanic => {
            struct Bomb;
            impl Drop for Bomb {
                fn drop(&mut self) {
                    panic!("the second");
                }
            }
            let _bomb = Bomb;
            panic!("the first");
        }
        Way::PanicInC => {
            extern "C" fn unwinds_not() {
                panic!("the first");
            }
            unwinds_not();
        }
        Way::PanicOfThread => drop(std::thread::spawn(|| panic!("nobody cares")).join()),
        Way::PanicPassedOn => {
            let thread = std::thread::Builder::new().name("helper".to_owned());
            let panic = thread.spawn(|| panic!("from afar")).unwrap().join().unwrap_err();
            std::panic::resume_unwind(panic);
        }
    }
}

#[allow(unconditional_recursion)]
fn overflow(depth: u64) {
    let place = std::hint::black_box([depth; 1024]);
    overflow(std::hint::black_box(place[0]) + 1);
    std::hint::black_box(&place);
}

fn reason_of<T: serde::de::DeserializeOwned>(process: &Process<T>) -> ExitReason {
    match process.join() {
        Ok(_) => process.exit_reason().unwrap(),
        Err(JoinError::Ended { name, pid, reason, .. }) => {
            assert_eq!((name.as_str(), pid), (process.name(), process.pid()));
            assert_eq!(process.exit_reason(), Some(reason.clone()));
            reason
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn ended(way: Way) -> ExitReason {
    let began = Instant::now();
    let reason = reason_of(&end::spawn(way).unwrap());
    assert!(began.elapsed() < Duration::from_secs(10), "{way:?}");
    reason
}

#[offspring::test(timeout = "60s")]
fn the_table_of_exit_codes() {
    for (way, expected) in [
        (Way::Return, ExitReason::Returned),
        (Way::Exit(0), ExitReason::Exited(0)),
        (Way::Exit(8), ExitReason::Exited(8)),
        (Way::Exit(300), ExitReason::Exited(44)),
        (Way::Exit(101), ExitReason::Exited(101)),
        (Way::ExitOfThread(3), ExitReason::Exited(3)),
        (Way::LibcExit(3), ExitReason::Exited(3)),
        (Way::ExitNow(3), ExitReason::Exited(3)),
        (Way::PanicOfThread, ExitReason::Returned),
    ] {
        let reason = ended(way);
        assert_eq!(reason, expected, "{way:?}");
        assert_eq!(reason.is_success(), expected == ExitReason::Returned);
    }
}

#[offspring::test(timeout = "60s")]
fn signals_that_end_a_process_are_named() {
    for (way, expected, name) in [
        (Way::Abort, libc::SIGABRT, "SIGABRT"),
        (Way::BadAccess, libc::SIGSEGV, "SIGSEGV"),
        (Way::StackOverflow, libc::SIGABRT, "SIGABRT"),
        (Way::Signal(libc::SIGTERM), libc::SIGTERM, "SIGTERM"),
        (Way::Signal(libc::SIGKILL), libc::SIGKILL, "SIGKILL"),
        (Way::Signal(libc::SIGUSR1), libc::SIGUSR1, "signal 10"),
    ] {
        let reason = ended(way);
        assert!(
            matches!(reason, ExitReason::Signaled { signal, .. } if signal == expected),
            "{way:?}: {reason:?}"
        );
        assert_eq!(reason.code(), Some(-expected));
        assert!(reason.to_string().contains(name), "{reason}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_panic_tells_message_place_and_thread() {
    let reason = ended(Way::Panic);
    assert_eq!(reason.code(), Some(101));
    let ExitReason::Panicked(report) = reason else { panic!("{reason:?}") };
    assert_eq!(report.message, "all is lost: 7");
    assert!(report.location.as_ref().unwrap().contains("process/end.rs:"), "{report:?}");
    assert!(report.to_string().contains("all is lost: 7"));
}

#[offspring::test(timeout = "20s")]
fn a_panic_tells_its_backtrace_if_that_is_asked_for() {
    let backtrace = |value| {
        let child =
            ProcessBuilder::new().env("RUST_BACKTRACE", value).spawn(end::new(Way::Panic)).unwrap();
        match reason_of(&child) {
            ExitReason::Panicked(report) => report.backtrace,
            other => panic!("{other:?}"),
        }
    };
    assert!(backtrace("1").unwrap().contains("end"));
    assert_eq!(backtrace("0"), None);
}

/// As every panic does where panics abort: the hook has reported it before.
#[offspring::test(timeout = "20s")]
fn a_panic_that_aborts_is_still_told() {
    for (way, message) in [(Way::PanicInC, "the first"), (Way::PanicInDropOfPanic, "the second")] {
        let reason = ended(way);
        let ExitReason::Panicked(report) = &reason else { panic!("{reason:?}") };
        assert_eq!(report.message, message);
        assert!(report.location.as_ref().unwrap().contains("process/end.rs:"), "{report:?}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_panic_that_was_passed_on_tells_where_it_began() {
    let reason = ended(Way::PanicPassedOn);
    let ExitReason::Panicked(report) = &reason else { panic!("{reason:?}") };
    assert_eq!((report.message.as_str(), report.thread.as_deref()), ("from afar", Some("helper")));
    assert!(report.location.is_some());
}

/// Catches panics with long messages, and then does not catch the last one.
#[offspring::worker]
fn catch_many(count: usize, last: Option<String>) -> usize {
    for n in 0..count {
        std::panic::catch_unwind(|| panic!("caught {n} {}", "x".repeat(100_000))).unwrap_err();
    }
    match last {
        Some(message) => panic!("{message}"),
        None => count,
    }
}

#[offspring::test(timeout = "20s")]
fn the_panic_that_ended_the_worker_is_told_not_one_that_it_caught() {
    for count in [1, 3, 10] {
        let child =
            ProcessBuilder::new().env("RUST_BACKTRACE", "1").stderr(offspring::Stdio::null());
        let reason =
            reason_of(&child.spawn(catch_many::new(count, Some("the last".to_owned()))).unwrap());
        let ExitReason::Panicked(report) = &reason else { panic!("{reason:?}") };
        assert_eq!(report.message, "the last");
        assert!(report.location.as_ref().unwrap().contains("process/end.rs:"), "{report:?}");
    }
}

#[offspring::test(timeout = "20s")]
fn panics_that_were_caught_change_nothing() {
    let child = ProcessBuilder::new().env("RUST_BACKTRACE", "1").stderr(offspring::Stdio::null());
    assert_eq!(child.spawn(catch_many::new(10, None)).unwrap().join().unwrap(), 10);
}

#[offspring::test(timeout = "20s")]
fn a_long_panic_message_is_cut() {
    let long = "é".repeat(100_000);
    let child = ProcessBuilder::new()
        .stderr(offspring::Stdio::null())
        .spawn(catch_many::new(0, Some(long)))
        .unwrap();
    let ExitReason::Panicked(report) = reason_of(&child) else { panic!("{child:?}") };
    assert!(
        report.message.starts_with("éé") && report.message.len() < 9000,
        "{}",
        report.message.len()
    );
}

#[offspring::worker]
fn panic_with_own_hook() {
    std::panic::set_hook(Box::new(|_| {}));
    panic!("behind a hook");
}

#[offspring::test(timeout = "20s")]
fn a_panic_is_told_though_the_worker_has_a_hook_of_its_own() {
    let reason = reason_of(&panic_with_own_hook::spawn().unwrap());
    let ExitReason::Panicked(report) = &reason else { panic!("{reason:?}") };
    assert_eq!(report.message, "behind a hook");
}

#[offspring::worker]
fn return_beside_a_thread() -> u32 {
    std::thread::spawn(|| std::thread::sleep(FOREVER));
    5
}

#[offspring::test(timeout = "20s")]
fn threads_of_a_worker_are_not_waited_for() {
    assert_eq!(return_beside_a_thread::spawn().unwrap().join().unwrap(), 5);
}

#[offspring::test(timeout = "20s")]
fn a_child_that_was_stopped_tells_who_did_it() {
    for (stop, cause, code) in [
        (Process::<()>::terminate as fn(&Process<()>), KillCause::Terminate, -15),
        (Process::<()>::kill, KillCause::Kill, -9),
    ] {
        let child = sleeper::spawn().unwrap();
        stop(&child);
        let reason = reason_of(&child);
        assert_eq!(reason, ExitReason::Killed { cause, signal: -code });
        assert_eq!(reason.code(), Some(code));
        assert!(!child.is_alive());
        assert!(offspring::active_children().iter().all(|other| other.name() != child.name()));
    }
}

#[offspring::worker]
fn put_and_end(items: Queue<u32>, way: Way) {
    (0..10_000).for_each(|item| items.put(item).unwrap());
    end(way);
}

/// Nothing of it is on its way in memory of the process that ends.
#[offspring::test(timeout = "30s")]
fn what_was_put_before_a_process_ended_arrives_however_it_ends() {
    for way in [Way::Return, Way::Exit(0), Way::ExitNow(3), Way::Panic, Way::Signal(libc::SIGKILL)]
    {
        let items = Queue::unbounded().unwrap();
        // Its end is tested elsewhere.
        let _ = put_and_end::spawn(items.clone(), way).unwrap().join();
        (0..10_000).for_each(|item| {
            assert_eq!(items.get_timeout(Duration::from_secs(5)).unwrap(), item, "{way:?}")
        });
    }
}
