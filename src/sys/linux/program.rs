//! The running program: its image, name, environment and end.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::poll::retry;

/// Returns a command that starts the running image again, even if its file was deleted or replaced.
pub(crate) fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    // Without it `ps` would show the link's name.
    if let Some(arg0) = std::env::args_os().next() {
        command.arg0(arg0);
    }
    command
}

/// Whether /proc is mounted.
pub(crate) fn has_proc() -> bool {
    std::fs::exists("/proc/self").unwrap_or(true)
}

/// Returns what distinguishes the running executable file from others.
pub(crate) fn image_identity() -> io::Result<[u64; 4]> {
    let file = std::fs::metadata("/proc/self/exe")?;
    Ok([file.dev(), file.ino(), file.len(), file.mtime_nsec() as u64 ^ file.mtime() as u64])
}

/// Sets the name that `ps` and `top` show. The system keeps its first 15 bytes.
pub(crate) fn set_process_name(name: &str) {
    let end = (0..=name.len().min(15)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    let short = &name[..end];
    // A process has the name of its main thread, and a test runs on another thread. The name is
    // only a label, so errors are ignored.
    if is_main_thread() {
        let _ = std::ffi::CString::new(short).map(|short| rustix::thread::set_name(&short));
    } else {
        let _ = std::fs::write("/proc/self/comm", short);
    }
}

/// Returns whether this is the thread that runs `main`.
pub(crate) fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Removes a variable from the environment.
///
/// Called by `init` in a new child, before any user code runs.
pub(crate) fn remove_env(name: &str) {
    // SAFETY: a new child has started no thread that reads the environment. `init` is the first
    // call in `main`, or in a test that runs alone in its harness, whose main thread only waits.
    unsafe { std::env::remove_var(name) };
}

/// Runs `hook` when the process exits: after `main`, by `process::exit` or after a panic in `main`.
pub(crate) fn at_exit(hook: extern "C" fn()) {
    // SAFETY: `hook` is a plain function that lives as long as the program. If there is no memory
    // to register it, the children still end with this process, by their liveness pipe.
    unsafe { libc::atexit(hook) };
}

/// Has the system kill this process with SIGKILL unless it exits within `limit`. A later call
/// replaces the limit; `None` removes it. If the system grants no timer, there is no limit.
pub(crate) fn end_within(limit: Option<Duration>) {
    // A `timer_t` is a number here, whatever its type.
    static TIMER: OnceLock<Option<usize>> = OnceLock::new();
    if limit.is_none() && TIMER.get().is_none() {
        return;
    }
    let timer = TIMER.get_or_init(|| {
        // SAFETY: `event` is plain data, of which `timer_create` reads the fields that are set
        // here; it writes its answer to `timer`.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = libc::SIGKILL;
            let mut timer: libc::timer_t = std::mem::zeroed();
            let made = libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) == 0;
            made.then_some(timer as usize)
        }
    });
    let Some(timer) = *timer else {
        return;
    };
    let limit = limit.unwrap_or_default();
    // SAFETY: the timer was made above and is never deleted; the time is plain data. Zero stops it.
    unsafe {
        let mut time: libc::itimerspec = std::mem::zeroed();
        time.it_value.tv_sec = libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX);
        time.it_value.tv_nsec = limit.subsec_nanos() as libc::c_long;
        libc::timer_settime(timer as libc::timer_t, 0, &time, std::ptr::null_mut());
    }
}

/// Returns whether this program has rights that its caller lacks, by a set-user-id bit or by
/// capabilities of its file. If so, it must not trust anything that the caller passes to it.
pub(crate) fn is_elevated() -> bool {
    // SAFETY: reads a value that the kernel passed to this process when it started.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Ends the process at once: no exit hooks, no destructors, no flush.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is always allowed.
    unsafe { libc::_exit(code) }
}

/// Returns unpredictable random bytes.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += retry(|| {
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
        })?;
    }
    Ok(bytes)
}

/// Returns the resident memory of a process in bytes; `None` if it is gone.
pub(crate) fn resident_memory(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
