//! What a sandbox consists of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of a sandbox, which the kernel may lack.
///
/// ```
/// use offspring::SpawnError;
/// use offspring::process::Protection;
///
/// /// Returns whether to try it without a sandbox.
/// fn is_old_kernel(error: &SpawnError) -> bool {
///     matches!(error, SpawnError::Sandbox { missing: Protection::Files, .. })
/// }
/// assert!(!is_old_kernel(&SpawnError::Exiting));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Protection {
    /// Landlock, which decides the paths that the worker can use: Linux 5.13 and later, unless it
    /// is switched off.
    Files,
    /// Landlock for the ports that it can connect to: Linux 6.7 and later.
    TcpPorts,
    /// The filter of system calls (seccomp): Linux 4.14 and later, on x86-64, AArch64 and RISC-V.
    SystemCalls,
    /// A network of its own. Users other than root need user namespaces, and a worker that has no
    /// other threads.
    NetworkNamespace,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protection::Files => "Landlock for files",
            Protection::TcpPorts => "Landlock for TCP ports",
            Protection::SystemCalls => "a filter of system calls (seccomp)",
            Protection::NetworkNamespace => "a network namespace",
        })
    }
}
