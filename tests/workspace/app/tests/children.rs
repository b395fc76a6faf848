//! The tests of a program that has no workers itself.

use jobs::{Longest, double, quadruple};
use offspring::ProcessWorker;

#[offspring::test(timeout = "30s")]
fn a_worker_of_a_dependency_runs() {
    assert_eq!(double::spawn(21).unwrap().join().unwrap(), 42);
    offspring::testing::assert_no_children();
}

mod inner {
    use super::*;

    #[offspring::test(timeout = "30s")]
    fn children_of_children_run() {
        assert_eq!(quadruple::spawn(3).unwrap().join().unwrap(), 12);
    }
}

#[offspring::test]
fn a_generic_worker_runs() {
    let of = vec!["abcd".to_owned()];
    assert_eq!(Longest { of }.spawn().unwrap().join().unwrap(), 4);
}

#[test]
fn a_test_without_children_runs_beside_them() {
    assert_eq!(double(1), 2);
}

/// Whichever test runs first: a child starts at one of the tests above.
#[test]
fn a_plain_test_beside_them_starts_children() {
    assert_eq!(quadruple::spawn(1).unwrap().join().unwrap(), 4);
}
