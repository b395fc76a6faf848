//! The sum over all files, and the table.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::Duration;

use crate::count::{Outcome, Words};
use crate::files::File;

pub(crate) struct Totals {
    files: usize,
    binary: usize,
    words: Words,
    problems: Vec<String>,
}

impl Totals {
    pub(crate) fn new(problems: Vec<String>) -> Totals {
        Totals { files: 0, binary: 0, words: Words::new(), problems }
    }

    pub(crate) fn add(&mut self, files: &[File], words: Words, outcomes: Vec<Outcome>) {
        if self.words.is_empty() {
            self.words = words;
        } else {
            for (word, count) in words {
                *self.words.entry(word).or_default() += count;
            }
        }
        for (file, outcome) in files.iter().zip(outcomes) {
            match outcome {
                Outcome::Counted => self.files += 1,
                Outcome::Binary => self.binary += 1,
                Outcome::Failed(problem) => {
                    self.problems.push(format!("{}: {problem}", file.path().display()))
                }
            }
        }
    }

    pub(crate) fn write(&self, out: &mut dyn Write, top: usize, time: Duration) -> io::Result<()> {
        let mut table: Vec<(&String, &u64)> = self.words.iter().collect();
        table.sort_unstable_by_key(|&(word, count)| (Reverse(count), word));
        writeln!(out, "{:>12}  word", "count")?;
        for (word, count) in table.iter().take(top) {
            writeln!(out, "{count:>12}  {word}")?;
        }
        writeln!(out)?;
        writeln!(out, "{:>12}  files", self.files)?;
        writeln!(out, "{:>12}  binary files skipped", self.binary)?;
        writeln!(out, "{:>12}  words", self.words.values().sum::<u64>())?;
        writeln!(out, "{:>12}  distinct words", self.words.len())?;
        writeln!(out, "{:>12.2}  seconds", time.as_secs_f64())
    }

    /// Returns what could not be counted, in a stable order.
    pub(crate) fn into_problems(mut self) -> Vec<String> {
        self.problems.sort_unstable();
        self.problems
    }
}
