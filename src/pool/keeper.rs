//! The thread that looks after one slot: starts its worker, takes outcomes, sees its end, starts the next one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{ExitReason, PoolError, TaskError};
use crate::ipc::ring::Corrupt;
use crate::pool::batch::{Other, Piece};
use crate::pool::events::PoolEvent;
use crate::pool::link::{self, Drained, Outcome};
use crate::pool::shared::Shared;
use crate::pool::state::{Live, Phase, State, Status};
use crate::pool::worker::Bench;
use crate::process::{Mishap, ProcessBuilder};
use crate::sys;

/// For one slot; [`State::keepers`] counts it already.
pub(super) fn start(shared: &Arc<Shared>, index: usize) -> io::Result<()> {
    let shared = shared.clone();
    sys::service_thread("offspring-pool", move || Keeper { shared, index }.run())
}

struct Keeper {
    shared: Arc<Shared>,
    index: usize,
}

/// What a slot does when its worker has ended.
enum Next {
    Restart(Duration),
    Leave,
}

/// How often a napping front looks.
const NAP: Duration = Duration::from_millis(1);
/// So many outcomes at once make the next wait a nap.
const MANY: u64 = 32;
const WEIGH_EVERY: Duration = Duration::from_millis(10);
/// The longest pause between two starts that fail.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Keeper {
    fn run(&self) {
        loop {
            match self.start_worker() {
                Ok(live) => {
                    self.serve(&live);
                    self.bury(&live);
                }
                Err(Some(error)) => self.note_failure(error),
                Err(None) => {}
            }
            match self.next() {
                Next::Restart(pause) => self.pause(pause),
                Next::Leave => break,
            }
        }
        // Told before the pool is seen to be at its end.
        self.shared.change(State::clear_up);
        self.shared.change(|state, _| {
            state.slots[self.index].status = Status::Vacant;
            state.keepers -= 1;
            if state.keepers == 0 {
                self.shared.events.end();
            }
        });
        self.shared.notify();
    }

    /// A worker that is ready for tasks; `Err(None)` if the pool was stopped meanwhile.
    fn start_worker(&self) -> Result<Live, Option<PoolError>> {
        let settings = &self.shared.settings;
        let name = self
            .shared
            .look(|state| state.slots[self.index].name.clone());
        let spawn_error = |source| PoolError::Spawn {
            worker: name.to_string(),
            source,
        };
        let (front, lane) = link::lane().map_err(|source| PoolError::Io {
            act: "make a lane to a worker",
            source,
        })?;
        let builder = ProcessBuilder::new().name(&*name).daemon(false);
        let process = builder.spawn(Bench { lane }).map_err(spawn_error)?;
        let live = Live::new(front, process).map_err(|source| PoolError::Io {
            act: "watch a worker",
            source,
        })?;
        let stopped = self.shared.change(|state, _| {
            let slot = &mut state.slots[self.index];
            slot.worker = Some(live.clone());
            slot.starts += 1;
            (slot.used, slot.count, slot.worn, slot.verdict) = (0, 0, false, None);
            matches!(state.phase, Phase::Stopped)
        });
        if stopped {
            live.process.kill();
        }
        if let Some(initializer) = &settings.initializer {
            initializer
                .run(&live)
                .inspect_err(|_| self.discard(&live))?;
        }
        self.shared.change(|state, after| {
            let active = state
                .slots
                .iter()
                .filter(|slot| slot.status == Status::Active)
                .count();
            let want = state.want;
            let slot = &mut state.slots[self.index];
            slot.status = if active < want {
                Status::Active
            } else {
                Status::Spare
            };
            slot.moved = Instant::now();
            (slot.started, slot.busy) = (slot.moved, Duration::ZERO);
            after.events.push(PoolEvent::WorkerStarted {
                worker: slot.name.clone(),
                pid: live.process.pid(),
            });
            state.feed(settings.max_tasks, after);
        });
        self.shared.notify();
        Ok(live)
    }

    /// A worker whose initializer failed.
    fn discard(&self, live: &Live) {
        live.process.kill();
        let _ = live.process.join();
        self.shared
            .change(|state, _| state.slots[self.index].worker = None);
    }

    /// Until the worker has ended, and all that it left is taken.
    fn serve(&self, live: &Live) {
        let front = &*live.front;
        let (mut drained, mut nap, mut deadline) =
            (Drained::default(), false, Some(Instant::now()));
        loop {
            let soon = nap.then(|| Instant::now() + NAP);
            front.wait(nap, [soon, deadline].into_iter().flatten().min());
            let ended = front.has_ended();
            let taken = front
                .drain(&mut drained)
                .ok()
                .and_then(|()| self.settle(&mut drained, live).ok());
            let Some(count) = taken else {
                if ended {
                    return;
                }
                // It scribbled over the memory that it shares with us, so nothing that it says can be trusted.
                log::error!(target: "offspring::pool", "worker `{}` wrote what no worker writes; it is replaced", live.process.name());
                live.process.kill();
                let _ = live.process.join();
                return;
            };
            if ended && drained.is_empty() {
                return;
            }
            nap = count >= MANY;
            deadline = self.tend(live);
        }
    }

    /// Delivers what was drained.
    fn settle(&self, drained: &mut Drained, live: &Live) -> Result<u64, Corrupt> {
        let (count, begun) = drained.count()?;
        if count == 0 && !begun {
            return Ok(0);
        }
        let pieces = self.shared.change(|state, after| {
            if begun {
                state.slots[self.index].forget_parcel();
            }
            let pieces = state.end_tasks(self.index, count);
            state.feed(self.shared.settings.max_tasks, after);
            pieces
        });
        self.deliver(pieces, drained, live)?;
        Ok(count)
    }

    fn deliver(
        &self,
        pieces: Vec<Piece>,
        drained: &mut Drained,
        live: &Live,
    ) -> Result<(), Corrupt> {
        let worker: Arc<str> = live.process.name().into();
        let (mut pieces, mut chunks) = (pieces.into_iter(), Vec::new());
        let mut current = pieces.next().map(Piece::into_chunk);
        let (mut done, mut errors) = (0u64, Vec::new());
        let sound = drained.for_each(|outcome| {
            // There are as many outcomes as tasks, unless the worker made some up.
            let Some((piece, chunk)) = &mut current else {
                return;
            };
            match outcome {
                Outcome::Begun => return,
                Outcome::Output(bytes) => chunk.push_output(bytes),
                Outcome::Parcel(packet) => chunk.push_other(Other::Parcel(packet)),
                Outcome::Mishap(mishap) => {
                    let error = told(mishap, piece.batch.kind.name, &worker, live.process.pid());
                    errors.push(error.clone());
                    chunk.push_other(Other::Failed(error));
                }
            }
            if chunk.len() == piece.len() {
                done += chunk.len();
                chunks.extend(current.take());
                current = pieces.next().map(Piece::into_chunk);
            }
        });
        // Counted before anybody can see the outcome.
        let failed = errors.len() as u64;
        self.shared
            .totals
            .done
            .fetch_add(done - failed, Ordering::Relaxed);
        self.shared
            .totals
            .failed
            .fetch_add(failed, Ordering::Relaxed);
        for error in errors {
            self.shared.events.publish(&PoolEvent::TaskFailed { error });
        }
        for (piece, chunk) in chunks {
            piece.batch.sink.deliver(chunk);
        }
        sound
    }

    /// What there is to do besides outcomes. When to look again.
    fn tend(&self, live: &Live) -> Option<Instant> {
        let settings = &self.shared.settings;
        let now = Instant::now();
        self.shared.change(|state, after| {
            state.check_timeout(self.index, now);
            let slot = &mut state.slots[self.index];
            if settings.max_memory.is_some() && now.duration_since(slot.weighed) >= WEIGH_EVERY {
                slot.weighed = now;
                let weight = sys::resident_memory(live.process.pid());
                slot.worn |= weight > settings.max_memory;
            }
            if (slot.worn || slot.surplus) && slot.count > 1 && !slot.has_parcel() {
                let back = slot.recall().unwrap_or_default();
                state.requeue(back);
            }
            state.feed(settings.max_tasks, after);
            let again = state.employ(self.index, settings.max_tasks, after);
            [again, state.slots[self.index].deadline()]
                .into_iter()
                .flatten()
                .min()
        })
    }

    /// The worker has ended, and all its outcomes are taken.
    fn bury(&self, live: &Live) {
        let reason = live.process.exit_reason().unwrap_or(ExitReason::Unknown);
        let failure = self
            .shared
            .change(|state, after| state.bury(self.index, live, reason, after));
        if let Some(error) = failure {
            self.note_failure(error);
        }
        self.shared
            .change(|state, after| state.feed(self.shared.settings.max_tasks, after));
    }

    fn note_failure(&self, error: PoolError) {
        let failures = self.shared.change(|state, _| {
            if matches!(state.phase, Phase::Stopped) {
                return 0;
            }
            state.failures += 1;
            // At first there is no reason to hope that it gets better.
            if matches!(state.phase, Phase::Building) {
                u32::MAX
            } else {
                state.failures
            }
        });
        if failures > self.shared.settings.restart_limit {
            self.shared.give_up(error);
        } else {
            log::warn!(target: "offspring::pool", "{error}; it is tried again");
            let error = Arc::new(error);
            self.shared
                .change(|_, after| after.events.push(PoolEvent::StartFailed { error }));
        }
    }

    fn next(&self) -> Next {
        self.shared.change(|state, _| {
            let empty = state.queue.is_empty();
            let slot = &mut state.slots[self.index];
            let leave = match state.phase {
                Phase::Stopped | Phase::Broken(_) => true,
                Phase::Closing => empty,
                Phase::Building | Phase::Open => slot.surplus,
            };
            if leave {
                return Next::Leave;
            }
            slot.status = Status::Starting;
            Next::Restart(match state.failures {
                0 => Duration::ZERO,
                failures => {
                    (self.shared.settings.backoff * (1 << (failures - 1).min(10))).min(PAUSE_MAX)
                }
            })
        })
    }

    /// Waits before the next start, or until the pool ends.
    fn pause(&self, pause: Duration) {
        if pause > Duration::ZERO {
            let over = |state: &mut State| {
                (!matches!(state.phase, Phase::Open | Phase::Building)).then_some(())
            };
            self.shared.wait(Some(Instant::now() + pause), over);
        }
    }
}

fn told(mishap: Mishap, task: &'static str, worker: &Arc<str>, pid: u32) -> TaskError {
    let worker = worker.clone();
    match mishap {
        Mishap::Panicked(report) => TaskError::Panicked {
            task,
            worker,
            pid,
            report: Box::new(report),
        },
        Mishap::BadValue(message) => TaskError::Value {
            task,
            worker,
            pid,
            message,
        },
        Mishap::BadOutput(message) => TaskError::Output {
            task,
            worker,
            pid,
            message,
        },
    }
}
