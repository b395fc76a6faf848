//! Runs a few threads in every order. At each access to shared memory a script decides which thread
//! runs next, or which one dies there. The scripts are tried one after another, depth first.
//!
//! Memory behaves as on x86: a store stays in its thread's buffer until a sequentially consistent
//! access of that thread flushes it, or time does. The script decides whether time has flushed it,
//! but only when another thread accesses what the buffer holds. The buffer of a process that dies
//! is still flushed.
//!
//! What the threads of one process share (`sys.rs`) is sequentially consistent, because the code
//! that uses it takes locks or asks for that. A thread that waits for a lock, a condition or a
//! packet is *blocked* at a place, and runs again when another thread has changed something there.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64 as Cell, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

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
pub(crate) struct State {
    bounds: Bounds,
    current: usize,
    threads: Vec<Thread>,
    interruptions: usize,
    /// The choices that were made, each out of how many, and how many of them are prescribed.
    script: Vec<(usize, usize)>,
    depth: usize,
    killed: bool,
    stuck: bool,
    /// All threads that have an end have come to it.
    over: bool,
    steps: usize,
    pub(crate) shared: Shared,
}

/// What threads of one process block on.
#[derive(Default)]
pub(crate) struct Shared {
    /// The mutexes that are locked, by their addresses.
    pub(crate) locked: BTreeSet<usize>,
    /// Who sleeps on which condition variable.
    pub(crate) sleepers: Vec<(usize, usize)>,
    pub(crate) sockets: BTreeMap<usize, Socket>,
    /// The threads whose task was woken.
    pub(crate) woken: BTreeSet<usize>,
    pub(crate) services: BTreeMap<&'static str, &'static (dyn Any + Send + Sync)>,
}

/// The receiving end of a channel: its packets have no content.
#[derive(Default)]
pub(crate) struct Socket {
    pub(crate) unread: usize,
    pub(crate) ended: bool,
    /// Its key in the reactor, and whether it is armed.
    pub(crate) polled: Option<(u64, bool)>,
}

impl Socket {
    pub(crate) fn is_ready(&self) -> bool {
        self.unread > 0 || self.ended
    }
}

/// What a blocked thread waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Mutex(usize),
    Condition(usize),
    Socket(usize),
    Poller,
    Task(usize),
}

#[derive(Default)]
struct Thread {
    ended: bool,
    dead: bool,
    waits: bool,
    bells: usize,
    blocked: Option<Place>,
    /// A service thread: it has no end.
    serves: bool,
    /// How many locks it holds.
    holds: usize,
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
    services: Mutex<Vec<JoinHandle<Option<String>>>>,
}

/// Unwinds a thread that runs no more.
struct Dead;

/// A run with more steps goes round in circles.
const STEPS_MAX: usize = 20_000;

thread_local! {
    static SELF: RefCell<Option<(Arc<Run>, usize)>> = const { RefCell::new(None) };
}

fn with_self<R>(call: impl FnOnce(&Run, usize) -> R) -> Option<R> {
    let me = SELF.with_borrow(Clone::clone);
    me.map(|(run, index)| call(&run, index))
}

impl Thread {
    fn is_able(&self) -> bool {
        let waits = (self.waits && self.bells == 0) || self.blocked.is_some();
        !(self.ended || self.dead || waits)
    }
}

impl State {
    /// Lets those run that are blocked there.
    pub(crate) fn unblock(&mut self, place: Place) {
        for thread in self.threads.iter_mut().filter(|thread| thread.blocked == Some(place)) {
            thread.blocked = None;
        }
    }

    pub(crate) fn unlock(&mut self, mutex: usize, thread: usize) {
        self.shared.locked.remove(&mutex);
        self.count_locks(thread, false);
        self.unblock(Place::Mutex(mutex));
    }

    pub(crate) fn count_locks(&mut self, thread: usize, locked: bool) {
        let holds = &mut self.threads[thread].holds;
        *holds = if locked { *holds + 1 } else { *holds - 1 };
    }

    fn choices(&self) -> Vec<Choice> {
        let able = |thread: &Thread| thread.is_able();
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
    pub(crate) fn choose(&mut self, among: usize) -> usize {
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

    /// Service threads have no end.
    fn all_have_ended(&self) -> bool {
        self.threads.iter().all(|thread| thread.ended || thread.dead || thread.serves)
    }

    /// Decides which thread runs next.
    fn next(&mut self) {
        self.steps += 1;
        self.over = self.all_have_ended();
        self.stuck |= self.steps > STEPS_MAX;
        if self.over || self.stuck {
            self.current = usize::MAX;
            return;
        }
        loop {
            let choices = self.choices();
            let choice = (!choices.is_empty()).then(|| choices[self.choose(choices.len())]);
            match choice {
                Some(Choice::Run(index)) => {
                    let me = &self.threads[self.current];
                    let could = me.is_able();
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
                    // The last thread may have died just now.
                    self.over = self.all_have_ended();
                    self.stuck = !self.over;
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

    /// Returns whether this thread is being unwound. Then the run is at its end: what the thread
    /// still does is not explored, and the others are unwound as well, so that they release their
    /// locks.
    fn gives_up(&self) -> bool {
        let unwinds = std::thread::panicking();
        if unwinds {
            self.lock().stuck = true;
            self.turn.notify_all();
        }
        unwinds
    }

    /// Lets the script decide, and returns when this thread may run.
    fn step(&self, me: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.next();
        if state.current != me {
            self.turn.notify_all();
        }
        self.wait_for_turn(state, me)
    }

    fn wait_for_turn<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        me: usize,
    ) -> MutexGuard<'a, State> {
        loop {
            if state.threads[me].dead || state.stuck || state.over {
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

/// Tries `attempt` in one step, and again whenever something has changed at `place`. `None` outside
/// of a run.
pub(crate) fn block_at<R>(
    place: Place,
    mut attempt: impl FnMut(&mut State, usize) -> Option<R>,
) -> Option<R> {
    with_self(|run, me| {
        if run.gives_up() {
            return None;
        }
        loop {
            let mut state = run.step(me);
            if let Some(result) = attempt(&mut state, me) {
                return Some(result);
            }
            state.threads[me].blocked = Some(place);
        }
    })
    .flatten()
}

/// One step that does not wait. `None` outside of a run, and on a thread that is being unwound.
pub(crate) fn act<R>(act: impl FnOnce(&mut State, usize) -> R) -> Option<R> {
    with_self(|run, me| (!run.gives_up()).then(|| act(&mut run.step(me), me))).flatten()
}

/// The locks that this thread holds: user code must run under none.
pub(crate) fn locks_held() -> usize {
    with_self(|run, me| run.lock().threads[me].holds).unwrap_or(0)
}

/// Whether this is a thread of a run.
pub(crate) fn is_exploring() -> bool {
    SELF.with_borrow(Option::is_some)
}

/// The number of this thread in its run.
pub(crate) fn me() -> usize {
    with_self(|_, me| me).expect("a thread of a run asks")
}

/// Returns the service of this name, and starts its thread first if necessary. `None` outside of a
/// run.
pub(crate) fn service<T: Send + Sync, B: FnOnce(&'static T) + Send + 'static, E>(
    name: &'static str,
    make: impl FnOnce() -> Result<(T, B), E>,
) -> Option<Result<&'static T, E>> {
    let run = SELF.with_borrow(|me| me.as_ref().map(|(run, _)| run.clone()))?;
    if let Some(service) = find_service(name) {
        return Some(Ok(service));
    }
    let (service, body) = match make() {
        Ok(made) => made,
        Err(error) => return Some(Err(error)),
    };
    // As the library's services, it lives until the end.
    let service: &'static T = Box::leak(Box::new(service));
    let mut state = run.lock();
    state.shared.services.insert(name, service);
    let me = state.threads.len();
    state.threads.push(Thread { serves: true, ..Thread::default() });
    drop(state);
    let here = run.clone();
    let thread = std::thread::spawn(move || run_thread(&here, me, || body(service)));
    run.services.lock().unwrap().push(thread);
    Some(Ok(service))
}

pub(crate) fn find_service<T: Send + Sync>(name: &str) -> Option<&'static T> {
    let found = with_self(|run, _| run.lock().shared.services.get(name).copied())?;
    found.map(|service| (service as &dyn Any).downcast_ref().expect("it is of that type"))
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
        services: Mutex::default(),
    });
    let mut bad = None;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..).zip(threads).map(|(me, body)| (me, body, run.clone())).collect();
        let all: Vec<_> = all
            .into_iter()
            .map(|(me, body, run)| scope.spawn(move || run_thread(&run, me, body)))
            .collect();
        bad = all.into_iter().filter_map(|thread| thread.join().unwrap()).next();
    });
    for service in std::mem::take(&mut *run.services.lock().unwrap()) {
        bad = bad.or(service.join().unwrap());
    }
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

/// Runs one thread; what it panicked with.
fn run_thread(run: &Arc<Run>, me: usize, body: impl FnOnce()) -> Option<String> {
    SELF.set(Some((run.clone(), me)));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        drop(run.wait_for_turn(run.lock(), me));
        body();
    }));
    SELF.set(None);
    run.end(me);
    outcome.err().filter(|panic| !panic.is::<Dead>()).map(|panic| text(&*panic))
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
