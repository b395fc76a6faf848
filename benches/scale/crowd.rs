//! Many consumers of one queue, and many producers.

use offspring::Queue;

use crate::figures;
use crate::idle::{consume, medians, produce};
use crate::raw;
use crate::run::{Crew, Meter, Plan};

const COUNTS: &[usize] = &[1, 4, 16, 64];

/// The rate of all, and the least of the crowd as a part of the mean.
type Figures = (f64, f64);

/// The same, and the time of the owner for each item.
type OwnFigures = (f64, f64, f64);

fn of_rates(rates: &[f64]) -> Figures {
    let (sum, least) = (rates.iter().sum::<f64>(), rates.iter().copied().fold(f64::MAX, f64::min));
    (sum, if sum > 0.0 { least * rates.len() as f64 / sum } else { 0.0 })
}

fn crowd(plan: &Plan, bound: Option<usize>, producers: usize, consumers: usize) -> OwnFigures {
    let queue = match bound {
        Some(bound) => Queue::bounded(bound),
        None => Queue::unbounded(),
    };
    let (queue, mut crew) = (queue.unwrap(), Crew::default());
    let (puts, gets) = (Meter::new(producers), Meter::new(consumers));
    (0..consumers).for_each(|n| crew.add(consume::new(queue.clone(), gets.of(n))));
    (0..producers).for_each(|n| crew.add(produce::new(queue.clone(), puts.of(n))));
    std::thread::sleep(plan.warm_up());
    // A process that is alone on its side is not counted: its rate is the sum of the rates on the
    // other side.
    let meter = if producers > consumers { &puts } else { &gets };
    let measured = (0..plan.rounds()).map(|_| {
        let (rates, time) = meter.rates(plan.window());
        let (rate, least) = of_rates(&rates);
        (rate, least, time)
    });
    let measured: Vec<OwnFigures> = measured.collect();
    let (rate, time) = medians(measured.iter().map(|&(rate, _, time)| (rate, time)).collect());
    (rate, measured.iter().map(|figures| figures.1).fold(f64::MAX, f64::min), time)
}

fn python(plan: &Plan, bound: usize, producers: usize, consumers: usize) -> Option<Figures> {
    let numbers = [bound, producers, consumers].map(|number| number.to_string());
    let window = plan.window().as_secs_f64().to_string();
    let [bound, producers, consumers] = &numbers;
    let rates =
        figures::python_figures("scale.py", &["crowd", bound, producers, consumers, &window])?;
    Some(of_rates(&rates))
}

fn raw(plan: &Plan, producers: usize) -> Figures {
    let rates: Vec<Figures> =
        raw::rates_of_producers(plan, producers).iter().map(|rates| of_rates(rates)).collect();
    let (rate, _) = medians(rates.clone());
    (rate, rates.iter().map(|figures| figures.1).fold(f64::MAX, f64::min))
}

/// Numbers of producers and consumers, of which one is 1.
type Sides = fn(usize) -> (usize, usize);

fn table(plan: &Plan, sides: Sides) {
    println!(
        "{:<12} {:>9} {:>9} {:>12} {:>9} {:>9}   {:>12} {:>9}",
        "queue", "producers", "consumers", "items/s", "min/mean", "owner, us", "Python", "min/mean"
    );
    for (name, bound) in [("unbounded", None), ("of 64", Some(64))] {
        for count in plan.counts(COUNTS) {
            let (producers, consumers) = sides(count);
            let (rate, least, time) = crowd(plan, bound, producers, consumers);
            let python = python(plan, bound.unwrap_or(0), producers, consumers);
            let (theirs, their_least) = python.unwrap_or((f64::NAN, f64::NAN));
            println!(
                "{name:<12} {producers:>9} {consumers:>9} {rate:>12.0} {least:>9.2} {time:>9.3}   {theirs:>12.0} {their_least:>9.2}"
            );
        }
    }
}

pub(crate) fn consumers(plan: &Plan) {
    table(plan, |count| (1, count));
}

pub(crate) fn producers(plan: &Plan) {
    table(plan, |count| (count, 1));
    // It has no channel with several consumers.
    for count in plan.counts(COUNTS) {
        let (rate, least) = raw(plan, count);
        println!("{:<12} {count:>9} {:>9} {rate:>12.0} {least:>9.2}", "ipc-channel", 1);
    }
}
