//! Not enough memory: for a worker, and for a start.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{ExitReason, ProcessBuilder, Stdio};

use super::stage::answer;

/// Takes memory, and uses it, as soon as its stdin ends.
#[offspring::worker]
fn take_memory(megabytes: usize) {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    let taken: Vec<Vec<u8>> = (0..megabytes).map(|_| vec![1; 1 << 20]).collect();
    assert_eq!(std::hint::black_box(taken).len(), megabytes);
}

#[offspring::test(timeout = "20s")]
fn a_worker_whose_allocation_fails_is_told_to_have_aborted() {
    let builder = ProcessBuilder::new().stdin(Stdio::piped()).stderr(Stdio::piped());
    let builder = builder.rlimit(Resource::AddressSpace, 1 << 30, 1 << 30);
    let mut child = builder.spawn(take_memory::new(2000)).unwrap();
    drop(child.take_stdin());
    let mut text = String::new();
    child.take_stderr().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("memory allocation of 1048576 bytes failed"), "{text}");
    let error = child.join().unwrap_err();
    assert!(
        matches!(error.reason(), Some(ExitReason::Signaled { signal: libc::SIGABRT, .. })),
        "{error}"
    );
}

/// A group of processes that may have this much memory together; removed on drop.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> std::io::Result<Group> {
        let name = format!("offspring-test-{}", std::process::id());
        let (old, new) = (PathBuf::from("/sys/fs/cgroup/memory"), PathBuf::from("/sys/fs/cgroup"));
        let (place, limit) =
            if old.exists() { (old, "memory.limit_in_bytes") } else { (new, "memory.max") };
        let group = Group(place.join(name));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join(limit), bytes.to_string())?;
        // Without swap, where there is such a thing.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        Ok(group)
    }

    fn add(&self, pid: u32) -> std::io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The system kills it then, as it does when a whole machine has no memory left.
#[offspring::test(timeout = "30s")]
fn a_worker_that_the_system_kills_for_want_of_memory_is_told_to_be_killed() {
    let mut child =
        ProcessBuilder::new().stdin(Stdio::piped()).spawn(take_memory::new(400)).unwrap();
    let group = match Group::new(100 << 20).and_then(|group| group.add(child.pid()).map(|()| group))
    {
        Ok(group) => group,
        Err(error) => {
            child.kill();
            println!("skipped: no control group: {error}");
            return;
        }
    };
    child.take_stdin().unwrap().flush().unwrap();
    let error = child.join_timeout(Duration::from_secs(20)).unwrap_err();
    assert_eq!(child.exit_reason().unwrap().code(), Some(-libc::SIGKILL), "{error}");
    assert!(error.to_string().contains("out-of-memory"), "{error}");
    drop(group);
}

/// The result of a start with this many megabytes.
#[offspring::worker]
fn start_with_little_memory() -> Vec<(u64, String, Duration)> {
    let start = |megabytes: u64| {
        let began = Instant::now();
        let builder = ProcessBuilder::new().stderr(Stdio::null()).rlimit(
            Resource::AddressSpace,
            megabytes << 20,
            megabytes << 20,
        );
        let outcome = match builder.spawn(answer::new()) {
            Ok(child) => format!("{:?}", child.join()),
            Err(error) => format!("{error:?}"),
        };
        (megabytes, outcome, began.elapsed())
    };
    (0..14).map(|power| start(1 << power)).chain((1..40).map(|n| start(4 * n))).collect()
}

#[offspring::test(timeout = "60s")]
fn with_too_little_memory_a_start_is_an_error_in_time() {
    let outcomes = start_with_little_memory::spawn().unwrap().join().unwrap();
    assert!(outcomes.iter().any(|(_, outcome, _)| outcome == "Ok(42)"), "{outcomes:?}");
    for (megabytes, outcome, took) in &outcomes {
        let expected = ["Ok(42)", "Died (", "Failed (", "Io (", "Err(Ended"];
        assert!(expected.iter().any(|start| outcome.starts_with(start)), "{megabytes}: {outcome}");
        assert!(*took < Duration::from_secs(5), "{megabytes}: {outcome} {took:?}");
    }
    assert!(
        outcomes[0].1.starts_with("Died (") || outcomes[0].1.starts_with("Io ("),
        "{outcomes:?}"
    );
}
