//! Somebody else reaches for a start: as the same user, who can but is not believed, and as another, who cannot.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipc_channel::ipc::IpcSender;
use offspring::Builder;

use super::stage::{answer, binary, inner_program, is_inner};
use crate::support::is_running;

/// A user that nobody is.
const NOBODY: u32 = 45_679;

fn entries(directory: PathBuf) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// The servers of starts that are under way.
fn servers() -> impl Iterator<Item = PathBuf> {
    let directories = entries(std::env::temp_dir()).filter(|path| path.to_string_lossy().contains("offspring-"));
    directories
        .flat_map(entries)
        .map(|path| path.join("socket"))
        .filter(|path| path.exists())
}

/// Connects once to each server, and says nonsense or nothing. It keeps the connections.
fn connect(speaks: bool, enough: &AtomicBool) {
    let (mut connections, mut known) = (Vec::new(), HashSet::new());
    while !enough.load(Ordering::Relaxed) {
        for server in servers().filter(|server| known.insert(server.clone())) {
            // The server may be gone by now, or served by the right one.
            let Ok(sender) = IpcSender::<Vec<u8>>::connect(server.to_str().unwrap().to_owned()) else {
                continue;
            };
            if speaks {
                let _ = sender.send(vec![7; 100]);
            }
            connections.push(sender);
        }
    }
}

/// Starts children until some have met the one above first.
#[offspring::worker]
fn start_beside_a_rogue(speaks: bool) -> Vec<String> {
    let enough = Arc::new(AtomicBool::new(false));
    let rogue = {
        let enough = enough.clone();
        std::thread::spawn(move || connect(speaks, &enough))
    };
    let mut outcomes = Vec::new();
    let began = Instant::now();
    while outcomes.iter().filter(|outcome: &&String| *outcome != "Ok(42)").count() < 3 && began.elapsed() < Duration::from_secs(20) {
        let builder = Builder::new().start_timeout(Duration::from_millis(500));
        outcomes.push(match builder.spawn(answer::new()) {
            Ok(child) => format!("{:?}", child.join()),
            Err(error) => format!("{error:?}"),
        });
    }
    enough.store(true, Ordering::Relaxed);
    rogue.join().unwrap();
    outcomes
}

#[offspring::test(timeout = "60s")]
fn who_connects_first_and_is_none_of_us_is_found_out() {
    for (speaks, kinds) in [(true, ["Failed", "Failed"]), (false, ["Timeout", "Failed"])] {
        let directory = tempfile::tempdir().unwrap();
        let stage = Builder::new()
            .env("TMPDIR", directory.path())
            .spawn(start_beside_a_rogue::new(speaks));
        let outcomes = stage.unwrap().join().unwrap();
        let (right, wrong): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| *outcome == "Ok(42)");
        assert!(wrong.len() >= 3, "the rogue came too late each time of {}", right.len());
        for outcome in wrong {
            assert!(kinds.iter().any(|kind| outcome.starts_with(kind)), "{outcome}");
        }
    }
}

/// Looks into the directories of starts, as another user: says how many it saw, and how many it could look into.
#[offspring::test]
#[ignore = "run by `another_user_cannot_look_into_a_start`"]
fn inner_spy() {
    if is_inner() {
        let (mut seen, mut opened) = (0, 0);
        let began = Instant::now();
        while seen < 50 && began.elapsed() < Duration::from_secs(15) {
            for path in entries(std::env::temp_dir()).filter(|path| path.to_string_lossy().contains("offspring-")) {
                match fs::read_dir(path) {
                    Ok(_) => opened += 1,
                    Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => seen += 1,
                    Err(_) => {}
                }
            }
        }
        println!("\nsaw some: {}, looked into: {opened}", seen > 0);
    }
}

fn is_root() -> bool {
    // SAFETY: always allowed.
    unsafe { libc::geteuid() == 0 }
}

/// A copy of this binary that anybody can execute, and a directory for temporary files that anybody can use.
fn public_copy() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let (copy, temporary) = (directory.path().join("copy"), directory.path().join("t"));
    fs::copy(binary(), &copy).unwrap();
    fs::create_dir(&temporary).unwrap();
    for (path, mode) in [(directory.path(), 0o755), (&copy, 0o755), (&temporary, 0o1777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    (directory, copy, temporary)
}

/// Starts children with this mask while the process with this pid runs.
#[offspring::worker]
fn start_under_eyes(mask: u32, spy: u32) {
    // SAFETY: always allowed.
    unsafe { libc::umask(mask) };
    while is_running(spy) {
        answer::spawn().unwrap().join().unwrap();
    }
}

#[offspring::test(timeout = "60s")]
fn another_user_cannot_look_into_a_start() {
    if !is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let (_directory, copy, temporary) = public_copy();
    for mask in [0o000, 0o002, 0o022] {
        let mut spy = inner_program(&copy, "process::rogue::inner_spy");
        spy.uid(NOBODY).gid(NOBODY).current_dir("/").env("TMPDIR", &temporary);
        let spy = spy.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let stage = Builder::new().env("TMPDIR", &temporary);
        stage.spawn(start_under_eyes::new(mask, spy.id())).unwrap().join().unwrap();
        let output = spy.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("saw some: true, looked into: 0"), "{text}");
    }
}

/// Limits hold for others than root: the tests about them, and those about starts, once more as such a user, who has
/// few descriptors as well.
#[offspring::test(timeout = "120s")]
fn another_user_than_root_can_start_processes() {
    if !is_root() {
        println!("skipped: this user is none but itself");
        return;
    }
    let (_directory, copy, temporary) = public_copy();
    let mut tests = Command::new("sh");
    tests.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]).arg(&copy);
    tests.args(["process::limits", "process::start", "--test-threads=2"]);
    tests.uid(NOBODY).gid(NOBODY).current_dir("/").env("TMPDIR", &temporary);
    let output = tests.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("0 failed"), "{text}");
    assert!(text.lines().filter(|line| line.ends_with(" ... ok")).count() > 15, "{text}");
}
