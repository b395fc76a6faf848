//! The system calls that a sandboxed worker may make.
//!
//! A call that is not in a table fails with EPERM, or ends the worker if its sandbox asks for that.
//! Some calls that no filter can judge are reported as missing ([`ABSENT`]), as an older kernel would
//! do. The C library and std then use an older call, which can be filtered.

use libc::c_long;

/// What a worker was allowed beyond its fields. A call is allowed if one of its needs is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowed {
    /// Landlock decides which paths.
    pub(super) paths: bool,
    /// Some of the paths may be changed.
    pub(super) changes: bool,
    /// Landlock decides which ports.
    pub(super) tcp: bool,
    /// Landlock decides which programs.
    pub(super) programs: bool,
    /// A forbidden call ends the worker.
    pub(super) deadly: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Always,
    Paths,
    /// Only without paths.
    NoPaths,
    Changes,
    Tcp,
    NoTcp,
    Programs,
    NoPrograms,
    /// Only if no violation ends the worker.
    NotDeadly,
    Deadly,
}

impl Need {
    pub(super) fn is_met(self, allowed: Allowed) -> bool {
        match self {
            Need::Always => true,
            Need::Paths => allowed.paths,
            Need::NoPaths => !allowed.paths,
            Need::Changes => allowed.changes,
            Need::Tcp => allowed.tcp,
            Need::NoTcp => !allowed.tcp,
            Need::Programs => allowed.programs,
            Need::NoPrograms => !allowed.programs,
            Need::NotDeadly => !allowed.deadly,
            Need::Deadly => allowed.deadly,
        }
    }
}

/// Calls whose arguments do not matter: the kernel lets them reach only what the process has
/// already, or Landlock decides.
#[rustfmt::skip]
pub(super) const CALLS: &[(Need, &[c_long])] = &[
    // Its own memory.
    (Need::Always, &[
        libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect,
        libc::SYS_madvise, libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_mlock2,
        libc::SYS_munlock, libc::SYS_mlockall, libc::SYS_munlockall, libc::SYS_memfd_create,
        libc::SYS_pkey_alloc, libc::SYS_pkey_free, libc::SYS_pkey_mprotect, MAP_SHADOW_STACK, MSEAL,
    ]),
    // Its own threads, and how they wait for each other.
    (Need::Always, &[
        libc::SYS_futex, libc::SYS_futex_waitv, FUTEX_WAKE, FUTEX_WAIT, FUTEX_REQUEUE,
        libc::SYS_set_robust_list, libc::SYS_set_tid_address, libc::SYS_rseq, libc::SYS_membarrier,
        libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_getparam,
        libc::SYS_sched_getscheduler, libc::SYS_sched_get_priority_max,
        libc::SYS_sched_get_priority_min, libc::SYS_getcpu, libc::SYS_exit, libc::SYS_exit_group,
        libc::SYS_restart_syscall,
    ]),
    // Signals that come to it.
    (Need::Always, &[
        libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending,
        libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend, libc::SYS_sigaltstack,
        libc::SYS_signalfd4,
    ]),
    (Need::NotDeadly, &[libc::SYS_rt_sigaction]),
    // Time.
    (Need::Always, &[
        libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep, libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_getitimer,
        libc::SYS_setitimer, libc::SYS_timer_create, libc::SYS_timer_settime,
        libc::SYS_timer_gettime, libc::SYS_timer_getoverrun, libc::SYS_timer_delete,
        libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime,
    ]),
    // Who and where it is.
    (Need::Always, &[
        libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid,
        libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getresuid, libc::SYS_getresgid,
        libc::SYS_getgroups, libc::SYS_getpgid, libc::SYS_getsid, libc::SYS_getcwd, libc::SYS_uname,
        libc::SYS_sysinfo, libc::SYS_getrusage, libc::SYS_getpriority, libc::SYS_getrandom,
    ]),
    // Descriptors that it has.
    (Need::Always, &[
        libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
        libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2,
        libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_close, libc::SYS_close_range, libc::SYS_dup,
        libc::SYS_dup3, libc::SYS_fstat, libc::SYS_fstatfs, libc::SYS_fsync, libc::SYS_fdatasync,
        libc::SYS_sync_file_range, libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fadvise64,
        libc::SYS_readahead, libc::SYS_flock, libc::SYS_getdents64, libc::SYS_sendfile,
        libc::SYS_copy_file_range, libc::SYS_splice, libc::SYS_tee, libc::SYS_vmsplice,
        libc::SYS_pipe2, libc::SYS_eventfd2, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_ppoll, libc::SYS_pselect6,
    ]),
    // Sockets that it has. Nothing here makes, names or connects one.
    (Need::Always, &[
        libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_shutdown,
        libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_getsockname, libc::SYS_getpeername,
        libc::SYS_accept, libc::SYS_accept4,
    ]),
    (Need::NoTcp, &[libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg]),
    // The ends of its own children; it has none without programs. The same call returns the end of a
    // process whose descriptor it was given.
    (Need::Always, &[libc::SYS_waitid]),
    // Paths.
    (Need::Paths, &[
        libc::SYS_openat, OPENAT2, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs,
        libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat,
        libc::SYS_chdir, libc::SYS_fchdir,
    ]),
    // What Landlock does not decide is not here: owners, permissions, times, attributes, and
    // `truncate` (since ABI 3 only; `ftruncate` needs a file that is open).
    (Need::Changes, &[
        libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_linkat,
        libc::SYS_symlinkat, libc::SYS_umask,
    ]),
    (Need::Tcp, &[libc::SYS_connect]),
    (Need::Programs, &[
        libc::SYS_execve, libc::SYS_wait4, libc::SYS_pidfd_open, libc::SYS_setpgid,
        libc::SYS_setsid,
    ]),
];

/// The names that older systems had for the same calls, where programs still use them.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) const OLD_CALLS: &[(Need, &[c_long])] = &[
    (Need::Always, &[
        libc::SYS_time, libc::SYS_alarm, libc::SYS_pause, libc::SYS_getpgrp, libc::SYS_getrlimit,
        libc::SYS_dup2, libc::SYS_pipe, libc::SYS_eventfd, libc::SYS_signalfd,
        libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_select,
    ]),
    (Need::Paths, &[
        libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
        libc::SYS_getdents,
    ]),
    (Need::Changes, &[
        libc::SYS_creat, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename,
        libc::SYS_renameat, libc::SYS_link, libc::SYS_symlink,
    ]),
    (Need::Programs, &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_arch_prctl]),
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OLD_CALLS: &[(Need, &[c_long])] = &[];

/// What an argument must be, by its index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arg {
    /// The lower half, which is all that the kernel looks at for most arguments.
    Is(u8, u32),
    IsNot(u8, u32),
    /// The bits of the mask.
    Bits(u8, u32, u32),
    Null(u8),
    /// The pid of this process.
    Own(u8),
}

/// Calls that are allowed with some arguments: each row is one way.
pub(super) const ARGUMENTS: &[(Need, c_long, &[Arg])] = &[
    // A thread: of this process, in no new namespace.
    (Need::NoPrograms, libc::SYS_clone, &[Arg::Bits(0, NAMESPACES | CLONE_THREAD, CLONE_THREAD)]),
    (Need::Programs, libc::SYS_clone, &[Arg::Bits(0, NAMESPACES, 0)]),
    // Signals: to this process alone. `raise` and `abort` need them.
    (Need::Always, libc::SYS_kill, &[Arg::Own(0)]),
    (Need::Always, libc::SYS_tgkill, &[Arg::Own(0)]),
    (Need::Always, libc::SYS_rt_sigqueueinfo, &[Arg::Own(0)]),
    (Need::Always, libc::SYS_rt_tgsigqueueinfo, &[Arg::Own(0)]),
    // musl's `raise`, on the main thread.
    (Need::Always, libc::SYS_tkill, &[Arg::Own(0)]),
    // Not the signal that reports a violation.
    (Need::Deadly, libc::SYS_rt_sigaction, &[Arg::IsNot(0, libc::SIGSYS as u32)]),
    // Sessions send a descriptor of their own process.
    (Need::NoPrograms, libc::SYS_pidfd_open, &[Arg::Own(0)]),
    // Limits may be read, and processors chosen for the calling thread.
    (Need::Always, libc::SYS_prlimit64, &[Arg::Is(0, 0), Arg::Null(2)]),
    (Need::Always, libc::SYS_prlimit64, &[Arg::Own(0), Arg::Null(2)]),
    (Need::Always, libc::SYS_sched_setaffinity, &[Arg::Is(0, 0)]),
    // Names, for debuggers.
    (Need::Always, libc::SYS_prctl, &[Arg::Is(0, libc::PR_SET_NAME as u32)]),
    (Need::Always, libc::SYS_prctl, &[Arg::Is(0, libc::PR_GET_NAME as u32)]),
    (Need::Always, libc::SYS_prctl, &[Arg::Is(0, PR_SET_VMA)]),
    // The values that the kernel passed to this process at its start, such as the size of a page.
    (Need::Always, libc::SYS_prctl, &[Arg::Is(0, PR_GET_AUXV)]),
    // Not those that have the kernel send signals to the process of one's choice.
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_DUPFD as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_DUPFD_CLOEXEC as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_GETFD as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_SETFD as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_GETFL as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_SETFL as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_GETLK as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_SETLK as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_SETLKW as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_OFD_GETLK as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_OFD_SETLK as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_OFD_SETLKW as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_ADD_SEALS as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_GET_SEALS as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_GETPIPE_SZ as u32)]),
    (Need::Always, libc::SYS_fcntl, &[Arg::Is(1, libc::F_SETPIPE_SZ as u32)]),
    // Not those that type into a terminal, or configure a device.
    (Need::Always, libc::SYS_ioctl, &[Arg::Is(1, libc::TCGETS as u32)]),
    (Need::Always, libc::SYS_ioctl, &[Arg::Is(1, libc::TIOCGWINSZ as u32)]),
    (Need::Always, libc::SYS_ioctl, &[Arg::Is(1, libc::FIONREAD as u32)]),
    (Need::Always, libc::SYS_ioctl, &[Arg::Is(1, libc::FIONBIO as u32)]),
    (Need::Always, libc::SYS_ioctl, &[Arg::Is(1, libc::FIOCLEX as u32)]),
    (Need::Always, libc::SYS_ioctl, &[Arg::Is(1, libc::FIONCLEX as u32)]),
    // A pair that is connected for ever. A pair of datagram sockets could send to any name.
    (
        Need::Always,
        libc::SYS_socketpair,
        &[Arg::Is(0, libc::AF_UNIX as u32), Arg::Bits(1, SOCKET_KIND, libc::SOCK_STREAM as u32)],
    ),
    (
        Need::Always,
        libc::SYS_socketpair,
        &[Arg::Is(0, libc::AF_UNIX as u32), Arg::Bits(1, SOCKET_KIND, libc::SOCK_SEQPACKET as u32)],
    ),
    // TCP and nothing that only looks like it: Landlock does not know MPTCP and SCTP.
    (Need::Tcp, libc::SYS_socket, &tcp_socket(libc::AF_INET, 0)),
    (Need::Tcp, libc::SYS_socket, &tcp_socket(libc::AF_INET, libc::IPPROTO_TCP)),
    (Need::Tcp, libc::SYS_socket, &tcp_socket(libc::AF_INET6, 0)),
    (Need::Tcp, libc::SYS_socket, &tcp_socket(libc::AF_INET6, libc::IPPROTO_TCP)),
    // With this flag a send connects, where Landlock does not look.
    (Need::Tcp, libc::SYS_sendto, &[Arg::Bits(3, MSG_FASTOPEN, 0)]),
    (Need::Tcp, libc::SYS_sendmsg, &[Arg::Bits(2, MSG_FASTOPEN, 0)]),
    (Need::Tcp, libc::SYS_sendmmsg, &[Arg::Bits(3, MSG_FASTOPEN, 0)]),
];

const fn tcp_socket(family: i32, protocol: i32) -> [Arg; 3] {
    [
        Arg::Is(0, family as u32),
        Arg::Bits(1, SOCKET_KIND, libc::SOCK_STREAM as u32),
        Arg::Is(2, protocol as u32),
    ]
}

/// `fstat` in C libraries that implement it by the call for paths. A filter cannot read the path, so
/// a worker that may make this call can `stat` any file.
pub(super) const STAT_OF_DESCRIPTOR: (c_long, &[Arg]) =
    (libc::SYS_newfstatat, &[Arg::Bits(3, libc::AT_EMPTY_PATH as u32, libc::AT_EMPTY_PATH as u32)]);

/// Calls that are reported as missing.
pub(super) const ABSENT: &[(Need, c_long)] = &[
    // Its flags are in memory, where no filter sees them.
    (Need::Always, libc::SYS_clone3),
    // std's `File::metadata` then uses `fstat`.
    (Need::NoPaths, libc::SYS_statx),
];
/// All calls from this number on are younger than these tables.
pub(super) const UNKNOWN_FROM: c_long = 470;

const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
const CLONE_THREAD: u32 = libc::CLONE_THREAD as u32;
const SOCKET_KIND: u32 = 0xf;
const MSG_FASTOPEN: u32 = 0x2000_0000;
const PR_SET_VMA: u32 = 0x5356_4d41;
const PR_GET_AUXV: u32 = 0x4155_5856;
// Not in every `libc`; the same on every architecture.
const OPENAT2: c_long = 437;
const MAP_SHADOW_STACK: c_long = 453;
const FUTEX_WAKE: c_long = 454;
const FUTEX_WAIT: c_long = 455;
const FUTEX_REQUEUE: c_long = 456;
const MSEAL: c_long = 462;

/// Returns the name of a call, for a message; `None` for a rare one.
pub(crate) fn call_name(number: i32) -> Option<&'static str> {
    let number = c_long::from(number);
    NAMES.iter().chain(OLD_NAMES).find(|(known, _)| *known == number).map(|(_, name)| *name)
}

macro_rules! names {
    ($($name:ident = $number:expr),* $(,)?) => { &[$(($number, stringify!($name))),*] };
}

const NAMES: &[(c_long, &str)] = names! {
    accept4 = libc::SYS_accept4, add_key = libc::SYS_add_key, bind = libc::SYS_bind,
    bpf = libc::SYS_bpf, capset = libc::SYS_capset, chdir = libc::SYS_chdir,
    chroot = libc::SYS_chroot, clone = libc::SYS_clone, connect = libc::SYS_connect,
    execve = libc::SYS_execve, execveat = libc::SYS_execveat, faccessat = libc::SYS_faccessat,
    faccessat2 = libc::SYS_faccessat2, fchmod = libc::SYS_fchmod, fchmodat = libc::SYS_fchmodat,
    fchown = libc::SYS_fchown, fchownat = libc::SYS_fchownat, fcntl = libc::SYS_fcntl,
    fsetxattr = libc::SYS_fsetxattr, getcwd = libc::SYS_getcwd, getxattr = libc::SYS_getxattr,
    inotify_add_watch = libc::SYS_inotify_add_watch, inotify_init1 = libc::SYS_inotify_init1,
    io_uring_enter = libc::SYS_io_uring_enter, io_uring_setup = libc::SYS_io_uring_setup,
    ioctl = libc::SYS_ioctl, kcmp = libc::SYS_kcmp, keyctl = libc::SYS_keyctl,
    kill = libc::SYS_kill, linkat = libc::SYS_linkat, listen = libc::SYS_listen,
    mkdirat = libc::SYS_mkdirat, mknodat = libc::SYS_mknodat, mount = libc::SYS_mount,
    mq_open = libc::SYS_mq_open, newfstatat = libc::SYS_newfstatat,
    open_by_handle_at = libc::SYS_open_by_handle_at, open_tree = libc::SYS_open_tree,
    openat = libc::SYS_openat, openat2 = OPENAT2, perf_event_open = libc::SYS_perf_event_open,
    personality = libc::SYS_personality, pidfd_getfd = libc::SYS_pidfd_getfd,
    pidfd_open = libc::SYS_pidfd_open, pidfd_send_signal = libc::SYS_pidfd_send_signal,
    prctl = libc::SYS_prctl, prlimit64 = libc::SYS_prlimit64,
    process_madvise = libc::SYS_process_madvise, process_vm_readv = libc::SYS_process_vm_readv,
    process_vm_writev = libc::SYS_process_vm_writev, ptrace = libc::SYS_ptrace,
    readlinkat = libc::SYS_readlinkat, renameat2 = libc::SYS_renameat2,
    request_key = libc::SYS_request_key, rt_sigaction = libc::SYS_rt_sigaction,
    sched_setaffinity = libc::SYS_sched_setaffinity,
    sched_setscheduler = libc::SYS_sched_setscheduler, seccomp = libc::SYS_seccomp,
    setgid = libc::SYS_setgid, setns = libc::SYS_setns, setpgid = libc::SYS_setpgid,
    setpriority = libc::SYS_setpriority, setsid = libc::SYS_setsid, setuid = libc::SYS_setuid,
    shmat = libc::SYS_shmat, shmget = libc::SYS_shmget, socket = libc::SYS_socket,
    socketpair = libc::SYS_socketpair, statfs = libc::SYS_statfs, statx = libc::SYS_statx,
    symlinkat = libc::SYS_symlinkat, tgkill = libc::SYS_tgkill, tkill = libc::SYS_tkill,
    truncate = libc::SYS_truncate, umask = libc::SYS_umask, umount2 = libc::SYS_umount2,
    unlinkat = libc::SYS_unlinkat, unshare = libc::SYS_unshare,
    userfaultfd = libc::SYS_userfaultfd, utimensat = libc::SYS_utimensat, wait4 = libc::SYS_wait4,
};
#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[(c_long, &str)] = names! {
    access = libc::SYS_access, chmod = libc::SYS_chmod, chown = libc::SYS_chown,
    creat = libc::SYS_creat, fork = libc::SYS_fork, link = libc::SYS_link, lstat = libc::SYS_lstat,
    mkdir = libc::SYS_mkdir, open = libc::SYS_open, readlink = libc::SYS_readlink,
    rename = libc::SYS_rename, rmdir = libc::SYS_rmdir, stat = libc::SYS_stat,
    symlink = libc::SYS_symlink, unlink = libc::SYS_unlink, vfork = libc::SYS_vfork,
};
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[(c_long, &str)] = &[];
