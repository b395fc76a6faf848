//! Signals to a child, and what it inherits of its parent's.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use offspring::process::KillCause;
use offspring::supervisor::{ChildSpec, Supervisor};
use offspring::sync::Event;
use offspring::unix::ProcessBuilderExt;
use offspring::{ExitReason, Pool, Process, ProcessBuilder, Sender, Stdio, channel};

use super::stage::{FOREVER, Lines, answer, sleeper};
use crate::support::{eventually, suspend};

const TERMINATED: ExitReason =
    ExitReason::Killed { cause: KillCause::Terminate, signal: libc::SIGTERM };
const KILLED: ExitReason = ExitReason::Killed { cause: KillCause::Kill, signal: libc::SIGKILL };

fn reason_of(child: &Process<()>) -> ExitReason {
    child.join().unwrap_err().reason().unwrap().clone()
}

/// Python's `test_many_processes`: terminated so early that some may not have begun to sleep.
#[offspring::test(timeout = "30s")]
fn a_hundred_children_can_be_terminated_right_after_their_start() {
    for _ in 0..3 {
        let children: Vec<_> = (0..25).map(|_| sleeper::spawn().unwrap()).collect();
        children.iter().for_each(Process::terminate);
        for child in &children {
            assert_eq!(reason_of(child), TERMINATED);
        }
    }
    // Each at its own time, too.
    for _ in 0..25 {
        let child = sleeper::spawn().unwrap();
        child.terminate();
        assert_eq!(reason_of(&child), TERMINATED);
    }
}

/// Ignores SIGTERM, then prints a line.
#[offspring::worker]
fn ignore_terminate() {
    // SAFETY: no handler is involved.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    println!("ready");
    std::thread::sleep(FOREVER);
}

#[offspring::test(timeout = "20s")]
fn terminate_may_be_ignored_and_kill_may_not() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(ignore_terminate::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.terminate();
    assert!(child.join_timeout(Duration::from_millis(200)).unwrap_err().is_timeout());
    child.kill();
    assert_eq!(reason_of(&child), KILLED);
}

extern "C" fn exit_in_order(_: i32) {
    // SAFETY: `_exit` may be called from a signal handler.
    unsafe { libc::_exit(17) };
}

#[offspring::worker]
fn handle_terminate() {
    // SAFETY: the handler calls only `_exit`.
    unsafe { libc::signal(libc::SIGTERM, exit_in_order as extern "C" fn(i32) as usize) };
    println!("ready");
    std::thread::sleep(FOREVER);
}

#[offspring::test(timeout = "20s")]
fn a_child_that_handles_terminate_ends_as_it_likes() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(handle_terminate::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    child.terminate();
    assert_eq!(reason_of(&child), ExitReason::Exited(17));
}

#[offspring::test(timeout = "20s")]
fn a_stopped_child_can_be_terminated_and_killed() {
    for (stop, reason) in
        [(Process::<()>::terminate as fn(&Process<()>), TERMINATED), (Process::<()>::kill, KILLED)]
    {
        let child = sleeper::spawn().unwrap();
        suspend(child.pid());
        stop(&child);
        assert_eq!(reason_of(&child), reason);
    }
}

/// Masks and dispositions of this process, from its own status: blocked, ignored.
#[offspring::worker]
fn signal_state() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    (field("SigBlk"), field("SigIgn"))
}

/// Blocks and ignores every signal that can be blocked or ignored. Returns what its child sees, and
/// whether the child can be terminated.
#[offspring::worker]
fn start_from_a_deaf_process() -> ((u64, u64), (u64, u64), bool) {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: no handler is involved; what cannot be ignored is an error.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: the set is initialised by `sigfillset` before it is read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
    let seen = signal_state::spawn().unwrap().join().unwrap();
    let child = sleeper::spawn().unwrap();
    child.terminate();
    let ended = child.join_timeout(Duration::from_secs(5)).is_err_and(|error| !error.is_timeout());
    (signal_state(), seen, ended)
}

#[offspring::test(timeout = "20s")]
fn a_child_has_the_signals_of_a_fresh_program() {
    // Rust itself ignores SIGPIPE; the others keep what `nohup`, shells and schedulers set.
    const KEPT: u64 = 1 << (libc::SIGPIPE - 1)
        | 1 << (libc::SIGHUP - 1)
        | 1 << (libc::SIGQUIT - 1)
        | 1 << (libc::SIGUSR1 - 1)
        | 1 << (libc::SIGUSR2 - 1)
        | 1 << (libc::SIGTSTP - 1)
        | 1 << (libc::SIGTTIN - 1)
        | 1 << (libc::SIGTTOU - 1);
    // Two signals belong to the C library, and no program can change them.
    const RESERVED: u64 = 0b11 << 31;
    let ((blocked, ignored), seen, ended) =
        start_from_a_deaf_process::spawn().unwrap().join().unwrap();
    assert!(blocked.count_ones() > 50 && ignored.count_ones() > 50, "the scene is set");
    assert_eq!((seen.0, seen.1 & !RESERVED), (0, KEPT));
    assert!(ended, "terminate did nothing");
}

/// Ignores a signal, as `nohup` does. Returns how its child ended, which got this signal and then
/// SIGTERM.
#[offspring::worker]
fn under_nohup(signal: i32) -> Option<ExitReason> {
    // SAFETY: no handler is involved.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
    let child = sleeper::spawn().unwrap();
    // SAFETY: a child that is not reaped meanwhile.
    unsafe { libc::kill(child.pid() as i32, signal) };
    // The first deadly signal decides how it ends.
    child.terminate();
    child.join().unwrap_err().reason().cloned()
}

#[offspring::test(timeout = "20s")]
fn children_of_a_program_under_nohup_outlive_the_terminal() {
    for signal in [libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1] {
        let reason = under_nohup::spawn(signal).unwrap().join().unwrap();
        assert_eq!(reason, Some(TERMINATED), "{signal}");
    }
}

/// Sends a signal from a process that is no relative of the receiver.
fn signal_from_outside(pid: &str, signal: &str) {
    let status = std::process::Command::new("kill").args(["-s", signal, "--", pid]).status();
    assert!(status.unwrap().success());
}

#[offspring::test(timeout = "20s")]
fn a_shielded_child_obeys_its_parent_alone() {
    for signal in ["TERM", "HUP"] {
        let child = ProcessBuilder::new().shielded(true).spawn(sleeper::new()).unwrap();
        signal_from_outside(&child.pid().to_string(), signal);
        assert!(child.join_timeout(Duration::from_millis(100)).unwrap_err().is_timeout());
        child.terminate();
        assert_eq!(reason_of(&child), TERMINATED);
    }
    // Without a shield, the signal is deadly.
    let child = sleeper::spawn().unwrap();
    signal_from_outside(&child.pid().to_string(), "TERM");
    let reason = reason_of(&child);
    assert!(matches!(reason, ExitReason::Signaled { signal: libc::SIGTERM, .. }), "{reason}");
    let child = ProcessBuilder::new().shielded(true).spawn(sleeper::new()).unwrap();
    // SAFETY: a child that is not reaped meanwhile.
    unsafe { libc::kill(child.pid() as i32, libc::SIGTERM) };
    let reason = reason_of(&child);
    assert!(matches!(reason, ExitReason::Signaled { signal: libc::SIGTERM, .. }), "{reason}");
    let own = ProcessBuilder::new().shielded(true).stdout(Stdio::piped());
    let mut child = own.spawn(handle_terminate::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    signal_from_outside(&child.pid().to_string(), "TERM");
    assert_eq!(reason_of(&child), ExitReason::Exited(17));
}

static ASKED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    ASKED.fetch_or(1 << signal, Ordering::SeqCst);
}

#[offspring::worker]
fn wait_for(event: Event) {
    event.wait().unwrap();
}

#[offspring::worker]
fn pid_of() -> u32 {
    std::process::id()
}

/// A server whose whole group is signalled: it finishes what runs. Returns how many of four tasks
/// succeeded, and whether an idle pool and a supervised child have the same processes as before.
#[offspring::worker]
fn drain_when_asked(running: Sender<()>) -> (usize, bool, bool) {
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler changes an atomic only.
        unsafe { libc::signal(signal, note as extern "C" fn(i32) as usize) };
    }
    let (pool, idle) = (Pool::new(2).unwrap(), Pool::new(1).unwrap());
    let go_on = Event::new().unwrap();
    let child = ChildSpec::worker_with("sleeper", |_| sleeper::new());
    let supervisor = Supervisor::builder().child(child).start().unwrap();
    let idle_pid = idle.run(pid_of::new()).unwrap();
    let child_pid = supervisor.children()[0].pid;
    let tasks: Vec<_> =
        (0..4).map(|_| pool.submit(wait_for::new(go_on.clone())).unwrap()).collect();
    eventually("two tasks run", || tasks.iter().filter(|task| task.pid().is_some()).count() == 2);
    running.send(()).unwrap();
    eventually("both signals are there", || ASKED.load(Ordering::SeqCst).count_ones() == 2);
    go_on.set();
    let done = tasks.into_iter().filter_map(|task| task.join().ok()).count();
    let is_same_idle = idle.run(pid_of::new()).unwrap() == idle_pid;
    let is_same_child = supervisor.children()[0].pid == child_pid;
    (done, is_same_idle, is_same_child)
}

#[offspring::test(timeout = "30s")]
fn a_signal_to_the_whole_group_is_the_parents_to_decide() {
    let (sender, running) = channel().unwrap();
    let server =
        ProcessBuilder::new().process_group(0).spawn(drain_when_asked::new(sender)).unwrap();
    running.recv().unwrap();
    let group = format!("-{}", server.pid());
    signal_from_outside(&group, "HUP");
    signal_from_outside(&group, "TERM");
    assert_eq!(server.join().unwrap(), (4, true, true));
}

/// Gives up root after it has started a child as root, and returns how the child ends by `kill`.
#[offspring::worker]
fn kill_without_rights() -> Option<ExitReason> {
    const NOBODY: u32 = 45_679;
    // SAFETY: takes a number.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let child = sleeper::spawn().unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
    child.terminate();
    child.kill();
    child.join().unwrap_err().reason().cloned()
}

#[offspring::test(timeout = "20s")]
fn a_child_of_another_user_is_killed_all_the_same() {
    let reason = kill_without_rights::spawn().unwrap().join().unwrap();
    let killed = ExitReason::Killed { cause: KillCause::Kill, signal: libc::SIGKILL };
    assert!(reason.is_none_or(|reason| reason == killed));
}

/// Returns whether a stranger that got the pid of an ended child lives on after `kill` and
/// `terminate`. The processes are in a namespace where the next pid can be chosen without harm to
/// other processes.
#[offspring::worker]
fn signal_after_the_end() -> bool {
    for _ in 0..100 {
        let child = answer::spawn().unwrap();
        child.join().unwrap();
        std::fs::write("/proc/sys/kernel/ns_last_pid", (child.pid() - 1).to_string()).unwrap();
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let recycled = stranger.id() == child.pid();
        child.terminate();
        child.kill();
        child.terminate_tree();
        child.kill_tree();
        child.request_stop(Duration::ZERO);
        // The first deadly signal decides how it ends, and its status shows which one that was.
        // SAFETY: a child that was not waited for.
        unsafe { libc::kill(stranger.id() as i32, libc::SIGUSR1) };
        let signal = stranger.wait().unwrap().signal();
        if recycled {
            return signal == Some(libc::SIGUSR1);
        }
    }
    panic!("the pid was never given again");
}

/// `None` where the system gives this process no namespace.
#[offspring::worker]
fn signal_in_a_namespace() -> Option<bool> {
    // It may start no thread afterwards, and the first start makes one.
    answer::spawn().unwrap().join().unwrap();
    // SAFETY: no pointer is involved; only children that are started from now on are concerned.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return None;
    }
    // The first process of a namespace has to outlive the others.
    let first = sleeper::spawn().unwrap();
    let outcome = signal_after_the_end::spawn().unwrap().join().unwrap();
    first.kill();
    first.join().unwrap_err();
    Some(outcome)
}

#[offspring::test(timeout = "30s")]
fn no_signal_reaches_a_stranger_with_the_pid_of_an_ended_child() {
    let outcome = signal_in_a_namespace::spawn().unwrap().join().unwrap();
    assert_ne!(outcome, Some(false));
}
