//! What a new process changes about itself between fork and exec, where only few calls are allowed:
//! none of these allocates or locks.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(crate) use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::CpuSet;

/// Applied in the order of the fields: settings that need the parent's rights come before these are
/// given up.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) arg0: Option<OsString>,
    pub(crate) group: Group,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) gid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) hooks: Vec<Hook>,
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
    /// `hook` does nothing that is forbidden between fork and exec.
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
        // Like all above, it needs no fork: std uses `posix_spawn`.
        if let Group::Of(group) = self.group {
            command.process_group(group);
        }
        if self.needs_fork() {
            // SAFETY: `run` makes system calls only, besides hooks, whose maker promised the same.
            unsafe { command.pre_exec(move || self.run()) };
        }
    }

    /// Returns what is wrong with the processors, if anything is.
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
        for (resource, limit) in &self.limits {
            SetupStep::Limit.mark(rustix::process::setrlimit(*resource, *limit))?;
        }
        self.change_identity()?;
        for hook in &mut self.hooks {
            if let Err(error) = (hook.0)() {
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                // Dropping it may need a lock that was held by a thread which does not exist in
                // this process.
                std::mem::forget(error);
                return Err(SetupStep::Hook.error(number));
            }
        }
        Ok(())
    }

    /// Groups, group, user: each step needs rights that the next one may take away.
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

/// The step that failed. It is encoded into the error number, which is all that reaches the parent.
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

impl SetupStep {
    fn error(self, number: i32) -> io::Error {
        io::Error::from_raw_os_error(number | (self as i32) << STEP_SHIFT)
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

/// Returns what a new process failed to do, and why; `None` if it was no step of a [`Setup`].
pub(crate) fn failed_step(error: &io::Error) -> Option<(&'static str, io::Error)> {
    let number = error.raw_os_error()?;
    let act = match number >> STEP_SHIFT {
        1 => "make a session for the new process",
        2 => "change the nice value of the new process",
        3 => "limit the resources of the new process",
        4 => "set the groups of the new process",
        5 => "set the group id of the new process",
        6 => "set the user id of the new process",
        7 => "run a `pre_exec` hook in the new process",
        8 => "bind the new process to its processors (does one of them exist?)",
        _ => return None,
    };
    Some((act, io::Error::from_raw_os_error(number & ((1 << STEP_SHIFT) - 1))))
}

/// Returns the limit of a resource. The highest number means no limit.
pub(crate) fn limit(soft: u64, hard: u64) -> Rlimit {
    let known = |limit| (limit != u64::MAX).then_some(limit);
    Rlimit { current: known(soft), maximum: known(hard) }
}
