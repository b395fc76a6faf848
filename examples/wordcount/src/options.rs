//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

use crate::files;

pub(crate) const HELP: &str = "\
Counts the words of text files and folders.

Usage: wordcount [OPTION]... [PATH]...

Without a PATH, it counts the text files of offspring's own repository and of the crates
in its Cargo.lock, as far as cargo has their sources here. Folders are searched recursively,
except for .git and target; symbolic links in them are not followed, and binary files (a NUL
byte in the first 8 KiB) are skipped. A file given as a PATH is always counted. A file that is
found twice is counted once.

A word is a run of letters and digits (of any script), in lower case, with single
apostrophes inside it: \"don't\" is one word. Bytes that are not UTF-8 separate words.
Words that begin with the same 256 bytes count as one.

Options:
  --workers N  number of worker processes (default: the number of cores)
  --plain      count in this process, without workers
  --top N      number of words in the table (default: 20)
  --tree       show the running processes when half of the files are counted
  --crash NAME the worker that counts a file of this name aborts, on purpose
  --help       this text

Exit code: 0; 1 if something could not be counted (see stderr); 2 for wrong usage.
";

pub(crate) struct Options {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) plain: bool,
    pub(crate) workers: usize,
    pub(crate) top: usize,
    pub(crate) tree: bool,
    pub(crate) crash: Option<OsString>,
}

pub(crate) enum Request {
    Count(Options),
    Help,
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let mut arguments = arguments;
    let mut options = Options {
        paths: Vec::new(),
        plain: false,
        workers: thread::available_parallelism().map_or(1, NonZeroUsize::get),
        top: 20,
        tree: false,
        crash: None,
    };
    let mut only_paths = false;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            _ if only_paths => options.paths.push(argument.into()),
            Some("--") => only_paths = true,
            Some("--help" | "-h") => return Ok(Request::Help),
            Some("--plain") => options.plain = true,
            Some("--workers") => {
                options.workers = number("--workers", arguments.next())?;
                if options.workers == 0 {
                    return Err("--workers needs at least 1".to_owned());
                }
            }
            Some("--top") => options.top = number("--top", arguments.next())?,
            Some("--tree") => options.tree = true,
            Some("--crash") => {
                options.crash = Some(arguments.next().ok_or("--crash needs a name")?);
            }
            Some(unknown) if unknown.starts_with('-') => {
                return Err(format!("unknown option {unknown}"));
            }
            _ => options.paths.push(argument.into()),
        }
    }
    if options.paths.is_empty() {
        options.paths = files::of_this_program();
    }
    Ok(Request::Count(options))
}

fn number(option: &str, value: Option<OsString>) -> Result<usize, String> {
    let value = value.ok_or_else(|| format!("{option} needs a number"))?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.ok_or_else(|| format!("{option} needs a number, not {}", value.to_string_lossy()))
}
