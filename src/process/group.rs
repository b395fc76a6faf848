//! `ProcessGroup`: processes that are stopped when one of them fails.
//!
//! No thread waits for the members. Each member's record holds a waker, which runs at the member's
//! end, on the reaper's thread or on a thread that joins. The waker takes the member out of the
//! group and, if that was a failure, asks the others to stop.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::error::{GroupError, KillCause, MemberEnd, SpawnError};
use crate::ipc::reactor::{self, EventSource, Interest, WakerSet, WakerSlot};
use crate::ipc::waitable::{WaitSource, Waitable};
use crate::process::builder::ProcessBuilder;
use crate::process::handle::Process;
use crate::process::parent::exit::{AtExit, finish_before_exit};
use crate::process::parent::record::ChildRecord;
use crate::process::spawn_hook;
use crate::process::worker::ProcessWorker;
use crate::sys;

/// The default of [`ProcessGroup::grace`], taken from OTP.
const GRACE: Duration = Duration::from_secs(5);

/// Processes that succeed or fail together: when one fails, the others are stopped, and
/// [`join`](ProcessGroup::join) returns which one and why.
///
/// Dropping the group ends all its processes and waits for their end. Each is asked to stop, gets
/// SIGTERM if it still runs after the [`grace`](ProcessGroup::grace), and SIGKILL after a second
/// grace. So no process outlives its group. At the end of the program, groups that were not dropped
/// are ended in the same way.
///
/// A process *fails* when its worker panics, returns an `Err`, exits, or is ended by a signal. A
/// worker that returns any other value has succeeded, and the others continue. A process that this
/// program ends ([`kill`](Process::kill), [`stop`](Process::stop)) has not failed. The group reacts
/// at once, whether or not a thread waits in `join`.
///
/// [`spawn`](ProcessGroup::spawn) returns a [`Member`]. The program can [`join`](Process::join) it
/// for the output of that process, of whatever type, before or after the group has ended.
///
/// Other libraries have `std::thread::scope` for threads, `TaskGroup` in Python, and in OTP a
/// supervisor with `one_for_all` that restarts nothing. To have processes restarted, use a
/// [`Supervisor`](crate::Supervisor).
///
/// ```
/// use offspring::queue::{Consumer, Producer};
/// use offspring::{ProcessGroup, Queue};
///
/// #[offspring::worker]
/// fn count(upto: u64, numbers: Producer<u64>) -> Result<(), String> {
///     (1..=upto).try_for_each(|n| numbers.put(n)).map_err(|error| error.to_string())
/// }
///
/// #[offspring::worker]
/// fn sum(numbers: Consumer<u64>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (producer, consumer) = Queue::bounded(8)?.split();
///     let group = ProcessGroup::new();
///     group.spawn(count::new(10, producer))?;
///     let sum = group.spawn(sum::new(consumer))?;
///     group.join()?; // the first failure, if there is one
///     assert_eq!(sum.join()?, 55);
///     Ok(())
/// }
/// ```
#[must_use = "dropping it ends its processes; `join` waits for them"]
pub struct ProcessGroup {
    shared: Arc<GroupShared>,
}

/// A process of a [`ProcessGroup`]: a [`Process`] that cannot be detached. Dropping it does nothing:
/// the group ends the process.
///
/// ```
/// use offspring::ProcessGroup;
/// use offspring::process::Member;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let group = ProcessGroup::new();
///     let squares: Vec<Member<u64>> =
///         (0..3).map(|n| group.spawn(square::new(n))).collect::<Result<_, _>>()?;
///     group.join()?;
///     let sum: u64 = squares.iter().map(|square| square.join()).sum::<Result<_, _>>()?;
///     assert_eq!(sum, 1 + 4);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Member<T> {
    process: Process<T>,
}

impl<T> Deref for Member<T> {
    type Target = Process<T>;

    fn deref(&self) -> &Process<T> {
        &self.process
    }
}

impl<T> DerefMut for Member<T> {
    fn deref_mut(&mut self) -> &mut Process<T> {
        &mut self.process
    }
}

impl<T> Waitable for Member<T> {
    fn wait_source(&self) -> WaitSource {
        self.process.wait_source()
    }
}

struct GroupShared {
    state: Mutex<GroupState>,
    /// Notified when no member is running any more.
    ended: Condvar,
    wakers: Arc<WakerSet>,
}

struct GroupState {
    grace: Duration,
    /// Those that run.
    members: Vec<Running>,
    /// The first failure, and how the members ended that were still running then.
    failure: Option<GroupError>,
    /// The grace of members that are started while the group is ending.
    stopping: Option<Duration>,
}

struct Running {
    record: Arc<ChildRecord>,
    _slot: WakerSlot,
}

/// Runs at the end of one member.
struct MemberWaker {
    group: Weak<GroupShared>,
    id: u64,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        if let Some(group) = self.group.upgrade() {
            group.note_end(self.id);
        }
    }
}

impl GroupShared {
    fn add(self: &Arc<Self>, record: &Arc<ChildRecord>) {
        let slot = record.register().expect("watching a process takes no descriptor");
        let waker = MemberWaker { group: Arc::downgrade(self), id: record.id };
        slot.set(&Waker::from(Arc::new(waker)));
        let mut state = sys::lock(&self.state);
        state.members.push(Running { record: record.clone(), _slot: slot });
        let stopping = state.stopping;
        drop(state);
        if let Some(grace) = stopping {
            // The group began to end while this process was being started.
            record.request_stop(grace);
        }
        // If it ended before it was added, its waker found no such member.
        self.note_end(record.id);
    }

    /// Takes a member out of the group if it has ended.
    fn note_end(&self, id: u64) {
        let mut state = sys::lock(&self.state);
        let Some(place) = state.members.iter().position(|member| member.record.id == id) else {
            return;
        };
        let Some((reason, is_err)) = state.members[place].record.end() else {
            return;
        };
        let member = state.members.remove(place);
        let (name, pid) = (member.record.name.clone(), member.record.pid);
        let end = MemberEnd::new(name, pid, reason, is_err);
        let mut failed = None;
        match &mut state.failure {
            Some(failure) => failure.add(end),
            None if end.is_failure() => {
                state.failure = Some(GroupError::new(end));
                let grace = state.grace;
                state.stopping.get_or_insert(grace);
                failed = Some((state.running(), grace));
            }
            None => {}
        }
        let all_ended = state.members.is_empty();
        drop(state);
        drop(member);
        if let Some((others, grace)) = failed {
            others.iter().for_each(|other| other.request_stop(grace));
        }
        if all_ended {
            self.ended.notify_all();
            self.wakers.wake();
        }
    }

    /// Asks all members to stop, including those that are started later.
    fn request_stop(&self, grace: Option<Duration>) {
        let mut state = sys::lock(&self.state);
        let grace = grace.unwrap_or(state.grace);
        state.stopping = Some(grace);
        let running = state.running();
        drop(state);
        running.iter().for_each(|member| member.request_stop(grace));
    }

    /// Uses only the lock and the condition variable, so that a thread that has lost its
    /// thread-locals can call it.
    fn wait_ended(&self) {
        let mut state = sys::lock(&self.state);
        while !state.members.is_empty() {
            state = sys::wait(&self.ended, state, None);
        }
    }
}

impl GroupState {
    fn running(&self) -> Vec<Arc<ChildRecord>> {
        self.members.iter().map(|member| member.record.clone()).collect()
    }
}

impl ProcessGroup {
    /// Creates an empty group.
    pub fn new() -> ProcessGroup {
        let state = GroupState { grace: GRACE, members: Vec::new(), failure: None, stopping: None };
        let (ended, wakers) = (Condvar::new(), Arc::default());
        ProcessGroup { shared: Arc::new(GroupShared { state: Mutex::new(state), ended, wakers }) }
    }

    /// Sets how long a process may take to stop when another one has failed, or when the group is
    /// dropped. After that it gets SIGTERM, and after a second grace SIGKILL. With `Duration::MAX`
    /// no signal follows. Default: 5 seconds.
    ///
    /// A worker sees the request in [`is_stopping`](crate::process::CurrentProcess::is_stopping). A
    /// worker that is blocked in a call, such as `get`, is ended by the signal.
    pub fn grace(self, grace: Duration) -> ProcessGroup {
        sys::lock(&self.shared.state).grace = grace;
        self
    }

    /// Starts a process that runs `worker`, as a member of the group.
    ///
    /// # Errors
    ///
    /// [`SpawnError::GroupEnding`] if a process of the group has failed, or the group was stopped;
    /// and the errors of [`ProcessBuilder::spawn`]. None of them affects the group.
    pub fn spawn<W: ProcessWorker>(&self, worker: W) -> Result<Member<W::Output>, SpawnError> {
        self.spawn_with(ProcessBuilder::new(), worker)
    }

    /// Like [`spawn`](ProcessGroup::spawn), with the options of a builder.
    ///
    /// # Errors
    ///
    /// [`SpawnError::InvalidOption`] for a process that is
    /// [detached](ProcessBuilder::detached), and the errors of [`spawn`](ProcessGroup::spawn).
    ///
    /// ```
    /// use offspring::{ProcessBuilder, ProcessGroup};
    ///
    /// #[offspring::worker]
    /// fn greet() -> String {
    ///     format!("{} says hello", offspring::current().name())
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let group = ProcessGroup::new();
    ///     let bob = group.spawn_with(ProcessBuilder::new().name("bob"), greet::new())?;
    ///     group.join()?;
    ///     assert_eq!(bob.join()?, "bob says hello");
    ///     Ok(())
    /// }
    /// ```
    pub fn spawn_with<W: ProcessWorker>(
        &self,
        builder: ProcessBuilder,
        worker: W,
    ) -> Result<Member<W::Output>, SpawnError> {
        if builder.is_detached() {
            return Err(SpawnError::InvalidOption {
                option: "detached",
                problem: "cannot be set in a group: no process outlives its group".to_owned(),
            });
        }
        if sys::lock(&self.shared.state).stopping.is_some() {
            return Err(SpawnError::GroupEnding);
        }
        let process = builder.spawn(worker)?;
        let shared: Arc<dyn AtExit> = self.shared.clone();
        finish_before_exit(&shared);
        self.shared.add(&process.record);
        Ok(Member { process })
    }

    /// Waits until all processes of the group have ended. An empty group has ended.
    ///
    /// It may be called again, even from several threads at once. It has no limit of its own: to
    /// limit the wait, use [`wait_any_timeout`](crate::wait_any_timeout) on the group, or
    /// [`stop`](ProcessGroup::stop) it.
    ///
    /// # Errors
    ///
    /// A [`GroupError`] if a process failed. It names the process, the reason, and how those ended
    /// that were stopped because of it.
    pub fn join(&self) -> Result<(), GroupError> {
        self.shared.wait_ended();
        // After this, the log records of the members have arrived.
        spawn_hook::after_end(None);
        sys::lock(&self.shared.state).failure.clone().map_or(Ok(()), Err)
    }

    /// Like [`join`](ProcessGroup::join), but asynchronous, on any executor. Requires the feature
    /// `async`. Dropping the future leaves the group as it is.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`join`](ProcessGroup::join).
    #[cfg(feature = "async")]
    pub async fn join_async(&self) -> Result<(), GroupError> {
        let ready = reactor::ready(&*self.shared).await;
        ready.expect("the end of a group is a state in this process");
        self.join()
    }

    /// Stops all processes: asks them to stop, and waits until they have ended. The group starts no
    /// more processes.
    ///
    /// A process that does not stop gets SIGTERM after `grace`, and SIGKILL after a second `grace`;
    /// see [`Process::stop`].
    ///
    /// # Errors
    ///
    /// A [`GroupError`] if a process failed before the call, or failed on its own during it. A
    /// process that was ended by a signal of this call has not failed.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use offspring::ProcessGroup;
    ///
    /// #[offspring::worker]
    /// fn rest() -> String {
    ///     offspring::current().wait_stopping();
    ///     "rested".to_owned()
    /// }
    ///
    /// # #[offspring::main]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = ProcessGroup::new();
    /// let bob = group.spawn(rest::new())?;
    /// assert_eq!(group.len(), 1);
    /// group.stop(Duration::from_secs(5))?;
    /// assert_eq!(bob.join()?, "rested");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(&self, grace: Duration) -> Result<(), GroupError> {
        self.request_stop(grace);
        self.join()
    }

    /// Asks all processes to stop, as [`Process::request_stop`] does, and returns at once. The group
    /// starts no more processes.
    pub fn request_stop(&self, grace: Duration) {
        self.shared.request_stop(Some(grace));
    }

    /// Sends SIGKILL to all processes, and returns at once. The group starts no more processes.
    pub fn kill(&self) {
        let mut state = sys::lock(&self.shared.state);
        state.stopping = Some(Duration::ZERO);
        let running = state.running();
        drop(state);
        running.iter().for_each(|member| member.kill(KillCause::Kill));
    }

    /// Returns the number of processes that are running.
    #[must_use]
    pub fn len(&self) -> usize {
        sys::lock(&self.shared.state).members.len()
    }

    /// Returns whether no process of the group is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // A fork has a copy of the group, but the processes are not its own.
        if !sys::is_fork() {
            self.shared.request_stop(None);
            self.shared.wait_ended();
        }
    }
}

impl AtExit for GroupShared {
    fn finish(&self) {
        self.request_stop(None);
    }

    fn wait(&self) {
        self.wait_ended();
    }
}

impl EventSource for GroupShared {
    fn register(&self) -> io::Result<WakerSlot> {
        self.wakers.register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        reactor::check_and_set(interest, || sys::lock(&self.state).members.is_empty())
    }
}

impl Waitable for ProcessGroup {
    fn wait_source(&self) -> WaitSource {
        WaitSource::new(self.shared.clone())
    }
}

impl Default for ProcessGroup {
    fn default() -> ProcessGroup {
        ProcessGroup::new()
    }
}

impl fmt::Debug for GroupShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupShared").finish_non_exhaustive()
    }
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = sys::lock(&self.shared.state);
        f.debug_struct("ProcessGroup")
            .field("running", &state.members.len())
            .field("failure", &state.failure)
            .finish_non_exhaustive()
    }
}
