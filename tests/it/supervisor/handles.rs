//! Typed handles of supervised actors, and what their callers see.

use std::time::Duration;

use offspring::actor::{ActorBuilder, CallError, DownReason, StartError, find};
use offspring::supervisor::{ChildSpec, ChildState, Supervisor, SupervisorError};
use offspring::{ActorRef, Queue};

use super::{Child, Order, Stage, end, kill, pid, until};
use crate::support::spawn_asleep;

/// Knows the child beside it.
struct Neighbour(ActorRef<Child>);

#[offspring::actor]
impl Neighbour {
    fn start(beside: ActorRef<Child>) -> Self {
        Neighbour(beside)
    }

    pub fn ask(&self) -> Result<u32, String> {
        self.0.call(Order::Pid).map_err(|error| error.to_string())
    }
}

fn with_handle(stage: &Stage, id: &str) -> (ChildSpec, ActorRef<Child>) {
    ChildSpec::with_handle(id, ActorBuilder::new(), stage.setup(id)).unwrap()
}

#[offspring::test(timeout = "20s")]
fn a_handle_from_before_the_start_stays_valid() {
    let stage = Stage::new();
    let (spec, child) = with_handle(&stage, "a");
    assert_eq!(child.name(), "a");
    std::thread::scope(|scope| {
        let call = spawn_asleep(scope, || child.call(Order::Pid));
        let supervisor = Supervisor::builder().child(spec).start().unwrap();
        assert_eq!(call.join().unwrap().unwrap(), pid(&supervisor, "a"), "it waits for the start");
        kill(pid(&supervisor, "a"));
        until(&supervisor, "a", ChildState::Up, 1);
        assert_eq!(child.call(Order::Pid).unwrap(), pid(&supervisor, "a"));
        assert_eq!(supervisor.handle::<ActorRef<Child>>("a").as_ref(), Some(&child));
        assert!(supervisor.handle::<NeighbourHandle>("a").is_none(), "of another type");
        supervisor.stop();
    });
    let error = child.call(Order::Pid).unwrap_err();
    assert_eq!(error.down_reason(), Some(&DownReason::Shutdown), "{error}");
}

#[offspring::test(timeout = "20s")]
fn children_know_each_other_before_they_start() {
    let stage = Stage::new();
    let (second, child) = with_handle(&stage, "second");
    let (first, neighbour) =
        ChildSpec::with_handle::<NeighbourHandle>("first", ActorBuilder::new(), (child,)).unwrap();
    // The first one has the address of one that starts after it.
    let supervisor = Supervisor::builder().child(first).child(second).start().unwrap();
    assert_eq!(neighbour.ask().unwrap(), Ok(pid(&supervisor, "second")));
    end(&supervisor, "second", Order::Abnormal);
    until(&supervisor, "second", ChildState::Up, 1);
    assert_eq!(neighbour.ask().unwrap(), Ok(pid(&supervisor, "second")));
}

#[offspring::test(timeout = "20s")]
fn the_handle_of_a_child_that_no_supervisor_starts_is_down() {
    let stage = Stage::new();
    let down = |child: &ActorRef<Child>| {
        let error = child.call(Order::Pid).unwrap_err();
        assert!(matches!(error, CallError::Down { .. }), "{error}");
    };
    let (spec, child) = with_handle(&stage, "dropped");
    drop(spec);
    down(&child);
    // In a builder that is not started, also under another one.
    let (spec, child) = with_handle(&stage, "a");
    let nested = ChildSpec::supervisor("nested", Supervisor::builder().child(spec));
    drop(Supervisor::builder().child(nested));
    down(&child);
    // Beside a child that does not start, and of an id that is taken.
    let (spec, child) = with_handle(&stage, "a");
    stage.faults.put(super::Fault::Error).unwrap();
    let error = Supervisor::builder().child(stage.child("b")).child(spec).start().unwrap_err();
    assert!(matches!(error, SupervisorError::Start { .. }), "{error}");
    down(&child);
    let supervisor = stage.builder(&["a"]).start().unwrap();
    let (spec, child) = with_handle(&stage, "a");
    let error = supervisor.start_child(spec).unwrap_err();
    assert!(matches!(error, SupervisorError::DuplicateId { .. }), "{error}");
    down(&child);
    // One that does not start itself.
    let (spec, child) = with_handle(&stage, "c");
    stage.faults.put(super::Fault::Error).unwrap();
    assert!(supervisor.start_child(spec).is_err());
    down(&child);
}

#[offspring::test(timeout = "20s")]
fn a_name_is_registered_with_the_handle_and_free_when_it_is_down() {
    let stage = Stage::new();
    let open = || {
        let builder = ActorBuilder::new().register("the one");
        ChildSpec::with_handle::<ActorRef<Child>>("child", builder, stage.setup("child"))
    };
    let (spec, child) = open().unwrap();
    assert_eq!(child.name(), "the one");
    assert_eq!(find::<Child>("the one").unwrap(), child);
    assert!(matches!(open(), Err(StartError::NameTaken { .. })));
    drop(spec);
    let (spec, _child) = open().unwrap();
    drop(Supervisor::builder().child(spec).start().unwrap());
}

#[offspring::test(timeout = "20s")]
fn what_is_cast_before_the_start_is_handled_after_it() {
    let stage = Stage::new();
    let (spec, child) = with_handle(&stage, "a");
    child.cast(Order::Abnormal).unwrap();
    let supervisor = Supervisor::builder().child(spec).start().unwrap();
    let info = until(&supervisor, "a", ChildState::Up, 1);
    assert_eq!(info.last_end, Some(DownReason::Failed("it was told to".to_owned())));
    let log: Queue<String> = stage.log.clone();
    assert_eq!(log.get().unwrap(), "start a");
}

#[offspring::test(timeout = "20s")]
fn a_crash_loop_ends_with_an_error_that_names_the_limit() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a"]).start().unwrap();
    let child = super::child(&supervisor, "a");
    // Three restarts are forgiven, as in Elixir.
    for restarts in 1..=3 {
        kill(pid(&supervisor, "a"));
        until(&supervisor, "a", ChildState::Up, restarts);
    }
    kill(pid(&supervisor, "a"));
    let end = supervisor.wait().to_string();
    assert!(end.starts_with("more than 3 restarts within 5s"), "{end}");
    let error = child.call(Order::Pid).unwrap_err().to_string();
    assert!(error.contains("after 3 restarts within 5s"), "{error}");
    assert!(error.contains("`SupervisorBuilder::intensity`"), "{error}");
}

#[offspring::test(timeout = "60s")]
fn a_slow_start_holds_up_no_child_that_is_up_and_no_call_for_good() {
    let stage = Stage::new();
    let slow = ActorBuilder::new().name("slow").start_timeout(Duration::from_secs(1));
    let slow = ChildSpec::actor_with::<Child>("slow", slow, stage.setup("slow"));
    let supervisor = stage.builder(&["other"]).child(slow).start().unwrap();
    let other = super::child(&supervisor, "other");
    // Its next start hangs until the limit; the one after that works.
    stage.faults.put(super::Fault::Hang).unwrap();
    let first = pid(&supervisor, "other");
    end(&supervisor, "slow", Order::Abnormal);
    crate::support::eventually("the start hangs", || stage.faults.is_empty().unwrap());
    assert_eq!(other.call(Order::Pid).unwrap(), first, "it is up all the time");
    // Now the supervisor has two things to do, and a call waits for both.
    kill(first);
    let patient = other.with_timeout(super::LONG * 3);
    let second = loop {
        match patient.call(Order::Pid) {
            Ok(pid) => break pid,
            Err(CallError::Restarted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_ne!(second, first);
    until(&supervisor, "slow", ChildState::Up, 1);
}
