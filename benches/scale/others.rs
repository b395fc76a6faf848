//! The other owners of many clients: a step of one busy client beside idle ones.

use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use offspring::actor::{Actor, Context, spawn};
use offspring::channel::channel;
use offspring::sync::{Mutex, Semaphore};
use offspring::{ActorRef, Pool, Receiver, Selector, Sender};
use serde::{Deserialize, Serialize};

use crate::figures::own_median;
use crate::run::{Crew, Meter, Plan, processor_time, sleep};

const COUNTS: &[usize] = &[0, 4, 16, 100, 500];

/// The handle that each client of a part holds, if any.
#[derive(Clone, Serialize, Deserialize)]
enum Held {
    Sender(Sender<u64>),
    Lock(Mutex<u64>),
    Semaphore(Semaphore),
    Actor(ActorRef<Echo>),
    Logs,
}

impl Held {
    fn step(&self) {
        match self {
            Held::Sender(sender) => sender.send(1).unwrap(),
            // A user that was killed leaves it poisoned.
            Held::Lock(lock) => drop(lock.lock()),
            Held::Semaphore(semaphore) => drop(semaphore.acquire().unwrap()),
            Held::Actor(actor) => assert_eq!(actor.call(1).unwrap(), 1),
            Held::Logs => log::info!("a step"),
        }
    }
}

/// Makes one step, and is idle from then on.
#[offspring::worker]
fn once(held: Held, here: Meter) {
    held.step();
    here.tick();
    sleep()
}

/// Makes steps until it is killed.
#[offspring::worker]
fn busy(held: Held, meter: Meter) {
    loop {
        held.step();
        meter.tick();
    }
}

struct Echo;

impl Actor for Echo {
    type Args = ();
    type Message = u64;
    type Reply = u64;

    fn start((): (), _: &Context<Echo>) -> Result<Echo, Box<dyn std::error::Error>> {
        Ok(Echo)
    }

    fn handle(&mut self, message: u64) -> u64 {
        message
    }
}

offspring::register_actor!(Echo);

/// A window of steps of this process: nanoseconds of each, and of its processor time.
fn steps(plan: &Plan, mut step: impl FnMut()) -> (f64, f64) {
    let run = |window: Duration, step: &mut dyn FnMut()| {
        let (since, time, mut count) = (Instant::now(), processor_time(), 0.0);
        while since.elapsed() < window {
            (0..100).for_each(|_| step());
            count += 100.0;
        }
        let each = |time: Duration| time.as_secs_f64() * 1e9 / count;
        (each(since.elapsed()), each(processor_time() - time))
    };
    run(plan.warm_up(), &mut step);
    let measured = (0..plan.rounds()).map(|_| run(plan.window(), &mut step));
    let (all, own): (Vec<_>, Vec<_>) = measured.unzip();
    (own_median(all), own_median(own))
}

fn head(steps: &str) {
    println!("{:<32} {:>9} {:>12} {:>14}", steps, "idle", "ns a step", "of this process");
}

fn row(name: &str, count: usize, (all, own): (f64, f64)) {
    println!("{name:<32} {count:>9} {all:>12.0} {own:>14.0}");
}

/// Adds idle clients that hold `held`, until there are `count` of them.
fn fill(crew: &mut Crew, here: &Meter, count: usize, held: &Held) {
    while crew.len() < count {
        crew.add(once::new(held.clone(), here.of(crew.len())));
    }
    here.wait_for(count as u64);
}

#[offspring::worker]
fn ping(to: Sender<u64>, back: Receiver<u64>) {
    for n in 2.. {
        to.send(n).unwrap();
        assert_eq!(back.recv().unwrap(), n);
    }
}

pub(crate) fn senders(plan: &Plan) {
    head("a channel");
    let counts = plan.counts(COUNTS);
    let (sender, receiver) = channel().unwrap();
    let (mut crew, here) = (Crew::default(), Meter::new(500));
    for &count in &counts {
        while crew.len() < count {
            crew.add(once::new(Held::Sender(sender.clone()), here.of(crew.len())));
            assert_eq!(receiver.recv().unwrap(), 1);
        }
        let mut busy_ones = Crew::default();
        busy_ones.add(busy::new(Held::Sender(sender.clone()), Meter::new(1)));
        row(
            "a stream of one sender",
            count,
            steps(plan, || assert_eq!(receiver.recv().unwrap(), 1)),
        );
        drop(busy_ones);
        while receiver.try_recv().is_ok() {}
        let mut busy_ones = Crew::default();
        let (reply, back) = channel().unwrap();
        busy_ones.add(ping::new(sender.clone(), back));
        let answer = || reply.send(receiver.recv().unwrap()).unwrap();
        row("its round trip", count, steps(plan, answer));
        drop(busy_ones);
        while receiver.try_recv().is_ok() {}
    }
    drop(crew);
    for count in plan.counts(&[1, 4, 16, 64]) {
        let (mut crew, meter) = (Crew::default(), Meter::new(count));
        (0..count).for_each(|n| crew.add(busy::new(Held::Sender(sender.clone()), meter.of(n))));
        row(
            "a stream of so many senders",
            count,
            steps(plan, || assert_eq!(receiver.recv().unwrap(), 1)),
        );
    }
}

pub(crate) fn locks(plan: &Plan) {
    head("a lock");
    let (lock, semaphore) = (Mutex::new(0).unwrap(), Semaphore::new(1).unwrap());
    let (mut crew, here) = (Crew::default(), Meter::new(1000));
    for count in plan.counts(COUNTS) {
        let (by_lock, by_semaphore) =
            (Held::Lock(lock.clone()), Held::Semaphore(semaphore.clone()));
        fill(&mut crew, &here, count, &by_lock);
        row("a free mutex", count, steps(plan, || by_lock.step()));
        let mut others = Crew::default();
        others.add(busy::new(by_lock.clone(), Meter::new(1)));
        row("a mutex of two", count, steps(plan, || by_lock.step()));
        drop(others);
        row("a free semaphore", count, steps(plan, || by_semaphore.step()));
        let mut others = Crew::default();
        others.add(busy::new(by_semaphore.clone(), Meter::new(1)));
        row("a semaphore of two", count, steps(plan, || by_semaphore.step()));
    }
}

pub(crate) fn users(plan: &Plan) {
    let (lock, semaphore) = (Mutex::new(0).unwrap(), Semaphore::new(1).unwrap());
    for count in plan.counts(&[1, 4, 16, 64]) {
        for (name, held) in
            [("mutex", Held::Lock(lock.clone())), ("semaphore", Held::Semaphore(semaphore.clone()))]
        {
            let (mut crew, meter) = (Crew::default(), Meter::new(count));
            (0..count).for_each(|n| crew.add(busy::new(held.clone(), meter.of(n))));
            std::thread::sleep(plan.warm_up());
            let (rates, _) = meter.rates(plan.window());
            let sum = rates.iter().sum::<f64>();
            let least = rates.iter().copied().fold(f64::MAX, f64::min) * count as f64 / sum;
            println!("{count} users of a {name}: {sum:.0} a second, min/mean {least:.2}");
        }
    }
}

pub(crate) fn actors(plan: &Plan) {
    head("an actor");
    let actor = spawn::<Echo>(()).unwrap();
    let held = Held::Actor(actor.address());
    let (mut crew, here) = (Crew::default(), Meter::new(500));
    for count in plan.counts(COUNTS) {
        fill(&mut crew, &here, count, &held);
        row("a call", count, steps(plan, || held.step()));
    }
}

pub(crate) fn selector(plan: &Plan) {
    head("a selector");
    let selector = Selector::new();
    let mut idle = Vec::new();
    for count in plan.counts(COUNTS) {
        while idle.len() < count {
            let (sender, receiver) = channel::<u64>().unwrap();
            selector.add(&receiver).unwrap();
            idle.push((sender, receiver));
        }
        let (reply, back) = channel().unwrap();
        let (sender, receiver) = channel().unwrap();
        let key = selector.add(&receiver).unwrap();
        let mut crew = Crew::default();
        crew.add(ping::new(sender, back));
        let answer = || {
            assert_eq!(selector.ready(), Some(key));
            if let Ok(n) = receiver.try_recv() {
                reply.send(n).unwrap();
            }
        };
        row("a round trip of one source", count, steps(plan, answer));
        selector.remove(key);
    }
}

#[offspring::worker]
fn add(n: u64) -> u64 {
    n + 1
}

pub(crate) fn pool(plan: &Plan) {
    head("a pool of one more");
    for count in plan.counts(COUNTS) {
        let pool = Pool::new(count + 1).unwrap();
        // The first task of each worker waits for its start.
        for _ in 0..count + 1 {
            pool.run(add::new(1)).unwrap();
        }
        row("one task", count, steps(plan, || assert_eq!(pool.run(add::new(1)).unwrap(), 2)));
    }
}

struct Quiet;

impl Log for Quiet {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, _: &Record<'_>) {}
    fn flush(&self) {}
}

pub(crate) fn logs(plan: &Plan) {
    println!("{:<32} {:>9} {:>12} {:>14}", "log records", "idle", "records/s", "of this process");
    log::set_boxed_logger(Box::new(Quiet)).expect("no other part has a logger");
    log::set_max_level(LevelFilter::Info);
    let (mut crew, here) = (Crew::default(), Meter::new(500));
    for count in plan.counts(COUNTS) {
        fill(&mut crew, &here, count, &Held::Logs);
        let (mut others, meter) = (Crew::default(), Meter::new(1));
        others.add(busy::new(Held::Logs, meter.clone()));
        std::thread::sleep(plan.warm_up());
        let (rates, time) = meter.rates(plan.window());
        row("one busy child", count, (rates[0], time * 1e3));
    }
    log::set_max_level(LevelFilter::Off);
}
