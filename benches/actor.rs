//! Actors compared with what they are built on: a call with the round trip of a pipe, casts with a
//! queue as long as the mailbox, a restart with a spawn.
//!
//! `cargo bench --bench actor [-- ROUNDS PART-OF-A-NAME]`: the two take turns for several rounds
//! (default 5); the table shows medians and their ratio. Figures of different runs do not compare.

mod figures;

use std::time::{Duration, Instant};

use figures::own_median;
use offspring::actor::{Actor, ActorBuilder, ActorRef, Context, spawn};
use offspring::supervisor::{ChildSpec, Supervisor};
use offspring::{Connection, JoinableQueue};
use serde::{Deserialize, Serialize};

const ROUND_TRIPS: u64 = 50_000;
/// The scheduler may start both sides on one core, and takes about 30 ms to find an idle one.
const WARM_UP: Duration = Duration::from_millis(100);
const CASTS: u64 = 300_000;
const SPAWNS: u64 = 50;

struct Adder(u64);

#[derive(Serialize, Deserialize)]
enum Message {
    Add(u64),
    Echo(u64),
}

impl Actor for Adder {
    type Args = ();
    type Message = Message;
    type Reply = u64;

    fn start((): (), _: &Context<Adder>) -> Result<Adder, Box<dyn std::error::Error>> {
        Ok(Adder(0))
    }

    fn handle(&mut self, message: Message) -> u64 {
        match message {
            Message::Add(n) => {
                self.0 += n;
                self.0
            }
            Message::Echo(n) => n,
        }
    }
}

offspring::register_actor!(Adder);

#[offspring::worker]
fn echo(connection: Connection<u64, u64>) {
    while let Ok(n) = connection.recv() {
        connection.send(n).expect("the parent listens");
    }
}

#[offspring::worker]
fn sum(queue: JoinableQueue<u64>) -> u64 {
    let mut sum = 0;
    for n in &queue {
        sum += *n;
        n.task_done();
    }
    sum
}

#[offspring::worker]
fn one() -> u64 {
    1
}

/// Returns microseconds per item.
fn each(count: u64, since: Instant) -> f64 {
    since.elapsed().as_secs_f64() / count as f64 * 1e6
}

/// Returns microseconds per round trip, after a warm-up.
fn round_trips(round_trip: impl Fn(u64) -> u64) -> f64 {
    let begin = Instant::now();
    while begin.elapsed() < WARM_UP {
        round_trip(0);
    }
    let since = Instant::now();
    (0..ROUND_TRIPS).for_each(|n| assert_eq!(round_trip(n), n));
    each(ROUND_TRIPS, since)
}

fn call() -> f64 {
    let adder = spawn::<Adder>(()).unwrap();
    round_trips(|n| adder.call(Message::Echo(n)).unwrap())
}

fn pipe() -> f64 {
    let (ours, theirs) = offspring::pipe().unwrap();
    let process = echo::spawn(theirs).unwrap();
    let each = round_trips(|n| {
        ours.send(n).unwrap();
        ours.recv().unwrap()
    });
    drop(ours);
    process.join().unwrap();
    each
}

fn casts(capacity: usize) -> f64 {
    let adder = ActorBuilder::new().mailbox(capacity).spawn::<Adder>(()).unwrap();
    let since = Instant::now();
    (0..CASTS).for_each(|n| adder.cast(Message::Add(n)).unwrap());
    assert_eq!(adder.call(Message::Add(0)).unwrap(), CASTS * (CASTS - 1) / 2);
    each(CASTS, since)
}

fn puts(capacity: usize) -> f64 {
    let queue = JoinableQueue::bounded(capacity).unwrap();
    let process = sum::spawn(queue.clone()).unwrap();
    let since = Instant::now();
    (0..CASTS).for_each(|n| queue.put(n).unwrap());
    queue.join().unwrap();
    let each = each(CASTS, since);
    queue.close().unwrap();
    assert_eq!(process.join().unwrap(), CASTS * (CASTS - 1) / 2);
    each
}

fn spawns() -> f64 {
    let since = Instant::now();
    (0..SPAWNS).for_each(|_| assert_eq!(one::spawn().unwrap().join().unwrap(), 1));
    each(SPAWNS, since)
}

fn starts() -> f64 {
    let since = Instant::now();
    (0..SPAWNS).for_each(|_| {
        let adder = spawn::<Adder>(()).unwrap();
        assert_eq!(adder.call(Message::Echo(1)).unwrap(), 1);
        adder.kill();
    });
    each(SPAWNS, since)
}

/// Measures from the kill of a supervised actor to the first reply of its next incarnation.
fn restarts() -> f64 {
    let supervisor = Supervisor::builder()
        .intensity(usize::MAX)
        .child(ChildSpec::actor::<Adder>("adder", ()))
        .start()
        .unwrap();
    let adder: ActorRef<Adder> = supervisor.actor("adder").unwrap();
    let mut all = Duration::ZERO;
    for restarts in 0..SPAWNS {
        // The supervisor publishes the new pid a moment after the reply.
        let pid = loop {
            match &supervisor.children()[0] {
                child if child.restarts == restarts && child.pid.is_some() => {
                    break child.pid.unwrap();
                }
                _ => std::thread::yield_now(),
            }
        };
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let since = Instant::now();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        while adder.call(Message::Echo(1)).is_err() {}
        all += since.elapsed();
    }
    supervisor.stop();
    all.as_secs_f64() / SPAWNS as f64 * 1e6
}

struct Row {
    name: &'static str,
    actor: fn() -> f64,
    beside: fn() -> f64,
}

const ROWS: &[Row] = &[
    Row { name: "call / pipe's round trip", actor: call, beside: pipe },
    Row { name: "cast / put, mailbox of 64", actor: || casts(64), beside: || puts(64) },
    Row { name: "cast / put, mailbox of 4096", actor: || casts(4096), beside: || puts(4096) },
    Row { name: "start and kill / spawn and join", actor: starts, beside: spawns },
    Row { name: "kill to next reply / spawn and join", actor: restarts, beside: spawns },
];

#[offspring::main]
fn main() {
    let rounds: usize =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let only = std::env::args()
        .skip(1)
        .filter(|argument| argument.parse::<usize>().is_err())
        .find(|argument| ROWS.iter().any(|row| row.name.contains(argument.as_str())));
    println!("{:<40} {:>12} {:>12} {:>8}", "us each", "actor", "beside", "ratio");
    for row in
        ROWS.iter().filter(|row| only.as_ref().is_none_or(|only| row.name.contains(only.as_str())))
    {
        let (mut actor, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            actor.push((row.actor)());
            beside.push((row.beside)());
        }
        let (actor, beside) = (own_median(actor), own_median(beside));
        println!("{:<40} {actor:>12.2} {beside:>12.2} {:>8.2}", row.name, actor / beside);
    }
}
