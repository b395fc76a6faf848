//! The cost of a worker process, compared with a bare process of the same binary and with the crate
//! procspawn.
//!
//! `cargo bench --bench spawn [-- ROUNDS]`: the systems take turns for several rounds (default 9).
//! The table shows the medians, and the ratio of ours to the bare process. The bare process writes
//! its value into a pipe before any library runs, and exits: fork, exec, exit and wait are the
//! minimum.

mod figures;

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use figures::{OWN, median, memory, open_descriptors, own_median};
use offspring::process::Sandbox;
use offspring::{Process, ProcessBuilder};

const STARTS: u64 = 100;
const AT_ONCE: usize = 64;
/// The environment variable with the task of the bare process.
const BARE: &str = "OFFSPRING_BENCH_BARE";

#[offspring::worker]
fn value() -> u64 {
    7
}

/// Returns when its stdin ends.
#[offspring::worker]
fn wait() -> u64 {
    std::io::stdin().read_to_end(&mut Vec::new()).expect("stdin is a pipe");
    7
}

/// The main function of the bare process.
fn be_bare(what: &str) -> ! {
    if what == "wait" {
        std::io::stdin().read_to_end(&mut Vec::new()).expect("stdin is a pipe");
    }
    std::io::stdout().write_all(&7u64.to_le_bytes()).expect("stdout is a pipe");
    std::process::exit(0)
}

fn start_bare(what: &str) -> Child {
    let stdin = if what == "wait" { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new("/proc/self/exe");
    command.env(BARE, what).stdin(stdin).stdout(Stdio::piped());
    command.spawn().expect("this program can be started")
}

fn join_bare(mut child: Child) -> u64 {
    drop(child.stdin.take());
    let mut value = [0; 8];
    let mut stdout = child.stdout.take().expect("it is piped");
    stdout.read_exact(&mut value).expect("it writes its value");
    child.wait().expect("it ends");
    u64::from_le_bytes(value)
}

fn start_waiting() -> Process<u64> {
    let builder = ProcessBuilder::new().stdin(offspring::Stdio::piped());
    builder.spawn(wait::new()).expect("this program can be started")
}

fn join_waiting(mut process: Process<u64>) -> u64 {
    drop(process.take_stdin());
    process.join().expect("it returns")
}

/// Returns milliseconds for each of `count` processes.
fn each(count: u64, work: impl FnOnce()) -> f64 {
    let since = Instant::now();
    work();
    since.elapsed().as_secs_f64() * 1e3 / count as f64
}

fn one_by_one(start_and_join: impl Fn() -> u64) -> f64 {
    each(STARTS, || (0..STARTS).for_each(|_| assert_eq!(start_and_join(), 7)))
}

/// Starts all of them before it joins the first.
fn at_once<P>(start: impl Fn() -> P, join: impl Fn(P) -> u64) -> f64 {
    each(AT_ONCE as u64, || {
        let all: Vec<P> = (0..AT_ONCE).map(|_| start()).collect();
        all.into_iter().for_each(|one| assert_eq!(join(one), 7));
    })
}

const ALL: &[&str] = &["Rss:"];

fn memory_of_worker(names: &[&str]) -> f64 {
    let process = start_waiting();
    let memory = memory(process.pid(), names);
    join_waiting(process);
    memory
}

fn memory_of_bare(names: &[&str]) -> f64 {
    let child = start_bare("wait");
    // It is idle once it blocks in its read.
    while !fs::read_to_string(format!("/proc/{}/stat", child.id()))
        .is_ok_and(|stat| stat.contains(") S "))
    {
        std::thread::yield_now();
    }
    let memory = memory(child.id(), names);
    join_bare(child);
    memory
}

/// Returns the number of descriptors that this process needs for each child.
fn descriptors() -> f64 {
    value::spawn().expect("it starts").join().expect("it returns");
    let before = open_descriptors();
    let all: Vec<_> = (0..16).map(|_| start_waiting()).collect();
    // One per child is the pipe of this benchmark itself.
    let each = (open_descriptors() - before) as f64 / 16.0 - 1.0;
    for one in all {
        join_waiting(one);
    }
    each
}

type Measure = fn() -> f64;

struct Row {
    name: &'static str,
    unit: &'static str,
    ours: Measure,
    bare: Option<Measure>,
    procspawn: Option<Measure>,
}

fn procspawn_one() -> u64 {
    procspawn::spawn((), |()| 7).join().expect("it returns")
}

const ROWS: &[Row] = &[
    Row {
        name: "start, value, join",
        unit: "ms",
        ours: || one_by_one(|| value::spawn().expect("it starts").join().expect("it returns")),
        bare: Some(|| one_by_one(|| join_bare(start_bare("value")))),
        procspawn: Some(|| one_by_one(procspawn_one)),
    },
    Row {
        name: "the same, in a sandbox",
        unit: "ms",
        ours: || {
            one_by_one(|| {
                let builder = ProcessBuilder::new().sandbox(Sandbox::fields_only());
                builder.spawn(value::new()).expect("it starts").join().expect("it returns")
            })
        },
        bare: Some(|| one_by_one(|| join_bare(start_bare("value")))),
        procspawn: None,
    },
    Row {
        name: "the same, 64 alive at once",
        unit: "ms",
        ours: || at_once(start_waiting, join_waiting),
        bare: Some(|| at_once(|| start_bare("wait"), join_bare)),
        procspawn: Some(|| {
            at_once(|| procspawn::spawn((), |()| 7), |handle| handle.join().expect("it returns"))
        }),
    },
    Row {
        name: "memory of an idle one, shared too",
        unit: "KiB",
        ours: || memory_of_worker(ALL),
        bare: Some(|| memory_of_bare(ALL)),
        procspawn: None,
    },
    Row {
        name: "memory of an idle one, its own",
        unit: "KiB",
        ours: || memory_of_worker(OWN),
        bare: Some(|| memory_of_bare(OWN)),
        procspawn: None,
    },
    Row {
        name: "descriptors in the parent",
        unit: "each",
        ours: descriptors,
        bare: None,
        procspawn: None,
    },
];

fn main() {
    if let Ok(what) = std::env::var(BARE) {
        be_bare(&what);
    }
    offspring::init();
    // SAFETY: the spawned function is part of this program, and at the same offset in each process.
    unsafe { procspawn::assert_spawn_is_safe() };
    procspawn::init();
    let rounds: usize =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(9);
    println!(
        "{:<34} {:>5} {:>10} {:>10} {:>10} {:>7}",
        "", "", "offspring", "bare", "procspawn", "x bare"
    );
    for row in ROWS {
        let (mut ours, mut bare, mut procspawn) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push((row.ours)());
            bare.extend(row.bare.map(|measure| measure()));
            procspawn.extend(row.procspawn.map(|measure| measure()));
        }
        let ours = own_median(ours);
        let show = |figure: Option<f64>| {
            figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"))
        };
        let (bare, procspawn) = (median(bare), median(procspawn));
        println!(
            "{:<34} {:>5} {:>10} {:>10} {:>10} {:>7}",
            row.name,
            row.unit,
            show(Some(ours)),
            show(bare),
            show(procspawn),
            show(bare.map(|bare| ours / bare)),
        );
    }
}
