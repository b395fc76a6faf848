//! What a new process changes about itself between fork and exec. Only few calls are allowed there:
//! none of these allocates or locks.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(crate) use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::CpuSet;

/// Applied in the order of the fields: settings that need the parent's rights come before the
/// rights are given up.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) arg0: Option<OsString>,
    pub(crate) group: Group,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) gid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) hooks: Vec<Hook>,
}

/// A limit of a resource, and its name for errors.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    resource: Resource,
    name: String,
    limit: Rlimit,
}

impl Limit {
    /// The highest number means no limit.
    pub(crate) fn new(resource: Resource, name: String, soft: u64, hard: u64) -> Limit {
        let known = |limit| (limit != u64::MAX).then_some(limit);
        Limit { resource, name, limit: Rlimit { current: known(soft), maximum: known(hard) } }
    }

    /// Returns what is wrong with the limit, whatever the rights of this process.
    pub(crate) fn problem(&self) -> Option<String> {
        let soft = self.limit.current.unwrap_or(u64::MAX);
        let hard = self.limit.maximum.filter(|&hard| soft > hard)?;
        let soft = shown(self.limit.current);
        Some(format!("of {} has a soft limit of {soft}, above its hard limit of {hard}", self.name))
    }

    /// Returns what setting it does, for an error.
    pub(crate) fn act(&self) -> String {
        let Rlimit { current, maximum } = self.limit;
        let (soft, hard) = (shown(current), shown(maximum));
        format!("set the limit {} of the new process to {soft} (hard limit {hard})", self.name)
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Group {
    #[default]
    Parents,
    Of(i32),
    NewSession,
}

/// User code that runs between fork and exec.
pub(crate) struct Hook(Box<dyn FnMut() -> io::Result<()> + Send + Sync>);

impl Hook {
    /// # Safety
    ///
    /// `hook` must do nothing that is forbidden between fork and exec.
    pub(crate) unsafe fn new(hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Hook {
        Hook(Box::new(hook))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl Setup {
    pub(crate) fn apply_to(mut self, command: &mut Command) {
        if let Some(arg0) = self.arg0.take() {
            command.arg0(arg0);
        }
        // Like everything above, this needs no fork: std uses `posix_spawn`.
        if let Group::Of(group) = self.group {
            command.process_group(group);
        }
        if self.needs_fork() {
            // SAFETY: `run` makes system calls only, besides hooks, whose authors promised the
            // same.
            unsafe { command.pre_exec(move || self.run()) };
        }
    }

    /// Returns what is wrong with the list of processors, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(cpus) = &self.cpus else {
            return Ok(());
        };
        if cpus.is_empty() {
            return Err("is empty: name at least one processor".to_owned());
        }
        match cpus.iter().find(|&&cpu| cpu >= CpuSet::MAX_CPU) {
            None => Ok(()),
            Some(cpu) => Err(format!("contains {cpu}: use numbers below {}", CpuSet::MAX_CPU)),
        }
    }

    fn needs_fork(&self) -> bool {
        matches!(self.group, Group::NewSession)
            || self.umask.is_some()
            || self.nice.is_some()
            || self.cpus.is_some()
            || !self.limits.is_empty()
            || self.changes_identity()
            || !self.hooks.is_empty()
    }

    fn changes_identity(&self) -> bool {
        self.groups.is_some() || self.gid.is_some() || self.uid.is_some()
    }

    fn run(&mut self) -> io::Result<()> {
        if let Group::NewSession = self.group {
            SetupStep::Session.mark(rustix::process::setsid())?;
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask));
        }
        if let Some(increment) = self.nice {
            SetupStep::Nice.mark(rustix::process::nice(increment))?;
        }
        if let Some(cpus) = &self.cpus {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|&cpu| set.set(cpu));
            SetupStep::Cpus.mark(rustix::thread::sched_setaffinity(None, &set))?;
        }
        for (index, limit) in self.limits.iter().enumerate() {
            let result = rustix::process::setrlimit(limit.resource, limit.limit);
            result.map_err(|error| SetupStep::Limit.error_at(index, error.raw_os_error()))?;
        }
        self.change_identity()?;
        for hook in &mut self.hooks {
            if let Err(error) = (hook.0)() {
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                // Dropping it may need a lock that a thread held which does not exist in this
                // process.
                std::mem::forget(error);
                return Err(SetupStep::Hook.error(number));
            }
        }
        Ok(())
    }

    /// Groups, then group, then user: each step needs rights that a later one may take away.
    fn change_identity(&self) -> io::Result<()> {
        // Like std: a process that gives up root gives up root's groups.
        let leaves_root = self.uid.is_some() && rustix::process::geteuid().is_root();
        if let Some(groups) = self.groups.as_deref().or(leaves_root.then_some(&[])) {
            // SAFETY: the length is that of the list.
            SetupStep::Groups.check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
        }
        if let Some(gid) = self.gid {
            // SAFETY: takes a number. The process has one thread here.
            SetupStep::Gid.check(unsafe { libc::setgid(gid) })?;
        }
        if let Some(uid) = self.uid {
            // SAFETY: as above.
            SetupStep::Uid.check(unsafe { libc::setuid(uid) })?;
        }
        Ok(())
    }
}

/// The step that failed. It is encoded in the error number, because nothing else reaches the
/// parent.
#[derive(Clone, Copy)]
enum SetupStep {
    Session = 1,
    Nice,
    Limit,
    Groups,
    Gid,
    Uid,
    Hook,
    Cpus,
}

/// Above every error number.
const STEP_SHIFT: u32 = 16;
/// Above every step.
const INDEX_SHIFT: u32 = 20;
const INDEX_MAX: usize = 0x7ff;

impl SetupStep {
    fn error(self, number: i32) -> io::Error {
        io::Error::from_raw_os_error(number | (self as i32) << STEP_SHIFT)
    }

    /// The error of one of several steps of the same kind.
    fn error_at(self, index: usize, number: i32) -> io::Error {
        self.error(number | (index.min(INDEX_MAX) as i32) << INDEX_SHIFT)
    }

    fn mark<R>(self, result: rustix::io::Result<R>) -> io::Result<()> {
        result.map(drop).map_err(|error| self.error(error.raw_os_error()))
    }

    fn check(self, result: i32) -> io::Result<()> {
        if result == 0 {
            return Ok(());
        }
        Err(self.error(io::Error::last_os_error().raw_os_error().unwrap_or(0)))
    }
}

/// Returns what a new process failed to do, and why; `None` if the error does not come from a
/// [`Setup`] with these limits.
pub(crate) fn failed_step(
    error: &io::Error,
    limits: &[Limit],
) -> Option<(Cow<'static, str>, io::Error)> {
    let number = error.raw_os_error()?;
    let step = (number & ((1 << INDEX_SHIFT) - 1)) >> STEP_SHIFT;
    let act = match step {
        1 => "make a session for the new process",
        2 => "change the nice value of the new process",
        3 => {
            let limit = limits.get((number >> INDEX_SHIFT) as usize);
            let number = number & ((1 << STEP_SHIFT) - 1);
            return Some((limit?.act().into(), io::Error::from_raw_os_error(number)));
        }
        4 => "set the groups of the new process",
        5 => "set the group id of the new process",
        6 => "set the user id of the new process",
        7 => "run a `pre_exec` hook in the new process",
        8 => "bind the new process to its processors (does one of them exist?)",
        _ => return None,
    };
    Some((act.into(), io::Error::from_raw_os_error(number & ((1 << STEP_SHIFT) - 1))))
}
