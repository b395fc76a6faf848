//! Workers that end when they make a forbidden call.

use std::fs::File;
use std::net::TcpStream;

use offspring::pool::TaskError;
use offspring::process::Sandbox;
use offspring::{ExitReason, Pool};

use super::caged_in;

#[offspring::worker]
fn break_out(how: u8) {
    // The results do not matter: none of these calls returns.
    match how {
        0 => drop(File::open("/etc/passwd")),
        1 => drop(TcpStream::connect("127.0.0.1:1")),
        2 => drop(std::process::Command::new("/bin/true").status()),
        // On another thread.
        3 => drop(std::thread::spawn(|| File::open("/etc/passwd").is_ok()).join()),
        // SAFETY: takes numbers.
        4 => unsafe {
            libc::syscall(libc::SYS_keyctl, 0, -3, 1);
        },
        // A call without a name.
        // SAFETY: takes numbers.
        _ => unsafe {
            libc::syscall(libc::SYS_lookup_dcookie, 0, 0, 0);
        },
    }
}

#[offspring::worker]
fn block_the_signal() {
    // SAFETY: the set is plain data.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
    drop(File::open("/etc/passwd"));
}

#[offspring::worker]
fn handle_the_signal() {
    // SAFETY: ignores a signal.
    unsafe { libc::signal(libc::SIGSYS, libc::SIG_IGN) };
    drop(File::open("/etc/passwd"));
}

fn deadly() -> Sandbox {
    Sandbox::fields_only().kill_on_violation()
}

#[offspring::test(timeout = "60s")]
fn a_violation_ends_the_worker_and_its_reason_names_the_call() {
    // The C library blocks all signals while it starts a program.
    let names = [Some("`openat`"), Some("`socket`"), None, Some("`openat`"), Some("`keyctl`")];
    for (how, name) in names.into_iter().enumerate() {
        let worker = caged_in(deadly()).spawn(break_out::new(how as u8)).unwrap();
        let error = worker.join().unwrap_err();
        let Some(ExitReason::Forbidden { call }) = error.reason() else { panic!("{how}: {error}") };
        assert!(name.is_none() || call.as_deref() == name, "{how}: {error}");
        assert_eq!(worker.exit_reason().unwrap().code(), Some(-libc::SIGSYS));
        assert!(error.to_string().contains("its sandbox forbids"), "{error}");
    }
    let error = caged_in(deadly()).spawn(break_out::new(5)).unwrap().join().unwrap_err();
    assert!(error.to_string().contains("system call number"), "{error}");
}

#[offspring::test(timeout = "30s")]
fn a_worker_that_blocks_the_signal_ends_as_well() {
    let error = caged_in(deadly()).spawn(block_the_signal::new()).unwrap().join().unwrap_err();
    assert_eq!(error.reason(), Some(&ExitReason::Forbidden { call: None }), "{error}");
    // Its handler cannot be replaced: that is a violation.
    let error = caged_in(deadly()).spawn(handle_the_signal::new()).unwrap().join().unwrap_err();
    let Some(ExitReason::Forbidden { call }) = error.reason() else { panic!("{error}") };
    assert_eq!(call.as_deref(), Some("`rt_sigaction`"));
}

#[offspring::test(timeout = "30s")]
fn a_violation_costs_a_pool_one_task() {
    let pool =
        Pool::builder().workers(1).process(|_, builder| builder.sandbox(deadly())).build().unwrap();
    let error = pool.run(break_out::new(0)).unwrap_err();
    let TaskError::Died { reason, .. } = &error else { panic!("{error}") };
    assert!(matches!(reason, ExitReason::Forbidden { .. }), "{error}");
    assert_eq!(pool.run(super::handles::add::new(1, 2)).unwrap(), 3);
}
