//! The semaphore's protocol in every order, with a death at every point.
//!
//! A few threads take permits and return them, several rounds each. As in the model of the
//! read-write lock, each of their steps is one access to a word, one falling asleep or one waking,
//! and the real functions make the decisions about the state word. What only the repair reads after
//! a death changes together with what is written beside it. At any point a process may be killed;
//! the hub then takes the latch, or inherits it, and repairs. The test visits every state that can
//! be reached. In each state, no more permits are held than there are. If no thread can take a step,
//! all living threads have done their rounds, and all permits are free.

use std::collections::{BTreeSet, HashSet};

use super::*;

const THREADS: usize = 3;
const PROCESSES: usize = 2;
const FREE: usize = usize::MAX;
const REPAIRS: usize = usize::MAX - 1;

/// Whom a thread wakes that has returned something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Wake {
    None,
    One,
    /// One, for which a permit is kept.
    Kept,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum At {
    /// Tries to take permits without the latch.
    Begin,
    /// Waits for the latch. The flag means that it is counted as asleep.
    WantsLatch(bool),
    /// Has the latch, which it took in this turn, and decides.
    Claims(bool, u8),
    /// The flag means that it has slept.
    CountsRecord(bool),
    EndsKeeping,
    CountsAsleep(u8),
    ReleasesLatchToSleep(u8),
    FallsAsleep(u8),
    Asleep,
    ReleasesLatchWithPermits,
    Holds,
    WantsLatchToReturn,
    Returns,
    UncountsRecord(u32),
    LooksForSleepers,
    ReleasesLatchAndWakes(Wake),
    Wakes(Wake),
    /// Has kept a permit, and woken no thread.
    WantsLatchToEndKeeping,
    KeepsNoLonger,
    Done,
    Dead,
}

/// How far the repair of a dead session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repair {
    WantsLatch,
    HasLatch,
    HasCleared,
    ReleasesLatch,
    WakesAll,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct World {
    state: State,
    latch: usize,
    held: [u32; PROCESSES],
    many: [u8; PROCESSES],
    asleep: [u8; PROCESSES],
    kept: u32,
    turn: u8,
    at: [At; THREADS],
    rounds: [u8; THREADS],
    kills_left: u8,
    repairs: BTreeSet<(usize, Repair)>,
}

/// The constants of one exploration: the number of permits, how many each thread takes, and how
/// often.
#[derive(Clone, Copy)]
struct Plan {
    permits: u32,
    counts: [u32; THREADS],
    rounds: u8,
}

/// Two threads of one process, and one of another.
fn process_of(thread: usize) -> usize {
    thread / 2
}

fn session_of(process: usize) -> u32 {
    2 + process as u32
}

impl World {
    fn sleepers(&self) -> bool {
        self.asleep.iter().any(|&count| count > 0)
    }

    fn at(&self, thread: usize, at: At) -> World {
        let mut new = self.clone();
        new.at[thread] = at;
        new
    }

    fn with_state(&self, thread: usize, state: State, at: At) -> World {
        World { state, ..self.at(thread, at) }
    }

    /// A woken thread is counted as asleep until it has the latch.
    fn woken(&self, sleeper: usize) -> World {
        self.at(sleeper, At::WantsLatch(true))
    }

    fn wake_all(&mut self) {
        for at in self.at.iter_mut().filter(|at| **at == At::Asleep) {
            *at = At::WantsLatch(true);
        }
    }
}

fn next(world: &World, plan: Plan) -> Vec<World> {
    let mut all = Vec::new();
    for thread in 0..THREADS {
        all.extend(moves(world, thread, plan));
        if world.kills_left > 0 && !matches!(world.at[thread], At::Dead | At::Done) {
            let mut killed = world.clone();
            killed.kills_left -= 1;
            let process = process_of(thread);
            for other in (0..THREADS).filter(|&other| process_of(other) == process) {
                killed.at[other] = At::Dead;
            }
            killed.repairs.insert((process, Repair::WantsLatch));
            all.push(killed);
        }
    }
    for &(dead, step) in &world.repairs {
        all.extend(repairs(world, dead, step));
    }
    all
}

/// The steps of the hub's repair.
fn repairs(world: &World, dead: usize, step: Repair) -> Option<World> {
    let mut new = world.clone();
    new.repairs.remove(&(dead, step));
    let follows = match step {
        Repair::WantsLatch => {
            let inherits = world.latch < THREADS && process_of(world.latch) == dead;
            if !inherits && world.latch != FREE {
                return None;
            }
            new.latch = REPAIRS;
            Repair::HasLatch
        }
        Repair::HasLatch => {
            new.held[dead] = 0;
            new.many[dead] = 0;
            new.asleep[dead] = 0;
            new.kept = 0;
            Repair::HasCleared
        }
        Repair::HasCleared => {
            let others = world.held.iter().sum();
            new.state = repaired(world.state, session_of(dead), others);
            Repair::ReleasesLatch
        }
        Repair::ReleasesLatch => {
            new.turn += 1;
            new.latch = FREE;
            Repair::WakesAll
        }
        Repair::WakesAll => {
            new.wake_all();
            return Some(new);
        }
    };
    new.repairs.insert((dead, follows));
    Some(new)
}

/// The steps that one thread may take next.
fn moves(world: &World, thread: usize, plan: Plan) -> Vec<World> {
    let (count, process) = (plan.counts[thread], process_of(thread));
    let session = session_of(process);
    let take_latch = |at: At| {
        let mut new = world.at(thread, at);
        new.latch = thread;
        if world.latch == FREE { vec![new] } else { Vec::new() }
    };
    let release_latch = |at: At| {
        let mut new = world.at(thread, at);
        new.latch = FREE;
        new
    };
    let done = |mut new: World| {
        new.rounds[thread] += 1;
        new.at[thread] = if new.rounds[thread] == plan.rounds { At::Done } else { At::Begin };
        new
    };
    vec![match world.at[thread] {
        At::Begin => match taken(world.state, session, count, plan.permits) {
            Some(state) => {
                // A thread that takes a kept permit has the latch when it ends the keeping.
                let is_kept = world.kept > free(state, plan.permits) && world.latch == FREE;
                assert!(!is_kept, "a thread that has not slept takes a kept permit: {world:?}");
                world.with_state(thread, state, At::Holds)
            }
            None => world.at(thread, At::WantsLatch(false)),
        },
        At::WantsLatch(slept) => return take_latch(At::Claims(slept, world.turn)),
        At::Claims(slept, turn) => {
            let mut world = world.clone();
            // Its count is taken back under the latch before it decides.
            world.asleep[process] -= u8::from(slept);
            let kept = if slept { 0 } else { world.kept };
            let wanted = world.sleepers() || kept > 0;
            match claimed(world.state, session, count, (plan.permits, kept), wanted) {
                Some((state, by_record)) => {
                    world.many[process] -= u8::from(slept && count > 1);
                    let at = match (by_record, slept) {
                        (true, slept) => At::CountsRecord(slept),
                        (false, true) => At::EndsKeeping,
                        (false, false) => At::ReleasesLatchWithPermits,
                    };
                    world.with_state(thread, state, at)
                }
                None => {
                    world.many[process] += u8::from(!slept && count > 1);
                    let state = world.state.with_waits(true);
                    world.with_state(thread, state, At::CountsAsleep(turn))
                }
            }
        }
        At::CountsRecord(slept) => {
            let next = if slept { At::EndsKeeping } else { At::ReleasesLatchWithPermits };
            let mut new = world.at(thread, next);
            new.held[process] += count;
            new
        }
        At::EndsKeeping => World { kept: 0, ..world.at(thread, At::ReleasesLatchWithPermits) },
        At::CountsAsleep(turn) => {
            let mut new = world.at(thread, At::ReleasesLatchToSleep(turn));
            new.asleep[process] += 1;
            new
        }
        At::ReleasesLatchToSleep(turn) => release_latch(At::FallsAsleep(turn)),
        At::FallsAsleep(turn) if world.turn == turn => world.at(thread, At::Asleep),
        At::FallsAsleep(_) => world.at(thread, At::WantsLatch(true)),
        At::ReleasesLatchWithPermits => release_latch(At::Holds),
        At::Holds => match returned(world.state, session, count) {
            Some(state) => done(World { state, ..world.clone() }),
            None => world.at(thread, At::WantsLatchToReturn),
        },
        At::WantsLatchToReturn => return take_latch(At::Returns),
        At::Returns => {
            let (state, by_record) = given_up(world.state, session, count, false);
            world.with_state(thread, state, At::UncountsRecord(by_record))
        }
        At::UncountsRecord(by_record) => {
            let mut new = world.at(thread, At::LooksForSleepers);
            new.held[process] -= by_record;
            new
        }
        At::LooksForSleepers => {
            let wakes = |wake: Wake| {
                let mut new = world.at(thread, At::ReleasesLatchAndWakes(wake));
                new.turn += u8::from(wake != Wake::None);
                new.kept = if wake == Wake::Kept { 1 } else { world.kept };
                new
            };
            if !world.sleepers() {
                wakes(Wake::None)
            } else if count > 1 || world.many.iter().any(|&many| many > 0) {
                wakes(Wake::All)
            } else {
                // The turn of a sleeper may have come, or not.
                return vec![wakes(Wake::One), wakes(Wake::Kept)];
            }
        }
        At::ReleasesLatchAndWakes(Wake::None) => done(release_latch(At::Begin)),
        At::ReleasesLatchAndWakes(wake) => release_latch(At::Wakes(wake)),
        At::Wakes(Wake::All) => {
            let mut new = done(world.clone());
            new.wake_all();
            new
        }
        At::Wakes(wake) => {
            let asleep = (0..THREADS).filter(|&other| world.at[other] == At::Asleep);
            let woken: Vec<World> = asleep.map(|other| done(world.woken(other))).collect();
            match wake {
                _ if !woken.is_empty() => return woken,
                Wake::Kept => world.at(thread, At::WantsLatchToEndKeeping),
                _ => done(world.clone()),
            }
        }
        At::WantsLatchToEndKeeping => return take_latch(At::KeepsNoLonger),
        At::KeepsNoLonger => {
            let wake = if world.sleepers() { Wake::One } else { Wake::None };
            let mut new = world.at(thread, At::ReleasesLatchAndWakes(wake));
            new.kept = 0;
            new.turn += u8::from(world.sleepers());
            new
        }
        At::Asleep | At::Done | At::Dead => return Vec::new(),
    }]
}

fn check(world: &World, plan: Plan) {
    let holds = |&thread: &usize| {
        matches!(
            world.at[thread],
            At::CountsRecord(_)
                | At::EndsKeeping
                | At::ReleasesLatchWithPermits
                | At::Holds
                | At::WantsLatchToReturn
                | At::Returns
        )
    };
    let held: u32 = (0..THREADS).filter(holds).map(|thread| plan.counts[thread]).sum();
    assert!(held <= plan.permits, "more permits are held than there are: {world:?}");
}

/// Visits every state, and returns how many there are.
fn explore(plan: Plan, kills: u8) -> usize {
    let first = World {
        state: State::default(),
        latch: FREE,
        held: [0; PROCESSES],
        many: [0; PROCESSES],
        asleep: [0; PROCESSES],
        kept: 0,
        turn: 0,
        at: [At::Begin; THREADS],
        rounds: [0; THREADS],
        kills_left: kills,
        repairs: BTreeSet::new(),
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    while let Some(world) = open.pop() {
        check(&world, plan);
        let successors = next(&world, plan);
        if successors.is_empty() {
            let over = world.at.iter().all(|at| matches!(at, At::Done | At::Dead));
            assert!(over, "a thread waits for ever: {world:?}");
            let free = world.state.with_waits(false);
            assert_eq!(free, State::default(), "not all permits are free: {world:?}");
            assert_eq!(world.kept, 0, "a permit is kept for no thread: {world:?}");
        }
        for new in successors {
            if seen.insert(new.clone()) {
                open.push(new);
            }
        }
    }
    seen.len()
}

#[test]
fn no_permit_is_lost_or_there_twice_and_no_thread_waits_for_ever() {
    for (permits, counts) in [(1, [1, 1, 1]), (2, [1, 1, 1]), (2, [1, 2, 1]), (2, [2, 1, 2])] {
        for (rounds, kills) in [(2, 0), (1, 1), (1, 2)] {
            let states = explore(Plan { permits, counts, rounds }, kills);
            println!("{permits} permits, {counts:?}, {rounds} rounds, {kills} kills: {states}");
        }
    }
}
