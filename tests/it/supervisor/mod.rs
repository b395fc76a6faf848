//! Supervisors with real processes and SIGKILL. The names in `otp` are those of OTP's own suite.

mod dynamic;
mod handles;
mod nested;
mod otp;
mod races;
mod restarts;
mod storm;
mod storm_nested;

use std::time::Duration;

use offspring::actor::{Actor, Context, DownReason};
use offspring::supervisor::{
    ChildInfo, ChildSpec, ChildState, Restart, Supervisor, SupervisorBuilder,
};
use offspring::{ActorRef, Queue};
use serde::{Deserialize, Serialize};

pub(crate) const LONG: Duration = Duration::from_secs(10);

/// Logs when it starts, stops and hangs. Ends as ordered.
pub(crate) struct Child {
    setup: Setup,
    context: Context<Child>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    name: String,
    log: Queue<String>,
    /// Each start takes one and fails that way.
    faults: Queue<Fault>,
}

impl Setup {
    /// Asks the queue for its length, so that the owner has the line before this returns: lines of
    /// different processes are then in the order of their writes.
    fn write(&self, what: &str) {
        self.log.put(format!("{what} {}", self.name)).expect("the test lives");
        let _ = self.log.len();
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Fault {
    Error,
    Abort,
    Hang,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    Pid,
    Normal,
    Shutdown,
    Abnormal,
    Hang,
}

impl Actor for Child {
    type Args = Setup;
    type Message = Order;
    type Reply = u32;

    fn start(setup: Setup, context: &Context<Child>) -> Result<Child, Box<dyn std::error::Error>> {
        match setup.faults.try_get() {
            Ok(Fault::Error) => return Err("it was told to fail".into()),
            Ok(Fault::Abort) => std::process::abort(),
            Ok(Fault::Hang) => std::thread::sleep(LONG * 100),
            Err(_) => {}
        }
        setup.write("start");
        let context = context.clone();
        Ok(Child { setup, context })
    }

    fn handle(&mut self, order: Order) -> u32 {
        match order {
            Order::Pid | Order::Shutdown => {}
            Order::Normal => self.context.stop(),
            Order::Abnormal => self.context.fail("it was told to"),
            Order::Hang => {
                self.setup.write("hang");
                std::thread::sleep(LONG * 100);
            }
        }
        std::process::id()
    }

    fn stop(&mut self, _: &DownReason) {
        self.setup.write("stop");
    }
}

offspring::register_actor!(Child);

/// A queue that counts this process as a producer: it is not abandoned while all children are down.
pub(crate) fn kept_queue<T: Serialize + serde::de::DeserializeOwned>(item: T) -> Queue<T> {
    let queue = Queue::unbounded().unwrap();
    queue.put(item).unwrap();
    queue.get().unwrap();
    queue
}

/// The log of the children of one test, and their faults.
pub(crate) struct Stage {
    pub(crate) log: Queue<String>,
    pub(crate) faults: Queue<Fault>,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage { log: kept_queue(String::new()), faults: Queue::unbounded().unwrap() }
    }

    pub(crate) fn setup(&self, name: &str) -> Setup {
        Setup { name: name.to_owned(), log: self.log.clone(), faults: self.faults.clone() }
    }

    pub(crate) fn child(&self, name: &str) -> ChildSpec {
        ChildSpec::actor::<Child>(name, self.setup(name))
    }

    pub(crate) fn builder(&self, names: &[&str]) -> SupervisorBuilder {
        Supervisor::builder().children(names.iter().map(|name| self.child(name)))
    }

    /// Takes the next `count` lines of the log, waiting for them.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        let lines =
            (0..count).map(|_| self.log.get_timeout(LONG).unwrap_or_else(|_| "nothing".to_owned()));
        lines.collect()
    }

    pub(crate) fn wrote(&self, lines: &[&str]) {
        assert_eq!(self.lines(lines.len()), lines);
    }

    pub(crate) fn wrote_nothing(&self) {
        assert!(self.log.try_get().is_err());
    }
}

pub(crate) fn child(supervisor: &Supervisor, id: &str) -> ActorRef<Child> {
    supervisor.actor(id).unwrap_or_else(|| panic!("no actor {id}"))
}

pub(crate) fn info(supervisor: &Supervisor, id: &str) -> Option<ChildInfo> {
    supervisor.children().into_iter().find(|child| child.id == id)
}

/// The pid of a child that is up, or is about to be.
pub(crate) fn pid(supervisor: &Supervisor, id: &str) -> u32 {
    let mut pid = None;
    crate::support::eventually(&format!("{id} is up"), || {
        let up = info(supervisor, id).filter(|child| child.state == ChildState::Up);
        pid = up.and_then(|child| child.pid);
        pid.is_some()
    });
    pid.unwrap()
}

/// Sends SIGKILL to a child that runs.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Waits until the child is in this state after this many restarts.
pub(crate) fn until(
    supervisor: &Supervisor,
    id: &str,
    state: ChildState,
    restarts: u64,
) -> ChildInfo {
    let mut last = None;
    crate::support::eventually(&format!("{id} is {state:?} after {restarts} restarts"), || {
        last =
            info(supervisor, id).filter(|child| child.state == state && child.restarts == restarts);
        last.is_some()
    });
    last.unwrap()
}

pub(crate) fn gone(supervisor: &Supervisor, id: &str) {
    crate::support::eventually(&format!("{id} is forgotten"), || info(supervisor, id).is_none());
}

/// Makes a child end this way. The call may fail, because the child ends.
pub(crate) fn end(supervisor: &Supervisor, id: &str, order: Order) {
    match order {
        Order::Shutdown => {
            child(supervisor, id).stop().unwrap();
        }
        order => {
            let _ = child(supervisor, id).call(order);
        }
    }
}

pub(crate) fn spec(stage: &Stage, name: &str, restart: Restart) -> ChildSpec {
    stage.child(name).restart(restart)
}
