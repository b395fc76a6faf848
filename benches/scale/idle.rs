//! A busy pair beside clients that do nothing.

use offspring::Queue;
use offspring::sync::Mutex;
use serde::{Deserialize, Serialize};

use crate::chart::{self, Curve};
use crate::figures::{self, own_median};
use crate::raw;
use crate::run::{Crew, Meter, Plan, sleep};

pub(crate) const COUNTS: &[usize] = &[0, 16, 50, 200, 800];
/// A process of Python takes ten times the memory.
const PYTHON_MAX: usize = 200;

/// The kind of object that the idle clients hold.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Same,
    Other,
    Own,
    Lock,
}

const KINDS: &[(Kind, &str)] = &[
    (Kind::Same, "have used the same queue"),
    (Kind::Other, "wait at one other queue"),
    (Kind::Own, "wait at a queue each"),
    (Kind::Lock, "have used a lock"),
];

#[derive(Serialize, Deserialize)]
enum Held {
    Used(Queue<u64>),
    Awaited(Queue<u64>),
    Lock(Mutex<u64>),
}

#[offspring::worker]
fn idle(held: Held, here: Meter) {
    match &held {
        Held::Used(queue) => drop(queue.len()),
        Held::Lock(lock) => drop(lock.lock()),
        Held::Awaited(queue) => {
            here.tick();
            let _ = queue.get();
        }
    }
    here.tick();
    sleep()
}

/// The value of every item of the stream. The round trips use other numbers.
const LEFT_OVER: u64 = 7;

#[offspring::worker]
pub(crate) fn produce(queue: Queue<u64>, meter: Meter) {
    while queue.put(LEFT_OVER).is_ok() {
        meter.tick();
    }
}

#[offspring::worker]
pub(crate) fn consume(queue: Queue<u64>, meter: Meter) {
    while queue.get().is_ok() {
        meter.tick();
    }
}

#[offspring::worker]
fn ping(there: Queue<u64>, back: Queue<u64>, meter: Meter) {
    for n in LEFT_OVER + 1.. {
        there.put(n).unwrap();
        // Items that the stream left in the queue come back first.
        while back.get().unwrap() != n {}
        meter.tick();
    }
}

#[offspring::worker]
fn echo(there: Queue<u64>, back: Queue<u64>) {
    while let Ok(n) = there.get() {
        back.put(n).unwrap();
    }
}

/// Items a second, and microseconds of a round trip; of both what they take of this process's time.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) stream: f64,
    pub(crate) of_stream: f64,
    pub(crate) round_trip: f64,
    pub(crate) of_round_trip: f64,
}

/// The medians of rates and times.
pub(crate) fn medians(measured: Vec<(f64, f64)>) -> (f64, f64) {
    let (rates, times) = measured.into_iter().unzip();
    (own_median(rates), own_median(times))
}

/// The busy pair, whose queue the parent owns.
fn pair(plan: &Plan, there: &Queue<u64>, back: &Queue<u64>) -> Pair {
    let streams = (0..plan.rounds()).map(|_| {
        let (mut crew, meter) = (Crew::default(), Meter::new(1));
        crew.add(consume::new(there.clone(), meter.clone()));
        crew.add(produce::new(there.clone(), Meter::new(1)));
        std::thread::sleep(plan.warm_up());
        let (rates, time) = meter.rates(plan.window());
        (rates[0], time)
    });
    let (stream, of_stream) = medians(streams.collect());
    let round_trips = (0..plan.rounds()).map(|_| {
        let (mut crew, meter) = (Crew::default(), Meter::new(1));
        crew.add(echo::new(there.clone(), back.clone()));
        crew.add(ping::new(there.clone(), back.clone(), meter.clone()));
        std::thread::sleep(plan.warm_up());
        let (rates, time) = meter.rates(plan.window());
        (1e6 / rates[0], time)
    });
    let (round_trip, of_round_trip) = medians(round_trips.collect());
    Pair { stream, of_stream, round_trip, of_round_trip }
}

fn beside(plan: &Plan, kind: Kind, counts: &[usize]) -> Vec<Pair> {
    let (there, back) = (Queue::bounded(64).unwrap(), Queue::unbounded().unwrap());
    let (other, lock) = (Queue::unbounded().unwrap(), Mutex::new(0).unwrap());
    let (mut crew, mut own) = (Crew::default(), Vec::new());
    let here = Meter::new(counts.last().copied().unwrap_or(0));
    let figures = counts.iter().map(|&count| {
        while crew.len() < count {
            let held = match kind {
                Kind::Same => Held::Used(there.clone()),
                Kind::Other => Held::Awaited(other.clone()),
                Kind::Lock => Held::Lock(lock.clone()),
                Kind::Own => {
                    own.push(Queue::unbounded().unwrap());
                    Held::Awaited(own[own.len() - 1].clone())
                }
            };
            crew.add(idle::new(held, here.of(crew.len())));
        }
        here.wait_for(count as u64);
        std::thread::sleep(plan.warm_up());
        pair(plan, &there, &back)
    });
    figures.collect()
}

fn python(plan: &Plan, count: usize) -> Option<Pair> {
    let window = plan.window().as_secs_f64().to_string();
    let figures = figures::python_figures("scale.py", &["idle", &count.to_string(), &window])?;
    let &[stream, round_trip] = &figures[..] else { return None };
    // Its queues have no owner.
    Some(Pair { stream, of_stream: f64::NAN, round_trip, of_round_trip: f64::NAN })
}

pub(crate) fn run(plan: &Plan) {
    let counts = plan.counts(COUNTS);
    println!(
        "{:<38} {:>6} {:>10} {:>6} {:>9} {:>14} {:>9}",
        "the idle clients", "number", "items/s", "of 0", "owner, us", "round trip, us", "owner, us"
    );
    let mut curves = Vec::new();
    let mut show = |name: &str, figures: &[(usize, Pair)]| {
        let Some(&(_, alone)) = figures.first() else { return };
        for &(count, pair) in figures {
            println!(
                "{name:<38} {count:>6} {:>10.0} {:>6.3} {:>9.3} {:>14.1} {:>9.2}",
                pair.stream,
                pair.stream / alone.stream,
                pair.of_stream,
                pair.round_trip,
                pair.of_round_trip
            );
        }
        let points = figures.iter().map(|&(count, pair)| (count, pair.stream)).collect();
        curves.push(Curve { name: name.to_owned(), points });
    };
    for &(kind, name) in KINDS {
        let figures = beside(plan, kind, &counts);
        show(name, &counts.iter().copied().zip(figures).collect::<Vec<_>>());
    }
    let figures = raw::beside(plan, &counts);
    show(
        "raw ipc-channel, one receiver set",
        &counts.iter().copied().zip(figures).collect::<Vec<_>>(),
    );
    let few = counts.iter().filter(|&&count| count <= PYTHON_MAX);
    let figures: Vec<_> = few.filter_map(|&count| Some((count, python(plan, count)?))).collect();
    show("Python, wait at one other queue", &figures);
    if let Some(file) = &plan.chart {
        std::fs::write(file, chart::svg(&counts, &curves)).expect("the chart can be written");
    }
}
