//! The place of one worker, and the tasks that are in its ring.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::WorkerControl;
use crate::ipc::ring;
use crate::pool::batch::TaskRange;

/// The place of one worker, whose processes come and go.
#[derive(Debug)]
pub(in crate::pool) struct WorkerSlot<W> {
    pub(super) name: Arc<str>,
    pub(super) status: SlotStatus,
    /// `None` while no process is running.
    pub(super) worker: Option<W>,
    /// Tasks that were written into its ring and have not ended, in the order of the ring.
    in_flight: VecDeque<InFlight>,
    /// How many tasks are in `in_flight`.
    count: u64,
    /// When the first task in flight became the first, as far as its monitor has seen.
    pub(super) progress: Instant,
    /// The last `progress` at whose limit more than one task had begun.
    pub(super) overdue: Option<Instant>,
    /// The first measurement since the last progress.
    memory: Option<FirstLook>,
    /// When memory was measured last.
    looked: Option<Instant>,
    /// Since when it has had tasks in its ring and has begun none of them.
    pub(super) unresponsive_since: Option<Instant>,
    /// Set once the pool has killed the worker because of its task.
    pub(super) kill_reason: Option<KillReason>,
    /// True if the worker must be replaced when it is idle.
    pub(super) worn: bool,
    /// True if the slot must be given up when it is idle.
    pub(super) surplus: bool,
    /// How many tasks the current process was given and has not handed back.
    pub(super) given: u64,
    /// How many tasks have ended in this slot.
    pub(super) done: u64,
    pub(super) busy: Duration,
    /// How many processes were started in this slot.
    pub(super) starts: u64,
    /// When the current process became ready.
    pub(super) ready_since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum SlotStatus {
    /// Not in use: it has no monitor.
    Vacant,
    /// A monitor is starting its process.
    Starting,
    /// Ready, and waiting to replace another worker.
    Spare,
    Active,
    /// Its process was asked to end, or its monitor is about to leave.
    Quitting,
}

/// Why the pool killed a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum KillReason {
    TimeLimit,
    /// It had this much memory.
    OverMemory(u64),
    Cancelled,
}

/// The memory of a process that has just begun a task, so that the task is not blamed for what
/// others have left.
#[derive(Clone, Copy, Debug)]
struct FirstLook {
    progress: Instant,
    used: u64,
}

/// How often memory is measured while a task runs.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long after a progress it is measured first, at the latest.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// A range in a worker's ring.
#[derive(Debug)]
struct InFlight {
    range: TaskRange,
    /// Where the task with index `start` is in the ring; `None` once the whole range has begun.
    /// (`range.from` advances as tasks end.)
    position: Option<u64>,
    start: u32,
}

impl InFlight {
    /// Returns the positions of its tasks that have not ended.
    fn positions(&self) -> impl Iterator<Item = u64> {
        let mut at = self.position.unwrap_or_default();
        (self.start..self.range.to)
            .map(move |index| {
                let here = at;
                at = at.wrapping_add(ring::entry_size(self.range.batch.value(index).len()));
                (index, here)
            })
            .filter(|&(index, _)| index >= self.range.from)
            .map(|(_, position)| position)
    }
}

impl<W: WorkerControl> WorkerSlot<W> {
    pub(super) fn new(name: Arc<str>, now: Instant) -> WorkerSlot<W> {
        WorkerSlot {
            name,
            status: SlotStatus::Vacant,
            worker: None,
            in_flight: VecDeque::new(),
            count: 0,
            progress: now,
            overdue: None,
            memory: None,
            looked: None,
            unresponsive_since: None,
            kill_reason: None,
            worn: false,
            surplus: false,
            given: 0,
            done: 0,
            busy: Duration::ZERO,
            starts: 0,
            ready_since: now,
        }
    }

    /// Puts a vacant slot to use again. Its counts continue.
    pub(super) fn start_anew(&mut self, now: Instant) {
        *self = WorkerSlot {
            status: SlotStatus::Starting,
            starts: self.starts,
            done: self.done,
            ..WorkerSlot::new(self.name.clone(), now)
        };
    }

    /// Returns how many tasks it has: the one that is running, and those in its ring.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn in_flight(&self) -> impl Iterator<Item = &TaskRange> {
        self.in_flight.iter().map(|in_flight| &in_flight.range)
    }

    /// Returns whether its worker has no task, and was not asked to end.
    pub(super) fn is_idle(&self) -> bool {
        self.count == 0 && matches!(self.status, SlotStatus::Active | SlotStatus::Spare)
    }

    /// Returns whether its worker takes tasks, now and later.
    pub(super) fn is_open(&self) -> bool {
        self.status == SlotStatus::Active
            && self.kill_reason.is_none()
            && !self.worn
            && !self.surplus
    }

    /// Records that a range was written into the ring.
    pub(super) fn note_given(&mut self, range: TaskRange, position: u64, now: Instant) {
        if self.count == 0 {
            self.progress = now;
        }
        self.count += range.len();
        self.given += range.len();
        self.in_flight.push_back(InFlight { start: range.from, range, position: Some(position) });
    }

    /// Records that the first task has ended, or the worker's process has.
    pub(super) fn note_progress(&mut self, now: Instant) {
        if self.count > 0 {
            self.busy += now.saturating_duration_since(self.progress);
        }
        self.progress = now;
        self.unresponsive_since = None;
    }

    /// Takes out the first `count` tasks in flight, which have ended.
    pub(super) fn take_ended(&mut self, mut count: u64) -> Vec<TaskRange> {
        let mut ranges = Vec::new();
        self.count -= count.min(self.count);
        while count > 0 {
            let Some(first) = self.in_flight.front_mut() else {
                break;
            };
            let range = first.range.split(count);
            count -= range.len();
            if first.range.len() == 0 {
                self.in_flight.pop_front();
            }
            ranges.push(range);
        }
        ranges
    }

    /// Takes the tasks that have not begun back out of the ring, in their order. What stays in
    /// flight has begun. The caller rings the worker.
    pub(super) fn recall(&mut self) -> Vec<TaskRange> {
        let Some(worker) = &self.worker else {
            return Vec::new();
        };
        let positions = self
            .in_flight
            .iter()
            .filter(|in_flight| in_flight.position.is_some())
            .flat_map(InFlight::positions);
        // A corrupt ring does not show what has begun. Then all of it counts as begun, since no
        // task may run twice, and the monitor kills the worker.
        let Ok(begun) = worker.recall(positions) else {
            return Vec::new();
        };
        let before = self
            .in_flight
            .iter()
            .filter(|in_flight| in_flight.position.is_none())
            .map(|in_flight| in_flight.range.len())
            .sum::<u64>();
        let kept = self.take_ended(before + begun);
        let back: Vec<TaskRange> =
            self.in_flight.drain(..).map(|in_flight| in_flight.range).collect();
        self.given -= self.count.min(self.given);
        self.count = before + begun;
        self.in_flight.extend(kept.into_iter().map(|range| InFlight {
            start: range.from,
            range,
            position: None,
        }));
        back
    }

    /// Takes out all tasks: those that have not begun, by a recall, and those that have. For a
    /// worker whose process has ended.
    pub(super) fn take_all(&mut self) -> (Vec<TaskRange>, Vec<TaskRange>) {
        let back = self.recall();
        self.count = 0;
        let begun = self.in_flight.drain(..).map(|in_flight| in_flight.range);
        (back, begun.collect())
    }

    /// Returns the task that is running or will run next, and those that follow it.
    pub(super) fn first(&self) -> Option<&TaskRange> {
        self.in_flight().next()
    }

    /// Returns the task that is running, if the worker has begun one.
    pub(super) fn running(&self) -> Option<&TaskRange> {
        let (first, worker) = (self.in_flight.front()?, self.worker.as_ref()?);
        let has_begun = match first.position {
            None => true,
            Some(_) => worker.is_begun(first.positions().next()?),
        };
        has_begun.then_some(&first.range)
    }

    /// Returns whether its first task travels as a parcel. Such a worker gets no other task, and
    /// nothing is recalled from it.
    pub(super) fn has_parcel(&self) -> bool {
        self.first().is_some_and(|range| range.batch.is_parcel())
    }

    /// Returns when the running task exceeds its time limit. No limit holds on a thread.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if !self.worker.as_ref()?.can_be_killed() {
            return None;
        }
        let first = self.first().filter(|_| self.kill_reason.is_none())?;
        self.progress.checked_add(first.batch.spec.timeout?)
    }

    /// Records how much memory the process has. Returns whether the running task is to blame that
    /// it is more than `limit`.
    pub(super) fn note_memory(&mut self, used: u64, limit: u64, now: Instant) -> bool {
        let progress = self.progress;
        self.looked = Some(now);
        let first = match self.memory.filter(|first| first.progress == progress) {
            Some(first) => first.used,
            None => self.memory.insert(FirstLook { progress, used }).used,
        };
        let found = if first > limit { first } else { 0 };
        self.count > 0 && used > limit.saturating_add(found)
    }

    /// Returns when to measure the memory next; `None` if it cannot have grown, or is that of the
    /// whole program.
    pub(super) fn next_look(&self) -> Option<Instant> {
        if self.given == 0 || !self.worker.as_ref()?.can_be_killed() {
            return None;
        }
        let first = self.memory.filter(|first| first.progress == self.progress);
        match (first, self.looked) {
            (Some(_), Some(looked)) => (self.count > 0).then(|| looked + LOOK_EVERY),
            (None, Some(looked)) => Some(looked.max(self.progress) + FIRST_LOOK),
            (_, None) => Some(self.progress + FIRST_LOOK),
        }
    }

    /// Drops the copy of the running parcel, unless the task may be retried.
    pub(super) fn drop_parcel(&self) {
        if let Some(range) = self.first().filter(|range| range.batch.spec.retries == 0) {
            range.batch.drop_parcel();
        }
    }

    /// Kills the worker because of the last task that it has begun. The caller has recalled the
    /// others, since a task that began after that one would die in its place. Does nothing to a
    /// thread, whose task ends by itself.
    pub(super) fn kill(&mut self, reason: KillReason) {
        if let Some(worker) = self.worker.as_ref().filter(|worker| worker.can_be_killed()) {
            self.kill_reason.get_or_insert(reason);
            worker.kill();
        }
    }
}
