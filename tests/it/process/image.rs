//! A child runs its parent's own image, or its start is an error. Fork bombs are impossible.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use offspring::{ProcessBuilder, ProcessWorker, SpawnError, Worker};
use serde::{Deserialize, Serialize};

use super::stage::{answer, binary, inner_program, is_inner, script, sleeper};
use crate::support::{copy_program, eventually, write_script};

/// Runs an inner program to its end, from a copy of this binary that it may do anything with.
#[track_caller]
fn run_copy(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    copy_program(&binary(), &copy);
    passes(&mut inner_program(&copy, test));
}

#[track_caller]
fn passes(program: &mut Command) {
    let output = finish(program);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("test result: ok. 1 passed"), "{text}");
}

fn finish(program: &mut Command) -> Output {
    let mut output = None;
    // A process that another test is about to start may still hold the copy open for writing.
    eventually("nobody writes the program", || {
        let started = program.output();
        let busy =
            matches!(&started, Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy);
        output = (!busy).then_some(started);
        !busy
    });
    output.unwrap().unwrap()
}

fn own_file() -> std::path::PathBuf {
    let file = std::env::current_exe().unwrap();
    assert!(file.ends_with("copy"), "{file:?} is not to be touched");
    file
}

#[offspring::test]
#[ignore = "run by `a_program_whose_file_was_deleted_starts_children`"]
fn inner_delete_own_file() {
    if is_inner() {
        fs::remove_file(own_file()).unwrap();
        assert_eq!(answer::spawn().unwrap().join().unwrap(), 42);
    }
}

#[offspring::test(timeout = "20s")]
fn a_program_whose_file_was_deleted_starts_children() {
    run_copy("process::image::inner_delete_own_file");
}

#[offspring::test]
#[ignore = "run by `a_program_whose_file_was_replaced_starts_its_old_self`"]
fn inner_replace_own_file() {
    if is_inner() {
        let file = own_file();
        let new = file.with_file_name("new");
        write_script(&new, "exit 3");
        fs::rename(new, file).unwrap();
        assert_eq!(answer::spawn().unwrap().join().unwrap(), 42);
    }
}

#[offspring::test(timeout = "20s")]
fn a_program_whose_file_was_replaced_starts_its_old_self() {
    run_copy("process::image::inner_replace_own_file");
}

#[offspring::test]
#[ignore = "run by `a_program_that_the_loader_was_asked_to_run_gets_an_error_in_time`"]
fn inner_run_by_the_loader() {
    if is_inner() {
        let began = Instant::now();
        let error = answer::spawn().unwrap_err();
        assert!(
            matches!(error, SpawnError::Died { .. } | SpawnError::BinaryMismatch { .. }),
            "{error:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

/// The running image is the loader then, and cannot be started again with our arguments.
#[offspring::test(timeout = "20s")]
fn a_program_that_the_loader_was_asked_to_run_gets_an_error_in_time() {
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    if loader.exists() {
        let inner = inner_program(&binary(), "process::image::inner_run_by_the_loader");
        passes(
            Command::new(loader)
                .arg(binary())
                .args(inner.get_args())
                .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))),
        );
    }
}

/// A plain test: it never runs `init`. It leaves a mark, then tries to start children.
#[test]
#[ignore = "run by `a_child_that_never_reaches_init_starts_nothing`"]
fn inner_without_init() {
    if !is_inner() {
        return;
    }
    let log = std::env::var("OFFSPRING_TEST_LOG").unwrap();
    let mut log = fs::File::options().append(true).create(true).open(log).unwrap();
    std::io::Write::write_all(&mut log, b"ran\n").unwrap();
    for _ in 0..3 {
        let error = answer::spawn().unwrap_err();
        assert!(matches!(error, SpawnError::NotInitialized), "{error:?}");
        assert!(error.to_string().contains("#[offspring::main]"), "{error}");
        assert!(error.to_string().contains("#[offspring::test]"), "{error}");
    }
}

/// Starts a child that never reaches `init`, and runs a program's own code instead.
#[offspring::worker]
fn start_what_never_inits(directory: std::path::PathBuf) -> String {
    let inner = inner_program(&binary(), "process::image::inner_without_init");
    let arguments: Vec<_> = inner.get_args().map(|argument| argument.to_str().unwrap()).collect();
    let text = format!("exec '{}' {} >/dev/null 2>&1", binary().display(), arguments.join(" "));
    let builder = ProcessBuilder::new()
        .env("OFFSPRING_TEST_INNER", "1")
        .env("OFFSPRING_TEST_LOG", directory.join("log"));
    let error = builder.program(script(&directory, &text)).spawn(answer::new()).unwrap_err();
    format!("{error:?}: {error}")
}

/// The fork bomb: each child would start the next.
#[offspring::test(timeout = "20s")]
fn a_child_that_never_reaches_init_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let error = start_what_never_inits::spawn(directory.path().to_owned()).unwrap().join().unwrap();
    assert!(error.starts_with("Died") && error.contains("offspring::init()"), "{error}");
    assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "ran\n");
}

/// Workers whose names depend on the environment, so that this binary can have mistakes that a
/// program has always or never.
macro_rules! worker_named_by_environment {
    ($($worker:ident)+) => {$(
        #[derive(Serialize, Deserialize)]
        struct $worker;

        impl Worker for $worker {
            fn worker_name() -> &'static str {
                match std::env::var("OFFSPRING_TEST_NAMES").as_deref() {
                    Ok("same") => "the same name",
                    Ok("other") => concat!("another name of ", stringify!($worker)),
                    _ => stringify!($worker),
                }
            }
        }

        impl ProcessWorker for $worker {
            type Output = String;
            fn run(self) -> String {
                stringify!($worker).to_owned()
            }
        }

        offspring::register!($worker);
    )+};
}

worker_named_by_environment! { One }
worker_named_by_environment! { Two }
// The place of a registration in a macro is that of its call.
worker_named_by_environment! { Three Four }

/// Like two versions of one crate in one program.
#[offspring::test]
#[ignore = "run by `two_workers_of_one_name_are_told_apart_by_their_places`"]
fn inner_with_namesakes() {
    if is_inner() {
        assert_eq!(One.spawn().unwrap().join().unwrap(), "One");
        assert_eq!(Two.spawn().unwrap().join().unwrap(), "Two");
        let pool = offspring::Pool::new(1).unwrap();
        assert_eq!(pool.run(Two).unwrap(), "Two");
        assert_eq!(pool.run(One).unwrap(), "One");
        // Those that cannot be told apart are an error of their own starts, and of no others.
        for error in [Three.spawn().unwrap_err(), Four.spawn().unwrap_err()] {
            let SpawnError::DuplicateWorker { name, first, second } = &error else {
                panic!("{error:?}")
            };
            assert_eq!((*name, first), ("the same name", second));
            assert!(first.contains("process/image.rs:"), "{error}");
        }
        assert!(pool.run(Four).is_err());
        assert_eq!(answer::spawn().unwrap().join().unwrap(), 42);
    }
}

#[offspring::test(timeout = "60s")]
fn two_workers_of_one_name_are_told_apart_by_their_places() {
    passes(
        inner_program(&binary(), "process::image::inner_with_namesakes")
            .env("OFFSPRING_TEST_NAMES", "same"),
    );
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_the_child_does_not_know_is_named() {
    let error = ProcessBuilder::new().env("OFFSPRING_TEST_NAMES", "other").spawn(One).unwrap_err();
    assert!(matches!(error, SpawnError::BinaryMismatch { .. }), "{error:?}");
    assert!(error.to_string().contains("worker `One` is not registered"), "{error}");
    One.spawn().unwrap().join().unwrap();
    Two.spawn().unwrap().join().unwrap();
}

#[derive(Serialize, Deserialize)]
struct Unregistered;

impl Worker for Unregistered {}

impl ProcessWorker for Unregistered {
    type Output = ();
    fn run(self) {}
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_is_not_registered_is_not_started() {
    let error = Unregistered.spawn().unwrap_err();
    assert!(
        matches!(error, SpawnError::NotRegistered { worker } if worker.ends_with("Unregistered")),
        "{error:?}"
    );
    assert!(error.to_string().contains("offspring::register!("), "{error}");
}

#[offspring::test]
#[ignore = "run by `a_test_harness_waits_for_no_child`"]
fn inner_leave_a_child() {
    if is_inner() {
        drop(sleeper::spawn().unwrap());
    }
}

/// A process that a failed test leaves running must not keep the harness from ending.
#[offspring::test(timeout = "20s")]
fn a_test_harness_waits_for_no_child() {
    passes(&mut inner_program(&binary(), "process::image::inner_leave_a_child"));
}
