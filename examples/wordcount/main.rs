//! Counts the words of text files, with one worker process per core.
//!
//! A small but complete program: `cargo run --release --example wordcount -- --help`. Only
//! `workers.rs` uses `offspring`; the other files would be the same without it.

mod count;
mod files;
mod options;
mod totals;
mod workers;

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::files::Found;
use crate::options::{HELP, Request};
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
    // Hidden if stderr is not a terminal.
    let bar = ProgressBar::new(files.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} files, {eta} left")?);
    if options.plain {
        for file in &files {
            totals.add(file, count::file(file));
            bar.inc(1);
        }
    } else {
        workers::count(&files, options.workers, &mut totals, &bar)?;
    }
    bar.finish_and_clear();

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
