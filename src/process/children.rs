//! The list of this process's children.

use crate::process::parent::reaper;

/// A running child of this process, without the type of its output.
///
/// This is plain data: dropping it does nothing.
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
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns whether it is a daemon.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }
}

/// Returns the running children of this process, in the order of their start. Detached ones are not
/// included.
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
        .filter(|child| !child.is_detached())
        .map(|child| ChildProcess {
            name: child.name.clone(),
            pid: child.pid,
            daemon: child.daemon,
        })
        .collect()
}
