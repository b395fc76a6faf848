//! The schedule: which worker gets which tasks, and how many at once.
//!
//! By the measured cost of its tasks, a worker has about two milliseconds of work in its ring: a
//! single long task, or thousands of tiny ones. So it never waits for its next task, and yet few
//! tasks are given away too early. If a task takes longer than those before it, the tasks after it
//! in the ring turn out to be with the wrong worker, and are recalled for one that is idle.
//!
//! The numbers here may be out of date, because a worker may have ended tasks whose replies its
//! monitor has not drained. That makes a slot look more loaded than it is, never less. So at worst
//! a task waits for the next `complete`, which schedules again.

use std::time::{Duration, Instant};

use super::State;
use super::control::WorkerControl;
use super::effects::Effects;
use super::slot::{SlotStatus, WorkerSlot};
use crate::error::{EncodeError, TaskError};

/// How much work a worker has in its ring, in nanoseconds.
const AHEAD: f64 = 2e6;
/// The most tasks in one ring.
const TASKS_MAX: u64 = 4096;
/// A share is at least this fraction of what a worker may have.
const SHARES: u64 = 16;
/// A task of at least this cost, in nanoseconds, waits in the queue and not in a ring behind
/// another task.
const LONG: f64 = 20e6;
/// A worker without progress for this long gets no further task.
const STALLED: Duration = Duration::from_millis(10);
/// It is worth recalling this much work, in nanoseconds, from another worker's ring at once.
const WORTH: f64 = 200e3;
/// After this long without progress, it is worth recalling any work in the ring.
const STUCK: Duration = Duration::from_millis(2);

/// The outcome of an attempt to give the first queued task to a worker.
enum Given {
    Some,
    /// The task was dropped.
    Failed,
    /// The worker took none: its ring is full, or it will soon be found dead.
    None,
}

impl<W: WorkerControl> State<W> {
    /// Returns how many tasks of this worker type a worker may have, including the one that is
    /// running.
    pub(in crate::pool) fn target(&self, number: u32) -> u64 {
        match self.costs.get(&number) {
            None => 2,
            Some(&cost) if cost >= LONG => 1,
            Some(&cost) => (2 + (AHEAD / cost.max(1.0)) as u64).min(TASKS_MAX),
        }
    }

    /// Records that `count` tasks of this worker type took `span`.
    pub(super) fn note_cost(&mut self, number: u32, span: Duration, count: u64) {
        let sample = span.as_nanos() as f64 / count as f64;
        let cost = self.costs.entry(number).or_insert(sample);
        *cost = (*cost + sample) / 2.0;
    }

    /// Gives queued tasks to workers while there are both. Every transition that queues a task or
    /// frees a worker ends with this, so no task waits while a worker is idle.
    pub(super) fn schedule(&mut self, now: Instant, effects: &mut Effects<W>) {
        if self.is_over() {
            // Tasks that a worker had not begun when the pool ended.
            self.fail_queue(effects);
        }
        loop {
            let Some(next) = self.queue.front() else {
                return self.interrupt_idle(effects);
            };
            let (task, spec) = (next.name(), next.batch.spec);
            if next.batch.sink.is_cancelled() {
                self.fail_next(TaskError::Cancelled { task }, effects);
                continue;
            }
            if !next.batch.is_complete() {
                self.fail_next(TaskError::Lost { task }, effects);
                continue;
            }
            let (is_parcel, target) = (next.batch.is_parcel(), self.target(spec.number));
            let Some(index) = self.least_loaded(is_parcel, target, now) else {
                return;
            };
            match self.give(index, target, now, effects) {
                Given::Some | Given::Failed => {}
                Given::None => return,
            }
        }
    }

    /// If the pool is finishing and no task is queued, interrupts the monitors of idle workers, so
    /// that these end. Spares need this, because no reply of theirs ever makes their monitors
    /// check.
    fn interrupt_idle(&self, effects: &mut Effects<W>) {
        if self.is_finishing() {
            for slot in self.slots.iter().filter(|slot| slot.is_idle()) {
                effects.interrupt(slot.worker.as_ref());
            }
        }
    }

    fn fail_next(&mut self, error: TaskError, effects: &mut Effects<W>) {
        if let Some(range) = self.queue.pop_front() {
            self.queued -= range.len();
            effects.fail(range, error);
        }
    }

    /// Returns the worker with the fewest tasks among those that may take one.
    fn least_loaded(&self, is_parcel: bool, target: u64, now: Instant) -> Option<usize> {
        let takes_one = |slot: &WorkerSlot<W>| {
            let max_tasks = self.limits.max_tasks;
            let is_open = slot.is_open() && max_tasks.is_none_or(|max| slot.given < max);
            // A parcel goes only to an idle worker, which gets no other task meanwhile. So the
            // channel never fills up, and a recall never has to take a message back.
            let on_top = || {
                !is_parcel
                    && !slot.has_parcel()
                    && slot.count() < target
                    && now.saturating_duration_since(slot.progress) < STALLED
            };
            is_open && (slot.count() == 0 || on_top())
        };
        (0..self.slots.len())
            .filter(|&index| takes_one(&self.slots[index]))
            .min_by_key(|&index| self.slots[index].count())
    }

    fn give(&mut self, index: usize, target: u64, now: Instant, effects: &mut Effects<W>) -> Given {
        let active = self.active().max(1) as u64;
        let slot = &mut self.slots[index];
        // Shares get smaller towards the end of the queue, so that all workers end at about the
        // same time; but tiny tasks are not given out one by one.
        let share = self.queued.div_ceil(2 * active).max(target / SHARES);
        let share = share.min(target - slot.count().min(target)).max(1);
        let max_tasks = self.limits.max_tasks;
        let share = share.min(max_tasks.map_or(u64::MAX, |max| max - slot.given));
        let Some(worker) = slot.worker.clone() else {
            return Given::None;
        };
        let Some(mut range) = self.queue.pop_front() else {
            return Given::None;
        };
        let (number, origin) = (range.batch.tag(), range.batch.origin());
        let origin = origin.as_ref().map_or(&[][..], |origin| origin);
        let pushed = if range.batch.is_parcel() {
            let envelope = range.batch.take_parcel();
            let pushed = envelope.map(|envelope| worker.push_parcel(number, envelope, origin));
            pushed.unwrap_or(Ok(None)).map(|position| position.map(|position| (position, 1)))
        } else {
            let to = range.from + share.min(range.len()) as u32;
            let values = (range.from..to).map(|index| range.batch.value(index));
            Ok(Some(worker.push(number, values)))
        };
        let (position, count) = match pushed {
            Ok(pushed) => pushed.unwrap_or_default(),
            Err(error) => {
                // The system refused memory or a descriptor. Waiting for it could take forever,
                // because nothing in the pool need ever happen that would try again.
                self.queued -= range.len();
                let task = range.name();
                let cause = EncodeError::of(task, error.to_string());
                effects.fail(range, TaskError::Unsendable { task, cause });
                return Given::Failed;
            }
        };
        self.queued -= count;
        if count > 0 {
            let given = range.split(count);
            let has_limit = given.batch.spec.timeout.is_some() || self.limits.max_memory.is_some();
            if has_limit && slot.count() == 0 {
                // The monitor sleeps without a deadline, and must learn that there is one now.
                effects.interrupt(Some(&worker));
            }
            slot.note_given(given, position, now);
            effects.ring(Some(&worker));
        }
        if range.len() > 0 {
            self.queue.push_front(range);
        }
        if count > 0 { Given::Some } else { Given::None }
    }

    /// For an idle worker, while others have tasks that they have not begun. Recalls the tasks of
    /// one worker into the queue, or returns when to check again.
    pub(super) fn steal(
        &mut self,
        thief: usize,
        now: Instant,
        effects: &mut Effects<W>,
    ) -> Option<Instant> {
        let may_give = |index: &usize| {
            let slot = &self.slots[*index];
            *index != thief
                && matches!(slot.status, SlotStatus::Active | SlotStatus::Quitting)
                && slot.count() > 1
                && !slot.has_parcel()
        };
        let victim = (0..self.slots.len())
            .filter(may_give)
            .max_by_key(|&index| self.slots[index].count())?;
        let slot = &self.slots[victim];
        let number = slot.first()?.batch.spec.number;
        let cost = self.costs.get(&number).copied().unwrap_or(0.0);
        let is_stuck = now.saturating_duration_since(slot.progress) >= STUCK;
        if (slot.count() - 1) as f64 * cost < WORTH && !is_stuck {
            return Some(now + STUCK);
        }
        let back = self.recall(victim, effects);
        // If nothing came back, all of it has begun, and its replies have not been drained. Another
        // attempt is useless until they could have been.
        let again = back.is_empty().then(|| now + STUCK);
        self.requeue(back);
        again
    }
}
