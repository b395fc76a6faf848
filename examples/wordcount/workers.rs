//! Counting in worker processes: files go out through one queue, counts come back through another.

use std::error::Error;

use indicatif::ProgressBar;
use offspring::{GetError, JoinableQueue, Process, ProcessWorker, Queue, Worker};
use serde::{Deserialize, Serialize};

use crate::complain;
use crate::count::{self, Outcome};
use crate::files::File;
use crate::totals::Totals;

/// So many workers may die at one file; then it is the file.
const ATTEMPTS_MAX: u32 = 3;
/// So many may die one after the other without a result; then it is the machine.
const DEATHS_MAX: usize = 10;

#[derive(Clone, Serialize, Deserialize, Worker)]
struct Counter {
    files: JoinableQueue<File>,
    results: Queue<(usize, Outcome)>,
}

impl ProcessWorker for Counter {
    type Output = ();

    fn run(self) {
        for file in &self.files {
            let outcome = if file.attempt() > ATTEMPTS_MAX {
                Outcome::Failed(format!("{ATTEMPTS_MAX} workers died while they counted it"))
            } else {
                count::file(&file)
            };
            // In this order: of a worker that dies in between, the file is counted again, not lost.
            if self.results.put((file.number, outcome)).is_err() {
                return;
            }
            file.task_done();
        }
    }
}

pub(crate) fn count(files: &[File], workers: usize, totals: &mut Totals, bar: &ProgressBar) -> Result<(), Box<dyn Error>> {
    let counter = Counter {
        // All names are in memory here as well; what is bounded is what the workers send back.
        files: JoinableQueue::unbounded()?,
        results: Queue::bounded(8 * workers)?,
    };
    for file in files {
        counter.files.put(file.clone())?;
    }
    let collected = collect(&counter, files, workers.min(files.len()), totals, bar);
    // The workers end.
    counter.files.close();
    collected
}

fn collect(counter: &Counter, files: &[File], workers: usize, totals: &mut Totals, bar: &ProgressBar) -> Result<(), Box<dyn Error>> {
    let mut processes = Vec::new();
    for _ in 0..workers {
        processes.push(counter.clone().spawn()?);
    }
    let mut deaths = 0;
    let mut is_counted = vec![false; files.len()];
    let mut left = files.len();
    while left > 0 {
        let all_died = match counter.results.get() {
            Ok((number, outcome)) => {
                // A second count of a file comes from a worker that died between result and `task_done`.
                if !std::mem::replace(&mut is_counted[number], true) {
                    totals.add(&files[number], outcome);
                    bar.inc(1);
                    left -= 1;
                    deaths = 0;
                }
                false
            }
            Err(GetError::Abandoned) => true,
            Err(error) => return Err(error.into()),
        };
        for process in &mut processes {
            if all_died || !process.is_alive() {
                deaths += 1;
                if deaths > DEATHS_MAX {
                    return Err("the workers die one after the other".into());
                }
                replace(process, counter, bar)?;
            }
        }
    }
    Ok(())
}

fn replace(process: &mut Process<()>, counter: &Counter, bar: &ProgressBar) -> Result<(), Box<dyn Error>> {
    if let Err(error) = process.join() {
        bar.suspend(|| complain(&format!("{error}; another one takes over")));
    }
    *process = counter.clone().spawn()?;
    Ok(())
}
