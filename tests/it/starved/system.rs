//! Systems without room for files: no `/dev/shm`, and a full `/tmp`.

use std::ffi::CString;
use std::fs;

use super::calls::{CALLS, Kit, first_actor};

fn mount(kind: &str, at: &str, options: &str, flags: libc::c_ulong) -> bool {
    let text = |text: &str| CString::new(text).unwrap();
    let (kind, at, options) = (text(kind), text(at), text(options));
    // SAFETY: the texts end with a zero, and live until the call returns.
    0 == unsafe {
        let options = options.as_ptr().cast();
        libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options)
    }
}

/// Gives this process file systems of its own: nothing is in `/dev` but `null`, and `/tmp` is full.
fn take_away_files() -> bool {
    // SAFETY: affects only what this process sees.
    let is_alone = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    let null = libc::S_IFCHR | 0o666;
    is_alone
        && mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE)
        && mount("tmpfs", "/dev", "size=64k", 0)
        // SAFETY: the path ends with a zero.
        && unsafe { libc::mknod(c"/dev/null".as_ptr(), null, libc::makedev(1, 3)) } == 0
        && mount("tmpfs", "/tmp", "size=4k", 0)
        && fs::write("/tmp/full", [0; 8192]).is_err()
}

/// Returns whether this user could bring it about.
#[offspring::worker]
fn call_without_files() -> bool {
    if !take_away_files() {
        return false;
    }
    for call in CALLS {
        Kit::default().attempt(call).unwrap_or_else(|error| panic!("{call:?}: {error}"));
    }
    true
}

#[offspring::test(timeout = "120s")]
fn nothing_needs_room_for_files() {
    let _first = first_actor();
    let stage = offspring::ProcessBuilder::new().env("TMPDIR", "/tmp");
    let is_done = stage.spawn(call_without_files::new()).unwrap().join().unwrap();
    // SAFETY: always allowed.
    let is_root = unsafe { libc::geteuid() } == 0;
    println!("without files: {is_done} (root: {is_root})");
}
