//! Ends at inconvenient moments: in a start, in a stop, of the supervisor, of several at once.

use std::time::Duration;

use offspring::actor::{ActorBuilder, CallError, DownReason};
use offspring::supervisor::{
    ChildSpec, ChildState, Restart, Shutdown, StartInfo, Supervisor, SupervisorEnd,
    SupervisorError, SupervisorEvent,
};

use super::{Child, Fault, LONG, Order, Stage, child, kill, pid, until};
use crate::support::is_running;

/// Other tests have children too.
fn none_named(names: &[&str]) -> bool {
    offspring::active_children().iter().all(|child| !names.contains(&child.name()))
}

#[offspring::test(timeout = "30s")]
fn a_child_that_dies_in_its_start_did_not_start() {
    let stage = Stage::new();
    stage.faults.put(Fault::Abort).unwrap();
    let Err(SupervisorError::Start { cause, .. }) = stage.builder(&["a"]).start() else {
        panic!("it started")
    };
    assert!(cause.to_string().contains("SIGABRT"), "{cause}");
    // In a restart it is tried again, and counts.
    let supervisor = stage.builder(&["a"]).intensity(2).start().unwrap();
    let events = supervisor.events();
    let address = child(&supervisor, "a");
    stage.faults.put(Fault::Abort).unwrap();
    kill(pid(&supervisor, "a"));
    until(&supervisor, "a", ChildState::Up, 1);
    assert_eq!(address.call(Order::Pid).unwrap(), pid(&supervisor, "a"));
    let seen = std::iter::from_fn(|| events.next_timeout(Duration::ZERO));
    assert_eq!(
        seen.filter(|event| matches!(event, SupervisorEvent::StartFailed { .. })).count(),
        1
    );
}

#[offspring::test(timeout = "120s")]
fn a_start_that_hangs_is_bounded_and_escalates() {
    let stage = Stage::new();
    let start = |limit| {
        let builder = ActorBuilder::new().name("sluggish").start_timeout(limit);
        // So long a period that all restarts of a busy machine fall into it.
        Supervisor::builder()
            .period(LONG * 360)
            .child(ChildSpec::actor_with::<Child>("a", builder, stage.setup("a")))
            .start()
    };
    // The first start has the same limit. If the machine is too busy for it, the limit grows.
    let mut limits = (0..7).map(|doubled| Duration::from_millis(300 << doubled));
    let supervisor = limits.find_map(|limit| start(limit).ok()).expect("it starts within 19 s");
    let address = child(&supervisor, "a");
    (0..9).for_each(|_| stage.faults.put(Fault::Hang).unwrap());
    kill(pid(&supervisor, "a"));
    // Each start would hang for ever.
    let SupervisorEnd::GaveUp { reason, .. } = supervisor.wait() else {
        panic!("it did not give up")
    };
    assert!(reason.to_string().contains("did not start within"), "{reason}");
    assert!(matches!(address.call(Order::Pid), Err(CallError::Down { .. })));
    assert!(none_named(&["sluggish"]));
}

#[offspring::test(timeout = "60s")]
fn a_stop_in_the_middle_of_restarts_leaves_nothing() {
    for round in 0..12 {
        let stage = Stage::new();
        let supervisor = stage
            .builder(&["restless a", "restless b", "restless c"])
            .intensity(100)
            .start()
            .unwrap();
        let b = child(&supervisor, "restless b");
        for id in ["restless a", "restless b", "restless c"] {
            kill(pid(&supervisor, id));
        }
        // Sometimes before, sometimes after one of them is up again.
        std::thread::sleep(Duration::from_millis(round));
        assert_eq!(supervisor.stop(), SupervisorEnd::Stopped);
        assert!(none_named(&["restless a", "restless b", "restless c"]));
        assert!(
            supervisor
                .children()
                .iter()
                .all(|child| child.state == ChildState::Stopped && child.pid.is_none())
        );
        assert!(matches!(b.call(Order::Pid), Err(CallError::Down { .. })));
    }
}

#[offspring::test(timeout = "30s")]
fn a_call_to_a_stopped_child_ends_before_all_children_are_stopped() {
    let stage = Stage::new();
    let slow = Shutdown::Timeout(LONG);
    let supervisor = Supervisor::builder()
        .child(stage.child("slow").shutdown(slow))
        .child(stage.child("quick").shutdown(Shutdown::Kill))
        .start()
        .unwrap();
    stage.wrote(&["start slow", "start quick"]);
    let hang = |id| {
        let address = child(&supervisor, id);
        let call = std::thread::spawn(move || address.call_timeout(Order::Hang, 2 * LONG));
        stage.wrote(&[&format!("hang {id}")]);
        call
    };
    let (slow, quick) = (hang("slow"), hang("quick"));
    let slow_pid = pid(&supervisor, "slow");
    std::thread::scope(|scope| {
        scope.spawn(|| supervisor.stop());
        let error = quick.join().unwrap().unwrap_err();
        assert_eq!(error.down_reason(), Some(&DownReason::Shutdown), "{error}");
        assert_eq!(supervisor.wait_timeout(Duration::ZERO), None, "`slow` still runs");
        assert!(!slow.is_finished());
        kill(slow_pid);
    });
    slow.join().unwrap().unwrap_err();
}

#[offspring::test(timeout = "60s")]
fn a_nested_supervisor_that_came_back_is_stopped_with_its_children() {
    for _ in 0..8 {
        let stage = Stage::new();
        let inner = ChildSpec::supervisor("inner", stage.builder(&["a", "b"]).intensity(0));
        let supervisor = Supervisor::builder().intensity(9).child(inner).start().unwrap();
        for restarts in 1..=2 {
            let children = supervisor.children_of("inner").unwrap();
            kill(children[0].pid.unwrap());
            until(&supervisor, "inner", ChildState::Up, restarts);
        }
        let pids: Vec<_> = supervisor
            .children_of("inner")
            .unwrap()
            .into_iter()
            .map(|child| child.pid.unwrap())
            .collect();
        assert_eq!(supervisor.stop(), SupervisorEnd::Stopped);
        assert!(!pids.into_iter().any(is_running));
    }
}

#[offspring::test(timeout = "30s")]
fn a_call_in_flight_fails_when_its_actor_is_restarted() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a"]).start().unwrap();
    let address = child(&supervisor, "a");
    let process = pid(&supervisor, "a");
    let call = std::thread::spawn(move || (address.call_timeout(Order::Hang, LONG), address));
    stage.wrote(&["start a", "hang a"]);
    kill(process);
    let (result, address) = call.join().unwrap();
    assert!(
        matches!(result, Err(CallError::Restarted { reason: DownReason::Died(_), .. })),
        "{result:?}"
    );
    assert_ne!(address.call(Order::Pid).unwrap(), process);
}

#[offspring::test(timeout = "40s")]
fn a_call_in_flight_ends_even_while_the_supervisor_starts_another_child() {
    let stage = Stage::new();
    let supervisor = std::sync::Arc::new(stage.builder(&["a"]).start().unwrap());
    let (address, process) = (child(&supervisor, "a"), pid(&supervisor, "a"));
    let call = std::thread::spawn(move || (address.call_timeout(Order::Hang, LONG), address));
    stage.wrote(&["start a", "hang a"]);
    stage.faults.put(Fault::Hang).unwrap();
    let limit = Duration::from_secs(3);
    let late = ChildSpec::actor_with::<Child>(
        "late",
        ActorBuilder::new().start_timeout(limit),
        stage.setup("late"),
    );
    let asked = supervisor.clone();
    let start = std::thread::spawn(move || asked.start_child(late));
    crate::support::eventually("it starts", || stage.faults.is_empty().unwrap());
    kill(process);
    let (result, address) = call.join().unwrap();
    assert!(!start.is_finished(), "the supervisor is busy still");
    let Err(CallError::Restarted { reason, .. }) = result else { panic!("{result:?}") };
    assert!(matches!(reason, DownReason::Died(_)));
    assert!(start.join().unwrap().is_err());
    // A call that comes meanwhile waits for the restart.
    assert_ne!(address.call(Order::Pid).unwrap(), process);
    until(&supervisor, "a", ChildState::Up, 1);
}

/// A worker whose maker panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[offspring::worker]
fn returns() {}

#[offspring::test(timeout = "30s")]
fn a_closure_that_panics_when_it_is_dropped_does_not_take_the_supervisor_along() {
    let bomb = Bomb;
    let spec = ChildSpec::worker_with("bomb", move |_: &StartInfo| {
        let _ = &bomb;
        returns::new()
    });
    let stage = Stage::new();
    let supervisor = stage.builder(&["a"]).child(spec.restart(Restart::Temporary)).start().unwrap();
    super::gone(&supervisor, "bomb");
    assert_eq!(child(&supervisor, "a").call(Order::Pid).unwrap(), pid(&supervisor, "a"));
    assert_eq!(supervisor.stop(), SupervisorEnd::Stopped);
}
