//! The children of this process, as facts.

use crate::process::parent::reaper;

/// A running child of this process, without its type. Copied facts: `Drop` does nothing.
///
/// ```
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let _daemon = offspring::ProcessBuilder::new().daemon(true).name("bob").spawn(rest::new())?;
///     for child in offspring::active_children() {
///         println!("{} (pid {}){}", child.name(), child.pid(), if child.is_daemon() { ", a daemon" } else { "" });
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ChildProcess {
    name: String,
    pid: u32,
    daemon: bool,
}

impl ChildProcess {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is a daemon.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }
}

/// The children of this process that run now, in the order of their start.
///
/// ```
/// use offspring::ProcessBuilder;
///
/// #[offspring::worker]
/// fn rest() {
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let child = ProcessBuilder::new().name("bob").spawn(rest::new())?;
///     assert!(offspring::active_children().iter().any(|child| child.name() == "bob"));
///     child.kill();
///     assert!(child.join().is_err());
///     assert!(offspring::active_children().is_empty());
///     Ok(())
/// }
/// ```
#[must_use]
pub fn active_children() -> Vec<ChildProcess> {
    reaper::running()
        .into_iter()
        .filter(|running| !running.is_detached())
        .map(|running| ChildProcess {
            name: running.name.clone(),
            pid: running.pid,
            daemon: running.daemon,
        })
        .collect()
}
