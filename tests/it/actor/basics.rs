//! Start, call, cast, stop.

use std::time::{Duration, Instant};

use offspring::actor::{ActorBuilder, CallError, CastError, DownReason, StartError, spawn};
use offspring::{ExitReason, Queue};

use super::{Counter, Fault, LONG, Message, Reply, SHORT, Setup};
use crate::support::{eventually, is_running, open_fds};

fn counter() -> offspring::actor::ActorOwner<offspring::actor::ActorRef<Counter>> {
    spawn::<Counter>(Setup::default()).unwrap()
}

#[offspring::test(timeout = "20s")]
fn a_call_returns_the_reply_and_a_cast_does_not_wait() {
    let counter = counter();
    assert_eq!(counter.call(Message::Add(3)).unwrap(), Reply::Number(3));
    counter.cast(Message::Add(4)).unwrap();
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(7));
    assert_ne!(counter.call(Message::Pid).unwrap().number(), u64::from(std::process::id()));
    assert_eq!(counter.stop(), DownReason::Shutdown);
}

#[offspring::test(timeout = "20s")]
fn the_stop_hook_runs_with_the_reason_after_what_lies_in_the_mailbox() {
    let stopped = Queue::unbounded().unwrap();
    let setup = Setup { stopped: Some(stopped.clone()), ..Setup::default() };
    let counter = spawn::<Counter>(setup.clone()).unwrap();
    let (sender, values) = offspring::channel().unwrap();
    (0..50).for_each(|_| counter.cast(Message::Add(1)).unwrap());
    counter.cast(Message::Send(sender)).unwrap();
    drop(counter);
    assert_eq!(values.recv().unwrap(), 50, "dropping the owner stops the actor after its mail");
    assert_eq!(stopped.get().unwrap(), DownReason::Shutdown.to_string());

    let counter = spawn::<Counter>(setup.clone()).unwrap();
    counter.call(Message::Stop).unwrap();
    assert_eq!(stopped.get().unwrap(), DownReason::Normal.to_string());
    assert_eq!(counter.stop(), DownReason::Normal);

    let counter = spawn::<Counter>(setup).unwrap();
    counter.cast(Message::Fail("no more".to_owned())).unwrap();
    assert_eq!(stopped.get().unwrap(), "failed: no more");
    assert_eq!(counter.stop(), DownReason::Failed("no more".to_owned()));
}

#[offspring::test(timeout = "20s")]
fn a_start_that_fails_returns_the_reason_and_leaves_nothing() {
    let start = |fault| {
        let setup = Setup { fault: Some(fault), ..Setup::default() };
        ActorBuilder::new()
            .name("unlucky")
            .start_timeout(if matches!(fault, Fault::Hang) { SHORT * 3 } else { LONG })
            .spawn::<Counter>(setup)
            .unwrap_err()
    };
    let error = start(Fault::Error);
    assert_eq!(error.to_string(), "actor `unlucky` did not start: it failed: it shall not start");
    let StartError::Down { reason, .. } = start(Fault::Panic) else { panic!("not told as down") };
    let DownReason::Died(ExitReason::Panicked(report)) = reason else {
        panic!("not told as a panic: {reason}")
    };
    assert_eq!(report.message, "it panics in its start");
    let hung = start(Fault::Hang);
    assert!(hung.is_timeout() && matches!(hung, StartError::Timeout { .. }));
    let children = offspring::active_children();
    assert!(children.iter().all(|child| child.name() != "unlucky"), "{children:?}");
}

#[offspring::test(timeout = "20s")]
fn invalid_options_are_refused_before_a_process_starts() {
    assert!(matches!(
        ActorBuilder::new().mailbox(0).spawn::<Counter>(Setup::default()),
        Err(StartError::Create { .. })
    ));
    assert!(matches!(
        ActorBuilder::new().name("").spawn::<Counter>(Setup::default()),
        Err(StartError::Spawn { .. })
    ));
}

#[offspring::test(timeout = "20s")]
fn a_call_times_out_and_its_late_reply_is_dropped() {
    let counter = counter();
    let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let since = Instant::now();
    let error = counter.call_timeout(Message::Hold(holds, free.clone()), SHORT).unwrap_err();
    // The actor is still busy, since it is freed only now.
    assert!(error.is_timeout() && since.elapsed() >= SHORT, "{error}");
    free.close().unwrap();
    assert_eq!(counter.call(Message::Text("next".to_owned())).unwrap().text(), "next");
    let patient = counter.with_timeout(Duration::ZERO);
    assert!(matches!(
        patient.call(Message::Get),
        Err(CallError::Timeout { .. }) | Ok(Reply::Number(0))
    ));
    assert_eq!(counter.timeout(), Duration::from_secs(5), "OTP's default");
}

#[offspring::test(timeout = "20s")]
fn a_full_mailbox_holds_casts_back() {
    let counter = ActorBuilder::new().mailbox(4).spawn::<Counter>(Setup::default()).unwrap();
    let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    counter.cast(Message::Hold(holds.clone(), free.clone())).unwrap();
    holds.get().unwrap();
    let taken = (0..20).take_while(|_| counter.try_cast(Message::Add(1)).is_ok()).count();
    // The mailbox thread may hold one more, which waits for the state.
    assert!((4..=5).contains(&taken), "{taken} casts were taken");
    let since = Instant::now();
    let error = counter.cast_timeout(Message::Add(1), SHORT).unwrap_err();
    assert!(error.is_full() && since.elapsed() >= SHORT);
    let text = format!("cannot cast to actor `{}`: its mailbox is full", counter.name());
    assert_eq!((error.to_string(), error.actor()), (text, counter.name()));
    assert!(matches!(error.into_inner(), Message::Add(1)));
    free.close().unwrap();
    assert_eq!(counter.call(Message::Get).unwrap().number(), taken as u64);
}

#[offspring::worker]
fn casts_without_waiting(counter: offspring::ActorRef<Counter>, count: u64) -> bool {
    (0..count).all(|_| counter.try_cast(Message::Add(1)).is_ok())
}

#[offspring::test(timeout = "20s")]
fn a_cast_that_does_not_wait_is_taken_while_there_is_room_also_from_afar() {
    let counter = ActorBuilder::new().mailbox(16).spawn::<Counter>(Setup::default()).unwrap();
    let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    counter.cast(Message::Hold(holds.clone(), free.clone())).unwrap();
    holds.get().unwrap();
    // Two processes, one after the other: the second gets the credit that the first did not use.
    for _ in 0..2 {
        assert!(casts_without_waiting::spawn(counter.address(), 7).unwrap().join().unwrap());
    }
    assert!(!casts_without_waiting::spawn(counter.address(), 7).unwrap().join().unwrap());
    free.close().unwrap();
    assert!(counter.call(Message::Get).unwrap().number() >= 16);
}

#[offspring::test(timeout = "20s")]
fn a_full_mailbox_does_not_delay_the_owners_stop() {
    let counter =
        ActorBuilder::new().mailbox(1).grace(SHORT).spawn::<Counter>(Setup::default()).unwrap();
    counter.cast(Message::Sleep(LONG)).unwrap();
    while counter.try_cast(Message::Sleep(LONG)).is_ok() {}
    let since = Instant::now();
    assert!(matches!(
        counter.stop(),
        DownReason::Died(ExitReason::Killed { .. } | ExitReason::Signaled { .. })
    ));
    assert!(since.elapsed() < LONG / 2, "it was killed after its grace");
}

#[offspring::test(timeout = "20s")]
fn a_message_that_does_not_cross_fails_that_call_only() {
    let counter = counter();
    let error = counter.call(Message::Unencodable).unwrap_err();
    assert!(matches!(&error, CallError::Refused { .. }), "{error}");
    assert_eq!(counter.call(Message::Add(1)).unwrap().number(), 1);
    // Through the mailbox, too.
    counter.cast(Message::Add(1)).unwrap();
    assert!(matches!(counter.call(Message::Unencodable), Err(CallError::Refused { .. })));
    assert_eq!(counter.call(Message::Get).unwrap().number(), 2);
}

#[offspring::test(timeout = "30s")]
fn large_messages_and_replies_cross() {
    let counter = counter();
    let text = "x".repeat(3 << 20);
    assert_eq!(counter.call(Message::Text(text.clone())).unwrap().text(), text);
    counter.cast(Message::Text(text.clone())).unwrap();
    assert_eq!(counter.call(Message::Text(text.clone())).unwrap().text(), text);
}

#[offspring::test(timeout = "30s")]
fn threads_of_one_process_get_their_own_replies() {
    let counter = counter();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let counter = counter.address();
            scope.spawn(move || {
                for n in 0..200 {
                    let text = format!("{thread} {n}");
                    assert_eq!(counter.call(Message::Text(text.clone())).unwrap().text(), text);
                    if n % 10 == 0 {
                        counter.cast(Message::Add(1)).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(counter.call(Message::Get).unwrap().number(), 160);
}

#[offspring::test(timeout = "20s")]
fn a_stopped_actor_is_down_for_all_clients() {
    let counter = counter();
    let address = counter.address();
    let pid = counter.pid().unwrap();
    counter.stop();
    assert!(!counter.is_alive() && counter.pid().is_none());
    eventually("its process is gone", || !is_running(pid));
    let error = address.call(Message::Get).unwrap_err();
    assert_eq!(error.down_reason(), Some(&DownReason::Shutdown), "{error}");
    assert!(error.is_end() && !error.is_timeout());
    let error = address.cast(Message::Get).unwrap_err();
    assert!(
        matches!(&error, CastError::Down { reason: DownReason::Shutdown, .. }) && error.is_end(),
        "{error}"
    );
}

#[offspring::test(timeout = "60s")]
fn actors_leave_no_descriptors() {
    let one = || {
        let counter = counter();
        counter.call(Message::Add(1)).unwrap();
        counter.cast(Message::Add(1)).unwrap();
        counter.stop();
    };
    (0..3).for_each(|_| one());
    let before = open_fds();
    (0..20).for_each(|_| one());
    eventually("no descriptor is left", || open_fds() <= before + 2);
}

#[offspring::test(timeout = "60s")]
fn once_stop_returns_no_message_is_accepted_and_the_name_is_free() {
    for round in 0..20 {
        let builder = ActorBuilder::new().register("stopping");
        let counter = builder.spawn::<Counter>(Setup::default()).unwrap();
        if round % 2 == 0 {
            counter.stop();
        } else {
            counter.kill();
        }
        assert!(counter.cast(Message::Add(1)).is_err(), "round {round}");
        assert!(offspring::actor::find::<Counter>("stopping").is_err(), "round {round}");
    }
}
