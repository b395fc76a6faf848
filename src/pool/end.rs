//! How tasks end, and workers with them.

use std::sync::Arc;
use std::time::Instant;

use crate::error::{ExitReason, PoolError, TaskError};
use crate::pool::batch::Piece;
use crate::pool::events::PoolEvent;
use crate::pool::state::{After, Live, Phase, Slot, State, Status, Verdict};

impl Slot {
    /// Until when its task may run.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let timeout = self
            .first()
            .filter(|_| self.verdict.is_none())?
            .batch
            .kind
            .timeout?;
        self.moved.checked_add(timeout)
    }

    /// Whether its worker has nothing, and was not told to end.
    pub(super) fn is_idle(&self) -> bool {
        self.count == 0 && matches!(self.status, Status::Active | Status::Spare)
    }

    /// Its task was begun, so what was kept in case it would not be can go.
    pub(super) fn forget_parcel(&self) {
        if let Some(piece) = self.first().filter(|piece| piece.batch.kind.retries == 0) {
            piece.batch.forget_parcel();
        }
    }

    fn note_progress(&mut self) {
        let now = Instant::now();
        if self.count > 0 {
            self.busy += now.duration_since(self.moved);
        }
        self.moved = now;
    }
}

impl State {
    /// So many of a slot's tasks have told their end.
    pub(super) fn end_tasks(&mut self, index: usize, count: u64) -> Vec<Piece> {
        let slot = &mut self.slots[index];
        let (span, kind) = (
            slot.moved.elapsed(),
            slot.first().map(|piece| piece.batch.kind.number),
        );
        if count == 0 {
            return Vec::new();
        }
        slot.note_progress();
        slot.done += count;
        let pieces = slot.take_ended(count);
        if let Some(kind) = kind {
            self.note_pace(kind, span, count);
        }
        self.failures = 0;
        pieces
    }

    /// Kills a worker whose task has run too long.
    pub(super) fn check_timeout(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        if slot.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        // First nothing else may begin: a task that begins behind this one would die in its place.
        let back = if slot.has_parcel() {
            Vec::new()
        } else {
            slot.recall().unwrap_or_default()
        };
        // If another one has begun, this one has ended, in time.
        if slot.count == 1 {
            slot.condemn(Verdict::TimedOut);
        }
        self.requeue(back);
    }

    /// Finds something to do for a worker that has nothing: work of others, or its end. When to look again.
    pub(super) fn employ(
        &mut self,
        index: usize,
        max_tasks: Option<u64>,
        after: &mut After,
    ) -> Option<Instant> {
        if !self.slots[index].is_idle() {
            return None;
        }
        let fit = |slot: &Slot| slot.status == Status::Active && !slot.worn && !slot.surplus;
        if fit(&self.slots[index]) && self.queue.is_empty() {
            let again = self.steal(index);
            self.feed(max_tasks, after);
            if again.is_some() || !self.slots[index].is_idle() {
                return again;
            }
        }
        let over = self.is_finishing() && self.queue.is_empty();
        let slot = &mut self.slots[index];
        let used_up = max_tasks.is_some_and(|most| slot.used >= most);
        if over || used_up || slot.worn || slot.surplus {
            slot.status = Status::Quitting;
            if let Some(worker) = &slot.worker {
                worker.front.quit();
                after.bells.push(worker.front.clone());
            }
            self.promote();
            self.feed(max_tasks, after);
        }
        None
    }

    /// A slot's worker has ended, and told all that it had to tell. An error if the pool may be at fault.
    pub(super) fn bury(
        &mut self,
        index: usize,
        live: &Live,
        reason: ExitReason,
        after: &mut After,
    ) -> Option<PoolError> {
        let slot = &mut self.slots[index];
        slot.note_progress();
        // A ring that makes no sense does not tell what was begun: then all of it counts as begun, since none may run twice.
        let back = slot.recall().unwrap_or_default();
        let begun: Vec<Piece> = slot.given.drain(..).map(|given| given.piece).collect();
        let (verdict, expected) = (
            slot.verdict.take(),
            slot.status == Status::Quitting || slot.worn,
        );
        let (worker, pid) = (slot.name.clone(), live.process.pid());
        slot.count = 0;
        slot.worker = None;
        slot.status = Status::Starting;
        self.promote();
        after.events.push(PoolEvent::WorkerEnded {
            worker: worker.clone(),
            pid,
            reason: reason.clone(),
        });
        let idle = begun.is_empty();
        let mut again = Vec::new();
        for mut piece in begun {
            let crashes = piece.crashes + 1;
            if verdict.is_none() && crashes <= piece.batch.kind.retries && !self.is_over() {
                let task = piece.batch.kind.name;
                after.events.push(PoolEvent::TaskRetried { task, crashes });
                piece.crashes = crashes;
                again.push(piece);
            } else {
                let error = self.cause_of_end(&piece, verdict, crashes, (&worker, pid), &reason);
                after.failed.push((piece, error));
            }
        }
        again.extend(back);
        self.take_back(again, after);
        let unexpected = idle && !expected && !self.is_over() && !is_from_outside(&reason);
        unexpected.then(|| PoolError::Ended {
            worker: worker.to_string(),
            pid,
            reason,
        })
    }

    /// Whether nothing waits or is waited for any more.
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Broken(_))
    }

    fn take_back(&mut self, pieces: Vec<Piece>, after: &mut After) {
        if !self.is_over() {
            return self.requeue(pieces);
        }
        let errors = pieces.into_iter().map(|piece| {
            let error = self.dropped(piece.batch.kind.name);
            (piece, error)
        });
        after.failed.extend(errors);
    }

    /// A keeper leaves. What it took back from its worker after the pool was over is in the queue, and nobody looks there.
    pub(super) fn clear_up(&mut self, after: &mut After) {
        if self.is_over() {
            let pieces = self.queue.drain(..).collect();
            self.queued = 0;
            self.take_back(pieces, after);
        }
    }

    /// What becomes of a task when the pool is over.
    fn dropped(&self, task: &'static str) -> TaskError {
        match &self.phase {
            Phase::Broken(cause) => TaskError::Broken {
                task,
                cause: cause.clone(),
            },
            _ => TaskError::Stopped { task },
        }
    }

    fn cause_of_end(
        &self,
        piece: &Piece,
        verdict: Option<Verdict>,
        crashes: u32,
        (worker, pid): (&Arc<str>, u32),
        reason: &ExitReason,
    ) -> TaskError {
        let kind = piece.batch.kind;
        let (task, worker, reason) = (kind.name, worker.clone(), reason.clone());
        match verdict {
            Some(Verdict::Cancelled) => TaskError::Cancelled { task },
            Some(Verdict::TimedOut) => TaskError::TimedOut {
                task,
                worker,
                pid,
                limit: kind.timeout.unwrap_or_default(),
            },
            None if matches!(self.phase, Phase::Stopped) => TaskError::Stopped { task },
            None if crashes > 1 => TaskError::SetAside {
                task,
                crashes,
                worker,
                pid,
                reason,
            },
            None => TaskError::Died {
                task,
                worker,
                pid,
                reason,
            },
        }
    }
}

/// SIGKILL and SIGTERM are sent by somebody, who will not do it for ever; another end is a worker's own, and would
/// come again.
fn is_from_outside(reason: &ExitReason) -> bool {
    matches!(
        reason,
        ExitReason::Killed { .. } | ExitReason::Signaled { signal: 9 | 15, .. }
    )
}
