//! Text that a child writes to stderr before its worker runs goes to the real stderr, and into the
//! error.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use offspring::{ProcessBuilder, SpawnError, Stdio};

use super::stage::{answer, binary, script};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Outcome {
    kind: String,
    text: String,
    /// The text in the error.
    told: Option<String>,
    /// The text in the child's stderr.
    written: String,
    took: Duration,
}

/// Starts a worker whose program is this script; its stderr is a file.
#[offspring::worker]
fn start(text: String, timeout: Duration) -> Outcome {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let log = directory.path().join("log");
    let builder = ProcessBuilder::new()
        .program(script(directory.path(), &text))
        .start_timeout(timeout)
        .stderr(fs::File::create(&log).unwrap());
    let began = Instant::now();
    let error = builder.spawn(answer::new()).unwrap_err();
    let took = began.elapsed();
    Outcome {
        kind: format!("{error:?}").split(' ').next().unwrap().to_owned(),
        text: error.to_string(),
        told: error.stderr().map(str::to_owned),
        written: fs::read_to_string(log).unwrap(),
        took,
    }
}

const LONG: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_millis(300);

#[offspring::test(timeout = "20s")]
fn the_error_of_a_failed_start_tells_what_the_child_wrote() {
    for (end, kind, timeout) in [
        ("exit 127", "Died", LONG),
        ("kill -SEGV $$", "Died", LONG),
        ("exec sleep 1000", "Timeout", SHORT),
        ("echo garbage >&0; exec sleep 1000", "Protocol", LONG),
        ("exec 0<&- 2>&-; exec sleep 1000", "Protocol", LONG),
    ] {
        let text = format!("echo 'libfoo.so: cannot be found' >&2; {end}");
        let outcome = start::spawn(text, timeout).unwrap().join().unwrap();
        assert_eq!(outcome.kind, kind, "{outcome:?}");
        assert_eq!(outcome.told.as_deref(), Some("libfoo.so: cannot be found\n"), "{end}");
        assert!(
            outcome.text.ends_with("; its stderr ends with: libfoo.so: cannot be found"),
            "{}",
            outcome.text
        );
        assert_eq!(outcome.written, "libfoo.so: cannot be found\n", "{end}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_child_that_wrote_nothing_leaves_nothing_to_tell() {
    let outcome = start::spawn("exit 3".to_owned(), LONG).unwrap().join().unwrap();
    assert!(outcome.told.is_none() && !outcome.text.contains("stderr"), "{outcome:?}");
}

#[offspring::test(timeout = "20s")]
fn all_of_a_long_text_is_passed_on_and_its_end_is_told() {
    let text =
        "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done >&2; exit 1".to_owned();
    let outcome = start::spawn(text, LONG).unwrap().join().unwrap();
    let expected: String = (0..30_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(outcome.written, expected);
    let told = outcome.told.unwrap();
    assert!(told.len() == 4096 && expected.ends_with(&told), "{told}");
    // The message itself stays short.
    assert!(
        outcome.text.lines().count() == 1 && outcome.text.ends_with("line 29999"),
        "{}",
        outcome.text
    );
}

/// Neither keeps the parent from seeing the time, though it never rests.
#[offspring::test(timeout = "20s")]
fn a_flood_does_not_hide_the_deadline() {
    let started = ProcessBuilder::new().spawn(start_flood::new()).unwrap();
    for (timed_out, took) in started.join().unwrap() {
        assert!(timed_out && took < SHORT + Duration::from_secs(2), "{took:?}");
    }
}

/// Where everything is taken, and where it has no reader.
#[offspring::worker]
fn start_flood() -> [(bool, Duration); 2] {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let program = script(directory.path(), "exec yes a long line that nobody wants to read >&2");
    [Stdio::null(), Stdio::piped()].map(|stderr| {
        let began = Instant::now();
        let builder = ProcessBuilder::new().program(&program).start_timeout(SHORT).stderr(stderr);
        let error = builder.spawn(answer::new()).unwrap_err();
        (matches!(error, SpawnError::Timeout { .. }), began.elapsed())
    })
}

#[offspring::worker]
fn write_own() -> u32 {
    eprintln!("own");
    7
}

/// The text of stderr, and of a file next to it, after a worker was started by this script.
#[offspring::worker]
fn run_behind(text: String) -> (String, String) {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let [log, other] = ["log", "other"].map(|name| directory.path().join(name));
    let text = text
        .replace("PROGRAM", &format!("'{}' \"$@\"", binary().display()))
        .replace("OTHER", other.to_str().unwrap());
    let stderr = fs::File::create(&log).unwrap();
    let builder = ProcessBuilder::new().program(script(directory.path(), &text)).stderr(stderr);
    assert_eq!(builder.spawn(write_own::new()).unwrap().join().unwrap(), 7);
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    // The thread that passes on for a wrapper may have one more line under way.
    crate::support::eventually("all is passed on", || {
        !text.contains("late") || read(log.clone()).contains("late")
    });
    (read(log), read(other))
}

#[offspring::test(timeout = "20s")]
fn what_is_written_before_during_and_after_stays_in_order() {
    for (text, stderr, other) in [
        ("echo early >&2; exec PROGRAM", "early\nown\n", ""),
        // The shell keeps what it had as stderr.
        ("echo early >&2; PROGRAM; code=$?; echo late >&2; exit $code", "early\nown\nlate\n", ""),
        // What a wrapper chose stays.
        ("exec PROGRAM 2>OTHER", "", "own\n"),
        ("exec PROGRAM 2>&-", "", ""),
    ] {
        let seen = run_behind::spawn(text.to_owned()).unwrap().join().unwrap();
        assert_eq!(seen, (stderr.to_owned(), other.to_owned()), "{text}");
    }
}
