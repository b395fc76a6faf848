//! The order of calls and casts.

use offspring::Queue;
use offspring::actor::{ActorBuilder, ActorRef, spawn};

use super::{Counter, Message, Reply, Setup};

#[offspring::worker]
fn add(counter: ActorRef<Counter>, count: u64) {
    for n in 0..count {
        let before = counter
            .call(Message::Get)
            .expect("the actor lives")
            .number();
        counter.cast(Message::Add(1)).expect("the actor lives");
        let after = counter
            .call(Message::Get)
            .expect("the actor lives")
            .number();
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
    let clients: Vec<_> = (0..3)
        .map(|_| add::spawn(counter.address(), 200).unwrap())
        .collect();
    clients.iter().for_each(|client| client.join().unwrap());
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(600));
}

#[offspring::test(timeout = "30s")]
fn calls_and_casts_do_not_starve_each_other() {
    let counter = ActorBuilder::new()
        .mailbox(1000)
        .spawn::<Counter>(Setup::default())
        .unwrap();
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
