//! The end of a process that has children: daemons are stopped, the others waited for.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use offspring::sync::Event;
use offspring::{ExitReason, Pool, ProcessBuilder, Queue, Sender, SpawnError, Stdio, channel};
use serde::{Deserialize, Serialize};

use super::stage::{FOREVER, Lines, answer, sleeper};
use crate::support::{eventually, is_running};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Way {
    Return,
    Exit,
    ExitOfThread,
    Panic,
}

/// Starts daemons and others, prints the pids of the daemons, and ends.
#[offspring::worker]
fn end_with_children(way: Way) -> u32 {
    let daemon = || ProcessBuilder::new().daemon(true).spawn(sleeper::new()).unwrap();
    let daemons = [daemon(), daemon(), daemon()];
    daemons.iter().for_each(|daemon| println!("{}", daemon.pid()));
    for _ in 0..2 {
        // Not joined, and its handle is dropped: the end waits for it nevertheless.
        drop(
            ProcessBuilder::new()
                .daemon(false)
                .stdin(Stdio::inherit())
                .spawn(end_after_stdin::new())
                .unwrap(),
        );
    }
    println!("ending");
    match way {
        Way::Return => 5,
        Way::Exit => std::process::exit(6),
        Way::ExitOfThread => {
            std::thread::spawn(|| std::process::exit(6));
            std::thread::sleep(FOREVER);
            unreachable!()
        }
        Way::Panic => panic!("with children"),
    }
}

/// Prints `done` once its stdin ends.
#[offspring::worker]
fn end_after_stdin() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    println!("done");
}

#[offspring::test(timeout = "20s")]
fn at_its_end_a_process_stops_daemons_and_waits_for_the_others() {
    for way in [Way::Return, Way::Exit, Way::ExitOfThread, Way::Panic] {
        let builder = ProcessBuilder::new().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = builder.spawn(end_with_children::new(way)).unwrap();
        let (stdin, mut lines) = (process.take_stdin(), Lines::of(&mut process));
        let daemons = [0; 3].map(|_| lines.pid());
        assert_eq!(lines.next().as_deref(), Some("ending"));

        crate::support::eventually("daemons are gone", || {
            !daemons.iter().any(|&pid| is_running(pid))
        });
        // It waits for those that still run.
        assert!(
            process.join_timeout(Duration::from_millis(100)).unwrap_err().is_timeout(),
            "{way:?}"
        );
        drop(stdin);
        assert_eq!(
            (lines.next().as_deref(), lines.next().as_deref()),
            (Some("done"), Some("done"))
        );

        let joined = process.join();
        match (way, process.exit_reason().unwrap()) {
            (Way::Return, ExitReason::Returned) => assert_eq!(joined.unwrap(), 5),
            (Way::Exit | Way::ExitOfThread, ExitReason::Exited(6)) => {}
            (Way::Panic, ExitReason::Panicked(report)) => {
                assert_eq!(report.message, "with children")
            }
            (_, reason) => panic!("{way:?}: {reason}"),
        }
    }
}

/// Ignores each request to end.
#[offspring::worker]
fn stubborn() {
    // SAFETY: no handler is involved.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    println!("{}", std::process::id());
    std::thread::sleep(FOREVER);
}

#[offspring::worker]
fn keep_stubborn_daemons() {
    let daemons = [0; 3].map(|_| {
        ProcessBuilder::new().daemon(true).stdout(Stdio::piped()).spawn(stubborn::new()).unwrap()
    });
    for mut daemon in daemons {
        println!("{}", Lines::of(&mut daemon).pid());
    }
}

#[offspring::test(timeout = "20s")]
fn daemons_that_do_not_stop_are_killed_after_five_seconds_together() {
    let mut process =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(keep_stubborn_daemons::new()).unwrap();
    let mut lines = Lines::of(&mut process);
    let daemons = [0; 3].map(|_| lines.pid());
    let began = Instant::now();
    process.join().unwrap();
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(9), "{waited:?}");
    assert!(!daemons.iter().any(|&pid| is_running(pid)));
}

extern "C" fn start_too_late() {
    let outcome = answer::spawn();
    println!("{}", matches!(outcome, Err(SpawnError::Exiting)));
}

/// Its own exit hook runs after ours, since it was there first.
#[offspring::worker]
fn start_at_exit() {
    // SAFETY: a plain function that does not unwind.
    unsafe { libc::atexit(start_too_late) };
    answer::spawn().unwrap().join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_process_that_is_ending_starts_nothing() {
    let mut process =
        ProcessBuilder::new().stdout(Stdio::piped()).spawn(start_at_exit::new()).unwrap();
    assert_eq!(Lines::of(&mut process).next().as_deref(), Some("true"));
    process.join().unwrap();
}

extern "C" fn hang() {
    std::thread::sleep(Duration::from_secs(1000));
}

/// A library whose exit hook never ends.
#[offspring::worker]
fn return_and_hang() -> u32 {
    // SAFETY: a plain function that does not unwind.
    unsafe { libc::atexit(hang) };
    42
}

#[offspring::test(timeout = "20s")]
fn an_exit_hook_that_hangs_keeps_no_output() {
    let builder = || ProcessBuilder::new().exit_timeout(Duration::from_millis(50));
    assert_eq!(builder().spawn(return_and_hang::new()).unwrap().join().unwrap(), 42);
    let pool = Pool::builder()
        .workers(1)
        .max_tasks_per_worker(1)
        .process(|_, builder| builder.exit_timeout(Duration::from_millis(50)))
        .build()
        .unwrap();
    let outputs: Result<Vec<u32>, _> = pool.map(0..3, |_| return_and_hang::new()).collect();
    assert_eq!(outputs.unwrap(), [42; 3]);
    drop(pool);
}

#[offspring::worker]
fn wait_for(event: Event) {
    event.wait().unwrap();
}

/// Its child waits, so its own end does as well.
#[offspring::worker]
fn leave_a_child(event: Event) {
    let _ = wait_for::spawn(event).unwrap();
}

#[offspring::test(timeout = "20s")]
fn the_time_of_its_children_is_not_the_time_of_an_exit() {
    let event = Event::new().unwrap();
    let process = ProcessBuilder::new()
        .exit_timeout(Duration::from_millis(20))
        .spawn(leave_a_child::new(event.clone()))
        .unwrap();
    assert!(process.join_timeout(Duration::from_millis(200)).unwrap_err().is_timeout());
    event.set();
    process.join().unwrap();
}

#[offspring::worker]
fn rest() {
    std::thread::sleep(FOREVER);
}

extern "C" fn ignore(_: libc::c_int) {}

static POOL: OnceLock<Pool> = OnceLock::new();

/// What a handler of Ctrl-C does, or with `by_pool` one that leaves a pool in a static. Handles the
/// signal in a way that does not end the program.
#[offspring::worker]
fn exit_beside_what_never_ends(signal: i32, by_pool: bool, exiting: Sender<u32>) {
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(signal, ignore as extern "C" fn(libc::c_int) as usize) };
    if by_pool {
        let pool = POOL.get_or_init(|| Pool::new(1).unwrap());
        drop(pool.submit(rest::new()).unwrap());
        exiting.send(pool.pids()[0]).unwrap();
    } else {
        let child = ProcessBuilder::new().daemon(false).spawn(rest::new()).unwrap();
        exiting.send(child.pid()).unwrap();
    }
    std::thread::spawn(|| std::process::exit(130));
    std::thread::sleep(FOREVER);
}

#[offspring::test(timeout = "60s")]
fn a_second_ctrl_c_ends_a_program_that_waits_at_its_end() {
    for (signal, by_pool) in [(libc::SIGINT, true), (libc::SIGINT, false), (libc::SIGTERM, false)] {
        let (sender, exiting) = channel().unwrap();
        let process = exit_beside_what_never_ends::spawn(signal, by_pool, sender).unwrap();
        let child = exiting.recv().unwrap();
        eventually("a second one ends it", || {
            if process.is_alive() {
                // SAFETY: it sends a signal to a child.
                unsafe { libc::kill(process.pid() as i32, signal) };
            }
            !process.is_alive()
        });
        let reason = process.join().unwrap_err().reason().cloned();
        let Some(ExitReason::Signaled { signal: by, .. }) = reason else { panic!("{reason:?}") };
        assert_eq!(by, signal);
        eventually("what it waited for ends with it", || !is_running(child));
    }
}

/// Forks without exec, as code of the host may do. The copy must leave our children alone, and has
/// no children itself.
#[offspring::worker]
fn fork_beside_children() -> (i32, bool) {
    let daemon = ProcessBuilder::new().daemon(true).spawn(sleeper::new()).unwrap();
    // SAFETY: the copy calls only what this test is about, and its only other threads wait.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // Nobody ends it if it hangs.
        // SAFETY: always allowed.
        unsafe { libc::alarm(10) };
        let refused = matches!(answer::spawn(), Err(SpawnError::Io { .. }));
        std::process::exit(if refused { 33 } else { 34 });
    }
    let mut status = 0;
    crate::support::eventually("the copy ends", || {
        // SAFETY: a child of this process; `status` is a place for the answer.
        unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) == pid }
    });
    let daemon_lives =
        daemon.join_timeout(Duration::from_millis(100)).is_err_and(|error| error.is_timeout());
    (if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }, daemon_lives)
}

#[offspring::test(timeout = "20s")]
fn a_forked_copy_neither_stops_nor_starts_children() {
    assert_eq!(fork_beside_children::spawn().unwrap().join().unwrap(), (33, true));
}

/// A fork of a process that has no children yet is as good as any other.
#[offspring::worker]
fn fork_before_children() -> i32 {
    // SAFETY: as above.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // Nobody ends it if it hangs.
        // SAFETY: always allowed.
        unsafe { libc::alarm(10) };
        let joined = answer::spawn().map(|child| child.join().is_ok_and(|answer| answer == 42));
        std::process::exit(if joined.is_ok_and(|joined| joined) { 33 } else { 34 });
    }
    let mut status = 0;
    // SAFETY: a child of this process; `status` is a place for the answer.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    libc::WEXITSTATUS(status)
}

#[offspring::test(timeout = "20s")]
fn a_fork_without_children_may_start_some() {
    assert_eq!(fork_before_children::spawn().unwrap().join().unwrap(), 33);
}

/// A fork has no hub thread, so it must not send handles, which no thread would serve.
#[offspring::worker]
fn fork_beside_a_hub() -> (i32, bool) {
    let queues = Queue::unbounded().unwrap();
    let queue = Queue::<u8>::unbounded().unwrap();
    queues.put(queue.clone()).unwrap();
    // SAFETY: as above.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A copy that hangs is ended by the signal.
        // SAFETY: always allowed.
        unsafe { libc::alarm(10) };
        let refused = queues.put(queue).is_err();
        // SAFETY: always allowed.
        unsafe { libc::_exit(if refused { 33 } else { 34 }) };
    }
    let mut status = 0;
    // SAFETY: a child of this process; `status` is a place for the answer.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    (libc::WEXITSTATUS(status), queues.put(queue).is_ok())
}

#[offspring::test(timeout = "20s")]
fn a_fork_of_a_process_with_shared_objects_sends_no_handles() {
    assert_eq!(fork_beside_a_hub::spawn().unwrap().join().unwrap(), (33, true));
}
