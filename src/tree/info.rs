//! One process of a snapshot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{self, Backend, ChildRecord};
use crate::sys::{self, Stat};

/// The state of a process.
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::tree::ProcessState;
///
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let _daemon = ProcessBuilder::new().daemon(true).spawn(rest::new())?;
///     let tree = offspring::tree();
///     let suspended = tree.processes().filter(|process| process.state() == ProcessState::Stopped);
///     assert_eq!(suspended.count(), 0); // no process was sent a SIGSTOP
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProcessState {
    /// One of its threads is running or ready to run.
    Running,
    /// It is waiting, and can be interrupted.
    Sleeping,
    /// It is waiting for a device, and cannot be interrupted, not even by SIGKILL.
    Blocked,
    /// It was suspended by a signal such as SIGSTOP, or by a debugger.
    Stopped,
    /// It has ended, and its parent has not reaped it yet.
    Ended,
    /// The system reports no state, or one that this crate does not know.
    Unknown,
}

impl ProcessState {
    fn of(letter: char) -> ProcessState {
        match letter {
            'R' => ProcessState::Running,
            'S' | 'I' => ProcessState::Sleeping,
            'D' => ProcessState::Blocked,
            'T' | 't' => ProcessState::Stopped,
            'Z' | 'X' => ProcessState::Ended,
            _ => ProcessState::Unknown,
        }
    }
}

/// A process in a [`ProcessTree`](crate::tree::ProcessTree). Plain data: dropping it does nothing.
///
/// Some details are known only to the parent of a process. They are `None` for a grandchild.
///
/// ```
/// # #[offspring::main]
/// # fn main() {
/// let tree = offspring::tree();
/// for process in tree.processes() {
///     println!(
///         "{} (pid {}): {}, {} KiB, {:?} of CPU time",
///         process.name(),
///         process.pid(),
///         process.state(),
///         process.memory() >> 10,
///         process.cpu_time(),
///     );
/// }
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessInfo {
    pid: u32,
    name: String,
    kind: ProcessKind,
    state: ProcessState,
    worker: Option<String>,
    actor: Option<String>,
    daemon: Option<bool>,
    detached: bool,
    generation: Option<u32>,
    uptime: Duration,
    user_time: Duration,
    system_time: Duration,
    memory: u64,
    proportional_memory: Option<u64>,
    threads: u32,
    children: Vec<ProcessInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ProcessKind {
    /// A process that runs this program.
    Process,
    /// A worker on a thread of this process.
    Thread,
    /// A process that runs another program.
    Program,
}

impl ProcessInfo {
    /// Describes a process by what the system reports.
    pub(super) fn of(pid: u32, stat: Option<&Stat>) -> ProcessInfo {
        ProcessInfo {
            pid,
            name: stat.map_or_else(String::new, |stat| stat.name.clone()),
            kind: if sys::runs_this_image(pid) {
                ProcessKind::Process
            } else {
                ProcessKind::Program
            },
            state: stat.map_or(ProcessState::Unknown, |stat| ProcessState::of(stat.state)),
            worker: None,
            actor: None,
            daemon: None,
            detached: false,
            generation: None,
            uptime: stat
                .map_or(Duration::ZERO, |stat| sys::since_boot().saturating_sub(stat.started)),
            user_time: stat.map_or(Duration::ZERO, |stat| stat.user),
            system_time: stat.map_or(Duration::ZERO, |stat| stat.system),
            memory: stat.map_or(0, |stat| stat.resident),
            proportional_memory: sys::proportional_memory(pid),
            threads: stat.map_or(0, |stat| stat.threads),
            children: Vec::new(),
        }
    }

    pub(super) fn of_this_process(self) -> ProcessInfo {
        let current = process::this_process();
        ProcessInfo {
            name: current.name().to_owned(),
            kind: ProcessKind::Process,
            daemon: Some(current.is_daemon()),
            generation: Some(current.generation()),
            ..self
        }
    }

    pub(super) fn of_child(self, child: &ChildRecord) -> ProcessInfo {
        ProcessInfo {
            name: child.name.clone(),
            kind: if child.is_inline() { ProcessKind::Thread } else { ProcessKind::Process },
            worker: Some(child.worker.to_owned()),
            actor: process::actor_of(child.worker).map(str::to_owned),
            daemon: Some(child.daemon),
            detached: child.is_detached(),
            generation: Some(child.generation),
            ..self
        }
    }

    /// Describes a worker on a thread. Resources are missing, because the system counts them for
    /// the whole process.
    pub(super) fn on_thread(child: &ChildRecord) -> ProcessInfo {
        ProcessInfo {
            proportional_memory: None,
            ..ProcessInfo::of(child.pid, None).of_child(child)
        }
    }

    pub(super) fn with_children(self, children: Vec<ProcessInfo>) -> ProcessInfo {
        ProcessInfo { children, ..self }
    }

    /// Returns the name of the process. For a grandchild or another program, the system knows only
    /// the first 15 bytes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the pid. For a worker on a thread, that is the pid of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns what the process is doing.
    #[must_use]
    pub fn state(&self) -> ProcessState {
        self.state
    }

    /// Returns whether it runs another program, such as a shell that a worker started.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.kind == ProcessKind::Program
    }

    /// Returns whether it is a process of its own or a thread of this one.
    #[must_use]
    pub fn backend(&self) -> Backend {
        if self.kind == ProcessKind::Thread { Backend::Inline } else { Backend::Process }
    }

    /// Returns the name under which its worker is registered, by default the path of its type.
    /// Known for children of this process.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.worker.as_deref()
    }

    /// Returns the path of the actor type that it runs, if its worker is an actor. Known for
    /// children of this process.
    #[must_use]
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// Returns whether it is a daemon. Known for this process and its children.
    #[must_use]
    pub fn is_daemon(&self) -> Option<bool> {
        self.daemon
    }

    /// Returns whether it was [detached](crate::Process::detach) and so may outlive this process.
    /// Known for children of this process; `false` for others.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// Returns how many processes ran in its place before it, for actors and workers that were
    /// restarted. Known for this process and its children.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// Returns how long it has been running. Resolution: 10 ms.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.uptime
    }

    /// Returns the CPU time that it has used. Resolution: 10 ms. The difference between two
    /// snapshots, divided by the time between them, is its load.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.user_time + self.system_time
    }

    /// Returns the part of [`cpu_time`](ProcessInfo::cpu_time) spent in user mode.
    #[must_use]
    pub fn user_time(&self) -> Duration {
        self.user_time
    }

    /// Returns the part of [`cpu_time`](ProcessInfo::cpu_time) spent in the kernel.
    #[must_use]
    pub fn system_time(&self) -> Duration {
        self.system_time
    }

    /// Returns the memory in use, in bytes (RSS). Memory that processes share, such as the
    /// program's code, counts fully for each of them.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns the memory in use, in bytes, with shared memory divided among the processes that
    /// share it (PSS): the sum over processes is what they use together. `None` if the system does
    /// not report it.
    #[must_use]
    pub fn proportional_memory(&self) -> Option<u64> {
        self.proportional_memory
    }

    /// Returns the number of its threads.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Returns its children that are still there, oldest first.
    #[must_use]
    pub fn children(&self) -> &[ProcessInfo] {
        &self.children
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_those_of_proc() {
        let states = "RSIDTtZX?".chars().map(ProcessState::of);
        assert_eq!(
            states.collect::<Vec<_>>(),
            [
                ProcessState::Running,
                ProcessState::Sleeping,
                ProcessState::Sleeping,
                ProcessState::Blocked,
                ProcessState::Stopped,
                ProcessState::Stopped,
                ProcessState::Ended,
                ProcessState::Ended,
                ProcessState::Unknown,
            ]
        );
    }

    #[test]
    fn a_process_that_is_gone_has_no_facts() {
        let info = ProcessInfo::of(u32::MAX, None);
        assert_eq!((info.name(), info.state()), ("", ProcessState::Unknown));
        assert_eq!((info.uptime(), info.memory(), info.threads()), (Duration::ZERO, 0, 0));
        assert_eq!((info.worker(), info.actor(), info.is_daemon()), (None, None, None));
    }
}
