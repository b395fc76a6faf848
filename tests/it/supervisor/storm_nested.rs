//! The storm over a tree: a supervisor between two other children of its supervisor. It is
//! restarted together with them, or because it gave up, and then has the children of its own
//! specification.

use std::time::{Duration, Instant};

use offspring::ActorRef;
use offspring::supervisor::{ChildSpec, Restart, Strategy, Supervisor};

use super::storm::{Expected, PATIENCE, patient_spec, predict, settled, suspend_one};
use super::{Child, Order, Stage, kill};
use crate::support::{Random, storm_kills};

const OUTER: [(&str, Restart); 3] =
    [("a", Restart::Permanent), ("inner", Restart::Permanent), ("z", Restart::Transient)];
const INNER: [(&str, Restart); 4] = [
    ("b", Restart::Permanent),
    ("c", Restart::Transient),
    ("once", Restart::Temporary),
    ("d", Restart::Permanent),
];

fn expected(children: &[(&str, Restart)]) -> Vec<Expected> {
    let expected = children.iter().map(|&(id, restart)| Expected {
        id: id.to_owned(),
        restart,
        up: true,
        restarts: 0,
        pid: 0,
    });
    expected.collect()
}

struct Tree {
    strategy: Strategy,
    inner_strategy: Strategy,
    /// The inner supervisor gives up at the first restart.
    gives_up: bool,
    supervisor: Supervisor,
    outer: Vec<Expected>,
    inner: Vec<Expected>,
    /// All children that the inner supervisor was built with, in their last known state.
    own: Vec<Expected>,
}

impl Tree {
    fn grow(strategy: Strategy, inner_strategy: Strategy, gives_up: bool) -> Tree {
        let stage = Stage::new();
        let inner = INNER.map(|(id, restart)| patient_spec(&stage, id, restart));
        let inner = Supervisor::builder()
            .strategy(inner_strategy)
            .intensity(if gives_up { 0 } else { usize::MAX })
            .children(inner);
        let supervisor = Supervisor::builder()
            .strategy(strategy)
            .intensity(usize::MAX)
            .child(patient_spec(&stage, "a", Restart::Permanent))
            .child(ChildSpec::supervisor("inner", inner))
            .child(patient_spec(&stage, "z", Restart::Transient))
            .start()
            .unwrap();
        Tree {
            strategy,
            inner_strategy,
            gives_up,
            supervisor,
            outer: expected(&OUTER),
            inner: expected(&INNER),
            own: expected(&INNER),
        }
    }

    fn is_settled(&self) -> bool {
        settled(&self.supervisor.children(), &self.outer)
            && self
                .supervisor
                .children_of("inner")
                .is_some_and(|children| settled(&children, &self.inner))
    }

    fn settle(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_settled() {
            let (outer, inner) = (self.supervisor.children(), self.supervisor.children_of("inner"));
            assert!(
                Instant::now() < deadline,
                "{what}\nexpected {:#?}\n{:#?}\nfound {outer:#?}\n{inner:#?}",
                self.outer,
                self.inner
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let up = |all: &mut Vec<Expected>, path: &str, supervisor: &Supervisor| {
            for child in all.iter_mut().filter(|child| child.up && child.id != "inner") {
                let address: ActorRef<Child> =
                    supervisor.actor(&format!("{path}{}", child.id)).expect("it is up");
                let mut answer = address.call(Order::Pid);
                while answer.is_err() {
                    answer = address.call(Order::Pid);
                }
                child.pid = answer.unwrap();
            }
        };
        up(&mut self.outer, "", &self.supervisor);
        up(&mut self.inner, "inner/", &self.supervisor);
        // The pids that answered are those that the supervisors report.
        assert!(self.is_settled(), "{what}");
        self.note();
    }

    fn note(&mut self) {
        for own in &mut self.own {
            if let Some(seen) = self.inner.iter().find(|seen| seen.id == own.id) {
                own.clone_from(seen);
            }
        }
    }

    fn outer_ends(&mut self, place: usize, normal: bool) {
        let before = self.outer[1].restarts;
        predict(self.strategy, &mut self.outer, place, normal);
        if self.outer[1].restarts > before {
            self.inner.clone_from(&self.own);
            self.inner.iter_mut().for_each(|child| (child.up, child.pid) = (true, 0));
        }
    }

    fn inner_ends(&mut self, place: usize, normal: bool) {
        let again = match self.inner[place].restart {
            Restart::Permanent => true,
            Restart::Transient => !normal,
            Restart::Temporary => false,
        };
        if again && self.gives_up {
            self.outer_ends(1, false);
        } else {
            predict(self.inner_strategy, &mut self.inner, place, normal);
        }
    }

    fn strike(&mut self, random: &mut Random) -> String {
        suspend_one(&self.outer, random);
        suspend_one(&self.inner, random);
        let mut leaves = Vec::new();
        for (level, children) in [(0, &self.outer), (1, &self.inner)] {
            let up =
                children.iter().enumerate().filter(|(_, child)| child.up && child.id != "inner");
            leaves.extend(up.map(|(place, _)| (level, place)));
        }
        let (level, place) = leaves[usize::try_from(random.below(leaves.len() as u64)).unwrap()];
        let (path, child) = match level {
            0 => ("", &self.outer[place]),
            _ => ("inner/", &self.inner[place]),
        };
        let path = format!("{path}{}", child.id);
        let normal = random.below(4) == 0;
        if normal {
            let address: ActorRef<Child> = self.supervisor.actor(&path).expect("it is up");
            let _ = address.call(Order::Normal);
        } else {
            kill(child.pid);
        }
        match level {
            0 => self.outer_ends(place, normal),
            _ => self.inner_ends(place, normal),
        }
        format!("`{path}` ended (normal: {normal})")
    }

    /// Restarts the children that ended normally.
    fn raise(&mut self) {
        for (path, children) in [("", &mut self.outer), ("inner/", &mut self.inner)] {
            if let Some(down) = children.iter_mut().find(|child| !child.up) {
                self.supervisor.restart_child(&format!("{path}{}", down.id)).unwrap();
                (down.up, down.pid) = (true, 0);
            }
        }
    }
}

#[offspring::test(timeout = "60m")]
fn a_tree_whose_leaves_are_killed_at_random_is_as_the_model_says() {
    let mut random = Random::of_storm();
    let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
    for strategy in strategies {
        for (inner, gives_up) in strategies
            .into_iter()
            .zip([false, true, false])
            .chain([(strategy, !matches!(strategy, Strategy::OneForAll))])
        {
            let mut tree = Tree::grow(strategy, inner, gives_up);
            tree.settle("the start");
            for round in 0..storm_kills() / 12 {
                let struck = tree.strike(&mut random);
                tree.settle(&format!(
                    "{strategy:?} over {inner:?} (gives up: {gives_up}), round {round}: {struck}"
                ));
                if random.below(3) == 0 {
                    tree.raise();
                    tree.settle("asked for again");
                }
            }
            tree.supervisor.stop();
        }
    }
}
