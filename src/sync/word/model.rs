//! The lock word's protocol in all orders, with a death at every point.
//!
//! A few threads lock and unlock once more and once more; each of their steps is one access to the word, one falling asleep
//! or one waking, as in the real code, and takes its decisions by the real functions. At any point one of them may be
//! killed; the hub's repair (its own two steps) runs at any time after that. Every state that can be reached is
//! visited. In each there is at most one living holder; and in each that has no successor, everybody has done all rounds.

use std::collections::{BTreeSet, HashSet};

use super::*;

const THREADS: usize = 3;
const ROUNDS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum At {
    /// Tries the compare-and-swap of the short way.
    Begin,
    /// Has read the word.
    Seen(u32, bool),
    /// Is about to sleep while the word is this: the system compares and sleeps in one step.
    FallAsleep(u32),
    Asleep,
    Reads(bool),
    Holds,
    /// Is about to read the word to release it the long way.
    Releasing,
    ReleasesFrom(u32),
    /// Has released, and is about to wake one.
    Wakes,
    Done,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct State {
    word: u32,
    at: [At; THREADS],
    rounds: [u8; THREADS],
    kills_left: u8,
    /// Sessions whose death the hub has not seen; then those that it has repaired, and whose sleepers it wakes next.
    dead: BTreeSet<usize>,
    repaired: BTreeSet<usize>,
}

/// Two threads of one process, one of another.
fn session_of(thread: usize) -> u32 {
    2 + (thread / 2) as u32
}

fn me(thread: usize) -> u32 {
    holder(session_of(thread), 1 + thread as u32)
}

fn sleepers(state: &State) -> Vec<usize> {
    (0..THREADS)
        .filter(|&thread| state.at[thread] == At::Asleep)
        .collect()
}

/// All states that may follow.
fn next(state: &State) -> Vec<State> {
    let mut all = Vec::new();
    for thread in 0..THREADS {
        all.extend(moves(state, thread));
        // A death takes all threads of the process.
        if state.kills_left > 0 && !matches!(state.at[thread], At::Dead | At::Done) {
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

/// What one thread may do next.
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
        At::Seen(seen, slept) => match step(seen, me, slept) {
            Step::Take(_) | Step::Mark(_) if word != seen => {
                vec![with(word, At::Seen(word, slept))]
            }
            Step::Take(new) => vec![with(new, At::Holds)],
            Step::Mark(new) => vec![with(new, At::Seen(new, slept))],
            Step::Sleep => vec![with(word, At::FallAsleep(seen))],
            Step::Miss(miss) => panic!("{miss:?} in {state:?}"),
        },
        At::FallAsleep(seen) if word == seen => vec![with(word, At::Asleep)],
        At::FallAsleep(_) => vec![with(word, At::Reads(true))],
        At::Holds if word == me => vec![released_once(with(0, At::Begin), thread)],
        At::Holds => vec![with(word, At::Releasing)],
        At::Releasing => vec![with(word, At::ReleasesFrom(word))],
        At::ReleasesFrom(seen) if word != seen => vec![with(word, At::ReleasesFrom(word))],
        At::ReleasesFrom(seen) => match released(seen) {
            (new, true) => vec![with(new, At::Wakes)],
            (new, false) => vec![released_once(with(new, At::Begin), thread)],
        },
        At::Wakes => {
            let done = released_once(with(word, At::Begin), thread);
            let asleep = sleepers(state);
            if asleep.is_empty() {
                return vec![done];
            }
            // Any of them.
            let wake = |&woken: &usize| {
                let mut new = done.clone();
                new.at[woken] = At::Reads(true);
                new
            };
            asleep.iter().map(wake).collect()
        }
        At::Asleep | At::Done | At::Dead => Vec::new(),
    }
}

fn released_once(mut state: State, thread: usize) -> State {
    state.rounds[thread] += 1;
    if state.rounds[thread] == ROUNDS {
        state.at[thread] = At::Done;
    }
    state
}

fn check(state: &State) {
    let holds = |at: &At| matches!(at, At::Holds | At::Releasing | At::ReleasesFrom(_));
    let holders: Vec<_> = (0..THREADS)
        .filter(|&thread| holds(&state.at[thread]))
        .collect();
    assert!(holders.len() <= 1, "two hold it: {state:?}");
    for &thread in &holders {
        assert_eq!(
            state.word & HOLDER,
            me(thread),
            "the word names another: {state:?}"
        );
    }
}

/// Visits all; how many there are.
fn explore(kills: u8) -> usize {
    let first = State {
        word: 0,
        at: [At::Begin; THREADS],
        rounds: [0; THREADS],
        kills_left: kills,
        dead: BTreeSet::new(),
        repaired: BTreeSet::new(),
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    while let Some(state) = open.pop() {
        check(&state);
        let successors = next(&state);
        if successors.is_empty() {
            let stuck = state.at.iter().any(|at| !matches!(at, At::Done | At::Dead));
            assert!(!stuck, "somebody sleeps for ever: {state:?}");
            assert_eq!(state.word & HOLDER, 0, "the dead still hold it: {state:?}");
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
fn nobody_waits_for_ever_and_two_never_hold_it() {
    for kills in 0..=2 {
        println!("{kills} kills: {} states", explore(kills));
    }
}
