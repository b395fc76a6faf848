//! The lock word's protocol in every order, with a death at every point.
//!
//! A few threads lock and unlock, several rounds each. As in the real code, each of their steps is
//! one access to the word, one falling asleep or one waking, and the real functions make the
//! decisions. At any point a process may be killed, or stopped for ever. The hub's repair, which
//! has two steps of its own, runs at any time after a death. The test visits every state that can
//! be reached. In each, at most one living thread holds the lock. If no thread can take a step,
//! every living thread has done all its rounds; or it waits for a stopped holder; or another thread
//! was stopped after it had been woken, and this one finds the lock free when it checks again. A
//! thread that releases the lock while another one sleeps may keep it for that one. At the end the
//! lock is not kept, unless a thread that would have taken or freed it was stopped.

use std::collections::{BTreeSet, HashSet};

use super::*;

const THREADS: usize = 3;
const ROUNDS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum At {
    /// Tries the compare-and-swap of the fast path.
    Begin,
    /// Has read the word.
    Seen(u32, bool),
    /// Is about to sleep while the word is this: the kernel compares and falls asleep in one step.
    FallAsleep(u32, bool),
    Asleep,
    Reads(bool),
    Holds,
    /// Is about to read the word to release it on the slow path.
    Releasing,
    ReleasesFrom(u32),
    /// Has released or kept the lock, and is about to wake a sleeper.
    Wakes(bool),
    /// Has kept the lock and woken none, and has read this word.
    KeepsNoLonger(u32),
    Done,
    Dead,
    /// Stopped, with or without the lock.
    Stopped(bool),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct State {
    word: u32,
    at: [At; THREADS],
    rounds: [u8; THREADS],
    kills_left: u8,
    stops_left: u8,
    /// Sessions whose death the hub has not noticed.
    dead: BTreeSet<usize>,
    /// Sessions whose lock the hub has freed, but whose sleepers it has not woken yet.
    repaired: BTreeSet<usize>,
}

/// Two threads of one process, and one of another.
fn session_of(thread: usize) -> u32 {
    2 + (thread / 2) as u32
}

fn me(thread: usize) -> u32 {
    holder(session_of(thread), 1 + thread as u32)
}

fn sleepers(state: &State) -> Vec<usize> {
    (0..THREADS).filter(|&thread| state.at[thread] == At::Asleep).collect()
}

/// Every state that may follow.
fn next(state: &State) -> Vec<State> {
    let mut all = Vec::new();
    for thread in 0..THREADS {
        all.extend(moves(state, thread));
        if state.stops_left > 0
            && !matches!(state.at[thread], At::Asleep | At::Dead | At::Done | At::Stopped(_))
        {
            let mut stopped = state.clone();
            stopped.stops_left -= 1;
            stopped.at[thread] = At::Stopped(holds(&state.at[thread]));
            all.push(stopped);
        }
        // All threads of a process die together.
        if state.kills_left > 0 && !matches!(state.at[thread], At::Dead | At::Done | At::Stopped(_))
        {
            let mut killed = state.clone();
            killed.kills_left -= 1;
            for other in (0..THREADS).filter(|&other| session_of(other) == session_of(thread)) {
                killed.at[other] = At::Dead;
            }
            killed.dead.insert(session_of(thread) as usize);
            all.push(killed);
        }
    }
    for &dead in &state.dead {
        let mut new = state.clone();
        new.dead.remove(&dead);
        new.word = repaired(state.word, dead as u32).unwrap_or(state.word);
        new.repaired.insert(dead);
        all.push(new);
    }
    for &dead in &state.repaired {
        let mut new = state.clone();
        new.repaired.remove(&dead);
        for thread in sleepers(state) {
            new.at[thread] = At::Reads(true);
        }
        all.push(new);
    }
    all
}

/// Returns the states that follow when nothing else happens, and a thread that has slept for long
/// checks again.
fn looks_again(state: &State) -> Vec<State> {
    let looks = |thread: usize| {
        let mut new = state.clone();
        new.at[thread] = At::Reads(true);
        new
    };
    sleepers(state).into_iter().map(looks).collect()
}

/// Returns the states that one step of this thread may lead to.
fn moves(state: &State, thread: usize) -> Vec<State> {
    let (word, me) = (state.word, me(thread));
    let with = |word: u32, at: At| {
        let mut new = state.clone();
        new.word = word;
        new.at[thread] = at;
        new
    };
    match state.at[thread] {
        At::Begin if word == 0 => vec![with(me, At::Holds)],
        At::Begin => vec![with(word, At::Reads(false))],
        At::Reads(slept) => vec![with(word, At::Seen(word, slept))],
        At::Seen(seen, slept) => match next_step(seen, me, slept) {
            LockStep::Take(_) | LockStep::AnnounceWaiter(_) if word != seen => {
                vec![with(word, At::Seen(word, slept))]
            }
            LockStep::Take(new) => vec![with(new, At::Holds)],
            LockStep::AnnounceWaiter(new) => vec![with(new, At::Seen(new, slept))],
            LockStep::Sleep => vec![with(word, At::FallAsleep(seen, slept))],
            LockStep::Refuse(refusal) => panic!("{refusal:?} in {state:?}"),
        },
        At::FallAsleep(seen, _) if word == seen => vec![with(word, At::Asleep)],
        At::FallAsleep(_, slept) => vec![with(word, At::Reads(slept))],
        At::Holds if word == me => vec![released_once(with(0, At::Begin), thread)],
        At::Holds => vec![with(word, At::Releasing)],
        At::Releasing => vec![with(word, At::ReleasesFrom(word))],
        At::ReleasesFrom(seen) if word != seen => vec![with(word, At::ReleasesFrom(word))],
        At::ReleasesFrom(seen) => {
            let release = |keep| match released(seen, keep) {
                (new, true) => with(new, At::Wakes(keep)),
                (new, false) => released_once(with(new, At::Begin), thread),
            };
            // Only in one round of each thread, which leaves few enough states.
            let may_keep = state.rounds[thread] == 0;
            [false, true].into_iter().filter(|&keep| may_keep || !keep).map(release).collect()
        }
        At::Wakes(kept) => {
            let done = released_once(with(word, At::Begin), thread);
            let asleep = sleepers(state);
            if asleep.is_empty() {
                return vec![if kept { with(word, At::KeepsNoLonger(word)) } else { done }];
            }
            // The kernel may choose any sleeper.
            let wake = |&woken: &usize| {
                let mut new = done.clone();
                new.at[woken] = At::Reads(true);
                new
            };
            asleep.iter().map(wake).collect()
        }
        At::KeepsNoLonger(seen) => match kept_no_longer(seen) {
            None => vec![released_once(with(word, At::Begin), thread)],
            Some(_) if word != seen => vec![with(word, At::KeepsNoLonger(word))],
            Some((new, true)) => vec![with(new, At::Wakes(false))],
            Some((new, false)) => vec![released_once(with(new, At::Begin), thread)],
        },
        At::Asleep | At::Done | At::Dead | At::Stopped(_) => Vec::new(),
    }
}

fn released_once(mut state: State, thread: usize) -> State {
    state.rounds[thread] += 1;
    if state.rounds[thread] == ROUNDS {
        state.at[thread] = At::Done;
    }
    state
}

fn holds(at: &At) -> bool {
    matches!(at, At::Holds | At::Releasing | At::ReleasesFrom(_) | At::Stopped(true))
}

fn check(state: &State) {
    let holders: Vec<_> = (0..THREADS).filter(|&thread| holds(&state.at[thread])).collect();
    assert!(holders.len() <= 1, "two threads hold the lock: {state:?}");
    for &thread in &holders {
        assert_eq!(state.word & HOLDER, me(thread), "the word names another holder: {state:?}");
    }
}

/// Visits every state, and returns how many there are.
fn explore(kills: u8, stops: u8) -> usize {
    let first = State {
        word: 0,
        at: [At::Begin; THREADS],
        rounds: [0; THREADS],
        kills_left: kills,
        stops_left: stops,
        dead: BTreeSet::new(),
        repaired: BTreeSet::new(),
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    while let Some(state) = open.pop() {
        check(&state);
        let mut successors = next(&state);
        if successors.is_empty() {
            let held = state.at.contains(&At::Stopped(true));
            if state.at.contains(&At::Stopped(false)) {
                successors = looks_again(&state);
            }
            let stuck = successors.is_empty() && !sleepers(&state).is_empty();
            assert!(held || !stuck, "a thread sleeps for ever: {state:?}");
            let stopped = state.at.contains(&At::Stopped(false));
            let free = state.word & HOLDER == 0 || (stopped && state.word & HOLDER == KEPT);
            assert!(held || free, "nobody holds the lock, and it is not free: {state:?}");
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
fn no_thread_waits_for_ever_and_two_never_hold_the_lock() {
    for (kills, stops) in [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2)] {
        println!("{kills} kills, {stops} stops: {} states", explore(kills, stops));
    }
}
