//! Waiting for the end of a process.

use std::io::Write;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use offspring::process::JoinTimeoutError;
use offspring::{ExitReason, JoinError, Process, ProcessBuilder, Stdio};

use super::stage::{FOREVER, Lines, answer, sleeper};

/// Returns when its stdin ends.
#[offspring::worker]
fn wait_for_stdin() -> u32 {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    6
}

fn waiting_child() -> Process<u32> {
    ProcessBuilder::new().stdin(Stdio::piped()).spawn(wait_for_stdin::new()).unwrap()
}

#[offspring::test(timeout = "20s")]
fn join_timeout_gives_up_at_its_time_and_leaves_the_child_alone() {
    let mut child = waiting_child();
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(100)] {
        let began = Instant::now();
        match child.join_timeout(timeout) {
            Err(JoinTimeoutError::Timeout { name, pid, after }) => {
                assert_eq!((name.as_str(), pid, after), (child.name(), child.pid(), timeout));
            }
            other => panic!("{other:?}"),
        }
        let waited = began.elapsed();
        assert!(
            waited >= timeout && waited < timeout + Duration::from_secs(1),
            "{timeout:?}: {waited:?}"
        );
        assert!(child.is_alive() && child.exit_reason().is_none());
    }
    drop(child.take_stdin());
    // A time that the clock cannot hold is as good as none.
    assert_eq!(child.join_timeout(Duration::MAX).unwrap(), 6);
    // And it is over by now.
    assert_eq!(child.join_timeout(Duration::ZERO).unwrap(), 6);
}

#[offspring::test(timeout = "20s")]
fn join_may_be_called_again_and_from_many_threads_at_once() {
    let mut child = waiting_child();
    let stdin = child.take_stdin();
    let (child, all_wait) = (&child, &Barrier::new(5));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                all_wait.wait();
                assert_eq!(child.join().unwrap(), 6);
                assert_eq!(
                    (child.is_alive(), child.exit_reason()),
                    (false, Some(ExitReason::Returned))
                );
            });
        }
        all_wait.wait();
        drop(stdin);
    });
    assert_eq!(child.join().unwrap(), 6);
}

#[offspring::worker]
fn exit_with(code: i32) {
    std::process::exit(code);
}

#[offspring::test(timeout = "20s")]
fn an_error_of_join_is_the_same_each_time() {
    let child = exit_with::spawn(7).unwrap();
    for _ in 0..3 {
        match child.join().unwrap_err() {
            JoinError::Ended { name, pid, reason, .. } => {
                assert_eq!(
                    (name.as_str(), pid, reason),
                    (child.name(), child.pid(), ExitReason::Exited(7))
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let text = child.join().unwrap_err().to_string();
    assert_eq!(
        text,
        format!("process `{}` (pid {}) exited with code 7", child.name(), child.pid())
    );
}

/// In an older Python `is_alive` could be true after a join from another thread.
#[offspring::test(timeout = "20s")]
fn who_joined_a_child_sees_it_ended_from_every_side() {
    for _ in 0..20 {
        let child = answer::spawn().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| while child.is_alive() {});
            child.join().unwrap();
            assert!(!child.is_alive() && child.exit_reason().is_some());
            assert!(offspring::active_children().iter().all(|other| other.name() != child.name()));
        });
    }
}

/// Starts a program that holds all that it inherits for a long time, and returns.
#[offspring::worker]
fn leave_a_program_behind() -> u32 {
    Command::new("sleep").arg("1000").spawn().unwrap().id()
}

#[offspring::test(timeout = "20s")]
fn join_waits_for_the_process_and_not_for_what_it_left_running() {
    let builder = ProcessBuilder::new().stdout(Stdio::piped());
    let pid = builder.spawn(leave_a_program_behind::new()).unwrap().join().unwrap();
    assert!(crate::support::is_running(pid), "it holds the pipe");
    // SAFETY: the program is an orphan that no other code knows of.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Handles a signal without `SA_RESTART`, so that it interrupts system calls of the thread that
/// receives it.
fn handle(signal: i32) {
    // SAFETY: the handler only adds to an atomic; all fields are set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// Sends its parent signals for a while.
#[offspring::worker]
fn disturb_parent() -> u32 {
    let parent = offspring::parent().unwrap().pid() as i32;
    for _ in 0..20 {
        // SAFETY: the parent lives, since its end would be ours.
        assert_eq!(unsafe { libc::kill(parent, libc::SIGUSR1) }, 0);
        std::thread::sleep(Duration::from_millis(5));
    }
    9
}

#[offspring::worker]
fn join_through_signals() -> (u32, u32, bool) {
    handle(libc::SIGUSR1);
    let sleeping = sleeper::spawn().unwrap();
    let disturbing = disturb_parent::spawn().unwrap();
    let timed_out =
        sleeping.join_timeout(Duration::from_millis(50)).is_err_and(|error| error.is_timeout());
    let joined = disturbing.join().unwrap();
    sleeping.kill();
    (joined, HANDLED.load(Ordering::Relaxed), timed_out)
}

#[offspring::test(timeout = "20s")]
fn signals_do_not_disturb_a_join() {
    let (joined, handled, timed_out) = join_through_signals::spawn().unwrap().join().unwrap();
    assert!(joined == 9 && handled > 0 && timed_out, "{joined} {handled} {timed_out}");
}

/// Starts children while its thread gets a signal each half of a millisecond.
#[offspring::worker]
fn start_through_signals() -> Vec<String> {
    handle(libc::SIGUSR1);
    // SAFETY: `gettid` has no preconditions.
    let (process, thread) = unsafe { (libc::getpid(), libc::gettid()) };
    std::thread::spawn(move || {
        loop {
            // SAFETY: the main thread lives as long as the process.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    let ballast = "x".repeat(100_000);
    let child = |_| {
        large::spawn(ballast.clone())
            .and_then(|child| child.join().map(drop).map_err(|error| panic!("{error}")))
    };
    let failures: Vec<String> =
        (0..30).filter_map(|n| child(n).err()).map(|error| format!("{error:?}")).collect();
    assert!(HANDLED.load(Ordering::Relaxed) > 10);
    failures
}

#[offspring::worker]
fn large(text: String) -> String {
    text
}

#[offspring::test(timeout = "20s")]
fn signals_do_not_disturb_a_start() {
    assert_eq!(start_through_signals::spawn().unwrap().join().unwrap(), Vec::<String>::new());
}

/// Takes any status it can get, as some host programs do, while children end in different ways.
#[offspring::worker]
fn reap_everything() -> Vec<(String, String)> {
    std::thread::spawn(|| {
        loop {
            // SAFETY: a null pointer asks for no status.
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        }
    });
    let one = || {
        let exited = exit_with::spawn(7).unwrap();
        let returned = answer::spawn().unwrap();
        (
            format!("{:?}", exited.join().unwrap_err().reason().unwrap()),
            format!("{:?}", returned.join()),
        )
    };
    (0..20).map(|_| one()).collect()
}

#[offspring::test(timeout = "20s")]
fn a_status_that_host_code_took_is_unknown_and_no_hang() {
    for (exited, returned) in reap_everything::spawn().unwrap().join().unwrap() {
        assert!(["Exited(7)", "Unknown"].contains(&exited.as_str()), "{exited}");
        assert_eq!(returned, "Ok(42)");
    }
}

/// Has the system throw away the status of every child.
#[offspring::worker]
fn ignore_children(by_flag: bool) -> (String, String, String, String) {
    // SAFETY: no handler is involved; all fields are set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = if by_flag { libc::SIG_DFL } else { libc::SIG_IGN };
        action.sa_flags = if by_flag { libc::SA_NOCLDWAIT } else { 0 };
        assert_eq!(libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut()), 0);
    }
    let reason = |child: Process<()>| format!("{:?}", child.join().unwrap_err().reason().unwrap());
    let exited = reason(exit_with::spawn(7).unwrap());
    let panicked = reason(fail::spawn().unwrap());
    let returned = format!("{:?}", answer::spawn().unwrap().join());
    let failed = ProcessBuilder::new().program("/bin/false").spawn(answer::new()).unwrap_err();
    (exited, panicked, returned, format!("{failed:?}"))
}

#[offspring::worker]
fn fail() {
    panic!("told before the end");
}

#[offspring::test(timeout = "20s")]
fn a_host_that_ignores_its_children_still_gets_what_they_said() {
    for by_flag in [false, true] {
        let (exited, panicked, returned, failed) =
            ignore_children::spawn(by_flag).unwrap().join().unwrap();
        assert_eq!((exited.as_str(), returned.as_str()), ("Unknown", "Ok(42)"));
        assert!(panicked.contains("told before the end"), "{panicked}");
        assert!(failed.starts_with("Died") && failed.contains("other code took"), "{failed}");
    }
}

/// Runs a program of its own while children of ours end all the time.
#[offspring::worker]
fn wait_for_own_program() -> Vec<Option<i32>> {
    let mut codes = Vec::new();
    for _ in 0..20 {
        let mut program = Command::new("sh")
            .args(["-c", "read line; exit 5"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        answer::spawn().unwrap().join().unwrap();
        program.stdin.take().unwrap().write_all(b"go\n").unwrap();
        answer::spawn().unwrap().join().unwrap();
        codes.push(program.wait().unwrap().code());
    }
    codes
}

#[offspring::test(timeout = "20s")]
fn the_hosts_own_children_stay_its_own() {
    let codes = wait_for_own_program::spawn().unwrap().join().unwrap();
    assert_eq!(codes, [Some(5); 20]);
}

/// Prints a line when it runs, so that its end comes while it is joined.
#[offspring::worker]
fn announce_and_sleep() {
    println!("ready");
    std::thread::sleep(FOREVER);
}

#[offspring::test(timeout = "20s")]
fn a_kill_wakes_every_join() {
    let mut child =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(announce_and_sleep::new()).unwrap();
    assert_eq!(Lines::of(&mut child).next().as_deref(), Some("ready"));
    let child = &child;
    std::thread::scope(|scope| {
        let joins = [0; 3].map(|_| scope.spawn(move || child.join().unwrap_err().to_string()));
        child.kill();
        for join in joins {
            assert!(
                join.join().unwrap().ends_with("was ended by this program with SIGKILL (`kill`)")
            );
        }
    });
}
