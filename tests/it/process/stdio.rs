//! The stdin, stdout and stderr of a child.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;

use offspring::{ExitReason, ProcessBuilder, Stdio};

use super::stage::answer;

/// How many bytes it finds on its stdin, and what a program finds that inherits it.
#[offspring::worker]
fn read_stdin() -> (usize, Vec<u8>) {
    let own = std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let output = Command::new("cat").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (own, output.stdout)
}

/// Starts a child that reads, while there is something to read here.
#[offspring::worker]
fn keep_stdin() -> ((usize, Vec<u8>), String) {
    let of_child = read_stdin::spawn().unwrap().join().unwrap();
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    (of_child, text)
}

#[offspring::test(timeout = "20s")]
fn stdin_is_empty_unless_it_is_given() {
    assert_eq!(read_stdin::spawn().unwrap().join().unwrap(), (0, vec![]));
}

#[offspring::test(timeout = "20s")]
fn a_child_does_not_take_its_parents_input() {
    let mut stage = ProcessBuilder::new().stdin(Stdio::piped()).spawn(keep_stdin::new()).unwrap();
    stage.take_stdin().unwrap().write_all(b"for the parent\n").unwrap();
    assert_eq!(stage.join().unwrap(), ((0, vec![]), "for the parent\n".to_owned()));
}

/// Also proves that the input comes over one given descriptor only: the test ends with it.
#[offspring::worker]
fn echo() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap();
    eprint!("done");
}

#[offspring::test(timeout = "20s")]
fn all_three_can_be_pipes() {
    let builder =
        ProcessBuilder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = builder.spawn(echo::new()).unwrap();
    child.take_stdin().unwrap().write_all(b"there and back").unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.take_stdout().unwrap().read_to_string(&mut out).unwrap();
    child.take_stderr().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("there and back", "done"));
    assert!(
        child.take_stdin().is_none()
            && child.take_stdout().is_none()
            && child.take_stderr().is_none()
    );
    child.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_file_is_read_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in"), directory.path().join("out"));
    std::fs::write(&input, "from a file").unwrap();
    let builder = ProcessBuilder::new()
        .stdin(File::open(&input).unwrap())
        .stdout(File::create(&output).unwrap())
        .stderr(Stdio::null());
    builder.spawn(echo::new()).unwrap().join().unwrap();
    assert_eq!(std::fs::read_to_string(output).unwrap(), "from a file");
}

#[offspring::worker]
fn print_without_end_of_line(exits: bool) {
    print!("no end of line");
    if exits {
        std::process::exit(3);
    }
}

#[offspring::test(timeout = "20s")]
fn what_was_printed_is_flushed_at_the_end() {
    for exits in [false, true] {
        let mut child = ProcessBuilder::new()
            .stdout(Stdio::piped())
            .spawn(print_without_end_of_line::new(exits))
            .unwrap();
        let mut text = String::new();
        child.take_stdout().unwrap().read_to_string(&mut text).unwrap();
        // Nothing else either: no chatter of the test harness.
        assert_eq!(text, "no end of line");
        assert_eq!(child.join().is_err(), exits);
    }
}

#[offspring::worker]
fn fail_loudly() {
    panic!("a message for the terminal");
}

#[offspring::test(timeout = "20s")]
fn a_panic_is_printed_by_the_child() {
    let mut child = ProcessBuilder::new()
        .name("loud")
        .stderr(Stdio::piped())
        .spawn(fail_loudly::new())
        .unwrap();
    let mut text = String::new();
    child.take_stderr().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("a message for the terminal") && text.contains("stdio.rs"), "{text}");
    child.join().unwrap_err();
}

/// Closes stdin, stdout and stderr; they are closed at the end, too.
fn close_stdio() {
    for fd in 0..3 {
        // SAFETY: no code in this process owns these three.
        unsafe { libc::close(fd) };
    }
}

#[offspring::worker]
fn write_into_nothing() -> u32 {
    close_stdio();
    println!("nobody reads this");
    eprintln!("nor this");
    7
}

#[offspring::test(timeout = "20s")]
fn a_child_may_close_stdin_stdout_and_stderr() {
    let child = write_into_nothing::spawn().unwrap();
    assert_eq!(child.join().unwrap(), 7);
    assert_eq!(child.exit_reason(), Some(ExitReason::Returned));
}

#[offspring::worker]
fn write_much() -> u32 {
    for _ in 0..1000 {
        // The reader is gone, or never was: an error, which this worker does not care for.
        let _ = std::io::stdout().write_all(&[b'x'; 1000]);
        let _ = std::io::stderr().write_all(&[b'x'; 1000]);
    }
    let _ = std::io::stdin().read(&mut [0; 10]);
    8
}

/// Returns the outputs of its children. This process has no stdio that they could inherit. What it
/// opens from now on may get the numbers of stdin, stdout and stderr, and no child may write into
/// that.
#[offspring::worker]
fn start_without_stdio() -> (Vec<u32>, Vec<u32>) {
    close_stdio();
    // Their lines have nowhere to go, and must not get into what has the numbers now. The first
    // starts the relay, which may get a number itself.
    for _ in 0..2 {
        let prefixed = ProcessBuilder::new().stdout(Stdio::prefixed()).stderr(Stdio::prefixed());
        assert_eq!(prefixed.spawn(write_much::new()).unwrap().join().unwrap(), 8);
    }
    let first = [answer::spawn().unwrap(), write_much::spawn().unwrap()];
    let builder = || {
        ProcessBuilder::new()
            .stdin(Stdio::inherit())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit())
    };
    let second =
        [builder().spawn(answer::new()).unwrap(), builder().spawn(write_much::new()).unwrap()];
    let join = |child: offspring::Process<u32>| child.join().unwrap();
    (first.map(join).to_vec(), second.map(join).to_vec())
}

#[offspring::test(timeout = "20s")]
fn a_parent_without_stdin_stdout_and_stderr_starts_children() {
    assert_eq!(start_without_stdio::spawn().unwrap().join().unwrap(), (vec![42, 8], vec![42, 8]));
}

#[offspring::test(timeout = "20s")]
fn a_child_whose_reader_is_gone_runs_on() {
    let mut child = ProcessBuilder::new()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn(write_much::new())
        .unwrap();
    drop((child.take_stdout(), child.take_stderr()));
    assert_eq!(child.join().unwrap(), 8);
}
