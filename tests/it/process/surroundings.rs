//! Places in which a program is not at home: without /proc, without pidfds, and workers that become
//! another program.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use offspring::process::Backend;
use offspring::shared::SharedSlice;
use offspring::sync::Mutex;
use offspring::{ExitReason, JoinError, Pool, ProcessBuilder, Queue, Sender, channel};

use super::stage::answer;
use crate::support::{eventually, is_running};

/// Enters a directory without anything, and tries to start a process, alone and in a pool. Returns
/// the errors.
#[offspring::worker]
fn start_without_proc(jobs: Queue<u32>, count: Mutex<u64>) -> [String; 2] {
    jobs.put(1).unwrap();
    let empty = tempfile::tempdir().unwrap();
    std::os::unix::fs::chroot(empty.path()).unwrap();
    std::env::set_current_dir("/").unwrap();
    // All else works.
    jobs.put(2).unwrap();
    *count.lock().unwrap() += 1;
    let own = Queue::unbounded().unwrap();
    own.put(3).unwrap();
    assert_eq!(own.get().unwrap(), 3);
    *Mutex::new(4).unwrap().lock().unwrap() += 1;
    SharedSlice::<u64>::zeroed(100).unwrap().set(99, 5);
    let alone = answer::spawn().unwrap_err();
    let in_pool = Pool::new(1).unwrap_err();
    [alone.to_string(), in_pool.to_string()]
}

#[offspring::test(timeout = "20s")]
fn without_proc_a_start_says_what_is_missing_and_all_else_works() {
    // SAFETY: it only asks.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root may change the root directory");
        return;
    }
    let (jobs, count) = (Queue::unbounded().unwrap(), Mutex::new(0).unwrap());
    let worker = start_without_proc::spawn(jobs.clone(), count.clone()).unwrap();
    for error in worker.join().unwrap() {
        assert!(error.contains("which needs /proc"), "{error}");
    }
    assert_eq!((jobs.get().unwrap(), jobs.get().unwrap()), (1, 2));
    assert_eq!(*count.lock().unwrap(), 1);
}

/// From here on `pidfd_open` does not exist, as under valgrind 3.19 and in some emulators.
fn forget_pidfds() {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut filter = [
        libc::sock_filter { code: load, jt: 0, jf: 0, k: 0 }, // the number of the call
        libc::sock_filter { code: jump, jt: 0, jf: 1, k: libc::SYS_pidfd_open as u32 },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: no_such_call },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program =
        libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_mut_ptr() };
    // SAFETY: the program is as long as it says, and the system copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

#[offspring::worker]
fn start_without_pidfds() -> (String, u32) {
    forget_pidfds();
    let error = answer::spawn().unwrap_err().to_string();
    let inline = ProcessBuilder::new().backend(Backend::Inline).spawn(answer::new()).unwrap();
    (error, inline.join().unwrap())
}

#[offspring::test(timeout = "20s")]
fn under_a_tool_that_knows_no_pidfds_a_start_says_what_works() {
    let (error, inline) = start_without_pidfds::spawn().unwrap().join().unwrap();
    assert!(error.contains("OFFSPRING_BACKEND=inline"), "{error}");
    assert_eq!(inline, 42);
}

/// Becomes another program.
#[offspring::worker]
fn become_another(program: String, argument: String) {
    panic!("{}", Command::new(program).arg(argument).exec());
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_becomes_another_program_ends_with_it() {
    let become_it =
        |program: &str| become_another::spawn(program.to_owned(), "1000".to_owned()).unwrap();
    let done = become_it("true");
    let Err(JoinError::Ended { reason, .. }) = done.join() else { panic!("it did not return") };
    assert_eq!(reason, ExitReason::Exited(0), "it never returned from `run`");
    let sleeper = become_it("sleep");
    assert!(sleeper.join_timeout(Duration::from_millis(50)).unwrap_err().is_timeout());
    sleeper.terminate();
    assert_eq!(sleeper.join().unwrap_err().reason().and_then(ExitReason::code), Some(-15));
    // A task is such a worker, too.
    let pool = Pool::builder().workers(1).task_timeout(Duration::from_millis(200)).build().unwrap();
    let task = become_another::new("sleep".to_owned(), "1000".to_owned());
    assert!(pool.run(task).unwrap_err().is_time_limit());
    assert_eq!(pool.run(answer::new()).unwrap(), 42);
}

/// Starts one that becomes another program, tells its pid, and dies.
#[offspring::worker]
fn die_beside_another(pid: Sender<u32>) {
    let other = become_another::spawn("sleep".to_owned(), "1000".to_owned()).unwrap();
    eventually("it is another program", || {
        std::fs::read_to_string(format!("/proc/{}/comm", other.pid())).unwrap() == "sleep\n"
    });
    pid.send(other.pid()).unwrap();
    std::process::abort();
}

/// What docs/gotchas.md says: the leash does not cross an exec.
#[offspring::test(timeout = "20s")]
fn another_program_outlives_the_parent() {
    let (sender, pid) = channel().unwrap();
    assert!(die_beside_another::spawn(sender).unwrap().join().is_err());
    let pid = pid.recv().unwrap();
    let lives = is_running(pid);
    crate::support::signal(pid, "KILL");
    assert!(lives);
}
