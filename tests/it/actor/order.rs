//! The order of calls and casts.

use offspring::Queue;
use offspring::actor::{ActorBuilder, ActorRef, spawn};
use offspring::channel::RecvError;

use super::{Counter, Message, Reply, Setup};

#[offspring::worker]
fn add(counter: ActorRef<Counter>, count: u64) {
    for n in 0..count {
        let before = counter.call(Message::Get).expect("the actor lives").number();
        counter.cast(Message::Add(1)).expect("the actor lives");
        let after = counter.call(Message::Get).expect("the actor lives").number();
        assert!(after > before, "call {n} overtook the cast before it");
    }
}

#[offspring::test(timeout = "30s")]
fn a_call_does_not_overtake_the_casts_before_it() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    for n in 1..=500 {
        counter.cast(Message::Add(1)).unwrap();
        assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(n));
        assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(n));
    }
}

#[offspring::test(timeout = "60s")]
fn a_call_from_another_process_does_not_overtake_its_casts() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let clients: Vec<_> = (0..3).map(|_| add::spawn(counter.address(), 200).unwrap()).collect();
    clients.iter().for_each(|client| client.join().unwrap());
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(600));
}

#[offspring::test(timeout = "30s")]
fn calls_and_casts_do_not_starve_each_other() {
    let counter = ActorBuilder::new().mailbox(1000).spawn::<Counter>(Setup::default()).unwrap();
    let flood = Queue::<()>::unbounded().unwrap();
    std::thread::scope(|scope| {
        let (address, end) = (counter.address(), flood.clone());
        scope.spawn(move || {
            while !end.is_closed().unwrap() {
                address.cast(Message::Add(1)).unwrap();
            }
        });
        let caller = caller::spawn(counter.address(), 300).unwrap();
        caller.join().unwrap();
        flood.close().unwrap();
    });
    assert!(counter.call(Message::Get).unwrap().number() > 0);
}

#[offspring::worker]
fn caller(counter: ActorRef<Counter>, count: u64) {
    for _ in 0..count {
        counter.call(Message::Get).expect("a reply in time");
    }
}

#[offspring::test(timeout = "20s")]
fn an_actor_that_stops_itself_handles_no_cast_after_that() {
    let counter = ActorBuilder::new().mailbox(1).spawn::<Counter>(Setup::default()).unwrap();
    let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let (address, gate) = (counter.address(), (holds.clone(), free.clone()));
    let caller =
        std::thread::spawn(move || address.call(Message::HoldAndStop(gate.0, gate.1)).unwrap());
    holds.get().unwrap();
    let (sender, value) = offspring::channel().unwrap();
    counter.cast(Message::Send(sender)).unwrap();
    // There is room again when the actor has taken the first cast, which waits for the call's end.
    counter.cast(Message::Get).unwrap();
    free.close().unwrap();
    assert_eq!(caller.join().unwrap(), Reply::Done);
    assert!(matches!(value.recv(), Err(RecvError::Disconnected)));
    assert!(counter.stop().is_normal());
}
