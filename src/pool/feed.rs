//! Which worker gets which tasks, and how many at once.
//!
//! A worker has in its ring what it will do in about two milliseconds, by the measured time of such tasks: one for
//! long tasks, thousands of tiny ones, so that it never waits for the next and nothing is given away too early. What
//! turns out to be given wrongly, since a task takes longer than those before it, is taken back for one who is idle.

use std::time::{Duration, Instant};

use crate::error::TaskError;
use crate::pool::batch::Piece;
use crate::pool::state::{After, State, Status};

/// Work that a worker has ahead of it.
const AHEAD: f64 = 2e6;
/// Tasks in one ring.
const MOST: u64 = 4096;
/// The smallest share is so much less than a worker may have.
const SHARES: u64 = 16;
/// From this on, a task waits in the queue and not in a ring behind another one.
const LONG: f64 = 20e6;
/// A worker whose task has run for so long gets none on top.
const STALLED: Duration = Duration::from_millis(10);
/// So much work in another's ring is worth taking back at once.
const WORTH: f64 = 200e3;
/// After this without progress anything is.
const STUCK: Duration = Duration::from_millis(2);

impl State {
    /// How many tasks of this kind a worker may have, the one that runs included.
    pub(super) fn target(&self, kind: u32) -> u64 {
        match self.paces.get(&kind) {
            None => 2,
            Some(&pace) if pace >= LONG => 1,
            Some(&pace) => (2 + (AHEAD / pace.max(1.0)) as u64).min(MOST),
        }
    }

    /// Measured: `count` tasks of a kind took `span`.
    pub(super) fn note_pace(&mut self, kind: u32, span: Duration, count: u64) {
        let sample = span.as_nanos() as f64 / count as f64;
        let pace = self.paces.entry(kind).or_insert(sample);
        *pace = (*pace + sample) / 2.0;
    }

    /// Gives tasks to workers while there are both.
    pub(super) fn feed(&mut self, max_tasks: Option<u64>, after: &mut After) {
        loop {
            let Some(next) = self.queue.front() else {
                return self.let_idle_go(after);
            };
            let task = next.batch.kind.name;
            if next.batch.sink.is_cancelled() {
                self.drop_next(TaskError::Cancelled { task }, after);
                continue;
            }
            if !next.batch.has_parcel() {
                self.drop_next(TaskError::Lost { task }, after);
                continue;
            }
            let (is_parcel, target) = (next.batch.is_parcel(), self.target(next.batch.kind.number));
            let Some(index) = self.most_free(is_parcel, target, max_tasks) else {
                return;
            };
            if !self.give(index, target, max_tasks, after) {
                return;
            }
        }
    }

    /// Nothing waits any more. Workers that have nothing wait for that, if the pool finishes: spares, for one.
    fn let_idle_go(&self, after: &mut After) {
        if self.is_finishing() {
            let idle = self.slots.iter().filter(|slot| slot.is_idle());
            after
                .pokes
                .extend(idle.filter_map(|slot| Some(slot.worker.as_ref()?.front.clone())));
        }
    }

    fn drop_next(&mut self, error: TaskError, after: &mut After) {
        if let Some(piece) = self.queue.pop_front() {
            self.queued -= piece.len();
            after.failed.push((piece, error));
        }
    }

    fn most_free(&self, is_parcel: bool, target: u64, max_tasks: Option<u64>) -> Option<usize> {
        let takes = |index: &usize| {
            let slot = &self.slots[*index];
            let open = slot.status == Status::Active
                && !slot.worn
                && !slot.surplus
                && max_tasks.is_none_or(|most| slot.used < most);
            let on_top = || {
                !is_parcel
                    && !slot.has_parcel()
                    && slot.count < target
                    && slot.moved.elapsed() < STALLED
            };
            open && (slot.count == 0 || on_top())
        };
        (0..self.slots.len())
            .filter(takes)
            .min_by_key(|&index| self.slots[index].count)
    }

    /// Whether anything was given.
    fn give(
        &mut self,
        index: usize,
        target: u64,
        max_tasks: Option<u64>,
        after: &mut After,
    ) -> bool {
        let active = self
            .slots
            .iter()
            .filter(|slot| slot.status == Status::Active)
            .count()
            .max(1) as u64;
        let slot = &mut self.slots[index];
        // Shares that get smaller, so that all end at about the same time; but not by single tiny tasks.
        let share = self.queued.div_ceil(2 * active).max(target / SHARES);
        let share = share.min(target - slot.count.min(target)).max(1);
        let share = share.min(max_tasks.map_or(u64::MAX, |most| most - slot.used));
        let Some(worker) = slot.worker.clone() else {
            return false;
        };
        let Some(mut piece) = self.queue.pop_front() else {
            return false;
        };
        let position = worker.front.position();
        let given = give_piece(&worker.front, &mut piece, share);
        let is_idle = slot.count == 0;
        let given_count = given.as_ref().map_or(0, Piece::len);
        if let Some(given) = given {
            if given.batch.kind.timeout.is_some() && is_idle {
                // Its keeper sleeps without a deadline.
                after.pokes.push(worker.front.clone());
            }
            slot.note_given(given, position);
            after.bells.push(worker.front);
        }
        self.queued -= given_count;
        if piece.len() > 0 {
            self.queue.push_front(piece);
        }
        given_count > 0
    }

    /// For a worker that has nothing to do while others have more than they do now: takes it back into the queue,
    /// or says when to look again.
    pub(super) fn steal(&mut self, thief: usize) -> Option<Instant> {
        let open = |status: Status| status == Status::Active || status == Status::Quitting;
        let others =
            (0..self.slots.len()).filter(|&index| index != thief && open(self.slots[index].status));
        let victim = others
            .filter(|&index| self.slots[index].count > 1 && !self.slots[index].has_parcel())
            .max_by_key(|&index| self.slots[index].count)?;
        let slot = &self.slots[victim];
        let kind = slot.first()?.batch.kind.number;
        let ahead = (slot.count - 1) as f64 * self.paces.get(&kind).copied().unwrap_or(0.0);
        let stuck = slot.moved.elapsed() >= STUCK;
        if ahead < WORTH && !stuck {
            return Some(Instant::now() + STUCK);
        }
        let back = self.slots[victim].recall().unwrap_or_default();
        let nothing = back.is_empty();
        self.requeue(back);
        // What it has begun may only be undrained: not worth another look before it says so itself.
        nothing.then(|| Instant::now() + STUCK)
    }
}

/// Writes up to `share` tasks into a ring, and splits them off.
fn give_piece(front: &crate::pool::link::Front, piece: &mut Piece, share: u64) -> Option<Piece> {
    let kind = piece.batch.kind.number;
    if piece.batch.is_parcel() {
        let packet = piece.batch.take_parcel()?;
        front.push_parcel(kind, packet).ok()?;
        return Some(piece.split(1));
    }
    let last = piece.from + share.min(piece.len()) as u32;
    let count = front.push(
        kind,
        (piece.from..last).map(|index| piece.batch.value(index)),
    );
    (count > 0).then(|| piece.split(count))
}
