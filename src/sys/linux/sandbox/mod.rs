//! Gives up all rights of this process except its open descriptors, and a few that are named.
//!
//! Two layers that do not depend on each other: Landlock, which knows paths and ports, and a filter
//! of system calls, which knows everything else. The filter comes last, because it forbids what the
//! other steps need.

mod calls;
mod filter;
mod threads;
mod violation;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use serde::{Deserialize, Serialize};

use crate::error::Protection;
use calls::Allowed;
pub(crate) use calls::call_name;
pub(crate) use violation::ViolationReport;

/// What a worker may do beyond its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxPlan {
    pub(crate) read: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
    pub(crate) execute: Vec<PathBuf>,
    pub(crate) tcp_ports: Vec<u16>,
    /// Its network is a new one, without a way out.
    pub(crate) own_network: bool,
    pub(crate) limits: Vec<SandboxLimit>,
    /// True if the worker runs even if the kernel lacks something.
    pub(crate) best_effort: bool,
    /// True if a forbidden call ends the worker.
    pub(crate) deadly: bool,
}

/// A limit of a resource, soft and hard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxLimit {
    pub(crate) resource: u32,
    pub(crate) name: String,
    pub(crate) max: u64,
}

/// Why a process is not in its sandbox.
#[derive(Debug)]
pub(crate) enum SandboxFailure {
    /// The kernel lacks this, for this reason.
    Missing(Protection, String),
    /// No kernel can do what was asked for.
    Invalid(String),
}

/// The ABIs of Landlock that this is written for. Of a younger one, nothing else is used.
const FILES_ABI: ABI = ABI::V8;
const PORTS_ABI: ABI = ABI::V4;
const SCOPES_ABI: ABI = ABI::V6;

/// Applies a plan to this process, for ever. Returns what is missing, if the plan allows that.
pub(crate) fn enter_sandbox(
    plan: &SandboxPlan,
    report: ViolationReport,
) -> Result<Vec<(Protection, String)>, SandboxFailure> {
    // The first use reads the values that the kernel passed to this process at its start: before
    // Linux 6.4 from a file, which the sandbox would not allow.
    let _ = rustix::param::page_size();
    let mut missing = Vec::new();
    let mut lack = |protection: Protection, reason: String| match plan.best_effort {
        true => {
            missing.push((protection, reason));
            Ok(())
        }
        false => Err(SandboxFailure::Missing(protection, reason)),
    };
    let abi = landlock_abi();
    if let Err(reason) = &abi {
        lack(Protection::Files, reason.clone())?;
    }
    let abi = abi.unwrap_or(0);
    if !plan.tcp_ports.is_empty() && abi < PORTS_ABI as i32 {
        let reason = format!("Landlock is of ABI {abi}, and ports need 4 (Linux 6.7)");
        lack(Protection::TcpPorts, reason)?;
    }
    let ruleset = if abi > 0 { ruleset(plan)? } else { None };
    if plan.own_network {
        if let Err(error) = leave_network() {
            lack(Protection::NetworkNamespace, error.to_string())?;
        }
    }
    for limit in &plan.limits {
        set_limit(limit)?;
    }
    if let Err(error) = threads::bind_all(ruleset.as_ref().map(AsFd::as_fd)) {
        lack(Protection::Files, error.to_string())?;
    }
    drop(ruleset);
    let mut allowed = Allowed {
        paths: !(plan.read.is_empty() && plan.write.is_empty() && plan.execute.is_empty()),
        changes: !plan.write.is_empty(),
        tcp: !plan.tcp_ports.is_empty(),
        programs: !plan.execute.is_empty(),
        deadly: plan.deadly,
    };
    if plan.deadly {
        // Without the handler, the signal alone ends the process.
        allowed.deadly = violation::arm(report).is_ok();
    }
    if let Err(reason) = filter::apply(allowed) {
        lack(Protection::SystemCalls, reason)?;
    }
    Ok(missing)
}

/// Returns the ABI of the kernel's Landlock, or why there is none.
fn landlock_abi() -> Result<i32, String> {
    const VERSION: libc::c_int = 1;
    // SAFETY: with this flag the kernel reads no memory.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    if abi > 0 {
        return Ok(i32::try_from(abi).unwrap_or(i32::MAX));
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "the kernel has no Landlock (Linux 5.13 and later can have it)".to_owned()
        }
        Some(libc::EOPNOTSUPP) => {
            "Landlock is switched off (`lsm=` on the kernel's command line lists what is on)"
                .to_owned()
        }
        _ => format!("Landlock cannot be used: {error}"),
    })
}

/// Makes the rules of Landlock: they forbid everything that this kernel's Landlock can forbid, except
/// what the plan names.
fn ruleset(plan: &SandboxPlan) -> Result<Option<OwnedFd>, SandboxFailure> {
    let build = || {
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(FILES_ABI))?
            .handle_access(AccessNet::from_all(PORTS_ABI))?
            .scope(Scope::from_all(SCOPES_ABI))?
            .create()?;
        for &port in &plan.tcp_ports {
            ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
        Ok(ruleset)
    };
    let failed = |error: RulesetError| SandboxFailure::Invalid(error.to_string());
    let mut ruleset: RulesetCreated = build().map_err(failed)?;
    let devices = AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev;
    let rights = [
        (&plan.read, AccessFs::ReadFile | AccessFs::ReadDir),
        (&plan.write, AccessFs::from_write(FILES_ABI) & !devices),
        (&plan.execute, AccessFs::Execute | AccessFs::ReadFile),
    ];
    for (paths, rights) in rights {
        for path in paths {
            let (file, rights) = open(path, rights).map_err(|error| {
                SandboxFailure::Invalid(format!("`{}` cannot be opened: {error}", path.display()))
            })?;
            ruleset = ruleset.add_rule(PathBeneath::new(file, rights)).map_err(failed)?;
        }
    }
    if !plan.execute.is_empty() {
        // Programs are started with it as their stdin, stdout or stderr.
        if let Ok((file, rights)) = open(Path::new("/dev/null"), AccessFs::from_all(FILES_ABI)) {
            let rights = rights & (AccessFs::ReadFile | AccessFs::WriteFile);
            ruleset = ruleset.add_rule(PathBeneath::new(file, rights)).map_err(failed)?;
        }
    }
    Ok(ruleset.into())
}

/// Opens a path without access to its content, and returns those of the rights that it can have.
fn open(path: &Path, rights: BitFlags<AccessFs>) -> io::Result<(OwnedFd, BitFlags<AccessFs>)> {
    use rustix::fs::{FileType, Mode, OFlags};
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    let rights = match kind {
        FileType::Directory => rights,
        _ => rights & AccessFs::from_file(FILES_ABI),
    };
    Ok((file, rights))
}

/// Moves the calling thread, and those that it starts, into a network of its own.
fn leave_network() -> io::Result<()> {
    // SAFETY: no memory is shared differently afterwards.
    let unshare = |flags| match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    if unshare(libc::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    // A process that lacks the right to do this has it in a user namespace of its own.
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

fn set_limit(limit: &SandboxLimit) -> Result<(), SandboxFailure> {
    let value = libc::rlimit { rlim_cur: limit.max as _, rlim_max: limit.max as _ };
    // SAFETY: the kernel reads a struct that lives long enough.
    if unsafe { libc::setrlimit(limit.resource as _, &value) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let (name, max) = (&limit.name, limit.max);
    Err(SandboxFailure::Invalid(format!("the limit {name} cannot be set to {max}: {error}")))
}
