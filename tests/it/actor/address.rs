//! Addresses in other processes, names, monitors, links, cycles.

use std::time::{Duration, Instant};

use offspring::actor::{
    ActorBuilder, ActorRef, CallError, DownReason, LookupError, StartError, find, spawn,
};
use offspring::process::Backend;
use offspring::sync::{Barrier, Event};
use offspring::{ExitReason, ProcessBuilder, Queue, Selector, Waitable};

use super::{Counter, LONG, Message, Reply, SHORT, Setup};
use crate::process::stage::{binary, inner_program, is_inner};
use crate::support::{eventually, signal, suspend};

#[offspring::worker]
fn use_it(counter: ActorRef<Counter>) -> (u64, u64, String) {
    counter.cast(Message::Add(5)).expect("the actor lives");
    let number = counter.call(Message::Add(1)).expect("the actor lives").number();
    let generation = counter.generation().expect("the actor lives");
    (number, generation, counter.name().to_owned())
}

#[offspring::test(timeout = "20s")]
fn an_address_works_from_another_process() {
    let counter = ActorBuilder::new().name("counter").spawn::<Counter>(Setup::default()).unwrap();
    let process = use_it::spawn(counter.address()).unwrap();
    assert_eq!(process.join().unwrap(), (6, 0, "counter".to_owned()));
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(6));
}

#[offspring::worker]
fn pass_on(counter: ActorRef<Counter>) -> (u64, u64, String) {
    use_it::spawn(counter).expect("a process").join().expect("it returns")
}

#[offspring::test(timeout = "20s")]
fn an_address_travels_on_and_comes_home() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    assert_eq!(pass_on::spawn(counter.address()).unwrap().join().unwrap().0, 6);
    // In a message to another actor, which calls it in turn.
    let other = spawn::<Counter>(Setup::default()).unwrap();
    let asked = other.call(Message::Ask(counter.address(), Box::new(Message::Get))).unwrap();
    assert_eq!(asked, Reply::Number(6));
    // Home again.
    let queue = Queue::unbounded().unwrap();
    queue.put(counter.address()).unwrap();
    let home: ActorRef<Counter> = queue.get().unwrap();
    assert_eq!(home, counter.address());
    assert_eq!(home.call(Message::Get).unwrap(), Reply::Number(6));
}

#[offspring::worker]
fn look_up(name: String) -> Result<u64, String> {
    let counter: ActorRef<Counter> = find(&name).map_err(|error| error.to_string())?;
    Ok(counter.call(Message::Get).map_err(|error| error.to_string())?.number())
}

/// Runs in a process that has no actor and looks up nothing itself.
#[offspring::worker]
fn look_up_in_a_child(name: String) -> Result<u64, String> {
    look_up::spawn(name).expect("a process").join().expect("it returns")
}

#[offspring::test(timeout = "20s")]
fn a_registered_name_is_found_in_the_whole_tree() {
    let setup = || Setup { value: 42, ..Setup::default() };
    let counter = ActorBuilder::new().register("the counter").spawn::<Counter>(setup()).unwrap();
    assert_eq!(look_up::spawn("the counter".to_owned()).unwrap().join().unwrap(), Ok(42));
    assert_eq!(
        look_up_in_a_child::spawn("the counter".to_owned()).unwrap().join().unwrap(),
        Ok(42)
    );
    let inline = ProcessBuilder::new().backend(Backend::Inline);
    assert_eq!(
        inline.spawn(look_up::new("the counter".to_owned())).unwrap().join().unwrap(),
        Ok(42)
    );
    assert_eq!(find::<Counter>("the counter").unwrap(), counter.address());
    assert!(matches!(
        ActorBuilder::new().register("the counter").spawn::<Counter>(setup()),
        Err(StartError::NameTaken { .. })
    ));
    counter.stop();
    eventually("the name is free", || {
        matches!(find::<Counter>("the counter"), Err(LookupError::NotFound { .. }))
    });
    assert!(look_up::spawn("the counter".to_owned()).unwrap().join().unwrap().is_err());
}

#[offspring::worker]
fn keep_registered(name: String, ready: Queue<()>) {
    let _counter =
        ActorBuilder::new().register(name).spawn::<Counter>(Setup::default()).expect("it starts");
    ready.put(()).expect("the test lives");
    std::thread::sleep(LONG * 10);
}

#[offspring::test(timeout = "30s")]
fn the_name_of_an_actor_whose_host_was_killed_is_free() {
    let _any = spawn::<Counter>(Setup::default()).unwrap();
    let ready = Queue::unbounded().unwrap();
    let host = keep_registered::spawn("kept".to_owned(), ready.clone()).unwrap();
    ready.get().unwrap();
    let counter = find::<Counter>("kept").unwrap();
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(0));
    host.kill();
    assert!(host.join().is_err());
    let patient = counter.with_timeout(LONG);
    let since = Instant::now();
    // The actor ends with its host, a moment later.
    let error = loop {
        if let Err(error) = patient.call(Message::Get) {
            break error;
        }
    };
    assert_eq!(error.down_reason(), Some(&DownReason::OwnerGone), "{error}");
    assert!(since.elapsed() < LONG, "not by the timeout");
    assert!(matches!(find::<Counter>("kept"), Err(LookupError::NotFound { .. })));
    let _again = ActorBuilder::new().register("kept").spawn::<Counter>(Setup::default()).unwrap();
    assert!(find::<Counter>("kept").is_ok());
}

/// Registers a name while the main process does not answer, and lives on.
#[offspring::worker]
fn register_in_vain(main: u32, errors: Queue<String>) {
    // It has asked before, so that the request is sent at once.
    find::<Counter>("in vain").unwrap_err();
    suspend(main);
    let start = ActorBuilder::new().register("in vain").spawn::<Counter>(Setup::default());
    signal(main, "CONT");
    errors.put(start.map(drop).unwrap_err().to_string()).unwrap();
    offspring::current().wait_stopping();
}

#[offspring::test(timeout = "60s")]
#[ignore = "run by another test"]
fn inner_main_that_is_suspended() {
    if !is_inner() {
        return;
    }
    let _any = spawn::<Counter>(Setup::default()).unwrap();
    let errors = Queue::unbounded().unwrap();
    let child = register_in_vain::spawn(std::process::id(), errors.clone()).unwrap();
    let error = errors.get().unwrap();
    assert!(error.contains("could not register its name"), "{error}");
    // The request is carried out now, and undone.
    let register = || ActorBuilder::new().register("in vain").spawn::<Counter>(Setup::default());
    let mut counter = None;
    eventually("the name is free", || {
        counter = register().ok();
        counter.is_some()
    });
    assert_eq!(find::<Counter>("in vain").unwrap(), counter.unwrap().address());
    child.request_stop(LONG);
    child.join().unwrap();
    println!("the name was free");
}

#[offspring::test(timeout = "60s")]
fn a_name_whose_registration_was_not_answered_is_free() {
    let test = "actor::address::inner_main_that_is_suspended";
    let inner = inner_program(&binary(), test).output().unwrap();
    let text = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success() && text.contains("the name was free"), "{text}");
}

/// Registers a name with many others at once. Returns whether it got it.
#[offspring::worker]
fn race_for(name: String, start: Event, done: Barrier) -> bool {
    start.wait().unwrap();
    let actor = ActorBuilder::new().register(name).spawn::<Counter>(Setup::default());
    done.wait().unwrap();
    match actor {
        Ok(_) => true,
        Err(StartError::NameTaken { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[offspring::test(timeout = "60s")]
fn of_many_that_register_a_name_at_once_one_has_it() {
    let _any = spawn::<Counter>(Setup::default()).unwrap();
    // Free, and that of a host that was killed.
    for killed in [false, true] {
        let name = format!("the prize, killed: {killed}");
        if killed {
            let ready = Queue::unbounded().unwrap();
            let host = keep_registered::spawn(name.clone(), ready.clone()).unwrap();
            ready.get().unwrap();
            host.kill();
            host.join().unwrap_err();
        }
        let (start, done) = (Event::new().unwrap(), Barrier::new(5).unwrap());
        let race = |_| race_for::spawn(name.clone(), start.clone(), done.clone()).unwrap();
        let children: Vec<_> = (0..5).map(race).collect();
        start.set();
        let winners = children.into_iter().filter(|child| child.join().unwrap()).count();
        assert_eq!(winners, 1, "{name}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_monitor_reports_the_end_even_if_the_actor_was_down_before() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let monitor = counter.monitor().unwrap();
    assert!(monitor.wait_timeout(SHORT).is_none());
    counter.cast(Message::Panic("enough".to_owned())).unwrap();
    let down = monitor.wait();
    let DownReason::Died(ExitReason::Panicked(report)) = &down.reason else { panic!("{down:?}") };
    assert_eq!(report.message, "enough");
    assert!(report.location.as_deref().is_some_and(|place| place.contains("actor")), "{report:?}");
    assert_eq!((down.generation, down.restarts), (0, false));
    assert_eq!(counter.monitor().unwrap().wait(), down);
}

#[offspring::test(timeout = "20s")]
fn a_selector_waits_for_monitors() {
    let [one, other] = [(); 2].map(|()| spawn::<Counter>(Setup::default()).unwrap());
    let monitors = [one.monitor().unwrap(), other.monitor().unwrap()];
    let sources: [&dyn Waitable; 2] = [&monitors[0], &monitors[1]];
    assert_eq!(offspring::wait_any_timeout(&sources, SHORT).unwrap(), None);
    let selector = Selector::new();
    let keys = sources.map(|source| selector.add(source).unwrap());
    let killer = std::thread::spawn(move || other.kill());
    assert_eq!(selector.ready(), Some(keys[1]));
    killer.join().unwrap();
    assert_eq!(offspring::wait_any(&sources).unwrap(), 1);
    assert!(monitors[1].wait_timeout(Duration::ZERO).is_some());
    assert!(monitors[0].wait_timeout(Duration::ZERO).is_none());
}

#[offspring::test(timeout = "30s")]
fn a_selector_notices_the_death_of_a_monitored_actors_host() {
    let _any = spawn::<Counter>(Setup::default()).unwrap();
    let ready = Queue::unbounded().unwrap();
    let host = keep_registered::spawn("watched".to_owned(), ready.clone()).unwrap();
    ready.get().unwrap();
    let monitor = find::<Counter>("watched").unwrap().monitor().unwrap();
    let selector = Selector::new();
    let key = selector.add(&monitor).unwrap();
    assert_eq!(selector.ready_timeout(SHORT), None);
    let killer = std::thread::spawn(move || host.kill());
    assert_eq!(selector.ready(), Some(key));
    killer.join().unwrap();
    assert_eq!(monitor.wait().reason, DownReason::OwnerGone);
}

#[offspring::worker]
fn watch(counter: ActorRef<Counter>, ready: Queue<()>) -> String {
    let monitor = counter.monitor().expect("it lives");
    ready.put(()).expect("the test lives");
    monitor.wait().reason.to_string()
}

#[offspring::test(timeout = "20s")]
fn a_monitor_in_another_process_reports_the_end() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let ready = Queue::unbounded().unwrap();
    let watcher = watch::spawn(counter.address(), ready.clone()).unwrap();
    ready.get().unwrap();
    counter.kill();
    assert!(watcher.join().unwrap().contains("SIGKILL"));
}

#[offspring::worker]
fn be_linked(counter: ActorRef<Counter>, ready: Queue<()>, end: Queue<()>) {
    let link = counter.link().expect("it lives");
    ready.put(()).expect("the test lives");
    let _ = end.get();
    drop(link);
}

#[offspring::test(timeout = "30s")]
fn linked_processes_die_together() {
    let linked = |counter: ActorRef<Counter>| {
        let (ready, end) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
        let process = be_linked::spawn(counter, ready.clone(), end.clone()).unwrap();
        ready.get().unwrap();
        (process, end)
    };
    // The actor dies: so does the process.
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let (process, _end) = linked(counter.address());
    counter.kill();
    assert!(process.join().is_err());
    assert_eq!(process.exit_reason(), Some(ExitReason::Exited(72)));
    // The process dies: so does the actor.
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let (process, _end) = linked(counter.address());
    let monitor = counter.monitor().unwrap();
    process.kill();
    assert!(matches!(monitor.wait().reason, DownReason::Failed(_)));
    // An orderly end does nothing to the other.
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let (process, end) = linked(counter.address());
    end.close().unwrap();
    process.join().unwrap();
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(0));
    let (process, end) = linked(counter.address());
    counter.stop();
    assert!(process.join_timeout(SHORT).unwrap_err().is_timeout());
    end.close().unwrap();
    process.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn dropping_a_link_does_not_wait_for_an_actor_that_is_stopped() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let link = counter.link().unwrap();
    suspend(counter.pid().unwrap());
    // The actor takes nothing until it is killed, which happens only after this.
    drop(link);
    counter.kill();
}

#[offspring::test(timeout = "20s")]
fn a_link_that_is_dissolved_leaves_no_thread() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let watchers = || {
        let names =
            threads().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "offspring-link").count()
    };
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let links: Vec<_> = (0..10).map(|_| counter.link().unwrap()).collect();
    drop(links);
    // A test beside this one may have a link for a moment.
    eventually("their threads are gone", || watchers() <= 2);
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(0));
}

#[offspring::test(timeout = "20s")]
fn a_call_to_itself_is_an_error() {
    let counter = ActorBuilder::new().name("narcissus").spawn::<Counter>(Setup::default()).unwrap();
    let since = Instant::now();
    let text = counter.call(Message::CallSelf).unwrap().text();
    assert_eq!(text, "the call would never return: narcissus -> narcissus");
    counter.cast(Message::Add(1)).unwrap();
    assert!(counter.call(Message::CallSelf).unwrap().text().contains("narcissus"));
    assert!(since.elapsed() < LONG / 4);
}

#[offspring::test(timeout = "20s")]
fn a_circle_of_calls_is_an_error() {
    let [a, b, c] = ["a", "b", "c"]
        .map(|name| ActorBuilder::new().name(name).spawn::<Counter>(Setup::default()).unwrap());
    let since = Instant::now();
    let ask_a = Message::Ask(a.address(), Box::new(Message::Get));
    let ask_c = Message::Ask(c.address(), Box::new(ask_a));
    let ask_b = Message::Ask(b.address(), Box::new(ask_c));
    assert_eq!(a.call(ask_b).unwrap().text(), "the call would never return: a -> b -> c -> a");
    assert!(since.elapsed() < LONG / 4, "not by the timeout");
    assert!(matches!(a.call(Message::Get), Ok(Reply::Number(0))));
}

#[offspring::test(timeout = "20s")]
fn an_address_does_not_decode_as_that_of_another_type() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let (sender, receiver) = offspring::channel::<Wrapped<ActorRef<Counter>>>().unwrap();
    sender.send(Wrapped(counter.address())).unwrap();
    assert_eq!(receiver.recv().unwrap().0, counter.address());
    counter.stop();
    assert!(matches!(counter.call(Message::Get), Err(CallError::Down { .. })));
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Wrapped<T>(T);

#[offspring::worker]
fn host(addresses: Queue<ActorRef<Counter>>) {
    let counter = spawn::<Counter>(Setup::default()).expect("a process");
    addresses.put(counter.address()).expect("the test reads");
    loop {
        std::thread::park();
    }
}

#[offspring::test(timeout = "60s")]
fn no_call_waits_without_a_bound_for_a_host_that_is_stopped() {
    let addresses = Queue::unbounded().unwrap();
    let host = host::spawn(addresses.clone()).unwrap();
    let counter = addresses.get().unwrap().with_timeout(SHORT);
    suspend(host.pid());
    // The first calls of this process: it has to ask the host where the actor is.
    assert!(counter.call(Message::Get).unwrap_err().is_timeout());
    assert!(counter.generation().unwrap_err().is_timeout());
    assert!(counter.stop().unwrap_err().is_timeout());
    let error = counter.try_cast(Message::Add(1)).unwrap_err();
    assert!(!error.is_full() && !error.is_end(), "{error}");
    assert!(error.to_string().contains("did not answer"), "{error}");
    // SAFETY: a child that is not reaped meanwhile.
    unsafe { libc::kill(host.pid() as i32, libc::SIGCONT) };
    let counter = counter.with_timeout(LONG);
    counter.cast(Message::Add(1)).unwrap();
    assert_eq!(counter.call(Message::Get).unwrap(), Reply::Number(1));
    host.kill();
    assert!(counter.monitor().unwrap().wait_timeout(LONG).is_some());
}
