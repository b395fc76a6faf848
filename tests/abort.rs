//! A program whose panics abort, and the shortages of `tests/it/starved` in it. It is a separate
//! crate, since a whole build has one profile, and it is kept between runs.

use std::fs;
use std::path::Path;
use std::process::Command;

const MANIFEST: &str = r#"
[workspace]

[package]
name = "aborting"
version = "0.0.0"
edition = "2024"

[dependencies]
offspring = { path = "OFFSPRING" }
libc = "0.2"
log = "0.4"
serde = { version = "1", features = ["derive"] }

[profile.dev]
panic = "abort"
debug = false
incremental = false
"#;

const PROGRAM: &str = r##"
// What a call lacks is its error, where a panic is the end as well.
#[path = "OFFSPRING/tests/it/starved/calls.rs"]
mod calls;
#[path = "OFFSPRING/tests/it/starved/matrix.rs"]
mod matrix;
#[path = "OFFSPRING/tests/it/starved/shortage.rs"]
mod shortage;

use offspring::{ProcessBuilder, ExitReason, JoinableQueue, Process};

#[offspring::worker]
fn fail(message: String) {
    panic!("{message}");
}

#[offspring::worker]
fn fail_on_a_thread() {
    let thread = std::thread::Builder::new().name("helper".to_owned());
    let _ = thread.spawn(|| panic!("far away")).unwrap().join();
}

#[offspring::worker]
fn take_and_fail(jobs: JoinableQueue<u32>) {
    let job = jobs.get().unwrap();
    panic!("job {}", *job);
}

#[offspring::worker]
fn double(n: u32) -> u32 {
    n * 2
}

fn panicked(process: &Process<()>) -> offspring::process::PanicReport {
    match process.join().unwrap_err().reason() {
        Some(ExitReason::Panicked(report)) => (**report).clone(),
        other => panic!("{other:?}"),
    }
}

#[offspring::main]
fn main() {
    assert_eq!(double::spawn(4).unwrap().join().unwrap(), 8);

    let report = panicked(&fail::spawn("all is lost".to_owned()).unwrap());
    assert_eq!(report.message, "all is lost");
    assert!(report.location.unwrap().contains("main.rs:"));

    let report = panicked(&fail_on_a_thread::spawn().unwrap());
    assert_eq!((report.message.as_str(), report.thread.as_deref()), ("far away", Some("helper")));

    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put(7).unwrap();
    let builder = ProcessBuilder::new().name("consumer");
    let report = panicked(&builder.spawn(take_and_fail::new(jobs.clone())).unwrap());
    assert_eq!(report.message, "job 7");
    let job = jobs.get().unwrap();
    assert_eq!(*job, 7);
    job.task_done();
    jobs.join().unwrap();
    println!("all is told");

    let failures = matrix::failures();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("nobody aborted");
}
"##;

#[test]
fn where_panics_abort_they_are_told_nevertheless_and_no_shortage_is_one() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aborting");
    fs::create_dir_all(place.join("src")).unwrap();
    let write = |name: &str, text: &str| {
        // Written again only if it is another: so the next run has nothing to compile.
        if !fs::read_to_string(place.join(name)).is_ok_and(|old| old == text) {
            fs::write(place.join(name), text).unwrap();
        }
    };
    write("Cargo.toml", &MANIFEST.replace("OFFSPRING", own.to_str().unwrap()));
    write("src/main.rs", &PROGRAM.replace("OFFSPRING", own.to_str().unwrap()));
    if let Ok(lock) = fs::read_to_string(own.join("Cargo.lock")) {
        fs::write(place.join("Cargo.lock"), lock).unwrap();
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(&place).args(["run", "--quiet", "--offline", "--target-dir", "target"]);
    // Flags of the outer build would have its panics unwind, or its dependencies built anew.
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    let output = cargo.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let lines = |wanted: &str| out.lines().any(|line| line == wanted);
    assert!(lines("all is told") && lines("nobody aborted"), "{out}");
    // Each process printed its own panic, too.
    for message in ["all is lost", "far away", "job 7"] {
        assert!(err.contains(message), "{err}");
    }
}
