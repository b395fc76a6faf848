//! Children that outlive their parent, and what they know of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use offspring::queue::GetError;
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{ExitReason, JoinableQueue, ProcessBuilder, Queue, Stdio, active_children, parent};

use super::stage::{Lines, children_of};
use crate::support::{eventually, is_running};

/// Writes to a file what it sees before and after the end of its parent, and how a queue of the
/// parent ends.
#[offspring::worker]
fn outlive(file: PathBuf, queue: JoinableQueue<u32>) {
    let parent = parent().unwrap();
    let before = (parent.is_alive(), parent.join_timeout(Duration::from_millis(10)));
    queue.get().unwrap().task_done();
    println!("{}", std::process::id());
    parent.join();
    let after = (parent.is_alive(), parent.join_timeout(Duration::ZERO));
    let end = matches!(queue.get(), Err(GetError::Disconnected));
    let next = fs::File::create(file.with_extension("new")).and_then(|mut new| {
        use std::io::Write;
        write!(new, "{before:?} {after:?} {end}")
    });
    next.unwrap();
    fs::rename(file.with_extension("new"), file).unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Way {
    ByHandle,
    ByBuilder,
    AsDaemon,
}

/// Starts the above, and is killed or ends.
#[offspring::worker]
fn let_go(file: PathBuf, way: Way, returns: bool) {
    let queue = JoinableQueue::unbounded().unwrap();
    let builder = ProcessBuilder::new().daemon(way == Way::AsDaemon).detached(way != Way::ByHandle);
    let child = builder.spawn(outlive::new(file, queue.clone())).unwrap();
    let pid = child.pid();
    if way == Way::ByHandle {
        child.detach();
    }
    assert!(!active_children().iter().any(|child| child.pid() == pid));
    queue.put(1).unwrap();
    queue.join().unwrap();
    if !returns {
        std::thread::sleep(super::stage::FOREVER);
    }
}

fn told_in(file: &Path) -> String {
    eventually("the child tells", || file.exists());
    fs::read_to_string(file).unwrap()
}

#[offspring::test(timeout = "30s")]
fn a_detached_child_outlives_its_parent_and_sees_it_end() {
    for way in [Way::ByHandle, Way::ByBuilder, Way::AsDaemon] {
        for returns in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("told");
            let builder = ProcessBuilder::new().stdout(Stdio::piped());
            let mut parent = builder.spawn(let_go::new(file.clone(), way, returns)).unwrap();
            let pid = Lines::of(&mut parent).pid();
            if !returns {
                assert!(!file.exists() && is_running(pid));
                parent.kill();
            }
            assert_eq!(parent.join().is_ok(), returns);
            assert_eq!(told_in(&file), "(true, false) (false, true) true", "{way:?} {returns}");
            eventually("it ends by itself", || !is_running(pid));
        }
    }
}

/// Detaches a child and is gone at the next instant.
#[offspring::worker]
fn let_go_and_die(file: PathBuf) {
    let child = write_after_parent::spawn(file).unwrap();
    child.detach();
    // SAFETY: always allowed.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// It has reported a panic that its parent never reads: the system then drops the connection.
#[offspring::worker]
fn write_after_parent(file: PathBuf) {
    std::panic::catch_unwind(|| panic!("caught")).unwrap_err();
    parent().unwrap().join();
    fs::write(file, "alive").unwrap();
}

#[offspring::test(timeout = "30s")]
fn a_child_is_free_as_soon_as_detach_returns() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..20 {
        let file = directory.path().join(n.to_string());
        let parent = ProcessBuilder::new()
            .stderr(Stdio::null())
            .spawn(let_go_and_die::new(file.clone()))
            .unwrap();
        parent.join().unwrap_err();
        eventually("the child writes", || file.exists());
    }
}

#[offspring::worker]
fn wait_for_stdin() -> u32 {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    5
}

#[offspring::test(timeout = "20s")]
fn a_detached_child_can_be_joined_and_killed_while_its_parent_lives() {
    let builder = || ProcessBuilder::new().detached(true).stdin(Stdio::piped());
    let mut child = builder().spawn(wait_for_stdin::new()).unwrap();
    drop(child.take_stdin());
    assert_eq!(child.join().unwrap(), 5);
    let child = builder().spawn(wait_for_stdin::new()).unwrap();
    child.kill();
    assert_eq!(child.join().unwrap_err().reason().and_then(ExitReason::code), Some(-libc::SIGKILL));
}

/// Detaches a child that ends at once, and returns whether a zombie is left.
#[offspring::worker]
fn detach_what_ends() -> bool {
    let mut child =
        ProcessBuilder::new().stdin(Stdio::piped()).spawn(wait_for_stdin::new()).unwrap();
    let stdin = child.take_stdin();
    child.detach();
    drop(stdin);
    eventually("it is reaped", || children_of(std::process::id()).is_empty());
    true
}

#[offspring::test(timeout = "20s")]
fn a_detached_child_leaves_no_zombie() {
    assert!(detach_what_ends::spawn().unwrap().join().unwrap());
}

/// Gives whether its parent seems alive, and the answer to a wait.
#[offspring::worker]
fn ask_for_parent() -> (bool, bool) {
    let parent = parent().unwrap();
    (parent.is_alive(), parent.join_timeout(Duration::from_millis(20)))
}

#[offspring::test(timeout = "20s")]
fn a_parent_that_lives_is_seen_alive() {
    assert_eq!(ask_for_parent::spawn().unwrap().join().unwrap(), (true, false));
}

/// How much processor time it takes to wait for an order that cannot come any more.
#[offspring::worker]
fn wait_in_vain(begin: Queue<()>, cost: Queue<Duration>) {
    begin.get().unwrap();
    let before = processor_time();
    assert!(!offspring::current().wait_stopping_timeout(Duration::from_millis(500)));
    assert!(!offspring::current().is_stopping());
    cost.put(processor_time() - before).unwrap();
}

/// Of this process.
fn processor_time() -> Duration {
    // SAFETY: the struct is written before it is read.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time), 0);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[offspring::test(timeout = "20s")]
fn a_detached_child_that_waits_for_an_order_sleeps() {
    let (begin, cost) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    wait_in_vain::spawn(begin.clone(), cost.clone()).unwrap().detach();
    begin.put(()).unwrap();
    let cost = cost.get_timeout(Duration::from_secs(10)).unwrap();
    assert!(cost < Duration::from_millis(100), "{cost:?}");
}

/// Gives what it reads.
#[offspring::worker]
fn repeat_stdin() -> String {
    print!("to stdout");
    eprint!("to stderr");
    std::io::read_to_string(std::io::stdin()).unwrap()
}

/// With one descriptor more each time, until it starts: then it has all that it was given.
#[offspring::test(timeout = "30s")]
fn a_detached_child_without_descriptors_is_an_error_too() {
    let mut errors = Vec::new();
    for most in 3..40 {
        let builder = ProcessBuilder::new().detached(true).rlimit(Resource::OpenFiles, most, most);
        let builder = builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match builder.spawn(repeat_stdin::new()) {
            Err(error) => errors.push(format!("{most}: {error}")),
            Ok(mut child) => {
                child.take_stdin().unwrap().write_all(b"text").unwrap();
                let output = child.join_with_output();
                let printed =
                    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
                assert_eq!(output.result.unwrap(), "text", "{most}");
                assert_eq!(printed, ["to stdout", "to stderr"], "{most}");
                break;
            }
        }
    }
    assert!(errors.len() > 1, "{errors:?}");
}
