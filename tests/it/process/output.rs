//! Lines with names before them, and output that a join returns.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use offspring::process::KillCause;
use offspring::{ExitReason, Process, ProcessBuilder, SpawnError, Stdio};

use super::stage::{Census, FOREVER, answer, descriptors};
use crate::support::eventually;

/// Prints lines in two halves each, so that a careless reader would tear them.
#[offspring::worker]
fn print_halves(count: usize) {
    for n in 0..count {
        for half in [format!("line {n} "), "ends\n".to_owned()] {
            std::io::stdout().write_all(half.as_bytes()).unwrap();
            std::io::stdout().flush().unwrap();
        }
    }
}

fn prefixed(name: &str) -> ProcessBuilder {
    ProcessBuilder::new().name(name).stdout(Stdio::prefixed()).stderr(Stdio::prefixed())
}

/// Shows the lines of several children at once, with lines of this process between theirs. Returns
/// how many more threads this process has.
#[offspring::worker]
fn show_children(children: usize, count: usize) -> usize {
    answer::spawn().unwrap().join().unwrap();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let all: Vec<_> = (0..children)
        .map(|n| prefixed(&format!("child-{n}")).spawn(print_halves::new(count)).unwrap())
        .collect();
    let more = threads() - before;
    (0..count).for_each(|n| println!("line {n} of the parent"));
    all.iter().for_each(|child| child.join().unwrap());
    more
}

#[offspring::test(timeout = "30s")]
fn lines_of_children_are_whole_in_order_and_named() {
    let mut stage =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(show_children::new(5, 300)).unwrap();
    let output = stage.join_with_output();
    assert_eq!(output.result.unwrap(), 1, "one thread for all children");
    let text = String::from_utf8(output.stdout).unwrap();
    let of = |tag: &str| text.lines().filter_map(|line| line.strip_prefix(tag)).collect::<Vec<_>>();
    for n in 0..5 {
        let expected: Vec<_> = (0..300).map(|n| format!("line {n} ends")).collect();
        assert_eq!(of(&format!("[child-{n}] ")), expected);
    }
    assert_eq!(of("line ").len(), 300);
    assert_eq!(text.lines().count(), 6 * 300, "nothing else, and nothing torn");
}

#[offspring::worker]
fn print_and_abort() {
    print!("half a line");
    std::io::stdout().flush().unwrap();
    eprint!("and of stderr");
    std::process::abort();
}

#[offspring::worker]
fn show_an_aborted_child() {
    prefixed("bob").spawn(print_and_abort::new()).unwrap().join().unwrap_err();
    println!("joined");
}

#[offspring::test(timeout = "20s")]
fn the_last_line_is_shown_before_join_returns() {
    let builder = ProcessBuilder::new().stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = builder.spawn(show_an_aborted_child::new()).unwrap().join_with_output();
    output.result.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "[bob] half a line\njoined\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "[bob] and of stderr\n");
}

#[offspring::worker]
fn print_other_bytes() {
    std::io::stdout().write_all(b"caf\xe9\n\n\x1b[1m").unwrap();
    std::io::stdout().flush().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_handler_gets_each_line() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = |of: &'static str| {
        let seen = seen.clone();
        Stdio::lines(move |line| {
            seen.lock().unwrap().push(format!("{of}: {line}"));
            assert_ne!(line, "line 1 ends", "a panic of the handler");
        })
    };
    let spawn = || ProcessBuilder::new().stdout(handler("out")).stderr(handler("err"));
    // A relay that gets no processor for a second is not waited for.
    let take = |count| {
        eventually("the lines are there", || seen.lock().unwrap().len() >= count);
        std::mem::take(&mut *seen.lock().unwrap())
    };
    spawn().spawn(print_halves::new(3)).unwrap().join().unwrap();
    assert_eq!(take(3), ["out: line 0 ends", "out: line 1 ends", "out: line 2 ends"]);
    let child = spawn().spawn(print_and_abort::new()).unwrap();
    let last_words = || child.join().unwrap_err().stderr() == Some("and of stderr");
    eventually("its last words are in its error", last_words);
    let mut lines = take(2);
    lines.sort_unstable();
    assert_eq!(lines, ["err: and of stderr", "out: half a line"]);
    spawn().spawn(print_other_bytes::new()).unwrap().join().unwrap();
    assert_eq!(take(3), ["out: caf\u{fffd}", "out: ", "out: \u{1b}[1m"]);
    let error = ProcessBuilder::new().stdin(handler("in")).spawn(answer::new()).unwrap_err();
    assert!(matches!(error, SpawnError::InvalidOption { option: "stdin", .. }), "{error}");
}

#[offspring::test(timeout = "20s")]
fn the_error_of_an_end_has_the_last_words() {
    let stage = ProcessBuilder::new().stderr(Stdio::null());
    stage.spawn(hear_last_words::new()).unwrap().join().unwrap();
}

#[offspring::worker]
fn complain_and_abort(lines: u32) {
    (0..lines).for_each(|n| eprintln!("line {n}"));
    eprintln!("double free");
    std::process::abort();
}

#[offspring::worker]
fn hear_last_words() {
    let prefixed = prefixed("bob").spawn(complain_and_abort::new(1000)).unwrap();
    let piped = ProcessBuilder::new().stderr(Stdio::piped());
    let mut piped = piped.spawn(complain_and_abort::new(1000)).unwrap();
    let inherited = complain_and_abort::spawn(1).unwrap();
    let whole: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    let whole = whole + "double free\n";
    for error in [prefixed.join().unwrap_err(), piped.join_with_output().result.unwrap_err()] {
        let stderr = error.stderr().unwrap();
        assert!(stderr.len() == 1024 && whole.ends_with(stderr), "{stderr}");
        assert!(error.to_string().ends_with("; its stderr ends with: double free"), "{error}");
        assert!(format!("{error:?}").ends_with("\n    line 999\n    double free"), "{error:?}");
    }
    // The same each time.
    assert!(prefixed.join().unwrap_err().stderr().is_some());
    let error = inherited.join().unwrap_err();
    assert!(error.stderr().is_none() && !error.to_string().contains("stderr"), "{error}");
}

#[offspring::worker]
fn print_long_line(length: usize) {
    println!("{}", "x".repeat(length));
    println!("short");
}

#[offspring::worker]
fn show_long_line(length: usize) {
    prefixed("bob").spawn(print_long_line::new(length)).unwrap().join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_line_without_bound_is_shown_in_pieces() {
    let mut stage =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(show_long_line::new(500_000)).unwrap();
    let output = stage.join_with_output();
    output.result.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix("[bob] ").unwrap()).collect();
    let (last, pieces) = lines.split_last().unwrap();
    assert_eq!(*last, "short");
    assert!(pieces.iter().all(|piece| piece.len() < 100_000), "bounded");
    assert_eq!(pieces.concat(), "x".repeat(500_000));
}

/// Leaves a process running that has its stdout open.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
#[offspring::worker]
fn leave_a_process_behind() {
    print!("of the child");
    std::io::stdout().flush().unwrap();
    let sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    eprintln!("{}", sleep.id());
}

fn kill(pid: &str) {
    // SAFETY: a process that only its own end, or we, end.
    unsafe { libc::kill(pid.trim().parse().unwrap(), libc::SIGKILL) };
}

#[offspring::worker]
fn show_a_pipe_that_stays_open() {
    let stdout = ProcessBuilder::new().name("bob").stdout(Stdio::prefixed());
    stdout.spawn(leave_a_process_behind::new()).unwrap().join().unwrap();
    println!("joined");
}

#[offspring::test(timeout = "20s")]
fn a_pipe_that_a_grandchild_holds_delays_nobody() {
    let began = Instant::now();
    let builder = || ProcessBuilder::new().stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = builder().spawn(show_a_pipe_that_stays_open::new()).unwrap().join_with_output();
    kill(&String::from_utf8(output.stderr).unwrap());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "[bob] of the child\njoined\n");

    let output = builder().spawn(leave_a_process_behind::new()).unwrap().join_with_output();
    kill(&String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.stdout, b"of the child");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[offspring::worker]
fn print_for_ever() {
    loop {
        println!("{}", "x".repeat(1000));
    }
}

/// Returns whether the pipe that is our stdout is full.
fn stdout_is_full() -> bool {
    let mut stdout = libc::pollfd { fd: 1, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which the call changes.
    unsafe { libc::poll(&mut stdout, 1, 0) == 0 }
}

/// Its stdout has no reader, like a stopped terminal.
#[offspring::worker]
fn show_to_nobody() -> (u32, bool, bool) {
    let noisy = prefixed("noisy").spawn(print_for_ever::new()).unwrap();
    eventually("our own stdout takes no more", stdout_is_full);
    let other = answer::spawn().unwrap().join().unwrap();
    let early = noisy.join_timeout(Duration::from_millis(50)).unwrap_err().is_timeout();
    noisy.kill();
    noisy.join().unwrap_err();
    let killed = ExitReason::Killed { cause: KillCause::Kill, signal: libc::SIGKILL };
    (other, early, noisy.exit_reason() == Some(killed))
}

#[offspring::test(timeout = "20s")]
fn a_stopped_terminal_blocks_neither_joins_nor_the_end() {
    let stage = ProcessBuilder::new().stdout(Stdio::piped()).spawn(show_to_nobody::new()).unwrap();
    // Its end is waited for without reading anything.
    assert_eq!(stage.join().unwrap(), (42, true, true));
}

#[offspring::test(timeout = "20s")]
fn stdin_cannot_be_prefixed() {
    let error = ProcessBuilder::new().stdin(Stdio::prefixed()).spawn(answer::new()).unwrap_err();
    assert!(matches!(error, SpawnError::InvalidOption { option: "stdin", .. }), "{error}");
}

#[offspring::worker]
fn show_many() -> (Census, Census) {
    let pipes = || descriptors().iter().filter(|one| one.ends_with("pipe")).count();
    let at_first = pipes();
    let run = |times: u32| {
        (0..times)
            .for_each(|_| prefixed("one").spawn(print_halves::new(3)).unwrap().join().unwrap());
        // The relay hears of the end of a pipe at its own pace.
        eventually("every pipe is closed", || pipes() == at_first);
    };
    run(1);
    let before = Census::take();
    run(50);
    (before, Census::take())
}

#[offspring::test(timeout = "30s")]
fn shown_children_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let builder = ProcessBuilder::new().env("TMPDIR", directory.path()).stdout(Stdio::null());
    let (before, after) = builder.spawn(show_many::new()).unwrap().join().unwrap();
    assert_eq!(after, before);
}

#[offspring::worker]
fn print_much(count: usize) -> usize {
    for _ in 0..count {
        std::io::stdout().write_all(&[b'o'; 1000]).unwrap();
        std::io::stderr().write_all(&[b'e'; 1000]).unwrap();
    }
    count
}

fn piped() -> ProcessBuilder {
    ProcessBuilder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

#[offspring::test(timeout = "20s")]
fn join_with_output_takes_more_than_pipes_hold() {
    let output = piped().spawn(print_much::new(2000)).unwrap().join_with_output();
    assert_eq!(output.result.unwrap(), 2000);
    assert_eq!((output.stdout, output.stderr), (vec![b'o'; 2_000_000], vec![b'e'; 2_000_000]));
}

#[offspring::worker]
fn copy_stdin_and_sleep() {
    println!("before");
    std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap();
    println!("after");
    std::thread::sleep(FOREVER);
}

#[offspring::test(timeout = "20s")]
fn join_with_output_closes_stdin_and_keeps_what_it_read() {
    let mut child: Process<()> = piped().spawn(copy_stdin_and_sleep::new()).unwrap();
    let error = child.join_with_output_timeout(Duration::from_millis(500)).unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("500ms"), "{error}");
    child.kill();
    let output = child.join_with_output();
    assert_eq!(output.stdout, b"before\nafter\n");
    assert!(matches!(
        output.result.unwrap_err().reason(),
        Some(ExitReason::Killed { cause: KillCause::Kill, .. })
    ));
    assert!(child.join_with_output().stdout.is_empty(), "given once");
}

#[offspring::worker]
fn panic_on_purpose() {
    panic!("on purpose");
}

#[offspring::test(timeout = "20s")]
fn a_panic_says_in_which_process_it_is() {
    let mut child = ProcessBuilder::new()
        .name("bob")
        .stderr(Stdio::piped())
        .spawn(panic_on_purpose::new())
        .unwrap();
    let output = child.join_with_output();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with(&format!("in process `bob` (pid {}):\n", child.pid())), "{text}");
    assert!(text.contains("on purpose"), "{text}");
    let debug = format!("{:?}", output.result.unwrap_err());
    assert!(debug.starts_with("Ended (process `bob`") && debug.ends_with("on purpose)"), "{debug}");
}

#[test]
fn what_a_main_without_init_prints_says_what_is_missing() {
    let debug = format!("{:?}", SpawnError::NotInitialized);
    assert!(
        debug.starts_with("NotInitialized (") && debug.contains("#[offspring::main]"),
        "{debug}"
    );
}
