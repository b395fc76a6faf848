//! Each reply answers its own call.

use std::time::Duration;

use offspring::Queue;
use offspring::actor::{ActorBuilder, ActorRef, CallError, spawn};
use offspring::unix::{ProcessBuilderExt, Resource};

use super::{Counter, LONG, Message, Reply, SHORT, Setup};

/// An actor that handles nothing until it is freed.
struct Held {
    counter: ActorRef<Counter>,
    free: Queue<()>,
    caller: std::thread::JoinHandle<Result<Reply, CallError>>,
}

impl Held {
    fn new(counter: ActorRef<Counter>) -> Held {
        let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
        let (patient, message) =
            (counter.with_timeout(LONG), Message::Hold(holds.clone(), free.clone()));
        let caller = std::thread::spawn(move || patient.call(message));
        holds.get().unwrap();
        Held { counter, free, caller }
    }

    /// Makes calls whose callers have given up when they are handled.
    fn leave(&self, message: &Message, count: u64) {
        for _ in 0..count {
            let call = self.counter.call_timeout(message.clone(), Duration::from_millis(1));
            assert!(matches!(call, Err(CallError::Timeout { .. })), "{call:?}");
        }
    }

    fn let_go(self) {
        self.free.close().unwrap();
        self.caller.join().unwrap().unwrap();
    }
}

#[offspring::test(timeout = "30s")]
fn a_late_reply_does_not_answer_another_call() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    for round in 0..3 {
        let held = Held::new(counter.address());
        held.leave(&Message::Text("late".to_owned()), 40);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let counter = counter.with_timeout(LONG);
                scope.spawn(move || {
                    for n in 0..200 {
                        let text = format!("{round} {thread} {n}");
                        assert_eq!(counter.call(Message::Text(text.clone())).unwrap().text(), text);
                    }
                });
            }
            held.let_go();
        });
    }
}

/// Each call that begins receives what the other caller left, and leads for it meanwhile.
#[offspring::test(timeout = "60s")]
fn two_callers_that_give_up_now_and_then_lose_no_replies() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let counter = counter.with_timeout(LONG);
            scope.spawn(move || {
                for n in 0..1000 {
                    if n % 3 == thread {
                        let _ = counter.call_timeout(Message::Get, Duration::ZERO);
                    }
                    let text = format!("{thread} {n}");
                    assert_eq!(counter.call(Message::Text(text.clone())).unwrap().text(), text);
                }
            });
        }
    });
}

#[offspring::test(timeout = "30s")]
fn calls_that_were_given_up_are_handled_before_later_ones() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let held = Held::new(counter.address());
    held.leave(&Message::Add(1), 40);
    held.let_go();
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(40));
}

#[offspring::worker]
fn get(counter: ActorRef<Counter>) -> u64 {
    counter.with_timeout(LONG).call(Message::Get).expect("the actor lives").number()
}

#[offspring::test(timeout = "30s")]
fn a_client_that_took_no_replies_for_long_gets_the_next_ones() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    for round in 0..2 {
        let held = Held::new(counter.address());
        held.leave(&Message::Long(20_000), 30);
        held.let_go();
        // The actor handles it after it has closed this process's session, whose ring is full of
        // replies.
        assert_eq!(get::spawn(counter.address()).unwrap().join().unwrap(), round);
        assert_eq!(counter.call(Message::Add(1)).unwrap(), Reply::Number(round + 1));
    }
}

#[offspring::worker]
fn call_and_stay(counter: ActorRef<Counter>, called: Queue<u64>) {
    let descriptors = counter.call(Message::Descriptors).expect("the actor lives").number();
    called.put(descriptors).expect("the test lives");
    std::thread::sleep(Duration::from_secs(3600));
}

#[offspring::test(timeout = "60s")]
fn clients_that_were_killed_leave_nothing_in_the_actor() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let called = Queue::unbounded().unwrap();
    let client = || {
        let client = call_and_stay::spawn(counter.address(), called.clone()).unwrap();
        let descriptors = called.get().unwrap();
        client.kill();
        assert!(client.join().is_err());
        descriptors
    };
    let all: Vec<u64> = (0..12).map(|_| client()).collect();
    // The next client makes the actor drop the session that the last one left.
    assert!(all.iter().skip(2).all(|descriptors| *descriptors <= all[1]), "{all:?}");
}

#[offspring::test(timeout = "60s")]
fn an_actor_without_descriptors_lives_on_and_handles_all_later() {
    let few = |process: offspring::ProcessBuilder| process.rlimit(Resource::OpenFiles, 80, 80);
    let counter = ActorBuilder::new().process(few).spawn::<Counter>(Setup::default()).unwrap();
    let patient = counter.with_timeout(LONG);
    let (handle, _receiver) = offspring::channel().unwrap();
    for round in 0..2 {
        assert_eq!(patient.call(Message::Hoard(SHORT * 2)).unwrap(), Reply::Done);
        // Both come with a handle, one directly, one through the mailbox.
        assert_eq!(
            patient.call(Message::Take(handle.clone())).unwrap(),
            Reply::Number(2 * round + 1)
        );
        assert_eq!(patient.call(Message::Hoard(SHORT * 2)).unwrap(), Reply::Done);
        patient.cast(Message::Take(handle.clone())).unwrap();
        assert_eq!(patient.call(Message::Get).unwrap(), Reply::Number(2 * round + 2));
    }
    assert_eq!(counter.call(Message::Generation).unwrap(), Reply::Number(0));
}
