//! Snapshots of a running program. Other tests run in this process at the same time, so each test
//! searches for its own processes and queues.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use offspring::process::Backend;
use offspring::queue::QueueStatus;
use offspring::tree::{ProcessInfo, ProcessState, ProcessTree};
use offspring::{JoinableQueue, Process, ProcessBuilder, Queue, tree};
use serde::{Deserialize, Serialize};

use crate::support::eventually;

const FOREVER: Duration = Duration::from_secs(1000);

#[offspring::worker]
fn rest() {
    offspring::current().wait_stopping();
}

#[offspring::worker]
fn spin() {
    let mut n = 0u64;
    while !offspring::current().is_stopping() {
        n = std::hint::black_box(n + 1);
    }
}

/// Reports that it runs, with the pid of its last descendant.
#[offspring::worker]
fn parent(ready: Queue<u32>) {
    let _child =
        ProcessBuilder::new().name("a grandchild of a long name").spawn(rest::new()).unwrap();
    let mut program = Command::new("sleep").arg("1000").spawn().unwrap();
    ready.put(program.id()).unwrap();
    program.wait().unwrap();
}

#[offspring::worker]
fn look() -> ProcessTree {
    let _child = ProcessBuilder::new().name("below").daemon(true).spawn(rest::new()).unwrap();
    tree()
}

fn start(builder: ProcessBuilder) -> Process<()> {
    builder.daemon(true).spawn(rest::new()).unwrap()
}

fn state(pid: u32) -> Option<ProcessState> {
    tree().find(pid).map(ProcessInfo::state)
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: `kill` takes no pointers. The pid is that of a child that is not reaped before its
    // join.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

#[offspring::test(timeout = "30s")]
fn a_child_is_listed_with_the_options_of_its_builder() {
    let child = start(ProcessBuilder::new().name("a name of more than 15 bytes").generation(3));
    let all = tree();
    let info = all.find(child.pid()).unwrap();
    assert_eq!(info.name(), "a name of more than 15 bytes");
    assert_eq!((info.is_daemon(), info.generation()), (Some(true), Some(3)));
    assert!(info.worker().unwrap().ends_with("tree::rest"), "{info:?}");
    assert!(!info.is_program() && !info.is_detached() && info.backend() == Backend::Process);
    assert!(
        info.memory() > 100_000 && info.proportional_memory().unwrap() > 0 && info.threads() > 0
    );
    assert!(info.uptime() < Duration::from_secs(20));
    assert!(all.root().children().iter().any(|other| other.pid() == child.pid()));
    assert_eq!(all.root().pid(), std::process::id());
    assert_eq!(all.root().name(), offspring::current().name());
    child.kill();
    child.join().unwrap_err();
    assert_eq!(state(child.pid()), None);
}

#[offspring::test(timeout = "30s")]
fn states_follow_the_process() {
    let child = start(ProcessBuilder::new());
    eventually("it waits", || state(child.pid()) == Some(ProcessState::Sleeping));
    signal(child.pid(), libc::SIGSTOP);
    eventually("it is suspended", || state(child.pid()) == Some(ProcessState::Stopped));
    signal(child.pid(), libc::SIGCONT);
    eventually("it waits again", || state(child.pid()) == Some(ProcessState::Sleeping));
    child.request_stop(FOREVER);
    child.join().unwrap();
}

#[offspring::test(timeout = "30s")]
fn cpu_time_grows_with_work() {
    let (busy, idle) = (spin::spawn().unwrap(), start(ProcessBuilder::new()));
    let time = |pid: u32| tree().find(pid).unwrap().cpu_time();
    let before = time(busy.pid());
    eventually("it has worked", || time(busy.pid()) > before + Duration::from_millis(50));
    let all = tree();
    let [busy_now, idle_now] = [&busy, &idle].map(|process| all.find(process.pid()).unwrap());
    assert!(
        busy_now.cpu_time() > idle_now.cpu_time() && busy_now.user_time() <= busy_now.cpu_time()
    );
    assert!(busy_now.uptime() >= Duration::from_millis(50));
    busy.request_stop(FOREVER);
    busy.join().unwrap();
}

#[offspring::test(timeout = "30s")]
fn grandchildren_and_programs_are_below_their_parents() {
    let ready = Queue::unbounded().unwrap();
    let child = parent::spawn(ready.clone()).unwrap();
    let program = ready.get().unwrap();
    // Between fork and exec, it runs the test's own program.
    eventually("it is another program", || {
        tree().find(program).is_some_and(ProcessInfo::is_program)
    });
    let all = tree();
    let info = all.find(child.pid()).unwrap();
    let [grandchild, program] = info.children() else { panic!("{info:?}") };
    // The system keeps 15 bytes of its name, and this process knows nothing else of it.
    assert_eq!(grandchild.name(), "a grandchild of");
    assert_eq!(
        (grandchild.worker(), grandchild.is_daemon(), grandchild.is_program()),
        (None, None, false)
    );
    assert_eq!((program.name(), program.is_program()), ("sleep", true));
    let drawn = all.to_string();
    assert!(drawn.contains("├─ a grandchild of") && drawn.contains("└─ sleep"), "{drawn}");
    child.kill_tree();
    child.join().unwrap_err();
}

#[offspring::test(timeout = "30s")]
fn a_worker_can_send_its_own_tree() {
    let child = look::spawn().unwrap();
    let (pid, seen) = (child.pid(), child.join().unwrap());
    assert_eq!(seen.root().pid(), pid);
    assert_eq!(seen.root().name(), child.name());
    let names: Vec<&str> = seen.processes().map(ProcessInfo::name).collect();
    assert_eq!(names, [child.name(), "below"]);
    assert_eq!(seen.root().children()[0].is_daemon(), Some(true));
}

#[offspring::test(timeout = "30s")]
fn workers_on_threads_are_below_their_process() {
    let child = ProcessBuilder::new()
        .name("on a thread")
        .backend(Backend::Inline)
        .spawn(rest::new())
        .unwrap();
    let all = tree();
    let info = all.root().children().iter().find(|child| child.name() == "on a thread").unwrap();
    assert_eq!(
        (info.backend(), info.pid(), info.memory()),
        (Backend::Inline, std::process::id(), 0)
    );
    assert_eq!(all.find(info.pid()).unwrap().backend(), Backend::Process);
    child.request_stop(FOREVER);
    child.join().unwrap();
    assert!(!tree().processes().any(|process| process.name() == "on a thread"));
}

/// A type of its own, so that a test finds its queues.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Apple(u32);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pear(u32);

#[offspring::worker]
fn eat(apples: JoinableQueue<Apple>, eaten: Queue<()>) {
    let apple = apples.get().unwrap();
    eaten.put(()).unwrap();
    offspring::current().wait_stopping();
    drop(apple);
}

fn queue(item: &str) -> QueueStatus {
    let all = tree();
    let found = all.queues().iter().find(|queue| queue.item().ends_with(item));
    found.unwrap_or_else(|| panic!("{all}")).clone()
}

#[offspring::test(timeout = "30s")]
fn queues_are_listed_with_their_items_and_holders() {
    let (apples, eaten) = (JoinableQueue::bounded(5).unwrap(), Queue::unbounded().unwrap());
    (0..3).for_each(|n| apples.put(Apple(n)).unwrap());
    let before = queue("tree::Apple");
    assert_eq!((before.len(), before.capacity(), before.unfinished()), (3, Some(5), Some(3)));
    assert_eq!(before.holders(), [std::process::id()]);

    let child = eat::spawn(apples.clone(), eaten.clone()).unwrap();
    eaten.get().unwrap();
    let status = queue("tree::Apple");
    assert_eq!((status.len(), status.unfinished(), status.dead_letters()), (2, Some(3), 0));
    assert_eq!(status.holders(), [std::process::id(), child.pid()]);
    assert!(!status.is_closed() && !status.is_empty());

    // Its item comes back, and it no longer holds the queue.
    child.kill();
    child.join().unwrap_err();
    eventually("the item is back", || queue("tree::Apple").len() == 3);
    assert_eq!(queue("tree::Apple").holders(), [std::process::id()]);
    apples.close().unwrap();
    assert!(queue("tree::Apple").is_closed());
    drop(apples);
    eventually("it is gone", || {
        !tree().queues().iter().any(|queue| queue.item().ends_with("tree::Apple"))
    });
}

#[offspring::test(timeout = "30s")]
fn handles_under_way_are_counted() {
    let (pears, letters) = (Queue::<Pear>::unbounded().unwrap(), Queue::unbounded().unwrap());
    letters.put(pears.clone()).unwrap();
    let status = queue("tree::Pear");
    assert_eq!((status.in_flight(), status.capacity(), status.unfinished()), (1, None, None));
    drop(letters);
    eventually("the handle is lost with the queue that held it", || {
        queue("tree::Pear").in_flight() == 0
    });
}

#[offspring::test(timeout = "60s")]
fn snapshots_while_processes_come_and_go() {
    let end = Instant::now() + Duration::from_secs(2);
    let mut seen = HashSet::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < end {
                    let child = rest::spawn().unwrap();
                    child.kill();
                    child.join().unwrap_err();
                }
            });
        }
        while Instant::now() < end {
            let all = tree();
            let pids: Vec<u32> = all
                .processes()
                .filter(|process| process.backend() == Backend::Process)
                .map(ProcessInfo::pid)
                .collect();
            assert_eq!(pids[0], std::process::id());
            assert_eq!(pids.iter().collect::<HashSet<_>>().len(), pids.len(), "{all}");
            assert!(all.to_string().lines().count() > pids.len());
            seen.extend(pids);
        }
    });
    assert!(seen.len() > 2, "{seen:?}");
}

struct Shelf;

#[offspring::actor]
impl Shelf {
    fn start() -> Self {
        Shelf
    }

    pub fn worker_pid(&self) -> u32 {
        std::process::id()
    }
}

#[offspring::test(timeout = "30s")]
fn actors_are_shown_by_their_own_type_and_internal_queues_are_not() {
    let shelf = Shelf::spawn().unwrap();
    let pid = shelf.worker_pid().unwrap();
    let all = tree();
    let actor = all.find(pid).unwrap().actor();
    assert!(actor.unwrap().ends_with("tree::Shelf"), "{actor:?}");
    let drawn = all.to_string();
    let lines = |text: &str| drawn.lines().filter(|line| line.contains(text)).collect::<Vec<_>>();
    assert!(lines("Shelf (actor)").iter().any(|line| line.contains(&pid.to_string())), "{drawn}");
    assert!(lines("(mailbox)").iter().any(|line| line.contains(&pid.to_string())), "{drawn}");
    assert!(!drawn.contains("Erased"), "{drawn}");
}

/// Named like the worker of an actor.
#[derive(Serialize, Deserialize, offspring::Worker)]
struct ActorProcess<T> {
    value: T,
}

impl offspring::ProcessWorker for ActorProcess<u8> {
    type Output = ();

    fn run(self) {
        offspring::current().wait_stopping();
    }
}

offspring::register!(ActorProcess<u8>);

#[offspring::test(timeout = "30s")]
fn a_worker_that_is_only_named_like_an_actor_is_shown_as_a_worker() {
    let builder = ProcessBuilder::new().name("no actor").daemon(true);
    let child = builder.spawn(ActorProcess { value: 1 }).unwrap();
    let all = tree();
    assert_eq!(all.find(child.pid()).unwrap().actor(), None);
    let drawn = all.to_string();
    let line = drawn.lines().find(|line| line.contains("no actor")).unwrap();
    assert!(line.contains("ActorProcess<u8> (daemon)"), "{line}");
}
