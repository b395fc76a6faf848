//! How tasks end, and the life of a slot's worker as its monitor sees it.
//!
//! One monitor calls these transitions for its own slot, in this order for each process:
//! `worker_spawned`, `worker_ready`, any number of `complete` and `tend`, then `worker_exited` and
//! `next_step`. Each holds the pool's lock. Transitions of submitters, of other monitors and of
//! callers that cancel may come between any two of them, and the worker process runs concurrently
//! with all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::WorkerControl;
use super::effects::Effects;
use super::slot::{KillReason, SlotStatus};
use super::{NextStep, Phase, State};
use crate::error::{ExitReason, PoolError, TaskError};
use crate::pool::batch::TaskRange;
use crate::pool::events::PoolEvent;
use crate::sys;

/// A worker that has begun none of its tasks for this long, and for their time limit, is replaced:
/// its process is suspended, or violates the protocol.
const UNRESPONSIVE: Duration = Duration::from_secs(1);

/// How a worker's process ended.
#[derive(Clone, Debug)]
pub(in crate::pool) struct WorkerExit {
    pub(in crate::pool) pid: u32,
    pub(in crate::pool) reason: ExitReason,
    /// The last kilobyte of its stderr, if this process has read that.
    pub(in crate::pool) stderr: String,
}

impl<W: WorkerControl> State<W> {
    /// Called when the slot has a process, which has not run its initializer yet. Returns whether it
    /// replaces one.
    pub(in crate::pool) fn worker_spawned(&mut self, index: usize, worker: &W) -> bool {
        let slot = &mut self.slots[index];
        slot.worker = Some(worker.clone());
        slot.starts += 1;
        let replaces = slot.starts > 1;
        (slot.given, slot.worn, slot.kill_reason) = (0, false, None);
        // `stop` kills the workers of all slots. If it came before this call, it found none in this
        // slot.
        if matches!(self.phase, Phase::Stopped) {
            worker.kill();
        }
        replaces
    }

    /// Called when the initializer has failed, and the process has ended.
    pub(in crate::pool) fn worker_discarded(&mut self, index: usize) {
        self.slots[index].worker = None;
    }

    /// From now on, the worker takes tasks.
    pub(in crate::pool) fn worker_ready(
        &mut self,
        index: usize,
        now: Instant,
        effects: &mut Effects<W>,
    ) {
        let is_missing = self.active() < self.workers;
        let slot = &mut self.slots[index];
        slot.status = if is_missing { SlotStatus::Active } else { SlotStatus::Spare };
        slot.progress = now;
        slot.ready_since = now;
        slot.busy = Duration::ZERO;
        let (worker, pid) = (&slot.name, slot.worker.as_ref().map(WorkerControl::pid));
        effects.event(|| PoolEvent::WorkerStarted {
            worker: worker.clone(),
            pid: pid.unwrap_or_default(),
        });
        let is_starting = |slot: &super::WorkerSlot<W>| slot.status == SlotStatus::Starting;
        if matches!(self.phase, Phase::Building) && !self.slots.iter().any(is_starting) {
            self.phase = Phase::Open;
            effects.wake_waiters = true;
        }
        self.schedule(now, effects);
    }

    /// Called when the worker has replied to its first `count` tasks and, with `begun`, has begun a
    /// parcel. Returns those tasks, whose results the caller delivers.
    pub(in crate::pool) fn complete(
        &mut self,
        index: usize,
        count: u64,
        begun: bool,
        now: Instant,
        effects: &mut Effects<W>,
    ) -> Vec<TaskRange> {
        let slot = &mut self.slots[index];
        if begun {
            slot.drop_parcel();
        }
        let mut ended = Vec::new();
        if count > 0 {
            let span = now.saturating_duration_since(slot.progress);
            let number = slot.first().map(|range| range.batch.spec.number);
            slot.note_progress(now);
            slot.done += count;
            ended = slot.take_ended(count);
            if let Some(number) = number {
                self.note_cost(number, span, count);
            }
            self.failures = 0;
        }
        self.schedule(now, effects);
        ended
    }

    /// Checks what replies do not show: the limits, the wear of the worker, and whether there is
    /// work for it. `memory` is what its process has, if that was measured. Returns when to check
    /// again.
    pub(in crate::pool) fn tend(
        &mut self,
        index: usize,
        memory: Option<u64>,
        now: Instant,
        effects: &mut Effects<W>,
    ) -> Option<Instant> {
        self.enforce_time_limit(index, now, effects);
        if let Some((used, limit)) = memory.zip(self.limits.max_memory) {
            self.enforce_memory_limit(index, (used, limit), now, effects);
        }
        let slot = &mut self.slots[index];
        if (slot.worn || slot.surplus) && slot.count() > 1 && !slot.has_parcel() {
            let back = self.recall(index, effects);
            self.requeue(back);
        }
        // The queue comes first: only a worker that got nothing from it may steal or quit.
        self.schedule(now, effects);
        let again = self.find_work_or_quit(index, now, effects);
        let slot = &self.slots[index];
        let look = self.limits.max_memory.and_then(|_| slot.next_look());
        [again, slot.deadline(), look].into_iter().flatten().min()
    }

    /// Kills a worker whose task has exceeded its time limit.
    fn enforce_time_limit(&mut self, index: usize, now: Instant, effects: &mut Effects<W>) {
        let slot = &self.slots[index];
        if slot.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let has_begun_none = self.kill_running(index, KillReason::TimeLimit, effects);
        let slot = &mut self.slots[index];
        if has_begun_none {
            // The tasks are not to blame, and wait for another worker.
            let since = *slot.unresponsive_since.get_or_insert(slot.progress);
            if now.saturating_duration_since(since) >= UNRESPONSIVE {
                slot.worn = true;
                slot.kill(KillReason::TimeLimit);
            }
        }
    }

    /// Replaces a worker that has too much memory, and kills it if the running task is to blame.
    fn enforce_memory_limit(
        &mut self,
        index: usize,
        (used, limit): (u64, u64),
        now: Instant,
        effects: &mut Effects<W>,
    ) {
        let slot = &mut self.slots[index];
        let is_to_blame = slot.note_memory(used, limit, now);
        // Without a task since its start, its replacement would be as large.
        slot.worn |= used > limit && slot.given > 0;
        if is_to_blame && slot.kill_reason.is_none() {
            self.kill_running(index, KillReason::OverMemory(used), effects);
        }
    }

    /// Kills a worker because of the task that is running, which is the first in flight, and queues
    /// those that have not begun. Returns whether it had tasks and has begun none.
    fn kill_running(&mut self, index: usize, reason: KillReason, effects: &mut Effects<W>) -> bool {
        // Recall first, then kill. In the other order, the task could end and the next one begin
        // before the signal arrives, and that one would die in its place.
        let has_parcel = self.slots[index].has_parcel();
        let back = if has_parcel { Vec::new() } else { self.recall(index, effects) };
        let slot = &mut self.slots[index];
        // If a second task has begun, the first one has ended in time, and its reply is in the
        // ring, because a worker writes it before it begins the next task. So the monitor drains it
        // before it asks again, unless the worker violates that rule.
        let was_overdue = slot.overdue.replace(slot.progress) == Some(slot.progress);
        if slot.count() == 1 || was_overdue {
            slot.kill(reason);
        }
        let has_begun_none = slot.count() == 0 && !back.is_empty();
        self.requeue(back);
        has_begun_none
    }

    /// Finds work for an idle worker among the tasks of others. If the worker is not needed, makes
    /// it end. Returns when to check again.
    fn find_work_or_quit(
        &mut self,
        index: usize,
        now: Instant,
        effects: &mut Effects<W>,
    ) -> Option<Instant> {
        if !self.slots[index].is_idle() {
            return None;
        }
        if self.slots[index].is_open() && self.queue.is_empty() {
            let again = self.steal(index, now, effects);
            self.schedule(now, effects);
            if again.is_some() || !self.slots[index].is_idle() {
                return again;
            }
        }
        let is_done = self.is_finishing() && self.queue.is_empty();
        let max_tasks = self.limits.max_tasks;
        let slot = &mut self.slots[index];
        let is_used_up = max_tasks.is_some_and(|max| slot.given >= max);
        if is_done || is_used_up || slot.worn || slot.surplus {
            // From here on, the schedule gives the worker no task, so `QUIT` is the last entry in
            // its ring.
            slot.status = SlotStatus::Quitting;
            if let Some(worker) = &slot.worker {
                worker.quit();
                effects.ring(Some(worker));
            }
            self.promote_spares();
            self.schedule(now, effects);
        }
        None
    }

    /// Called when the worker's process has ended, and all its replies have been taken.
    pub(in crate::pool) fn worker_exited(
        &mut self,
        index: usize,
        end: WorkerExit,
        now: Instant,
        effects: &mut Effects<W>,
    ) {
        let slot = &mut self.slots[index];
        slot.note_progress(now);
        // All replies were taken before, so a task in flight has no result: either it had not
        // begun, or the process ended while it ran.
        let (back, begun) = slot.take_all();
        let kill_reason = slot.kill_reason.take();
        let is_expected = slot.status == SlotStatus::Quitting || slot.worn;
        let worker = slot.name.clone();
        slot.worker = None;
        slot.status = SlotStatus::Starting;
        self.promote_spares();
        effects.event(|| {
            let WorkerExit { pid, reason, stderr } = end.clone();
            PoolEvent::WorkerEnded { worker: worker.clone(), pid, reason, stderr }
        });
        let was_idle = begun.is_empty();
        let mut again = Vec::new();
        for mut range in begun {
            let crashes = range.crashes + 1;
            let may_retry = crashes <= range.batch.spec.retries;
            if kill_reason.is_none() && may_retry && !self.is_over() {
                let task = range.name();
                effects.event(|| PoolEvent::TaskRetried { task, crashes });
                range.crashes = crashes;
                again.push(range);
            } else {
                let process = (worker.clone(), end.clone());
                let error = self.cause_of_end(&range, kill_reason, crashes, process);
                effects.fail(range, error);
            }
        }
        again.extend(back);
        self.requeue(again);
        if was_idle && !is_expected && !self.is_over() && !is_from_outside(&end.reason) {
            let worker = worker.to_string();
            let WorkerExit { pid, reason, stderr } = end;
            let error = PoolError::Ended { worker, pid, reason, stderr };
            self.worker_failed(error, effects);
        }
        self.schedule(now, effects);
    }

    /// Called when a worker did not start, or ended by itself while it was idle. The pool tries
    /// again, or gives up: at once while it is being built, later only after too many failures in a
    /// row.
    pub(in crate::pool) fn worker_failed(&mut self, error: PoolError, effects: &mut Effects<W>) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        self.failures += 1;
        let error = Arc::new(error);
        let is_building = matches!(self.phase, Phase::Building);
        if is_building || self.failures > self.limits.restart_limit {
            self.give_up(error, effects);
        } else {
            effects.event(|| PoolEvent::StartFailed { error: error.clone() });
            effects.retried.push(error);
        }
    }

    /// Returns whether the slot's monitor should start another process. If it should leave instead,
    /// the slot cannot be used again before it has left.
    pub(in crate::pool) fn next_step(&mut self, index: usize) -> NextStep {
        let slot = &mut self.slots[index];
        let leaves = match self.phase {
            Phase::Stopped | Phase::Broken(_) => true,
            Phase::Closing => self.queue.is_empty(),
            Phase::Building | Phase::Open => slot.surplus,
        };
        if leaves {
            slot.status = SlotStatus::Quitting;
            return NextStep::Leave;
        }
        slot.status = SlotStatus::Starting;
        NextStep::Restart { failures: self.failures }
    }

    /// Called when the slot's monitor leaves. Returns whether it was the last one.
    pub(in crate::pool) fn monitor_left(&mut self, index: usize, effects: &mut Effects<W>) -> bool {
        self.slots[index].status = SlotStatus::Vacant;
        self.monitors -= 1;
        effects.wake_waiters = true;
        self.has_ended()
    }

    fn cause_of_end(
        &self,
        range: &TaskRange,
        kill_reason: Option<KillReason>,
        crashes: u32,
        (worker, end): (Arc<str>, WorkerExit),
    ) -> TaskError {
        let (task, WorkerExit { pid, reason, stderr }) = (range.name(), end);
        match kill_reason {
            Some(KillReason::Cancelled) => TaskError::Cancelled { task },
            Some(KillReason::TimeLimit) => TaskError::TimeLimit {
                task,
                worker,
                pid,
                limit: range.batch.spec.timeout.unwrap_or_default(),
                stderr,
            },
            Some(KillReason::OverMemory(used)) => TaskError::OverMemory {
                task,
                worker,
                pid,
                used,
                limit: self.limits.max_memory.unwrap_or_default(),
                stderr,
            },
            None if matches!(self.phase, Phase::Stopped) => TaskError::Stopped { task },
            None if crashes > 1 => {
                TaskError::SetAside { task, crashes, worker, pid, reason, stderr }
            }
            None => TaskError::Died { task, worker, pid, reason, stderr },
        }
    }
}

/// Returns whether another process sent the signal that ended this one. Such a kill does not count
/// as a failure, since it does not repeat by itself, whereas a worker that ends by itself would do
/// so again.
fn is_from_outside(reason: &ExitReason) -> bool {
    match reason {
        ExitReason::Killed { .. } => true,
        ExitReason::Signaled { signal, .. } => !sys::is_fault(*signal),
        _ => false,
    }
}
