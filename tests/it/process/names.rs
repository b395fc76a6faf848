//! The names that the system shows for a child.

use std::fs;
use std::os::fd::OwnedFd;

use offspring::ProcessBuilder;
use offspring::unix::ProcessBuilderExt;

use super::stage::{binary, inner_program, is_inner, sleeper};
use crate::support::eventually;

/// The name in `ps -o comm`.
fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// The arguments in `ps -o args`.
fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    line.split_terminator('\0').map(str::to_owned).collect()
}

#[offspring::test(timeout = "20s")]
fn a_process_has_its_name_for_the_system_too() {
    for (name, shown) in [
        ("bob", "bob"),
        ("a name with more than 15 bytes", "a name with mor"),
        // Not cut within a letter.
        ("fourteen bytes\u{e9}", "fourteen bytes"),
    ] {
        let child = ProcessBuilder::new().name(name).spawn(sleeper::new()).unwrap();
        assert_eq!(comm(child.pid()), shown);
        child.kill();
    }
}

#[offspring::test(timeout = "20s")]
fn a_process_has_its_parents_first_argument_unless_it_is_chosen() {
    let child = sleeper::spawn().unwrap();
    assert_eq!(arguments(child.pid())[0], arguments(std::process::id())[0]);
    child.kill();
    let child = ProcessBuilder::new().arg0("chosen").spawn(sleeper::new()).unwrap();
    assert_eq!(arguments(child.pid())[0], "chosen");
    child.kill();
}

#[offspring::test]
#[ignore = "run by another test"]
fn inner_of_nobody() {
    assert!(!is_inner(), "a child does not come here");
}

/// A child whose parent sends no message, so that it stays in the middle of its start.
#[offspring::test(timeout = "20s")]
fn a_process_has_its_name_before_anything_else_happens() {
    let mut ends = [0; 2];
    // SAFETY: the call writes two descriptors, which have no other owner.
    let (ours, theirs) = unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        assert_eq!(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()), 0);
        let own = |fd| <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd);
        (own(ends[0]), own(ends[1]))
    };
    let mut command = inner_program(&binary(), "process::names::inner_of_nobody");
    command.env("OFFSPRING_CHILD", concat!(env!("CARGO_PKG_VERSION"), " early bird"));
    let mut child = command.stdin(theirs).spawn().unwrap();
    eventually("it has its name", || comm(child.id()) == "early bird");
    drop((command, ours));
    // To the child, its parent looks dead.
    assert!(!child.wait().unwrap().success());
}
