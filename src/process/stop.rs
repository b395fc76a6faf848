//! Ending a child by a request or by signals, alone or with its descendants; and detaching it.

use std::time::Duration;

use crate::error::{ExitReason, KillCause};
use crate::process::handle::Process;

impl<T> Process<T> {
    /// Stops the process: asks it to stop, waits for its end, and returns why it ended.
    ///
    /// The request is that of [`request_stop`](Process::request_stop): a process that does not
    /// react gets SIGTERM after `grace` and SIGKILL after a second `grace`, so this returns after
    /// little more than twice `grace`. With `Duration::MAX`, and for a worker [on a
    /// thread](crate::process::Backend::Inline), no signal follows, and the call waits until the
    /// worker returns. If the process has ended already, the call returns at once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// #[offspring::worker]
    /// fn count() -> u64 {
    ///     let mut rounds = 0;
    ///     while !offspring::current().is_stopping() {
    ///         rounds += 1;
    ///     }
    ///     rounds
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let process = count::spawn()?;
    ///     assert!(process.stop(Duration::from_secs(5)).is_success());
    ///     println!("{} rounds", process.join()?);
    ///     Ok(())
    /// }
    /// ```
    pub fn stop(&self, grace: Duration) -> ExitReason {
        self.request_stop(grace);
        self.await_end(None);
        self.exit_reason().unwrap_or(ExitReason::Unknown)
    }

    /// Asks the process to stop, and returns at once.
    ///
    /// From then on [`is_stopping`](crate::process::CurrentProcess::is_stopping) returns `true` in
    /// the process. If it still runs after `grace`, it gets SIGTERM (as from
    /// [`terminate`](Process::terminate)), and after a second `grace` SIGKILL.
    ///
    /// To stop many processes at the same time, ask all of them first and [`join`](Process::join)
    /// them afterwards. A worker that returns in time has [returned](ExitReason::Returned), and
    /// `join` returns its output. A worker that was ended by a signal was
    /// [killed](ExitReason::Killed) with [`KillCause::Stop`]. Blocking calls of the worker, such as
    /// `get` on a queue, are not interrupted: let the worker check between items, use a form with
    /// `_timeout`, or close the queue.
    ///
    /// After several calls, the earliest deadline counts. `Duration::MAX` only asks. The grace runs
    /// on while a process is suspended. The call does nothing if the process has ended.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// #[offspring::worker]
    /// fn rest() {
    ///     offspring::current().wait_stopping();
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let children = [rest::spawn()?, rest::spawn()?];
    ///     for child in &children {
    ///         child.request_stop(Duration::from_secs(5));
    ///     }
    ///     for child in &children {
    ///         child.join()?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn request_stop(&self, grace: Duration) {
        self.record.request_stop(grace);
    }

    /// Sends SIGTERM, then SIGCONT in case the process is suspended, and returns at once.
    ///
    /// The process may handle or ignore the signal. The call does nothing if it has ended.
    pub fn terminate(&self) {
        self.record.terminate(KillCause::Terminate);
    }

    /// Sends SIGKILL, which ends the process at once, and returns. The call does nothing if the
    /// process has ended.
    ///
    /// A killed consumer of a plain [`Queue`](crate::Queue) may take one item with it; a
    /// [`JoinableQueue`](crate::JoinableQueue) delivers its item to another consumer.
    pub fn kill(&self) {
        self.record.kill(KillCause::Kill);
    }

    /// Like [`terminate`](Process::terminate), but for the process and all its descendants.
    ///
    /// These include programs that its worker started, which `terminate` leaves running as orphans.
    /// (Children of this crate end with their parent in any case, but without the chance to handle
    /// SIGTERM.)
    ///
    /// The call finds every process that is a descendant when it begins, or that a descendant
    /// starts in the meantime: it suspends all of them, generation by generation, before the first
    /// one gets its signal. No other process gets a signal, even if pids are reused in the
    /// meantime. The call does not find processes that were orphaned before it, and it may lack the
    /// permission to signal processes of other users. It needs `/proc` and one descriptor for each
    /// process, and takes milliseconds.
    pub fn terminate_tree(&self) {
        self.record.terminate_tree();
    }

    /// Like [`kill`](Process::kill), but for the process and all its descendants.
    ///
    /// These include programs that its worker started, and children that it
    /// [detached](Process::detach). The guarantee is that of
    /// [`terminate_tree`](Process::terminate_tree).
    ///
    /// ```
    /// use std::process::Command;
    ///
    /// #[offspring::worker]
    /// fn run_a_program() {
    ///     Command::new("sleep").arg("1000").status().unwrap();
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let process = run_a_program::spawn()?;
    ///     process.kill_tree(); // `sleep`, too
    ///     assert!(process.join().is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn kill_tree(&self) {
        self.record.kill_tree();
    }

    /// Kills it with the programs that it has started. Used when this crate itself kills a worker,
    /// for example at the time limit of a task.
    pub(crate) fn kill_with_programs(&self) {
        self.record.kill_with_programs();
    }

    /// Detaches the process: it outlives this one, and the end of the program neither stops it nor
    /// waits for it.
    ///
    /// That holds even if this process is killed right after the call. While both run, this process
    /// still reaps the other when it ends, so no zombie is left;
    /// [`active_children`](crate::active_children) does not contain it. In the detached process,
    /// [`parent`](crate::parent) shows whether this one is still running. When this process ends,
    /// the two lose what they share: queues and channels that this process owns are `Disconnected`
    /// in the other, and a piped stdout has no reader. The detached process stays in the session
    /// and the process group of this one, so closing the terminal ends both.
    ///
    /// To keep a handle, start the process detached:
    /// [`ProcessBuilder::detached`](crate::ProcessBuilder::detached).
    ///
    /// ```no_run
    /// # #[offspring::worker]
    /// # fn serve() {}
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// serve::spawn()?.detach(); // it keeps serving after the end of this program
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(self) {
        self.record.detach();
    }
}
