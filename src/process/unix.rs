//! What only Unix systems know of a process.

use std::ffi::OsStr;
use std::io;

use crate::process::builder::ProcessBuilder;
use crate::sys::{self, Group, Hook};

/// No limit, for [`rlimit`](ProcessBuilderExt::rlimit).
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::unix::{ProcessBuilderExt, Resource, UNLIMITED};
///
/// #[offspring::worker]
/// fn work() {}
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     // SIGXCPU after 60 seconds of computing, which the child may raise as far as it likes.
///     ProcessBuilder::new().rlimit(Resource::Cpu, 60, UNLIMITED).spawn(work::new())?.join()?;
///     Ok(())
/// }
/// ```
pub const UNLIMITED: u64 = u64::MAX;

/// A resource that the system limits for each process, or for the user.
///
/// ```
/// use std::process::Command;
/// use offspring::ProcessBuilder;
/// use offspring::unix::{ProcessBuilderExt, Resource};
///
/// #[offspring::worker]
/// fn shell_limit() -> String {
///     let shell = Command::new("sh").args(["-c", "ulimit -n"]).output().unwrap();
///     String::from_utf8(shell.stdout).unwrap()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let child = ProcessBuilder::new().rlimit(Resource::OpenFiles, 64, 64).spawn(shell_limit::new())?;
///     assert_eq!(child.join()?, "64\n"); // what it starts inherits it
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of memory that it maps (`RLIMIT_AS`). An allocation beyond it fails, which ends most programs.
    AddressSpace,
    /// Bytes of a core dump (`RLIMIT_CORE`); 0 for none.
    Core,
    /// Seconds that it computes (`RLIMIT_CPU`). SIGXCPU at the first limit, SIGKILL at the second.
    Cpu,
    /// Bytes of its heap and data (`RLIMIT_DATA`).
    Data,
    /// Bytes of a file that it writes (`RLIMIT_FSIZE`).
    FileSize,
    /// Bytes that it locks in memory (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// One more than the highest descriptor (`RLIMIT_NOFILE`). A worker needs about 16.
    OpenFiles,
    /// Processes and threads of its user (`RLIMIT_NPROC`).
    Processes,
    /// Bytes of the main thread's stack (`RLIMIT_STACK`).
    Stack,
}

impl Resource {
    fn known(self) -> sys::Resource {
        match self {
            Resource::AddressSpace => sys::Resource::As,
            Resource::Core => sys::Resource::Core,
            Resource::Cpu => sys::Resource::Cpu,
            Resource::Data => sys::Resource::Data,
            Resource::FileSize => sys::Resource::Fsize,
            Resource::LockedMemory => sys::Resource::Memlock,
            Resource::OpenFiles => sys::Resource::Nofile,
            Resource::Processes => sys::Resource::Nproc,
            Resource::Stack => sys::Resource::Stack,
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ProcessBuilder {}
}

/// What a [`ProcessBuilder`] can say of a child on Unix systems, in the words of
/// [`CommandExt`](std::os::unix::process::CommandExt).
///
/// All of it happens in the new process before it executes this program, in this order: session, umask, nice value,
/// limits, groups, group id, user id, hooks. So limits may be raised, and then rights given up. What the system
/// refuses is [`SpawnError::Io`](crate::SpawnError::Io), which names the step. All but `arg0` and `process_group` makes
/// the start slower, the more memory this process has: it takes a fork in place of `posix_spawn`.
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::unix::{ProcessBuilderExt, Resource};
///
/// #[offspring::worker]
/// fn careful() -> String {
///     std::fs::read_to_string("/proc/self/limits").unwrap()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let builder = ProcessBuilder::new().nice(5).umask(0o077).rlimit(Resource::OpenFiles, 64, 64);
///     let limits = builder.spawn(careful::new())?.join()?;
///     assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 64 ")));
///     Ok(())
/// }
/// ```
pub trait ProcessBuilderExt: sealed::Sealed {
    /// The user that the child runs as. Default: the parent's.
    ///
    /// When root gives up its rights, the child has no supplementary groups, unless [`groups`](ProcessBuilderExt::groups) names
    /// some; its group id stays, unless [`gid`](ProcessBuilderExt::gid) names another. The user must be able to execute the
    /// program's file.
    fn uid(self, id: u32) -> Self;

    /// The group that the child runs as. Default: the parent's.
    fn gid(self, id: u32) -> Self;

    /// The supplementary groups of the child. Default: the parent's, or none: see [`uid`](ProcessBuilderExt::uid).
    fn groups(self, groups: impl Into<Vec<u32>>) -> Self;

    /// The process group of the child; 0 for one of its own. Default: the parent's, so that Ctrl-C ends the whole family.
    /// The child dies with its parent nevertheless. Takes back [`new_session`](ProcessBuilderExt::new_session).
    fn process_group(self, group: i32) -> Self;

    /// Makes the child the leader of a new session, without a terminal, and of a new process group. Default: the
    /// parent's. Takes back [`process_group`](ProcessBuilderExt::process_group).
    fn new_session(self) -> Self;

    /// Limits a resource: the first limit is the one that holds, the second is how far the child itself may raise it.
    /// [`UNLIMITED`] for none. Default: the parent's limits.
    fn rlimit(self, resource: Resource, soft: u64, hard: u64) -> Self;

    /// Adds to the nice value: more means less of the processors. Default: 0. Less than 0 needs rights.
    fn nice(self, increment: i32) -> Self;

    /// Which rights files do not get that the child makes, such as `0o077`. Default: the parent's mask.
    fn umask(self, mask: u32) -> Self;

    /// What the child has for its own name as its first argument, for `ps` too. Default: the parent's.
    fn arg0(self, argument: impl AsRef<OsStr>) -> Self;

    /// Whether the child keeps open what this process has open without the flag close-on-exec: what Rust opens has the
    /// flag, what a library in another language opens may not, nor what the program itself was started with. Default:
    /// `false`, so it keeps nothing but stdin, stdout and stderr, as in Python. They are closed when `main` reaches
    /// [`init`](crate::init).
    fn inherit_descriptors(self, inherit: bool) -> Self;

    /// Runs `hook` in the new process before it executes this program, after all else. May be called several times.
    ///
    /// # Safety
    ///
    /// As for [`CommandExt::pre_exec`](std::os::unix::process::CommandExt::pre_exec): in this moment the process is a
    /// copy of one thread of its parent, so `hook` may only make calls that are allowed in a signal handler; it must not
    /// allocate, nor take a lock. While it runs, [`spawn`](ProcessBuilder::spawn) waits, without a limit.
    unsafe fn pre_exec(self, hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Self;
}

impl ProcessBuilderExt for ProcessBuilder {
    fn uid(mut self, id: u32) -> ProcessBuilder {
        self.setup.uid = Some(id);
        self
    }

    fn gid(mut self, id: u32) -> ProcessBuilder {
        self.setup.gid = Some(id);
        self
    }

    fn groups(mut self, groups: impl Into<Vec<u32>>) -> ProcessBuilder {
        self.setup.groups = Some(groups.into());
        self
    }

    fn process_group(mut self, group: i32) -> ProcessBuilder {
        self.setup.group = Group::Of(group);
        self
    }

    fn new_session(mut self) -> ProcessBuilder {
        self.setup.group = Group::NewSession;
        self
    }

    fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> ProcessBuilder {
        self.setup
            .limits
            .push((resource.known(), sys::limit(soft, hard)));
        self
    }

    fn nice(mut self, increment: i32) -> ProcessBuilder {
        self.setup.nice = Some(increment);
        self
    }

    fn umask(mut self, mask: u32) -> ProcessBuilder {
        self.setup.umask = Some(mask);
        self
    }

    fn arg0(mut self, argument: impl AsRef<OsStr>) -> ProcessBuilder {
        self.setup.arg0 = Some(argument.as_ref().to_owned());
        self
    }

    fn inherit_descriptors(mut self, inherit: bool) -> ProcessBuilder {
        self.keeps_descriptors = inherit;
        self
    }

    unsafe fn pre_exec(
        mut self,
        hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> ProcessBuilder {
        // SAFETY: the caller promises what `Hook::new` asks for.
        self.setup.hooks.push(unsafe { Hook::new(hook) });
        self
    }
}
