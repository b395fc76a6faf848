//! Restarts: what survives them, and what the next incarnation knows.

use std::time::{Duration, Instant};

use offspring::actor::{ActorBuilder, CallError, DownReason};
use offspring::shared::SharedSlice;
use offspring::supervisor::{
    Backoff, ChildSpec, ChildState, Heartbeat, Restart, Shutdown, StartInfo, Supervisor,
    SupervisorEvent,
};
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{ActorRef, ProcessBuilder, Queue};

use super::{LONG, info, kill, pid, until};
use crate::actor::{Counter, Message, Reply, Setup};
use crate::support::eventually;

fn supervised(builder: ActorBuilder, setup: Setup) -> (Supervisor, ActorRef<Counter>) {
    let supervisor = Supervisor::builder()
        .intensity(100)
        .child(ChildSpec::actor_with::<Counter>("counter", builder.name("counter"), setup))
        .start()
        .unwrap();
    let counter = supervisor.actor("counter").unwrap();
    (supervisor, counter)
}

#[offspring::test(timeout = "30s")]
fn the_address_survives_and_the_generation_counts() {
    let (supervisor, counter) = supervised(ActorBuilder::new(), Setup::default());
    for generation in 0..4 {
        assert_eq!(counter.call(Message::Generation).unwrap().number(), generation);
        assert_eq!(counter.generation().unwrap(), generation);
        let monitor = counter.monitor().unwrap();
        kill(pid(&supervisor, "counter"));
        let down = monitor.wait();
        assert!(down.restarts && down.generation == generation, "{down:?}");
    }
    assert!(counter.call(Message::Previous).unwrap().text().contains("SIGKILL"));
    supervisor.stop();
    assert!(matches!(counter.call(Message::Get), Err(CallError::Down { .. })));
}

#[offspring::worker]
fn calls_on(counter: ActorRef<Counter>, ready: Queue<()>) -> (u64, u64) {
    let (mut replies, mut restarts) = (0, 0);
    ready.put(()).expect("the test lives");
    loop {
        match counter.call(Message::Add(1)) {
            Ok(_) => replies += 1,
            Err(CallError::Restarted { .. }) => restarts += 1,
            Err(CallError::Down { .. }) => return (replies, restarts),
            Err(error) => panic!("{error}"),
        }
    }
}

#[offspring::test(timeout = "60s")]
fn a_client_of_another_process_goes_on_through_restarts() {
    let (supervisor, counter) = supervised(ActorBuilder::new(), Setup::default());
    let ready = Queue::unbounded().unwrap();
    let client = calls_on::spawn(counter.clone(), ready.clone()).unwrap();
    ready.get().unwrap();
    for restarts in 0..10 {
        // Call it in each incarnation.
        let called = || counter.call(Message::Get).is_ok_and(|reply| reply.number() > 10);
        crate::support::eventually("it is called", called);
        kill(pid(&supervisor, "counter"));
        until(&supervisor, "counter", ChildState::Up, restarts + 1);
    }
    supervisor.stop();
    let (replies, restarts) = client.join().unwrap();
    assert!(
        replies > 100 && (1..=10).contains(&restarts),
        "{replies} replies, {restarts} restarts"
    );
}

#[offspring::test(timeout = "60s")]
fn casts_not_yet_taken_survive_and_the_one_in_hand_does_not() {
    for redeliver in [0, 1] {
        let (supervisor, counter) =
            supervised(ActorBuilder::new().redeliver(redeliver), Setup::default());
        let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
        counter.cast(Message::Hold(holds.clone(), free.clone())).unwrap();
        (0..40).for_each(|_| counter.cast(Message::Add(1)).unwrap());
        holds.get_timeout(LONG).unwrap();
        kill(pid(&supervisor, "counter"));
        if redeliver == 1 {
            holds.get_timeout(LONG).expect("the one in hand comes again");
        }
        free.close().unwrap();
        crate::support::eventually("the casts were handled", || {
            counter.call(Message::Get).is_ok_and(|reply| reply.number() == 40)
        });
        assert!(holds.try_get().is_err(), "it came too often");
    }
}

#[offspring::test(timeout = "30s")]
fn the_last_checkpoint_is_what_a_reply_has_shown() {
    let setup = Setup { saves: true, ..Setup::default() };
    let (supervisor, counter) = supervised(ActorBuilder::new(), setup);
    for n in 1..=20 {
        assert_eq!(counter.call(Message::Add(1)).unwrap(), Reply::Number(n));
        if n % 4 == 0 {
            kill(pid(&supervisor, "counter"));
            until(&supervisor, "counter", ChildState::Up, n / 4);
        }
    }
}

#[offspring::test(timeout = "30s")]
fn a_hung_actor_is_killed_and_started_again() {
    let (supervisor, counter) =
        supervised(ActorBuilder::new().heartbeat(Duration::from_millis(200)), Setup::default());
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(info(&supervisor, "counter").unwrap().restarts, 0, "an idle one is not hung");
    let error = counter.call(Message::Sleep(LONG * 10)).unwrap_err();
    let Some(DownReason::Hung { limit }) = error.down_reason() else { panic!("{error}") };
    assert_eq!(*limit, Duration::from_millis(200));
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(0));
}

#[offspring::test(timeout = "30s")]
fn restarts_back_off() {
    let supervisor = Supervisor::builder()
        .intensity(10)
        .backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_millis(400)))
        .child(ChildSpec::actor::<Counter>("counter", Setup::default()))
        .start()
        .unwrap();
    let mut events = supervisor.events();
    let counter: ActorRef<Counter> = supervisor.actor("counter").unwrap();
    for restarts in 1..=4 {
        let since = Instant::now();
        kill(pid(&supervisor, "counter"));
        // A call waits until the child is up again.
        while counter.call(Message::Get).is_err() {}
        until(&supervisor, "counter", ChildState::Up, restarts);
        let least =
            Duration::from_millis(100 << (restarts - 1)).min(Duration::from_millis(400)) / 2;
        assert!(since.elapsed() >= least, "{:?}", since.elapsed());
    }
    supervisor.stop();
    assert_eq!(
        events.by_ref().filter(|event| matches!(event, SupervisorEvent::Restarting { .. })).count(),
        4
    );
}

#[derive(Clone, serde::Serialize, serde::Deserialize, offspring::Worker)]
struct Ticker {
    ticks: Queue<String>,
    previous: String,
    heartbeat: Option<Heartbeat>,
}

impl offspring::ProcessWorker for Ticker {
    type Output = ();

    fn run(self) {
        self.ticks
            .put(format!("{} {}", std::process::id(), self.previous))
            .expect("the test lives");
        // Beats for a while, if it has a heartbeat, and then hangs.
        for _ in 0..20 {
            if let Some(heartbeat) = &self.heartbeat {
                heartbeat.beat();
            }
            if offspring::current().wait_stopping_timeout(Duration::from_millis(20)) {
                self.ticks.put("asked to stop".to_owned()).expect("the test lives");
                return;
            }
        }
        std::thread::sleep(LONG * 10);
    }
}

#[offspring::test(timeout = "30s")]
fn a_plain_worker_is_supervised_as_well() {
    let ticks = super::kept_queue(String::new());
    let queue = ticks.clone();
    let ticker = move |info: &StartInfo| Ticker {
        ticks: queue.clone(),
        previous: info.previous().map_or_else(String::new, ToString::to_string),
        heartbeat: info.heartbeat(),
    };
    let spec = ChildSpec::worker_with("ticker", ticker.clone());
    let supervisor = Supervisor::builder().child(spec).start().unwrap();
    let first = ticks.get_timeout(LONG).unwrap();
    assert_eq!(first, format!("{} ", pid(&supervisor, "ticker")));
    kill(pid(&supervisor, "ticker"));
    let second = ticks.get_timeout(LONG).unwrap();
    assert!(second.contains("SIGKILL"), "{second}");
    supervisor.stop();
    assert_eq!(ticks.get_timeout(LONG).unwrap(), "asked to stop");

    // With a heartbeat, which stops.
    let spec = ChildSpec::worker_with("ticker", ticker)
        .heartbeat(Duration::from_millis(300))
        .shutdown(Shutdown::Kill);
    let supervisor = Supervisor::builder().child(spec).start().unwrap();
    ticks.get_timeout(LONG).unwrap();
    let second = ticks.get_timeout(LONG).unwrap();
    assert!(second.contains("no sign of life"), "{second}");
    supervisor.stop();
}

/// Beats for a while when it is told to, and then hangs.
#[offspring::worker]
fn beat_and_hang(step: SharedSlice<u32>, heartbeat: Option<Heartbeat>) {
    eventually("it is told to", || step.get(0) == Some(1));
    for _ in 0..20 {
        heartbeat.as_ref().expect("it has a limit").beat();
        std::thread::sleep(Duration::from_millis(20));
    }
    step.set(0, 2);
    std::thread::sleep(LONG * 10);
}

/// Has no descriptor while the first beats of a child come. Returns why the child ended.
#[offspring::worker]
fn supervise_without_descriptors() -> String {
    let step = SharedSlice::zeroed(1).unwrap();
    let of_child = step.clone();
    let worker = move |info: &StartInfo| beat_and_hang::new(of_child.clone(), info.heartbeat());
    let spec = ChildSpec::worker_with("beats", worker)
        .heartbeat(Duration::from_secs(1))
        .restart(Restart::Temporary)
        .shutdown(Shutdown::Kill);
    let supervisor = Supervisor::builder().child(spec).start().unwrap();
    let events = supervisor.events();
    let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    step.set(0, 1);
    eventually("the child has beaten", || step.get(0) == Some(2));
    drop(hoard);
    loop {
        if let SupervisorEvent::Ended { reason, .. } = events.next_timeout(LONG).unwrap() {
            return reason.to_string();
        }
    }
}

#[offspring::test(timeout = "30s")]
fn a_hang_is_noticed_after_a_shortage_of_descriptors() {
    let stage = ProcessBuilder::new().rlimit(Resource::OpenFiles, 200, 200);
    let reason = stage.spawn(supervise_without_descriptors::new()).unwrap().join().unwrap();
    assert!(reason.contains("no sign of life"), "{reason}");
}

#[offspring::worker]
fn returns() {}

#[offspring::test(timeout = "20s")]
fn a_worker_that_returns_has_ended_normally() {
    let spec = ChildSpec::worker_with("returns", |_| returns::new()).restart(Restart::Transient);
    let supervisor = Supervisor::builder().child(spec).start().unwrap();
    let child = until(&supervisor, "returns", ChildState::Stopped, 0);
    assert_eq!(child.last_end, Some(DownReason::Normal));
}

#[offspring::test(timeout = "20s")]
fn a_closure_that_panics_is_a_start_that_failed() {
    let spec =
        ChildSpec::worker_with("panics", |_: &StartInfo| -> returns { panic!("no worker today") });
    let error = Supervisor::builder().child(spec).start().unwrap_err();
    assert!(error.to_string().contains("no worker today"), "{error}");
}

#[offspring::test(timeout = "120s")]
fn restarts_leave_no_descriptors() {
    let (supervisor, counter) = supervised(ActorBuilder::new(), Setup::default());
    let mut restarts = 0;
    let mut restart = || {
        restarts += 1;
        kill(pid(&supervisor, "counter"));
        until(&supervisor, "counter", ChildState::Up, restarts);
        while counter.call(Message::Add(1)).is_err() {}
    };
    (0..3).for_each(|_| restart());
    let before = crate::support::open_fds();
    (0..30).for_each(|_| restart());
    crate::support::eventually("no descriptor is left", || {
        crate::support::open_fds() <= before + 4
    });
}

#[offspring::test(timeout = "20s")]
fn events_can_be_selected() {
    let supervisor = Supervisor::builder().start().unwrap();
    let events = supervisor.events();
    let (sender, messages) = offspring::channel::<()>().unwrap();
    let selector = offspring::Selector::new();
    let events_key = selector.add(&events).unwrap();
    let messages_key = selector.add(&messages).unwrap();
    assert_eq!(selector.try_ready(), None);
    let spec = ChildSpec::worker_with("returns", |_| returns::new()).restart(Restart::Temporary);
    supervisor.start_child(spec).unwrap();
    assert_eq!(selector.ready(), Some(events_key));
    assert!(matches!(events.try_next(), Some(SupervisorEvent::Started { .. })));
    assert!(matches!(events.next_timeout(LONG), Some(SupervisorEvent::Ended { .. })));
    assert_eq!(events.try_next(), None);
    sender.send(()).unwrap();
    assert_eq!(selector.ready(), Some(messages_key));
    messages.recv().unwrap();
    // The end of a stream is ready, too. A supervisor that has ended returns a stream at its end.
    supervisor.stop();
    assert_eq!(selector.ready(), Some(events_key));
    assert_eq!((events.try_next(), supervisor.events().next_timeout(LONG)), (None, None));
}

#[offspring::worker]
fn tell_role(roles: Queue<(String, u32)>) {
    let generation = offspring::current().generation();
    roles.put((std::env::var("ROLE").unwrap_or_default(), generation)).expect("the test lives");
    offspring::current().wait_stopping();
}

#[offspring::test(timeout = "30s")]
fn each_incarnation_has_the_options_of_its_process() {
    let roles = super::kept_queue((String::new(), 0));
    let for_worker = roles.clone();
    let worker = ChildSpec::worker_with("worker", move |_| tell_role::new(for_worker.clone()))
        .process(|builder| builder.env("ROLE", "witness"));
    let own = ActorBuilder::new().name("actor").process(|builder| builder.env("ROLE", "own"));
    let actor = ChildSpec::actor_with::<Counter>("actor", own, Setup::default())
        .process(|builder| builder.env("ROLE", "of the spec"));
    let supervisor =
        Supervisor::builder().intensity(100).child(worker).child(actor).start().unwrap();
    let role_of = |pid: u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        environment.split('\0').any(|variable| variable == "ROLE=of the spec")
    };
    for generation in 0..3 {
        assert_eq!(roles.get().unwrap(), ("witness".to_owned(), generation));
        assert!(role_of(pid(&supervisor, "actor")), "the later closure wins");
        kill(pid(&supervisor, "worker"));
    }
    let again = roles.clone();
    let piped = ChildSpec::worker_with("piped", move |_| tell_role::new(again.clone()))
        .process(|builder| builder.stdout(offspring::Stdio::piped()));
    let error = supervisor.start_child(piped).unwrap_err();
    assert!(format!("{error:?}").contains("cannot be piped"), "{error:?}");
    let panics = ChildSpec::worker_with("panics", move |_| tell_role::new(roles.clone()))
        .process(|_| panic!("no such role"));
    let error = supervisor.start_child(panics).unwrap_err();
    assert!(format!("{error:?}").contains("no such role"), "{error:?}");
    supervisor.stop();
}

#[offspring::worker]
fn has_no_luck() {
    panic!("no luck");
}

/// A program without a logger.
#[offspring::worker]
fn supervise_until_it_gives_up() -> String {
    let spec = ChildSpec::worker_with("unlucky", |_| has_no_luck::new())
        .process(|builder| builder.start_timeout(LONG * 6));
    // So long that the restarts of a busy machine fall into it.
    let builder = Supervisor::builder().intensity(2).period(LONG * 360);
    let supervisor = builder.child(spec).start().unwrap();
    supervisor.wait().to_string()
}

#[offspring::test(timeout = "120s")]
fn a_supervisor_that_gives_up_says_so_with_its_limit() {
    let stage = crate::support::patient().stderr(offspring::Stdio::piped());
    let output = stage.spawn(supervise_until_it_gives_up::new()).unwrap().join_with_output();
    let end = output.result.unwrap();
    assert!(end.contains("more than 2 restarts within 3600s"), "{end}");
    assert!(end.contains("child `unlucky` died") && end.contains("no luck"), "{end}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let report = format!("a supervisor gave up, and ends all its children: {end}");
    assert_eq!(stderr.matches(&report).count(), 1, "{stderr}");
}
