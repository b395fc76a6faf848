//! Counts the words of text files, with one worker process per core.
//!
//! A small but complete program: `cargo run --example wordcount -- --help`. Only
//! `workers.rs` uses `offspring`; the other files would be the same without it.
//!
//! To see a crash contained: `cargo run --example wordcount -- --tree --crash gotchas.md`.

mod count;
mod files;
mod options;
mod progress;
mod totals;
mod workers;

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use crate::count::Words;
use crate::files::Found;
use crate::options::{HELP, Request};
use crate::progress::Progress;
use crate::totals::Totals;

#[offspring::main]
fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = match options::parse(std::env::args_os().skip(1)) {
        Ok(Request::Count(options)) => options,
        Ok(Request::Help) => {
            print(|out| out.write_all(HELP.as_bytes()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(problem) => {
            complain(&format!("{problem}; see --help"));
            return Ok(ExitCode::from(2));
        }
    };
    let start = Instant::now();
    let Found { files, problems } = files::find(&options.paths);
    let mut totals = Totals::new(problems);
    let progress = Progress::new(files.len());
    if options.plain {
        let mut words = Words::new();
        let mut outcomes = Vec::new();
        for file in &files {
            outcomes.push(count::file(file, &mut words));
            progress.show(outcomes.len());
        }
        totals.add(&files, words, outcomes);
    } else {
        workers::count(&files, &options, &mut totals, &progress)?;
    }
    drop(progress);

    let time = start.elapsed();
    print(|out| totals.write(out, options.top, time))?;
    let problems = totals.into_problems();
    for problem in &problems {
        complain(problem);
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes to stdout. A reader that closes the pipe early, such as `head`, is not an error.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Discard what is left in the buffer, instead of writing it on drop.
            let _ = out.into_parts();
            Ok(())
        }
        other => other,
    }
}

fn complain(message: &str) {
    // Unlike `eprintln!`, does not panic if stderr is closed.
    let _ = writeln!(io::stderr(), "wordcount: {message}");
}
