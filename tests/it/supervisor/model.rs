//! Children are killed at random, and what becomes of them is compared with a model of the strategy.
//!
//! `OFFSPRING_SUPERVISOR_SECONDS=60 cargo test --release --test it model` runs it for a minute; the default is short.

use std::time::{Duration, Instant};

use offspring::supervisor::{ChildState, Restart, Strategy, Supervisor};

use super::{Order, Stage, child, end, info, kill, pid, spec};

/// A small random number generator: reproducible, and good enough to choose children.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// A child as it should be.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    id: String,
    restart: Restart,
    up: bool,
    restarts: u64,
    pid: u32,
}

/// What the strategy makes of the end of the child in `place`. A pid of 0 says that there must be a new one.
fn predict(strategy: Strategy, children: &mut Vec<Expected>, place: usize, normal: bool) {
    let restart = children[place].restart;
    let again = match restart {
        Restart::Permanent => true,
        Restart::Transient => !normal,
        Restart::Temporary => false,
    };
    if !again {
        children[place].up = false;
        if restart == Restart::Temporary {
            children.remove(place);
        }
        return;
    }
    let count = children.len();
    let group = match strategy {
        Strategy::OneForOne => place..place + 1,
        Strategy::OneForAll => 0..count,
        Strategy::RestForOne => place..count,
    };
    for child in &mut children[group.clone()] {
        (child.up, child.pid) = (true, 0);
        child.restarts += 1;
    }
    let mut at = 0;
    children.retain(|child| {
        at += 1;
        !(group.contains(&(at - 1)) && child.restart == Restart::Temporary)
    });
}

fn settled(supervisor: &Supervisor, expected: &[Expected]) -> bool {
    let children = supervisor.children();
    children.len() == expected.len()
        && children.iter().zip(expected).all(|(child, expected)| {
            let state = if expected.up { ChildState::Up } else { ChildState::Stopped };
            let pid = match (expected.up, expected.pid) {
                (false, _) => child.pid.is_none(),
                (true, 0) => child.pid.is_some(),
                (true, same) => child.pid == Some(same),
            };
            child.id == expected.id && child.state == state && child.restarts == expected.restarts && pid
        })
}

fn storm(strategy: Strategy, seed: u64, until: Instant) -> u32 {
    let stage = Stage::new();
    let mut random = Random(seed);
    let kinds = [
        Restart::Permanent,
        Restart::Transient,
        Restart::Permanent,
        Restart::Temporary,
        Restart::Transient,
    ];
    let specs = kinds
        .iter()
        .enumerate()
        .map(|(n, &restart)| spec(&stage, &format!("child {n}"), restart));
    let supervisor = Supervisor::builder()
        .strategy(strategy)
        .intensity(usize::MAX)
        .children(specs)
        .start()
        .unwrap();
    let mut expected: Vec<Expected> = kinds
        .iter()
        .enumerate()
        .map(|(n, &restart)| Expected {
            id: format!("child {n}"),
            restart,
            up: true,
            restarts: 0,
            pid: pid(&supervisor, &format!("child {n}")),
        })
        .collect();
    let mut rounds = 0;
    while Instant::now() < until || rounds < 3 {
        rounds += 1;
        let up: Vec<usize> = (0..expected.len()).filter(|&place| expected[place].up).collect();
        let place = up[random.below(up.len())];
        let id = expected[place].id.clone();
        let normal = random.below(4) == 0;
        if normal {
            end(&supervisor, &id, Order::Normal);
        } else {
            kill(expected[place].pid);
        }
        predict(strategy, &mut expected, place, normal);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !settled(&supervisor, &expected) {
            assert!(
                Instant::now() < deadline,
                "seed {seed}, round {rounds}: `{id}` ended (normal: {normal})\nexpected {expected:#?}\nfound {:#?}",
                supervisor.children()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        for expected in expected.iter_mut().filter(|expected| expected.up) {
            let found = info(&supervisor, &expected.id).and_then(|child| child.pid).expect("it is up");
            // What the supervisor says is what answers under the address.
            let mut answer = child(&supervisor, &expected.id).call(Order::Pid);
            while answer.is_err() {
                answer = child(&supervisor, &expected.id).call(Order::Pid);
            }
            assert_eq!(answer.unwrap(), found);
            expected.pid = found;
        }
        if expected
            .iter()
            .filter(|child| child.up && child.restart == Restart::Permanent)
            .count()
            == 0
        {
            break;
        }
    }
    supervisor.stop();
    rounds
}

#[offspring::test(timeout = "20m")]
fn children_that_are_killed_at_random_are_as_the_model_says() {
    let seconds = std::env::var("OFFSPRING_SUPERVISOR_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
    let each = Duration::from_secs(seconds) / 3;
    let rounds: Vec<_> = strategies
        .into_iter()
        .zip(1..)
        .map(|(strategy, seed)| storm(strategy, 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed), Instant::now() + each))
        .collect();
    println!("rounds of the three strategies: {rounds:?}");
}
