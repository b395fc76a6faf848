//! Where a child makes its server.
//!
//! The parent chooses the name, the child makes the directory. So at each moment of a start each of the
//! two can remove it, should the other be killed: the parent knows the name before the child does, and
//! the child has made nothing before it knows it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys;

/// A socket's path has 107 bytes; below our directory come `/.tmpXXXXXX/socket`.
const PATH_MAX: usize = 70;

/// One new name in each directory for temporary files, the best place first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Candidates(Vec<PathBuf>);

impl Candidates {
    pub(crate) fn new() -> io::Result<Candidates> {
        let name = format!("offspring-{:016x}", u64::from_le_bytes(sys::random()?));
        let places = [std::env::temp_dir(), "/tmp".into(), "/dev/shm".into(), "/var/tmp".into()];
        let paths = places.iter().map(|place| place.join(&name));
        let fits = |path: &PathBuf| path.is_absolute() && path.as_os_str().len() <= PATH_MAX && path.to_str().is_some();
        Ok(Candidates(paths.filter(fits).collect()))
    }

    /// Makes the first that can be made, and has room for what `fill` puts there; in the child.
    pub(crate) fn make<R>(&self, fill: impl Fn(&Path) -> io::Result<R>) -> io::Result<(PrivateDirectory, R)> {
        let mut last = io::Error::other("no directory for temporary files");
        for path in &self.0 {
            // mkdir never follows a link and never takes a directory that is there.
            let made = fs::DirBuilder::new().mode(0o700).create(path);
            let made = made.map(|()| PrivateDirectory(path.clone()));
            match made.and_then(|directory| Ok((fill(directory.path())?, directory))) {
                Ok((content, directory)) => return Ok((directory, content)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether a path leads into one of them.
    pub(crate) fn hold(&self, path: &Path) -> bool {
        self.0.iter().any(|directory| path.starts_with(directory))
    }

    /// Removes what a dead child may have left.
    pub(crate) fn remove(&self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_dir_all(path) {
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    log::warn!("could not remove {}: {error}", path.display());
                }
            }
        }
    }
}

/// A directory that nobody else can look into. Removed on drop.
#[derive(Debug)]
pub(crate) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // One that cannot be removed is empty, and nobody here could do anything.
        let _ = fs::remove_dir_all(&self.0);
    }
}
