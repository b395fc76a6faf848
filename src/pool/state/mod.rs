//! The state of a pool, and every decision that it makes.
//!
//! ```text
//!            submit                 schedule                  complete
//!   (user) ---------> queued --------------------> in flight ----------> ended
//!                       ^                            |   begun, and its process ended:
//!                       |   recalled: not begun      |   ended with an error, or queued again
//!                       +----------------------------+
//! ```
//!
//! A task is in exactly one place: in `queue`, or in flight in one slot. It moves under the pool's
//! lock, and the thread that moves it out of both delivers its result. So it ends exactly once,
//! even if its result, the end of its worker, a cancellation and the end of the pool coincide.
//!
//! Workers run concurrently with every transition: each takes entries from its ring and writes
//! replies. So a slot that has tasks in flight always lags a little. Whether a task has begun is
//! certain only after a recall, which shuts the ring: a worker's take then succeeds or fails as a
//! whole. A task that stays in flight after a recall has begun, and one that came back will never
//! begin in that worker.
//!
//! The state is passive: a transition decides, and records in [`Effects`] what to do once the lock
//! is released. It reads no clock. What it does to workers under the lock, it does through
//! [`WorkerControl`]: writing into a ring and recalling from it must be one step with the move of
//! the task. So must sending a parcel, the only message under the lock. It cannot block, since it
//! has at most a kilobyte and goes to an idle worker, whose channel is empty.

mod complete;
mod control;
mod effects;
mod schedule;
mod slot;

#[cfg(test)]
mod model;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use complete::WorkerExit;
pub(super) use control::WorkerControl;
pub(super) use effects::Effects;
use slot::{KillReason, SlotStatus, WorkerSlot};

use crate::error::{PoolError, TaskError};
use crate::pool::batch::{Sink, TaskBatch, TaskRange};
use crate::pool::events::PoolEvent;
use crate::pool::stats::WorkerStats;

#[derive(Debug)]
pub(super) struct State<W> {
    name: String,
    limits: Limits,
    phase: Phase,
    queue: VecDeque<TaskRange>,
    /// How many tasks are in `queue`.
    queued: u64,
    slots: Vec<WorkerSlot<W>>,
    /// The number of workers that should be active.
    workers: usize,
    /// How many starts have failed, and how many idle workers have ended by themselves, since a
    /// task last ended.
    failures: u32,
    /// How many threads and tasks wait until the pool is not full.
    waiting_submitters: usize,
    /// How many slots have a monitor thread, or are about to get one.
    monitors: usize,
    /// How long a task of each worker type takes, in nanoseconds: a moving average.
    costs: HashMap<u32, f64>,
}

/// The options of a pool that its decisions depend on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) max_tasks: Option<u64>,
    /// In bytes, of each process.
    pub(super) max_memory: Option<u64>,
    pub(super) max_unfinished: Option<u64>,
    pub(super) spares: usize,
    pub(super) restart_limit: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Some workers have not started for the first time yet.
    Building,
    Open,
    /// Accepts no more tasks, and finishes those that it has.
    Closing,
    /// Finishes nothing.
    Stopped,
    /// Gave up: queued tasks have failed, and running tasks may end.
    Broken(Arc<PoolError>),
}

/// Why a pool accepts no task any more.
#[derive(Debug)]
pub(super) enum PoolEnd {
    Closed,
    Broken(Arc<PoolError>),
}

/// The next step of a monitor whose worker has ended or did not start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Start a process. The number of failures in a row determines the pause before the start.
    Restart {
        failures: u32,
    },
    Leave,
}

impl<W: WorkerControl> State<W> {
    pub(super) fn new(name: String, limits: Limits) -> State<W> {
        State {
            name,
            limits,
            phase: Phase::Building,
            queue: VecDeque::new(),
            queued: 0,
            slots: Vec::new(),
            workers: 0,
            failures: 0,
            waiting_submitters: 0,
            monitors: 0,
            costs: HashMap::new(),
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Returns whether the pool accepts tasks.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Building | Phase::Open)
    }

    /// Returns whether a worker without tasks quits: the pool accepts no more.
    fn is_finishing(&self) -> bool {
        !self.is_open()
    }

    /// Returns whether queued tasks are dropped.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Broken(_))
    }

    /// Returns whether all monitors have left: every task has ended, and so has every process.
    pub(super) fn has_ended(&self) -> bool {
        self.monitors == 0
    }

    /// Returns how many tasks have not ended.
    fn unfinished(&self) -> u64 {
        self.queued + self.slots.iter().map(WorkerSlot::count).sum::<u64>()
    }

    /// How many more tasks the pool may hold.
    fn room(&self) -> u64 {
        let max = self.limits.max_unfinished;
        max.map_or(u64::MAX, |max| max.saturating_sub(self.unfinished()))
    }

    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }

    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        let workers = self.slots.iter().filter_map(|slot| slot.worker.as_ref());
        workers.map(WorkerControl::pid).collect()
    }

    /// Returns the pid of the process that runs the task of this sink.
    pub(super) fn pid_of(&self, sink: &Arc<dyn Sink>) -> Option<u32> {
        let is_its =
            |slot: &&WorkerSlot<W>| slot.running().is_some_and(|range| range.batch.is_for(sink));
        let slot = self.slots.iter().find(is_its)?;
        slot.worker.as_ref().map(WorkerControl::pid)
    }

    pub(super) fn slot_name(&self, index: usize) -> Arc<str> {
        self.slots[index].name.clone()
    }

    /// Returns the number of queued tasks, of tasks in flight and of restarts, and one entry for
    /// each slot in use.
    pub(super) fn stats(&self, now: Instant) -> (u64, u64, u64, Vec<WorkerStats>) {
        let used = || self.slots.iter().filter(|slot| slot.status != SlotStatus::Vacant);
        let restarts = self.slots.iter().map(|slot| slot.starts.saturating_sub(1));
        (
            self.queued,
            used().map(WorkerSlot::count).sum(),
            restarts.sum(),
            used().map(|slot| slot.stats(now)).collect(),
        )
    }

    /// Accepts a batch. With `bounded`, returns `Ok(false)` if the pool is full.
    pub(super) fn submit(
        &mut self,
        batch: &Arc<TaskBatch>,
        bounded: bool,
        now: Instant,
        effects: &mut Effects<W>,
    ) -> Result<bool, PoolEnd> {
        match &self.phase {
            Phase::Building | Phase::Open => {}
            Phase::Closing | Phase::Stopped => return Err(PoolEnd::Closed),
            Phase::Broken(cause) => return Err(PoolEnd::Broken(cause.clone())),
        }
        if bounded && self.is_full() {
            return Ok(false);
        }
        let range = TaskRange::whole(batch.clone());
        self.queued += range.len();
        self.queue.push_back(range);
        self.schedule(now, effects);
        Ok(true)
    }

    /// Called when a thread or task begins to wait until the pool is not full (`delta` 1), or stops
    /// doing so (-1).
    pub(super) fn count_waiting_submitter(&mut self, delta: isize) {
        self.waiting_submitters = self.waiting_submitters.saturating_add_signed(delta);
    }

    /// How many of the submitters that wait could continue, if any waits.
    pub(super) fn room_for_waiting(&self) -> u64 {
        if self.waiting_submitters > 0 { self.room() } else { 0 }
    }

    /// Puts ranges back where they came from, before everything that is queued.
    fn requeue(&mut self, ranges: Vec<TaskRange>) {
        for range in ranges.into_iter().rev() {
            self.queued += range.len();
            self.queue.push_front(range);
        }
    }

    /// Takes back what a worker has not begun. The caller must requeue or fail these tasks before
    /// the lock is released, since until then they are in no place.
    fn recall(&mut self, index: usize, effects: &mut Effects<W>) -> Vec<TaskRange> {
        let slot = &mut self.slots[index];
        let back = slot.recall();
        effects.ring(slot.worker.as_ref());
        back
    }

    /// Ends all tasks of a sink that have not begun and, with `kill`, those that are running.
    pub(super) fn cancel(
        &mut self,
        sink: &Arc<dyn Sink>,
        kill: bool,
        now: Instant,
        effects: &mut Effects<W>,
    ) {
        let is_its = |range: &TaskRange| range.batch.is_for(sink);
        let mut cancelled = Vec::new();
        for range in std::mem::take(&mut self.queue) {
            if is_its(&range) {
                self.queued -= range.len();
                cancelled.push(range);
            } else {
                self.queue.push_back(range);
            }
        }
        for index in 0..self.slots.len() {
            if !self.slots[index].in_flight().any(is_its) {
                continue;
            }
            // A parcel is not recalled: it counts as begun.
            let back = if self.slots[index].has_parcel() {
                Vec::new()
            } else {
                self.recall(index, effects)
            };
            let slot = &mut self.slots[index];
            // Only the last task that has begun can be running. Those before it have ended, and
            // their replies are on their way.
            let runs = slot.in_flight().last().is_some_and(is_its);
            if kill && runs {
                slot.kill(KillReason::Cancelled);
            }
            let (its, others): (Vec<_>, Vec<_>) = back.into_iter().partition(is_its);
            cancelled.extend(its);
            self.requeue(others);
        }
        for range in cancelled {
            let task = range.name();
            effects.fail(range, TaskError::Cancelled { task });
        }
        self.schedule(now, effects);
    }

    /// Accepts no more tasks, and finishes those that it has.
    pub(super) fn close(&mut self, effects: &mut Effects<W>) {
        if self.is_open() {
            self.phase = Phase::Closing;
            self.interrupt_all(effects);
            effects.wake_waiters = true;
        }
    }

    /// Ends the pool at once, and returns how many tasks that drops. Returns 0 if the pool was
    /// stopped before.
    ///
    /// A worker that is being started has no entry in its slot yet. `worker_spawned` checks the
    /// phase, and kills it. Tasks in flight end when their monitors see that the processes have
    /// ended.
    pub(super) fn stop(&mut self, effects: &mut Effects<W>) -> u64 {
        if matches!(self.phase, Phase::Stopped) {
            return 0;
        }
        let dropped = self.unfinished();
        self.phase = Phase::Stopped;
        self.fail_queue(effects);
        for index in 0..self.slots.len() {
            match &self.slots[index].worker {
                Some(worker) if worker.can_be_killed() => worker.kill(),
                Some(_) => self.dismiss(index, effects),
                None => {}
            }
        }
        effects.wake_waiters = true;
        dropped
    }

    /// Leaves a thread nothing but the task that it has begun. Its monitor makes it quit after that.
    fn dismiss(&mut self, index: usize, effects: &mut Effects<W>) {
        let back =
            if self.slots[index].has_parcel() { Vec::new() } else { self.recall(index, effects) };
        for range in back {
            let error = self.dropped(range.name());
            effects.fail(range, error);
        }
        effects.interrupt(self.slots[index].worker.as_ref());
    }

    /// Gives up: queued tasks fail, and running tasks may end.
    fn give_up(&mut self, cause: Arc<PoolError>, effects: &mut Effects<W>) {
        if self.is_over() {
            return;
        }
        self.phase = Phase::Broken(cause.clone());
        self.fail_queue(effects);
        self.interrupt_all(effects);
        effects.event(|| PoolEvent::Broken { error: cause });
        effects.wake_waiters = true;
    }

    /// Returns why the pool gave up, and drops its own reference to that cause.
    pub(super) fn take_cause(&mut self) -> Option<Arc<PoolError>> {
        match std::mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::Broken(cause) => Some(cause),
            _ => None,
        }
    }

    /// Fails all queued tasks, because the pool is over.
    fn fail_queue(&mut self, effects: &mut Effects<W>) {
        self.queued = 0;
        for range in std::mem::take(&mut self.queue) {
            let error = self.dropped(range.name());
            effects.fail(range, error);
        }
    }

    /// Returns the error of a task that is dropped at the end of the pool.
    fn dropped(&self, task: &'static str) -> TaskError {
        match &self.phase {
            Phase::Broken(cause) => TaskError::Broken { task, cause: cause.clone() },
            _ => TaskError::Stopped { task },
        }
    }

    /// Interrupts all monitors, because something other than a reply has changed.
    fn interrupt_all(&self, effects: &mut Effects<W>) {
        for slot in &self.slots {
            effects.interrupt(slot.worker.as_ref());
        }
    }

    /// Changes the number of workers. Returns the slots that need a monitor; they already count as
    /// monitored.
    pub(super) fn resize(
        &mut self,
        workers: usize,
        now: Instant,
        effects: &mut Effects<W>,
    ) -> Result<Vec<usize>, PoolError> {
        if !self.is_open() {
            return Err(PoolError::Closed);
        }
        self.workers = workers;
        let new = self.lay_out(workers + self.limits.spares, now);
        self.promote_spares();
        self.interrupt_all(effects);
        self.schedule(now, effects);
        Ok(new)
    }

    /// Brings the number of slots in use to `wanted`.
    fn lay_out(&mut self, wanted: usize, now: Instant) -> Vec<usize> {
        let is_used = |slot: &WorkerSlot<W>| slot.status != SlotStatus::Vacant;
        let mut used = 0;
        for slot in &mut self.slots {
            used += usize::from(is_used(slot) && !slot.surplus);
        }
        // The first slots stay, so that the numbers in names stay low. A surplus slot may stay
        // after all, unless its end has been decided.
        for slot in &mut self.slots {
            if used < wanted
                && slot.surplus
                && !matches!(slot.status, SlotStatus::Vacant | SlotStatus::Quitting)
            {
                slot.surplus = false;
                used += 1;
            }
        }
        for slot in self.slots.iter_mut().rev() {
            if used > wanted && is_used(slot) && !slot.surplus {
                slot.surplus = true;
                used -= 1;
            }
        }
        let mut new = Vec::new();
        for index in 0.. {
            if used >= wanted {
                break;
            }
            if index == self.slots.len() {
                let name = format!("{}-{index}", self.name).into();
                self.slots.push(WorkerSlot::new(name, now));
            }
            let slot = &mut self.slots[index];
            if slot.status == SlotStatus::Vacant {
                slot.start_anew(now);
                self.monitors += 1;
                used += 1;
                new.push(index);
            }
        }
        new
    }

    /// Records that these slots get no monitor, because no thread could be started.
    pub(super) fn abandon(&mut self, slots: &[usize], effects: &mut Effects<W>) {
        for &index in slots {
            self.slots[index].status = SlotStatus::Vacant;
            self.monitors -= 1;
        }
        let is_kept = |slot: &&WorkerSlot<W>| slot.status != SlotStatus::Vacant && !slot.surplus;
        let kept = self.slots.iter().filter(is_kept).count();
        self.workers = self.workers.min(kept.saturating_sub(self.limits.spares).max(1));
        effects.wake_waiters = true;
    }

    /// Makes spares active where workers are missing.
    fn promote_spares(&mut self) {
        let mut missing = self.workers.saturating_sub(self.active());
        for slot in &mut self.slots {
            if missing > 0 && slot.status == SlotStatus::Spare && !slot.surplus {
                slot.status = SlotStatus::Active;
                missing -= 1;
            }
        }
    }

    fn active(&self) -> usize {
        let active = |slot: &&WorkerSlot<W>| slot.status == SlotStatus::Active;
        self.slots.iter().filter(active).count()
    }
}

impl<W: WorkerControl> WorkerSlot<W> {
    fn stats(&self, now: Instant) -> WorkerStats {
        let running_for = if self.count() > 0 {
            now.saturating_duration_since(self.progress)
        } else {
            Duration::ZERO
        };
        let age = now.saturating_duration_since(self.ready_since);
        let busy = (self.busy + running_for).as_secs_f64() / age.as_secs_f64().max(1e-9);
        WorkerStats {
            name: self.name.clone(),
            pid: self.worker.as_ref().map(WorkerControl::pid),
            task: self.running().map(TaskRange::name),
            is_spare: self.status == SlotStatus::Spare,
            done: self.done,
            memory: None,
            busy: busy.min(1.0),
        }
    }
}
