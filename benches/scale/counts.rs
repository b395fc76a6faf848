//! Many queues in one process, and many processes of one parent.

use std::fs;
use std::time::{Duration, Instant};

use offspring::channel::channel;
use offspring::sync::Mutex;
use offspring::{Process, Queue, Receiver, Sender};
use serde::{Deserialize, Serialize};

use crate::figures::{self, OWN, memory, open_descriptors};
use crate::run::{Crew, Meter, Plan, sleep};

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn us(time: Duration, of: usize) -> f64 {
    time.as_secs_f64() * 1e6 / of as f64
}

#[offspring::worker]
fn put_in_all(parts: Receiver<Vec<Queue<u64>>>, here: Meter) {
    let mut kept = Vec::new();
    for part in &parts {
        for queue in &part {
            queue.put(1).unwrap();
            here.tick();
        }
        kept.push(part);
    }
    sleep()
}

#[offspring::worker]
fn echo(pair: (Queue<u64>, Queue<u64>)) {
    while let Ok(n) = pair.0.get() {
        pair.1.put(n).unwrap();
    }
}

/// Microseconds of a round trip between this process and a child.
fn round_trip(plan: &Plan) -> f64 {
    let pair = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let mut crew = Crew::default();
    crew.add(echo::new(pair.clone()));
    let turn = |n| {
        pair.0.put(n).unwrap();
        assert_eq!(pair.1.get().unwrap(), n);
    };
    turn(0);
    let (since, mut turns) = (Instant::now(), 0);
    while since.elapsed() < plan.window() {
        turn(turns);
        turns += 1;
    }
    us(since.elapsed(), turns as usize)
}

/// Queues in one value, which may hold 32 handles.
const IN_ONE_VALUE: usize = 16;

pub(crate) fn queues(plan: &Plan) {
    let count = plan.many(2000);
    let before = (open_descriptors(), memory(std::process::id(), OWN));
    let since = Instant::now();
    let queues: Vec<Queue<u64>> = (0..count).map(|_| Queue::unbounded().unwrap()).collect();
    println!("{count} queues made: {:.2} us each", us(since.elapsed(), count));
    let since = Instant::now();
    for queue in &queues {
        queue.put(1).unwrap();
        queue.get().unwrap();
    }
    println!("a put and a get in the owner: {:.2} us each", us(since.elapsed(), count));
    println!("round trip over two more: {:.1} us", round_trip(plan));
    let (mut crew, here) = (Crew::default(), Meter::new(1));
    let (parts, received) = channel().unwrap();
    crew.add(put_in_all::new(received, here.clone()));
    let since = Instant::now();
    queues.chunks(IN_ONE_VALUE).for_each(|part| parts.send(part.to_vec()).unwrap());
    here.wait_for(count as u64);
    let elapsed = since.elapsed();
    println!(
        "given to a child that puts one in each: {:.0} us each; the owner has {:.2} descriptors and {:.1} KiB more for each",
        us(elapsed, count),
        more(open_descriptors(), before.0) / count as f64,
        (memory(std::process::id(), OWN) - before.1) / count as f64,
    );
    println!("round trip over two more: {:.1} us", round_trip(plan));
}

/// The handle that a living child holds, if any.
#[derive(Serialize, Deserialize)]
enum Held {
    Nothing,
    Queue(Queue<u64>),
    Lock(Mutex<u64>),
    Sender(Sender<u64>),
}

#[offspring::worker]
fn live(held: Held, here: Meter) {
    match &held {
        Held::Nothing => {}
        Held::Queue(queue) => drop(queue.len()),
        Held::Lock(lock) => drop(lock.lock()),
        Held::Sender(sender) => sender.send(1).unwrap(),
    }
    here.tick();
    sleep()
}

fn more(now: usize, before: usize) -> f64 {
    now as f64 - before as f64
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("/proc is there").count()
}

pub(crate) fn alive(plan: &Plan) {
    println!(
        "{:<10} {:>9} {:>9} {:>12} {:>10} {:>14} {:>12}",
        "which hold",
        "processes",
        "start, ms",
        "descriptors",
        "threads",
        "KiB of parent",
        "of a child"
    );
    let (queue, lock) = (Queue::unbounded().unwrap(), Mutex::new(0).unwrap());
    let (sender, receiver) = channel().unwrap();
    type Hold<'a> = &'a dyn Fn() -> Held;
    let kinds: [(&str, Hold<'_>); 4] = [
        ("nothing", &|| Held::Nothing),
        ("a queue", &|| Held::Queue(queue.clone())),
        ("a lock", &|| Held::Lock(lock.clone())),
        ("a sender", &|| Held::Sender(sender.clone())),
    ];
    for (name, hold) in kinds {
        let mut warm = Crew::default();
        let here = Meter::new(1);
        warm.add(live::new(hold(), here.clone()));
        // A new sender may have to wait until the receiver has read the messages of the others.
        let receive = |count| {
            let sent = if matches!(hold(), Held::Sender(_)) { count } else { 0 };
            (0..sent).for_each(|_| assert_eq!(receiver.recv().unwrap(), 1));
        };
        receive(1);
        here.wait_for(1);
        for count in plan.counts(&[100, 1000]) {
            let before = (open_descriptors(), threads(), memory(std::process::id(), OWN));
            let (mut crew, here) = (Crew::default(), Meter::new(count));
            let since = Instant::now();
            (0..count).for_each(|n| crew.add(live::new(hold(), here.of(n))));
            receive(count);
            here.wait_for(count as u64);
            let elapsed = since.elapsed();
            let all = count as f64;
            let children = crew.processes().iter().take(20);
            let of_children: Vec<f64> = children.map(|child| memory(child.pid(), OWN)).collect();
            println!(
                "{name:<10} {count:>9} {:>9.2} {:>12.2} {:>10.3} {:>14.1} {:>12.0}",
                ms(elapsed) / all,
                more(open_descriptors(), before.0) / all,
                more(threads(), before.1) / all,
                (memory(std::process::id(), OWN) - before.2) / all,
                of_children.iter().sum::<f64>() / of_children.len() as f64,
            );
        }
    }
    let count = plan.counts(&[100, 200])[1];
    if let Some(figures) = figures::python_figures("scale.py", &["alive", &count.to_string()]) {
        if let [start, descriptors, threads, parent, child] = figures[..] {
            println!(
                "{:<10} {count:>9} {start:>9.2} {descriptors:>12.2} {threads:>10.3} {parent:>14.1} {child:>12.0}",
                "Python"
            );
        }
    }
}

#[offspring::worker]
fn one() -> u64 {
    1
}

/// Milliseconds of a start, of an end by itself, and of a kill.
fn start_and_end(count: usize, hold: impl Fn() -> Held) -> (f64, f64, f64) {
    let since = Instant::now();
    let children: Vec<Process<u64>> = (0..count).map(|_| one::spawn().unwrap()).collect();
    let sum: u64 = children.iter().map(|child| child.join().unwrap()).sum();
    assert_eq!(sum, count as u64);
    let by_itself = since.elapsed();
    let (mut crew, here) = (Crew::default(), Meter::new(count));
    let since = Instant::now();
    (0..count).for_each(|n| crew.add(live::new(hold(), here.of(n))));
    here.wait_for(count as u64);
    let start = since.elapsed();
    let since = Instant::now();
    drop(crew);
    let each = |time| ms(time) / count as f64;
    (each(by_itself), each(start), each(since.elapsed()))
}

pub(crate) fn ends(plan: &Plan) {
    println!(
        "{:<10} {:>9} {:>24} {:>14} {:>14}",
        "which hold", "processes", "start, value, join, ms", "start, ms", "kill, join, ms"
    );
    let queue = Queue::unbounded().unwrap();
    for count in plan.counts(&[50, 100, 200, 500]) {
        for (name, has_queue) in [("nothing", false), ("a queue", true)] {
            let hold = || if has_queue { Held::Queue(queue.clone()) } else { Held::Nothing };
            let (by_itself, start, kill) = start_and_end(count, hold);
            println!("{name:<10} {count:>9} {by_itself:>24.2} {start:>14.2} {kill:>14.3}");
            // The hub is done with the dead when it answers again.
            if has_queue {
                let since = Instant::now();
                let _ = round_trip(&Plan { short: true, ..Plan::default() });
                println!(
                    "{:<10} {:>9} a round trip {:.0} ms after the last kill",
                    "",
                    "",
                    ms(since.elapsed())
                );
            }
        }
    }
}
