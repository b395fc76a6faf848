//! What a pool knows: tasks that wait, workers, and which tasks each worker was given.
//!
//! ```text
//!            submit                    feed                      outcome
//!   (user) ---------> queued --------------------> given ----------------------> ended
//!                       ^                            |  begun, and its process ended: ended with an error,
//!                       |   recalled: not begun      |  or queued again (retries)
//!                       +----------------------------+
//! ```
//!
//! A task is in exactly one place, and moves under the pool's lock; whoever moves it out delivers its outcome. So it
//! ends exactly once, whatever meets.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::Wake;
use std::time::{Duration, Instant};

use crate::error::{PoolError, TaskError};
use crate::ipc::reactor::WakerSlot;
use crate::ipc::ring::{self, Corrupt};
use crate::pool::batch::{Piece, Sink};
use crate::pool::events::PoolEvent;
use crate::pool::link::Front;
use crate::process::Process;

#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: VecDeque<Piece>,
    /// Tasks in `queue`.
    pub(super) queued: u64,
    pub(super) slots: Vec<Slot>,
    pub(super) phase: Phase,
    /// Workers that are to take tasks.
    pub(super) want: usize,
    /// Starts that failed, and workers that ended of themselves with nothing to do, since a task ended well.
    pub(super) failures: u32,
    /// Threads that wait until the pool is not full.
    pub(super) submitters: usize,
    /// Threads that look after a slot.
    pub(super) keepers: usize,
    /// How long tasks of a kind take, in nanoseconds: measured, the recent ones counting more.
    pub(super) paces: HashMap<u32, f64>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Until all workers have started for the first time.
    Building,
    Open,
    /// Finishes what it has.
    Closing,
    /// Finishes nothing.
    Stopped,
    Broken(Arc<PoolError>),
}

/// The place of one worker; its processes come and go.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) status: Status,
    pub(super) worker: Option<Live>,
    /// In the order of the ring.
    pub(super) given: VecDeque<Given>,
    /// Tasks in `given`.
    pub(super) count: u64,
    /// When the first of `given` became the first, as far as was seen.
    pub(super) moved: Instant,
    pub(super) verdict: Option<Verdict>,
    /// To be replaced when it has nothing to do.
    pub(super) worn: bool,
    /// To be given up when it has nothing to do.
    pub(super) surplus: bool,
    /// Tasks that the present process was given.
    pub(super) used: u64,
    /// Tasks that ended here.
    pub(super) done: u64,
    pub(super) busy: Duration,
    pub(super) starts: u64,
    /// When its present process became ready.
    pub(super) started: Instant,
    /// When its memory was looked at last.
    pub(super) weighed: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Nobody looks after it.
    Vacant,
    Starting,
    /// Started, for the day when another one ends.
    Spare,
    Active,
    /// Was told to end.
    Quitting,
}

/// A process in a slot.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) front: Arc<Front>,
    pub(super) process: Arc<Process<()>>,
    /// Keeps the front told of the process's end.
    _seat: Arc<WakerSlot>,
}

/// Tells a front that its process has ended.
struct EndBell(Arc<Front>);

impl Wake for EndBell {
    fn wake(self: Arc<Self>) {
        self.0.end();
    }
}

impl Live {
    pub(super) fn new(front: Front, process: Process<()>) -> io::Result<Live> {
        let front = Arc::new(front);
        let seat = process.target().register()?;
        seat.set(&Arc::new(EndBell(front.clone())).into());
        // It may have ended before anybody sat there.
        if !process.is_alive() {
            front.end();
        }
        Ok(Live {
            front,
            process: Arc::new(process),
            _seat: Arc::new(seat),
        })
    }
}

/// A piece that lies in a worker's ring.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) piece: Piece,
    /// Where the task of number `start` stands; the piece has moved on since.
    position: u64,
    start: u32,
}

/// Why this program kills a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    TimedOut,
    Cancelled,
}

/// What is done after the lock was released.
#[derive(Debug, Default)]
pub(super) struct After {
    pub(super) bells: Vec<Arc<Front>>,
    pub(super) pokes: Vec<Arc<Front>>,
    pub(super) failed: Vec<(Piece, TaskError)>,
    pub(super) events: Vec<PoolEvent>,
}

impl Slot {
    pub(super) fn new(name: Arc<str>) -> Slot {
        let now = Instant::now();
        Slot {
            name,
            status: Status::Vacant,
            worker: None,
            given: VecDeque::new(),
            count: 0,
            moved: now,
            verdict: None,
            worn: false,
            surplus: false,
            used: 0,
            done: 0,
            busy: Duration::ZERO,
            starts: 0,
            started: now,
            weighed: now,
        }
    }

    /// Notes a piece that was written into the ring.
    pub(super) fn note_given(&mut self, piece: Piece, position: u64) {
        if self.count == 0 {
            self.moved = Instant::now();
        }
        self.count += piece.len();
        self.used += piece.len();
        self.given.push_back(Given {
            start: piece.from,
            piece,
            position,
        });
    }

    /// Takes the first `count` given tasks, which have ended.
    pub(super) fn take_ended(&mut self, mut count: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.count -= count.min(self.count);
        while count > 0 {
            let Some(first) = self.given.front_mut() else {
                break;
            };
            let piece = first.piece.split(count);
            count -= piece.len();
            if first.piece.len() == 0 {
                self.given.pop_front();
            }
            pieces.push(piece);
        }
        pieces
    }

    /// Takes back what was not begun, in its order. What is left in `given` was begun.
    pub(super) fn recall(&mut self) -> Result<Vec<Piece>, Corrupt> {
        let Some(worker) = &self.worker else {
            return Ok(Vec::new());
        };
        let mut begun = 0;
        let positions = self.given.iter().flat_map(Given::positions);
        worker
            .front
            .recall(positions, |is_begun| begun += u64::from(is_begun))?;
        let kept = self.take_ended(begun);
        let back: Vec<Piece> = self.given.drain(..).map(|given| given.piece).collect();
        self.used -= self.count.min(self.used);
        self.count = begun;
        // Only begun ones are left, and those are never recalled: where they stand does not matter any more.
        self.given.extend(kept.into_iter().map(|piece| Given {
            start: piece.from,
            piece,
            position: 0,
        }));
        for given in &mut self.given {
            given.position = ALREADY_BEGUN;
        }
        Ok(back)
    }

    /// The task that runs, or will next.
    pub(super) fn first(&self) -> Option<&Piece> {
        self.given.front().map(|given| &given.piece)
    }

    /// The task that runs, if one does.
    pub(super) fn running(&self) -> Option<&Piece> {
        let (first, worker) = (self.given.front()?, self.worker.as_ref()?);
        let position = first.positions().next()?;
        (position == ALREADY_BEGUN || worker.front.is_begun(position)).then_some(&first.piece)
    }

    /// Whether its first task travels as a parcel; then nothing is given on top, and nothing recalled.
    pub(super) fn has_parcel(&self) -> bool {
        self.given
            .front()
            .is_some_and(|given| given.piece.batch.is_parcel())
    }
}

/// No position in a ring.
const ALREADY_BEGUN: u64 = u64::MAX;

impl Given {
    /// Where its tasks stand that have not ended.
    fn positions(&self) -> impl Iterator<Item = u64> {
        let mut at = self.position;
        let from = self.piece.from;
        let all = (self.start..self.piece.to).map(move |index| {
            let here = at;
            if at != ALREADY_BEGUN {
                at = at.wrapping_add(ring::entry_size(self.piece.batch.value(index).len()));
            }
            (index, here)
        });
        all.filter(move |&(index, _)| index >= from)
            .map(|(_, position)| position)
    }
}

impl State {
    pub(super) fn new(want: usize) -> State {
        State {
            queue: VecDeque::new(),
            queued: 0,
            slots: Vec::new(),
            phase: Phase::Building,
            want,
            failures: 0,
            submitters: 0,
            keepers: 0,
            paces: HashMap::new(),
        }
    }

    pub(super) fn enqueue(&mut self, piece: Piece) {
        self.queued += piece.len();
        self.queue.push_back(piece);
    }

    /// Puts pieces back where they came from: before everything that waits.
    pub(super) fn requeue(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.queued += piece.len();
            self.queue.push_front(piece);
        }
    }

    /// Takes everything that waits out of the queue, for this reason.
    pub(super) fn drop_queue(
        &mut self,
        after: &mut After,
        error: impl Fn(&'static str) -> TaskError,
    ) {
        self.queued = 0;
        after.failed.extend(
            self.queue
                .drain(..)
                .map(|piece| (error(piece.batch.kind.name), piece))
                .map(|(e, p)| (p, e)),
        );
    }

    /// Tasks that have not ended.
    pub(super) fn unfinished(&self) -> u64 {
        self.queued + self.slots.iter().map(|slot| slot.count).sum::<u64>()
    }

    pub(super) fn is_full(&self, most: Option<u64>) -> bool {
        most.is_some_and(|most| self.unfinished() >= most)
    }

    pub(super) fn is_finishing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Broken(_))
    }

    /// Wakes all keepers: something changed that is no outcome.
    pub(super) fn poke_all(&self, after: &mut After) {
        let fronts = self
            .slots
            .iter()
            .filter_map(|slot| slot.worker.as_ref())
            .map(|worker| worker.front.clone());
        after.pokes.extend(fronts);
    }

    /// Makes spares active, where workers are missing.
    pub(super) fn promote(&mut self) {
        let mut missing = self.want.saturating_sub(
            self.slots
                .iter()
                .filter(|slot| slot.status == Status::Active)
                .count(),
        );
        for slot in &mut self.slots {
            if missing > 0 && slot.status == Status::Spare && !slot.surplus {
                slot.status = Status::Active;
                missing -= 1;
            }
        }
    }

    /// Takes all tasks of a sink out that were not begun; with `kill` those that run as well.
    pub(super) fn withdraw(&mut self, sink: &Arc<dyn Sink>, kill: bool, after: &mut After) {
        let is_its =
            |piece: &Piece| std::ptr::addr_eq(Arc::as_ptr(&piece.batch.sink), Arc::as_ptr(sink));
        let mut withdrawn = Vec::new();
        for piece in std::mem::take(&mut self.queue) {
            if is_its(&piece) {
                self.queued -= piece.len();
                withdrawn.push(piece);
            } else {
                self.queue.push_back(piece);
            }
        }
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if !slot.given.iter().any(|given| is_its(&given.piece)) {
                continue;
            }
            // A parcel cannot be recalled: it counts as begun.
            let back = if slot.has_parcel() {
                Vec::new()
            } else {
                slot.recall().unwrap_or_default()
            };
            // Its last task that was begun is the one that runs; all before it have ended.
            let runs = slot.given.back().is_some_and(|given| is_its(&given.piece));
            if kill && runs {
                slot.condemn(Verdict::Cancelled);
            }
            let (its, others) = back.into_iter().partition(is_its);
            withdrawn.extend::<Vec<Piece>>(its);
            self.requeue(others);
        }
        let cancelled = |piece: &Piece| TaskError::Cancelled {
            task: piece.batch.kind.name,
        };
        after.failed.extend(withdrawn.into_iter().map(|piece| {
            let error = cancelled(&piece);
            (piece, error)
        }));
    }
}

impl Slot {
    /// Kills the process. Called when its last begun task is to end, and nothing else can begin.
    pub(super) fn condemn(&mut self, verdict: Verdict) {
        if let Some(worker) = &self.worker {
            self.verdict.get_or_insert(verdict);
            worker.process.kill();
        }
    }
}

impl After {
    /// Rings, wakes and delivers.
    pub(super) fn carry_out(self) -> Vec<PoolEvent> {
        for front in &self.bells {
            front.ring();
        }
        for front in &self.pokes {
            front.poke();
        }
        for (piece, error) in self.failed {
            piece.fail(&error);
        }
        self.events
    }
}
