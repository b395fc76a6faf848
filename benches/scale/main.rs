//! Measures what many clients cost: idle clients beside a busy pair, more clients in a crowd, and
//! one more after a thousand.
//!
//! `cargo bench --bench scale [-- PART ..] [--short] [--window MS] [--chart FILE]`: PART is one of
//! the names below, and all of them by default. `--short` runs every part with a handful of
//! processes for a moment, which shows that it works and no more. `--window` is the time of one
//! measurement, a second by default. `--chart` writes the curves of the part `idle` as
//! an SVG. Figures of another run, or of a busy machine, do not compare. Without `python3`, its
//! rows are absent.

mod chart;
mod counts;
mod crowd;
#[path = "../figures/mod.rs"]
mod figures;
mod idle;
mod others;
mod raw;
mod run;

use std::time::Duration;

use run::Plan;

/// Name, what it shows, the work.
type Part = (&'static str, &'static str, fn(&Plan));

const PARTS: &[Part] = &[
    ("idle", "a busy pair beside idle clients", idle::run),
    ("consumers", "many consumers of one queue", crowd::consumers),
    ("producers", "many producers of one queue", crowd::producers),
    ("queues", "many queues in one process", counts::queues),
    ("alive", "what a living process costs its parent", counts::alive),
    ("ends", "starts and ends of many processes", counts::ends),
    ("senders", "a channel with many senders", others::senders),
    ("locks", "locks with many handles", others::locks),
    ("users", "locks with many users", others::users),
    ("actors", "an actor with many clients", others::actors),
    ("selector", "a selector of many sources", others::selector),
    ("pool", "a pool of many workers", others::pool),
    ("logs", "log records of many children", others::logs),
];

/// Raises the limit of descriptors: there are more clients than the usual limit allows.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A part that needs more than the system grants reports that itself.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[offspring::main]
fn main() {
    raise_descriptors();
    let mut arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut plan = Plan::default();
    arguments.retain(|argument| {
        let is_short = argument == "--short";
        plan.short |= is_short;
        !is_short
    });
    let mut option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        let value = arguments.drain(at..arguments.len().min(at + 2)).nth(1);
        Some(value.unwrap_or_else(|| panic!("{name} is followed by its value")))
    };
    plan.chart = option("--chart");
    let window = option("--window").map(|text| text.parse().expect("--window is a number"));
    plan.window = window.map(Duration::from_millis);
    for argument in &arguments {
        assert!(PARTS.iter().any(|part| part.0 == argument), "there is no part {argument}");
    }
    for (name, title, work) in PARTS {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            println!("\n{name}: {title}");
            work(&plan);
        }
    }
}
