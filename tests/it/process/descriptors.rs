//! A child inherits no descriptors but its own, and starts and ends leak none.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;

use ipc_channel::ipc::IpcSharedMemory;
use offspring::shared::SharedBytes;
use offspring::unix::ProcessBuilderExt;
use offspring::{ProcessBuilder, Queue, SpawnError, Stdio};

use super::stage::{Census, FOREVER, answer, descriptors, script, sleeper};
use crate::support::eventually;

#[offspring::worker]
fn list_descriptors(_ballast: String) -> Vec<String> {
    descriptors()
}

/// Starts children at once from several threads. The ballast goes as shared memory, so that all
/// that a start needs is open here, in all phases, while others start.
#[offspring::worker]
fn start_from_threads(threads: usize, each: usize) -> Vec<Vec<String>> {
    let begin = &Barrier::new(threads);
    let ballast = &"x".repeat(100_000);
    let one = move || {
        begin.wait();
        let children: Vec<_> =
            (0..each).map(|_| list_descriptors::spawn(ballast.clone()).unwrap()).collect();
        children.into_iter().map(|child| child.join().unwrap()).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[offspring::test(timeout = "30s")]
fn children_started_at_once_have_equal_descriptors() {
    let all = start_from_threads::spawn(8, 12).unwrap().join().unwrap();
    assert_eq!(all.len(), 96);
    for one in &all {
        assert_eq!(one, &all[0]);
        assert!(!one.iter().any(|descriptor| descriptor.contains("memfd")), "{one:?}");
    }
}

#[offspring::worker]
fn start_siblings() -> Vec<usize> {
    let children: Vec<_> = (0..5).map(|_| count_and_wait::new()).collect();
    let mut children: Vec<_> = children
        .into_iter()
        .map(|child| ProcessBuilder::new().stdin(Stdio::piped()).spawn(child).unwrap())
        .collect();
    // All five run now; each counts when its turn comes.
    for child in &mut children {
        drop(child.take_stdin());
    }
    children.into_iter().map(|child| child.join().unwrap()).collect()
}

#[offspring::worker]
fn count_and_wait() -> usize {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    descriptors().len()
}

#[offspring::test(timeout = "20s")]
fn descriptors_do_not_grow_with_the_number_of_siblings() {
    let counts = start_siblings::spawn().unwrap().join().unwrap();
    assert!(counts.iter().all(|&count| count == counts[0]), "{counts:?}");
}

/// Opens a socket with a high number, and a copy of shared memory, which ipc-channel makes
/// inheritable. Returns what its child has.
#[offspring::worker]
fn hold_things_open() -> (i32, Vec<String>) {
    let socket = UnixDatagram::unbound().unwrap();
    // SAFETY: a new descriptor, with no other owner.
    let high = unsafe {
        OwnedFd::from_raw_fd(libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 200))
    };
    let memory = IpcSharedMemory::from_bytes(b"mine");
    let _copy = memory.clone();
    let of_child = list_descriptors::spawn(String::new()).unwrap().join().unwrap();
    (high.as_raw_fd(), of_child)
}

#[offspring::test(timeout = "20s")]
fn what_the_parent_has_open_is_not_open_in_the_child() {
    let (high, of_child) = hold_things_open::spawn().unwrap().join().unwrap();
    assert!(high >= 200);
    let is_his = |descriptor: &String| {
        descriptor.starts_with(&format!("{high} ")) || descriptor.contains("memfd")
    };
    assert!(!of_child.iter().any(is_his), "{of_child:?}");
}

/// Opens what crosses an exec, as a library of another language may do, and returns what its
/// children have of it: by default, where it is asked for, and what a program has that it starts
/// itself.
#[offspring::worker]
fn open_for_everybody() -> [bool; 3] {
    let socket = UnixDatagram::unbound().unwrap();
    // SAFETY: a new descriptor, with no other owner.
    let inheritable =
        unsafe { OwnedFd::from_raw_fd(libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD, 200)) };
    let has = |of_child: Vec<String>| {
        of_child.iter().any(|one| one.starts_with(&format!("{} ", inheritable.as_raw_fd())))
    };
    let child = |builder: ProcessBuilder| {
        has(builder.spawn(list_descriptors::new(String::new())).unwrap().join().unwrap())
    };
    let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
    let program = String::from_utf8(output.stdout).unwrap();
    [
        child(ProcessBuilder::new()),
        child(ProcessBuilder::new().inherit_descriptors(true)),
        program.lines().any(|line| line == inheritable.as_raw_fd().to_string()),
    ]
}

#[offspring::test(timeout = "20s")]
fn a_child_keeps_what_its_parent_left_open_only_if_asked_to() {
    assert_eq!(open_for_everybody::spawn().unwrap().join().unwrap(), [false, true, true]);
}

/// Holds shared memory of three kinds, a handle of it in a queue too, and returns how much of it a
/// program sees.
#[offspring::worker]
fn hold_memory() -> (usize, usize) {
    let (bytes, items) = (SharedBytes::copy_from(b"bytes").unwrap(), Queue::unbounded().unwrap());
    let child = ProcessBuilder::new().spawn(get_and_wait::new(items.clone())).unwrap();
    for _ in 0..5 {
        items.put((bytes.clone(), vec![1; 300_000])).unwrap();
    }
    eventually("the child has one", || items.len().unwrap() < 5);
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    child.kill();
    let memory = |descriptors: &str| descriptors.matches("memfd:").count();
    (memory(&descriptors().join("\n")), memory(&String::from_utf8(output.stdout).unwrap()))
}

#[offspring::worker]
fn get_and_wait(items: Queue<(SharedBytes, Vec<u8>)>) {
    let item = items.get().unwrap();
    std::thread::sleep(FOREVER);
    drop(item);
}

#[offspring::test(timeout = "20s")]
fn programs_do_not_get_memory_of_queues() {
    let (here, there) = hold_memory::spawn().unwrap().join().unwrap();
    assert!(here > 0, "the scene is set");
    assert_eq!(there, 0);
}

/// Returns the differences after 200 children of several kinds.
#[offspring::worker]
fn start_and_join_many() -> (Census, Census) {
    // The first start makes what all share: the reaper, the exit hook.
    answer::spawn().unwrap().join().unwrap();
    let before = Census::take();
    for n in 0..200 {
        match n % 4 {
            0 => drop(
                ProcessBuilder::new()
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn(answer::new())
                    .unwrap()
                    .join()
                    .unwrap(),
            ),
            1 => {
                let child = sleeper::spawn().unwrap();
                child.kill();
                child.join().unwrap_err();
            }
            2 => drop(large_output::spawn("x".repeat(50_000)).unwrap().join().unwrap()),
            _ => assert_eq!(answer::spawn().unwrap().join().unwrap(), 42),
        }
    }
    (before, Census::take())
}

#[offspring::worker]
fn large_output(text: String) -> String {
    text + "!"
}

#[offspring::test(timeout = "30s")]
fn two_hundred_children_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let stage =
        ProcessBuilder::new().env("TMPDIR", directory.path()).spawn(start_and_join_many::new());
    let (before, after) = stage.unwrap().join().unwrap();
    assert_eq!(after, before);
}

/// Returns the differences after starts that failed, each in another place, and their errors.
#[offspring::worker]
fn fail_to_start() -> (Census, Census, Vec<String>) {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    answer::spawn().unwrap().join().unwrap();
    let broken = |name: &str, text: &str| {
        let place = directory.path().join(name);
        std::fs::create_dir(&place).unwrap();
        script(&place, text)
    };
    let (exits, silent, garbage) = (
        broken("exits", "exit 7"),
        broken("silent", "exec sleep 1000"),
        broken("garbage", "echo garbage >&0; exec sleep 1000"),
    );
    let before = Census::take();
    let mut errors = Vec::new();
    for _ in 0..10 {
        let builder = || {
            ProcessBuilder::new().start_timeout(Duration::from_millis(20)).stdout(Stdio::piped())
        };
        let outcomes: [Result<_, SpawnError>; 6] = [
            builder().program(&exits).start_timeout(Duration::from_secs(5)).spawn(answer::new()),
            builder().program(&silent).spawn(answer::new()),
            builder().program(&garbage).start_timeout(Duration::from_secs(5)).spawn(answer::new()),
            builder().program("/nowhere").spawn(answer::new()),
            builder()
                .program("/bin/true")
                .start_timeout(Duration::from_secs(5))
                .spawn(answer::new()),
            builder().name("").spawn(answer::new()),
        ];
        errors =
            outcomes.into_iter().map(|outcome| format!("{:?}", outcome.unwrap_err())).collect();
    }
    (before, Census::take(), errors)
}

#[offspring::test(timeout = "30s")]
fn starts_that_fail_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let stage = ProcessBuilder::new().env("TMPDIR", directory.path()).spawn(fail_to_start::new());
    let (before, after, errors) = stage.unwrap().join().unwrap();
    assert_eq!(after, before);
    let kinds: Vec<_> =
        errors.iter().map(|error| error.split([' ', '(']).next().unwrap()).collect();
    assert_eq!(kinds, ["Died", "Timeout", "Protocol", "Io", "Died", "InvalidOption"], "{errors:?}");
}

/// Drops the handles of children that then end by themselves, and returns what is left once the
/// last is gone.
#[offspring::worker]
fn drop_handles() -> (Census, Census) {
    answer::spawn().unwrap().join().unwrap();
    let before = Census::take();
    for _ in 0..20 {
        drop(answer::spawn().unwrap());
    }
    crate::support::eventually("every child is reaped", || {
        offspring::active_children().is_empty() && Census::take() == before
    });
    (before, Census::take())
}

#[offspring::test(timeout = "20s")]
fn children_whose_handle_was_dropped_are_reaped() {
    let directory = tempfile::tempdir().unwrap();
    let stage = ProcessBuilder::new().env("TMPDIR", directory.path()).spawn(drop_handles::new());
    let (before, after) = stage.unwrap().join().unwrap();
    assert_eq!(after, before);
}
