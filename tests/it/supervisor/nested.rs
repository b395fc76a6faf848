//! Supervisors under supervisors, in one process and in others.

use std::time::Duration;

use offspring::actor::{ActorBuilder, CallError, DownReason, find};
use offspring::supervisor::{
    ChildSpec, ChildState, Restart, Shutdown, Supervisor, SupervisorEnd, SupervisorError,
};
use offspring::{ActorRef, ProcessWorker, Queue, Worker};
use serde::{Deserialize, Serialize};

use super::{Child, LONG, Order, Stage, kill, pid, spec, until};
use crate::support::{eventually, is_running};

#[offspring::test(timeout = "20s")]
fn tree() {
    let stage = Stage::new();
    let inner = ChildSpec::supervisor("inner", stage.builder(&["b", "c"]));
    let supervisor = stage.builder(&["a"]).child(inner).child(stage.child("d")).start().unwrap();
    stage.wrote(&["start a", "start b", "start c", "start d"]);
    let b: ActorRef<Child> = supervisor.actor("inner/b").unwrap();
    let first = b.call(Order::Pid).unwrap();
    assert!(
        supervisor.actor::<Child>("inner/a").is_none() && supervisor.actor::<Child>("b").is_none()
    );
    kill(first);
    stage.wrote(&["start b"]);
    while b.call(Order::Pid).is_err() {}
    assert_ne!(b.call(Order::Pid).unwrap(), first);
    supervisor.stop();
    stage.wrote(&["stop d", "stop c", "stop b", "stop a"]);
}

/// From OTP's case about added children: they are lost when their supervisor is restarted. It then
/// has all children of its own specification, even those that were deleted.
#[offspring::test(timeout = "30s")]
fn tree_with_children_that_were_added() {
    let stage = Stage::new();
    let inner =
        stage.builder(&["a", "b"]).child(spec(&stage, "once", Restart::Temporary)).intensity(0);
    let supervisor =
        Supervisor::builder().child(ChildSpec::supervisor("inner", inner)).start().unwrap();
    supervisor.start_child_of("inner", stage.child("late")).unwrap();
    let error = supervisor.start_child_of("inner/none", stage.child("late")).unwrap_err();
    assert!(matches!(error, SupervisorError::NotFound { .. }));
    stage.wrote(&["start a", "start b", "start once", "start late"]);
    supervisor.stop_child("inner/once").unwrap();
    supervisor.stop_child("inner/b").unwrap();
    supervisor.delete_child("inner/b").unwrap();
    assert!(matches!(supervisor.restart_child("inner/b"), Err(SupervisorError::NotFound { .. })));
    let ids = || supervisor.children_of("inner").unwrap().into_iter().map(|child| child.id);
    assert_eq!(ids().collect::<Vec<_>>(), ["a", "late"]);
    stage.wrote(&["stop once", "stop b"]);
    let (a, late): (ActorRef<Child>, ActorRef<Child>) =
        (supervisor.actor("inner/a").unwrap(), supervisor.actor("inner/late").unwrap());
    kill(a.call(Order::Pid).unwrap());
    stage.wrote(&["stop late", "start a", "start b", "start once"]);
    until(&supervisor, "inner", ChildState::Up, 1);
    assert_eq!(ids().collect::<Vec<_>>(), ["a", "b", "once"]);
    while a.call(Order::Pid).is_err() {}
    assert!(matches!(late.call(Order::Pid), Err(CallError::Down { .. })));
    assert!(supervisor.actor::<Child>("inner/late").is_none());
    assert!(supervisor.actor::<Child>("inner/once").unwrap().call(Order::Pid).is_ok());
    supervisor.stop();
    assert!(matches!(
        supervisor.start_child_of("inner", stage.child("late")),
        Err(SupervisorError::Ended)
    ));
}

#[offspring::test(timeout = "20s")]
fn a_nested_supervisor_that_gives_up_is_started_again_and_addresses_stay() {
    let stage = Stage::new();
    let inner = ChildSpec::supervisor("inner", stage.builder(&["b", "c"]).intensity(0));
    let supervisor = Supervisor::builder().intensity(1).child(inner).start().unwrap();
    stage.wrote(&["start b", "start c"]);
    let b: ActorRef<Child> = supervisor.actor("inner/b").unwrap();
    let c: ActorRef<Child> = supervisor.actor("inner/c").unwrap();
    let before = (b.call(Order::Pid).unwrap(), c.call(Order::Pid).unwrap());
    kill(before.0);
    stage.wrote(&["stop c", "start b", "start c"]);
    let inner = until(&supervisor, "inner", ChildState::Up, 1);
    assert!(matches!(inner.last_end, Some(DownReason::GaveUp(_))));
    while b.call(Order::Pid).is_err() {}
    let after = (b.call(Order::Pid).unwrap(), c.call(Order::Pid).unwrap());
    assert!(after.0 != before.0 && after.1 != before.1);
    // One more is one too many for the outer supervisor.
    kill(after.1);
    until_up_or_end(&supervisor, 2);
    let SupervisorEnd::GaveUp { id, reason, .. } = supervisor.wait() else {
        panic!("it did not give up")
    };
    assert_eq!(id, "inner");
    assert!(matches!(reason, DownReason::GaveUp(_)));
    let error = b.call(Order::Pid).unwrap_err();
    let Some(DownReason::SupervisorGaveUp { child, .. }) = error.down_reason() else {
        panic!("{error}")
    };
    assert_eq!(child, "inner");
}

fn until_up_or_end(supervisor: &Supervisor, restarts: u64) {
    eventually("it is up again or has ended", || {
        let up = super::info(supervisor, "inner")
            .is_some_and(|child| child.state == ChildState::Up && child.restarts == restarts);
        up || supervisor.wait_timeout(Duration::ZERO).is_some()
    });
}

#[offspring::test(timeout = "20s")]
fn two_children_of_one_id_are_refused() {
    let stage = Stage::new();
    assert!(matches!(stage.builder(&["a", "a"]).start(), Err(SupervisorError::DuplicateId { .. })));
    let inner = ChildSpec::supervisor("inner", stage.builder(&["b", "b"]));
    assert!(matches!(
        Supervisor::builder().child(inner).start(),
        Err(SupervisorError::Start { .. })
    ));
    let slash = ChildSpec::supervisor("inner", stage.builder(&["b/c"]));
    let error = Supervisor::builder().child(slash).start().unwrap_err();
    assert!(format!("{error:?}").contains("use another character"), "{error:?}");
    let error = stage.builder(&["a"]).period(Duration::ZERO).start().unwrap_err();
    assert!(matches!(error, SupervisorError::ZeroPeriod));
    stage.wrote_nothing();
}

/// A supervisor in a process of its own.
#[derive(Clone, Serialize, Deserialize, Worker)]
struct Branch {
    setup: super::Setup,
    pids: Queue<u32>,
}

impl ProcessWorker for Branch {
    type Output = ();

    fn run(self) {
        let leaf = ChildSpec::actor_with::<Child>(
            "leaf",
            ActorBuilder::new().register("the leaf"),
            self.setup,
        );
        let supervisor = Supervisor::builder().intensity(0).child(leaf).start().expect("it starts");
        let leaf: ActorRef<Child> = supervisor.actor("leaf").expect("it is there");
        self.pids.put(leaf.call(Order::Pid).expect("it lives")).expect("the test lives");
        supervisor.run();
    }
}

#[offspring::test(timeout = "40s")]
fn a_supervisor_in_a_process_of_its_own() {
    let stage = Stage::new();
    let pids = super::kept_queue(0);
    let branch = Branch { setup: stage.setup("leaf"), pids: pids.clone() };
    let spec = ChildSpec::worker("branch", branch)
        .restart(Restart::Permanent)
        .shutdown(Shutdown::Timeout(LONG));
    let supervisor = Supervisor::builder().intensity(5).child(spec).start().unwrap();
    let leaf = pids.get_timeout(LONG).unwrap();
    // Found from this process, two processes away.
    assert_eq!(find::<Child>("the leaf").unwrap().call(Order::Pid).unwrap(), leaf);
    // When it is killed, everything below it ends with it, and is started again.
    kill(pid(&supervisor, "branch"));
    eventually("the leaf is gone", || !is_running(leaf));
    let leaf = pids.get_timeout(LONG).unwrap();
    // The same when it gives up.
    kill(leaf);
    until(&supervisor, "branch", ChildState::Up, 2);
    let leaf = pids.get_timeout(LONG).unwrap();
    assert_eq!(find::<Child>("the leaf").unwrap().call(Order::Pid).unwrap(), leaf);
    supervisor.stop();
    stage.wrote(&["start leaf", "start leaf", "start leaf", "stop leaf"]);
}
