//! What the benches share.

// Each bench uses some of it.
#![allow(dead_code)]

use std::fs;
use std::process::Command;

/// The middle one; `None` if there are none.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// Of our own, which are always there.
pub(crate) fn own_median(figures: Vec<f64>) -> f64 {
    median(figures).expect("there is at least one round")
}

/// What a script of this folder prints; `None` without `python3`, or if the script fails.
pub(crate) fn python(script: &str, arguments: &[&str]) -> Option<f64> {
    python_figures(script, arguments)?.first().copied()
}

/// Like [`python`], for a script that prints several figures.
pub(crate) fn python_figures(script: &str, arguments: &[&str]) -> Option<Vec<f64>> {
    let script = format!("{}/benches/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3").arg(script).args(arguments).output().ok()?;
    let output = output.status.success().then_some(output.stdout)?;
    String::from_utf8(output).ok()?.split_whitespace().map(|figure| figure.parse().ok()).collect()
}

/// Sum of the lines of these names in a process's `smaps_rollup`, in KiB.
pub(crate) fn memory(pid: u32, names: &[&str]) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
    let line = |name: &&str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(*name)).expect("the system counts it");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number")
    };
    names.iter().map(line).sum()
}

/// The lines of memory that a process shares with no other.
pub(crate) const OWN: &[&str] = &["Private_Dirty:", "Private_Clean:"];

/// How many descriptors this process has open.
pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is there").count()
}
