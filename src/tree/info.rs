//! One process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{self, Backend, Running};
use crate::sys::{self, Stat};

/// What a process does at the moment.
///
/// ```
/// use offspring::ProcessState;
///
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let _daemon = offspring::ProcessBuilder::new().daemon(true).spawn(rest::new())?;
///     let tree = offspring::tree();
///     let suspended = tree.processes().filter(|process| process.state() == ProcessState::Stopped);
///     assert_eq!(suspended.count(), 0); // nobody has sent a SIGSTOP
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProcessState {
    /// A thread of it runs, or could.
    Running,
    /// It waits, and anything may wake it.
    Sleeping,
    /// It waits for a device, and cannot be ended meanwhile.
    Blocked,
    /// It is suspended, by SIGSTOP or by a debugger.
    Stopped,
    /// It has ended, and its parent has not looked after it yet.
    Ended,
    /// The system tells nothing that is known here.
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

/// A process at one moment; in a [`ProcessTree`](crate::ProcessTree). Copied facts: `Drop` does nothing.
///
/// What is `None` only the parent of that process knows: of a grandchild there is what the system tells.
///
/// ```
/// # #[offspring::main]
/// # fn main() {
/// let tree = offspring::tree();
/// for process in tree.processes() {
///     println!(
///         "{} (pid {}): {}, {} KiB, {:?} of processor time",
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
    kind: Kind,
    state: ProcessState,
    worker: Option<String>,
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
enum Kind {
    Process,
    Thread,
    /// It runs another program.
    Program,
}

impl ProcessInfo {
    /// What the system tells.
    pub(super) fn of(pid: u32, stat: Option<&Stat>) -> ProcessInfo {
        ProcessInfo {
            pid,
            name: stat.map_or_else(String::new, |stat| stat.name.clone()),
            kind: if sys::runs_this_image(pid) {
                Kind::Process
            } else {
                Kind::Program
            },
            state: stat.map_or(ProcessState::Unknown, |stat| ProcessState::of(stat.state)),
            worker: None,
            daemon: None,
            detached: false,
            generation: None,
            uptime: stat.map_or(Duration::ZERO, |stat| {
                sys::since_boot().saturating_sub(stat.started)
            }),
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
            kind: Kind::Process,
            daemon: Some(current.is_daemon()),
            generation: Some(current.generation()),
            ..self
        }
    }

    pub(super) fn of_child(self, child: &Running) -> ProcessInfo {
        ProcessInfo {
            name: child.name.clone(),
            kind: if child.is_on_thread() {
                Kind::Thread
            } else {
                Kind::Process
            },
            worker: Some(child.worker.to_owned()),
            daemon: Some(child.daemon),
            detached: child.is_detached(),
            generation: Some(child.generation),
            ..self
        }
    }

    /// What a thread uses is counted for its process.
    pub(super) fn on_thread(child: &Running) -> ProcessInfo {
        ProcessInfo {
            proportional_memory: None,
            ..ProcessInfo::of(child.pid, None).of_child(child)
        }
    }

    pub(super) fn with_children(self, children: Vec<ProcessInfo>) -> ProcessInfo {
        ProcessInfo { children, ..self }
    }

    /// Its name; of a grandchild, or of another program, the first 15 bytes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid; of a worker on a thread its process's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it does at the moment.
    #[must_use]
    pub fn state(&self) -> ProcessState {
        self.state
    }

    /// Whether it runs another program than this process does, such as a shell that a worker has started.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.kind == Kind::Program
    }

    /// Whether it is a process of its own, or a thread of this one.
    #[must_use]
    pub fn backend(&self) -> Backend {
        if self.kind == Kind::Thread {
            Backend::Inline
        } else {
            Backend::Process
        }
    }

    /// The name under which its worker is registered: the type with its path. Known of this process's children.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.worker.as_deref()
    }

    /// Whether it is a daemon. Known of this process and its children.
    #[must_use]
    pub fn is_daemon(&self) -> Option<bool> {
        self.daemon
    }

    /// Whether it was [detached](crate::Process::detach), and outlives this process. Known of its children only.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// How often it was started again in place of one that had ended, as actors are. Known of this process and its
    /// children.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// For how long it has run, to a hundredth of a second.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.uptime
    }

    /// Processor time that it has used, to a hundredth of a second. The difference of two snapshots, divided by the time
    /// between them, is its load.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.user_time + self.system_time
    }

    /// The part of [`cpu_time`](ProcessInfo::cpu_time) that it spent in its own code.
    #[must_use]
    pub fn user_time(&self) -> Duration {
        self.user_time
    }

    /// The part of [`cpu_time`](ProcessInfo::cpu_time) that it spent in the system.
    #[must_use]
    pub fn system_time(&self) -> Duration {
        self.system_time
    }

    /// Bytes of memory that it has in use (RSS). What processes share, such as the program's code, counts for each.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes of memory in use, where what is shared is divided among those who share it (PSS): the sum over processes is what
    /// they take together. `None` if the system does not tell.
    #[must_use]
    pub fn proportional_memory(&self) -> Option<u64> {
        self.proportional_memory
    }

    /// Its threads.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// The processes that it has started and that run, in the order of their start.
    #[must_use]
    pub fn children(&self) -> &[ProcessInfo] {
        &self.children
    }
}
