//! kill -9 and panics.

use std::time::Instant;

use offspring::actor::{ActorRef, CallError, DownReason, spawn};
use offspring::{ExitReason, Queue};

use super::{Counter, LONG, Message, Reply, Setup};

#[offspring::test(timeout = "20s")]
fn a_call_whose_actor_dies_is_an_error_at_once() {
    for (message, expected) in
        [(Message::Panic("oh".to_owned()), "panicked"), (Message::Abort, "SIGABRT")]
    {
        for through_mailbox in [false, true] {
            let counter = spawn::<Counter>(Setup::default()).unwrap();
            if through_mailbox {
                counter.cast(Message::Add(1)).unwrap();
            }
            let since = Instant::now();
            let error = counter.call_timeout(message.clone(), LONG * 2).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(matches!(error, CallError::Down { .. }));
            assert!(since.elapsed() < LONG, "not by the timeout");
        }
    }
}

#[offspring::worker]
fn call_sleepy(counter: ActorRef<Counter>, asks: Queue<()>) -> String {
    asks.put(()).expect("the test lives");
    match counter.call(Message::Sleep(LONG * 10)) {
        Ok(_) => "a reply".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[offspring::test(timeout = "20s")]
fn all_waiting_callers_learn_of_the_death() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let patient = counter.with_timeout(LONG * 10);
    let asks = Queue::unbounded().unwrap();
    let clients: Vec<_> =
        (0..3).map(|_| call_sleepy::spawn(patient.clone(), asks.clone()).unwrap()).collect();
    (0..3).for_each(|_| asks.get().unwrap());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| patient.call(Message::Sleep(LONG * 10)).unwrap_err()))
            .collect();
        // By now, one of them is being handled.
        std::thread::sleep(super::SHORT);
        counter.kill();
        for thread in threads {
            let error = thread.join().unwrap();
            assert!(error.to_string().contains("SIGKILL"), "{error}");
        }
    });
    for client in clients {
        assert!(client.join().unwrap().contains("SIGKILL"));
    }
}

#[offspring::test(timeout = "20s")]
fn the_death_of_a_client_does_not_disturb_the_others() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    for _ in 0..5 {
        let asks = Queue::unbounded().unwrap();
        let client = call_sleepy::spawn(counter.with_timeout(LONG), asks.clone()).unwrap();
        asks.get().unwrap();
        client.kill();
        assert!(client.join().is_err());
        // The call of the dead client may still be handled, so the next round has a new actor.
        let other = spawn::<Counter>(Setup::default()).unwrap();
        assert_eq!(other.call(Message::Get).unwrap(), Reply::Number(0));
    }
    assert_eq!(
        counter.kill(),
        DownReason::Died(ExitReason::Killed {
            cause: offspring::process::KillCause::Kill,
            signal: 9
        })
    );
}

#[offspring::worker]
fn cast_and_die(counter: ActorRef<Counter>, count: u64) {
    (0..count).for_each(|_| counter.cast(Message::Add(1)).expect("the actor lives"));
    std::process::abort();
}

#[offspring::test(timeout = "20s")]
fn casts_survive_their_sender() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let client = cast_and_die::spawn(counter.address(), 300).unwrap();
    assert!(client.join().is_err());
    crate::support::eventually("all were handled", || {
        counter.call(Message::Get).unwrap().number() == 300
    });
}
