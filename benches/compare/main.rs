//! The same work done by offspring, raw ipc-channel, procspawn and Python's multiprocessing.
//!
//! `cargo bench --bench compare [-- ROUNDS] [NAME] [--chart FILE]`: the systems take turns for
//! several rounds (default 5). NAME selects the rows whose names contain it; `--chart` writes the
//! ratios as an SVG. The table shows the medians, and how many times better ours is than raw
//! ipc-channel and Python. Noise of the machine affects all columns alike, so do not compare
//! figures of different runs. Without `python3`, its column is empty.

mod chart;
#[path = "../figures/mod.rs"]
mod figures;
mod measure;
mod ours;
mod raw;

use chart::Bars;
use figures::{median, own_median};
use offspring::Queue;

const ITEMS: u64 = 2_000_000;
const BOUNDED_ITEMS: u64 = 500_000;
const MIB: usize = 1 << 20;

type Measure = fn() -> f64;

struct Row {
    name: &'static str,
    unit: &'static str,
    /// Whether less is better.
    less: bool,
    ours: Measure,
    /// ipc-channel; procspawn in the rows about starts.
    raw: Option<Measure>,
    python: &'static str,
}

const fn row(
    name: &'static str,
    unit: &'static str,
    ours: Measure,
    raw: Option<Measure>,
    python: &'static str,
) -> Row {
    Row { name, unit, less: false, ours, raw, python }
}

const fn less(row: Row) -> Row {
    Row { less: true, ..row }
}

const ROWS: &[Row] = &[
    row(
        "queue, 1 to 1",
        "M items/s",
        || ours::queue(Queue::unbounded().unwrap(), ITEMS),
        Some(raw::queue),
        "queue",
    ),
    row(
        "queue of 64, 1 to 1",
        "M items/s",
        || ours::queue(Queue::bounded(64).unwrap(), BOUNDED_ITEMS),
        None,
        "bounded",
    ),
    row("joinable queue, 4 to 4", "M items/s", ours::jobs, None, "jobs"),
    less(row("round trip, queue pair", "us", ours::queue_pair, Some(raw::pipe), "queue_pair")),
    less(row("round trip, pipe", "us", ours::pipe, Some(raw::pipe), "pipe")),
    row(
        "pipe, 1 MiB values",
        "GB/s",
        || ours::values(MIB, 500),
        Some(|| raw::payload(MIB, 500)),
        "mib",
    ),
    row(
        "pipe, 1 MiB bytes",
        "GB/s",
        || ours::bytes(MIB, 1000),
        Some(|| raw::payload(MIB, 500)),
        "mib",
    ),
    row(
        "pipe, 64 MiB values",
        "GB/s",
        || ours::values(64 * MIB, 16),
        Some(|| raw::payload(64 * MIB, 16)),
        "mib64",
    ),
    row(
        "pipe, 64 MiB bytes",
        "GB/s",
        || ours::bytes(64 * MIB, 32),
        Some(|| raw::payload(64 * MIB, 16)),
        "mib64",
    ),
    row("queue, 1 MiB items", "GB/s", || ours::items(MIB, 500), None, "mib_items"),
    less(row("spawn, value, join *", "ms", ours::spawns, Some(raw::procspawn_spawns), "spawn")),
    less(row("memory of a worker", "MiB", ours::memory, None, "memory")),
    less(row("descriptors a worker", "each", ours::descriptors, None, "descriptors")),
];

/// Measures a row in several rounds, prints it, and returns its ratios.
fn compare(row: &Row, rounds: usize) -> Bars {
    let (mut ours, mut raw, mut python) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push((row.ours)());
        raw.extend(row.raw.map(|measure| measure()));
        python.extend(figures::python("compare.py", &[row.python]));
    }
    let ours = own_median(ours);
    let times = |figure: f64| {
        if row.less { figure / ours } else { ours / figure }
    };
    let show = |figure: Option<f64>, digits: usize| {
        figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
    };
    let (raw, python) = (median(raw), median(python));
    let ratios = [python.map(times), raw.map(times)];
    println!(
        "{:<24} {:>9} {:>10} {:>10} {:>10} {:>9} {:>9}",
        row.name,
        row.unit,
        show(Some(ours), 3),
        show(raw, 3),
        show(python, 3),
        show(ratios[1], 1),
        show(ratios[0], 1),
    );
    Bars { name: row.name.trim_end_matches(" *").to_owned(), times: ratios }
}

fn main() {
    offspring::init();
    // SAFETY: the spawned functions are part of this program, and at the same offset in each
    // process.
    unsafe { procspawn::assert_spawn_is_safe() };
    procspawn::init();
    let mut arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let chart = arguments.iter().position(|argument| argument == "--chart").map(|at| {
        let file = arguments.drain(at..).nth(1);
        file.expect("--chart is followed by the name of a file")
    });
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let name = arguments.iter().find(|argument| argument.parse::<usize>().is_err());
    println!(
        "{:<24} {:>9} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "", "", "offspring", "raw ipc", "Python", "x raw", "x Python"
    );
    let rows = ROWS.iter().filter(|row| name.is_none_or(|name| row.name.contains(name.as_str())));
    let bars: Vec<Bars> = rows.map(|row| compare(row, rounds)).collect();
    println!("* beside procspawn, which leaves all but starts to raw ipc-channel");
    if let Some(file) = chart {
        std::fs::write(&file, chart::svg(&bars)).expect("the chart can be written");
    }
}
