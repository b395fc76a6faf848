//! Plain tests without anything that lets them start processes: each run gives the same error.

use jobs::double;
use offspring::SpawnError;

fn refused() {
    let error = double::spawn(1).unwrap_err();
    assert!(matches!(error, SpawnError::NotInitialized), "{error:?}");
    for remedy in ["#[offspring::main]", "#[offspring::test]", "offspring::init_before_main!();"] {
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn a_plain_test_cannot_start_a_process() {
    refused();
}

/// A child would run the other tests of this file before it came here.
#[test]
fn init_in_a_test_starts_no_child_that_runs_the_others() {
    std::thread::spawn(|| {
        offspring::init();
        refused();
    })
    .join()
    .unwrap();
}
