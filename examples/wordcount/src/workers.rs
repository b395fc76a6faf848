//! Counting in worker processes. A task may crash its process, and costs no more than its files.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};

use offspring::Pool;
use offspring::pool::TaskError;

use crate::complain;
use crate::count::{self, Outcome, Words};
use crate::files::File;
use crate::options::Options;
use crate::progress::Progress;
use crate::totals::Totals;

/// A file is given up after this many workers died while counting it alone. Counting has no side
/// effects, so it can be repeated.
const ATTEMPTS_MAX: u32 = 3;
/// Small files are counted together, up to this many bytes: most words are then sent once, not once
/// for each file.
const BATCH: u64 = 1 << 20;

/// Counts some files. Words of all of them come together, with the outcome of each.
#[offspring::worker]
fn count_files(files: Vec<File>, crash: Option<OsString>) -> (Words, Vec<Outcome>) {
    let mut words = Words::new();
    let outcomes = files.iter().map(|file| {
        if crash.is_some() && file.path().file_name() == crash.as_deref() {
            std::process::abort();
        }
        count::file(file, &mut words)
    });
    let outcomes = outcomes.collect();
    (words, outcomes)
}

pub(crate) fn count(
    files: &[File],
    options: &Options,
    totals: &mut Totals,
    progress: &Progress,
) -> Result<(), Box<dyn Error>> {
    if files.is_empty() {
        return Ok(());
    }
    let pool = Pool::builder()
        .workers(options.workers.min(files.len()))
        .name("counter")
        .retries(ATTEMPTS_MAX - 1)
        .build()?;
    let task = |files: &[File]| count_files::new(files.to_vec(), options.crash.clone());
    let batches = batches(files);
    let mut done = 0;
    for (batch, counted) in batches.iter().zip(pool.map(&batches, |batch| task(batch))) {
        match counted {
            Ok((words, outcomes)) => totals.add(batch, words, outcomes),
            // One of them crashes its worker: alone, it costs only itself.
            Err(_) if batch.len() > 1 => {
                for (file, counted) in batch.iter().zip(pool.map(batch.chunks(1), task)) {
                    let (words, outcomes) = counted
                        .unwrap_or_else(|error| (Words::new(), vec![failed(&error, progress)]));
                    totals.add(std::slice::from_ref(file), words, outcomes);
                }
            }
            Err(error) => totals.add(batch, Words::new(), vec![failed(&error, progress)]),
        }
        let half = done < files.len() / 2 && done + batch.len() >= files.len() / 2;
        done += batch.len();
        progress.show(done);
        if half && options.tree {
            progress.clear();
            let _ = writeln!(io::stderr(), "{}", offspring::tree());
        }
    }
    Ok(())
}

/// Neighbours together, so that the result is in the order of the files.
fn batches(files: &[File]) -> Vec<&[File]> {
    let mut bytes = 0;
    let mut rest = files;
    let mut batches = Vec::new();
    let mut length = 0;
    for file in files {
        if length > 0 && bytes + file.bytes > BATCH {
            let (batch, after) = rest.split_at(length);
            batches.push(batch);
            (rest, length, bytes) = (after, 0, 0);
        }
        length += 1;
        bytes = bytes.saturating_add(file.bytes);
    }
    batches.push(rest);
    batches
}

fn failed(error: &TaskError, progress: &Progress) -> Outcome {
    progress.clear();
    complain(&error.to_string());
    match error {
        TaskError::SetAside { crashes, .. } => {
            Outcome::Failed(format!("{crashes} workers died while they counted it"))
        }
        error => Outcome::Failed(error.to_string()),
    }
}
