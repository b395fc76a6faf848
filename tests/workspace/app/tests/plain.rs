//! Plain tests that start processes, beside one that no child may run.

use std::fs::OpenOptions;
use std::io::Write;

use jobs::{Longest, double, quadruple};
use offspring::{ExitReason, Pool, ProcessWorker};

offspring::init_before_main!();

#[offspring::worker]
fn panics() {
    panic!("on purpose");
}

#[offspring::worker]
fn arguments() -> Vec<String> {
    std::env::args().collect()
}

#[test]
fn workers_of_this_file_and_of_a_dependency_run() {
    assert_eq!(double::spawn(21).unwrap().join().unwrap(), 42);
    assert_eq!(quadruple::spawn(3).unwrap().join().unwrap(), 12);
    assert_eq!(Longest { of: vec!["abcd".to_owned()] }.spawn().unwrap().join().unwrap(), 4);
    assert_eq!(arguments::spawn().unwrap().join().unwrap(), std::env::args().collect::<Vec<_>>());
    offspring::testing::assert_no_children();
}

#[test]
fn a_panic_reaches_the_test() {
    let error = panics::spawn().unwrap().join().unwrap_err();
    assert!(matches!(error.reason(), Some(ExitReason::Panicked(_))), "{error:?}");
    assert!(error.to_string().contains("on purpose"), "{error}");
}

#[test]
fn a_pool_works() {
    let pool = Pool::new(2).unwrap();
    let doubled: Result<Vec<u64>, _> = pool.map(0..10, double::new).collect();
    assert_eq!(doubled.unwrap().iter().sum::<u64>(), 90);
}

#[offspring::test(timeout = "30s")]
fn an_offspring_test_works_beside_them() {
    assert_eq!(double::spawn(2).unwrap().join().unwrap(), 4);
}

/// The outer test counts the lines.
#[test]
fn runs_once() {
    if let Some(path) = std::env::var_os("APP_LOG") {
        let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(log, "ran").unwrap();
    }
}
