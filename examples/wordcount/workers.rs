//! Counting in worker processes: one task per file. A task may crash its process.

use std::error::Error;

use indicatif::ProgressBar;
use offspring::Pool;
use offspring::pool::TaskError;

use crate::complain;
use crate::count::{self, Outcome};
use crate::files::File;
use crate::totals::Totals;

/// A file is given up after this many workers died while counting it. Counting has no side effects,
/// so it can be repeated.
const ATTEMPTS_MAX: u32 = 3;

#[offspring::worker]
fn count_file(file: File) -> Outcome {
    count::file(&file)
}

pub(crate) fn count(
    files: &[File],
    workers: usize,
    totals: &mut Totals,
    bar: &ProgressBar,
) -> Result<(), Box<dyn Error>> {
    if files.is_empty() {
        return Ok(());
    }
    let pool = Pool::builder()
        .workers(workers.min(files.len()))
        .name("counter")
        .retries(ATTEMPTS_MAX - 1)
        .build()?;
    let outcomes = pool.map(files.iter().cloned(), count_file::new);
    for (file, outcome) in files.iter().zip(bar.wrap_iter(outcomes)) {
        totals.add(file, outcome.unwrap_or_else(|error| failed(&error, bar)));
    }
    Ok(())
}

fn failed(error: &TaskError, bar: &ProgressBar) -> Outcome {
    bar.suspend(|| complain(&error.to_string()));
    match error {
        TaskError::SetAside { crashes, .. } => {
            Outcome::Failed(format!("{crashes} workers died while they counted it"))
        }
        error => Outcome::Failed(error.to_string()),
    }
}
