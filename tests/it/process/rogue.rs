//! Others on the machine: no part of a start is within their reach, and they can start processes
//! themselves.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use offspring::ProcessBuilder;

use super::stage::binary;
use crate::support::copy_program;

/// A user without processes.
const NOBODY: u32 = 45_679;

/// Notes what is made in a directory, however short it is there.
struct Notes(i32);

impl Notes {
    fn of(directory: &Path) -> Notes {
        let path = CString::new(directory.as_os_str().as_bytes()).unwrap();
        // SAFETY: a text that ends with a NUL.
        let notes = unsafe { Notes(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC)) };
        let events = libc::IN_CREATE | libc::IN_MOVED_TO;
        // SAFETY: as above.
        let watch = unsafe { libc::inotify_add_watch(notes.0, path.as_ptr(), events) };
        assert!(watch >= 0);
        notes
    }

    /// All names so far, in one text.
    fn text(&self) -> String {
        let mut bytes = vec![0; 64 << 10];
        // SAFETY: a place of the length that is given.
        let count = unsafe { libc::read(self.0, bytes.as_mut_ptr().cast(), bytes.len()) };
        String::from_utf8_lossy(&bytes[..count.max(0) as usize]).into_owned()
    }
}

/// Returns the files that appear in the directory for temporary files: those of starts, and those
/// of the test itself.
#[offspring::worker]
fn start_under_eyes() -> (String, String) {
    let notes = Notes::of(&std::env::temp_dir());
    for text in ["x".repeat(10), "x".repeat(100_000)] {
        (0..5).for_each(|_| assert_eq!(echo::spawn(text.clone()).unwrap().join().unwrap(), text));
    }
    let by_starts = notes.text();
    fs::write(std::env::temp_dir().join("by hand"), "").unwrap();
    (by_starts, notes.text())
}

#[offspring::worker]
fn echo(text: String) -> String {
    text
}

/// So no directory for temporary files is needed, and no socket of a start can be found there.
#[offspring::test(timeout = "30s")]
fn a_start_makes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let stage =
        ProcessBuilder::new().env("TMPDIR", directory.path()).spawn(start_under_eyes::new());
    let (by_starts, by_hand) = stage.unwrap().join().unwrap();
    assert_eq!(by_starts, "");
    assert!(by_hand.contains("by hand"), "{by_hand}");
}

fn is_root() -> bool {
    // SAFETY: always allowed.
    unsafe { libc::geteuid() == 0 }
}

/// Returns a copy of this binary that every user can execute, and a directory for temporary files
/// that every user can use.
fn public_copy() -> ([tempfile::TempDir; 2], PathBuf, PathBuf) {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    // On another file system than the binary, where there is one.
    let elsewhere =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in("/tmp")).unwrap();
    let (copy, temporary) = (directory.path().join("copy"), elsewhere.path().join("t"));
    copy_program(&binary(), &copy);
    fs::create_dir(&temporary).unwrap();
    for (path, mode) in
        [(directory.path(), 0o755), (elsewhere.path(), 0o755), (&copy, 0o755), (&temporary, 0o1777)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    ([directory, elsewhere], copy, temporary)
}

/// Limits apply to users other than root. So the tests about limits, and those about starts and
/// ends, run once more as such a user, who also has few descriptors, and temporary files elsewhere.
#[offspring::test(timeout = "120s")]
fn another_user_than_root_can_start_processes() {
    if !is_root() {
        println!("skipped: this user is none but itself");
        return;
    }
    let (_directories, copy, temporary) = public_copy();
    let mut tests = Command::new("sh");
    tests.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]).arg(&copy);
    tests.args([
        "process::limits",
        "process::start",
        "process::arguments",
        "process::join",
        "process::stop::",
    ]);
    tests.arg("--test-threads=2");
    tests.uid(NOBODY).gid(NOBODY).current_dir("/").env("TMPDIR", &temporary);
    let output = tests.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("0 failed"), "{text}");
    assert!(text.lines().filter(|line| line.ends_with(" ... ok")).count() > 50, "{text}");
}

/// Runs in a program with a set-user-id bit whose caller pretends to start it as a child.
#[offspring::test]
#[ignore = "part of `an_elevated_program_is_no_child`"]
fn inner_elevated() {
    if super::stage::is_inner() {
        // SAFETY: reads a value that the system passed to this process when it started.
        println!("elevated: {}", unsafe { libc::getauxval(libc::AT_SECURE) });
    }
}

#[offspring::test(timeout = "30s")]
fn an_elevated_program_is_no_child() {
    if !is_root() {
        println!("skipped: only root can give a program the rights of root");
        return;
    }
    let (_directories, copy, _temporary) = public_copy();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    let (mut ours, theirs) = packet_sockets();
    let mut program = super::stage::inner_program(&copy, "process::rogue::inner_elevated");
    program.uid(NOBODY).gid(NOBODY).current_dir("/");
    program.env("OFFSPRING_CHILD", concat!(env!("CARGO_PKG_VERSION"), " intruder"));
    let output = program.stdin(theirs).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A file system that is mounted without set-user-id bits grants no rights.
    if !text.contains("elevated: 0") {
        assert!(text.contains("elevated: 1"), "{text}");
    }
    drop(program);
    // A child would have waited for its first message, or sent one.
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut ours, &mut answer).unwrap();
    assert!(answer.is_empty());
}

/// Runs in a child of another version of this crate, before the `init` of that version.
#[offspring::test]
#[ignore = "part of `a_child_of_another_version_is_left_to_it`"]
fn inner_of_another_version() {
    if super::stage::is_inner() {
        assert_eq!(std::env::var("OFFSPRING_CHILD").unwrap(), "99.0.0 foreign", "it stays");
        assert_eq!(super::stage::answer::spawn().unwrap().join().unwrap(), 42);
        println!("it has children of its own");
    }
}

#[offspring::test(timeout = "30s")]
fn a_child_of_another_version_is_left_to_it() {
    let (mut ours, theirs) = packet_sockets();
    let name = "process::rogue::inner_of_another_version";
    let mut program = super::stage::inner_program(&super::stage::binary(), name);
    program.env("OFFSPRING_CHILD", "99.0.0 foreign");
    let output = program.stdin(theirs).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("it has children of its own"), "{text}");
    drop(program);
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut ours, &mut answer).unwrap();
    assert!(answer.is_empty(), "the control socket is the other version's");
}

/// A pair of packet sockets, like that of a parent and its child.
fn packet_sockets() -> (fs::File, std::os::fd::OwnedFd) {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors, which the values below own.
    unsafe {
        assert_eq!(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()), 0);
        let own = |end| <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(end);
        (own(ends[0]).into(), own(ends[1]))
    }
}
