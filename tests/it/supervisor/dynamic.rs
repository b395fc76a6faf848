//! The cases of OTP's suite about children that come and go: its `simple_one_for_one` is a
//! supervisor whose children are started one by one.

use std::time::Duration;

use offspring::supervisor::{
    Backoff, ChildSpec, ChildState, Restart, Strategy, Supervisor, SupervisorEnd, SupervisorError,
};

use super::{Fault, Order, Stage, child, end, gone, info, kill, pid, spec, until};

#[offspring::test(timeout = "30s")]
fn child_specs() {
    let stage = Stage::new();
    let spec = format!("{:?}", stage.child("a"));
    assert!(
        spec.contains("Actor") && spec.contains("Permanent") && spec.contains("Timeout(5s)"),
        "{spec}"
    );
    let supervisor = ChildSpec::supervisor("s", Supervisor::builder());
    assert!(format!("{supervisor:?}").contains("Infinity"));
    assert!(format!("{:?}", Supervisor::builder()).contains("intensity: 3, period: 5s"));
}

#[offspring::test(timeout = "30s")]
fn simple_one_for_one() {
    let stage = Stage::new();
    let supervisor = Supervisor::builder().start().unwrap();
    for name in ["1", "2", "3"] {
        supervisor.start_child(stage.child(name)).unwrap();
    }
    let (first, third) = (pid(&supervisor, "1"), pid(&supervisor, "3"));
    kill(pid(&supervisor, "2"));
    until(&supervisor, "2", ChildState::Up, 1);
    assert_eq!((pid(&supervisor, "1"), pid(&supervisor, "3")), (first, third));
    stage.wrote(&["start 1", "start 2", "start 3", "start 2"]);
    supervisor.stop();
    stage.wrote(&["stop 3", "stop 2", "stop 1"]);
}

#[offspring::test(timeout = "30s")]
fn simple_one_for_one_escalation() {
    let stage = Stage::new();
    let supervisor = Supervisor::builder().intensity(1).start().unwrap();
    supervisor.start_child(stage.child("1")).unwrap();
    supervisor.start_child(stage.child("2")).unwrap();
    kill(pid(&supervisor, "1"));
    until(&supervisor, "1", ChildState::Up, 1);
    kill(pid(&supervisor, "1"));
    assert!(matches!(supervisor.wait(), SupervisorEnd::GaveUp { id, .. } if id == "1"));
    stage.wrote(&["start 1", "start 2", "start 1", "stop 2"]);
}

#[offspring::test(timeout = "60s")]
fn simple_one_for_one_scale_many_temporary_children() {
    let stage = Stage::new();
    let supervisor = Supervisor::builder().start().unwrap();
    for n in 0..40 {
        supervisor.start_child(spec(&stage, &n.to_string(), Restart::Temporary)).unwrap();
    }
    for n in (0..40).step_by(2) {
        kill(pid(&supervisor, &n.to_string()));
    }
    for n in (0..40).step_by(2) {
        gone(&supervisor, &n.to_string());
    }
    assert_eq!(supervisor.children().len(), 20);
    // Temporary children are not restarted, so their ends do not count.
    assert_eq!(supervisor.stop(), SupervisorEnd::Stopped);
}

#[offspring::test(timeout = "30s")]
fn do_not_save_child_specs_for_temporary_children() {
    let stage = Stage::new();
    let supervisor = Supervisor::builder().start().unwrap();
    for order in [Order::Normal, Order::Shutdown, Order::Abnormal] {
        supervisor.start_child(spec(&stage, "temporary", Restart::Temporary)).unwrap();
        end(&supervisor, "temporary", order);
        gone(&supervisor, "temporary");
        assert!(matches!(
            supervisor.restart_child("temporary"),
            Err(SupervisorError::NotFound { .. })
        ));
    }
    supervisor.start_child(spec(&stage, "temporary", Restart::Temporary)).unwrap();
    supervisor.stop_child("temporary").unwrap();
    assert!(supervisor.children().is_empty());
}

#[offspring::test(timeout = "30s")]
fn multiple_restarts() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["1", "2", "3"]).intensity(5).start().unwrap();
    let pids = ["1", "2", "3"].map(|id| pid(&supervisor, id));
    pids.into_iter().for_each(kill);
    for id in ["1", "2", "3"] {
        until(&supervisor, id, ChildState::Up, 1);
        assert_eq!(child(&supervisor, id).call(Order::Pid).unwrap(), pid(&supervisor, id));
    }
    let pids = ["3", "2", "1"].map(|id| pid(&supervisor, id));
    // The sixth restart within the period is one too many.
    pids.into_iter().for_each(kill);
    assert!(matches!(supervisor.wait(), SupervisorEnd::GaveUp { intensity: 5, .. }));
}

#[offspring::test(timeout = "30s")]
fn a_child_that_is_stopped_by_request_while_it_waits_for_its_restart_stays_down() {
    let stage = Stage::new();
    let backoff = offspring::supervisor::Backoff::exponential(super::LONG, super::LONG);
    let supervisor =
        stage.builder(&["a", "b"]).strategy(Strategy::RestForOne).backoff(backoff).start().unwrap();
    let address = child(&supervisor, "a");
    kill(pid(&supervisor, "a"));
    until(&supervisor, "a", ChildState::Restarting, 1);
    assert_eq!(info(&supervisor, "b").unwrap().state, ChildState::Restarting);
    supervisor.stop_child("a").unwrap();
    assert_eq!(info(&supervisor, "a").unwrap().state, ChildState::Stopped);
    let error = address.call(Order::Pid).unwrap_err();
    assert!(error.down_reason().is_some(), "{error}");
    supervisor.delete_child("a").unwrap();
    supervisor.stop();
    stage.wrote(&["start a", "start b", "stop b"]);
    stage.wrote_nothing();
}

#[offspring::test(timeout = "30s")]
fn a_start_that_was_asked_for_and_fails_is_not_tried_again() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a"]).start().unwrap();
    supervisor.stop_child("a").unwrap();
    for fault in [Fault::Error, Fault::Abort] {
        stage.faults.put(fault).unwrap();
        assert!(matches!(supervisor.restart_child("a"), Err(SupervisorError::Start { .. })));
        let a = info(&supervisor, "a").unwrap();
        assert_eq!((a.state, a.restarts), (ChildState::Stopped, 0));
    }
    supervisor.restart_child("a").unwrap();
    assert_eq!(child(&supervisor, "a").call(Order::Pid).unwrap(), pid(&supervisor, "a"));
}

#[offspring::test(timeout = "30s")]
fn a_pending_restart_keeps_its_other_children_when_one_fails_again() {
    let stage = Stage::new();
    let pause = Duration::from_secs(1);
    let supervisor = stage
        .builder(&["a", "b", "c"])
        .strategy(Strategy::RestForOne)
        .intensity(9)
        .backoff(Backoff::exponential(pause, pause))
        .start()
        .unwrap();
    kill(pid(&supervisor, "a"));
    until(&supervisor, "c", ChildState::Restarting, 1);
    // `b` leaves the restart of all three, and its own end then starts one of `b` and `c`.
    supervisor.stop_child("b").unwrap();
    supervisor.restart_child("b").unwrap();
    kill(pid(&supervisor, "b"));
    until(&supervisor, "b", ChildState::Up, 2);
    until(&supervisor, "c", ChildState::Up, 2);
    until(&supervisor, "a", ChildState::Up, 1);
}
