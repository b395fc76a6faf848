//! The current process and its parent, for user code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::process::child::control;
use crate::process::identity::{self, Identity};
use crate::process::inline_context;

/// Returns the identity of the inline worker on this thread, or of this process.
fn current_identity() -> Arc<Identity> {
    inline_context::identity().unwrap_or_else(identity::of_process)
}

/// The process that runs the calling code, or the [inline](crate::process::Backend::Inline) worker
/// that does.
///
/// This is plain data: dropping it does nothing.
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
    /// Returns its name: `main` for the program itself, otherwise that of
    /// [`ProcessBuilder::name`](crate::ProcessBuilder::name).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Returns its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Returns whether it was started as a daemon.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.identity.daemon
    }

    /// Returns its depth in the tree of processes: 0 for the program itself, 1 for its children.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.identity.depth
    }

    /// Returns how many times it was restarted, if its parent counts restarts with
    /// [`ProcessBuilder::generation`](crate::ProcessBuilder::generation); otherwise 0.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.identity.generation
    }

    /// Returns the number of its place in a pool, which is the one that
    /// [`PoolBuilder::process`](crate::PoolBuilder::process) passes to its closure; `None` outside
    /// a pool.
    ///
    /// A replacement has the number of the process that it replaces, and no two processes of a pool
    /// have the same number at the same time. So it can select what each worker must have for
    /// itself: a GPU, a port, a scratch directory.
    ///
    /// ```
    /// use offspring::Pool;
    ///
    /// #[offspring::worker]
    /// fn slot() -> Option<usize> {
    ///     offspring::current().slot()
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::new(2)?;
    ///     assert!(pool.run(slot::new())?.unwrap() < 2);
    ///     assert_eq!(offspring::current().slot(), None);
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn slot(&self) -> Option<usize> {
        self.identity.slot.map(|slot| slot as usize)
    }
}

impl CurrentProcess {
    /// Returns whether the parent asked it to stop, with [`Process::stop`](crate::Process::stop) or
    /// [`request_stop`](crate::Process::request_stop). Always `false` in the program itself.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        inline_context::stop_request()
            .map_or_else(control::is_stopping, |request| request.is_requested())
    }

    /// Waits until it is asked to stop. In the program itself the call never returns.
    pub fn wait_stopping(&self) {
        wait_stopping(None);
    }

    /// Waits until it is asked to stop, but no longer than `timeout`. Returns whether it was asked.
    ///
    /// In a loop, this is a pause between rounds that a request to stop cuts short.
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
    match inline_context::stop_request() {
        Some(request) => request.wait(deadline),
        None => control::wait_stopping(deadline),
    }
}

/// The process that started this one.
///
/// This is plain data: dropping it does nothing.
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

    /// Returns whether it still runs. A process that was not [detached](crate::Process::detach)
    /// ends with its parent, so only a detached one ever sees `false`.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !control::is_orphaned()
    }

    /// Waits for its end. A process that was not [detached](crate::Process::detach) then ends, too.
    pub fn join(&self) {
        control::wait_orphaned(None);
    }

    /// Waits for its end, but no longer than `timeout`. Returns whether it has ended.
    #[must_use]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        control::wait_orphaned(Instant::now().checked_add(timeout))
    }
}

/// Returns the process that runs the calling code.
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
    CurrentProcess { identity: current_identity() }
}

/// Returns the process itself, even on the thread of an inline worker.
pub(crate) fn this_process() -> CurrentProcess {
    CurrentProcess { identity: identity::of_process() }
}

/// Returns the process that started this one, or `None` in the program itself.
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
    let (name, pid) = current_identity().parent.clone()?;
    Some(ParentProcess { name, pid })
}
