//! What each thread gives up for itself: new privileges, capabilities, and what Landlock does not
//! allow.
//!
//! Landlock binds the calling thread and those that it starts. The main thread of a child is the
//! only one, unless a library has started others before `main`, or the child runs in a test
//! harness. Those threads bind themselves in a signal handler, which is also how C libraries change
//! the user of all threads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::sys::{futex_wait, futex_wake_all};

/// How long a thread may take to handle the signal.
const PATIENCE: Duration = Duration::from_secs(2);
/// C libraries keep this signal to themselves, so a thread that blocks all signals does not block
/// it. They use it when a program changes its user, or cancels a thread.
const SIGNAL: libc::c_int = 33;

static RULESET: AtomicI32 = AtomicI32::new(-1);
static ANSWERS: AtomicU32 = AtomicU32::new(0);
/// The error number of a thread that failed; 0 if none did.
static FAILURE: AtomicI32 = AtomicI32::new(0);

/// Binds all threads of this process.
pub(super) fn bind_all(ruleset: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let ruleset = ruleset.map_or(-1, |ruleset| ruleset.as_raw_fd());
    if count()? > 1 {
        RULESET.store(ruleset, Ordering::SeqCst);
        let before = swap_action(SIGNAL, Some(action_of(bind_here)?))?;
        let outcome = bind_others();
        swap_action(SIGNAL, Some(before))?;
        outcome?;
    }
    // The calling thread comes last: once it is bound, it cannot list the others.
    result(bind(ruleset))
}

fn bind_others() -> io::Result<()> {
    // SAFETY: returns a number.
    let own = unsafe { libc::gettid() };
    let mut bound = vec![own];
    // Threads that are not bound yet may start others meanwhile; those that are bound may, too, and
    // their threads are bound from the start. So it ends once a listing finds no new one.
    loop {
        let new: Vec<i32> = list()?.into_iter().filter(|thread| !bound.contains(thread)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for &thread in &new {
            ask(thread)?;
        }
        bound.extend(new);
    }
}

fn ask(thread: i32) -> io::Result<()> {
    let answers = ANSWERS.load(Ordering::SeqCst);
    let deadline = Instant::now() + PATIENCE;
    // SAFETY: sends a signal, which has a handler, to a thread of this process.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
    if sent != 0 {
        let error = io::Error::last_os_error();
        // It has ended.
        return if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) };
    }
    while ANSWERS.load(Ordering::SeqCst) == answers {
        if !futex_wait(&ANSWERS, answers, Some(deadline)) {
            return Err(io::Error::other(format!(
                "thread {thread}, which was started before `main`, handles no signal"
            )));
        }
    }
    result(FAILURE.load(Ordering::SeqCst))
}

extern "C" fn bind_here(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let error = bind(RULESET.load(Ordering::SeqCst));
    if error != 0 {
        FAILURE.store(error, Ordering::SeqCst);
    }
    ANSWERS.fetch_add(1, Ordering::SeqCst);
    futex_wake_all(&ANSWERS);
}

/// Binds the calling thread. Returns an error number, or 0. May run in a handler of a signal, and
/// leaves `errno` as it was.
fn bind(ruleset: i32) -> i32 {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    // Effective, permitted and inheritable, in two halves.
    let none = [0_u32; 6];
    // SAFETY: the pointers are to values that live long enough; `errno` is the thread's own.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let ok = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) == 0
            && (ruleset < 0 || libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) == 0);
        let failure = if ok { 0 } else { *errno };
        *errno = before;
        failure
    }
}

fn result(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Returns the number of this process's threads.
fn count() -> io::Result<usize> {
    // A directory has two more links than directories in it.
    let links = rustix::fs::stat("/proc/self/task")?.st_nlink as usize;
    if links > 2 { Ok(links - 2) } else { list().map(|threads| threads.len()) }
}

fn list() -> io::Result<Vec<i32>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        threads.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(threads)
}

type ActionHandler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
/// What a signal does, as the kernel writes it: no system has more than these four words.
type Action = [usize; 4];

/// Returns the action that runs a handler, as the C library writes it. To get it, sets it for a
/// signal that programs may use, and then restores that signal's own action.
fn action_of(handler: ActionHandler) -> io::Result<Action> {
    const OTHER: libc::c_int = libc::SIGSYS;
    let before = swap_action(OTHER, None)?;
    // SAFETY: plain data, whose fields are all set. Nothing sends this signal before it has its own
    // action again; the handler would only make calls that are allowed in one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
        if libc::sigaction(OTHER, &action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    swap_action(OTHER, Some(before))
}

/// Sets what a signal does, and returns what it did before. The C library's function refuses
/// [`SIGNAL`].
fn swap_action(signal: libc::c_int, new: Option<Action>) -> io::Result<Action> {
    let mut before: Action = [0; 4];
    let new = new.as_ref().map_or(std::ptr::null(), |new| new.as_ptr());
    // SAFETY: the kernel reads and writes at most four words. The new action is one that the kernel
    // or the C library wrote.
    let outcome = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, new, before.as_mut_ptr(), size_of::<u64>())
    };
    if outcome == 0 { Ok(before) } else { Err(io::Error::last_os_error()) }
}
