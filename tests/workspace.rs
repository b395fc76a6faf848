//! A program as users have them, in `tests/workspace`: its workers are in a crate that it depends
//! on. It runs in every profile, and its tests run under `cargo test` and nextest.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What `app` prints in every profile.
const PRINTED: &str = "5050 3 90 16\n";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workspace")
}

/// Cargo in that workspace, with the target directory of this one: most dependencies are built
/// already.
fn cargo(arguments: &[&str]) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let target = target.expect("`target/tmp` is in the target directory");
    let mut command = Command::new(env!("CARGO"));
    // Settings of the outer runner do not apply to the inner one.
    for name in std::env::vars_os().map(|(name, _)| name) {
        let text = name.to_string_lossy();
        // Except those of the build, which decide whether dependencies are built again.
        let kept = text == "CARGO_HOME"
            || text == "CARGO_INCREMENTAL"
            || text.starts_with("CARGO_PROFILE_");
        if text.starts_with("NEXTEST") || (text.starts_with("CARGO_") && !kept) {
            command.env_remove(&name);
        }
    }
    command.args(arguments).current_dir(workspace()).env("CARGO_TARGET_DIR", target);
    command
}

/// Returns what the command prints. Fails if it fails.
#[track_caller]
fn output(mut command: Command) -> String {
    let output = command.output().expect("cargo can be run");
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout + &stderr
}

const TESTS: [&str; 8] =
    ["test", "--locked", "--package", "app", "--test", "children", "--test", "plain"];
/// Those that cannot start processes, and a `main` of another crate.
const OTHERS: [&str; 8] =
    ["test", "--locked", "--package", "app", "--test", "uninitialized", "--bench", "foreign_main"];

/// One test for all: cargo locks the target directory, so they would wait for each other.
#[test]
fn workers_of_a_dependency_work_in_every_profile_and_under_every_runner() {
    for profile in ["dev", "fat"] {
        let printed = output(cargo(&[
            "run",
            "--locked",
            "--quiet",
            "--package",
            "app",
            "--profile",
            profile,
        ]));
        assert_eq!(printed, PRINTED, "{profile}");
    }
    let directory = tempfile::tempdir().expect("a folder");
    let log = directory.path().join("log");
    let mut all = cargo(&TESTS);
    all.env("APP_LOG", &log);
    let tests = output(all);
    assert_eq!(tests.matches("5 passed; 0 failed").count(), 2, "{tests}");
    let ran = std::fs::read_to_string(&log).expect("a test wrote it");
    assert_eq!(ran, "ran\n", "no child runs a test");
    let others = output(cargo(&OTHERS));
    assert!(others.contains("2 passed; 0 failed"), "{others}");
    assert!(others.contains("benches\n16\n"), "{others}");
    one_process_a_test();
    if Command::new("cargo-nextest").arg("--version").output().is_ok() {
        let tests =
            output(cargo(&["nextest", "run", "--locked", "--no-fail-fast", "--package", "app"]));
        assert!(tests.contains("12 passed"), "{tests}");
    } else {
        eprintln!("skipped: cargo-nextest is not installed");
    }
}

/// Does what nextest does: lists all tests, and runs each in a process of its own.
fn one_process_a_test() {
    let mut list = cargo(&TESTS);
    list.args(["--", "--list", "--format", "terse"]);
    let listed = output(list);
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    assert_eq!(names.len(), 10, "{listed}");
    for name in names {
        let mut test = cargo(&TESTS);
        test.args(["--", "--exact", name, "--nocapture"]);
        test.env("NEXTEST", "1").env("NEXTEST_EXECUTION_MODE", "process-per-test");
        let ran = output(test);
        assert!(ran.contains("1 passed; 0 failed"), "{name}: {ran}");
    }
}
