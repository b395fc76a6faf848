//! Children that do not become what they should: each is a typed error in time, and leaks nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use offspring::{JoinError, ProcessBuilder, Queue, Stdio};
use serde::{Deserialize, Serialize};

use super::stage::{Census, answer, script};
use crate::support::{copy_program, eventually};

#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    /// The error: its kind, its `Debug` form, and its text.
    kind: String,
    debug: String,
    text: String,
    took: Duration,
    before: Census,
    after: Census,
}

/// Starts a worker whose program is this script.
#[offspring::worker]
fn start_script(text: String, timeout: Duration) -> Outcome {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let program = script(directory.path(), &text);
    answer::spawn().unwrap().join().unwrap();
    let before = Census::take();
    let began = Instant::now();
    let error = ProcessBuilder::new()
        .name("odd")
        .program(program)
        .start_timeout(timeout)
        .spawn(answer::new())
        .unwrap_err();
    let took = began.elapsed();
    let debug = format!("{error:?}");
    Outcome {
        kind: debug.split(' ').next().unwrap().to_owned(),
        debug,
        text: error.to_string(),
        took,
        before,
        after: Census::take(),
    }
}

#[track_caller]
fn outcome(text: &str, timeout: Duration) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let stage = ProcessBuilder::new().env("TMPDIR", directory.path()).stderr(Stdio::null());
    let outcome = stage.spawn(start_script::new(text.to_owned(), timeout)).unwrap().join().unwrap();
    assert_eq!(outcome.after, outcome.before, "{text}");
    assert!(outcome.text.contains("`odd`"), "{}", outcome.text);
    outcome
}

/// A deadline that no start here may wait for.
const LONG: Duration = Duration::from_secs(15);

#[offspring::test(timeout = "30s")]
fn a_child_that_ends_before_it_is_ready_has_died() {
    for (text, reason) in [
        ("exit 7", "exited with code 7"),
        ("exit 0", "exited with code 0"),
        ("kill -SEGV $$", "was killed by signal 11"),
        ("kill -ABRT $$", "was killed by signal 6"),
        ("kill -KILL $$", "was killed by signal 9"),
        // Its own child holds all that it inherited, even the control socket.
        ("sleep 5 & exit 9", "exited with code 9"),
        ("exec /nowhere/at/all", "exited with code 127"),
    ] {
        let outcome = outcome(text, LONG);
        assert!(
            outcome.kind == "Died" && outcome.debug.contains(reason),
            "{text}: {}",
            outcome.debug
        );
        assert!(outcome.took < LONG, "{text}: {:?}", outcome.took);
    }
}

#[offspring::test(timeout = "30s")]
fn a_child_that_is_never_ready_is_killed_at_the_deadline() {
    let limit = Duration::from_millis(300);
    // Suspended; asleep; asleep after it has read the first message; busy; ignoring all but
    // SIGKILL.
    for text in [
        "kill -STOP $$",
        "exec sleep 1000",
        "read line; exec sleep 1000",
        "while :; do :; done",
        "trap '' TERM INT HUP; while :; do sleep 0.01; done",
    ] {
        let outcome = outcome(text, limit);
        assert_eq!(outcome.kind, "Timeout", "{text}: {}", outcome.debug);
        assert!(outcome.text.contains("300ms"), "{}", outcome.text);
        assert!(outcome.took >= limit, "{text}: {:?}", outcome.took);
    }
}

#[offspring::test(timeout = "30s")]
fn a_child_that_answers_nonsense_is_killed_at_once() {
    for text in [
        "echo garbage >&0",
        // Longer than any message, and than the socket takes.
        "dd if=/dev/zero bs=100000 count=1 2>/dev/null >&0",
        // `Returned` out of turn; `EarlyStderr` twice; more than `EarlyStderr` in one packet.
        "printf '\\000\\006\\000' >&0",
        "printf '\\000\\000' >&0; printf '\\000\\000' >&0",
        "printf '\\000\\000\\005' >&0",
        // It still runs, but its end is closed.
        "exec 0<&-",
    ] {
        let outcome = outcome(&format!("{text}; exec sleep 1000"), LONG);
        assert_eq!(outcome.kind, "Protocol", "{text}: {}", outcome.debug);
        assert!(outcome.took < LONG, "{text}: {:?}", outcome.took);
    }
}

#[offspring::test(timeout = "30s")]
fn a_refusal_of_the_child_is_told_as_it_is() {
    // `Mismatch("no")`, `Failed("no")`, `BadValue("no")`, each after the byte of the positional
    // form.
    for (text, kind) in [("\\001", "BinaryMismatch"), ("\\002", "Failed"), ("\\003", "Decode")] {
        let outcome = outcome(&format!("printf '\\000{text}\\002no' >&0; exec sleep 1000"), LONG);
        assert!(outcome.kind == kind && outcome.text.ends_with(": no"), "{}", outcome.debug);
    }
}

#[offspring::worker]
fn start_programs() -> Vec<Result<u32, String>> {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let own = std::env::current_exe().unwrap();
    let copy = directory.path().join("copy");
    copy_program(&own, &copy);
    let wrapper = script(directory.path(), &format!("exec nice '{}' \"$@\"", own.display()));
    let forking = directory.path().join("forking");
    fs::create_dir(&forking).unwrap();
    let forking = script(&forking, &format!("'{}' \"$@\"; exit $?", copy.display()));
    let start = |program: &std::path::Path| match ProcessBuilder::new()
        .program(program)
        .spawn(answer::new())
    {
        Ok(child) => child.join().map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:?}")),
    };
    // The last is this program too, but not this build: its length is another one.
    let changed = directory.path().join("changed");
    copy_program(&own, &changed);
    let mut file = fs::File::options().append(true).open(&changed).unwrap();
    std::io::Write::write_all(&mut file, b"x").unwrap();
    drop(file);
    [&own, &copy, &wrapper, &forking, &changed].map(|program| start(program)).to_vec()
}

#[offspring::test(timeout = "30s")]
fn the_program_may_be_a_copy_or_a_wrapper_but_no_other_build() {
    let outcomes = start_programs::spawn().unwrap().join().unwrap();
    assert_eq!(outcomes[..4], [Ok(42), Ok(42), Ok(42), Ok(42)]);
    let error = outcomes[4].as_ref().unwrap_err();
    assert!(error.starts_with("BinaryMismatch"), "{error}");
}

/// The number of these programs that are believed when they send `Started`, and how they end.
#[offspring::worker]
fn believe_an_impostor() -> String {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let program = script(
        directory.path(),
        "dd bs=65536 count=1 of=/dev/null 2>/dev/null; printf '\\000\\004' >&0; exit 6",
    );
    let process = ProcessBuilder::new().program(program).spawn(answer::new()).unwrap();
    format!("{:?}", process.join().unwrap_err().reason())
}

/// Who chose the program gets what it does.
#[offspring::test(timeout = "20s")]
fn a_program_that_only_says_that_it_started_ends_as_it_ends() {
    assert_eq!(believe_an_impostor::spawn().unwrap().join().unwrap(), "Some(Exited(6))");
}

/// Where the secret of a start could be seen by others: command line and environment of a child.
#[offspring::worker]
fn look_at_a_start() -> String {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let program = script(
        directory.path(),
        "tr '\\0' '\\n' </proc/$$/cmdline >&2; env | grep -i offspring >&2; exit 7",
    );
    let log = directory.path().join("log");
    let stderr = fs::File::create(&log).unwrap();
    ProcessBuilder::new().program(program).stderr(stderr).spawn(answer::new()).unwrap_err();
    fs::read_to_string(log).unwrap()
}

#[offspring::test(timeout = "20s")]
fn nothing_secret_stands_in_arguments_and_environment() {
    let text = look_at_a_start::spawn().unwrap().join().unwrap();
    assert!(text.contains("OFFSPRING_CHILD="), "{text}");
    let long_number =
        |word: &str| word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(!text.split(|c: char| !c.is_alphanumeric()).any(long_number), "{text}");
}

/// Writes nonsense to all the sockets that it has, even to those of others, and returns.
#[offspring::worker]
fn speak_nonsense(queue: Queue<usize>, length: usize) -> u32 {
    // So that one of them leads to the hub of the parent.
    queue.put(length).unwrap();
    let bytes: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
    for fd in 3..64 {
        // Not so much that its own report would wait for room.
        for _ in 0..if length > 1000 { 1 } else { 3 } {
            // SAFETY: at worst no descriptor, or no socket: an error.
            unsafe {
                libc::send(
                    fd,
                    bytes.as_ptr().cast(),
                    length,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
        }
    }
    9
}

#[offspring::test(timeout = "60s")]
fn a_child_that_speaks_nonsense_while_it_runs_harms_only_itself() {
    let queue = Queue::unbounded().unwrap();
    for length in [1, 2, 7, 8, 9, 16, 24, 100, 4096, 32 << 10, (32 << 10) + 1, 100_000] {
        let child = speak_nonsense::spawn(queue.clone(), length).unwrap();
        assert_eq!(queue.get().unwrap(), length);
        match child.join() {
            Ok(output) => assert_eq!(output, 9),
            Err(error) => assert!(
                matches!(error, JoinError::Output { .. } | JoinError::Ended { .. }),
                "{error:?}"
            ),
        }
        assert_eq!(answer::spawn().unwrap().join().unwrap(), 42, "{length}");
        let polite = put::spawn(queue.clone(), length + 1).unwrap();
        assert_eq!(queue.get().unwrap(), length + 1);
        polite.join().unwrap();
    }
}

#[offspring::worker]
fn put(queue: Queue<usize>, number: usize) {
    queue.put(number).unwrap();
}

/// Starts a child whose program waits until this process is gone, and then becomes the child.
#[offspring::worker]
fn start_a_late_child(directory: PathBuf) {
    let text = format!(
        "echo ready >&2; while kill -0 {}; do sleep 0.01; done 2>/dev/null\n'{}' \"$@\" >/dev/null\necho $? >'{}'",
        std::process::id(),
        std::env::current_exe().unwrap().display(),
        directory.join("code").display()
    );
    let error =
        ProcessBuilder::new().program(script(&directory, &text)).spawn(answer::new()).unwrap_err();
    panic!("{error}");
}

/// Otherwise, it would run the test that it was started at. In a program, it would run all of
/// `main`, beside the real one.
#[offspring::test(timeout = "20s")]
fn a_child_whose_parent_died_before_it_was_ready_is_no_main_program() {
    let directory = tempfile::tempdir().unwrap();
    let builder = ProcessBuilder::new().env("TMPDIR", directory.path()).stderr(Stdio::piped());
    let mut stage = builder.spawn(start_a_late_child::new(directory.path().to_owned())).unwrap();
    let mut lines = BufReader::new(stage.take_stderr().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    stage.kill();
    stage.join().unwrap_err();
    let code = directory.path().join("code");
    eventually("the child ended", || {
        fs::read_to_string(&code).is_ok_and(|code| code.ends_with('\n'))
    });
    // The codes of a start that failed: before and after it read what the parent had said.
    let code = fs::read_to_string(&code).unwrap();
    assert!(["70\n", "71\n"].contains(&code.as_str()), "{code}");
}
