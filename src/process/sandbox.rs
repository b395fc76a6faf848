//! Sandboxes: what a worker may do beyond using its fields.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Protection, SpawnError, printable};
use crate::process::resource::Resource;
use crate::sys::{SandboxLimit, SandboxPlan};

/// What a sandboxed worker may do beyond using its fields; see [`ProcessBuilder::sandbox`].
///
/// A sandbox is put on before the worker's value is decoded, for all threads of the process, and
/// for ever. Inside of it:
///
/// | | |
/// | --- | --- |
/// | memory, threads, time, random numbers, signals to itself | work |
/// | all handles of this crate, in fields or received later; logs, panic reports, the output | work |
/// | files and sockets of fields ([`SharedFd`](crate::unix::SharedFd)), stdin, stdout and stderr | work |
/// | opening, creating or changing files; `stat` | refused, but for what [`read`](Sandbox::read), [`write`](Sandbox::write) and [`execute`](Sandbox::execute) name |
/// | sockets | refused, but for [`connect_tcp`](Sandbox::connect_tcp) |
/// | programs, forks, workers of its own | refused, but for [`execute`](Sandbox::execute) |
/// | signals to other processes, `ptrace`, their memory | refused |
/// | other users, namespaces, mounts, devices, keys, `bpf`, `io_uring` and all other system calls | refused |
///
/// A refused call returns an error, `ErrorKind::PermissionDenied`, or ends the worker with
/// [`kill_on_violation`](Sandbox::kill_on_violation). A worker that runs as root loses root's
/// privileges: it can only use files that root owns, or that every user can use.
///
/// A panic is reported with its backtrace if `RUST_BACKTRACE` is set: the debug information is read
/// before the sandbox is put on, which makes the start slower. Local time is UTC, and names of hosts
/// are not resolved, unless the files for that can be read.
///
/// [Security](crate::guide::security) says what this keeps a hostile worker from, and what not.
///
/// ```
/// use std::io::ErrorKind::PermissionDenied;
///
/// use offspring::ProcessBuilder;
/// use offspring::channel::Sender;
/// use offspring::process::Sandbox;
///
/// #[offspring::worker]
/// fn is_confined(text: String, lengths: Sender<usize>) -> bool {
///     lengths.send(text.len()).unwrap(); // a handle of its fields
///     std::fs::read("/etc/passwd").is_err_and(|error| error.kind() == PermissionDenied)
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (lengths, results) = offspring::channel()?;
///     let builder = ProcessBuilder::new().sandbox(Sandbox::fields_only());
///     let worker = builder.spawn(is_confined::new("text".to_owned(), lengths))?;
///     assert_eq!(results.recv()?, 4);
///     assert!(worker.join()?);
///     Ok(())
/// }
/// ```
///
/// [`ProcessBuilder::sandbox`]: crate::ProcessBuilder::sandbox
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "give it to `ProcessBuilder::sandbox`"]
pub struct Sandbox {
    plan: SandboxPlan,
}

impl Sandbox {
    /// The worker can use its fields, and nothing else.
    pub fn fields_only() -> Sandbox {
        Sandbox { plan: SandboxPlan::default() }
    }

    /// Lets the worker read a file, or all files and directories below a directory. Call it for
    /// each path.
    ///
    /// The path must exist when the worker starts. A relative one begins at the worker's directory.
    /// The worker learns about all other paths whether they exist, and what `stat` tells.
    pub fn read(mut self, path: impl Into<PathBuf>) -> Sandbox {
        self.plan.read.push(path.into());
        self
    }

    /// Lets the worker write a file, or create, change, rename and delete files and directories
    /// below a directory. Call it for each path, and [`read`](Sandbox::read) to read it as well.
    ///
    /// Owners, permissions and times of files cannot be changed. Otherwise like `read`.
    pub fn write(mut self, path: impl Into<PathBuf>) -> Sandbox {
        self.plan.write.push(path.into());
        self
    }

    /// Lets the worker read and execute a program, or all programs below a directory, and use
    /// `/dev/null`. What it starts is in the same sandbox. Call it for each path.
    ///
    /// Most programs need their libraries and loader as well: `.execute("/lib64").read("/usr/lib")`
    /// and the like. Otherwise like [`read`](Sandbox::read).
    pub fn execute(mut self, path: impl Into<PathBuf>) -> Sandbox {
        self.plan.execute.push(path.into());
        self
    }

    /// Lets the worker make TCP connections to this port, of every host. Call it for each port.
    ///
    /// It needs [`Protection::TcpPorts`]. No other socket can be made, not even one to look up a
    /// host's name: pass addresses to the worker.
    pub fn connect_tcp(mut self, port: u16) -> Sandbox {
        self.plan.tcp_ports.push(port);
        self
    }

    /// Gives the worker a network of its own, without any other end. Default: the parent's, where
    /// it cannot make sockets.
    ///
    /// This is one more layer below the others, and makes the start slower.
    pub fn network_namespace(mut self) -> Sandbox {
        self.plan.own_network = true;
        self
    }

    /// Limits a resource. Unlike with [`rlimit`](crate::unix::ProcessBuilderExt::rlimit), the
    /// worker cannot change it in any way, and the start does not need a fork.
    pub fn limit(mut self, resource: Resource, max: u64) -> Sandbox {
        let (resource, name) = (resource.number(), format!("{resource:?}"));
        self.plan.limits.push(SandboxLimit { resource, name, max });
        self
    }

    /// Ends the worker when it makes a system call that the filter forbids, with
    /// [`ExitReason::Forbidden`](crate::ExitReason::Forbidden). Default: the call fails, with
    /// `ErrorKind::PermissionDenied`.
    ///
    /// With a path, a port or a program, the calls for those are allowed: a wrong path is an error
    /// of the call then, which the worker may ignore. Libraries make calls that they do not need
    /// (such as opening `/etc/localtime`), which end the worker as well.
    pub fn kill_on_violation(mut self) -> Sandbox {
        self.plan.deadly = true;
        self
    }

    /// Starts the worker even if the kernel lacks a [`Protection`]. Default: that is
    /// [`SpawnError::Sandbox`].
    ///
    /// [`Process::sandbox`](crate::Process::sandbox) says what is missing. What is missing does not
    /// hold: without [`Protection::Files`] a worker with a path can open all paths that its user
    /// can.
    pub fn best_effort(mut self) -> Sandbox {
        self.plan.best_effort = true;
        self
    }

    /// Returns what no kernel can do.
    pub(super) fn check(&self) -> Result<(), SpawnError> {
        if self.plan.own_network && !self.plan.tcp_ports.is_empty() {
            return Err(SpawnError::InvalidOption {
                option: "sandbox",
                problem:
                    "has a network namespace and TCP ports: nothing listens in a new namespace"
                        .to_owned(),
            });
        }
        Ok(())
    }

    pub(super) fn into_plan(self) -> SandboxPlan {
        self.plan
    }
}

/// What the kernel has done for a sandboxed worker, from [`Process::sandbox`](crate::Process::sandbox).
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::process::Sandbox;
///
/// #[offspring::worker]
/// fn work() {}
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let sandbox = Sandbox::fields_only().best_effort();
///     let worker = ProcessBuilder::new().sandbox(sandbox).spawn(work::new())?;
///     let applied = worker.sandbox().expect("it has one");
///     if !applied.is_complete() {
///         println!("without protection: {applied}");
///     }
///     worker.join()?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedSandbox {
    missing: Vec<Lack>,
    /// A forbidden call ends the worker.
    deadly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lack {
    protection: Protection,
    #[serde(deserialize_with = "printable::deserialize_text")]
    reason: String,
}

impl AppliedSandbox {
    pub(super) fn new(plan: &SandboxPlan, missing: Vec<(Protection, String)>) -> AppliedSandbox {
        let lack = |(protection, reason)| Lack { protection, reason };
        AppliedSandbox { missing: missing.into_iter().map(lack).collect(), deadly: plan.deadly }
    }

    pub(super) fn is_deadly(&self) -> bool {
        self.deadly
    }

    /// Returns whether all that was asked for holds. Always true without
    /// [`best_effort`](Sandbox::best_effort).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Returns what does not hold, and why.
    pub fn missing(&self) -> impl Iterator<Item = (Protection, &str)> {
        self.missing.iter().map(|lack| (lack.protection, lack.reason.as_str()))
    }
}

impl fmt::Display for AppliedSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_complete() {
            return f.write_str("complete");
        }
        f.write_str("without ")?;
        for (number, (protection, reason)) in self.missing().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{protection} ({reason})")?;
        }
        Ok(())
    }
}
