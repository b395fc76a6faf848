//! Options of a process that only Unix systems have.

use std::ffi::OsStr;
use std::io;

use crate::process::builder::ProcessBuilder;
pub use crate::process::resource::Resource;
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

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ProcessBuilder {}
}

/// Options of a [`ProcessBuilder`] that only Unix systems have, with the names of
/// [`CommandExt`](std::os::unix::process::CommandExt).
///
/// They take effect in the new process before it executes this program, in this order: session,
/// umask, nice value, processors, limits, groups, group id, user id, hooks. So a child can raise
/// its limits first and drop its rights afterwards. If the system refuses one,
/// [`spawn`](ProcessBuilder::spawn) returns [`SpawnError::Io`](crate::SpawnError::Io), which names
/// the step.
///
/// All options except `arg0` and `process_group` need a fork in place of `posix_spawn`, so the more
/// memory this process uses, the longer a start takes.
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
    /// Sets the user that the child runs as. Default: the parent's.
    ///
    /// If root drops its rights, the child has no supplementary groups unless
    /// [`groups`](ProcessBuilderExt::groups) sets some, and keeps its group id unless
    /// [`gid`](ProcessBuilderExt::gid) sets another. The user must be able to execute the program's
    /// file.
    fn uid(self, id: u32) -> Self;

    /// Sets the group that the child runs as. Default: the parent's.
    fn gid(self, id: u32) -> Self;

    /// Sets the supplementary groups of the child. Default: the parent's, or none: see
    /// [`uid`](ProcessBuilderExt::uid).
    fn groups(self, groups: impl Into<Vec<u32>>) -> Self;

    /// Sets the process group of the child; 0 creates a new one. Default: the parent's, so that
    /// Ctrl-C reaches both.
    ///
    /// A child in another group still dies with its parent. Overrides
    /// [`new_session`](ProcessBuilderExt::new_session).
    fn process_group(self, group: i32) -> Self;

    /// Makes the child the leader of a new session, without a terminal, and of a new process group.
    /// Default: the parent's session.
    ///
    /// Overrides [`process_group`](ProcessBuilderExt::process_group).
    fn new_session(self) -> Self;

    /// Limits a resource. The system enforces `soft`; the child may raise that up to `hard`. Use
    /// [`UNLIMITED`] for no limit. Default: the parent's limits.
    fn rlimit(self, resource: Resource, soft: u64, hard: u64) -> Self;

    /// Adds to the nice value: the higher it is, the less processor time the child gets. Default:
    /// 0. A negative number needs privileges (`CAP_SYS_NICE`).
    fn nice(self, increment: i32) -> Self;

    /// Sets the processors that the child may run on, by their numbers (0 to 1023). Default: the
    /// parent's.
    ///
    /// `available_parallelism` in the child then returns their number. If none of them exists,
    /// [`spawn`](ProcessBuilder::spawn) returns an error.
    ///
    /// ```no_run
    /// use offspring::ProcessBuilder;
    /// use offspring::unix::ProcessBuilderExt;
    ///
    /// #[offspring::worker]
    /// fn processors() -> usize {
    ///     std::thread::available_parallelism().map_or(0, usize::from)
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     assert_eq!(ProcessBuilder::new().cpus([0]).spawn(processors::new())?.join()?, 1);
    ///     Ok(())
    /// }
    /// ```
    fn cpus(self, cpus: impl IntoIterator<Item = usize>) -> Self;

    /// Sets the permissions that files created by the child do not get, such as `0o077`. Default:
    /// the parent's mask.
    fn umask(self, mask: u32) -> Self;

    /// Sets the name of the program that the child sees as its first argument, and `ps` shows.
    /// Default: the parent's.
    fn arg0(self, argument: impl AsRef<OsStr>) -> Self;

    /// Sets whether the child keeps descriptors of this process open that are not marked
    /// close-on-exec. Default: `false`: it keeps only stdin, stdout and stderr, as in Python.
    ///
    /// Rust marks all files that it opens. Libraries in other languages may not, and the
    /// descriptors that the program itself was started with are not marked either. All these are
    /// closed when the child reaches [`init`](crate::init).
    fn inherit_descriptors(self, inherit: bool) -> Self;

    /// Sets whether SIGTERM and SIGHUP do nothing in the child unless its parent sends them.
    /// Default: `false`, but `true` for the workers of pools, for actors, and for children of
    /// supervisors.
    ///
    /// A service manager, `docker stop`, or a terminal that closes sends such a signal to all
    /// processes of a group at once. In a shielded child that has no effect: the parent decides
    /// what it means, for example to finish the tasks that are running.
    /// [`terminate`](crate::Process::terminate) still ends the child, and so does SIGKILL. A
    /// handler that the worker installs replaces the shield. SIGINT does nothing in any child.
    fn shielded(self, shielded: bool) -> Self;

    /// Runs `hook` in the new process before it executes this program, after all other options. May
    /// be called several times.
    ///
    /// # Safety
    ///
    /// The contract is that of
    /// [`CommandExt::pre_exec`](std::os::unix::process::CommandExt::pre_exec): the hook runs in a
    /// copy of one thread of this process, so it may only make calls that are allowed in a signal
    /// handler. It must not allocate memory or take a lock. While it runs,
    /// [`spawn`](ProcessBuilder::spawn) waits without a limit.
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
        let limit = sys::Limit::new(resource.of_system(), format!("{resource:?}"), soft, hard);
        self.setup.limits.push(limit);
        self
    }

    fn nice(mut self, increment: i32) -> ProcessBuilder {
        self.setup.nice = Some(increment);
        self
    }

    fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> ProcessBuilder {
        self.setup.cpus = Some(cpus.into_iter().collect());
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

    fn shielded(mut self, shielded: bool) -> ProcessBuilder {
        self.shielded = shielded;
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
