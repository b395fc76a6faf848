//! Who this process is.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::child::lifeline;
use crate::process::inline;

/// What a process knows of itself; the child's comes with its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) depth: u32,
    pub(crate) generation: u32,
    /// Name and pid.
    pub(crate) parent: Option<(String, u32)>,
}

impl Identity {
    pub(crate) fn of_main() -> Identity {
        Identity {
            name: "main".to_owned(),
            daemon: false,
            depth: 0,
            generation: 0,
            parent: None,
        }
    }
}

static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();

pub(crate) fn set(identity: Identity) {
    let _ = IDENTITY.set(Arc::new(identity));
}

/// Of the worker on this thread, or of this process.
fn identity() -> Option<Arc<Identity>> {
    inline::identity().or_else(|| IDENTITY.get().cloned())
}

/// The process that runs this code. Copied facts: `Drop` does nothing.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let me = offspring::current();
/// assert_eq!((me.name(), me.depth(), me.is_daemon()), ("main", 0, false));
/// assert_eq!(me.pid(), std::process::id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CurrentProcess {
    identity: Arc<Identity>,
}

impl CurrentProcess {
    /// Its name: `main` for the program itself, else what [`ProcessBuilder::name`](crate::ProcessBuilder::name) gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Whether it was started as a daemon.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.identity.daemon
    }

    /// How many starts lie between the program and it: 0 for the program itself.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.identity.depth
    }

    /// How often it was started again in place of one that had ended, if who starts it counts that:
    /// [`ProcessBuilder::generation`](crate::ProcessBuilder::generation). Else 0.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.identity.generation
    }
}

impl CurrentProcess {
    /// Whether the parent asked it to stop: [`Process::stop`](crate::Process::stop). Never true in the program itself.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        inline::asked().map_or_else(lifeline::is_stopping, |asked| asked.is_stopping())
    }

    /// Waits until it is asked to stop; in the program itself for ever.
    pub fn wait_stopping(&self) {
        wait_stopping(None);
    }

    /// Waits at most this long until it is asked to stop; whether it was. In a loop, a pause between rounds that a stop
    /// cuts short.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// #[offspring::worker]
    /// fn tick() -> u32 {
    ///     let mut ticks = 0;
    ///     while !offspring::current().wait_stopping_timeout(Duration::from_millis(1)) {
    ///         ticks += 1;
    ///     }
    ///     ticks
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let process = tick::spawn()?;
    ///     process.stop(Duration::from_secs(5));
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn wait_stopping_timeout(&self, timeout: Duration) -> bool {
        wait_stopping(Instant::now().checked_add(timeout))
    }
}

fn wait_stopping(deadline: Option<Instant>) -> bool {
    match inline::asked() {
        Some(asked) => asked.wait_stopping(deadline),
        None => lifeline::wait_stopping(deadline),
    }
}

/// The process that started this one. `Drop` does nothing.
///
/// ```
/// #[offspring::worker]
/// fn parent_pid() -> Option<u32> {
///     offspring::parent().map(|parent| parent.pid())
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert!(offspring::parent().is_none()); // this is the program itself
///     assert_eq!(parent_pid::spawn()?.join()?, Some(std::process::id()));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ParentProcess {
    name: String,
    pid: u32,
}

impl ParentProcess {
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

    /// Whether it still runs. A process that was not [detached](crate::Process::detach) ends with its parent, so only a
    /// detached one ever sees `false`.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !lifeline::is_orphaned()
    }

    /// Waits for its end. A process that was not [detached](crate::Process::detach) ends at that moment itself.
    pub fn join(&self) {
        lifeline::wait_orphaned(None);
    }

    /// Waits at most this long for its end; whether it came.
    #[must_use]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        lifeline::wait_orphaned(Instant::now().checked_add(timeout))
    }
}

/// The process that runs this code.
///
/// ```
/// #[offspring::worker]
/// fn name() -> String {
///     offspring::current().name().to_owned()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert_eq!(offspring::current().name(), "main");
///     assert_eq!(offspring::ProcessBuilder::new().name("bob").spawn(name::new())?.join()?, "bob");
///     Ok(())
/// }
/// ```
#[must_use]
pub fn current() -> CurrentProcess {
    CurrentProcess {
        identity: identity().unwrap_or_else(|| Arc::new(Identity::of_main())),
    }
}

/// This process itself, whatever runs on this thread.
pub(crate) fn this_process() -> CurrentProcess {
    CurrentProcess {
        identity: IDENTITY
            .get()
            .cloned()
            .unwrap_or_else(|| Arc::new(Identity::of_main())),
    }
}

/// The process that started this one; `None` in the program itself.
///
/// ```
/// #[offspring::worker]
/// fn whose_child() -> String {
///     offspring::parent().expect("it was started").name().to_owned()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert!(offspring::parent().is_none());
///     assert_eq!(whose_child::spawn()?.join()?, "main");
///     Ok(())
/// }
/// ```
#[must_use]
pub fn parent() -> Option<ParentProcess> {
    let (name, pid) = identity()?.parent.clone()?;
    Some(ParentProcess { name, pid })
}
