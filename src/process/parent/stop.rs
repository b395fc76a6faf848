//! Ending a child: in words, by signals, with all that it has started; or letting go of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{ExitReason, KillCause};
use crate::process::handle::{Life, Process, Running};
use crate::process::parent::reaper;

/// What comes next for a child that was asked to stop and still runs.
#[derive(Debug)]
pub(in crate::process) struct Stop {
    grace: Duration,
    next: Next,
    /// When; `None` is never.
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Terminate,
    Kill,
    Nothing,
}

impl Life {
    /// When to look again.
    fn stop(&mut self, grace: Duration) -> Option<Instant> {
        let due = Instant::now().checked_add(grace);
        match &mut self.stop {
            None => {
                self.ask_to_stop();
                self.stop = Some(Stop {
                    grace,
                    next: Next::Terminate,
                    due,
                });
                due
            }
            Some(stop) => {
                let sooner = due.filter(|due| stop.due.is_none_or(|before| *due < before))?;
                (stop.grace, stop.due) = (grace, Some(sooner));
                Some(sooner)
            }
        }
    }

    fn escalate(&mut self, now: Instant) -> Option<Instant> {
        let stop = self
            .stop
            .as_mut()
            .filter(|stop| stop.due.is_some_and(|due| due <= now))?;
        let step = stop.next;
        (stop.next, stop.due) = match step {
            Next::Terminate => (Next::Kill, now.checked_add(stop.grace)),
            Next::Kill | Next::Nothing => (Next::Nothing, None),
        };
        let due = stop.due;
        match step {
            Next::Terminate => self.terminate(KillCause::Stop),
            Next::Kill => self.kill(KillCause::Stop),
            Next::Nothing => {}
        }
        due
    }
}

impl Running {
    fn stop(&self, grace: Duration) {
        self.ask_thread_to_stop();
        if let Some(due) = self.with_life(|life| life.stop(grace)).flatten() {
            reaper::remind(due, self.id);
        }
    }

    /// Called by the reaper when something may be due; gives when to call it again.
    pub(crate) fn escalate(&self, now: Instant) -> Option<Instant> {
        self.with_life(|life| life.escalate(now)).flatten()
    }

    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::SeqCst);
        self.with_life(|life| life.detach());
    }

    /// Whether it was let go: then nobody waits for it.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::SeqCst)
    }
}

impl<T> Process<T> {
    /// Stops the process and waits for its end: asks it, as [`request_stop`](Process::request_stop) does, and returns
    /// why it ended.
    ///
    /// A process that does not react ends by SIGTERM after `grace`, or by SIGKILL after a second `grace`, so this returns
    /// after little more than twice `grace`. With `Duration::MAX`, or a worker [on a thread](crate::process::Backend::Inline), nothing
    /// forces the end, and it waits until the worker returns. If the process has ended already, it returns at once.
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
    /// From now on [`is_stopping`](crate::process::CurrentProcess::is_stopping) is true there. If it still runs after `grace`, it
    /// gets SIGTERM (as by [`terminate`](Process::terminate)); if it still runs after a second `grace`, SIGKILL.
    ///
    /// To stop many processes at the same time, ask each of them first and [`join`](Process::join) them afterwards. A worker
    /// that returns in time has [returned](ExitReason::Returned), and `join` returns its output. A worker that a
    /// signal had to end was [killed](ExitReason::Killed) by [`KillCause::Stop`]. Blocking calls of the worker, such as
    /// `get` on a queue, are not woken: let the worker check between items, use a form with `_timeout`, or close the queue.
    ///
    /// After several calls, the earliest deadline counts. `Duration::MAX` only asks. Does nothing if the process has
    /// ended.
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
        self.running.stop(grace);
    }

    /// Asks the process to end (SIGTERM, then SIGCONT for a stopped one). It may handle or ignore that.
    /// Does nothing if it has ended. Queues that it uses keep every item.
    pub fn terminate(&self) {
        self.running.terminate(KillCause::Terminate);
    }

    /// Ends the process at once (SIGKILL). Does nothing if it has ended. Queues that it uses keep every item.
    pub fn kill(&self) {
        self.running.kill(KillCause::Kill);
    }

    /// As [`terminate`](Process::terminate), for the process and all its descendants: also programs that its worker
    /// started, which `terminate` leaves running as orphans. (Children of this crate end with their parent anyway, at
    /// once; here they are asked.)
    ///
    /// Every process is found that is a descendant at the time of the call, or is started by one during it: all are
    /// suspended for the moment, generation by generation, before the first gets its signal. No other process ever gets
    /// one, also when pids are given anew. Not found is what has left the family before, since its own parent had ended;
    /// and what runs as another user may be beyond our rights. Needs `/proc`, and a
    /// descriptor for each process; takes milliseconds.
    pub fn terminate_tree(&self) {
        self.running
            .with_life(|life| life.terminate_tree(self.running.pid));
    }

    /// As [`kill`](Process::kill), for the process and all its descendants: also programs that its worker started, and
    /// children that it [detached](Process::detach). The guarantee is that of
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
    ///     process.kill_tree(); // also `sleep`
    ///     assert!(process.join().is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn kill_tree(&self) {
        self.running
            .with_life(|life| life.kill_tree(self.running.pid));
    }

    /// Lets go of the process: it outlives this one, and the end of the program neither stops it nor waits for it.
    ///
    /// It holds also if this process is killed right after the call. While both live, the end of the process is still
    /// noticed here, so that no zombie is left; [`active_children`](crate::active_children) does not list it. In the
    /// process, [`parent`](crate::parent) tells whether this one still lives. What the two share ends as with any other end: queues
    /// and channels that live in this process are `Disconnected` there, a piped stdout has no reader any more.
    /// The process stays in the session and process group of this one, so a terminal that is closed ends both.
    ///
    /// To keep a handle, ask for it at the start: [`ProcessBuilder::detached`](crate::ProcessBuilder::detached).
    ///
    /// ```no_run
    /// # #[offspring::worker]
    /// # fn serve() {}
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// serve::spawn()?.detach(); // serves on after this program
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(self) {
        self.running.detach();
    }
}
