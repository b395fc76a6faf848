//! The resources that the system limits.

use crate::sys;

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
    /// Bytes of mapped memory (`RLIMIT_AS`). An allocation beyond it fails, which ends most
    /// programs.
    AddressSpace,
    /// Bytes of a core dump (`RLIMIT_CORE`); 0 for none.
    Core,
    /// Seconds of processor time (`RLIMIT_CPU`). The system sends SIGXCPU at the soft limit, and
    /// SIGKILL at the hard one.
    Cpu,
    /// Bytes of heap and data (`RLIMIT_DATA`).
    Data,
    /// The longest file that the process can write, in bytes (`RLIMIT_FSIZE`).
    FileSize,
    /// Bytes of locked memory (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// One more than the highest descriptor (`RLIMIT_NOFILE`). A worker needs about 16.
    OpenFiles,
    /// Processes and threads of the process's user (`RLIMIT_NPROC`).
    Processes,
    /// Bytes of the main thread's stack (`RLIMIT_STACK`).
    Stack,
}

impl Resource {
    #[cfg(feature = "sandbox")]
    pub(super) fn number(self) -> u32 {
        self.of_system() as u32
    }

    pub(super) fn of_system(self) -> sys::Resource {
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
