//! Helpers of the tests of processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use offspring::Process;
use serde::{Deserialize, Serialize};

use crate::support::write_script;

/// So long that only a signal, or the end of the parent, ends it.
pub(super) const FOREVER: Duration = Duration::from_secs(1000);

#[offspring::worker]
pub(super) fn answer() -> u32 {
    42
}

#[offspring::worker]
pub(super) fn sleeper() {
    std::thread::sleep(FOREVER);
}

/// The resources of a process at a moment. A start or an end that leaks something changes them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Census {
    descriptors: Vec<String>,
    threads: usize,
    /// Living children and zombies.
    children: usize,
    /// The files in the directory for temporary files.
    files: Vec<String>,
}

impl Census {
    /// Of this process, whose `TMPDIR` belongs to it alone.
    pub(super) fn take() -> Census {
        let files = fs::read_dir(std::env::temp_dir()).expect("the scene has a TMPDIR");
        Census {
            descriptors: descriptors(),
            threads: entries("/proc/self/task").len(),
            children: children_of(std::process::id()).len(),
            files: files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect(),
        }
    }
}

fn entries(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("/proc is there");
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Number and kind of each open descriptor of this process.
pub(super) fn descriptors() -> Vec<String> {
    let mut all: Vec<(u32, String)> = entries("/proc/self/fd")
        .into_iter()
        // The descriptor of the directory itself is gone by now.
        .filter_map(|fd| {
            Some((fd.parse().ok()?, fs::read_link(format!("/proc/self/fd/{fd}")).ok()?))
        })
        .map(|(fd, target)| {
            let target = target.to_string_lossy().into_owned();
            // `socket:[123]`: the number is another one in each process.
            (fd, target.split(":[").next().unwrap_or_default().to_owned())
        })
        .collect();
    all.sort_unstable();
    all.into_iter().map(|(fd, target)| format!("{fd} {target}")).collect()
}

/// Pids of the children of a process, zombies too.
pub(super) fn children_of(parent: u32) -> Vec<u32> {
    let pids = entries("/proc").into_iter().filter_map(|name| name.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|fields| fields[1] == parent.to_string())).collect()
}

/// The fields of `/proc/PID/stat` after the name: state, parent, group, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

/// The state letter of a process; `None` if no process has this pid.
#[cfg(feature = "failpoints")]
pub(crate) fn state_of(pid: u32) -> Option<String> {
    stat(pid).map(|fields| fields[0].clone())
}

/// The lines that a child prints, one by one: the events of a scene.
pub(super) struct Lines(BufReader<ChildStdout>);

impl Lines {
    /// Reads the lines of a process whose stdout is piped.
    pub(super) fn of<T>(process: &mut Process<T>) -> Lines {
        Lines(BufReader::new(process.take_stdout().expect("stdout is piped")))
    }

    /// The next line; `None` when the pipe has no writer.
    pub(super) fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a pipe can be read");
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// The pid in the next line.
    pub(super) fn pid(&mut self) -> u32 {
        self.next().expect("a line with a pid").parse().expect("a pid")
    }
}

/// Writes a shell script that can be executed.
pub(super) fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("program");
    write_script(&path, text);
    path
}

const INNER: &str = "OFFSPRING_TEST_INNER";

/// A program of its own: `binary`, which is this one, at a test that is ignored otherwise.
pub(crate) fn inner_program(binary: &Path, test: &str) -> Command {
    let mut command = Command::new(binary);
    command
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(INNER, "1")
        .stdin(Stdio::null());
    command
}

/// Returns whether this process belongs to an [`inner_program`]; otherwise an inner test does
/// nothing.
pub(crate) fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// This binary.
pub(crate) fn binary() -> PathBuf {
    std::env::current_exe().unwrap()
}
