//! The cases of OTP's `supervisor_SUITE` that apply here, under the same names.

use std::time::{Duration, Instant};

use offspring::actor::DownReason;
use offspring::supervisor::{
    ChildState, Restart, Shutdown, Strategy, Supervisor, SupervisorEnd, SupervisorError,
    SupervisorEvent,
};

use super::{Fault, LONG, Order, Stage, child, end, gone, info, kill, pid, spec, until};

#[offspring::test(timeout = "20s")]
fn sup_start_normal() {
    let supervisor = Supervisor::builder().start().unwrap();
    assert!(supervisor.children().is_empty());
    assert_eq!(supervisor.stop(), SupervisorEnd::Stopped);
}

#[offspring::test(timeout = "20s")]
fn sup_start_fail() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a", "b"]);
    let c = stage.setup("c");
    let faulty = super::Stage::new();
    faulty.faults.put(Fault::Error).unwrap();
    let error = supervisor
        .child(faulty.child("fails"))
        .child(offspring::supervisor::ChildSpec::actor::<super::Child>("c", c));
    let error = error.start().unwrap_err();
    assert!(matches!(&error, SupervisorError::Start { id, .. } if id == "fails"), "{error}");
    stage.wrote(&["start a", "start b", "stop b", "stop a"]);
    stage.wrote_nothing();
}

#[offspring::test(timeout = "20s")]
fn sup_stop_infinity_and_order() {
    let stage = Stage::new();
    let supervisor = Supervisor::builder()
        .children(["a", "b", "c"].map(|name| stage.child(name).shutdown(Shutdown::Infinity)))
        .start()
        .unwrap();
    stage.wrote(&["start a", "start b", "start c"]);
    drop(supervisor);
    stage.wrote(&["stop c", "stop b", "stop a"]);
}

#[offspring::test(timeout = "20s")]
fn sup_stop_timeout() {
    let stage = Stage::new();
    let patience = Shutdown::Timeout(Duration::from_millis(300));
    let supervisor =
        Supervisor::builder().child(stage.child("hangs").shutdown(patience)).start().unwrap();
    let hangs = child(&supervisor, "hangs");
    let process = pid(&supervisor, "hangs");
    let call = std::thread::spawn(move || hangs.call_timeout(Order::Hang, LONG));
    stage.wrote(&["start hangs", "hang hangs"]);
    let since = Instant::now();
    supervisor.stop();
    assert!(since.elapsed() >= Duration::from_millis(300));
    call.join().unwrap().unwrap_err();
    stage.wrote_nothing();
    assert!(!crate::support::is_running(process));
}

#[offspring::test(timeout = "20s")]
fn sup_stop_brutal_kill() {
    let stage = Stage::new();
    let supervisor =
        Supervisor::builder().child(stage.child("a").shutdown(Shutdown::Kill)).start().unwrap();
    supervisor.stop();
    stage.wrote(&["start a"]);
    stage.wrote_nothing();
}

#[offspring::test(timeout = "30s")]
fn child_adm() {
    let stage = Stage::new();
    let supervisor = Supervisor::builder().start().unwrap();
    supervisor.start_child(stage.child("a")).unwrap();
    assert!(matches!(
        supervisor.start_child(stage.child("a")),
        Err(SupervisorError::DuplicateId { .. })
    ));
    assert!(matches!(
        supervisor.start_child(stage.child("a/b")),
        Err(SupervisorError::InvalidId { .. })
    ));
    assert!(matches!(supervisor.restart_child("a"), Err(SupervisorError::Running { .. })));
    assert!(matches!(supervisor.delete_child("a"), Err(SupervisorError::Running { .. })));
    assert!(matches!(supervisor.stop_child("b"), Err(SupervisorError::NotFound { .. })));
    supervisor.stop_child("a").unwrap();
    assert_eq!(info(&supervisor, "a").unwrap().state, ChildState::Stopped);
    supervisor.stop_child("a").unwrap();
    supervisor.restart_child("a").unwrap();
    assert_eq!(child(&supervisor, "a").call(Order::Pid).unwrap(), pid(&supervisor, "a"));
    supervisor.stop_child("a").unwrap();
    supervisor.delete_child("a").unwrap();
    assert!(supervisor.children().is_empty());
    assert!(matches!(supervisor.restart_child("a"), Err(SupervisorError::NotFound { .. })));
    stage.faults.put(Fault::Error).unwrap();
    assert!(matches!(supervisor.start_child(stage.child("b")), Err(SupervisorError::Start { .. })));
    assert!(supervisor.children().is_empty());
    supervisor.stop();
    let ended = supervisor.start_child(stage.child("c")).unwrap_err();
    assert!(ended.is_end() && matches!(ended, SupervisorError::Ended));
}

/// Ends a child in this way, and checks whether it is restarted.
fn one(restart: Restart, order: Order, restarted: Option<bool>) {
    let stage = Stage::new();
    let supervisor = Supervisor::builder()
        .child(spec(&stage, "one", restart))
        .child(stage.child("bystander"))
        .start()
        .unwrap();
    let bystander = pid(&supervisor, "bystander");
    end(&supervisor, "one", order);
    match restarted {
        Some(true) => {
            until(&supervisor, "one", ChildState::Up, 1);
        }
        Some(false) => {
            until(&supervisor, "one", ChildState::Stopped, 0);
            // As in OTP, the specification is kept.
            supervisor.restart_child("one").unwrap();
        }
        None => gone(&supervisor, "one"),
    }
    assert_eq!(pid(&supervisor, "bystander"), bystander);
}

macro_rules! restart_types {
    ($($name:ident: $restart:ident $order:ident $restarted:expr;)*) => {$(
        #[offspring::test(timeout = "20s")]
        fn $name() {
            one(Restart::$restart, Order::$order, $restarted);
        }
    )*};
}

restart_types! {
    permanent_normal: Permanent Normal Some(true);
    transient_normal: Transient Normal Some(false);
    temporary_normal: Temporary Normal None;
    permanent_shutdown: Permanent Shutdown Some(true);
    transient_shutdown: Transient Shutdown Some(false);
    temporary_shutdown: Temporary Shutdown None;
    permanent_abnormal: Permanent Abnormal Some(true);
    transient_abnormal: Transient Abnormal Some(true);
    temporary_abnormal: Temporary Abnormal None;
}

#[offspring::test(timeout = "20s")]
fn temporary_bystander() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let stage = Stage::new();
        let supervisor = Supervisor::builder()
            .strategy(strategy)
            .child(stage.child("permanent"))
            .child(spec(&stage, "temporary", Restart::Temporary))
            .start()
            .unwrap();
        kill(pid(&supervisor, "permanent"));
        until(&supervisor, "permanent", ChildState::Up, 1);
        gone(&supervisor, "temporary");
        stage.wrote(&["start permanent", "start temporary", "stop temporary", "start permanent"]);
    }
}

#[offspring::test(timeout = "20s")]
fn one_for_one() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a", "b", "c"]).start().unwrap();
    let (a, c) = (pid(&supervisor, "a"), pid(&supervisor, "c"));
    kill(pid(&supervisor, "b"));
    until(&supervisor, "b", ChildState::Up, 1);
    assert_eq!((pid(&supervisor, "a"), pid(&supervisor, "c")), (a, c));
    let order: Vec<_> = supervisor.children().into_iter().map(|child| child.id).collect();
    assert_eq!(order, ["a", "b", "c"]);
    stage.wrote(&["start a", "start b", "start c", "start b"]);
}

fn escalates(strategy: Strategy, stopped: &[&str]) {
    let stage = Stage::new();
    let supervisor =
        stage.builder(&["a", "b", "c"]).strategy(strategy).intensity(0).start().unwrap();
    let addresses = ["a", "b", "c"].map(|id| child(&supervisor, id));
    stage.wrote(&["start a", "start b", "start c"]);
    let mut events = supervisor.events();
    kill(pid(&supervisor, "b"));
    let SupervisorEnd::GaveUp { id, reason, .. } = supervisor.wait() else {
        panic!("it did not give up")
    };
    assert_eq!(id, "b");
    assert!(matches!(reason, DownReason::Died(_)));
    stage.wrote(stopped);
    stage.wrote_nothing();
    assert_eq!(
        events.by_ref().filter(|event| matches!(event, SupervisorEvent::GaveUp { .. })).count(),
        1
    );
    for address in addresses {
        let error = address.call(Order::Pid).unwrap_err();
        let Some(DownReason::SupervisorGaveUp { child, reason, intensity: 0, .. }) =
            error.down_reason()
        else {
            panic!("{error}")
        };
        assert!(child == "b" && matches!(**reason, DownReason::Died(_)), "{error}");
        assert!(
            error.to_string().contains("given up by its supervisor after 0 restarts within 5s"),
            "{error}"
        );
    }
    assert!(matches!(supervisor.stop_child("a"), Err(SupervisorError::Ended)));
}

#[offspring::test(timeout = "20s")]
fn one_for_one_escalation() {
    escalates(Strategy::OneForOne, &["stop c", "stop a"]);
}

#[offspring::test(timeout = "20s")]
fn one_for_all() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a", "b", "c"]).strategy(Strategy::OneForAll).start().unwrap();
    stage.wrote(&["start a", "start b", "start c"]);
    kill(pid(&supervisor, "b"));
    stage.wrote(&["stop c", "stop a", "start a", "start b", "start c"]);
    until(&supervisor, "c", ChildState::Up, 1);
}

#[offspring::test(timeout = "20s")]
fn one_for_all_escalation() {
    escalates(Strategy::OneForAll, &["stop c", "stop a"]);
}

/// The first attempt to restart the group fails at the second child.
fn another_fails(strategy: Strategy, expected: &[&str]) {
    let stage = Stage::new();
    let faulty = Stage { log: stage.log.clone(), faults: offspring::Queue::unbounded().unwrap() };
    let supervisor = Supervisor::builder()
        .strategy(strategy)
        .intensity(2)
        .child(stage.child("a"))
        .child(faulty.child("b"))
        .child(stage.child("c"))
        .start()
        .unwrap();
    stage.wrote(&["start a", "start b", "start c"]);
    faulty.faults.put(Fault::Error).unwrap();
    kill(pid(&supervisor, "a"));
    stage.wrote(expected);
    until(&supervisor, "c", ChildState::Up, 1);
}

#[offspring::test(timeout = "20s")]
fn one_for_all_other_child_fails_restart() {
    another_fails(
        Strategy::OneForAll,
        &["stop c", "stop b", "start a", "stop a", "start a", "start b", "start c"],
    );
}

#[offspring::test(timeout = "20s")]
fn rest_for_one() {
    let stage = Stage::new();
    let supervisor =
        stage.builder(&["a", "b", "c"]).strategy(Strategy::RestForOne).start().unwrap();
    stage.wrote(&["start a", "start b", "start c"]);
    let a = pid(&supervisor, "a");
    kill(pid(&supervisor, "b"));
    stage.wrote(&["stop c", "start b", "start c"]);
    until(&supervisor, "c", ChildState::Up, 1);
    assert_eq!(pid(&supervisor, "a"), a);
}

#[offspring::test(timeout = "20s")]
fn rest_for_one_escalation() {
    escalates(Strategy::RestForOne, &["stop c", "stop a"]);
}

#[offspring::test(timeout = "20s")]
fn rest_for_one_other_child_fails_restart() {
    // The child before it stays up.
    another_fails(Strategy::RestForOne, &["stop c", "stop b", "start a", "start b", "start c"]);
}

#[offspring::test(timeout = "20s")]
fn hanging_restart_loop() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a"]).intensity(3).start().unwrap();
    (0..100).for_each(|_| stage.faults.put(Fault::Error).unwrap());
    kill(pid(&supervisor, "a"));
    assert!(matches!(supervisor.wait(), SupervisorEnd::GaveUp { .. }));
    // The kill and three failed starts; there is no fourth.
    assert_eq!(stage.faults.len().unwrap(), 97);
}

#[offspring::test(timeout = "20s")]
fn count_and_which_children() {
    let stage = Stage::new();
    let supervisor = stage.builder(&["a", "b"]).start().unwrap();
    supervisor.stop_child("a").unwrap();
    let states: Vec<_> = supervisor
        .children()
        .into_iter()
        .map(|child| (child.id, child.state, child.pid.is_some()))
        .collect();
    assert_eq!(
        states,
        [("a".to_owned(), ChildState::Stopped, false), ("b".to_owned(), ChildState::Up, true)]
    );
}
