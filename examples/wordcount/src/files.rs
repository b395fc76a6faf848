//! Finding the files to count.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A file to count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct File {
    /// Not a `PathBuf`: serde rejects one that is not UTF-8.
    path: OsString,
    /// Whether it was given on the command line, so that it is counted even if it is binary.
    pub(crate) named: bool,
    pub(crate) bytes: u64,
}

impl File {
    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.path)
    }
}

pub(crate) struct Found {
    pub(crate) files: Vec<File>,
    pub(crate) problems: Vec<String>,
}

#[derive(Default)]
struct Search {
    files: Vec<File>,
    problems: Vec<String>,
    seen: HashSet<PathBuf>,
}

/// The repository that this program was built in, and the sources of the crates that it names in its
/// Cargo.lock.
pub(crate) fn of_this_program() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // It may have moved since.
    let Ok(repository) = fs::canonicalize(repository) else {
        return vec![PathBuf::from(".")];
    };
    let lock = fs::read_to_string(repository.join("Cargo.lock")).unwrap_or_default();
    let mut paths = vec![repository];
    let value = |line: Option<&str>, key: &str| {
        line?.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned)
    };
    let mut crates = Vec::new();
    for package in lock.split("[[package]]\n").skip(1) {
        let mut lines = package.lines();
        let (name, version) = (value(lines.next(), "name"), value(lines.next(), "version"));
        crates.extend(name.zip(version).map(|(name, version)| format!("{name}-{version}")));
    }
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(env::home_dir()?.join(".cargo"))).unwrap_or_default();
    for registry in fs::read_dir(cargo.join("registry/src")).into_iter().flatten().flatten() {
        let sources = crates.iter().map(|name| registry.path().join(name));
        paths.extend(sources.filter(|path| path.is_dir()));
    }
    paths
}

pub(crate) fn find(paths: &[PathBuf]) -> Found {
    let mut search = Search::default();
    // Files first, so that a file inside one of the folders counts as named, too.
    let (folders, files): (Vec<_>, Vec<_>) = paths.iter().partition(|path| path.is_dir());
    for path in files {
        search.named(path);
    }
    for path in folders {
        search.folder(path);
    }
    Found { files: search.files, problems: search.problems }
}

impl Search {
    fn named(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => self.file(path, true),
            // For example a FIFO or a device: reading it could block, or never end.
            Ok(_) => self.problem(path, "is neither a file nor a folder"),
            Err(error) => self.problem(path, error),
        }
    }

    fn folder(&mut self, folder: &Path) {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.problem(&folder, error);
                    continue;
                }
            };
            for entry in entries {
                match entry.and_then(|entry| Ok((entry.file_type()?, entry))) {
                    // The type of the entry itself: symbolic links are not followed.
                    Ok((kind, entry)) if kind.is_dir() => {
                        if entry.file_name() != ".git" && entry.file_name() != "target" {
                            folders.push(entry.path());
                        }
                    }
                    Ok((kind, entry)) if kind.is_file() => self.file(&entry.path(), false),
                    Ok(_) => {}
                    Err(error) => self.problem(&folder, error),
                }
            }
        }
    }

    fn file(&mut self, path: &Path, named: bool) {
        let found = fs::canonicalize(path).and_then(|place| Ok((place, fs::metadata(path)?)));
        match found {
            Ok((place, metadata)) => {
                if self.seen.insert(place) {
                    self.files.push(File {
                        path: path.as_os_str().to_owned(),
                        named,
                        bytes: metadata.len(),
                    });
                }
            }
            // It was deleted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => {}
            Err(error) => self.problem(path, error),
        }
    }

    fn problem(&mut self, path: &Path, problem: impl std::fmt::Display) {
        self.problems.push(format!("{}: {problem}", path.display()));
    }
}
