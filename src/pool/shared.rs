//! The lock around the state of a pool, shared by its handle, its tasks and its monitors.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
#[cfg(feature = "async")]
use std::task::Poll;
use std::time::Instant;

use crate::diagnostics;
use crate::error::TaskError;
use crate::ipc::event_stream::EventPublisher;
#[cfg(feature = "async")]
use crate::ipc::reactor::{self, WakerSet};
use crate::pool::batch::{Sink, TaskBatch};
use crate::pool::events::PoolEvent;
use crate::pool::running::RunningWorker;
use crate::pool::settings::Settings;
use crate::pool::start_gate::StartGate;
use crate::pool::state::{Effects, PoolEnd, State};
use crate::process::AtExit;
use crate::sys::{self, lock};
use crate::tally::Tally;
use crate::trace::{self, ReleaseDue};

pub(super) struct PoolShared {
    pub(super) settings: Settings,
    state: Mutex<State<RunningWorker>>,
    /// Notified when the phase changes, a monitor leaves, or a full pool has room again.
    changed: Condvar,
    /// The tasks that wait for room, in the order in which they came.
    #[cfg(feature = "async")]
    room: Arc<WakerSet>,
    pub(super) events: EventPublisher<PoolEvent>,
    pub(super) totals: Totals,
    pub(super) tallies: PoolTallies,
    pub(super) gate: StartGate,
}

/// Counts since the pool was built.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// Counts of all pools of one name.
#[derive(Debug)]
pub(super) struct PoolTallies {
    submitted: Tally,
    pub(super) restarts: Tally,
    pub(super) returned: Tally,
    panicked: Tally,
    died: Tally,
    time_limit: Tally,
    over_memory: Tally,
    cancelled: Tally,
    stopped: Tally,
    failed: Tally,
}

impl PoolTallies {
    fn of(pool: &str) -> PoolTallies {
        let finished = |outcome| Tally::of("offspring_pool_finished_total", pool, Some(outcome));
        PoolTallies {
            submitted: Tally::of("offspring_pool_submitted_total", pool, None),
            restarts: Tally::of("offspring_pool_restarts_total", pool, None),
            returned: finished("returned"),
            panicked: finished("panicked"),
            died: finished("died"),
            time_limit: finished("time_limit"),
            over_memory: finished("over_memory"),
            cancelled: finished("cancelled"),
            stopped: finished("stopped"),
            failed: finished("failed"),
        }
    }

    pub(super) fn of_error(&self, error: &TaskError) -> &Tally {
        match error {
            TaskError::Panicked { .. } => &self.panicked,
            TaskError::Died { .. } | TaskError::SetAside { .. } => &self.died,
            TaskError::TimeLimit { .. } => &self.time_limit,
            TaskError::OverMemory { .. } => &self.over_memory,
            TaskError::Cancelled { .. } => &self.cancelled,
            TaskError::Stopped { .. } => &self.stopped,
            _ => &self.failed,
        }
    }
}

impl PoolShared {
    pub(super) fn new(settings: Settings) -> PoolShared {
        sys::watch_forks();
        PoolShared {
            state: Mutex::new(State::new(settings.name.clone(), settings.limits)),
            changed: Condvar::new(),
            #[cfg(feature = "async")]
            room: Arc::default(),
            events: EventPublisher::default(),
            totals: Totals::default(),
            tallies: PoolTallies::of(&settings.name),
            gate: StartGate::new(),
            settings,
        }
    }

    /// Returns whether this process made the pool. A fork of it has no monitors, but shares the
    /// workers' rings, so nothing that the fork does to its copy of the pool may reach them.
    pub(super) fn is_here(&self) -> bool {
        !sys::is_fork()
    }

    /// Like [`change`](PoolShared::change), for callers outside the pool.
    fn change_here<R>(
        &self,
        transition: impl FnOnce(&mut State<RunningWorker>, Instant, &mut Effects<RunningWorker>) -> R,
    ) -> Result<R, PoolEnd> {
        if self.is_here() { Ok(self.change(transition)) } else { Err(PoolEnd::Closed) }
    }

    pub(super) fn read<R>(&self, read: impl FnOnce(&State<RunningWorker>) -> R) -> R {
        read(&lock(&self.state))
    }

    /// Applies a transition, and carries out its effects once the lock is released.
    pub(super) fn change<R>(
        &self,
        transition: impl FnOnce(&mut State<RunningWorker>, Instant, &mut Effects<RunningWorker>) -> R,
    ) -> R {
        let now = Instant::now();
        let mut effects = Effects::new(self.events.has_readers());
        let mut state = lock(&self.state);
        let room_before = state.room_for_waiting();
        let result = transition(&mut state, now, &mut effects);
        // Room that was there before this transition has woken others already.
        let new_room = state.room_for_waiting().saturating_sub(room_before);
        drop(state);
        let woken = if effects.wakes_waiters() { u64::MAX } else { new_room };
        // No wake-up is lost although the lock is free by now: a waiting thread checks the state
        // and goes to sleep in one step under the lock, and a task checks after it has set its
        // waker.
        if woken > 0 {
            self.changed.notify_all();
            #[cfg(feature = "async")]
            self.room.wake_first(woken);
        }
        self.carry_out(effects);
        result
    }

    fn carry_out(&self, mut effects: Effects<RunningWorker>) {
        // Workers first, since they can start in the meantime. Counts and events come before the
        // results, so that a caller that has joined a task finds it in both.
        effects.wake_workers();
        for (range, error) in &effects.failed {
            self.tallies.of_error(error).add(range.len());
        }
        let failed: u64 = effects.failed.iter().map(|(range, _)| range.len()).sum();
        if failed > 0 {
            self.totals.failed.fetch_add(failed, Ordering::Relaxed);
        }
        for event in &effects.events {
            self.events.publish(event);
        }
        for error in &effects.retried {
            diagnostics::warn("offspring::pool", format_args!("{error}; the pool tries again"));
        }
        for (range, error) in effects.failed {
            range.fail(&error);
        }
        trace::release_due();
    }

    /// Blocks until `ready` returns something, or until `deadline`.
    pub(super) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State<RunningWorker>) -> Option<R>,
    ) -> Option<R> {
        let mut state = lock(&self.state);
        loop {
            if let Some(result) = ready(&mut state) {
                return Some(result);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            state = sys::wait(&self.changed, state, deadline);
        }
    }

    /// Submits a batch; blocks while the pool is full.
    pub(super) fn submit(&self, batch: TaskBatch) -> Result<(), PoolEnd> {
        let batch = SubmittedBatch::new(batch);
        while !self.attempt(&batch.batch, true)? {
            self.wait_for_room();
        }
        Ok(())
    }

    /// Submits a batch, unless the pool is full; then returns `Ok(false)`.
    pub(super) fn try_submit(&self, batch: TaskBatch) -> Result<bool, PoolEnd> {
        self.attempt(&SubmittedBatch::new(batch).batch, true)
    }

    /// Submits a batch of a map. The map's window bounds it, instead of the pool's limit.
    pub(super) fn submit_unbounded(&self, batch: TaskBatch) -> Result<(), PoolEnd> {
        self.attempt(&SubmittedBatch::new(batch).batch, false).map(drop)
    }

    /// Submits a batch; `Ok(false)` if the pool is full, and the batch is bounded by that.
    fn attempt(&self, batch: &Arc<TaskBatch>, bounded: bool) -> Result<bool, PoolEnd> {
        let accepted =
            self.change_here(|state, now, effects| state.submit(batch, bounded, now, effects))??;
        if accepted {
            self.tallies.submitted.add(u64::from(batch.len()));
        }
        Ok(accepted)
    }

    /// Blocks until the pool is not full, or is closed. Another thread may then take the room
    /// first.
    fn wait_for_room(&self) {
        let mut state = lock(&self.state);
        // Counted before the check, and under the lock, so that a transition that makes room
        // notifies this thread.
        state.count_waiting_submitter(1);
        while state.is_open() && state.is_full() {
            state = sys::wait(&self.changed, state, None);
        }
        state.count_waiting_submitter(-1);
    }

    pub(super) fn cancel(&self, sink: &Arc<dyn Sink>, kill: bool) {
        let _ = self.change_here(|state, now, effects| state.cancel(sink, kill, now, effects));
    }

    pub(super) fn close(&self) {
        let _ = self.change_here(|state, _, effects| state.close(effects));
    }

    /// Ends all workers at once, and returns how many tasks that drops.
    pub(super) fn stop(&self) -> u64 {
        self.change_here(|state, _, effects| state.stop(effects)).unwrap_or(0)
    }

    /// Blocks until every process has ended and every result was delivered; `false` if that takes
    /// longer than `deadline`.
    pub(super) fn wait_ended(&self, deadline: Option<Instant>) -> bool {
        !self.is_here() || self.wait(deadline, |state| state.has_ended().then_some(())).is_some()
    }
}

/// A batch in the hands of its submitter, who may be the last to have it: its tasks may end at once.
struct SubmittedBatch {
    batch: Arc<TaskBatch>,
    _release: ReleaseDue,
}

impl SubmittedBatch {
    fn new(batch: TaskBatch) -> SubmittedBatch {
        SubmittedBatch { batch: Arc::new(batch), _release: ReleaseDue }
    }
}

#[cfg(feature = "async")]
impl PoolShared {
    /// Submits a batch; the task waits while the pool is full.
    pub(super) async fn submit_async(&self, batch: TaskBatch) -> Result<(), PoolEnd> {
        let batch = SubmittedBatch::new(batch);
        let attempt = || self.attempt(&batch.batch, true);
        if attempt()? {
            return Ok(());
        }
        let _waiting = WaitingSubmitter::new(self);
        let submitted = reactor::until(
            || self.room.register(),
            |interest| {
                if let Some((slot, waker)) = interest {
                    slot.set(waker);
                }
                match attempt() {
                    Ok(false) => Poll::Pending,
                    Ok(true) => Poll::Ready(Ok(())),
                    Err(end) => Poll::Ready(Err(end)),
                }
            },
        );
        submitted.await.expect("room in a pool is a state in this process")
    }
}

/// A task that waits for room, until it is done or dropped.
#[cfg(feature = "async")]
struct WaitingSubmitter<'a>(&'a PoolShared);

#[cfg(feature = "async")]
impl<'a> WaitingSubmitter<'a> {
    fn new(pool: &'a PoolShared) -> WaitingSubmitter<'a> {
        lock(&pool.state).count_waiting_submitter(1);
        WaitingSubmitter(pool)
    }
}

#[cfg(feature = "async")]
impl Drop for WaitingSubmitter<'_> {
    fn drop(&mut self) {
        if !self.0.is_here() {
            return;
        }
        let mut state = lock(&self.0.state);
        state.count_waiting_submitter(-1);
        let room = state.room_for_waiting();
        drop(state);
        // This task may have been woken for room that it did not use, so wake another.
        self.0.room.wake_first(room);
    }
}

impl AtExit for PoolShared {
    fn finish(&self) {
        self.close();
    }

    fn wait(&self) {
        self.wait_ended(None);
    }
}

impl fmt::Debug for PoolShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.settings.name).finish_non_exhaustive()
    }
}
