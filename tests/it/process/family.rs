//! Parents, children and grandchildren: which end together, and when.

use std::time::{Duration, Instant};

use offspring::{Process, ProcessBuilder, Stdio};
use serde::{Deserialize, Serialize};

use super::stage::{FOREVER, Lines};
use crate::support::{eventually, is_running, suspend};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Habit {
    Sleeps,
    Spins,
    IgnoresSignals,
    /// Becomes another user, if this one is root.
    ChangesUser,
}

const NOBODY: u32 = 45_679;

/// Prints its pid, and never ends by itself.
#[offspring::worker]
fn stay(habit: Habit) {
    if habit == Habit::IgnoresSignals {
        for signal in 1..=libc::SIGRTMAX() {
            // SAFETY: no handler is involved; what cannot be ignored is an error.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
    }
    // SAFETY: takes numbers.
    if habit == Habit::ChangesUser && unsafe { libc::geteuid() } == 0 {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) }, 0);
    }
    println!("{}", std::process::id());
    if habit == Habit::Spins {
        loop {
            std::hint::spin_loop();
        }
    }
    std::thread::sleep(FOREVER);
}

#[offspring::worker]
fn keep_a_child(habit: Habit, daemon: bool) {
    let child = ProcessBuilder::new().daemon(daemon).spawn(stay::new(habit)).unwrap();
    child.join().unwrap();
}

fn parent_and_grandchild(habit: Habit, daemon: bool) -> (Process<()>, u32) {
    let mut parent = ProcessBuilder::new()
        .stdout(Stdio::piped())
        .spawn(keep_a_child::new(habit, daemon))
        .unwrap();
    let grandchild = Lines::of(&mut parent).pid();
    (parent, grandchild)
}

#[track_caller]
fn gone_within(limit: Duration, pids: &[u32]) {
    let began = Instant::now();
    eventually("the process is gone", || !pids.iter().any(|&pid| is_running(pid)));
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
}

const SOON: Duration = Duration::from_secs(1);

#[offspring::test(timeout = "20s")]
fn a_child_ends_when_its_parent_is_killed_whatever_it_does() {
    for habit in [Habit::Sleeps, Habit::Spins, Habit::IgnoresSignals, Habit::ChangesUser] {
        for daemon in [false, true] {
            let (parent, grandchild) = parent_and_grandchild(habit, daemon);
            assert!(is_running(grandchild));
            parent.kill();
            parent.join().unwrap_err();
            gone_within(SOON, &[grandchild]);
        }
    }
}

#[offspring::test(timeout = "20s")]
fn a_child_ends_when_its_parent_is_terminated() {
    let (parent, grandchild) = parent_and_grandchild(Habit::Sleeps, false);
    parent.terminate();
    parent.join().unwrap_err();
    gone_within(SOON, &[grandchild]);
}

#[offspring::test(timeout = "20s")]
fn a_stopped_child_ends_as_soon_as_it_is_continued_without_a_parent() {
    let (parent, grandchild) = parent_and_grandchild(Habit::Sleeps, false);
    suspend(grandchild);
    parent.kill();
    parent.join().unwrap_err();
    // SAFETY: a stopped process keeps its pid.
    unsafe { libc::kill(grandchild as i32, libc::SIGCONT) };
    gone_within(SOON, &[grandchild]);
}

#[offspring::test(timeout = "20s")]
fn a_child_that_is_stopped_ends_with_its_parent_and_need_not_be_continued() {
    for daemon in [false, true] {
        let (parent, grandchild) = parent_and_grandchild(Habit::IgnoresSignals, daemon);
        suspend(grandchild);
        parent.kill();
        parent.join().unwrap_err();
        gone_within(SOON, &[grandchild]);
    }
}

#[offspring::test(timeout = "20s")]
fn a_whole_chain_that_is_stopped_ends_with_its_root() {
    let mut root = ProcessBuilder::new().stdout(Stdio::piped()).spawn(chain::new(4)).unwrap();
    let mut lines = Lines::of(&mut root);
    let pids = [0; 4].map(|_| lines.pid());
    pids[1..].iter().for_each(|&pid| suspend(pid));
    root.kill();
    gone_within(2 * SOON, &pids);
}

/// Prints its pid, and keeps a chain of descendants of this length.
#[offspring::worker]
fn chain(length: u32) {
    println!("{}", std::process::id());
    let _next = (length > 1).then(|| chain::spawn(length - 1).unwrap());
    std::thread::sleep(FOREVER);
}

#[offspring::test(timeout = "20s")]
fn a_whole_chain_ends_with_its_root() {
    let mut root = ProcessBuilder::new().stdout(Stdio::piped()).spawn(chain::new(4)).unwrap();
    let mut lines = Lines::of(&mut root);
    let pids = [0; 4].map(|_| lines.pid());
    assert_eq!(pids[0], root.pid());
    root.kill();
    gone_within(2 * SOON, &pids);
}

/// Starts a child on a thread that then ends.
#[offspring::worker]
fn start_on_a_thread() -> bool {
    let child = std::thread::spawn(|| {
        ProcessBuilder::new().stdin(Stdio::piped()).spawn(wait_for_stdin::new()).unwrap()
    });
    let mut child = child.join().unwrap();
    let lives =
        child.join_timeout(Duration::from_millis(100)).is_err_and(|error| error.is_timeout());
    drop(child.take_stdin());
    lives && child.join().is_ok()
}

#[offspring::worker]
fn wait_for_stdin() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_child_outlives_the_thread_that_started_it() {
    assert!(start_on_a_thread::spawn().unwrap().join().unwrap());
}

#[offspring::test(timeout = "20s")]
fn a_dropped_handle_leaves_its_child_running() {
    let mut child = ProcessBuilder::new()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn(say_when_stdin_ends::new())
        .unwrap();
    let (stdin, mut lines) = (child.take_stdin(), Lines::of(&mut child));
    let pid = child.pid();
    drop(child);
    assert!(offspring::active_children().iter().any(|child| child.pid() == pid));
    drop(stdin);
    assert_eq!(lines.next().as_deref(), Some("ended"));
}

#[offspring::worker]
fn say_when_stdin_ends() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    println!("ended");
}

/// Starts a child as the first process of a namespace, in which most signals from inside do nothing
/// to it. Prints the child's pid outside, or 0 if the system refuses to create a namespace for this
/// process.
#[offspring::worker]
fn keep_the_first_of_a_namespace() {
    // It may start no thread afterwards, and the first start makes one.
    super::stage::answer::spawn().unwrap().join().unwrap();
    // SAFETY: no pointer is involved; only children that are started from now on are concerned.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        println!("0");
        std::thread::sleep(FOREVER);
    }
    let builder = ProcessBuilder::new().stdout(Stdio::null());
    let child = builder.spawn(stay::new(Habit::IgnoresSignals)).unwrap();
    println!("{}", child.pid());
    child.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn the_first_process_of_a_namespace_ends_with_its_parent_too() {
    let builder = ProcessBuilder::new().stdout(Stdio::piped());
    let mut parent = builder.spawn(keep_the_first_of_a_namespace::new()).unwrap();
    let child = Lines::of(&mut parent).pid();
    parent.kill();
    parent.join().unwrap_err();
    if child != 0 {
        gone_within(SOON, &[child]);
    }
}
