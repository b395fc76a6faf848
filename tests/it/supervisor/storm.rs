//! Children are suspended and killed at random, and the result is compared with a model of the
//! strategy.
//!
//! As for the other storms, `OFFSPRING_STORM_KILLS` sets its length, and `OFFSPRING_STORM_SEED`
//! repeats one.

use std::time::{Duration, Instant};

use offspring::ProcessBuilder;
use offspring::actor::ActorBuilder;
use offspring::supervisor::{
    ChildInfo, ChildKind, ChildSpec, ChildState, Restart, Strategy, Supervisor,
};

use super::{Child, Order, Stage, child, end, info, kill, pid};
use crate::support::{Random, Victim, storm_kills};

/// Whatever takes longer hangs: a child that is to stop may be suspended, or the machine busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A start that fails counts as a restart, which the model does not predict. So the default timeouts
/// are not for a busy machine.
pub(super) fn patient_spec(stage: &Stage, name: &str, restart: Restart) -> ChildSpec {
    let builder = ActorBuilder::new()
        .name(name)
        .start_timeout(PATIENCE)
        .process(|process: ProcessBuilder| process.start_timeout(PATIENCE));
    ChildSpec::actor_with::<Child>(name, builder, stage.setup(name)).restart(restart)
}

/// The expected state of a child.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) id: String,
    pub(super) restart: Restart,
    pub(super) up: bool,
    pub(super) restarts: u64,
    pub(super) pid: u32,
}

/// Applies the strategy to the end of the child at `place`. A pid of 0 stands for a new process.
pub(super) fn predict(
    strategy: Strategy,
    children: &mut Vec<Expected>,
    place: usize,
    normal: bool,
) {
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

/// Suspends one of these children for a while, or none.
pub(super) fn suspend_one(children: &[Expected], random: &mut Random) {
    let running: Vec<u32> = children
        .iter()
        .filter(|child| child.up)
        .map(|child| child.pid)
        .filter(|&pid| pid != 0)
        .collect();
    // Twice as many places as children.
    if let Some(&pid) = running.get(random.below(2 * running.len() as u64 + 1) as usize) {
        Victim::of(pid).expect("it is up").stop_for_a_while(random);
    }
}

pub(super) fn settled(children: &[ChildInfo], expected: &[Expected]) -> bool {
    children.len() == expected.len()
        && children.iter().zip(expected).all(|(child, expected)| {
            let state = if expected.up { ChildState::Up } else { ChildState::Stopped };
            let pid = match (expected.up && child.kind == ChildKind::Actor, expected.pid) {
                (false, _) => child.pid.is_none(),
                (true, 0) => child.pid.is_some(),
                (true, same) => child.pid == Some(same),
            };
            child.id == expected.id
                && child.state == state
                && child.restarts == expected.restarts
                && pid
        })
}

fn storm(strategy: Strategy, random: &mut Random, kills: u64) -> u64 {
    let stage = Stage::new();
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
        .map(|(n, &restart)| patient_spec(&stage, &format!("child {n}"), restart));
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
    while rounds < kills {
        rounds += 1;
        // From time to time, restart a child that ended normally.
        if let Some(down) =
            expected.iter_mut().find(|child| !child.up).filter(|_| random.below(3) == 0)
        {
            supervisor.restart_child(&down.id).unwrap();
            (down.up, down.pid) = (true, pid(&supervisor, &down.id));
        }
        suspend_one(&expected, random);
        let up: Vec<usize> = (0..expected.len()).filter(|&place| expected[place].up).collect();
        let place = up[usize::try_from(random.below(up.len() as u64)).unwrap()];
        let id = expected[place].id.clone();
        let normal = random.below(4) == 0;
        if normal {
            end(&supervisor, &id, Order::Normal);
        } else {
            kill(expected[place].pid);
        }
        predict(strategy, &mut expected, place, normal);
        let deadline = Instant::now() + PATIENCE;
        while !settled(&supervisor.children(), &expected) {
            assert!(
                Instant::now() < deadline,
                "round {rounds}: `{id}` ended (normal: {normal})\nexpected {expected:#?}\nfound {:#?}",
                supervisor.children()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        for expected in expected.iter_mut().filter(|expected| expected.up) {
            let found =
                info(&supervisor, &expected.id).and_then(|child| child.pid).expect("it is up");
            // The pid that the supervisor reports is the one that answers at the address.
            let mut answer = child(&supervisor, &expected.id).call(Order::Pid);
            while answer.is_err() {
                answer = child(&supervisor, &expected.id).call(Order::Pid);
            }
            assert_eq!(answer.unwrap(), found);
            expected.pid = found;
        }
    }
    supervisor.stop();
    rounds
}

#[offspring::test(timeout = "60m")]
fn children_that_are_killed_at_random_are_as_the_model_says() {
    let mut random = Random::of_storm();
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let kills = storm_kills() / 3;
        assert_eq!(storm(strategy, &mut random, kills), kills);
    }
}
