//! Ending a process with all that it has started.

use std::process::Command;
use std::time::{Duration, Instant};

use offspring::process::KillCause;
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{ExitReason, Process, ProcessBuilder, Stdio};

use super::stage::{FOREVER, Lines};
use crate::support::{eventually, is_running, suspend};

/// Starts a chain of children, the last of which runs this script. All print their pids.
#[offspring::worker]
fn chain(length: u32, text: String) {
    println!("{}", std::process::id());
    if length > 1 {
        let _next = chain::spawn(length - 1, text).unwrap();
    } else {
        Command::new("sh").args(["-c", &text]).spawn().unwrap().wait().unwrap();
    }
    std::thread::sleep(FOREVER);
}

fn start(length: u32, text: &str, pids: usize) -> (Process<()>, Lines, Vec<u32>) {
    let builder = ProcessBuilder::new().stdout(Stdio::piped());
    let mut child = builder.spawn(chain::new(length, text.to_owned())).unwrap();
    let mut lines = Lines::of(&mut child);
    let pids = (0..pids).map(|_| lines.pid()).collect();
    (child, lines, pids)
}

#[track_caller]
fn gone(pids: &[u32]) {
    let began = Instant::now();
    eventually("all are gone", || !pids.iter().any(|&pid| is_running(pid)));
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// A shell with two programs in the background.
const PROGRAMS: &str = "echo $$; sleep 1000 & echo $!; sleep 1000 & echo $!; wait";

#[offspring::test(timeout = "30s")]
fn kill_tree_ends_children_grandchildren_and_programs() {
    let (child, _, pids) = start(4, PROGRAMS, 7);
    assert_eq!(pids[0], child.pid());
    child.kill_tree();
    let (cause, signal) = (KillCause::Kill, libc::SIGKILL);
    assert_eq!(child.join().unwrap_err().reason(), Some(&ExitReason::Killed { cause, signal }));
    gone(&pids);
    // Nothing is left to do.
    child.kill_tree();
    child.terminate_tree();
}

#[offspring::test(timeout = "30s")]
fn terminate_tree_asks_all_of_them() {
    // The shell shows what it got, and ends.
    let text = "trap 'echo asked; exit' TERM; echo $$; sleep 1000 & echo $!; wait";
    let (child, mut lines, pids) = start(1, text, 3);
    child.terminate_tree();
    let (cause, signal) = (KillCause::Terminate, libc::SIGTERM);
    assert_eq!(child.join().unwrap_err().reason(), Some(&ExitReason::Killed { cause, signal }));
    assert_eq!(lines.next().as_deref(), Some("asked"));
    gone(&pids);
}

#[offspring::test(timeout = "30s")]
fn a_tree_that_stands_still_is_ended_too() {
    for end in [Process::<()>::terminate_tree as fn(&Process<()>), Process::<()>::kill_tree] {
        let (child, _, pids) = start(2, PROGRAMS, 5);
        pids.iter().for_each(|&pid| suspend(pid));
        end(&child);
        child.join().unwrap_err();
        gone(&pids);
    }
}

/// `kill` alone leaves them running: so the tests above can fail.
#[offspring::test(timeout = "30s")]
fn kill_leaves_programs_running() {
    let (child, _, pids) = start(1, PROGRAMS, 4);
    child.kill();
    child.join().unwrap_err();
    assert!(pids[1..].iter().all(|&pid| is_running(pid)));
    for &pid in &pids[1..] {
        // SAFETY: orphans that no other code knows of, and that end only here.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    }
}

/// Pids of the processes with this word on their command line.
fn processes_with(word: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
            && is_running(*pid)
    })
    .collect()
}

/// Programs that start programs as fast as they can, while they are ended.
#[offspring::test(timeout = "60s")]
fn nobody_escapes_who_is_just_being_started() {
    for round in 0..3 {
        // A number of seconds that nobody else sleeps.
        let word = format!("1000.{}{round}", std::process::id());
        let text = format!(
            "for shell in 1 2 3; do (i=0; while [ $i -lt 200 ]; do sleep {word} & [ $i = 10 ] && echo 1; i=$((i+1)); done; wait) & done; wait"
        );
        let (child, mut lines, _) = start(2, &text, 2);
        (0..2).for_each(|_| assert_eq!(lines.next().as_deref(), Some("1")));
        assert!(processes_with(&word).len() > 10);
        child.kill_tree();
        child.join().unwrap_err();
        eventually("all are gone", || processes_with(&word).is_empty());
    }
}

/// Takes all descriptors of this process, and ends the tree of a child. Returns the pids of the
/// tree.
#[offspring::worker]
fn end_a_tree_without_descriptors() -> Vec<u32> {
    let (child, lines, pids) = start(2, PROGRAMS, 5);
    let mut fillers = Vec::new();
    // SAFETY: a new descriptor, which this vector owns.
    while let Ok(filler) = unsafe { std::os::fd::BorrowedFd::borrow_raw(1) }.try_clone_to_owned() {
        fillers.push(filler);
    }
    child.kill_tree();
    drop(fillers);
    child.join().unwrap_err();
    drop(lines);
    pids
}

#[offspring::test(timeout = "30s")]
fn a_tree_ends_even_if_no_descriptor_is_free() {
    let builder = ProcessBuilder::new().rlimit(Resource::OpenFiles, 200, 200);
    let pids = builder.spawn(end_a_tree_without_descriptors::new()).unwrap().join().unwrap();
    gone(&pids);
}
