//! The state, driven through histories without processes.
//!
//! A [`FakeWorker`] has a ring that holds a few tasks. What a real worker would do concurrently
//! (begin a task, finish it, die) is a step of the history. Nothing sleeps: a worker that was not
//! rung begins nothing, and a monitor that was not woken sees nothing, so a history that cannot
//! continue has lost a wake-up. After each step, every task must be in exactly one place.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::error::ExitReason;
use crate::ipc::ring::{self, Corrupt};
use crate::ipc::wire::{self, Envelope, Shape};
use crate::pool::batch::TaskSpec;
use crate::pool::results::Results;
use crate::sys::lock;

#[derive(Clone, Debug)]
struct FakeWorker(Arc<Mutex<Fake>>);

#[derive(Debug, Default)]
struct Fake {
    pid: u32,
    /// How many tasks its ring holds.
    capacity: usize,
    /// Position and task of each entry that it has not begun.
    ring: VecDeque<(u64, u64)>,
    head: u64,
    tail: u64,
    running: Option<u64>,
    /// Tasks that it has finished, and whether it has begun a parcel, as far as that is not drained
    /// yet.
    replies: Vec<u64>,
    begun_parcel: bool,
    has_parcel: bool,
    is_asleep: bool,
    /// Whether it was asked to end, was signalled, has ended.
    quits: bool,
    is_killed: bool,
    reason: Option<ExitReason>,
    /// True once its monitor has seen its end.
    is_reaped: bool,
    is_interrupted: bool,
    memory: u64,
    refuses_parcels: bool,
}

impl Fake {
    fn write(&mut self, id: u64, payload: usize) -> u64 {
        assert!(!self.is_reaped && !self.quits, "a task is given to a worker that has ended");
        assert!(!self.is_killed, "a task is given to a worker that was killed");
        let position = self.tail;
        self.tail += ring::entry_size(payload);
        self.ring.push_back((position, id));
        position
    }
}

impl WorkerControl for FakeWorker {
    fn pid(&self) -> u32 {
        lock(&self.0).pid
    }

    fn push<'a>(&self, _: u32, values: impl Iterator<Item = &'a [u8]>) -> (u64, u64) {
        let mut fake = lock(&self.0);
        let position = fake.tail;
        let mut count = 0;
        for value in values {
            if fake.ring.len() >= fake.capacity {
                break;
            }
            fake.write(wire::decode(value, Vec::new()).unwrap(), value.len());
            count += 1;
        }
        (position, count)
    }

    fn push_parcel(&self, _: u32, envelope: Envelope, _: &[u8]) -> io::Result<Option<u64>> {
        let mut fake = lock(&self.0);
        assert!(fake.ring.is_empty(), "a parcel is given to a worker that is not idle");
        if fake.refuses_parcels {
            return Err(io::Error::other("no memory"));
        }
        if fake.reason.is_some() {
            return Ok(None);
        }
        fake.has_parcel = true;
        Ok(Some(fake.write(envelope.decode().unwrap(), 0)))
    }

    fn recall(&self, positions: impl Iterator<Item = u64>) -> Result<u64, Corrupt> {
        let mut fake = lock(&self.0);
        fake.ring.clear();
        fake.tail = fake.head;
        // It may have fallen asleep in the meantime.
        fake.is_asleep = true;
        Ok(positions.filter(|&position| position < fake.head).count() as u64)
    }

    fn is_begun(&self, position: u64) -> bool {
        position < lock(&self.0).head
    }

    fn quit(&self) {
        lock(&self.0).quits = true;
    }

    fn can_be_killed(&self) -> bool {
        true
    }

    fn kill(&self) {
        lock(&self.0).is_killed = true;
    }

    fn ring(&self) {
        lock(&self.0).is_asleep = false;
    }

    fn interrupt(&self) {
        lock(&self.0).is_interrupted = true;
    }
}

#[derive(Default)]
struct FakeSink(AtomicBool);

impl Sink for FakeSink {
    fn deliver(&self, _: Results) {}

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The life of one task.
struct Known {
    sink: Arc<FakeSink>,
    spec: TaskSpec,
    begun: u32,
    is_finished: bool,
    has_ended: bool,
}

enum FakeMonitor {
    Starting,
    Serving { worker: FakeWorker, deadline: Option<Instant> },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Submit {
        tasks: u32,
        retries: u32,
        timeout: Option<u64>,
        is_parcel: bool,
    },
    /// Cancels the latest submission that has not ended; with `true`, also the tasks that are
    /// running.
    Cancel(bool),
    /// A worker begins its next task, or falls asleep.
    Begin(usize),
    Finish(usize),
    Crash(usize),
    KilledFromOutside(usize),
    /// A signal that the pool has sent arrives.
    Die(usize),
    /// A turn of the slot's monitor, if it is awake.
    Turn(usize),
    FailToStart(usize),
    MemoryIsShort(usize),
    Grow(usize),
    Advance(u64),
    Resize(usize),
    Close,
    Stop,
}

struct World {
    state: State<FakeWorker>,
    limits: Limits,
    now: Instant,
    monitors: HashMap<usize, FakeMonitor>,
    tasks: Vec<Known>,
    pids: u32,
    steps: Vec<Step>,
}

impl World {
    /// Returns a pool whose workers are all ready.
    fn new(workers: usize, limits: Limits) -> World {
        let mut world = World {
            state: State::new("model".to_owned(), limits),
            limits,
            now: Instant::now(),
            monitors: HashMap::new(),
            tasks: Vec::new(),
            pids: 0,
            steps: Vec::new(),
        };
        world.resize(workers);
        for index in 0..workers + limits.spares {
            world.turn(index, false, false);
        }
        assert!(matches!(world.state.phase, Phase::Open));
        world
    }

    fn change<R>(
        &mut self,
        transition: impl FnOnce(&mut State<FakeWorker>, Instant, &mut Effects<FakeWorker>) -> R,
    ) -> R {
        let mut effects = Effects::new(true);
        let result = transition(&mut self.state, self.now, &mut effects);
        effects.wake_workers();
        for (range, error) in effects.failed {
            for id in ids(&range) {
                self.end(id, Some(&error));
            }
        }
        result
    }

    fn end(&mut self, id: u64, error: Option<&TaskError>) {
        let steps = &self.steps;
        let task = &mut self.tasks[id as usize];
        assert!(!task.has_ended, "task {id} ends twice: {steps:?}");
        task.has_ended = true;
        assert_eq!(task.is_finished, error.is_none(), "task {id} ended with {error:?}: {steps:?}");
        match error {
            Some(TaskError::Cancelled { .. }) => {
                assert!(task.sink.is_cancelled(), "task {id} was not cancelled: {steps:?}");
            }
            Some(TaskError::TimeLimit { .. }) => {
                assert!(task.spec.timeout.is_some(), "task {id} has no time limit: {steps:?}");
            }
            Some(TaskError::OverMemory { used, limit, .. }) => {
                assert!(used > limit && Some(*limit) == self.limits.max_memory, "{steps:?}");
                assert!(task.begun > 0, "task {id} has not begun: {steps:?}");
            }
            Some(TaskError::Died { .. }) => assert_eq!(task.begun, 1, "{steps:?}"),
            Some(TaskError::SetAside { crashes, .. }) => {
                assert_eq!((task.begun, *crashes), (task.spec.retries + 1, task.begun));
            }
            _ => {}
        }
    }

    fn resize(&mut self, workers: usize) {
        let new = self.change(|state, now, effects| state.resize(workers, now, effects));
        for index in new.unwrap_or_default() {
            let before = self.monitors.insert(index, FakeMonitor::Starting);
            assert!(before.is_none(), "slot {index} has two monitors: {:?}", self.steps);
        }
    }

    fn worker(&self, index: usize) -> Option<std::sync::MutexGuard<'_, Fake>> {
        match self.monitors.get(&index)? {
            FakeMonitor::Starting => None,
            FakeMonitor::Serving { worker, .. } => Some(lock(&worker.0)),
        }
    }

    fn living(&self, index: usize) -> Option<std::sync::MutexGuard<'_, Fake>> {
        self.worker(index).filter(|fake| fake.reason.is_none())
    }

    /// Returns whether the step did anything.
    fn step(&mut self, step: Step) -> bool {
        self.steps.push(step);
        let done = self.apply(step);
        if done {
            self.check();
        } else {
            self.steps.pop();
        }
        done
    }

    fn apply(&mut self, step: Step) -> bool {
        match step {
            Step::Submit { tasks, retries, timeout, is_parcel } => {
                self.submit(tasks, retries, timeout.map(Duration::from_millis), is_parcel)
            }
            Step::Cancel(kill) => {
                let Some(task) = self.tasks.iter().rev().find(|task| !task.has_ended) else {
                    return false;
                };
                task.sink.0.store(true, Ordering::SeqCst);
                let sink: Arc<dyn Sink> = task.sink.clone();
                self.change(|state, now, effects| state.cancel(&sink, kill, now, effects));
                true
            }
            Step::Begin(index) => self.begin(index),
            Step::Finish(index) => {
                let Some(mut fake) = self.living(index) else {
                    return false;
                };
                let Some(id) = fake.running.take() else {
                    return false;
                };
                fake.replies.push(id);
                drop(fake);
                self.tasks[id as usize].is_finished = true;
                true
            }
            Step::Crash(index) => self.die(index, |fake| {
                let running = fake.running.is_some();
                running.then_some(ExitReason::Exited(3))
            }),
            Step::KilledFromOutside(index) => {
                self.die(index, |_| Some(ExitReason::Signaled { signal: 9, core_dumped: false }))
            }
            Step::Die(index) => self.die(index, |fake| {
                let signal = ExitReason::Signaled { signal: 9, core_dumped: false };
                fake.is_killed.then_some(signal)
            }),
            Step::Turn(index) => self.turn(index, false, false),
            Step::FailToStart(index) => self.turn(index, true, false),
            Step::MemoryIsShort(index) => self.turn(index, false, true),
            Step::Grow(index) => self.living(index).is_some_and(|mut fake| {
                fake.memory += 6;
                true
            }),
            Step::Advance(millis) => {
                self.now += Duration::from_millis(millis);
                true
            }
            Step::Resize(workers) => {
                self.resize(workers);
                true
            }
            Step::Close => {
                self.change(|state, _, effects| state.close(effects));
                true
            }
            Step::Stop => {
                let left = self.tasks.iter().filter(|task| !task.has_ended).count() as u64;
                let was_stopped = matches!(self.state.phase, Phase::Stopped);
                let dropped = self.change(|state, _, effects| state.stop(effects));
                assert_eq!(dropped, if was_stopped { 0 } else { left }, "{:?}", self.steps);
                true
            }
        }
    }

    fn submit(
        &mut self,
        tasks: u32,
        retries: u32,
        timeout: Option<Duration>,
        is_parcel: bool,
    ) -> bool {
        let tasks = if is_parcel { 1 } else { tasks };
        let sink = Arc::new(FakeSink::default());
        let spec = TaskSpec { number: 1, name: "task", timeout, retries };
        let first = self.tasks.len() as u64;
        let numbers = first..first + u64::from(tasks);
        let batch = if is_parcel {
            let envelope = Envelope::new(wire::encode(&first, Shape::Own).unwrap()).unwrap();
            TaskBatch::parcel(spec, sink.clone(), first, envelope)
        } else {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for id in numbers.clone() {
                bytes.extend(wire::encode(&id, Shape::Own).unwrap().bytes);
                ends.push(bytes.len() as u32);
            }
            TaskBatch::inline(spec, sink.clone(), first, bytes, ends)
        };
        let before = self.tasks.len();
        self.tasks.extend(numbers.map(|_| Known {
            sink: sink.clone(),
            spec,
            begun: 0,
            is_finished: false,
            has_ended: false,
        }));
        let left = self.tasks[..before].iter().filter(|task| !task.has_ended).count() as u64;
        let bounded = self.limits.max_unfinished.is_some();
        let batch = Arc::new(batch);
        let accepted =
            self.change(|state, now, effects| state.submit(&batch, bounded, now, effects));
        let is_full = self.limits.max_unfinished.is_some_and(|max| left >= max);
        match accepted {
            Ok(accepted) => assert_eq!(accepted, !is_full, "{:?}", self.steps),
            Err(_) => assert!(!self.state.is_open()),
        }
        if !matches!(accepted, Ok(true)) {
            self.tasks.truncate(before);
        }
        true
    }

    fn begin(&mut self, index: usize) -> bool {
        let Some(mut fake) = self.living(index) else {
            return false;
        };
        if fake.is_asleep || fake.running.is_some() {
            return false;
        }
        match fake.ring.pop_front() {
            Some((position, id)) => {
                let size = fake.ring.front().map_or(fake.tail, |&(next, _)| next) - position;
                fake.head += size;
                fake.running = Some(id);
                fake.begun_parcel |= std::mem::take(&mut fake.has_parcel);
                drop(fake);
                let task = &mut self.tasks[id as usize];
                task.begun += 1;
                assert!(task.begun <= task.spec.retries + 1, "{:?}", self.steps);
            }
            None if fake.quits => fake.reason = Some(ExitReason::Exited(0)),
            None => fake.is_asleep = true,
        }
        true
    }

    fn die(&mut self, index: usize, reason: impl FnOnce(&Fake) -> Option<ExitReason>) -> bool {
        let Some(mut fake) = self.living(index) else {
            return false;
        };
        fake.reason = reason(&fake);
        fake.reason.is_some()
    }

    /// A turn of the slot's monitor: `WorkerMonitor::run` and `serve`.
    fn turn(&mut self, index: usize, fails: bool, starved: bool) -> bool {
        match self.monitors.get(&index) {
            None => false,
            Some(FakeMonitor::Starting) if fails => {
                let error = PoolError::Closed;
                self.change(|state, _, effects| state.worker_failed(error, effects));
                self.next_step(index);
                true
            }
            Some(FakeMonitor::Starting) => {
                self.pids += 1;
                let worker = FakeWorker(Arc::new(Mutex::new(Fake {
                    pid: self.pids,
                    capacity: 1 + self.pids as usize % 4,
                    ..Fake::default()
                })));
                let deadline = Some(self.now);
                self.monitors
                    .insert(index, FakeMonitor::Serving { worker: worker.clone(), deadline });
                self.change(|state, _, _| state.worker_spawned(index, &worker));
                self.change(|state, now, effects| state.worker_ready(index, now, effects));
                true
            }
            Some(FakeMonitor::Serving { .. }) if fails => false,
            Some(FakeMonitor::Serving { worker, deadline }) => {
                let (worker, deadline) = (worker.clone(), *deadline);
                let mut fake = lock(&worker.0);
                if starved {
                    return !std::mem::replace(&mut fake.refuses_parcels, true);
                }
                let is_due = deadline.is_some_and(|deadline| deadline <= self.now);
                let replies = std::mem::take(&mut fake.replies);
                let begun = std::mem::take(&mut fake.begun_parcel);
                let interrupted = std::mem::take(&mut fake.is_interrupted);
                let reason = fake.reason.clone();
                let memory = Some(fake.memory);
                let awake = is_due || interrupted || begun || !replies.is_empty();
                if !awake && reason.is_none() {
                    return false;
                }
                drop(fake);
                let count = replies.len() as u64;
                if count > 0 || begun {
                    let ended = self.change(|state, now, effects| {
                        state.complete(index, count, begun, now, effects)
                    });
                    let ended: Vec<u64> = ended.iter().flat_map(ids).collect();
                    assert_eq!(ended, replies, "{:?}", self.steps);
                    ended.into_iter().for_each(|id| self.end(id, None));
                }
                match reason {
                    Some(reason) => {
                        let end = WorkerExit { pid: worker.pid(), reason, stderr: String::new() };
                        self.change(|state, now, effects| {
                            state.worker_exited(index, end, now, effects);
                        });
                        lock(&worker.0).is_reaped = true;
                        self.next_step(index);
                    }
                    None => {
                        let until = self
                            .change(|state, now, effects| state.tend(index, memory, now, effects));
                        let deadline = until;
                        self.monitors.insert(index, FakeMonitor::Serving { worker, deadline });
                    }
                }
                true
            }
        }
    }

    fn next_step(&mut self, index: usize) {
        match self.change(|state, _, _| state.next_step(index)) {
            NextStep::Restart { .. } => {
                self.monitors.insert(index, FakeMonitor::Starting);
            }
            NextStep::Leave => {
                self.monitors.remove(&index);
                let is_last = self.change(|state, _, effects| state.monitor_left(index, effects));
                assert_eq!(is_last, self.monitors.is_empty());
            }
        }
    }

    fn check(&self) {
        let (state, steps) = (&self.state, &self.steps);
        // A task for a worker that is gone waits for its monitor.
        let one_is_dead = self
            .monitors
            .keys()
            .any(|&index| self.worker(index).is_some_and(|fake| fake.reason.is_some()));
        let queued: Vec<u64> = state.queue.iter().flat_map(ids).collect();
        assert_eq!(state.queued, queued.len() as u64, "{steps:?}");
        let mut places: HashSet<u64> = HashSet::new();
        for &id in &queued {
            assert!(places.insert(id), "task {id} is in two places: {steps:?}");
        }
        for (index, slot) in state.slots.iter().enumerate() {
            let given: Vec<u64> = slot.in_flight().flat_map(ids).collect();
            assert_eq!(slot.count(), given.len() as u64, "{steps:?}");
            for &id in &given {
                assert!(places.insert(id), "task {id} is in two places: {steps:?}");
            }
            assert_eq!(
                slot.status != SlotStatus::Vacant,
                self.monitors.contains_key(&index),
                "slot {index}: {steps:?}"
            );
            if let Some(fake) = self.worker(index) {
                let in_worker = fake.replies.iter().chain(&fake.running).copied();
                let in_worker = in_worker.chain(fake.ring.iter().map(|&(_, id)| id));
                assert_eq!(in_worker.collect::<Vec<_>>(), given, "slot {index}: {steps:?}");
                let max_tasks = self.limits.max_tasks.unwrap_or(u64::MAX);
                let could_work = slot.is_open() && slot.count() == 0 && slot.given < max_tasks;
                let is_full = fake.ring.len() >= fake.capacity;
                let waits = !queued.is_empty() && !state.is_over() && fake.reason.is_none();
                assert!(
                    !could_work || !waits || is_full || one_is_dead,
                    "slot {index} is idle while tasks wait: {steps:?}"
                );
            } else {
                assert!(given.is_empty(), "slot {index} has tasks without a worker: {steps:?}");
            }
        }
        for (id, task) in self.tasks.iter().enumerate() {
            assert_eq!(places.contains(&(id as u64)), !task.has_ended, "task {id}: {steps:?}");
        }
        let open =
            |slot: &&WorkerSlot<FakeWorker>| slot.status == SlotStatus::Active && !slot.surplus;
        let active = state.slots.iter().filter(open).count();
        // After a shrink, a former worker may be kept as a spare, and takes tasks until it ends.
        assert!(active <= state.workers + self.limits.spares, "{active} workers: {steps:?}");
        assert_eq!(state.monitors, self.monitors.len(), "{steps:?}");
    }

    /// Lets everything happen that needs no decision of the caller, until the pool has ended.
    fn run_to_the_end(&mut self) {
        for _ in 0..10_000 {
            if self.state.has_ended() {
                break;
            }
            let mut indices: Vec<usize> = self.monitors.keys().copied().collect();
            indices.sort_unstable();
            let mut moved = false;
            for index in indices {
                for step in [Step::Begin(index), Step::Finish(index), Step::Die(index)] {
                    moved |= self.step(step);
                }
                moved |= self.step(Step::Turn(index));
            }
            if !moved {
                let deadlines = self.monitors.values().filter_map(|monitor| match monitor {
                    FakeMonitor::Serving { deadline, .. } => *deadline,
                    FakeMonitor::Starting => None,
                });
                let next = deadlines.min();
                let next = next.unwrap_or_else(|| panic!("a wake-up is lost: {:?}", self.steps));
                self.now = self.now.max(next);
            }
        }
        assert!(self.state.has_ended(), "it does not end: {:?}", self.steps);
        assert!(self.tasks.iter().all(|task| task.has_ended), "{:?}", self.steps);
    }
}

fn ids(range: &TaskRange) -> Vec<u64> {
    let batch = &range.batch;
    let first = range.empty_results().first;
    (0..u64::from(range.to - range.from))
        .map(|offset| {
            let value = batch.value(range.from + offset as u32);
            if value.is_empty() { first } else { wire::decode(value, Vec::new()).unwrap() }
        })
        .collect()
}

/// Every history of a few steps, with two workers, to a close and to a stop.
#[test]
fn every_short_history_ends_each_task_once() {
    let plain = |tasks| Step::Submit { tasks, retries: 0, timeout: None, is_parcel: false };
    let steps = [
        plain(3),
        Step::Submit { tasks: 1, retries: 1, timeout: Some(5), is_parcel: false },
        Step::Submit { tasks: 1, retries: 0, timeout: None, is_parcel: true },
        Step::Begin(0),
        Step::Finish(0),
        Step::Crash(0),
        Step::Turn(0),
        Step::Cancel(true),
        Step::Resize(1),
        Step::Advance(20),
    ];
    let depth = 3;
    let limits = Limits { max_tasks: Some(2), restart_limit: 3, ..Limits::default() };
    for limits in [limits, Limits { max_tasks: None, ..limits }] {
        for number in 0..steps.len().pow(depth) {
            let mut world = World::new(2, limits);
            let mut rest = number;
            for _ in 0..depth {
                world.step(steps[rest % steps.len()]);
                rest /= steps.len();
            }
            world.step(if number % 2 == 0 { Step::Close } else { Step::Stop });
            world.run_to_the_end();
        }
    }
}

/// Long histories of all steps at random, from printed seeds.
#[test]
fn long_random_histories_end_each_task_once() {
    for seed in 1..=200u64 {
        let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |limit: u64| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word % limit
        };
        let limits = Limits {
            max_tasks: [None, Some(1), Some(5)][below(3) as usize],
            max_memory: [None, Some(10)][below(2) as usize],
            max_unfinished: [None, Some(4)][below(2) as usize],
            spares: below(2) as usize,
            restart_limit: 4,
        };
        let mut world = World::new(1 + below(3) as usize, limits);
        for _ in 0..10 + below(150) {
            let index = below(4) as usize;
            let step = match below(64) {
                0..14 => Step::Submit {
                    tasks: 1 + below(4) as u32,
                    retries: below(2) as u32,
                    timeout: [None, Some(5)][below(2) as usize],
                    is_parcel: below(4) == 0,
                },
                14 | 15 => Step::Cancel(below(2) == 0),
                16..27 => Step::Begin(index),
                27..37 => Step::Finish(index),
                37 => Step::Crash(index),
                38 => Step::KilledFromOutside(index),
                39 | 40 => Step::Die(index),
                41 => Step::FailToStart(index),
                42 => Step::MemoryIsShort(index),
                43 => Step::Grow(index),
                44..46 => Step::Advance([0, 1, 3, 30, 100][below(5) as usize]),
                46 => Step::Resize(1 + below(3) as usize),
                _ => Step::Turn(index),
            };
            world.step(step);
        }
        if below(3) == 0 {
            world.step(Step::Stop);
        } else {
            world.step(Step::Close);
        }
        world.run_to_the_end();
    }
}

#[test]
fn slots_whose_monitor_could_not_start_are_not_waited_for() {
    let mut state = State::<FakeWorker>::new("model".to_owned(), Limits::default());
    let mut effects = Effects::new(false);
    let new = state.resize(3, Instant::now(), &mut effects).unwrap();
    assert_eq!(new, [0, 1, 2]);
    state.abandon(&new[1..], &mut effects);
    assert!(!state.has_ended() && state.workers() == 1);
    state.abandon(&new[..1], &mut effects);
    assert!(state.has_ended());
}
