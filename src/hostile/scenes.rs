//! The scenes: each defines what the victim shares with a hostile worker, and how both use it.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::objects::{AllLocks, Item, PATIENT};
use super::saboteur::{self, Mood};
use super::victim::{Attack, step};
use crate::channel::{Receiver, Sender, channel};
use crate::error::{RecvTimeoutError, SendTimeoutError};
use crate::ipc::fuzz::{self, Random};
use crate::ipc::hostile::RawPacket;
use crate::process::{Process, child_messages, control_socket};
use crate::queue::{JoinableQueue, Queue};
use crate::shared::{SharedBytes, SharedSlice};
use crate::sync::Mutex;
use crate::{Pool, ProcessBuilder};

type Played = Result<(), String>;

/// How long a hostile worker lives if it is not killed before.
const LIFE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Scene {
    Start,
    Control,
    Session,
    Queue,
    Greedy,
    Channel,
    Locks,
    Memory,
    Pool,
    Actor,
    Client,
    Logs,
}

impl Scene {
    pub(super) const COUNT: u32 = Scene::Logs as u32 + 1;

    pub(super) fn play(self, attack: &mut Attack<'_>, random: &mut Random) -> Played {
        match self {
            Scene::Start => start(attack, random),
            Scene::Control => control(attack, random),
            Scene::Session => session(attack, random),
            Scene::Queue => queue(attack, random),
            Scene::Greedy => greedy(attack, random),
            Scene::Channel => messages(attack, random),
            Scene::Locks => locks(attack, random),
            Scene::Memory => memory(attack, random),
            Scene::Pool => pool(attack, random),
            Scene::Actor => actor(attack, random),
            Scene::Client => client(attack, random),
            Scene::Logs => logs(attack, random),
        }
    }
}

/// The object that a hostile worker receives from the victim.
#[derive(Debug, Serialize, Deserialize)]
enum Prey {
    Nothing,
    /// A queue for which the worker opens a session of its own, beside the one that this crate
    /// opens.
    Session(Queue<Item>),
    Queue(Queue<Item>),
    Jobs(JoinableQueue<Item>),
    Sender(Sender<Item>),
    Receiver(Receiver<Item>),
    Locks(Box<AllLocks>),
    Memory(SharedSlice<u32>, SharedBytes, Sender<Item>),
    Actor(RogueHandle),
    Logs,
}

impl Prey {
    /// One use through the public API. Everything may fail.
    fn use_one(&self, random: &mut Random) {
        match self {
            Prey::Nothing => thread::sleep(PATIENT),
            Prey::Session(queue) => crate::queue::attack(queue, random),
            Prey::Queue(queue) => match random.below(40) {
                0 => drop(queue.len()),
                1 => drop(queue.close()),
                2..20 => drop(queue.put_timeout(Item::any(random), PATIENT)),
                _ => drop(queue.get_timeout(PATIENT).map(|item| item.touch())),
            },
            Prey::Jobs(jobs) => match random.below(10) {
                0 => drop(jobs.join_timeout(PATIENT)),
                1..5 => drop(jobs.put_timeout(Item::any(random), PATIENT)),
                _ => {
                    if let Ok(job) = jobs.get_timeout(PATIENT) {
                        if random.one_in(3) { std::mem::forget(job) } else { job.task_done() }
                    }
                }
            },
            Prey::Sender(sender) => match random.below(3) {
                0 => crate::channel::attack(sender, random),
                _ => drop(sender.send_timeout(Item::any(random), PATIENT)),
            },
            Prey::Receiver(receiver) => {
                drop(receiver.recv_timeout(PATIENT).map(|item| item.touch()));
            }
            Prey::Locks(locks) => locks.use_one(random),
            Prey::Memory(numbers, bytes, sender) => {
                numbers.fill(random.below(9) as u32);
                let item = Item { bytes: Vec::new(), handle: None, memory: Some(bytes.slice(1..)) };
                drop(sender.send_timeout(item, PATIENT));
            }
            Prey::Actor(actor) => use_actor(actor, random),
            Prey::Logs => {
                log::warn!("{:?}\u{1b}[2J", random.bytes(200));
                let _ = writeln!(std::io::stderr(), "\u{1b}]0;{}", random.below(100));
            }
        }
    }
}

/// Makes this process hostile in every way.
fn turn(seed: u64) {
    let mut random = Random::of(seed);
    let mood = Mood::of(&mut random);
    // If a saboteur attacks as well, most messages stay unchanged, so that the two processes keep
    // communicating.
    let rarity = match mood {
        Mood::Nothing => *random.choose(&[2, 5, 20]),
        _ => *random.choose(&[10, 100, 1000]),
    };
    fuzz::become_hostile(random.below(u64::MAX), rarity);
    thread::spawn(move || saboteur::attack(mood, random));
}

#[crate::worker(crate = crate)]
fn hostile(seed: u64, prey: Prey) {
    let mut random = Random::of(seed);
    for _ in 0..random.below(10) {
        prey.use_one(&mut random);
    }
    turn(seed);
    let until = Instant::now() + LIFE;
    let most = *random.choose(&[10, 100, u64::MAX]);
    let mut uses = 0;
    while uses < most && Instant::now() < until {
        prey.use_one(&mut random);
        uses += 1;
    }
}

/// Its stderr must not reach the terminal.
fn worker() -> ProcessBuilder {
    ProcessBuilder::new()
        .name("hostile")
        .stderr(crate::Stdio::null())
        .start_timeout(Duration::from_secs(20))
}

fn spawn(prey: Prey, random: &mut Random) -> Result<Process<()>, String> {
    step("starts a hostile worker");
    let worker = worker().spawn(hostile::new(random.below(u64::MAX), prey));
    worker.map_err(|error| format!("the hostile worker did not start: {error:?}"))
}

/// Uses something for a while, and checks the witnesses in between.
fn use_it(
    attack: &mut Attack<'_>,
    random: &mut Random,
    what: &str,
    mut once: impl FnMut(&mut Random),
) -> Played {
    for _ in 0..2 + random.below(3) {
        step(what);
        let until = Instant::now() + Duration::from_millis(random.below(25));
        while Instant::now() < until {
            once(random);
        }
        attack.check()?;
    }
    Ok(())
}

/// A worker that attacks while its value is decoded, so before it counts as started.
#[derive(Debug)]
struct Early(u64);

impl Serialize for Early {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Early {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seed = u64::deserialize(deserializer)?;
        // The victim decodes made-up values before it sends its first one.
        if seed < 2 {
            return Err(serde::de::Error::custom("made up"));
        }
        let mut random = Random::of(seed);
        fuzz::become_hostile(seed, 1 + random.below(2));
        speak(&mut random);
        match random.below(7) {
            0 => std::process::exit(0),
            // Ignores the request to stop, so it is killed.
            6 => {
                // A start must not end because of reports of panics.
                let packet =
                    &RawPacket { bytes: child_messages()[5].clone(), ..RawPacket::default() };
                let control = &control_socket().unwrap();
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            loop {
                                let _ = packet.send(control.as_fd());
                            }
                        });
                    }
                });
                unreachable!("it is killed")
            }
            1 => panic!("hostile"),
            2 => Err(serde::de::Error::custom("\u{1b}[31m".repeat(100_000))),
            _ => Ok(Early(seed)),
        }
    }
}

#[crate::worker(crate = crate)]
fn early(value: Early) -> Vec<u8> {
    vec![value.0 as u8; 100]
}

/// Sends messages over the control socket, and sometimes garbage.
fn speak(random: &mut Random) {
    let Some(control) = control_socket() else { return };
    let mut messages = child_messages();
    if random.one_in(2) {
        let only = random.choose(&messages).clone();
        messages = vec![only];
    }
    let garbage = random.one_in(2);
    for _ in 0..random.below(50) {
        let mut packet = if garbage { RawPacket::of_garbage(random) } else { RawPacket::default() };
        if !garbage || !random.one_in(4) {
            packet.bytes = random.choose(&messages).clone();
        }
        if garbage && random.one_in(4) {
            random.mutate(&mut packet.bytes);
        }
        // Sometimes, as often as there is room.
        let times = if random.one_in(10) { 100_000 } else { 1 };
        for _ in 0..times {
            if packet.send(control.as_fd()).is_err() {
                break;
            }
        }
    }
}

fn start(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    step("starts a worker that attacks its start");
    let (begun, limit) = (Instant::now(), Duration::from_millis(500));
    let started =
        worker().start_timeout(limit).spawn(early::new(Early(random.below(u64::MAX).max(2))));
    let took = begun.elapsed();
    if took > limit + Duration::from_secs(10) {
        return Err(format!("the start took {took:?}"));
    }
    attack.check()?;
    match started {
        Ok(process) => attack.end(process),
        Err(_) => Ok(()),
    }
}

#[crate::worker(crate = crate)]
fn speaks(seed: u64) -> Vec<u8> {
    let mut random = Random::of(seed);
    fuzz::become_hostile(seed, 1 + random.below(3));
    if random.one_in(3) {
        // The program keeps running after this process has ended.
        if let Some(control) = control_socket() {
            let mut endless = std::process::Command::new("sh");
            endless.args(["-c", "for i in 1 2 3; do timeout 100 yes & done"]);
            endless.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let _ = endless.stdout(control).status();
        }
    }
    speak(&mut random);
    match random.below(4) {
        0 => std::process::abort(),
        1 => panic!("\u{1b}[2J"),
        _ => vec![1; *random.choose(&[10, 100_000])],
    }
}

/// The worker sends messages about its end, and may leave a program that keeps sending after it has
/// ended.
fn control(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    step("starts a worker that attacks its control socket");
    let process = worker().spawn(speaks::new(random.below(u64::MAX)));
    let process = process.map_err(|error| format!("{error:?}"))?;
    attack.check()?;
    step("waits for its end");
    let _ = process.join_timeout(Duration::from_millis(random.below(300)));
    attack.end(process)
}

fn session(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    let queue = Queue::bounded(8).unwrap();
    let process = spawn(Prey::Session(queue.clone()), random)?;
    use_it(attack, random, "uses a queue that is attacked", |random| use_queue(&queue, random))?;
    attack.end(process)
}

/// How often a worker tries to take descriptors, each time hundreds.
const TRIES: u64 = 10;

/// Has the owner of a queue keep as many descriptors as possible.
#[crate::worker(crate = crate)]
fn hoard(queue: Queue<Item>, tries: SharedSlice<u64>, seed: u64) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut random = Random::of(seed);
    for _ in 0..TRIES {
        crate::queue::hoard(&queue, &mut random);
        tries.atomics()[0].fetch_add(1, Ordering::SeqCst);
    }
    // It keeps what it has until it is killed.
    thread::sleep(10 * LIFE);
}

/// The worker gets half of the victim's descriptors, and no more. When it ends, they are free again.
fn greedy(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    const LIMIT: usize = 450;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT as u64), ..limit }).unwrap();
    let queue = Queue::unbounded().unwrap();
    step("starts a worker that takes descriptors");
    let tries = SharedSlice::<u64>::zeroed(1).unwrap();
    let hoard = hoard::new(queue.clone(), tries.clone(), random.below(u64::MAX));
    let process = worker().spawn(hoard);
    let process = process.map_err(|error| format!("{error:?}"))?;
    let until = Instant::now() + 3 * LIFE;
    loop {
        step("does what needs descriptors");
        let made = (Mutex::new(1), channel::<u8>(), std::fs::File::open("/dev/null"));
        let (open, tries) = (Attack::descriptors(), tries.get(0).unwrap_or(0));
        if made.0.is_err() || made.1.is_err() || made.2.is_err() {
            return Err(format!("after {tries} tries, with {open} open: {made:?}"));
        }
        attack.check()?;
        if open >= LIMIT / 2 && tries >= TRIES {
            return attack.end(process);
        }
        if Instant::now() > until {
            return Err(format!("it got too few in {tries} tries: {open}"));
        }
    }
}

fn use_queue(queue: &Queue<Item>, random: &mut Random) {
    match random.below(8) {
        0 => drop((queue.len(), queue.is_closed())),
        1..4 => drop(queue.put_timeout(Item::any(random), PATIENT)),
        _ => drop(queue.get_timeout(PATIENT).map(|item| item.touch())),
    }
}

fn queue(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    let what = "uses a queue that it shares";
    if random.one_in(2) {
        let queue = if random.one_in(2) { Queue::bounded(8) } else { Queue::unbounded() }.unwrap();
        let process = spawn(Prey::Queue(queue.clone()), random)?;
        use_it(attack, random, what, |random| use_queue(&queue, random))?;
        return attack.end(process);
    }
    let jobs = JoinableQueue::bounded(8).unwrap();
    let process = spawn(Prey::Jobs(jobs.clone()), random)?;
    use_it(attack, random, what, |random| match random.below(8) {
        0 => drop((jobs.len(), jobs.dead_letters())),
        1 => drop(jobs.join_timeout(PATIENT)),
        2..5 => drop(jobs.put_timeout(Item::any(random), PATIENT)),
        _ => drop(jobs.get_timeout(PATIENT).map(|job| job.task_done())),
    })?;
    attack.end(process)
}

fn messages(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    let (sender, receiver) = channel().unwrap();
    if random.one_in(2) {
        let process = spawn(Prey::Receiver(receiver), random)?;
        use_it(attack, random, "sends", |random| {
            drop(sender.send_timeout(Item::any(random), PATIENT));
        })?;
        return attack.end(process);
    }
    let process = spawn(Prey::Sender(sender.clone()), random)?;
    use_it(attack, random, "receives", |_| {
        let _ = receiver.recv_timeout(PATIENT).map(|item: Item| item.touch());
    })?;
    attack.end(process)?;
    // Messages of an honest sender on the same channel still arrive.
    step("sends to itself");
    let until = Instant::now() + LIFE;
    let mut to_send = Some(Item { bytes: vec![42; 33], handle: None, memory: None });
    loop {
        // The hostile sender may have filled what all senders of the channel share. Receiving makes
        // room.
        if let Some(item) = to_send.take() {
            to_send = match sender.send_timeout(item, PATIENT) {
                Ok(()) => None,
                Err(SendTimeoutError::Timeout(item)) => Some(item),
                Err(error) => return Err(format!("an honest sender: {error:?}")),
            };
        }
        // All that is there: the hostile one may have left thousands.
        loop {
            match receiver.recv_timeout(PATIENT) {
                Ok(item) if item.bytes == [42; 33] => return Ok(()),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => break,
                Err(error) if Instant::now() > until => {
                    return Err(format!("an honest sender is not heard: {error:?}, {to_send:?}"));
                }
                _ => {}
            }
        }
    }
}

/// An honest worker that shares locks with a hostile one. An event that it waits for without a
/// limit, such as the release of a permit, may never come.
#[crate::worker(crate = crate)]
fn share(seed: u64, locks: AllLocks) {
    let mut random = Random::of(seed);
    loop {
        locks.use_one(&mut random);
    }
}

fn locks(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    let locks = AllLocks::new();
    let sharing = worker().spawn(share::new(random.below(u64::MAX), locks.clone()));
    let sharing = sharing.map_err(|error| format!("{error:?}"))?;
    let process = spawn(Prey::Locks(Box::new(locks.clone())), random)?;
    use_it(attack, random, "uses locks that it shares", |random| match random.below(4) {
        0 => drop(locks.mutex.lock_timeout(PATIENT).map(|mut guard| *guard += 1)),
        1 => drop(locks.text.lock_timeout(PATIENT).map(|mut text| text.push('x'))),
        2 => drop(locks.event.wait_timeout(PATIENT)),
        _ => locks.event.set(),
    })?;
    attack.end(sharing)?;
    attack.end(process)
}

fn memory(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    let numbers = SharedSlice::<u32>::zeroed(5000).unwrap();
    let bytes = SharedBytes::copy_from(&[9; 5000]).unwrap();
    let (sender, receiver) = channel().unwrap();
    let process = spawn(Prey::Memory(numbers.clone(), bytes.clone(), sender), random)?;
    use_it(attack, random, "uses shared memory", |_| {
        assert_eq!((numbers.to_vec().len(), bytes.len()), (5000, 5000));
        let _ = receiver.recv_timeout(PATIENT).map(|item: Item| item.touch());
    })?;
    attack.end(process)
}

#[crate::worker(crate = crate)]
fn rebel(seed: u64) -> Vec<u8> {
    if !fuzz::is_hostile() {
        turn(seed);
    }
    vec![seed as u8; if seed % 7 == 0 { 50_000 } else { 10 }]
}

#[crate::worker(crate = crate)]
fn task(number: u64) -> u64 {
    number + 1
}

/// The pool's own worker processes are hostile: tasks on them may be lost, and nothing may wait for
/// them.
fn pool(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    step("makes a pool");
    let pool = Pool::builder().workers(2).restart_limit(1000).task_timeout(Duration::from_secs(1));
    let pool = pool.build().map_err(|error| format!("a pool: {error:?}"))?;
    for _ in 0..1 + random.below(3) {
        step("submits tasks");
        let submitted = |error: &dyn std::fmt::Debug| format!("to submit: {error:?}");
        let bad = pool.submit(rebel::new(random.below(u64::MAX))).map_err(|e| submitted(&e))?;
        let mut tasks = Vec::new();
        for number in 0..random.below(20) {
            tasks.push(pool.submit(task::new(number)).map_err(|e| submitted(&e))?);
        }
        step("waits for tasks");
        for task in tasks {
            let ended = task.join_timeout(Duration::from_secs(20));
            if ended.is_err_and(|error| error.is_timeout()) {
                let what = format!("a task does not end: {:?}, {pool:?}", pool.stats());
                // Dropping it would wait for the task.
                std::mem::forget(pool);
                return Err(what);
            }
        }
        let _ = bad.join_timeout(Duration::from_millis(10));
        attack.check()?;
    }
    step("kills a pool");
    pool.kill();
    drop(pool);
    Ok(())
}

struct Rogue {
    notes: u64,
}

#[crate::actor(crate = crate)]
impl Rogue {
    fn start(notes: u64) -> Self {
        Rogue { notes }
    }

    pub fn turn(&mut self, seed: u64) {
        turn(seed);
    }

    pub fn echo(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    #[cast]
    pub fn note(&mut self, bytes: Vec<u8>) {
        self.notes += bytes.len() as u64;
    }
}

fn use_actor(actor: &RogueHandle, random: &mut Random) {
    match random.below(4) {
        0 => drop(actor.note(random.bytes(100))),
        1 => drop(actor.monitor()),
        _ => drop(actor.with_timeout(PATIENT).echo(random.bytes(100))),
    }
}

fn actor(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    step("starts an actor");
    let actor = Rogue::spawn(0).map_err(|error| format!("an actor: {error:?}"))?;
    step("makes it hostile");
    let _ = actor.with_timeout(Duration::from_millis(100)).turn(random.below(u64::MAX));
    use_it(attack, random, "calls a hostile actor", |random| use_actor(&actor, random))?;
    step("kills it");
    actor.kill();
    Ok(())
}

fn client(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    step("starts an actor");
    let actor = Rogue::spawn(0).map_err(|error| format!("an actor: {error:?}"))?;
    let process = spawn(Prey::Actor(actor.address()), random)?;
    use_it(attack, random, "calls an actor", |random| use_actor(&actor, random))?;
    attack.end(process)?;
    // A process that has the actor's address may stop the actor. The call returns even then.
    step("calls an actor whose client was hostile");
    let _ = actor.with_timeout(Duration::from_millis(100)).echo(vec![5]);
    step("stops it");
    actor.stop();
    Ok(())
}

fn logs(attack: &mut Attack<'_>, random: &mut Random) -> Played {
    let process = spawn(Prey::Logs, random)?;
    use_it(attack, random, "hears logs", |_| thread::sleep(PATIENT))?;
    attack.end(process)
}

#[crate::worker(crate = crate)]
fn close_the_mailbox(actor: RogueHandle) {
    actor.note(vec![1]).unwrap();
    actor.close_mailbox();
}

#[crate::test(crate = crate)]
fn a_process_with_the_address_of_an_actor_does_not_close_the_mailbox() {
    let actor = Rogue::spawn(0).unwrap();
    let child = ProcessBuilder::new().spawn(close_the_mailbox::new(actor.address())).unwrap();
    child.join_timeout(Duration::from_secs(20)).unwrap();
    actor.note(vec![2]).expect("it is open");
    assert_eq!(actor.echo(vec![3]).unwrap(), [3]);
}
