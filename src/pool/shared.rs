//! What the pool's handle, its tasks and its keepers share: the state behind its lock, and what is done with it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use crate::error::{PoolError, TaskError};
use crate::ipc::event_stream::EventPublisher;
use crate::pool::batch::{Batch, Piece, Sink};
use crate::pool::builder::Settings;
use crate::pool::events::PoolEvent;
use crate::pool::keeper;
use crate::pool::state::{After, Phase, Slot, State, Status};
use crate::process::AtExit;
use crate::sys::{self, lock};

pub(crate) struct Shared {
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// The phase changed, a worker started, a keeper left.
    changed: Condvar,
    pub(super) events: EventPublisher<PoolEvent>,
    pub(super) totals: Totals,
}

/// Counted since the pool was made.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// When a task is taken, if the pool has a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Always.
    Unbounded,
    /// If the pool is not full.
    Now,
    /// As soon as it is not full.
    Room,
}

/// Why tasks are not taken.
#[derive(Debug)]
pub(super) enum Refused {
    Full,
    Closed,
    Broken(Arc<PoolError>),
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Shared {
        Shared {
            state: Mutex::new(State::new(settings.workers)),
            changed: Condvar::new(),
            events: EventPublisher::default(),
            totals: Totals::default(),
            settings,
        }
    }

    pub(super) fn look<R>(&self, act: impl FnOnce(&State) -> R) -> R {
        act(&lock(&self.state))
    }

    /// Changes the state, and then does what follows from it, without the lock.
    pub(super) fn change<R>(&self, act: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let mut state = lock(&self.state);
        let result = act(&mut state, &mut after);
        let has_room = state.submitters > 0 && !state.is_full(self.settings.max_unfinished);
        drop(state);
        if has_room {
            self.changed.notify_all();
        }
        self.carry_out(after);
        result
    }

    fn carry_out(&self, after: After) {
        let failed: u64 = after.failed.iter().map(|(piece, _)| piece.len()).sum();
        self.totals.failed.fetch_add(failed, Ordering::Relaxed);
        if failed > 0 && self.events.has_readers() {
            for (_, error) in &after.failed {
                let error = error.clone();
                self.events.publish(&PoolEvent::TaskFailed { error });
            }
        }
        for event in after.carry_out() {
            self.events.publish(&event);
        }
    }

    pub(super) fn notify(&self) {
        // With the lock, since those who wait look at the state first.
        drop(lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits until `ready` gives something, until `deadline` if there is one.
    pub(super) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        let mut state: MutexGuard<'_, State> = lock(&self.state);
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

    pub(super) fn submit(&self, batch: Batch, when: When) -> Result<(), Refused> {
        let batch = Arc::new(batch);
        let most = self
            .settings
            .max_unfinished
            .filter(|_| when != When::Unbounded);
        loop {
            let outcome = self.change(|state, after| {
                match &state.phase {
                    Phase::Building | Phase::Open => {}
                    Phase::Closing | Phase::Stopped => return Err(Refused::Closed),
                    Phase::Broken(cause) => return Err(Refused::Broken(cause.clone())),
                }
                if state.is_full(most) {
                    return Err(Refused::Full);
                }
                state.enqueue(Piece::whole(batch.clone()));
                state.feed(self.settings.max_tasks, after);
                Ok(())
            });
            match outcome {
                Err(Refused::Full) if when == When::Room => self.wait_for_room(),
                outcome => return outcome,
            }
        }
    }

    /// Until the pool is not full, or takes nothing any more.
    fn wait_for_room(&self) {
        let mut state = lock(&self.state);
        state.submitters += 1;
        while matches!(state.phase, Phase::Building | Phase::Open)
            && state.is_full(self.settings.max_unfinished)
        {
            state = sys::wait(&self.changed, state, None);
        }
        state.submitters -= 1;
    }

    pub(super) fn withdraw(&self, sink: &Arc<dyn Sink>, kill: bool) {
        self.change(|state, after| {
            state.withdraw(sink, kill, after);
            state.feed(self.settings.max_tasks, after);
        });
    }

    /// Takes no more tasks, and finishes those that it has.
    pub(super) fn close(&self) {
        self.change(|state, after| {
            if matches!(state.phase, Phase::Building | Phase::Open) {
                state.phase = Phase::Closing;
                state.poke_all(after);
            }
        });
        self.notify();
    }

    /// Ends at once. How many tasks are dropped.
    pub(super) fn stop(&self) -> u64 {
        let dropped = self.change(|state, after| {
            let dropped = state.unfinished();
            state.phase = Phase::Stopped;
            state.drop_queue(after, |task| TaskError::Stopped { task });
            for worker in state.slots.iter().filter_map(|slot| slot.worker.as_ref()) {
                worker.process.kill();
            }
            dropped
        });
        self.notify();
        dropped
    }

    /// Gives up: what waits fails, what runs may end.
    pub(super) fn give_up(&self, cause: PoolError) {
        let cause = Arc::new(cause);
        self.change(|state, after| {
            if matches!(state.phase, Phase::Stopped | Phase::Broken(_)) {
                return;
            }
            state.phase = Phase::Broken(cause.clone());
            state.drop_queue(after, |task| TaskError::Broken {
                task,
                cause: cause.clone(),
            });
            state.poke_all(after);
            after.events.push(PoolEvent::Broken {
                error: cause.clone(),
            });
        });
        self.notify();
    }

    /// Lets go of the reason for which it gave up.
    pub(super) fn forget_cause(&self) {
        self.change(|state, _| state.phase = Phase::Stopped);
    }

    /// Waits until every worker has ended and every task is told its end.
    pub(super) fn wait_ended(&self, deadline: Option<Instant>) -> bool {
        self.wait(deadline, |state| (state.keepers == 0).then_some(()))
            .is_some()
    }

    /// Makes it so many slots; their keepers start the workers.
    pub(super) fn resize(self: &Arc<Self>, workers: usize) -> Result<(), PoolError> {
        let all = workers + self.settings.spares;
        let started = self.change(|state, after| {
            state.want = workers;
            let started = state.lay_out(all, &self.settings.name);
            state.promote();
            state.poke_all(after);
            state.feed(self.settings.max_tasks, after);
            started
        });
        for index in started {
            let source = match keeper::start(self, index) {
                Ok(()) => continue,
                Err(source) => source,
            };
            self.change(|state, _| {
                state.keepers -= 1;
                state.slots[index].status = Status::Vacant;
            });
            self.notify();
            return Err(PoolError::Io {
                act: "start a thread",
                source,
            });
        }
        Ok(())
    }
}

impl State {
    /// Makes so many slots be in use; gives those that need a keeper.
    fn lay_out(&mut self, all: usize, name: &str) -> Vec<usize> {
        let is_used = |slot: &Slot| slot.status != Status::Vacant;
        let mut used = self
            .slots
            .iter()
            .filter(|slot| is_used(slot) && !slot.surplus)
            .count();
        // The first stay, so that names stay low; a slot that is about to go may stay as well.
        for slot in self
            .slots
            .iter_mut()
            .filter(|slot| is_used(slot) && slot.surplus && slot.status != Status::Quitting)
        {
            if used < all {
                slot.surplus = false;
                used += 1;
            }
        }
        for slot in self
            .slots
            .iter_mut()
            .rev()
            .filter(|slot| is_used(slot) && !slot.surplus)
        {
            if used > all {
                slot.surplus = true;
                used -= 1;
            }
        }
        let mut new = Vec::new();
        for index in 0.. {
            if used >= all {
                break;
            }
            if index == self.slots.len() {
                self.slots.push(Slot::new(format!("{name}-{index}").into()));
            }
            let slot = &mut self.slots[index];
            if slot.status == Status::Vacant {
                *slot = Slot {
                    starts: slot.starts,
                    done: slot.done,
                    ..Slot::new(slot.name.clone())
                };
                slot.status = Status::Starting;
                self.keepers += 1;
                used += 1;
                new.push(index);
            }
        }
        new
    }
}

impl AtExit for Shared {
    fn finish(&self) {
        self.close();
    }

    fn wait(&self) {
        self.wait_ended(None);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.settings.name)
            .finish_non_exhaustive()
    }
}
