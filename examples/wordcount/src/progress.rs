//! How many files are done, on a line of stderr. Nothing if stderr is not a terminal.

use std::io::{self, IsTerminal, Write};

pub(crate) struct Progress {
    files: usize,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(files: usize) -> Progress {
        Progress { files, shown: io::stderr().is_terminal() }
    }

    pub(crate) fn show(&self, done: usize) {
        self.write(&format!("{done}/{} files", self.files));
    }

    /// Removes the line, to write something else.
    pub(crate) fn clear(&self) {
        self.write("");
    }

    fn write(&self, line: &str) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
