//! Runs the script as a user would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Cargo puts the library beside the tests' folder or into it, by version.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("this test knows its program");
    let folders = test.ancestors().skip(1).take(2);
    let mut places = folders.map(|folder| folder.join("libpython_host.so"));
    places.find(|place| place.exists()).expect("cargo has built the library")
}

fn python(arguments: &[&Path]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("count_words.py");
    let mut command = Command::new("python3");
    command.arg(script).args(arguments);
    command.output().expect("python3 is installed")
}

#[test]
fn the_script_counts_words_and_survives_the_crash_of_a_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let (good, bad) = (file("good", "one two\nthree"), file("bad", "crash"));
    let missing = folder.path().join("missing");
    let last = file("last", "four");
    let run = python(&[&library(), &good, &bad, &missing, &last]);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    let [first, second, third, fourth] = lines[..] else { panic!("{stdout}{stderr}") };
    assert_eq!(first, format!("{} 3", good.display()));
    assert!(second.contains("SIGABRT"), "{second}");
    assert!(third.contains("No such file"), "{third}");
    assert_eq!(fourth, format!("{} 1", last.display()));
}
