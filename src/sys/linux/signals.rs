//! Signal masks and dispositions.

use std::io;

/// Runs `call` with all signals blocked on this thread, for calls that cannot be retried on EINTR.
pub(crate) fn with_signals_blocked<R>(call: impl FnOnce() -> R) -> R {
    struct RestoreMask(libc::sigset_t);
    impl Drop for RestoreMask {
        fn drop(&mut self) {
            // SAFETY: `self.0` is the mask that `pthread_sigmask` wrote below.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    let _restore = RestoreMask(set_signal_mask(true));
    call()
}

fn set_signal_mask(full: bool) -> libc::sigset_t {
    // SAFETY: both sets are plain data, initialized by these calls before they are read. A thread
    // may set its own mask at any time.
    unsafe {
        let (mut new, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        if full {
            libc::sigfillset(&mut new);
        } else {
            libc::sigemptyset(&mut new);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &new, &mut old);
        old
    }
}

/// Resets the signals of a new child to those of a fresh program. A child inherits through exec
/// what its parent blocked or ignored, which would make `terminate` do nothing.
///
/// Some stay ignored. Rust ignores SIGPIPE. A parent that ignores SIGHUP or SIGQUIT was started by
/// `nohup`, or by a shell in the background, and its children should outlive the terminal as well.
/// Schedulers send SIGUSR1 and SIGUSR2 to all processes of a job, and terminals send the last
/// three.
pub(crate) fn reset_signals() {
    const KEPT: [libc::c_int; 8] = [
        libc::SIGPIPE,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| !KEPT.contains(signal)) {
        // SAFETY: reads a disposition into plain data, then sets it to the default. Handlers that
        // this process installed stay. For numbers that the system reserves, the call fails.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
            {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
    shrug_off_interrupts();
    set_signal_mask(false);
}

/// Makes SIGINT do nothing unless it has a handler. A terminal sends it to the whole foreground
/// group, and the parent decides what it means. Installs a handler, because an ignored signal
/// stays ignored in the programs that this one starts.
fn shrug_off_interrupts() {
    // SAFETY: the handler does nothing, which is always safe.
    unsafe { handle_if_default(libc::SIGINT, nothing) };
}

extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Sets SIGINT and SIGTERM back to their default, at the end of a program that handled them: it may
/// have to wait, on the very thread that its handler wakes. A worker that leaves these signals to
/// its parent still does.
pub(crate) fn stop_handling_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: reads a disposition into plain data, and sets the default in place of a handler.
        // The handler may run one last time on another thread, as it always might.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) != 0 {
                continue;
            }
            let own = [nothing as Handler as usize, end_if_from_parent as Handler as usize];
            if action.sa_sigaction != libc::SIG_IGN && !own.contains(&action.sa_sigaction) {
                libc::signal(signal, libc::SIG_DFL);
                // A program that reads its signals from a descriptor blocks them.
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, signal);
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
            }
        }
    }
}

/// Makes SIGTERM and SIGHUP do nothing unless this process's parent sends them. A signal that has a
/// handler or is ignored stays as it is. The programs that this one starts get the default.
pub(crate) fn shield_from_outside() {
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: see the handler.
        unsafe { handle_if_default(signal, end_if_from_parent) };
    }
}

extern "C" fn end_if_from_parent(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _: *mut libc::c_void,
) {
    // SAFETY: the system passes a valid `siginfo_t`, in which `kill` and `pidfd_send_signal`
    // set the sender's pid. These calls are all allowed in a handler. The signal is blocked
    // until the handler returns, and then ends the process.
    unsafe {
        if (*info).si_code == libc::SI_USER && (*info).si_pid() == libc::getppid() {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// Installs a handler, unless the signal has one or is ignored.
///
/// # Safety
///
/// The handler must do only what is allowed in a signal handler.
unsafe fn handle_if_default(signal: libc::c_int, handler: Handler) {
    // SAFETY: reads a disposition into plain data, and sets one whose fields are all initialized.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_DFL
        {
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Returns whether the system sends this signal to a process that did something wrong, such as an
/// access to memory that it does not have. A process may also send it to itself.
pub(crate) fn is_fault(signal: i32) -> bool {
    const FAULTS: [libc::c_int; 9] = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGSYS,
        libc::SIGXCPU,
        libc::SIGXFSZ,
    ];
    FAULTS.contains(&signal)
}

/// Starts a service thread. It blocks all signals from its first instruction on, so it never runs a
/// handler of the program.
pub(crate) fn service_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // The new thread inherits the mask of its creator.
    with_signals_blocked(|| std::thread::Builder::new().name(name.to_owned()).spawn(body)).map(drop)
}
