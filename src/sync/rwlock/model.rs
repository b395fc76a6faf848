//! The read-write lock's protocol in every order, with a death at every point.
//!
//! A few threads read or write, several rounds each. As in the model of the lock word, each of
//! their steps is one access to a word, one falling asleep or one waking, and the real functions
//! make the decisions about the state word. At any point a process may be killed; the hub then
//! takes the latch, or inherits it, and repairs. The test visits every state that can be reached.
//! In each state, no thread writes while another holds the lock. If no thread can take a step, all
//! living threads have done their rounds, and the lock is free.

use std::collections::{BTreeSet, HashSet};

use super::*;

const THREADS: usize = 3;
const PROCESSES: usize = 2;
const FREE: usize = usize::MAX;
const REPAIRS: usize = usize::MAX - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum At {
    /// Tries to take the lock without the latch.
    Begin,
    /// Waits for the latch. The flag means that it is counted as asleep, and as a writer that
    /// waits.
    WantsLatch(bool),
    /// Has the latch, which it took in this turn, and decides.
    Claims(bool, u8),
    CountsRecord,
    UncountsWriter,
    CountsWriter(u8),
    CountsAsleep(u8),
    ReleasesLatchToSleep(u8),
    FallsAsleep(u8),
    Asleep,
    ReleasesLatchWithLock,
    Holds,
    WantsLatchToEnd,
    Ends,
    UncountsRecord,
    Unmarks,
    LooksForSleepers,
    ReleasesLatchAndWakes(bool),
    /// Has unlocked without the latch, and a thread may be waiting. The flag means that the lock is
    /// kept.
    ChangesTurn(bool),
    LooksForSleepersWithoutLatch(bool),
    WakesAll(bool),
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
    readers: [u32; PROCESSES],
    writers: [u32; PROCESSES],
    asleep: [u8; PROCESSES],
    turn: u8,
    at: [At; THREADS],
    rounds: [u8; THREADS],
    kills_left: u8,
    repairs: BTreeSet<(usize, Repair)>,
}

/// Two threads of one process, and one of another.
fn process_of(thread: usize) -> usize {
    thread / 2
}

fn session_of(process: usize) -> u32 {
    2 + process as u32
}

fn me(thread: usize) -> u32 {
    word::holder(session_of(process_of(thread)), 1 + thread as u32)
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

    fn wake_all(&mut self) {
        for at in self.at.iter_mut().filter(|at| **at == At::Asleep) {
            *at = At::WantsLatch(true);
        }
    }
}

fn next(world: &World, accesses: [Access; THREADS], rounds: u8) -> Vec<World> {
    let mut all = Vec::new();
    for (thread, access) in accesses.into_iter().enumerate() {
        all.extend(moves(world, thread, access, rounds));
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
            new.readers[dead] = 0;
            new.writers[dead] = 0;
            new.asleep[dead] = 0;
            Repair::HasCleared
        }
        Repair::HasCleared => {
            let records = world.readers.iter().any(|&count| count > 0);
            new.state = repaired(world.state, session_of(dead), records);
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
fn moves(world: &World, thread: usize, access: Access, rounds: u8) -> Vec<World> {
    let process = process_of(thread);
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
        new.at[thread] = if new.rounds[thread] == rounds { At::Done } else { At::Begin };
        new
    };
    vec![match world.at[thread] {
        At::Begin => {
            let taken = match access {
                Access::Read => read(world.state, session),
                Access::Write => written(world.state, me(thread)),
            };
            match taken {
                Some(state) => World { state, ..world.at(thread, At::Holds) },
                None => world.at(thread, At::WantsLatch(false)),
            }
        }
        At::WantsLatch(waited) => return take_latch(At::Claims(waited, world.turn)),
        At::Claims(waited, turn) => {
            let mut world = world.clone();
            // Its count is taken back under the latch before it decides.
            world.asleep[process] -= u8::from(waited);
            let writers_wait = world.writers.iter().any(|&count| count > 0);
            let sleepers = world.sleepers();
            match claimed(world.state, me(thread), access, waited, writers_wait, sleepers) {
                Some((state, true)) => World { state, ..world.at(thread, At::CountsRecord) },
                Some((state, false)) if waited && access == Access::Write => {
                    World { state, ..world.at(thread, At::UncountsWriter) }
                }
                Some((state, false)) => {
                    World { state, ..world.at(thread, At::ReleasesLatchWithLock) }
                }
                None => {
                    let state = world.state.with_waits(true);
                    let announces = access == Access::Write && !waited;
                    let at =
                        if announces { At::CountsWriter(turn) } else { At::CountsAsleep(turn) };
                    World { state, ..world.at(thread, at) }
                }
            }
        }
        At::CountsRecord => {
            let mut new = world.at(thread, At::ReleasesLatchWithLock);
            new.readers[process] += 1;
            new
        }
        At::UncountsWriter => {
            let mut new = world.at(thread, At::ReleasesLatchWithLock);
            new.writers[process] -= 1;
            new
        }
        At::CountsWriter(turn) => {
            let mut new = world.at(thread, At::CountsAsleep(turn));
            new.writers[process] += 1;
            new
        }
        At::CountsAsleep(turn) => {
            let mut new = world.at(thread, At::ReleasesLatchToSleep(turn));
            new.asleep[process] += 1;
            new
        }
        At::ReleasesLatchToSleep(turn) => release_latch(At::FallsAsleep(turn)),
        At::FallsAsleep(turn) if world.turn == turn => world.at(thread, At::Asleep),
        At::FallsAsleep(_) => world.at(thread, At::WantsLatch(true)),
        At::ReleasesLatchWithLock => release_latch(At::Holds),
        At::Holds if access == Access::Write && world.state.waits() => {
            // The turn of a sleeper may have come, or not.
            let ended = |keep| {
                let state = write_ended(world.state, keep);
                World { state, ..world.at(thread, At::ChangesTurn(keep)) }
            };
            return vec![ended(false), ended(true)];
        }
        At::Holds if access == Access::Write => {
            done(World { state: write_ended(world.state, false), ..world.clone() })
        }
        At::Holds => match read_ended(world.state, session) {
            Some(state) => done(World { state, ..world.clone() }),
            None => world.at(thread, At::WantsLatchToEnd),
        },
        At::WantsLatchToEnd => return take_latch(At::Ends),
        At::Ends => match world.state.left(session, 1) {
            Some(state) => World { state, ..world.at(thread, At::Unmarks) },
            None => world.at(thread, At::UncountsRecord),
        },
        At::UncountsRecord => {
            let mut new = world.at(thread, At::Unmarks);
            new.readers[process] -= 1;
            new
        }
        At::Unmarks if world.readers.iter().any(|&count| count > 0) => {
            world.at(thread, At::ReleasesLatchAndWakes(false))
        }
        At::Unmarks => {
            let is_read = world.state.count() > 0;
            let at = if is_read { At::ReleasesLatchAndWakes(false) } else { At::LooksForSleepers };
            let state = world.state.with_number(writer(world.state));
            World { state, ..world.at(thread, at) }
        }
        At::LooksForSleepers => {
            let wakes = world.sleepers();
            let mut new = world.at(thread, At::ReleasesLatchAndWakes(wakes));
            new.turn += u8::from(wakes);
            new
        }
        At::ReleasesLatchAndWakes(true) => release_latch(At::WakesAll(false)),
        At::ReleasesLatchAndWakes(false) => done(release_latch(At::Begin)),
        At::ChangesTurn(keeps) => {
            let mut new = world.at(thread, At::LooksForSleepersWithoutLatch(keeps));
            new.turn += 1;
            new
        }
        At::LooksForSleepersWithoutLatch(keeps) if world.sleepers() => {
            world.at(thread, At::WakesAll(keeps))
        }
        At::LooksForSleepersWithoutLatch(true) => world.at(thread, At::KeepsNoLonger),
        At::LooksForSleepersWithoutLatch(false) => done(world.clone()),
        At::WakesAll(true) if !world.at.contains(&At::Asleep) => {
            world.at(thread, At::KeepsNoLonger)
        }
        At::WakesAll(_) => {
            let mut new = done(world.clone());
            new.wake_all();
            new
        }
        At::KeepsNoLonger => match kept_no_longer(world.state) {
            Some(state) => World { state, ..world.at(thread, At::ChangesTurn(false)) },
            None => done(world.clone()),
        },
        At::Asleep | At::Done | At::Dead => return Vec::new(),
    }]
}

fn check(world: &World, accesses: [Access; THREADS]) {
    let holds = |&thread: &usize| {
        matches!(
            world.at[thread],
            At::UncountsWriter
                | At::CountsRecord
                | At::ReleasesLatchWithLock
                | At::Holds
                | At::WantsLatchToEnd
                | At::Ends
        )
    };
    let holders: Vec<usize> = (0..THREADS).filter(holds).collect();
    let writes = holders.iter().any(|&thread| accesses[thread] == Access::Write);
    assert!(holders.len() <= 1 || !writes, "a thread writes beside others: {world:?}");
}

/// Visits every state, and returns how many there are.
fn explore(accesses: [Access; THREADS], rounds: u8, kills: u8) -> usize {
    let first = World {
        state: State::default(),
        latch: FREE,
        readers: [0; PROCESSES],
        writers: [0; PROCESSES],
        asleep: [0; PROCESSES],
        turn: 0,
        at: [At::Begin; THREADS],
        rounds: [0; THREADS],
        kills_left: kills,
        repairs: BTreeSet::new(),
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    while let Some(world) = open.pop() {
        check(&world, accesses);
        let successors = next(&world, accesses, rounds);
        if successors.is_empty() {
            let over = world.at.iter().all(|at| matches!(at, At::Done | At::Dead));
            assert!(over, "a thread waits for ever: {world:?}");
            let free = world.state.with_waits(false);
            assert_eq!(free, State::default(), "the lock is not free: {world:?}");
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
fn no_thread_writes_beside_another_and_none_waits_for_ever() {
    use Access::{Read, Write};
    for accesses in
        [[Read, Write, Read], [Write, Read, Read], [Read, Write, Write], [Write, Write, Read]]
    {
        for (rounds, kills) in [(2, 0), (1, 1), (1, 2)] {
            let states = explore(accesses, rounds, kills);
            println!("{rounds} rounds, {kills} kills: {states} states");
        }
    }
}
