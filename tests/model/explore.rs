//! Runs a few threads in every order. At each access to shared memory a script decides which thread
//! runs next, or which one dies there. The scripts are tried one after another, depth first.
//!
//! Memory behaves as on x86: a store stays in its thread's buffer until a sequentially consistent
//! access of that thread flushes it, or time does. The script decides whether time has flushed it,
//! but only when another thread accesses what the buffer holds. The buffer of a process that dies
//! is still flushed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64 as Cell, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What is explored, and how far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bounds {
    /// How often a thread is interrupted although it could run on.
    pub(crate) interruptions: usize,
    /// The thread that may die, at any step.
    pub(crate) victim: Option<usize>,
    /// Whether stores are buffered.
    pub(crate) buffers: bool,
    /// A bug that is brought back, see `failpoints`.
    pub(crate) mutation: &'static str,
}

type Store = Vec<(usize, u64)>;

#[derive(Default)]
struct State {
    bounds: Bounds,
    current: usize,
    threads: Vec<Thread>,
    interruptions: usize,
    /// The choices that were made, each out of how many, and how many of them are prescribed.
    script: Vec<(usize, usize)>,
    depth: usize,
    killed: bool,
    stuck: bool,
}

#[derive(Default)]
struct Thread {
    ended: bool,
    dead: bool,
    waits: bool,
    bells: usize,
    buffer: VecDeque<Store>,
}

#[derive(Clone, Copy)]
enum Choice {
    Run(usize),
    Kill(usize),
}

/// One run of the threads.
pub(crate) struct Run {
    state: Mutex<State>,
    turn: Condvar,
}

struct Dead;

thread_local! {
    static SELF: RefCell<Option<(Arc<Run>, usize)>> = const { RefCell::new(None) };
}

fn with_self<R>(call: impl FnOnce(&Run, usize) -> R) -> Option<R> {
    let me = SELF.with_borrow(Clone::clone);
    me.map(|(run, index)| call(&run, index))
}

impl State {
    fn choices(&self) -> Vec<Choice> {
        let able =
            |thread: &Thread| !thread.ended && !thread.dead && (!thread.waits || thread.bells > 0);
        let me_able = able(&self.threads[self.current]);
        let bound = me_able && self.interruptions >= self.bounds.interruptions;
        let mut choices = Vec::new();
        if me_able {
            choices.push(Choice::Run(self.current));
        }
        let others = (0..self.threads.len())
            .filter(|&index| index != self.current && !bound && able(&self.threads[index]));
        choices.extend(others.map(Choice::Run));
        if let (Some(victim), false) = (self.bounds.victim, self.killed) {
            if victim == self.current && able(&self.threads[victim]) {
                choices.push(Choice::Kill(victim));
            }
        }
        choices
    }

    /// Returns one of `count` choices, as the script has it.
    fn choose(&mut self, among: usize) -> usize {
        if among == 1 {
            return 0;
        }
        if self.depth == self.script.len() {
            self.script.push((0, among));
        }
        let (chosen, count) = self.script[self.depth];
        assert_eq!(count, among, "a run does not repeat itself");
        self.depth += 1;
        chosen
    }

    /// Called before an access to these places: decides how much of what other threads stored there
    /// has become visible.
    fn settle(&mut self, me: usize, places: &[usize]) {
        for other in (0..self.threads.len()).filter(|&other| other != me) {
            // Both are one place, or some that are adjacent.
            let touches = |store: &Store| match (
                places.first(),
                places.last(),
                store.first(),
                store.last(),
            ) {
                (Some(from), Some(to), Some((first, _)), Some((last, _))) => {
                    first <= to && from <= last
                }
                _ => false,
            };
            let buffer = self.threads[other].buffer.iter();
            let points: Vec<usize> = (1..)
                .zip(buffer)
                .filter(|(_, store)| touches(store))
                .map(|(count, _)| count)
                .collect();
            let chosen = self.choose(points.len() + 1);
            for _ in 0..chosen.checked_sub(1).map_or(0, |chosen| points[chosen]) {
                self.flush(other);
            }
        }
    }

    fn flush(&mut self, thread: usize) {
        for (address, value) in self.threads[thread].buffer.pop_front().into_iter().flatten() {
            cell(address).store(value, Ordering::SeqCst);
        }
    }

    /// Decides which thread runs next.
    fn next(&mut self) {
        loop {
            let choices = self.choices();
            let choice = (!choices.is_empty()).then(|| choices[self.choose(choices.len())]);
            match choice {
                Some(Choice::Run(index)) => {
                    let me = &self.threads[self.current];
                    let could = !me.ended && !me.dead && (!me.waits || me.bells > 0);
                    self.interruptions += usize::from(index != self.current && could);
                    self.current = index;
                    return;
                }
                Some(Choice::Kill(index)) => {
                    self.threads[index].dead = true;
                    self.killed = true;
                    // The kernel closes its channels, which wakes whoever waits for it.
                    self.threads.iter_mut().for_each(|thread| thread.bells += 1);
                }
                None => {
                    self.stuck = self.threads.iter().any(|thread| !thread.ended && !thread.dead);
                    self.current = usize::MAX;
                    return;
                }
            }
        }
    }
}

fn cell(address: usize) -> &'static Cell {
    // SAFETY: addresses come from `Atomic::address` of atomics in regions, which live as long as
    // the run.
    unsafe { &*(address as *const Cell) }
}

impl Run {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lets the script decide, and returns when this thread may run.
    fn step(&self, me: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.next();
        self.turn.notify_all();
        self.wait_for_turn(state, me)
    }

    fn wait_for_turn<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        me: usize,
    ) -> MutexGuard<'a, State> {
        loop {
            if state.threads[me].dead || state.stuck {
                drop(state);
                resume_unwind(Box::new(Dead));
            }
            if state.current == me {
                return state;
            }
            state = self.turn.wait(state).unwrap();
        }
    }

    fn end(&self, me: usize) {
        let mut state = self.lock();
        state.threads[me].ended = true;
        if state.current == me {
            state.next();
        }
        self.turn.notify_all();
    }
}

/// A doorbell to a thread: sending never blocks.
pub(crate) fn ring(thread: usize) {
    with_self(|run, me| run.step(me).threads[thread].bells += 1);
}

/// Waits for a doorbell, or for a death. Returns whether a thread is dead.
pub(crate) fn hear() -> bool {
    let dead = with_self(|run, me| {
        run.lock().threads[me].waits = true;
        let mut state = run.step(me);
        state.threads[me].waits = false;
        state.threads[me].bells -= 1;
        state.killed
    });
    dead.unwrap_or(false)
}

pub(crate) fn is_mutated(name: &str) -> bool {
    with_self(|run, _| run.lock().bounds.mutation == name).unwrap_or(false)
}

fn visible(state: &State, me: usize, address: usize) -> u64 {
    let own = state.threads[me].buffer.iter().flatten().rev().find(|(other, _)| *other == address);
    own.map_or_else(|| cell(address).load(Ordering::SeqCst), |(_, value)| *value)
}

/// An access that sees what is visible to this thread.
pub(crate) fn load(addresses: &[usize]) -> Vec<u64> {
    let values = with_self(|run, me| {
        let mut state = run.step(me);
        state.settle(me, addresses);
        addresses.iter().map(|&address| visible(&state, me, address)).collect()
    });
    // Outside of a run: before or after it.
    values.unwrap_or_else(|| {
        addresses.iter().map(|&address| cell(address).load(Ordering::SeqCst)).collect()
    })
}

pub(crate) fn store(values: Store, order: Ordering) {
    let done = with_self(|run, me| {
        let mut state = run.step(me);
        state.threads[me].buffer.push_back(values.clone());
        if order == Ordering::SeqCst || !state.bounds.buffers {
            while !state.threads[me].buffer.is_empty() {
                state.flush(me);
            }
        }
    });
    if done.is_none() {
        values
            .into_iter()
            .for_each(|(address, value)| cell(address).store(value, Ordering::SeqCst));
    }
}

/// A read-modify-write, or a fence: all stores before it are visible.
pub(crate) fn locked<R>(places: &[usize], call: impl Fn() -> R) -> R {
    let done = with_self(|run, me| {
        let mut state = run.step(me);
        while !state.threads[me].buffer.is_empty() {
            state.flush(me);
        }
        state.settle(me, places);
        call()
    });
    done.unwrap_or_else(call)
}

/// The threads to run, and a check of what must hold afterwards.
pub(crate) type Threads = Vec<Box<dyn FnOnce() + Send>>;

/// The result of a search: the number of runs, and what the first bad one reported.
pub(crate) struct Found {
    pub(crate) runs: usize,
    pub(crate) bad: Option<String>,
}

/// Runs the threads in every order within the bounds, until a run fails: a thread panics or waits
/// forever, or the check does. The check is passed whether a thread died.
pub(crate) fn explore(
    bounds: Bounds,
    mut setup: impl FnMut() -> (Threads, Box<dyn FnOnce(bool)>),
) -> Found {
    let mut script: Vec<(usize, usize)> = Vec::new();
    let mut runs = 0;
    loop {
        runs += 1;
        let (threads, check) = setup();
        let (left, bad) = run_once(bounds, script, threads, check);
        if bad.is_some() {
            return Found { runs, bad };
        }
        script = left;
        while script.last().is_some_and(|&(chosen, count)| chosen + 1 == count) {
            script.pop();
        }
        match script.last_mut() {
            Some((chosen, _)) => *chosen += 1,
            None => return Found { runs, bad: None },
        }
    }
}

fn run_once(
    bounds: Bounds,
    script: Vec<(usize, usize)>,
    threads: Threads,
    check: Box<dyn FnOnce(bool)>,
) -> (Vec<(usize, usize)>, Option<String>) {
    let run = Arc::new(Run {
        state: Mutex::new(State {
            bounds,
            script,
            threads: threads.iter().map(|_| Thread::default()).collect(),
            ..State::default()
        }),
        turn: Condvar::new(),
    });
    let mut bad = None;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..).zip(threads).map(|(me, body)| (me, body, run.clone())).collect();
        let all: Vec<_> = all
            .into_iter()
            .map(|(me, body, run)| {
                scope.spawn(move || {
                    SELF.set(Some((run.clone(), me)));
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        drop(run.wait_for_turn(run.lock(), me));
                        body();
                    }));
                    SELF.set(None);
                    run.end(me);
                    outcome.err().filter(|panic| !panic.is::<Dead>()).map(|panic| text(&*panic))
                })
            })
            .collect();
        bad = all.into_iter().filter_map(|thread| thread.join().unwrap()).next();
    });
    let mut state = run.lock();
    if state.stuck {
        bad = bad.or_else(|| Some("somebody waits for ever".to_owned()));
    }
    for thread in 0..state.threads.len() {
        while !state.threads[thread].buffer.is_empty() {
            state.flush(thread);
        }
    }
    let (script, killed) = (std::mem::take(&mut state.script), state.killed);
    drop(state);
    let checked = catch_unwind(AssertUnwindSafe(|| bad.is_none().then(|| check(killed))));
    (script, bad.or_else(|| checked.err().map(|panic| text(&*panic))))
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
