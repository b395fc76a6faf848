//! Systems that refuse what a start needs: no room for temporary files, no descriptors, no
//! processes.

use std::io::Read;

use offspring::shared::{SharedBytes, SharedSlice};
use offspring::sync::Mutex;
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{ProcessBuilder, Queue, Sender, Stdio, channel};

use super::stage::{Census, answer, descriptors};
use crate::support::eventually;

#[offspring::worker]
fn start_one() -> u32 {
    answer::spawn().unwrap().join().unwrap()
}

#[offspring::test(timeout = "20s")]
fn a_useless_tmpdir_does_no_harm() {
    let long = format!("/tmp/{}", "long/".repeat(40));
    // Missing; not writable, even for root; too long for a socket; not a directory; relative;
    // empty.
    for directory in ["/nowhere/at/all", "/proc/self", long.as_str(), "/dev/null", "relative", ""] {
        let stage = ProcessBuilder::new().env("TMPDIR", directory).spawn(start_one::new());
        assert_eq!(stage.unwrap().join().unwrap(), 42, "{directory}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_long_tmpdir_that_is_there_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("x".repeat(200));
    std::fs::create_dir(&long).unwrap();
    let stage = ProcessBuilder::new().env("TMPDIR", &long).spawn(start_one::new());
    assert_eq!(stage.unwrap().join().unwrap(), 42);
    assert_eq!(std::fs::read_dir(&long).unwrap().count(), 0);
}

fn limit(resource: libc::__rlimit_resource_t, value: Option<usize>) {
    // SAFETY: the struct is filled by `getrlimit` before it is read; only the soft limit changes.
    unsafe {
        let mut limits: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(resource, &mut limits), 0);
        limits.rlim_cur = value.map_or(limits.rlim_max, |value| value as libc::rlim_t);
        assert_eq!(libc::setrlimit(resource, &limits), 0);
    }
}

/// Starts a child with one descriptor more each time, until it starts. Gives the errors on the way.
#[offspring::worker]
fn start_with_few_descriptors(length: usize) -> (Vec<String>, Census, Census) {
    let child = || {
        let builder = ProcessBuilder::new()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        builder.spawn(reversed::new("x".repeat(length)))
    };
    child().unwrap().join().unwrap();
    // The reaper lets go of the last output a moment after it reported the end.
    answer::spawn().unwrap().join().unwrap();
    let before = Census::take();
    // All numbers below the highest are open then.
    let mut fillers = Vec::new();
    let highest = descriptors().len() + 100;
    limit(libc::RLIMIT_NOFILE, Some(highest));
    while let Ok(filler) = std::fs::File::open("/dev/null") {
        fillers.push(filler);
    }
    let mut errors = Vec::new();
    let mut joins = 0;
    while joins < 5 {
        match child() {
            Ok(child) => {
                // The output is as long.
                match child.join() {
                    Ok(text) => {
                        assert_eq!(text.len(), length);
                        joins += 1;
                    }
                    Err(error) => errors.push(format!("join: {error:?}")),
                }
            }
            Err(error) => errors.push(format!("{error:?}")),
        }
        assert!(fillers.pop().is_some(), "{errors:?}");
    }
    drop(fillers);
    limit(libc::RLIMIT_NOFILE, None);
    child().unwrap().join().unwrap();
    answer::spawn().unwrap().join().unwrap();
    (errors, before, Census::take())
}

#[offspring::worker]
fn reversed(text: String) -> String {
    text.chars().rev().collect()
}

#[offspring::test(timeout = "30s")]
fn without_descriptors_a_start_is_an_error_and_works_again_later() {
    // In memory of its own, and in the first message.
    [100_000, 10].into_iter().for_each(sweep_descriptors);
}

fn sweep_descriptors(length: usize) {
    let directory = tempfile::tempdir().unwrap();
    let stage = ProcessBuilder::new().env("TMPDIR", directory.path()).stderr(Stdio::piped());
    let mut stage = stage.spawn(start_with_few_descriptors::new(length)).unwrap();
    let mut printed = String::new();
    stage.take_stderr().unwrap().read_to_string(&mut printed).unwrap();
    let (errors, before, after) = stage.join().unwrap();
    // ipc-channel panics where descriptors are short; its text is not printed.
    assert_eq!(printed, "");
    assert_eq!(after, before);
    assert!(errors.len() > 5, "the scene is set: {errors:?}");
    for error in &errors {
        assert!(
            error.starts_with("Io (")
                || error.starts_with("Failed (")
                || error.starts_with("join: Output"),
            "{error}"
        );
    }
}

/// Ends a child while this process has `free` descriptors. Returns the errors of its joins, and the
/// lengths that it returned.
#[offspring::worker]
fn reap_with_few_descriptors(free: usize) -> (Vec<String>, Vec<usize>) {
    let go = SharedSlice::<u32>::zeroed(1).unwrap();
    let child = return_memory::spawn(go.clone()).unwrap();
    limit(libc::RLIMIT_NOFILE, Some(descriptors().len() + 20));
    let mut fillers = Vec::new();
    while let Ok(filler) = std::fs::File::open("/dev/null") {
        fillers.push(filler);
    }
    fillers.truncate(fillers.len() - free);
    go.set(0, 1);
    // The reaper takes the status.
    eventually("it has ended", || !child.is_alive());
    let mut errors = Vec::new();
    loop {
        match child.join() {
            Ok(output) => return (errors, output.iter().map(|bytes| bytes.len()).collect()),
            Err(error) => errors.push(format!("{error:?}")),
        }
        assert!(fillers.pop().is_some(), "{errors:?}");
    }
}

#[offspring::worker]
fn return_memory(go: SharedSlice<u32>) -> Vec<SharedBytes> {
    eventually("the parent is ready", || go.get(0) == Some(1));
    (1..=8).map(|length| SharedBytes::copy_from(&vec![7; length]).unwrap()).collect()
}

#[offspring::test(timeout = "30s")]
fn an_output_stays_until_its_parent_has_descriptors_for_it() {
    // None is free; one, for the channel that the output is in; some, but not for all of it.
    for free in [0, 1, 2, 4] {
        let (errors, lengths) = reap_with_few_descriptors::spawn(free).unwrap().join().unwrap();
        assert_eq!(lengths, [1, 2, 3, 4, 5, 6, 7, 8], "{free} free: {errors:?}");
        assert!(!errors.is_empty(), "the scene is set");
        assert!(errors.iter().all(|error| error.contains("join again later")), "{errors:?}");
    }
}

/// Becomes a user with few processes. Returns the results of a start before, at and after the
/// limit.
#[offspring::worker]
fn start_with_few_processes() -> Option<[String; 2]> {
    // SAFETY: always allowed.
    if unsafe { libc::geteuid() } != 0 {
        // The user's other processes count, and are not ours to know.
        return None;
    }
    answer::spawn().unwrap().join().unwrap();
    // SAFETY: no pointer is involved. No other process has this user.
    // Who changed its user cannot read its own `/proc`, unless it is made dumpable again.
    unsafe {
        assert_eq!(libc::setresuid(45_678, 45_678, 45_678), 0);
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    }
    limit(libc::RLIMIT_NPROC, Some(1));
    let refused = format!("{:?}", answer::spawn().map(|child| child.pid()));
    limit(libc::RLIMIT_NPROC, None);
    let later = format!("{:?}", answer::spawn().unwrap().join());
    Some([refused, later])
}

#[offspring::test(timeout = "20s")]
fn without_processes_a_start_is_an_error_and_works_again_later() {
    // Only root can become another user.
    let stage = ProcessBuilder::new().env("TMPDIR", "/tmp").spawn(start_with_few_processes::new());
    if let Some([refused, later]) = stage.unwrap().join().unwrap() {
        assert!(refused.starts_with("Err(Io (") && refused.contains("os error 11"), "{refused}");
        assert_eq!(later, "Ok(42)");
    }
}

/// Returns the errors of its calls, each of which needs more than 4096 bytes of memory.
#[offspring::worker]
fn share_without_files(queue: Queue<Vec<u8>>, sender: Sender<u32>) -> Vec<String> {
    let own = Queue::unbounded().unwrap();
    own.put(vec![1; 100]).unwrap();
    let errors: [Box<dyn std::error::Error>; 6] = [
        queue.put(vec![1]).unwrap_err().into(),
        sender.send(1).unwrap_err().into(),
        own.put(vec![1; 100_000]).unwrap_err().into(),
        SharedBytes::copy_from(&[1; 5000]).unwrap_err().into(),
        SharedSlice::<u8>::zeroed(5000).map(drop).unwrap_err().into(),
        Mutex::<[u8]>::from_slice(&[1; 5000]).map(drop).unwrap_err().into(),
    ];
    errors.map(|error| error.to_string()).into()
}

#[offspring::test(timeout = "20s")]
fn a_limit_of_file_sizes_is_an_error_of_each_call_and_no_signal() {
    let (queue, (sender, _receiver)) = (Queue::unbounded().unwrap(), channel().unwrap());
    let limited = ProcessBuilder::new().rlimit(Resource::FileSize, 4096, 4096);
    let errors = limited.spawn(share_without_files::new(queue, sender)).unwrap().join().unwrap();
    for error in errors {
        assert!(error.to_lowercase().contains("file too large"), "{error}");
    }
}
