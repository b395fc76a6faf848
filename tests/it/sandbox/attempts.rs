//! What a worker that was taken over by an attacker would try.

use std::ffi::{CString, c_void};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::mem::{size_of, zeroed};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::ptr::{null, null_mut};

use offspring::shared::SharedBytes;
use serde::{Deserialize, Serialize};

use super::{Outcome, of_call, outcome};

/// What there is to attack.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Target {
    /// The process that started the worker.
    pub(super) parent: i32,
    /// A process that may be killed.
    pub(super) victim: i32,
    /// An address in the parent's memory.
    pub(super) address: u64,
    /// A port on which the parent listens.
    pub(super) port: u16,
    /// The path of a socket on which the parent listens.
    pub(super) socket: String,
    /// A directory with a file `file`.
    pub(super) directory: String,
    /// The program `true`, as bytes.
    pub(super) program: Vec<u8>,
    /// Read-only memory of the parent.
    pub(super) bytes: SharedBytes,
}

pub(super) struct Attempt {
    pub(super) name: &'static str,
    pub(super) run: fn(&Target) -> Outcome,
    /// The errors with which a system may refuse it to everyone: such calls are switched off on
    /// some, or need rights that the tests may not have.
    pub(super) elsewhere: &'static [i32],
}

/// Every system lets every process do it.
const NEVER: &[i32] = &[];
/// It takes the rights of root, or is not in every kernel.
const RIGHTS: &[i32] = &[libc::EPERM, libc::EACCES, libc::ENOSYS];

macro_rules! attempts {
    ($($name:ident: $elsewhere:expr, $run:expr;)*) => {
        &[$(Attempt { name: stringify!($name), run: $run, elsewhere: $elsewhere }),*]
    };
}

pub(super) const ATTEMPTS: &[Attempt] = attempts! {
    open: NEVER, |_| outcome(File::open("/etc/passwd"));
    open_old: NEVER, |_| open_old();
    openat2: &[libc::ENOSYS], |_| openat2();
    open_a_directory: NEVER, |_| outcome(fs::read_dir("/"));
    open_memory_of_itself: NEVER, |_| write_own_code();
    open_memory_of_parent: RIGHTS, |target| outcome(File::open(format!("/proc/{}/mem", target.parent)));
    create: NEVER, |target| outcome(File::create(format!("{}/new", target.directory)));
    truncate: NEVER, |target| {
        let path = path(&format!("{}/file", target.directory));
        // SAFETY: a path that ends in a zero.
        of_call(unsafe { libc::truncate(path.as_ptr(), 0) }.into())
    };
    chmod: NEVER, |target| outcome(fs::set_permissions(
        format!("{}/file", target.directory),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    ));
    utimes: NEVER, |target| {
        let path = path(&format!("{}/file", target.directory));
        // SAFETY: a path that ends in a zero; without times it is the current one.
        of_call(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), null(), 0) }.into())
    };
    rename: NEVER, |target| {
        let (from, to) = (format!("{}/file", target.directory), format!("{}/file2", target.directory));
        outcome(fs::rename(&from, &to).and_then(|()| fs::rename(to, from)))
    };
    link: NEVER, |target| outcome(symlink("/", format!("{}/link", target.directory)));
    mkdir: NEVER, |target| outcome(fs::create_dir(format!("{}/made", target.directory)));
    unlink: NEVER, |target| outcome(fs::remove_file(format!("{}/other", target.directory)));
    readlink: NEVER, |_| outcome(fs::read_link("/proc/self/exe"));
    chdir: NEVER, |_| outcome(std::env::set_current_dir("/"));
    watch_files: &[libc::EMFILE, libc::ENOSYS], |_| watch_files();
    connect_to_loopback: NEVER, |target| outcome(TcpStream::connect(("127.0.0.1", target.port)));
    connect_by_path: NEVER, |target| outcome(UnixStream::connect(&target.socket));
    datagram_socket: NEVER, |_| outcome(UdpSocket::bind("127.0.0.1:0"));
    netlink_socket: &[libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT], |_| {
        // SAFETY: takes numbers.
        of_call(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) }.into())
    };
    datagram_pair: NEVER, |_| {
        let mut pair = [0; 2];
        // SAFETY: there is room for two descriptors.
        of_call(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) }.into())
    };
    command: NEVER, |_| outcome(Command::new("/bin/true").status());
    execve: NEVER, |_| in_copy(|| execute("/bin/true"));
    fexecve_of_memory: NEVER, |target| in_copy(|| execute_memory(&target.program));
    fork: NEVER, |_| {
        // SAFETY: the copy ends at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: always allowed.
            unsafe { libc::_exit(0) }
        }
        of_call(pid.into())
    };
    worker_of_its_own: NEVER, |_| outcome(super::escapes::idle::spawn().map_err(|error| match error {
        offspring::SpawnError::Io { cause, .. } => cause,
        error => panic!("{error}"),
    }).map(|worker| worker.join().unwrap()));
    kill: NEVER, |target| {
        // SAFETY: takes numbers. The signal is none.
        of_call(unsafe { libc::kill(target.parent, 0) }.into())
    };
    kill_by_pidfd: &[libc::ENOSYS], |target| kill_by_pidfd(target.victim);
    kill_by_descriptor: NEVER, |target| kill_by_descriptor(target.victim);
    kill_a_thread: NEVER, |target| of_call(
        // SAFETY: takes numbers.
        unsafe { libc::syscall(libc::SYS_tgkill, target.parent, target.parent, 0) },
    );
    kill_the_group: NEVER, |_| {
        // SAFETY: takes numbers.
        of_call(unsafe { libc::kill(0, 0) }.into())
    };
    ptrace: RIGHTS, |target| {
        const PTRACE_SEIZE: libc::c_uint = 0x4206;
        // SAFETY: takes numbers. The end of this process undoes it.
        of_call(unsafe { libc::syscall(libc::SYS_ptrace, PTRACE_SEIZE, target.victim, 0, 0) })
    };
    process_vm_readv: RIGHTS, |target| process_vm(target, libc::SYS_process_vm_readv);
    process_vm_writev: RIGHTS, |target| process_vm(target, libc::SYS_process_vm_writev);
    descriptor_of_parent: RIGHTS, |target| {
        let pidfd = pidfd(target.parent)?;
        // SAFETY: takes numbers.
        of_call(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), 0, 0) })
    };
    limits_of_parent: RIGHTS, |target| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one limit.
        of_call(unsafe {
            libc::prlimit(target.parent, libc::RLIMIT_CORE, null(), &mut limit)
        }.into())
    };
    own_limits: NEVER, |_| {
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel reads one limit.
        of_call(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) }.into())
    };
    priority_of_parent: NEVER, |target| {
        // SAFETY: takes numbers; the kernel sets what it was, or worse.
        of_call(unsafe { libc::setpriority(libc::PRIO_PROCESS, target.victim as _, 19) }.into())
    };
    processors_of_parent: NEVER, |target| {
        // SAFETY: the set is plain data, read by the second call.
        unsafe {
            let mut set: libc::cpu_set_t = zeroed();
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
            of_call(libc::sched_setaffinity(target.victim, size_of::<libc::cpu_set_t>(), &set).into())
        }
    };
    io_uring: RIGHTS, |_| {
        let mut parameters = [0_u8; 120];
        // SAFETY: the kernel reads and writes the parameters, which are 120 bytes.
        of_call(unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) })
    };
    bpf: RIGHTS, |_| {
        // A map: an array of one element.
        let create = [2_u32, 4, 4, 1];
        // SAFETY: the kernel reads 16 bytes.
        of_call(unsafe { libc::syscall(libc::SYS_bpf, 0, create.as_ptr(), 16) })
    };
    userfaultfd: RIGHTS, |_| {
        // SAFETY: takes a number.
        of_call(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })
    };
    perf_events: &[libc::EPERM, libc::EACCES, libc::ENOSYS, libc::ENOENT, libc::EOPNOTSUPP], |_| {
        // Software, the clock of a task.
        let mut event = [0_u64; 16];
        (event[0], event[1]) = (1 | 128 << 32, 1);
        // SAFETY: the kernel reads 128 bytes.
        of_call(unsafe { libc::syscall(libc::SYS_perf_event_open, event.as_ptr(), 0, -1, -1, 0) })
    };
    mount: RIGHTS, |_| in_copy(|| {
        // SAFETY: takes a number. The mount is this process's own.
        unsafe { libc::unshare(libc::CLONE_NEWNS) };
        let (kind, place) = (path("tmpfs"), path("/mnt"));
        // SAFETY: strings that end in a zero.
        of_call(unsafe {
            libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, null())
        }.into())
    });
    unshare: RIGHTS, |_| in_copy(|| {
        // SAFETY: takes a number.
        of_call(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())
    });
    unshare_user: &[libc::EPERM, libc::ENOSPC, libc::ENOSYS], |_| in_copy(|| {
        // SAFETY: takes a number.
        of_call(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())
    });
    clone_into_namespace: &[libc::EPERM, libc::ENOSPC, libc::ENOSYS], |_| {
        let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as libc::c_long;
        // SAFETY: a copy of this process, which ends at once.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if pid == 0 {
            // SAFETY: always allowed.
            unsafe { libc::_exit(0) }
        }
        of_call(pid)
    };
    chroot: RIGHTS, |_| in_copy(|| {
        let root = path("/");
        // SAFETY: a string that ends in a zero.
        of_call(unsafe { libc::chroot(root.as_ptr()) }.into())
    });
    setuid: RIGHTS, |_| in_copy(|| {
        // SAFETY: takes a number.
        of_call(unsafe { libc::syscall(libc::SYS_setuid, libc::getuid()) })
    });
    keyring: RIGHTS, |_| {
        let (kind, name) = (path("user"), path("offspring-test"));
        const PROCESS_KEYRING: libc::c_int = -2;
        // SAFETY: strings that end in a zero, and one byte.
        of_call(unsafe {
            libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), b"x".as_ptr(), 1, PROCESS_KEYRING)
        })
    };
    keyctl: RIGHTS, |_| {
        const GET_KEYRING_ID: libc::c_int = 0;
        const SESSION: libc::c_int = -3;
        // SAFETY: takes numbers.
        of_call(unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 1) })
    };
    shared_memory_of_system_v: &[libc::ENOSYS], |_| {
        // SAFETY: takes numbers.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) };
        let outcome = of_call(id.into());
        // SAFETY: takes numbers.
        unsafe { libc::shmctl(id, libc::IPC_RMID, null_mut()) };
        outcome
    };
    filter_of_its_own: &[libc::ENOSYS], |_| {
        // SAFETY: takes numbers.
        of_call(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
    };
};

/// What no process can do: the memory is sealed. A page may become writable, as a copy of its own.
pub(super) fn write_shared_bytes(target: &Target) -> Outcome {
    let base = target.bytes.as_ptr().cast_mut();
    // SAFETY: changes pages of this process, which no other code of it uses any more.
    unsafe {
        let page = base.map_addr(|address| address & !4095).cast::<c_void>();
        of_call(libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE).into())?;
        base.write_volatile(8);
    }
    Ok(())
}

fn path(text: &str) -> CString {
    CString::new(text).unwrap()
}

#[cfg(target_arch = "x86_64")]
fn open_old() -> Outcome {
    let file = path("/etc/passwd");
    // SAFETY: a path that ends in a zero.
    of_call(unsafe { libc::syscall(libc::SYS_open, file.as_ptr(), libc::O_RDONLY) })
}

#[cfg(not(target_arch = "x86_64"))]
fn open_old() -> Outcome {
    outcome(File::open("/etc/passwd"))
}

fn openat2() -> Outcome {
    let file = path("/etc/passwd");
    let how = [0_u64; 3];
    // SAFETY: a path that ends in a zero, and the 24 bytes that the kernel reads.
    of_call(unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, file.as_ptr(), how.as_ptr(), 24)
    })
}

fn watch_files() -> Outcome {
    // SAFETY: takes numbers, and a path that ends in a zero.
    unsafe {
        let watch = libc::inotify_init1(libc::IN_CLOEXEC);
        of_call(watch.into())?;
        of_call(libc::inotify_add_watch(watch, path("/etc").as_ptr(), libc::IN_CREATE).into())
    }
}

/// Changes memory that is mapped for reading only, as this file allows.
fn write_own_code() -> Outcome {
    static CONSTANT: u8 = 7;
    let address = std::ptr::from_ref(&CONSTANT).addr() as u64;
    let result = File::options().write(true).open("/proc/self/mem").and_then(|mut memory| {
        memory.seek(std::io::SeekFrom::Start(address))?;
        memory.write_all(&[7])
    });
    outcome(result)
}

fn pidfd(pid: i32) -> Result<OwnedFd, i32> {
    // SAFETY: takes numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    of_call(fd)?;
    // SAFETY: it was just opened.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn kill_by_pidfd(victim: i32) -> Outcome {
    let pidfd = pidfd(victim)?;
    // SAFETY: takes numbers. The signal is none.
    of_call(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, 0, 0) })
}

/// Has the kernel send a signal to another process when a pipe becomes readable. It is one that
/// does nothing.
fn kill_by_descriptor(victim: i32) -> Outcome {
    const F_SETSIG: libc::c_int = 10;
    let (reader, _writer) = rustix::pipe::pipe().map_err(|error| error.raw_os_error())?;
    for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETOWN, victim)] {
        // SAFETY: takes numbers.
        of_call(unsafe { libc::fcntl(reader.as_raw_fd(), command, argument) }.into())?;
    }
    Ok(())
}

fn process_vm(target: &Target, call: libc::c_long) -> Outcome {
    let mut byte = [0_u8; 8];
    let here = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: target.address as *mut c_void, iov_len: 8 };
    // SAFETY: the kernel reads or writes 8 bytes here. There they are a number that the test does
    // not use.
    of_call(unsafe {
        // The last one is on the stack, where only a whole word is all zeroes.
        libc::syscall(call, target.parent, &here, 1_usize, &there, 1_usize, 0_usize)
    })
}

fn execute(program: &str) -> Outcome {
    let program = path(program);
    let arguments = [program.as_ptr(), null()];
    // SAFETY: strings that end in a zero, in lists that do.
    of_call(unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), [null()].as_ptr()) }.into())
}

fn execute_memory(program: &[u8]) -> Outcome {
    // SAFETY: strings that end in a zero, in lists that do; the descriptor was just opened.
    unsafe {
        let fd = libc::memfd_create(path("program").as_ptr(), 0);
        of_call(fd.into())?;
        let mut file = File::from_raw_fd(fd);
        file.write_all(program).unwrap();
        let arguments = [c"true".as_ptr(), null()];
        let nothing: [*const libc::c_char; 1] = [null()];
        libc::fexecve(fd, arguments.as_ptr(), nothing.as_ptr());
        let first = of_call(-1);
        execute(&format!("/proc/self/fd/{fd}"))?;
        first
    }
}

/// Runs an attempt in a fork, whose end tells the outcome. If there is no fork to be had, it runs
/// here.
fn in_copy(attempt: impl FnOnce() -> Outcome) -> Outcome {
    // SAFETY: the copy makes system calls, allocates little, and ends. No other thread of a worker
    // holds a lock meanwhile: they wait.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(attempt().err().unwrap_or(0)),
            -1 => attempt(),
            pid => {
                let mut status = 0;
                of_call(libc::waitpid(pid, &mut status, 0).into())?;
                match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
                    (true, 0) => Ok(()),
                    (true, error) => Err(error),
                    _ => panic!("the copy ended with status {status}"),
                }
            }
        }
    }
}
